//! The smallest strings and numbers that a schema allows.

use serde_json::{Map, Number, Value};

use super::{
    instance::{NoInstance, no_instance},
    pattern,
};

pub(super) fn whole(schema: &Map<String, Value>, keyword: &str) -> Option<usize> {
    schema.get(keyword).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok())
}

pub(super) fn string(schema: &Map<String, Value>, place: &str) -> Result<Value, NoInstance> {
    let (least, most) =
        (whole(schema, "minLength").unwrap_or(0), whole(schema, "maxLength").unwrap_or(usize::MAX));
    if least > 65_536 {
        return no_instance(place, "`minLength` above 65536 is not supported");
    }
    let fixed = |text: String| {
        let length = text.chars().count();
        if (least..=most).contains(&length) {
            Ok(Value::String(text))
        } else {
            no_instance(place, "the bounds on the length do not fit its `pattern` or `format`")
        }
    };
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        return match pattern::shortest(pattern) {
            Some(text) => fixed(text),
            None => {
                no_instance(place, "its `pattern` is not a regular expression that echo can match shortly")
            }
        };
    }
    match schema.get("format").and_then(Value::as_str).and_then(example_of) {
        Some(example) => fixed(example.to_owned()),
        None => Ok(Value::String(" ".repeat(least))),
    }
}

/// A fixed instance of the formats that JSON Schema defines (draft 2020-12, validation, section 7.3).
fn example_of(format: &str) -> Option<&'static str> {
    Some(match format {
        "date-time" => "1970-01-01T00:00:00Z",
        "date" => "1970-01-01",
        "time" => "00:00:00Z",
        "duration" => "PT0S",
        "email" | "idn-email" => "a@example.com",
        "hostname" | "idn-hostname" => "example.com",
        "ipv4" => "127.0.0.1",
        "ipv6" => "::1",
        "uri" | "uri-reference" | "iri" | "iri-reference" | "url" => "http://example.com/",
        "uuid" => "00000000-0000-0000-0000-000000000000",
        "json-pointer" => "",
        "relative-json-pointer" => "0",
        "regex" => ".*",
        _ => return None,
    })
}

pub(super) fn number(schema: &Map<String, Value>, integer: bool, place: &str) -> Result<Value, NoInstance> {
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    let step = bound("multipleOf").unwrap_or(if integer { 1.0 } else { 0.0 });
    let next = |value: f64| if step > 0.0 { value + step } else { value + 1.0 };
    let up = |value: f64| if step > 0.0 { (value / step).ceil() * step } else { value };
    let mut value = 0.0_f64;
    if let Some(least) = bound("minimum")
        && least > value
    {
        value = up(least);
    }
    if let Some(below) = bound("exclusiveMinimum")
        && below >= value
    {
        value = up(below);
        if value <= below {
            value = next(value);
        }
    }
    if let Some(most) = bound("maximum")
        && value > most
    {
        value = if step > 0.0 { (most / step).floor() * step } else { most };
    }
    if let Some(above) = bound("exclusiveMaximum")
        && value >= above
    {
        value = if step > 0.0 {
            (above / step).ceil() * step - step
        } else {
            (above + bound_below(&bound)) / 2.0
        };
    }
    let below = bound("minimum").is_some_and(|least| value < least)
        || bound("exclusiveMinimum").is_some_and(|least| value <= least)
        || bound("maximum").is_some_and(|most| value > most)
        || bound("exclusiveMaximum").is_some_and(|most| value >= most);
    if below {
        return no_instance(place, "no number lies within its bounds");
    }
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        return Ok(Value::from(value as i64));
    }
    match Number::from_f64(value) {
        Some(number) if !integer => Ok(Value::Number(number)),
        _ => no_instance(place, "its bounds are too large"),
    }
}

fn bound_below(bound: &impl Fn(&str) -> Option<f64>) -> f64 {
    bound("minimum").or_else(|| bound("exclusiveMinimum")).unwrap_or_else(|| {
        let above = bound("exclusiveMaximum").unwrap_or(0.0);
        above - 2.0
    })
}
