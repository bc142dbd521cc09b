//! Whether a value fits a JSON Schema (draft 2020-12), for the keywords that [`super::instance`] lets through.
//!
//! The construction of an instance takes short cuts; what it found is held against the schema as it was written, within
//! the same bound on the work.

use std::collections::HashSet;

use regex::RegexBuilder;
use serde_json::{Map, Value};

use super::{
    instance::{DEEPEST, NoInstance, Search, no_instance},
    pattern::LONGEST,
};

type Verdict = Result<bool, NoInstance>;

impl Search<'_> {
    /// `format` is taken for a remark, as validators do by default.
    pub(super) fn accepts(&self, schema: &Value, value: &Value, place: &str, depth: usize) -> Verdict {
        self.charge(1, place)?;
        if depth > DEEPEST {
            return no_instance(place, "its references have no end");
        }
        let schema = match schema {
            Value::Bool(accepted) => return Ok(*accepted),
            Value::Object(schema) => schema,
            _ => return no_instance(place, "a schema is an object or a boolean"),
        };
        Ok(self.accepts_any_value(schema, value, place, depth)?
            && match value {
                Value::Number(number) => fits_number(schema, number.as_f64().unwrap_or(f64::NAN)),
                Value::String(text) => self.fits_string(schema, text, place)?,
                Value::Array(items) => self.fits_array(schema, items, place, depth)?,
                Value::Object(object) => self.fits_object(schema, object, place, depth)?,
                Value::Null | Value::Bool(_) => true,
            })
    }

    fn accepts_any_value(
        &self,
        schema: &Map<String, Value>,
        value: &Value,
        place: &str,
        depth: usize,
    ) -> Verdict {
        let fits = |schema: &Value| self.accepts(schema, value, place, depth + 1);
        let listed = |keyword: &str| schema.get(keyword).and_then(Value::as_array).map(Vec::as_slice);
        if let Some(reference) = schema.get("$ref") {
            let Some(target) = self.target(reference) else {
                return no_instance(place, "a reference leads nowhere");
            };
            if !fits(target)? {
                return Ok(false);
            }
        }
        if schema.get("type").is_some_and(|names| !has_type(names, value)) {
            return Ok(false);
        }
        if schema.get("const").is_some_and(|constant| !same(constant, value)) {
            return Ok(false);
        }
        if let Some(values) = listed("enum") {
            self.charge(values.len(), place)?;
            if !values.iter().any(|listed| same(listed, value)) {
                return Ok(false);
            }
        }
        for part in listed("allOf").unwrap_or_default() {
            if !fits(part)? {
                return Ok(false);
            }
        }
        for (keyword, most) in [("anyOf", usize::MAX), ("oneOf", 1)] {
            let Some(alternatives) = listed(keyword) else { continue };
            let mut fitting = 0;
            for alternative in alternatives {
                fitting += usize::from(fits(alternative)?);
            }
            if fitting == 0 || fitting > most {
                return Ok(false);
            }
        }
        if let Some(excluded) = schema.get("not")
            && fits(excluded)?
        {
            return Ok(false);
        }
        if let Some(condition) = schema.get("if") {
            let branch = if fits(condition)? { "then" } else { "else" };
            if let Some(branch) = schema.get(branch) {
                return fits(branch);
            }
        }
        Ok(true)
    }

    fn fits_string(&self, schema: &Map<String, Value>, text: &str, place: &str) -> Verdict {
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
            && !self.finds(pattern, text, place)?
        {
            return Ok(false);
        }
        Ok(within(schema, text.chars().count(), "minLength", "maxLength"))
    }

    fn fits_array(&self, schema: &Map<String, Value>, items: &[Value], place: &str, depth: usize) -> Verdict {
        let first = schema.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for (index, item) in items.iter().enumerate() {
            if let Some(schema) = first.get(index).or_else(|| schema.get("items"))
                && !self.accepts(schema, item, place, depth + 1)?
            {
                return Ok(false);
            }
        }
        if let Some(wanted) = schema.get("contains") {
            let mut count = 0;
            for item in items {
                count += usize::from(self.accepts(wanted, item, place, depth + 1)?);
            }
            let least = schema.get("minContains").and_then(Value::as_u64).unwrap_or(1) as usize;
            if count < least || !within(schema, count, "minContains", "maxContains") {
                return Ok(false);
            }
        }
        if schema.get("uniqueItems") == Some(&Value::Bool(true)) {
            let written: HashSet<String> = items.iter().map(Value::to_string).collect();
            if written.len() < items.len() {
                return Ok(false);
            }
        }
        Ok(within(schema, items.len(), "minItems", "maxItems"))
    }

    fn fits_object(
        &self,
        schema: &Map<String, Value>,
        object: &Map<String, Value>,
        place: &str,
        depth: usize,
    ) -> Verdict {
        let required = schema.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if required.iter().filter_map(Value::as_str).any(|name| !object.contains_key(name)) {
            return Ok(false);
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        let patterns = schema.get("patternProperties").and_then(Value::as_object);
        for (name, value) in object {
            let mut known = false;
            if let Some(schema) = properties.and_then(|properties| properties.get(name)) {
                known = true;
                if !self.accepts(schema, value, place, depth + 1)? {
                    return Ok(false);
                }
            }
            for (pattern, schema) in patterns.into_iter().flatten() {
                if self.finds(pattern, name, place)? {
                    known = true;
                    if !self.accepts(schema, value, place, depth + 1)? {
                        return Ok(false);
                    }
                }
            }
            if let (false, Some(schema)) = (known, schema.get("additionalProperties"))
                && !self.accepts(schema, value, place, depth + 1)?
            {
                return Ok(false);
            }
            if let Some(schema) = schema.get("propertyNames")
                && !self.accepts(schema, &Value::from(name.as_str()), place, depth + 1)?
            {
                return Ok(false);
            }
        }
        Ok(within(schema, object.len(), "minProperties", "maxProperties"))
    }

    fn finds(&self, pattern: &str, text: &str, place: &str) -> Verdict {
        // A class such as `\w` is a long list of ranges once it is compiled.
        self.charge(pattern.len() * 16, place)?;
        let regex = RegexBuilder::new(pattern).size_limit(1 << 20).build();
        match regex {
            Ok(regex) if pattern.len() <= LONGEST => Ok(regex.is_match(text)),
            _ => no_instance(place, "a pattern is too large or no regular expression that echo knows"),
        }
    }
}

fn within(schema: &Map<String, Value>, count: usize, least: &str, most: &str) -> bool {
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    let count = count as f64;
    bound(least).is_none_or(|least| count >= least) && bound(most).is_none_or(|most| count <= most)
}

fn fits_number(schema: &Map<String, Value>, number: f64) -> bool {
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    bound("minimum").is_none_or(|least| number >= least)
        && bound("exclusiveMinimum").is_none_or(|below| number > below)
        && bound("maximum").is_none_or(|most| number <= most)
        && bound("exclusiveMaximum").is_none_or(|above| number < above)
        && bound("multipleOf").is_none_or(|step| (number / step).fract() == 0.0)
}

/// Numbers are the same where their values are: `1` and `1.0`.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

fn has_type(names: &Value, value: &Value) -> bool {
    let is = |name: &Value| match (name.as_str(), value) {
        (Some("null"), Value::Null)
        | (Some("boolean"), Value::Bool(_))
        | (Some("number"), Value::Number(_))
        | (Some("string"), Value::String(_))
        | (Some("array"), Value::Array(_))
        | (Some("object"), Value::Object(_)) => true,
        (Some("integer"), Value::Number(number)) => {
            number.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        _ => false,
    };
    match names {
        Value::Array(names) => names.iter().any(is),
        name => is(name),
    }
}
