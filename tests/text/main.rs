//! Words ↔ token ids.
#![cfg(feature = "candle")]

mod channels;
mod chat;
mod detokenizer;
mod random;
mod stop;
mod template_sources;
mod templates;
mod tokenizer;
mod vocabulary;

use std::path::{Path, PathBuf};

use serde_json::Value;

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

fn json(path: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture(path)).unwrap()).unwrap()
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits = |place| u8::from_str_radix(&hexadecimal[place..place + 2], 16).unwrap();
    (0..hexadecimal.len()).step_by(2).map(digits).collect()
}

#[test]
fn all_threads_share_one_template_and_one_tokenizer() {
    fn shared<T: Send + Sync>() {}
    shared::<sconce::text::ChatTemplate>();
    shared::<sconce::text::Tokenizer>();
}
