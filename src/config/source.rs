//! Where configuration comes from.

use std::{env, ffi::OsString, fmt, path::PathBuf};

use super::path;

/// The places outside the command line that are looked at. Holds secrets: has no `Debug`.
#[derive(Clone, Default)]
pub struct Sources {
    /// The system's file, read if it exists.
    pub etc: Option<PathBuf>,
    /// The file of environment variables, read if it exists.
    pub dotenv: Option<PathBuf>,
    pub env: Vec<(OsString, OsString)>,
}

impl Sources {
    /// Those of this process.
    #[must_use]
    pub fn system() -> Self {
        Self {
            etc: Some("/etc/sconce/config.toml".into()),
            dotenv: Some(".env".into()),
            env: env::vars_os().collect(),
        }
    }
}

/// What the command line says. Holds secrets if somebody put them there: has no `Debug`.
#[derive(Clone, Default)]
pub struct Options {
    /// Files of `--config`, the later ones stronger.
    pub files: Vec<PathBuf>,
    /// The flags that set a key, such as `--listen`, and their values.
    pub flags: Vec<(&'static str, toml::Value)>,
    /// `--demo`: what [`DEMO`] says, below the flags that set a key.
    pub demo: bool,
    /// The texts of `--set`: `key=value`.
    pub set: Vec<String>,
}

/// The flags that set a key, and the key. A secret never has one: other users can see command lines.
pub(super) const FLAGS: [(&str, &str); 5] = [
    ("--listen", "server.listen"),
    ("--backend", "backend"),
    ("--model-id", "model_id"),
    ("--api-key-file", "auth.keys_file"),
    ("--log-level", "log.level"),
];

/// What `--demo` is short for.
pub(super) const DEMO: &[(&str, &str)] = &[
    ("backend", "candle"),
    ("model_id", "demo"),
    // Without local inference the build has no such keys, and the backend is refused.
    #[cfg(feature = "candle")]
    ("candle.source", "builtin:demo"),
    // 26,000 tokens: a small model needs little, and the cache is taken from the start.
    #[cfg(feature = "candle")]
    ("candle.kv_cache", "64MiB"),
];

/// Who said a value.
#[derive(Clone)]
pub(super) enum Source {
    Default,
    File(PathBuf),
    /// A variable in a `.env` file.
    Dotenv {
        file: PathBuf,
        name: String,
    },
    Variable(String),
    Flag(&'static str),
    Set,
}

impl Source {
    /// A key as this source would write it.
    pub(super) fn spell(&self, key: &[String]) -> String {
        match self {
            Self::Dotenv { .. } | Self::Variable(_) => path::variable(key),
            _ => path::dotted(key),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(file) => file.display().fmt(f),
            Self::Dotenv { file, name } => write!(f, "{} ({name})", file.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => f.write_str(flag),
            Self::Set => f.write_str("--set"),
        }
    }
}
