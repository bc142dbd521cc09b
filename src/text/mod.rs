//! Words ↔ token ids: what a model reads, and what its tokens say.
//!
//! In: a conversation → [`chat_template`] → text → [`tokenizer`] → ids.
//! Out: ids → bytes ([`tokenizer`]) → text ([`detokenizer`]) → reasoning, content and tool calls ([`channels`]) → the
//! content, cut before stop strings ([`stop`]).
//!
//! This room knows no model and no tensor: ids and strings only.

pub mod channels;
pub mod chat_template;
pub mod detokenizer;
pub mod stop;
pub mod tokenizer;

use std::path::{Path, PathBuf};

pub use chat_template::{ChatTemplate, Clock};
pub use detokenizer::Detokenizer;
pub use stop::StopMatcher;
pub use tokenizer::Tokenizer;

/// Why a model's text files cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct LoadError {
    pub path: PathBuf,
    pub message: String,
}

impl LoadError {
    fn new(path: &Path, message: impl ToString) -> Self {
        Self { path: path.to_owned(), message: message.to_string() }
    }
}
