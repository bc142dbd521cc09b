//! Which web pages may call: cross-origin resource sharing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which web pages may call from a browser. Off while no origin is allowed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Config {
    /// Origins such as `https://chat.example.org`, or `*` for all.
    pub allowed_origins: Vec<String>,
}
