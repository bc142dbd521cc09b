//! Text completions: a raw prompt, continued.

mod request;
mod response;

pub use request::*;
pub use response::*;

pub(crate) use request::convert;
pub(crate) use response::{CompletionEncoder, collect};
