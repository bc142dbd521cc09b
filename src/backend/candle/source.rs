//! Where a model is: inside the program, at a path, or on the Hugging Face hub.

use std::path::{Path, PathBuf};

use super::{Config, builtin};
use crate::hub::{self, Hub, HubId, News};

/// What `candle.source` names, or the model's own id where that is unset. A path that exists is stronger than an id of the
/// hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A path, or a model inside the program.
    Here(PathBuf),
    Hub(HubId),
}

/// Why there is no path to a model.
#[derive(Debug)]
pub enum Absent {
    /// Nothing is at this path.
    Path(PathBuf),
    /// Nothing is named.
    Unnamed,
    Hub(hub::Error),
}

impl Source {
    /// # Errors
    /// When nothing is named.
    pub(super) fn of(model: Option<&str>, config: &Config) -> Result<Self, Absent> {
        let id = |path: &Path| path.to_str().and_then(|text| text.parse().ok());
        let named = config.source.clone().or_else(|| model.map(PathBuf::from)).ok_or(Absent::Unnamed)?;
        match id(&named).filter(|_| !named.exists()) {
            Some(id) => Ok(Self::Hub(id)),
            None if config.source.is_some() || named.exists() => Ok(Self::Here(named)),
            None => Err(Absent::Unnamed),
        }
    }

    /// Its path, downloaded if that is needed.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn obtain(self, hears: impl Fn(News<'_>)) -> Result<PathBuf, Absent> {
        match self {
            Self::Here(path) => Ok(path),
            Self::Hub(id) => Hub::of_process().and_then(|hub| hub.obtain(&id, hears)).map_err(Absent::Hub),
        }
    }

    /// Its path, if it is there.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn locate(self) -> Result<PathBuf, Absent> {
        match self {
            Self::Here(path) if path.exists() || builtin::is_one(&path) => Ok(path),
            Self::Here(path) => Err(Absent::Path(path)),
            Self::Hub(id) => Hub::of_process().and_then(|hub| hub.cached(&id)).map_err(Absent::Hub),
        }
    }
}

impl Absent {
    pub(super) fn is_temporary(&self) -> bool {
        matches!(self, Self::Hub(error) if error.is_temporary())
    }
}

impl std::fmt::Display for Absent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use hub::Error as E;
        match self {
            Self::Path(path) => write!(f, "there is nothing at {}", path.display()),
            Self::Unnamed => f.write_str(
                "no model is named: set `candle.source` to its directory or file, or to its id on the Hugging Face hub \
                 (org/name)",
            ),
            // It may have been meant as a path.
            Self::Hub(error @ (E::NotFound { .. } | E::NotCached { .. } | E::Offline { .. })) => {
                write!(f, "{error}; nor is there such a path")
            }
            Self::Hub(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(model: &str, source: Option<&str>) -> Option<Source> {
        let config = Config { source: source.map(PathBuf::from), ..Config::default() };
        Source::of(Some(model), &config).ok()
    }

    #[test]
    fn paths_that_exist_are_stronger_than_ids() {
        let hub = |id: &str| Some(Source::Hub(id.parse().unwrap()));
        let here = |path: &str| Some(Source::Here(path.into()));
        // Tests run in the package's directory.
        for (model, source, expected) in [
            ("m", Some("src/hub"), here("src/hub")),
            ("m", Some("src/none"), hub("src/none")),
            ("m", Some("none"), here("none")),
            ("m", Some("/no/where"), here("/no/where")),
            ("m", Some("builtin:demo"), here("builtin:demo")),
            ("src/hub", None, here("src/hub")),
            ("org/name@v1", None, hub("org/name@v1")),
            ("org/name", Some("o/n:a.gguf"), hub("o/n:a.gguf")),
            ("gpt-oss-20b", None, None),
        ] {
            assert_eq!(of(model, source), expected, "{model} {source:?}");
        }
    }
}
