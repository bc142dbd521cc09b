//! What templates take from Python: methods of strings, as in `message.content.strip()`, and how values are spelt.
//!
//! minijinja-contrib has most methods. Here are those that it lacks and those where Python's white space or arguments
//! differ.

use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Kwargs, StringInput, Tuple, ValueKind, from_args},
};
use minijinja_contrib::pycompat;

/// The callback for methods that minijinja does not know.
pub(super) fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    if value.kind() == ValueKind::String
        && let Some(text) = value.as_str()
        && let Some(result) = string_method(text, name, arguments)
    {
        return result;
    }
    if value.kind() == ValueKind::Map && name == "copy" {
        let () = from_args(arguments)?;
        return Ok(value.clone());
    }
    pycompat::unknown_method_callback(state, value, name, arguments)
}

/// The filter `trim`, which is `str.strip`.
pub(super) fn trim(text: StringInput<'_>, characters: Option<&str>) -> String {
    strip(text.as_str(), characters, true, true).to_owned()
}

/// The filter `string`, which is `str`.
pub(super) fn string(value: &Value) -> Value {
    match float(value) {
        Some(float) => spell_float(float).into(),
        None if value.kind() == ValueKind::String => value.clone(),
        None => value.to_string().into(),
    }
}

/// The filter `indent`. Unlike minijinja's it keeps a line end at the end.
pub(super) fn indent(
    text: StringInput<'_>,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    named: Kwargs,
) -> Result<String, Error> {
    let width = width.or(named.get("width")?).unwrap_or_else(|| Value::from(4));
    let first = first.or(named.get("first")?).unwrap_or(false);
    let blank = blank.or(named.get("blank")?).unwrap_or(false);
    named.assert_all_used()?;
    let indention = match width.as_str() {
        Some(text) => text.to_owned(),
        None => " ".repeat(usize::try_from(width)?.min(1000)),
    };
    let mut indented = String::new();
    for (place, line) in text.as_str().split('\n').enumerate() {
        if place > 0 {
            indented.push('\n');
        }
        if if place == 0 { first } else { blank || !line.is_empty() } {
            indented.push_str(&indention);
        }
        indented.push_str(line);
    }
    Ok(indented)
}

/// The number, where `value` is one with a fraction.
pub(super) fn float(value: &Value) -> Option<f64> {
    let fractional = value.kind() == ValueKind::Number && !value.is_integer();
    fractional.then(|| f64::try_from(value.clone()).ok()).flatten()
}

/// The shortest digits that give the same number again, laid out as Python's `repr` does.
pub(super) fn spell_float(number: f64) -> String {
    if !number.is_finite() {
        let name = if number.is_nan() { "NaN" } else { "Infinity" };
        return format!("{}{name}", if number < 0.0 { "-" } else { "" });
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{number:?}"),
    }
}

/// The test `iterable`. minijinja lets templates walk through `none`, which Python does not.
pub(super) fn is_iterable(value: &Value) -> bool {
    !value.is_none() && (value.is_undefined() || value.try_iter().is_ok())
}

/// `None` where this is no method of ours.
fn string_method(text: &str, name: &str, arguments: &[Value]) -> Option<Result<Value, Error>> {
    Some(match name {
        "strip" => stripped(text, arguments, true, true),
        "lstrip" => stripped(text, arguments, true, false),
        "rstrip" => stripped(text, arguments, false, true),
        "split" => split(text, arguments, false),
        "rsplit" => split(text, arguments, true),
        "splitlines" => from_args(arguments).map(|(keep,): (Option<bool>,)| lines(text, keep == Some(true))),
        "partition" => partition(text, arguments, false),
        "rpartition" => partition(text, arguments, true),
        "removeprefix" => from_args(arguments)
            .map(|(prefix,): (&str,)| Value::from(text.strip_prefix(prefix).unwrap_or(text))),
        "removesuffix" => from_args(arguments)
            .map(|(suffix,): (&str,)| Value::from(text.strip_suffix(suffix).unwrap_or(text))),
        "index" => index(text, arguments),
        "isspace" => {
            from_args(arguments).map(|()| Value::from(!text.is_empty() && text.chars().all(is_space)))
        }
        "zfill" => from_args(arguments).map(|(width,): (usize,)| Value::from(zfill(text, width))),
        _ => return None,
    })
}

/// What Python takes for white space: Unicode's, and four control characters.
fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}')
}

fn strip<'a>(text: &'a str, characters: Option<&str>, left: bool, right: bool) -> &'a str {
    let strips = |character: char| match characters {
        Some(characters) => characters.contains(character),
        None => is_space(character),
    };
    let text = if left { text.trim_start_matches(strips) } else { text };
    if right { text.trim_end_matches(strips) } else { text }
}

fn stripped(text: &str, arguments: &[Value], left: bool, right: bool) -> Result<Value, Error> {
    let (characters,): (Option<&str>,) = from_args(arguments)?;
    Ok(Value::from(strip(text, characters, left, right)))
}

fn split(text: &str, arguments: &[Value], from_right: bool) -> Result<Value, Error> {
    let (separator, most, named): (Option<&str>, Option<i64>, Kwargs) = from_args(arguments)?;
    let separator = match separator {
        Some(separator) => Some(separator),
        None => named.get::<Option<&str>>("sep")?,
    };
    let most = match most {
        Some(most) => Some(most),
        None => named.get::<Option<i64>>("maxsplit")?,
    };
    named.assert_all_used()?;
    // A negative number is Python's way to say: all.
    let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let Some(separator) = separator else {
        return Ok(words(text, most, from_right));
    };
    if separator.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
    }
    let parts = most.saturating_add(1);
    let mut parts: Vec<&str> = if from_right {
        text.rsplitn(parts, separator).collect()
    } else {
        return Ok(text.splitn(parts, separator).map(Value::from).collect());
    };
    parts.reverse();
    Ok(parts.into_iter().map(Value::from).collect())
}

/// Splits at runs of white space; the rest behind the last split stays as it is.
fn words(text: &str, most: usize, from_right: bool) -> Value {
    let mut words = Vec::new();
    let mut rest = strip(text, None, !from_right, from_right);
    while !rest.is_empty() {
        let border = if from_right { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(border) = border.filter(|_| words.len() < most) else {
            words.push(Value::from(rest));
            break;
        };
        let (left, right) = rest.split_at(border);
        if from_right {
            words.push(Value::from(strip(right, None, true, false)));
            rest = strip(left, None, false, true);
        } else {
            words.push(Value::from(left));
            rest = strip(right, None, true, false);
        }
    }
    if from_right {
        words.reverse();
    }
    Value::from(words)
}

/// Python's `splitlines` knows more line ends than `str::lines`.
fn lines(text: &str, keep_ends: bool) -> Value {
    const ENDS: [char; 10] =
        ['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(ENDS).unwrap_or(rest.len());
        let (line, behind) = rest.split_at(end);
        let length =
            if behind.starts_with("\r\n") { 2 } else { behind.chars().next().map_or(0, char::len_utf8) };
        lines.push(Value::from(if keep_ends { &rest[..end + length] } else { line }));
        rest = &behind[length..];
    }
    Value::from(lines)
}

fn partition(text: &str, arguments: &[Value], from_right: bool) -> Result<Value, Error> {
    let (separator,): (&str,) = from_args(arguments)?;
    let found = if from_right { text.rsplit_once(separator) } else { text.split_once(separator) };
    let parts = match found {
        Some((before, behind)) => [before, separator, behind],
        None if from_right => ["", "", text],
        None => [text, "", ""],
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from))))
}

fn index(text: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (wanted,): (&str,) = from_args(arguments)?;
    match text.find(wanted) {
        Some(place) => Ok(Value::from(text[..place].chars().count())),
        None => Err(Error::new(ErrorKind::InvalidOperation, "substring not found")),
    }
}

fn zfill(text: &str, width: usize) -> String {
    let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
    // No number that a template writes is wider.
    let zeros = width.min(1000).saturating_sub(text.chars().count());
    format!("{sign}{}{digits}", "0".repeat(zeros))
}
