//! What a key's value may be: expected in words, checked, and read from text.

use indexmap::IndexMap;
use serde_json::{Map, Value as Json};
use toml::Value;

use crate::{
    http::Listen,
    units::{ByteSize, Duration},
};

/// The type of a key, as its schema tells it.
pub(super) enum Kind {
    Text,
    Secret,
    Duration,
    Size,
    Address,
    /// The bounds are those of the Rust type: what lies outside cannot be held at all.
    Integer {
        least: i64,
        most: i64,
    },
    Number,
    Boolean,
    /// The names and what each means.
    Choice(IndexMap<String, String>),
    List(Box<Kind>),
}

impl Kind {
    /// `None` for a schema of no known form.
    pub(super) fn from_schema(schema: &Map<String, Json>) -> Option<Self> {
        let text = |name: &str| schema.get(name).and_then(Json::as_str);
        if let Some(choices) = choices(schema) {
            return Some(Self::Choice(choices));
        }
        match text("format") {
            Some("password") => return Some(Self::Secret),
            Some("duration") => return Some(Self::Duration),
            Some("size") => return Some(Self::Size),
            Some("address") => return Some(Self::Address),
            _ => {}
        }
        let types = match schema.get("type")? {
            Json::Array(types) => types.iter().filter_map(Json::as_str).collect(),
            one => vec![one.as_str()?],
        };
        match types.into_iter().find(|name| *name != "null")? {
            "string" => Some(Self::Text),
            "integer" => Some(bounds(text("format").unwrap_or("int64"))),
            "number" => Some(Self::Number),
            "boolean" => Some(Self::Boolean),
            "array" => Some(Self::List(Box::new(Self::from_schema(schema.get("items")?.as_object()?)?))),
            _ => None,
        }
    }

    pub(super) fn is_secret(&self) -> bool {
        match self {
            Self::Secret => true,
            Self::List(each) => each.is_secret(),
            _ => false,
        }
    }

    /// What is expected, for an error.
    pub(super) fn expected(&self) -> String {
        match self {
            Self::Text | Self::Secret => "a string".to_owned(),
            Self::Duration => "a length of time such as \"30s\", \"500ms\" or \"2min\"".to_owned(),
            Self::Size => "a size such as \"32MiB\", \"64kB\" or a number of bytes".to_owned(),
            Self::Address => "an address: host:port, [ipv6]:port or unix:/path".to_owned(),
            Self::Integer { least, most } => match (*least, *most) {
                (i64::MIN, i64::MAX) => "a whole number".to_owned(),
                (least, i64::MAX) => format!("a whole number of at least {least}"),
                (least, most) => format!("a whole number from {least} to {most}"),
            },
            Self::Number => "a number".to_owned(),
            Self::Boolean => "`true` or `false`".to_owned(),
            Self::Choice(names) => one_of(names),
            Self::List(each) => format!("a list of {}", each.words(true)),
        }
    }

    /// The type's name for the reference, of one or of several.
    pub(super) fn words(&self, plural: bool) -> String {
        let (one, many) = match self {
            Self::Text => ("string", "strings"),
            Self::Secret => ("secret string", "secret strings"),
            Self::Duration => ("length of time", "lengths of time"),
            Self::Size => ("size", "sizes"),
            Self::Address => ("address", "addresses"),
            Self::Integer { .. } => ("whole number", "whole numbers"),
            Self::Number => ("number", "numbers"),
            Self::Boolean => ("boolean", "booleans"),
            Self::Choice(names) => return one_of(names),
            Self::List(each) => return format!("list of {}", each.words(true)),
        };
        if plural { many } else { one }.to_owned()
    }

    /// Whether `value` can be held. For a list, the form alone: its elements are looked at one by one.
    pub(super) fn accepts(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Text | Self::Secret, Value::String(_))
            | (Self::Boolean, Value::Boolean(_))
            | (Self::Number, Value::Integer(_))
            | (Self::List(_), Value::Array(_)) => true,
            (Self::Number, Value::Float(number)) => number.is_finite(),
            (Self::Integer { least, most }, Value::Integer(number)) => (least..=most).contains(&number),
            (Self::Choice(names), Value::String(text)) => names.contains_key(text),
            (Self::Duration, Value::String(text)) => text.parse::<Duration>().is_ok(),
            (Self::Size, Value::String(text)) => text.parse::<ByteSize>().is_ok(),
            (Self::Duration | Self::Size, Value::Integer(number)) => *number >= 0,
            (Self::Address, Value::String(text)) => text.parse::<Listen>().is_ok(),
            _ => false,
        }
    }

    /// Reads text from the environment or the command line by the key's type, never by what the text looks like: a
    /// string stays a string. Text that does not fit stays as it is, for the check to report.
    pub(super) fn read(&self, text: &str) -> Value {
        let value = match self {
            Self::Integer { .. } => text.trim().parse().ok().map(Value::Integer),
            Self::Number => text.trim().parse().ok().map(Value::Float),
            Self::Boolean => text.trim().to_ascii_lowercase().parse().ok().map(Value::Boolean),
            Self::List(each) => each.read_list(text),
            _ => None,
        };
        value.unwrap_or_else(|| Value::String(text.to_owned()))
    }

    fn read_list(&self, text: &str) -> Option<Value> {
        if text.trim_start().starts_with('[') {
            let array = toml::from_str::<toml::Table>(&format!("list = {text}"))
                .ok()
                .filter(|table| table.len() == 1);
            // `[::1]:80` begins like an array and is an address.
            if array.is_some() || !matches!(self, Self::Address) {
                return array?.remove("list");
            }
        }
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        Some(Value::Array(parts.map(|part| self.read(part)).collect()))
    }
}

/// The value as an error shows it: scalars whole, lists and tables by their kind alone.
pub(super) fn found(value: &Value) -> String {
    const LONGEST: usize = 80;
    match value {
        Value::String(text) if text.chars().count() > LONGEST => {
            format!("{:?}…", text.chars().take(LONGEST).collect::<String>())
        }
        Value::String(text) => format!("{text:?}"),
        Value::Array(_) | Value::Table(_) => found_kind(value).to_owned(),
        scalar => scalar.to_string(),
    }
}

/// The value's kind, where the value itself must not be shown.
pub(super) fn found_kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

fn choices(schema: &Map<String, Json>) -> Option<IndexMap<String, String>> {
    if let Some(names) = schema.get("enum").and_then(Json::as_array) {
        let names = names.iter().filter(|name| !name.is_null());
        return names.map(|name| Some((name.as_str()?.to_owned(), String::new()))).collect();
    }
    let variants = schema.get("oneOf")?.as_array()?;
    let text = |variant: &Json, name: &str| Some(variant.get(name)?.as_str()?.replace('\n', " "));
    let named = |variant| Some((text(variant, "const")?, text(variant, "description").unwrap_or_default()));
    variants.iter().map(named).collect()
}

fn bounds(format: &str) -> Kind {
    let (least, most) = match format {
        "uint8" => (0, u8::MAX.into()),
        "uint16" => (0, u16::MAX.into()),
        "uint32" => (0, u32::MAX.into()),
        "uint64" | "uint" => (0, i64::MAX),
        "int8" => (i8::MIN.into(), i8::MAX.into()),
        "int16" => (i16::MIN.into(), i16::MAX.into()),
        "int32" => (i32::MIN.into(), i32::MAX.into()),
        _ => (i64::MIN, i64::MAX),
    };
    Kind::Integer { least, most }
}

fn one_of(names: &IndexMap<String, String>) -> String {
    let quoted: Vec<_> = names.keys().map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [only] => only.clone(),
        all => format!("one of {}", all.join(", ")),
    }
}
