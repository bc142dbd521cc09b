//! The smallest instance of a JSON Schema: what echo answers where a model would be held to that schema.
//!
//! Smallest means: required properties only, arrays and strings as short as allowed, the first of several
//! alternatives, numbers at their lower bound or zero. A schema whose instances cannot be found this way is refused
//! with the keyword's place, so that what is returned is valid.

use std::cell::Cell;

use serde_json::{Map, Number, Value, json};

use super::pattern;

/// Schemas may be recursive; an instance this deep has no end.
const DEEPEST: usize = 64;
/// References and bounds on lengths can describe in a few lines what takes hours to write down.
const MOST_WORK: usize = 200_000;
/// Keywords that the construction below cannot promise to satisfy.
const REFUSED: [&str; 9] = [
    "not",
    "if",
    "contains",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "minProperties",
    "$dynamicRef",
    "$recursiveRef",
];

/// Why there is no instance, and where in the schema.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("echo cannot make an instance of this JSON schema: {reason} (at '{place}')")]
pub(super) struct NoInstance {
    place: String,
    reason: String,
}

/// The smallest instance of `schema`.
pub(super) fn smallest(schema: &Value) -> Result<Value, NoInstance> {
    Search { root: schema, work: Cell::new(MOST_WORK) }.instance(schema, "#", 0)
}

struct Search<'a> {
    root: &'a Value,
    /// JSON values that may still be copied or made.
    work: Cell<usize>,
}

fn no_instance<T>(place: &str, reason: impl Into<String>) -> Result<T, NoInstance> {
    Err(NoInstance { place: place.to_owned(), reason: reason.into() })
}

impl Search<'_> {
    fn instance(&self, schema: &Value, place: &str, depth: usize) -> Result<Value, NoInstance> {
        if depth > DEEPEST {
            return no_instance(place, "it has no finite instance, or a very deep one");
        }
        self.charge(1, place)?;
        let schema = match schema {
            Value::Bool(true) => return Ok(Value::Null),
            Value::Bool(false) => return no_instance(place, "`false` accepts nothing"),
            Value::Object(schema) => self.flatten(schema, place, depth)?,
            _ => return no_instance(place, "a schema is an object or a boolean"),
        };
        if let Some(keyword) = REFUSED.iter().find(|keyword| schema.contains_key(**keyword)) {
            return no_instance(place, format!("the keyword `{keyword}` is not supported"));
        }
        if let Some(value) = schema.get("const") {
            return Ok(value.clone());
        }
        if let Some(values) = schema.get("enum") {
            return match values.as_array().and_then(|values| values.first()) {
                Some(value) => Ok(value.clone()),
                None => no_instance(place, "`enum` lists no value"),
            };
        }
        for keyword in ["anyOf", "oneOf"] {
            if let Some(alternatives) = schema.get(keyword).and_then(Value::as_array) {
                return self.first_alternative(&schema, alternatives, keyword, place, depth);
            }
        }
        match type_of(&schema) {
            "object" => self.object(&schema, place, depth),
            "array" => self.array(&schema, place, depth),
            "string" => string(&schema, place),
            "integer" => number(&schema, true, place),
            "number" => number(&schema, false, place),
            "boolean" => Ok(Value::Bool(false)),
            "null" => Ok(Value::Null),
            other => no_instance(place, format!("the type `{other}` is not known")),
        }
    }

    fn charge(&self, work: usize, place: &str) -> Result<(), NoInstance> {
        match self.work.get().checked_sub(work) {
            Some(left) => {
                self.work.set(left);
                Ok(())
            }
            None => no_instance(place, "its smallest instance is too large"),
        }
    }

    /// `$ref` and `allOf` merged into the keywords beside them.
    fn flatten(
        &self,
        schema: &Map<String, Value>,
        place: &str,
        depth: usize,
    ) -> Result<Map<String, Value>, NoInstance> {
        if depth > DEEPEST {
            return no_instance(place, "it has no finite instance, or a very deep one");
        }
        self.charge(schema.values().map(size).sum(), place)?;
        let mut flat = schema.clone();
        let mut parts: Vec<Value> = Vec::new();
        if let Some(reference) = flat.remove("$ref") {
            let reference = reference.as_str().unwrap_or_default();
            let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            match target {
                Some(target) => {
                    self.charge(size(target), place)?;
                    parts.push(target.clone());
                }
                None => return no_instance(place, format!("the reference `{reference}` leads nowhere")),
            }
        }
        if let Some(Value::Array(all)) = flat.remove("allOf") {
            parts.extend(all);
        }
        for part in parts {
            match part {
                Value::Object(part) => merge(&mut flat, self.flatten(&part, place, depth + 1)?),
                Value::Bool(true) => {}
                _ => return no_instance(place, "one of its parts accepts nothing"),
            }
        }
        Ok(flat)
    }

    fn first_alternative(
        &self,
        schema: &Map<String, Value>,
        alternatives: &[Value],
        keyword: &str,
        place: &str,
        depth: usize,
    ) -> Result<Value, NoInstance> {
        let mut failure = no_instance(place, format!("`{keyword}` lists no alternative"));
        for (index, alternative) in alternatives.iter().enumerate() {
            let place = format!("{place}/{keyword}/{index}");
            let mut beside = schema.clone();
            beside.remove(keyword);
            if let Value::Object(alternative) = alternative {
                merge(&mut beside, self.flatten(alternative, &place, depth)?);
            }
            match self.instance(&Value::Object(beside), &place, depth + 1) {
                Ok(value) => return Ok(value),
                Err(error) => failure = Err(error),
            }
        }
        failure
    }

    fn object(&self, schema: &Map<String, Value>, place: &str, depth: usize) -> Result<Value, NoInstance> {
        let mut object = Map::new();
        let required = schema.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let required: Vec<&str> = required.iter().filter_map(Value::as_str).collect();
        let properties = schema.get("properties").and_then(Value::as_object);
        // The schema's own order of properties first: it is how models are asked to write them.
        for (name, property) in properties.into_iter().flatten() {
            if required.contains(&name.as_str()) {
                let place = format!("{place}/properties/{name}");
                object.insert(name.clone(), self.instance(property, &place, depth + 1)?);
            }
        }
        for name in required {
            if !object.contains_key(name) {
                let beyond = schema.get("additionalProperties").unwrap_or(&Value::Bool(true));
                let place = format!("{place}/additionalProperties");
                object.insert(name.to_owned(), self.instance(beyond, &place, depth + 1)?);
            }
        }
        Ok(Value::Object(object))
    }

    fn array(&self, schema: &Map<String, Value>, place: &str, depth: usize) -> Result<Value, NoInstance> {
        let least = whole(schema, "minItems").unwrap_or(0);
        if least > 1 && schema.get("uniqueItems") == Some(&Value::Bool(true)) {
            return no_instance(place, "`uniqueItems` with several items is not supported");
        }
        if least > 1024 {
            return no_instance(place, "`minItems` above 1024 is not supported");
        }
        let first = schema.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        (0..least)
            .map(|index| {
                let item = first.get(index).or_else(|| schema.get("items")).unwrap_or(&Value::Bool(true));
                self.instance(item, &format!("{place}/items"), depth + 1)
            })
            .collect::<Result<_, _>>()
            .map(Value::Array)
    }
}

/// The number of JSON values in `value`.
fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(values) => values.iter().map(size).sum(),
        Value::Object(object) => object.values().map(size).sum(),
        _ => 0,
    }
}

/// Adds `part`'s keywords to `flat`: both hold, so bounds tighten and required properties add up.
fn merge(flat: &mut Map<String, Value>, part: Map<String, Value>) {
    for (keyword, value) in part {
        let Some(present) = flat.get_mut(&keyword) else {
            flat.insert(keyword, value);
            continue;
        };
        match (keyword.as_str(), present, value) {
            ("required", Value::Array(present), Value::Array(more)) => present.extend(more),
            ("properties", Value::Object(present), Value::Object(more)) => {
                for (name, schema) in more {
                    match present.get_mut(&name) {
                        Some(both) => *both = json!({ "allOf": [both.take(), schema] }),
                        None => _ = present.insert(name, schema),
                    }
                }
            }
            ("minimum" | "exclusiveMinimum" | "minLength" | "minItems", present, value)
                if value.as_f64() > present.as_f64() =>
            {
                *present = value;
            }
            ("enum", Value::Array(present), Value::Array(more)) => {
                present.retain(|value| more.contains(value))
            }
            ("type", present, value) => {
                if let (Value::Array(both), Value::String(_)) = (&present, &value)
                    && both.contains(&value)
                {
                    *present = value;
                }
            }
            _ => {}
        }
    }
}

fn type_of(schema: &Map<String, Value>) -> &str {
    match schema.get("type") {
        Some(Value::String(name)) => name,
        Some(Value::Array(names)) => names.first().and_then(Value::as_str).unwrap_or("null"),
        _ if schema.contains_key("properties") || schema.contains_key("required") => "object",
        _ if schema.contains_key("items") || schema.contains_key("prefixItems") => "array",
        _ if schema.contains_key("pattern") || schema.contains_key("minLength") => "string",
        _ if schema.contains_key("minimum") || schema.contains_key("exclusiveMinimum") => "number",
        _ => "null",
    }
}

fn whole(schema: &Map<String, Value>, keyword: &str) -> Option<usize> {
    schema.get(keyword).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok())
}

fn string(schema: &Map<String, Value>, place: &str) -> Result<Value, NoInstance> {
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
        "json-pointer" | "relative-json-pointer" => "0",
        "regex" => ".*",
        _ => return None,
    })
}

fn number(schema: &Map<String, Value>, integer: bool, place: &str) -> Result<Value, NoInstance> {
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    let step = bound("multipleOf").unwrap_or(if integer { 1.0 } else { 0.0 });
    let next = |value: f64| if step > 0.0 { value + step } else { value + 1.0 };
    let up = |value: f64| if step > 0.0 { (value / step).ceil() * step } else { value };
    let mut value = 0.0_f64;
    match (bound("minimum"), bound("exclusiveMinimum")) {
        (Some(least), _) if least > value => value = up(least),
        (_, Some(below)) if below >= value => {
            value = up(below);
            if value <= below {
                value = next(value);
            }
        }
        _ => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(schema: Value) -> Value {
        smallest(&schema).unwrap()
    }

    fn refused(schema: Value) -> String {
        smallest(&schema).unwrap_err().to_string()
    }

    #[test]
    fn scalars_are_as_small_as_their_bounds_allow() {
        assert_eq!(of(json!({"type": "string"})), "");
        assert_eq!(of(json!({"type": "string", "minLength": 2})), "  ");
        assert_eq!(of(json!({"type": "integer"})), 0);
        assert_eq!(of(json!({"type": "integer", "minimum": 3})), 3);
        assert_eq!(of(json!({"type": "integer", "exclusiveMinimum": 3})), 4);
        assert_eq!(of(json!({"type": "integer", "minimum": 3, "multipleOf": 5})), 5);
        assert_eq!(of(json!({"type": "integer", "maximum": -3})), -3);
        assert_eq!(of(json!({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1})), 0.5);
        assert_eq!(of(json!({"type": "boolean"})), false);
        assert_eq!(of(json!({"type": ["string", "null"]})), "");
        assert_eq!(of(json!({"const": 7})), 7);
        assert_eq!(of(json!({"enum": ["b", "a"]})), "b");
        assert_eq!(of(json!({})), Value::Null);
    }

    #[test]
    fn patterns_and_formats_are_met() {
        assert_eq!(of(json!({"type": "string", "pattern": "^[0-9]{3}-(x|y)+$"})), "000-x");
        assert_eq!(of(json!({"type": "string", "format": "date"})), "1970-01-01");
        assert!(refused(json!({"type": "string", "pattern": "(?=x)"})).contains("pattern"));
        assert!(refused(json!({"type": "string", "pattern": "^a$", "minLength": 2})).contains("length"));
    }

    #[test]
    fn containers_hold_what_they_must() {
        let person = json!({
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "nick": {"type": "string"},
                "tags": {"type": "array", "items": {"enum": ["x"]}, "minItems": 2},
            },
            "required": ["tags", "name"],
            "additionalProperties": false,
        });
        assert_eq!(
            of(person).to_string(),
            r#"{"name":"","tags":["x","x"]}"#,
            "in the order of the properties"
        );
    }

    #[test]
    fn references_and_combinations_resolve() {
        let schema = json!({
            "$defs": {"id": {"type": "integer", "minimum": 1}},
            "allOf": [
                {"properties": {"a": {"$ref": "#/$defs/id"}}, "required": ["a"]},
                {"properties": {"b": {"anyOf": [false, {"type": "null"}]}}, "required": ["b"]},
            ],
        });
        assert_eq!(of(schema), json!({"a": 1, "b": null}));
    }

    #[test]
    fn what_has_no_instance_is_refused_with_its_place() {
        let endless = json!({
            "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "required": ["next"]}},
            "$ref": "#/$defs/node",
        });
        assert!(refused(endless).contains("no finite instance"));
        assert!(refused(json!({"$ref": "#/nowhere"})).contains("leads nowhere"));
        let mut wide = json!({"type": "string"});
        for _ in 0..6 {
            wide = json!({"type": "array", "minItems": 1000, "items": wide});
        }
        assert!(refused(wide).contains("too large"));
        let defs: Map<String, Value> = (0..25)
            .map(|n| {
                let next = json!({"$ref": format!("#/$defs/{}", n + 1)});
                (n.to_string(), json!({"allOf": [next, next]}))
            })
            .chain([("25".to_owned(), json!({}))])
            .collect();
        assert!(refused(json!({"$ref": "#/$defs/0", "$defs": defs})).contains("too large"));
        let inside = json!({"properties": {"a": {"not": {}}}, "required": ["a"]});
        assert!(refused(inside).contains("#/properties/a"));
        assert!(refused(json!({"type": "integer", "minimum": 5, "maximum": 4})).contains("bounds"));
        assert!(refused(json!(false)).contains("accepts nothing"));
    }
}
