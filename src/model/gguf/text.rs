//! What a GGUF file says about text: vocabulary, chat templates, defaults of sampling. Read here, understood elsewhere.

use std::collections::BTreeMap;

use super::{Gguf, reader::Cursor};
use crate::model::LoadError;

/// Keys that begin so are kept; the others are the model's.
const PREFIXES: [&str; 2] = ["tokenizer.", "general.sampling."];

/// Metadata by key, with the arrays that are as long as the vocabulary.
#[derive(Debug, Default)]
pub struct TextMetadata(BTreeMap<String, Entry>);

#[derive(Debug)]
enum Entry {
    Text(String),
    Flag(bool),
    Integer(i64),
    Number(f64),
    Texts(Vec<String>),
    Integers(Vec<i64>),
    Numbers(Vec<f32>),
    /// Of no kind that anything here needs.
    Other,
}

/// A key whose value is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{key} is not {expected}")]
pub struct WrongKind {
    key: String,
    expected: &'static str,
}

impl Gguf {
    /// # Errors
    /// When a string is not UTF-8; the header has been read before.
    pub(in crate::model) fn text(&self) -> Result<TextMetadata, LoadError> {
        let format = |reason| LoadError::Format { path: self.path.clone(), reason };
        read(&self.file).map(TextMetadata).map_err(format)
    }
}

impl TextMetadata {
    /// # Errors
    /// When it is no string; so for the others.
    pub fn text(&self, key: &str) -> Result<Option<&str>, WrongKind> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Entry::Text(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(key, "a string")),
        }
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>, WrongKind> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Entry::Flag(flag)) => Ok(Some(*flag)),
            Some(_) => Err(wrong(key, "true or false")),
        }
    }

    /// A token's id; -1 is how some writers say that there is none.
    pub fn id(&self, key: &str) -> Result<Option<u32>, WrongKind> {
        match self.0.get(key) {
            None | Some(Entry::Integer(-1)) => Ok(None),
            Some(Entry::Integer(id)) => u32::try_from(*id).map(Some).map_err(|_| wrong(key, "a token's id")),
            Some(_) => Err(wrong(key, "a token's id")),
        }
    }

    pub fn number(&self, key: &str) -> Result<Option<f64>, WrongKind> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Entry::Number(number)) => Ok(Some(*number)),
            #[expect(clippy::cast_precision_loss, reason = "settings of sampling are small")]
            Some(Entry::Integer(number)) => Ok(Some(*number as f64)),
            Some(_) => Err(wrong(key, "a number")),
        }
    }

    /// Takes a list out; it may be long.
    pub fn take_texts(&mut self, key: &str) -> Result<Option<Vec<String>>, WrongKind> {
        match self.0.remove(key) {
            None => Ok(None),
            Some(Entry::Texts(texts)) => Ok(Some(texts)),
            Some(_) => Err(wrong(key, "a list of strings")),
        }
    }

    pub fn take_integers(&mut self, key: &str) -> Result<Option<Vec<i64>>, WrongKind> {
        match self.0.remove(key) {
            None => Ok(None),
            Some(Entry::Integers(integers)) => Ok(Some(integers)),
            Some(_) => Err(wrong(key, "a list of whole numbers")),
        }
    }

    pub fn take_numbers(&mut self, key: &str) -> Result<Option<Vec<f32>>, WrongKind> {
        match self.0.remove(key) {
            None => Ok(None),
            Some(Entry::Numbers(numbers)) => Ok(Some(numbers)),
            Some(_) => Err(wrong(key, "a list of numbers")),
        }
    }

    /// Keys that begin with `prefix`, without it, and their strings.
    pub fn texts_under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(move |(key, entry)| match entry {
            Entry::Text(text) => Some((key.strip_prefix(prefix)?, text.as_str())),
            _ => None,
        })
    }
}

fn wrong(key: &str, expected: &'static str) -> WrongKind {
    WrongKind { key: key.to_owned(), expected }
}

fn read(bytes: &[u8]) -> Result<BTreeMap<String, Entry>, String> {
    let (mut cursor, _, values) = Cursor::open(bytes)?;
    let mut entries = BTreeMap::new();
    for _ in 0..values {
        let key = cursor.string()?;
        let kind = cursor.u32()?;
        if PREFIXES.iter().any(|prefix| key.starts_with(prefix)) {
            let entry = entry(&mut cursor, kind).map_err(|reason| format!("{key}: {reason}"))?;
            entries.insert(key, entry);
        } else {
            cursor.skip(kind)?;
        }
    }
    Ok(entries)
}

fn entry(cursor: &mut Cursor<'_>, kind: u32) -> Result<Entry, String> {
    if kind == Cursor::LIST {
        return list(cursor);
    }
    let value = if kind == Cursor::STRING {
        return utf8(cursor.take_string()?).map(Entry::Text);
    } else {
        cursor.value(kind)?.unwrap_or_default()
    };
    Ok(match &value {
        serde_json::Value::Bool(flag) => Entry::Flag(*flag),
        value => match (value.as_i64(), value.as_f64()) {
            (Some(integer), _) => Entry::Integer(integer),
            (None, Some(number)) => Entry::Number(number),
            (None, None) => Entry::Other,
        },
    })
}

fn list(cursor: &mut Cursor<'_>) -> Result<Entry, String> {
    let (kind, count) = cursor.list_head()?;
    Ok(match kind {
        Cursor::STRING => {
            let text = |number: u64| {
                utf8(cursor.take_string()?).map_err(|reason| format!("number {number} {reason}"))
            };
            Entry::Texts((0..count).map(text).collect::<Result<_, _>>()?)
        }
        Cursor::FLOAT => {
            let number = |_| cursor.array().map(f32::from_le_bytes);
            Entry::Numbers((0..count).map(number).collect::<Result<_, _>>()?)
        }
        _ => {
            let values = (0..count).map(|_| cursor.value(kind)).collect::<Result<Vec<_>, _>>()?;
            let integers = values.into_iter().map(|value| value?.as_i64()).collect::<Option<_>>();
            integers.map_or(Entry::Other, Entry::Integers)
        }
    })
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    str::from_utf8(bytes).map(str::to_owned).map_err(|_| "is not UTF-8".to_owned())
}
