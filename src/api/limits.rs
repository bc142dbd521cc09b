//! How much is let in: body sizes, requests at once, the waiting queue.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::ByteSize;

/// What is refused rather than served badly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Config {
    /// Size of a request's body; a larger one gets 413.
    pub max_body_size: ByteSize,
    /// Requests that run at one time.
    #[garde(range(min = 1))]
    #[schemars(range(min = 1))]
    pub max_concurrent_requests: u32,
    /// Requests that one API key may have running or waiting at one time. Unset: no limit of its own.
    #[garde(inner(range(min = 1)))]
    #[schemars(range(min = 1))]
    pub max_requests_per_key: Option<u32>,
    /// Requests that may wait for their turn; one more gets 429.
    pub max_queued_requests: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_body_size: ByteSize::mib(32),
            max_concurrent_requests: 1024,
            max_requests_per_key: None,
            max_queued_requests: 1024,
        }
    }
}
