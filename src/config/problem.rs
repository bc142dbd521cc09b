//! What is wrong with a configuration, all of it at once.

use std::fmt;

/// One thing that is wrong: where it was said, of which key, and what. Never holds a secret's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub(super) source: Option<String>,
    pub(super) key: Option<String>,
    pub(super) what: String,
}

impl Problem {
    /// A problem of a whole source: a file that cannot be read, a variable that is not text.
    pub(super) fn of_source(source: impl fmt::Display, what: impl Into<String>) -> Self {
        Self { source: Some(source.to_string()), key: None, what: what.into() }
    }

    pub(super) fn of_key(source: impl fmt::Display, key: String, what: impl Into<String>) -> Self {
        Self { source: Some(source.to_string()), key: Some(key), what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in [&self.source, &self.key].into_iter().flatten() {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.what)
    }
}

/// Why a configuration is refused. Displays one problem a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(Vec<Problem>);

impl Errors {
    /// `Err` with the problems if there are any.
    pub(super) fn check(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self(problems)) }
    }

    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

impl From<Problem> for Errors {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}
