//! Who may call: API keys.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Secret;

/// API keys. With none at all, everybody who reaches the port may call.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Config {
    /// Keys, each `key` or `name:key`. Better kept in a file: see `keys_file`.
    pub keys: Vec<Secret>,
    /// File of keys, one a line, `key` or `name:key`; `#` starts a comment line. Read again on SIGHUP, as is the
    /// systemd credential `api-keys`.
    pub keys_file: Option<PathBuf>,
}
