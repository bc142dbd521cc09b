//! The configuration's own JSON schema, read into the tree that checking, printing and documenting walk.

use std::sync::LazyLock;

use indexmap::IndexMap;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::{Config, values::Kind};

/// A table of keys. `description` and the order of `entries` are those of the Rust types.
pub(super) struct Table {
    pub(super) description: String,
    pub(super) entries: IndexMap<String, Entry>,
}

pub(super) enum Entry {
    Key(Key),
    Table(Table),
    /// Tables of one form under names that people choose, such as `[models."id"]`.
    Tables {
        description: String,
        each: Table,
    },
}

pub(super) struct Key {
    pub(super) description: String,
    pub(super) kind: Kind,
    /// What a value must also fulfil, in words.
    pub(super) range: Option<String>,
    /// `None` where the key is not set by default.
    pub(super) default: Option<toml::Value>,
}

/// The tree of [`Config`].
pub(super) static TREE: LazyLock<Table> = LazyLock::new(|| {
    let root = json();
    match root.as_object().map(|root| entry("the configuration", root)) {
        Some(Entry::Table(table)) => table,
        _ => panic!("the schema of the configuration is no table"),
    }
});

/// The JSON schema of the configuration, with descriptions and defaults.
pub(super) fn json() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Config>().to_value()
}

impl Table {
    /// The entry at `path`; inside a table of tables, whatever the name.
    pub(super) fn find(&self, path: &[String]) -> Option<&Entry> {
        let (first, rest) = path.split_first()?;
        match (self.entries.get(first)?, rest) {
            (entry, []) => Some(entry),
            (Entry::Table(table), rest) => table.find(rest),
            (Entry::Tables { each, .. }, [_, rest @ ..]) if !rest.is_empty() => each.find(rest),
            _ => None,
        }
    }

    /// The key at `path`.
    pub(super) fn key(&self, path: &[String]) -> Option<&Key> {
        match self.find(path)? {
            Entry::Key(key) => Some(key),
            Entry::Table(_) | Entry::Tables { .. } => None,
        }
    }
}

/// # Panics
/// Panics on a schema of a form that nothing here knows: a mistake in a room's `Config`, which every run would meet.
fn entry(name: &str, schema: &Map<String, Value>) -> Entry {
    let description = description(schema);
    let schema = without_null(schema);
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        let entries = properties
            .iter()
            .filter_map(|(name, schema)| Some((name.clone(), entry(name, schema.as_object()?))))
            .collect();
        return Entry::Table(Table { description, entries });
    }
    if let Some(each) = schema.get("additionalProperties").and_then(Value::as_object) {
        return match entry(name, each) {
            Entry::Table(each) => Entry::Tables { description, each },
            Entry::Key(_) | Entry::Tables { .. } => {
                panic!("the schema of `{name}` has a form not known here")
            }
        };
    }
    let Some(kind) = Kind::from_schema(schema) else {
        panic!("the schema of `{name}` has a form not known here");
    };
    let default = schema.get("default").filter(|default| !default.is_null());
    Entry::Key(Key {
        description,
        range: range(schema, &kind),
        default: default.and_then(|default| toml::Value::try_from(default).ok()),
        kind,
    })
}

/// Doc comments are wrapped as source code is; here a description is one line a paragraph.
fn description(schema: &Map<String, Value>) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n")
}

/// What an `Option` may be besides null, where schemars writes that as `anyOf`.
fn without_null(schema: &Map<String, Value>) -> &Map<String, Value> {
    let alternatives = schema.get("anyOf").and_then(Value::as_array);
    alternatives
        .and_then(|all| {
            all.iter().filter_map(Value::as_object).find(|one| one.get("type") != Some(&"null".into()))
        })
        .unwrap_or(schema)
}

fn range(schema: &Map<String, Value>, kind: &Kind) -> Option<String> {
    let number = |name: &str| schema.get(name).and_then(Value::as_number);
    // Every unsigned integer has this minimum; saying so tells nobody anything.
    let minimum =
        number("minimum").filter(|n| !(matches!(kind, Kind::Integer { .. }) && n.as_u64() == Some(0)));
    match (minimum, number("maximum")) {
        (Some(least), Some(most)) => return Some(format!("{least} to {most}")),
        (Some(least), None) => return Some(format!("at least {least}")),
        (None, Some(most)) => return Some(format!("at most {most}")),
        (None, None) => {}
    }
    if let Some(least) = number("minItems") {
        return Some(format!("at least {least} of them"));
    }
    schema.get("pattern").and_then(Value::as_str).map(|pattern| format!("matches `{pattern}`"))
}
