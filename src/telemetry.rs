//! What the daemon says about itself: log lines.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Config {
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or directives by module such as
    /// `info,sconce::http=debug`.
    pub level: String,
    /// How it is written.
    pub format: Format,
    /// Also log the texts of requests and answers. They may be private: off by default.
    pub prompts: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// The journal under systemd, `human` on a terminal, otherwise `json`.
    #[default]
    Auto,
    /// A coloured line.
    Human,
    /// One JSON object a line.
    Json,
    /// The systemd journal's native protocol.
    Journald,
}

impl Default for Config {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Auto, prompts: false }
    }
}
