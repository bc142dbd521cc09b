//! What a request is about that is handed on unparsed: its model, and what its conversation begins with. The rest is
//! looked at only as far as to know that it is JSON.

use std::{fmt, ops::Range};

use memchr::memmem;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::super::{
    error::ApiError,
    wire::{self, ReadError},
};
use crate::backend::passthrough::Field;

/// As deep as serde_json goes where bodies are parsed.
const DEEPEST: usize = 128;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) model: String,
    pub(super) field: Field,
    pub(super) conversation: Option<Range<usize>>,
}

impl Subject {
    /// # Errors
    /// What is not a JSON object with a text `model`, or is nested too deeply.
    pub(super) fn of_json(bytes: &[u8]) -> Result<Self, ApiError> {
        let syntax = |error: &dyn fmt::Display| ApiError::from(ReadError::Syntax(error.to_string()));
        let text = std::str::from_utf8(bytes).map_err(|error| syntax(&error))?;
        check_depth(bytes).map_err(|error| syntax(&error))?;
        let Outline { model, conversation } = wire::read(bytes).map_err(ApiError::from)?;
        let place = |raw: &RawValue| {
            let start = raw.get().as_ptr() as usize - text.as_ptr() as usize;
            start..start + raw.get().len()
        };
        let conversation = conversation.map(place);
        Ok(Self { model: model.name, field: Field::Json(place(model.raw)), conversation })
    }

    /// The same of a form (RFC 7578) with the boundary that its content type names.
    ///
    /// # Errors
    /// What is not such a form with one field `model`.
    pub(super) fn of_form(bytes: &[u8], content_type: &str) -> Result<Self, ApiError> {
        let malformed =
            || ApiError::invalid("", "The request's body is not a well-formed multipart/form-data.");
        let boundary = boundary(content_type).ok_or_else(malformed)?;
        let delimiter = format!("\r\n--{boundary}");
        // The first delimiter has no line before it.
        let mut at = delimiter.len() - 2;
        if !bytes.starts_with(&delimiter.as_bytes()[2..]) {
            return Err(malformed());
        }
        let find = memmem::Finder::new(&delimiter);
        let mut found = None;
        while !bytes[at..].starts_with(b"--") {
            let end = at + find.find(&bytes[at..]).ok_or_else(malformed)?;
            let head = at + memmem::find(&bytes[at..end], b"\r\n\r\n").ok_or_else(malformed)?;
            if is_model(&bytes[at..head]) {
                if found.is_some() {
                    return Err(ApiError::invalid(
                        "model",
                        "Invalid request: the field 'model' is there twice.",
                    ));
                }
                found = Some(head + 4..end);
            }
            at = end + delimiter.len();
        }
        let place =
            found.ok_or_else(|| ApiError::invalid("model", "Invalid request: missing field 'model'."))?;
        let model = std::str::from_utf8(&bytes[place.clone()]).map_err(|_| malformed())?;
        Ok(Self { model: model.to_owned(), field: Field::Form(place), conversation: None })
    }
}

fn boundary(content_type: &str) -> Option<&str> {
    let value = content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
    })?;
    (1..=70).contains(&value.len()).then_some(value)
}

fn is_model(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head);
    head.lines().any(|line| {
        let Some((name, value)) = line.split_once(':') else { return false };
        name.trim().eq_ignore_ascii_case("content-disposition")
            && value.split(';').any(|parameter| matches!(parameter.trim(), "name=\"model\"" | "name=model"))
    })
}

/// serde_json skips values without counting how deep they are, and the parser of the next server may not.
fn check_depth(bytes: &[u8]) -> Result<(), &'static str> {
    let opening = bytes.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if opening <= DEEPEST {
        return Ok(());
    }
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(end) = memchr::memchr2(b'"', b'\\', &bytes[at..]) {
                    at += end + 1;
                    if bytes[at - 1] == b'"' {
                        break;
                    }
                    // What the backslash escapes.
                    at = (at + 1).min(bytes.len());
                }
            }
            _ => {}
        }
        if depth > DEEPEST {
            return Err("recursion limit exceeded");
        }
    }
    Ok(())
}

/// The fields of a request that matter here, the others skipped.
struct Outline<'a> {
    model: Named<'a>,
    conversation: Option<&'a RawValue>,
}

/// A text, and as it was written.
struct Named<'a> {
    name: String,
    raw: &'a RawValue,
}

impl<'de> Deserialize<'de> for Named<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        let name = serde_json::from_str(raw.get()).map_err(|_| D::Error::custom("expected a string"))?;
        Ok(Self { name, raw })
    }
}

enum Name {
    Model,
    Conversation,
    Other,
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a field")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Name, E> {
                Ok(match name {
                    "model" => Name::Model,
                    "messages" | "prompt" | "input" => Name::Conversation,
                    _ => Name::Other,
                })
            }
        }
        deserializer.deserialize_identifier(Read)
    }
}

impl<'de> Deserialize<'de> for Outline<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Outline<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut model, mut conversation) = (None, None);
                while let Some(name) = map.next_key()? {
                    match name {
                        // Two names would be two things to two readers.
                        Name::Model if model.is_some() => return Err(A::Error::duplicate_field("model")),
                        Name::Model => model = Some(map.next_value()?),
                        Name::Conversation => conversation = Some(map.next_value()?),
                        Name::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                let model = model.ok_or_else(|| A::Error::missing_field("model"))?;
                Ok(Outline { model, conversation })
            }
        }
        deserializer.deserialize_map(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(result: Result<Subject, ApiError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn the_model_is_found_where_it_stands() {
        let text = r#"{ "temperature": 1e400, "é": {"model": "no"}, "model" : "a\"bé", "messages": [1] }"#;
        let subject = Subject::of_json(text.as_bytes()).unwrap();
        assert_eq!(subject.model, "a\"bé");
        let Field::Json(place) = subject.field else { panic!("a form") };
        assert_eq!(&text[place], r#""a\"bé""#);
        assert_eq!(&text[subject.conversation.unwrap()], "[1]");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (text, told) in [
            (&br#"{"model": "a", "x": [}"#[..], "not valid JSON"),
            (br#"{"model": "a"} x"#, "not valid JSON"),
            (b"{\"model\": \"a\", \"x\": \"\xff\"}", "not valid JSON"),
            (br#"{"x": 1}"#, "missing field `model`"),
            (br#"{"model": "a", "model": "b"}"#, "duplicate field `model`"),
            (br#"{"model": "a", "mod\u0065l": "b"}"#, "duplicate field `model`"),
            (br#"{"model": 1}"#, "Invalid value for 'model': expected a string"),
            (br#"["model"]"#, "expected an object"),
            (b"", "not valid JSON"),
        ] {
            let told_ = message(Subject::of_json(text));
            assert!(told_.contains(told), "{told_}");
        }
    }

    #[test]
    fn depth_is_counted_outside_texts() {
        let nested = |open: &str, depth: usize, close: &str| {
            format!(r#"{{"model":"a","x":{}{}}}"#, open.repeat(depth), close.repeat(depth))
        };
        assert!(message(Subject::of_json(nested("[", 200, "]").as_bytes())).contains("recursion limit"));
        assert!(
            message(Subject::of_json(nested(r#"{"a":["#, 70, "]}").as_bytes())).contains("recursion limit")
        );
        assert!(message(Subject::of_json(nested("[", 1_000_000, "").as_bytes())).contains("recursion limit"));
        Subject::of_json(nested("[", 120, "]").as_bytes()).unwrap();
        let text = format!(r#"{{"model":"a","x":"\"{}","y":[{}1]}}"#, "[".repeat(500), "[1],".repeat(500));
        Subject::of_json(text.as_bytes()).unwrap();
    }

    #[test]
    fn the_model_of_a_form() {
        let kind = "multipart/form-data; boundary=\"xyz\"";
        let part = |head: &str, content: &str| {
            format!("--xyz\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n")
        };
        let file = part("name=\"file\"; filename=\"model\"", "\r\n--xy name=\"model\"");
        let body = format!("{file}{}--xyz--\r\n", part("name=\"model\"", "whisper"));
        let subject = Subject::of_form(body.as_bytes(), kind).unwrap();
        let Field::Form(place) = subject.field else { panic!("JSON") };
        assert_eq!((subject.model.as_str(), &body[place]), ("whisper", "whisper"));
        let twice = format!("{0}{0}--xyz--", part("name=\"model\"", "a"));
        assert!(message(Subject::of_form(twice.as_bytes(), kind)).contains("twice"));
        assert!(message(Subject::of_form(format!("{file}--xyz--").as_bytes(), kind)).contains("missing"));
        for broken in ["", "--xyz", "--xyz\r\n", "--xyz\r\nx: y\r\n", &file, "--abc--"] {
            let told = message(Subject::of_form(broken.as_bytes(), kind));
            assert!(told.contains("well-formed"), "{broken:?} {told}");
        }
        assert!(Subject::of_form(body.as_bytes(), "multipart/form-data").is_err());
    }
}
