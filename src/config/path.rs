//! Where a key stands: `server.listen`, `models."org/name".backend`, and the same as an environment variable's name.

use super::schema::{Entry, Table};

/// As TOML writes it.
pub(super) fn dotted<S: AsRef<str>>(path: &[S]) -> String {
    path.iter().map(|segment| quoted(segment.as_ref())).collect::<Vec<_>>().join(".")
}

/// One segment, in quotes where TOML needs them.
pub(super) fn quoted(segment: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !segment.is_empty() && segment.chars().all(bare) {
        return segment.to_owned();
    }
    serde_json::Value::from(segment).to_string()
}

/// The path of `name` in the table at `at`.
pub(super) fn below(at: &[String], name: &str) -> Vec<String> {
    at.iter().cloned().chain([name.to_owned()]).collect()
}

/// Reads `a."b c".d`; `None` where TOML would not take it as a key.
pub(super) fn parse(key: &str) -> Option<Vec<String>> {
    if key.contains('\n') {
        return None;
    }
    // Outside quotes a `#` makes a comment of the assignment, which TOML then misses.
    let mut table: toml::Table = toml::from_str(&format!("{key} = true")).ok()?;
    let mut path = Vec::new();
    loop {
        let (segment, value) = table.into_iter().next()?;
        path.push(segment);
        match value {
            toml::Value::Table(inner) => table = inner,
            _ => return Some(path),
        }
    }
}

/// Splits `key=value` at the first `=` outside quotes.
pub(super) fn split_assignment(text: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '=') => return Some((&text[..at], &text[at + 1..])),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    None
}

/// The name of the environment variable that sets the key.
pub(super) fn variable<S: AsRef<str>>(path: &[S]) -> String {
    let mut name = "SCONCE".to_owned();
    for (depth, segment) in path.iter().enumerate() {
        name.push_str(if depth == 0 { "_" } else { "__" });
        let chosen = depth > 0 && ["models", "upstreams"].contains(&path[depth - 1].as_ref());
        name.push_str(&if chosen { segment.as_ref().to_owned() } else { segment.as_ref().to_uppercase() });
    }
    name
}

/// The key that a variable's name, less its prefix, stands for. Letters' case means nothing, save in the names that
/// people choose.
pub(super) fn from_variable(tree: &Table, name: &str) -> Vec<String> {
    let mut path: Vec<String> = Vec::new();
    for segment in name.split("__") {
        let chosen = matches!(tree.find(&path), Some(Entry::Tables { .. }));
        path.push(if chosen { segment.to_owned() } else { segment.to_lowercase() });
    }
    path
}
