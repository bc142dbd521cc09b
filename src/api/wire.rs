//! How wire types are read: values told apart by a tag, text or a list, constants, and the place of an error.
//!
//! serde's own tagged and untagged enums buffer what they read: an error inside then has lost its path, and names Rust
//! types. The readers here keep the path, for the envelope's `param`.

use std::{borrow::Cow, fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, SeqAccess, Visitor, value::SeqAccessDeserializer},
};
use serde_json::value::RawValue;

/// Why a JSON text is not the type that was expected.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// It is not JSON at all; the text says where.
    Syntax(String),
    /// A value is missing or of the wrong kind, at this path (empty: the whole document).
    Shape { path: String, message: String },
}

/// Stands before a nested error's path and message, themselves as JSON, in the message of the outer error.
const NESTED: char = '\u{1f}';

/// Reads `T` from a whole JSON text.
///
/// # Errors
/// [`ReadError`], with the path of the first value that does not fit.
pub(crate) fn read<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, ReadError> {
    // To keep the path costs a text for each field's name: that is done only where there is an error to place.
    if let Ok(value) = serde_json::from_slice(json) {
        return Ok(value);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        if error.inner().is_data() { shape(&error) } else { ReadError::Syntax(error.inner().to_string()) }
    })?;
    deserializer.end().map_err(|error| ReadError::Syntax(error.to_string()))?;
    Ok(value)
}

fn shape(error: &serde_path_to_error::Error<serde_json::Error>) -> ReadError {
    // The root's path is ".", and "?" stands for places that the reader could not name.
    let outer = match error.path().to_string() {
        path if path == "." => String::new(),
        path => path.trim_end_matches('?').trim_end_matches('.').to_owned(),
    };
    let text = error.inner().to_string();
    let text = without_position(&text);
    match text.strip_prefix(NESTED).map(serde_json::from_str::<(String, String)>) {
        Some(Ok((inner, message))) => ReadError::Shape { path: join(&outer, &inner), message },
        _ => ReadError::Shape { path: outer, message: plain(text) },
    }
}

fn without_position(message: &str) -> &str {
    message.rsplit_once(" at line ").map_or(message, |(message, _)| message)
}

/// serde's words for what it expected, in JSON's.
fn plain(message: &str) -> String {
    const WORDS: [(&str, &str); 10] = [
        ("expected u32", "expected an integer"),
        ("expected u64", "expected an integer"),
        ("expected i64", "expected an integer"),
        ("expected f64", "expected a number"),
        ("expected a sequence", "expected an array"),
        ("expected a map", "expected an object"),
        ("expected map", "expected an object"),
        ("invalid type: sequence", "invalid type: array"),
        ("invalid type: map", "invalid type: object"),
        ("invalid type: unit value", "invalid type: null"),
    ];
    let mut text = WORDS.iter().fold(message.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours));
    if let Some(at) = text.find("expected struct ") {
        text.truncate(at);
        text.push_str("expected an object");
    }
    text
}

fn join(outer: &str, inner: &str) -> String {
    match (outer.is_empty(), inner.is_empty()) {
        (true, _) => inner.to_owned(),
        (_, true) => outer.to_owned(),
        _ if inner.starts_with('[') => format!("{outer}{inner}"),
        _ => format!("{outer}.{inner}"),
    }
}

/// Reads a value that was captured as text, keeping the path of its errors for [`read`].
pub(crate) fn nested<T: DeserializeOwned, E: serde::de::Error>(raw: &RawValue) -> Result<T, E> {
    read(raw.get().as_bytes()).map_err(|error| {
        let (path, message) = match error {
            ReadError::Shape { path, message } => (path, message),
            // Its position counts from the start of this value, which the client has never seen.
            ReadError::Syntax(message) => (String::new(), without_position(&message).to_owned()),
        };
        E::custom(format!("{NESTED}{}", serde_json::json!([path, message])))
    })
}

/// The value of the field `tag` of an object captured as text; `None` where it has none.
pub(crate) fn tag_of<E: serde::de::Error>(raw: &RawValue, tag: &'static str) -> Result<Option<String>, E> {
    struct Find<'f, 'de> {
        tag: &'static str,
        found: &'f mut Option<&'de RawValue>,
    }
    impl<'de> Visitor<'de> for Find<'_, 'de> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "an object with the field `{}`", self.tag)
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(key) = map.next_key::<Cow<'_, str>>()? {
                if key == self.tag {
                    *self.found = Some(map.next_value()?);
                    break;
                }
                map.next_value::<serde::de::IgnoredAny>()?;
            }
            Ok(())
        }
    }
    let mut found = None;
    let read = serde_json::Deserializer::from_str(raw.get()).deserialize_any(Find { tag, found: &mut found });
    let Some(found) = found else {
        return read.map(|()| None).map_err(|error| E::custom(plain(without_position(&error.to_string()))));
    };
    // That there is more behind it is serde_json's error, and not looked at: the variant reads the whole.
    serde_json::from_str(found.get()).map(Some).map_err(|_| {
        let message = format!("invalid type: expected a string, got {}", found.get());
        E::custom(format!("{NESTED}{}", serde_json::json!([tag, message])))
    })
}

/// An enum whose variants are wire types of their own, told apart by the value of one field.
macro_rules! tagged {
    ($(#[$meta:meta])* $name:ident by $tag:literal {
        $($(#[$variant_meta:meta])* $value:literal => $variant:ident($type:ty)),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $name { $($(#[$variant_meta])* $variant($type)),+ }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                use serde::de::Error as _;
                let raw = <&serde_json::value::RawValue>::deserialize(deserializer)?;
                match $crate::api::wire::tag_of::<D::Error>(raw, $tag)?.as_deref() {
                    $(Some($value) => $crate::api::wire::nested(raw).map(Self::$variant),)+
                    Some(other) => Err(D::Error::custom($crate::api::wire::unknown_tag($tag, other, &[$($value),+]))),
                    None => Err(D::Error::missing_field($tag)),
                }
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "oneOf": [$(generator.subschema_for::<$type>()),+],
                    "discriminator": {
                        "propertyName": $tag,
                        "mapping": {
                            $($value: format!("#/components/schemas/{}", <$type>::schema_name())),+
                        },
                    },
                })
            }
        }
    };
}
pub(crate) use tagged;

/// The message for a tag that no variant has.
pub(crate) fn unknown_tag(tag: &str, found: &str, known: &[&str]) -> String {
    let known: Vec<String> = known.iter().map(|value| format!("'{value}'")).collect();
    let message = format!("'{found}' is not supported; supported values are {}", known.join(", "));
    format!("{NESTED}{}", serde_json::json!([tag, message]))
}

/// A type with one value, the text that tells its object from others.
macro_rules! constant {
    ($($name:ident = $value:literal),+ $(,)?) => {$(
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name;

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str($value)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                match std::borrow::Cow::<'de, str>::deserialize(deserializer)?.as_ref() {
                    $value => Ok(Self),
                    other => Err(serde::de::Error::invalid_value(serde::de::Unexpected::Str(other), &concat!("`", $value, "`"))),
                }
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": [$value] })
            }
        }
    )+};
}
pub(crate) use constant;

/// A text, or a list of `T`: message content and its parts, one stop text or several.
#[derive(Debug, Clone, PartialEq)]
pub enum TextOr<T> {
    Text(String),
    List(Vec<T>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for TextOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = TextOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TextOr::Text(text.to_owned()))
            }

            fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Self::Value, E> {
                Ok(TextOr::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(TextOr::List)
            }
        }
        deserializer.deserialize_any(Reader(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for TextOr<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("TextOr{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let item = generator.subschema_for::<T>();
        json_schema!({ "oneOf": [{ "type": "string" }, { "type": "array", "items": item }] })
    }
}
