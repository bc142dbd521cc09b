//! The reference of all keys, from the schema: a page for people, an example file, and the schema itself.

mod example;
mod markdown;

use super::{path, schema, source::FLAGS};

/// `docs/configuration.md`.
#[must_use]
pub fn markdown() -> String {
    markdown::render()
}

/// `config.example.toml`: every key with its default, commented out.
#[must_use]
pub fn toml() -> String {
    example::render()
}

/// The JSON schema, with descriptions and defaults.
#[must_use]
pub fn json() -> String {
    format!("{:#}\n", schema::json())
}

/// The flag that sets the key.
fn flag(key: &[String]) -> Option<&'static str> {
    let key = path::dotted(key);
    FLAGS.iter().find(|(_, set)| *set == key).map(|(flag, _)| *flag)
}
