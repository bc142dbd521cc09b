//! Memory that there is: what the machine can give and what its control group may take.

use std::fs;

/// Bytes that this process may still take, by `/proc/meminfo` and the limits of the control groups (cgroup v2) that it
/// is in. `None` where the system does not tell.
pub(super) fn available() -> Option<u64> {
    let machine = meminfo(&fs::read_to_string("/proc/meminfo").ok()?);
    [machine, control_group()].into_iter().flatten().min()
}

fn meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

/// The least that any of the nested groups has left.
fn control_group() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?.trim().to_owned();
    let number = |group: &str, file: &str| -> Option<u64> {
        fs::read_to_string(format!("/sys/fs/cgroup/{group}/{file}")).ok()?.trim().parse().ok()
    };
    let groups =
        std::iter::successors(Some(path.as_str()), |group| group.rsplit_once('/').map(|(above, _)| above));
    groups
        .filter_map(|group| {
            let limit = number(group, "memory.max")?;
            // Pages of mapped files are given back before anybody is killed for want of memory.
            let cached =
                fs::read_to_string(format!("/sys/fs/cgroup/{group}/memory.stat")).unwrap_or_default();
            let cached =
                cached.lines().find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse().ok());
            let used = number(group, "memory.current")?.saturating_sub(cached.unwrap_or(0));
            Some(limit.saturating_sub(used))
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(meminfo("MemTotal:  9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(meminfo("MemTotal: 9 kB\n"), None);
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
    }
}
