//! The echo backend: deterministic answers without a model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the echo backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Config {
    /// Milliseconds to wait before each piece of an answer, streamed or not.
    #[garde(range(max = 60_000))]
    #[schemars(range(max = 60_000))]
    pub delay_ms: u64,
    /// Tokens of prompt and completion together; a longer request is refused as a model would refuse it.
    #[garde(range(min = 1))]
    #[schemars(range(min = 1))]
    pub context_length: u32,
    /// Length of an embedding when the request does not ask for another.
    #[garde(range(min = 1, max = 65_536))]
    #[schemars(range(min = 1, max = 65_536))]
    pub dimensions: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { delay_ms: 0, context_length: 131_072, dimensions: 256 }
    }
}
