//! The filter `tojson` as transformers defines it: Python's `json.dumps` with `ensure_ascii=False`.

use std::fmt::Write;

use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Kwargs, Rest, ValueKind},
};

use super::python;

/// `value|tojson(ensure_ascii, indent, separators, sort_keys)`.
pub(super) fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    arguments: Rest<Value>,
    named: Kwargs,
) -> Result<String, Error> {
    let argument = |place: usize, name: &str| -> Result<Value, Error> {
        match arguments.get(place) {
            Some(value) => Ok(value.clone()),
            None => Ok(named.get::<Option<Value>>(name)?.unwrap_or_default()),
        }
    };
    let ascii = argument(0, "ensure_ascii")?.is_true();
    let indent = indent(&argument(1, "indent")?)?;
    let separators = argument(2, "separators")?;
    let sorted = argument(3, "sort_keys")?.is_true();
    named.assert_all_used()?;
    let (item, key) = if separators.is_undefined() || separators.is_none() {
        // As in Python, a line that ends needs no space behind its comma.
        (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned())
    } else {
        (separators.get_item_by_index(0)?.to_string(), separators.get_item_by_index(1)?.to_string())
    };
    let mut writer = Writer { text: String::new(), ascii, indent, item, key, sorted, state, charged: 0 };
    writer.value(value, 0)?;
    Ok(writer.text)
}

fn indent(argument: &Value) -> Result<Option<String>, Error> {
    if argument.is_undefined() || argument.is_none() {
        return Ok(None);
    }
    if let Some(text) = argument.as_str() {
        return Ok(Some(text.to_owned()));
    }
    let spaces = argument.as_i64().ok_or_else(|| invalid("indent must be a number or a string"))?;
    Ok(Some(" ".repeat(spaces.clamp(0, 64) as usize)))
}

struct Writer<'a> {
    text: String,
    ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sorted: bool,
    state: &'a State<'a, 'a>,
    /// Bytes of `text` that were paid for.
    charged: usize,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self.text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.text.push_str(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.map(|item| (None, item)).collect();
                self.items(['[', ']'], items, depth)?;
            }
            ValueKind::Map => {
                let mut items = Vec::new();
                for key in value.try_iter()? {
                    items.push((Some(object_key(&key)?), value.get_item(&key)?));
                }
                if self.sorted {
                    items.sort_by(|(one, _), (other, _)| one.cmp(other));
                }
                self.items(['{', '}'], items, depth)?;
            }
            _ => return Err(invalid(format!("{} is not JSON serializable", value.kind()))),
        }
        Ok(())
    }

    fn items(
        &mut self,
        [open, close]: [char; 2],
        items: Vec<(Option<String>, Value)>,
        depth: usize,
    ) -> Result<(), Error> {
        // A value that contains itself cannot be built; one that is nested beyond all measure could be.
        if depth > 200 {
            return Err(invalid("the value is nested too deeply"));
        }
        self.text.push(open);
        let empty = items.is_empty();
        for (place, (key, value)) in items.into_iter().enumerate() {
            if place > 0 {
                self.text.push_str(&self.item);
            }
            self.line(depth + 1);
            if let Some(key) = key {
                self.string(&key);
                self.text.push_str(&self.key);
            }
            self.value(&value, depth + 1)?;
            self.state.consume_fuel(1 + (self.text.len() - self.charged) as u64 / 16)?;
            self.charged = self.text.len();
        }
        if !empty {
            self.line(depth);
        }
        self.text.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.text.push('\n');
            (0..depth).for_each(|_| self.text.push_str(indent));
        }
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        for character in text.chars() {
            match character {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                '\0'..='\u{1f}' => self.escape(character),
                '\u{7f}'.. if self.ascii => self.escape(character),
                _ => self.text.push(character),
            }
        }
        self.text.push('"');
    }

    fn escape(&mut self, character: char) {
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(self.text, "\\u{unit:04x}");
        }
    }
}

/// JSON's keys are strings; Python spells other keys as JSON would.
fn object_key(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_owned()),
        ValueKind::None => Ok("null".to_owned()),
        ValueKind::Bool => Ok(key.is_true().to_string()),
        ValueKind::Number => Ok(number(key)),
        other => Err(invalid(format!("keys must be strings or numbers, not {other}"))),
    }
}

fn number(value: &Value) -> String {
    match python::float(value) {
        Some(float) => python::spell_float(float),
        None => value.to_string(),
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}
