//! One prompt or several, as text or as token ids.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Unexpected, Visitor},
};

use crate::generation::PromptText;

/// The four shapes: a text, texts, one prompt's token ids, or several prompts' token ids.
#[derive(Debug, Clone, PartialEq)]
pub enum PromptInput {
    One(PromptText),
    Many(Vec<PromptText>),
}

impl PromptInput {
    pub(crate) fn into_vec(self) -> Vec<PromptText> {
        match self {
            Self::One(prompt) => vec![prompt],
            Self::Many(prompts) => prompts,
        }
    }
}

/// An element of the outer array.
enum Element {
    Text(String),
    Token(u32),
    Tokens(Vec<u32>),
}

struct ElementReader;

impl<'de> Visitor<'de> for ElementReader {
    type Value = Element;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a token id or an array of token ids")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Element, E> {
        Ok(Element::Text(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Element, E> {
        Ok(Element::Text(text))
    }

    fn visit_u64<E: Error>(self, id: u64) -> Result<Element, E> {
        let id = u32::try_from(id).map_err(|_| E::invalid_value(Unexpected::Unsigned(id), &"a token id"))?;
        Ok(Element::Token(id))
    }

    fn visit_i64<E: Error>(self, id: i64) -> Result<Element, E> {
        Err(E::invalid_value(Unexpected::Signed(id), &"a token id"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Element, A::Error> {
        let mut ids = Vec::new();
        while let Some(id) = list.next_element()? {
            ids.push(id);
        }
        if ids.is_empty() {
            return Err(A::Error::invalid_length(0, &"an array with at least one token id"));
        }
        Ok(Element::Tokens(ids))
    }
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ElementReader)
    }
}

struct InputReader;

impl<'de> Visitor<'de> for InputReader {
    type Value = PromptInput;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, an array of strings, an array of token ids or an array of arrays of token ids")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<PromptInput, E> {
        Ok(PromptInput::One(PromptText::Text(text.to_owned())))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<PromptInput, E> {
        Ok(PromptInput::One(PromptText::Text(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<PromptInput, A::Error> {
        let mixed = || A::Error::custom("the elements of this array must all be of one kind");
        let mut prompts = Vec::new();
        let mut ids = Vec::new();
        let mut of_text = None;
        while let Some(element) = list.next_element()? {
            let text = match element {
                Element::Token(id) => {
                    ids.push(id);
                    None
                }
                Element::Text(text) => Some((true, PromptText::Text(text))),
                Element::Tokens(tokens) => Some((false, PromptText::Tokens(tokens))),
            };
            if let Some((is_text, prompt)) = text {
                if *of_text.get_or_insert(is_text) != is_text {
                    return Err(mixed());
                }
                prompts.push(prompt);
            }
            if !ids.is_empty() && !prompts.is_empty() {
                return Err(mixed());
            }
        }
        if !ids.is_empty() {
            return Ok(PromptInput::One(PromptText::Tokens(ids)));
        }
        if prompts.is_empty() {
            return Err(A::Error::invalid_length(0, &"an array with at least one element"));
        }
        Ok(PromptInput::Many(prompts))
    }
}

impl<'de> Deserialize<'de> for PromptInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InputReader)
    }
}

impl JsonSchema for PromptInput {
    fn schema_name() -> Cow<'static, str> {
        "PromptInput".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let id = json_schema!({ "type": "integer", "minimum": 0, "maximum": u32::MAX });
        json_schema!({
            "oneOf": [
                { "type": "string", "title": "A text" },
                { "type": "array", "title": "Texts", "minItems": 1, "items": { "type": "string" } },
                { "type": "array", "title": "Token ids", "minItems": 1, "items": id },
                {
                    "type": "array",
                    "title": "Several prompts' token ids",
                    "minItems": 1,
                    "items": { "type": "array", "minItems": 1, "items": id },
                },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Vec<PromptText>, String> {
        serde_json::from_str::<PromptInput>(json)
            .map(PromptInput::into_vec)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_four_shapes_are_read() {
        let text = |text: &str| PromptText::Text(text.to_owned());
        assert_eq!(read(r#""a""#), Ok(vec![text("a")]));
        assert_eq!(read(r#"["a", ""]"#), Ok(vec![text("a"), text("")]));
        assert_eq!(read("[1, 2]"), Ok(vec![PromptText::Tokens(vec![1, 2])]));
        assert_eq!(
            read("[[1], [2, 3]]"),
            Ok(vec![PromptText::Tokens(vec![1]), PromptText::Tokens(vec![2, 3])])
        );
    }

    #[test]
    fn mixtures_and_empty_arrays_are_refused() {
        for json in
            ["[]", "[[]]", r#"["a", 1]"#, r#"[1, "a"]"#, r#"[[1], "a"]"#, "[[1], 2]", "[-1]", "[1.5]", "null"]
        {
            assert!(read(json).is_err(), "{json}");
        }
    }
}
