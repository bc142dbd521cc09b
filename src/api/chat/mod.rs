//! Chat completions.

mod convert;
mod message;
mod request;
mod response;
mod stream;
mod tools;

pub use message::*;
pub use request::*;
pub use response::*;
pub use stream::*;
pub use tools::*;

pub(crate) use convert::{Delivery, convert, function_tools};

/// The request that the documentation shows and that "Try it out" sends.
fn example() -> serde_json::Value {
    serde_json::json!({
        "model": "gpt-oss-20b",
        "messages": [{ "role": "user", "content": "Hello!" }],
    })
}
