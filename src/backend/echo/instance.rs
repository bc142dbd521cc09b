//! The smallest instance of a JSON Schema: what echo answers where a model would be held to that schema.
//!
//! Smallest means: required properties only, arrays and strings as short as allowed, the first of several
//! alternatives, numbers at their lower bound or zero. A schema whose instances cannot be found this way is refused
//! with the keyword's place, so that what is returned is valid.

use std::{cell::Cell, collections::HashSet};

use serde_json::{Map, Value, json};

use super::scalar::{number, string, whole};

/// Schemas may be recursive; an instance this deep has no end.
pub(super) const DEEPEST: usize = 64;
/// References and bounds on lengths can describe in a few lines what takes hours to write down.
const MOST_WORK: usize = 200_000;
/// Keywords that neither the construction nor the check of its result knows.
const REFUSED: [&str; 7] = [
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "unevaluatedProperties",
    "unevaluatedItems",
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
    let search = Search { root: schema, work: Cell::new(MOST_WORK) };
    let found = search.instance(schema, "#", 0)?;
    if search.accepts(schema, &found, "#", 0)? {
        return Ok(found);
    }
    no_instance("#", format!("its keywords together leave no simple instance; tried {}", shortened(&found)))
}

fn shortened(value: &Value) -> String {
    value.to_string().chars().take(100).collect()
}

pub(super) struct Search<'a> {
    root: &'a Value,
    /// JSON values that may still be copied or made.
    work: Cell<usize>,
}

pub(super) fn no_instance<T>(place: &str, reason: impl Into<String>) -> Result<T, NoInstance> {
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

    /// What a `$ref` within the schema refers to.
    pub(super) fn target(&self, reference: &Value) -> Option<&Value> {
        self.root.pointer(reference.as_str()?.strip_prefix('#')?)
    }

    pub(super) fn charge(&self, work: usize, place: &str) -> Result<(), NoInstance> {
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
            match self.target(&reference) {
                Some(target) => {
                    self.charge(size(target), place)?;
                    parts.push(target.clone());
                }
                None => return no_instance(place, format!("the reference {reference} leads nowhere")),
            }
        }
        if let Some(Value::Array(all)) = flat.remove("allOf") {
            parts.extend(all);
        }
        for part in parts {
            match part {
                Value::Object(part) => {
                    let part = self.flatten(&part, place, depth + 1)?;
                    self.merge(&mut flat, part, place)?;
                }
                Value::Bool(true) => {}
                _ => return no_instance(place, "one of its parts accepts nothing"),
            }
        }
        Ok(flat)
    }

    /// Adds `part`'s keywords to `flat`: both hold, so bounds tighten and required properties add up.
    fn merge(
        &self,
        flat: &mut Map<String, Value>,
        part: Map<String, Value>,
        place: &str,
    ) -> Result<(), NoInstance> {
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
                ("maximum" | "exclusiveMaximum" | "maxLength" | "maxItems", present, value)
                    if value.as_f64() < present.as_f64() =>
                {
                    *present = value;
                }
                ("enum", Value::Array(present), Value::Array(more)) => {
                    self.charge(present.len() * more.len(), place)?;
                    present.retain(|value| more.contains(value));
                }
                ("type", present, value) => narrow(present, &value),
                // What remains in conflict shows when the instance is checked.
                _ => {}
            }
        }
        Ok(())
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
                let alternative = self.flatten(alternative, &place, depth)?;
                self.merge(&mut beside, alternative, &place)?;
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
        let wanted: HashSet<&str> = required.iter().copied().collect();
        let properties = schema.get("properties").and_then(Value::as_object);
        // The schema's own order of properties first: it is how models are asked to write them.
        for (name, property) in properties.into_iter().flatten() {
            if wanted.contains(name.as_str()) {
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

/// The types that both allow.
fn narrow(present: &mut Value, other: &Value) {
    let list = |value: &Value| match value {
        Value::Array(names) => names.clone(),
        name => vec![name.clone()],
    };
    let (here, there) = (list(present), list(other));
    let has = |names: &[Value], name: &str| names.iter().any(|known| known == name);
    let both: Vec<Value> = here
        .iter()
        .chain(&there)
        // An integer is a number too.
        .filter(|name| here.contains(name) || (**name == "integer" && has(&here, "number")))
        .filter(|name| there.contains(name) || (**name == "integer" && has(&there, "number")))
        .cloned()
        .collect();
    *present = Value::Array(both);
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
        assert!(refused(json!({"type": "string", "pattern": r"\w".repeat(1000)})).contains("pattern"));
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
        let inside = json!({"properties": {"a": {"dependencies": {}}}, "required": ["a"]});
        assert!(refused(inside).contains("#/properties/a"));
        assert!(refused(json!({"type": "integer", "minimum": 5, "maximum": 4})).contains("bounds"));
        assert!(refused(json!(false)).contains("accepts nothing"));
    }
    #[test]
    fn what_the_keywords_exclude_together_is_refused_and_never_answered() {
        for schema in [
            json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}),
            json!({"oneOf": [{"type": "object"}, {"properties": {"a": {}}}]}),
            json!({"type": "string", "enum": [null, "a"]}),
            json!({"enum": [1, "a"], "anyOf": [{"type": "string"}]}),
            json!({"const": 1, "type": "string"}),
            json!({"allOf": [{"type": "string"}, {"type": "integer"}]}),
            json!({"type": "string", "allOf": [{"pattern": "a"}, {"pattern": "b"}]}),
            json!({"propertyNames": {"maxLength": 1}, "type": "object", "required": ["long"]}),
            json!({"type": "object", "maxProperties": 1, "required": ["a", "b"]}),
            json!({"type": "array", "minItems": 3, "maxItems": 2}),
            json!({"type": "string", "minLength": 5, "maxLength": 2}),
            json!({"type": "string", "pattern": "a^b"}),
            json!({"type": "number", "multipleOf": 0.1, "minimum": 0.25}),
            json!({"not": {}}),
            json!({"type": "object", "minProperties": 1}),
        ] {
            assert!(smallest(&schema).is_err(), "{schema}: {:?}", smallest(&schema));
        }
    }

    #[test]
    fn bounds_of_all_parts_hold() {
        assert_eq!(of(json!({"type": "integer", "allOf": [{"maximum": 10}, {"maximum": -5}]})), -5);
        assert_eq!(of(json!({"allOf": [{"type": "number"}, {"type": "integer", "minimum": 0.5}]})), 1);
        assert_eq!(of(json!({"type": "integer", "minimum": 1, "exclusiveMinimum": 5})), 6);
        assert_eq!(
            of(json!({"type": ["null", "string"], "minLength": 1, "not": {"type": "string"}})),
            Value::Null
        );
        assert_eq!(of(json!({"if": {"type": "string"}, "then": {"minLength": 3}, "type": "integer"})), 0);
    }
}
