//! Sizes for people.

/// Bytes in the largest decimal unit that fits, with two figures at least: `1.2 GB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    let mut number = bytes as f64;
    let mut unit = "B";
    for larger in ["kB", "MB", "GB", "TB", "PB"] {
        if number < 999.5 {
            break;
        }
        number /= 1000.0;
        unit = larger;
    }
    if unit == "B" || number >= 9.95 { format!("{number:.0} {unit}") } else { format!("{number:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (12_345, "12 kB"),
            (999_600, "1.0 MB"),
            (1_234_567_890, "1.2 GB"),
            (60_200_000_000, "60 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
