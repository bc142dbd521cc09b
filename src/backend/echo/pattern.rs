//! A short text that a regular expression matches.

use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// Bytes of text, and steps to it: nested repetitions ask for more than anybody wants to read.
const MOST_TEXT: usize = 4096;
const MOST_STEPS: usize = 65_536;

/// A short match of `pattern`: repetitions at their least, the first of alternatives. `None` where the pattern is no
/// regular expression of Rust's syntax, looks around, or has no short match.
pub(super) fn shortest(pattern: &str) -> Option<String> {
    let mut draft = Draft { text: String::new(), steps: 0 };
    draft.write(&regex_syntax::parse(pattern).ok()?)?;
    Some(draft.text)
}

struct Draft {
    text: String,
    steps: usize,
}

impl Draft {
    fn write(&mut self, pattern: &Hir) -> Option<()> {
        self.steps += 1;
        if self.steps > MOST_STEPS || self.text.len() > MOST_TEXT {
            return None;
        }
        match pattern.kind() {
            HirKind::Empty | HirKind::Look(Look::Start | Look::End | Look::StartLF | Look::EndLF) => Some(()),
            // Other assertions look at the neighbours, which are not known here.
            HirKind::Look(_) | HirKind::Class(Class::Bytes(_)) => None,
            HirKind::Literal(literal) => {
                self.text.push_str(std::str::from_utf8(&literal.0).ok()?);
                Some(())
            }
            HirKind::Class(Class::Unicode(class)) => {
                // A plain character where the class has one: its first is often a control character.
                let plain = ['a', 'A', '0', ' '];
                let inside = |c: &char| class.iter().any(|range| range.start() <= *c && *c <= range.end());
                let first = class.iter().next().map(|range| range.start());
                self.text.push(plain.into_iter().find(inside).or(first)?);
                Some(())
            }
            HirKind::Repetition(repetition) => {
                (0..repetition.min).try_for_each(|_| self.write(&repetition.sub))
            }
            HirKind::Capture(capture) => self.write(&capture.sub),
            HirKind::Concat(parts) => parts.iter().try_for_each(|part| self.write(part)),
            HirKind::Alternation(alternatives) => self.write(alternatives.first()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::shortest;

    #[test]
    fn repetitions_are_at_their_least() {
        assert_eq!(shortest("^[0-9]{3}-(x|y)+z*$").as_deref(), Some("000-x"));
        assert_eq!(shortest(r"^\p{Lu}\d?\.$").as_deref(), Some("A."));
    }

    #[test]
    fn what_is_long_or_looks_around_has_none() {
        for pattern in ["(?=x)", r"a\b", "((((a{100}){100}){100}){100})", "(((b?){999}){999}){999}", "["] {
            assert_eq!(shortest(pattern), None, "{pattern}");
        }
    }
}
