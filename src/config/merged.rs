//! The sum of the layers, and who said what. figment lives in this file.

use std::collections::HashMap;

use figment::{
    Figment, Metadata, Profile, Provider,
    error::Kind,
    providers::Serialized,
    value::{Dict, Map, Value},
};
use toml::Table;

use super::{
    Config,
    layers::Layer,
    path,
    problem::Problem,
    schema::{Entry, TREE},
    source::Source,
};

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Serialized::defaults(&self.table).data()
    }
}

/// The sum of the layers over the defaults.
pub(super) struct Merged {
    /// As it was said.
    given: Value,
    /// With what each table of `models` takes from the top level.
    resolved: Value,
    figment: Figment,
    /// Model ids in the order in which they were first named; figment sorts them.
    models: Vec<String>,
}

impl Merged {
    pub(super) fn new(layers: Vec<Layer>) -> Result<Self, Problem> {
        let models = layers
            .iter()
            .filter_map(|layer| layer.table.get("models")?.as_table())
            .flat_map(|models| models.keys().cloned())
            .collect();
        let defaults = Table::try_from(Config::default())
            .map_err(|error| Problem::of_source(Source::Default, error.to_string()))?;
        let mut figment = Figment::from(Layer { source: Source::Default, table: defaults });
        for layer in layers {
            figment = figment.merge(layer);
        }
        let given = figment.find_value("").map_err(|error| problem(&error))?;
        let resolved = inherit(given.clone());
        Ok(Self { given, resolved, figment, models })
    }

    pub(super) fn extract(&self) -> Result<Config, Problem> {
        let mut config: Config = self.resolved.deserialize().map_err(|error| problem(&error))?;
        let place = |id: &String| self.models.iter().position(|named| named == id);
        config.models.sort_by(|a, _, b, _| place(a).cmp(&place(b)));
        Ok(config)
    }

    /// Who said the key's value, as it was said: a model's table answers only for what it holds itself.
    pub(super) fn said_by(&self, path: &[String]) -> Option<String> {
        let value = path.iter().try_fold(&self.given, |value, segment| value.as_dict()?.get(segment))?;
        Some(self.source(value))
    }

    /// Who said each value that is in effect.
    pub(super) fn origins(&self) -> HashMap<Vec<String>, String> {
        let mut origins = HashMap::new();
        self.walk(&self.resolved, Vec::new(), &mut origins);
        origins
    }

    fn walk(&self, value: &Value, path: Vec<String>, into: &mut HashMap<Vec<String>, String>) {
        match value {
            Value::Dict(_, dict) => {
                for (name, value) in dict {
                    self.walk(value, path::below(&path, name), into);
                }
            }
            leaf => {
                into.insert(path, self.source(leaf));
            }
        }
    }

    fn source(&self, value: &Value) -> String {
        let metadata = self.figment.get_metadata(value.tag());
        metadata.map_or_else(|| Source::Default.to_string(), |metadata| metadata.name.to_string())
    }
}

/// Gives each table of `models` the top level's values for the keys that it does not have.
fn inherit(root: Value) -> Value {
    let Value::Dict(tag, mut root) = root else { return root };
    let Some(Entry::Tables { each, .. }) = TREE.entries.get("models") else { return Value::Dict(tag, root) };
    let top: Dict = root
        .iter()
        .filter(|(name, _)| each.entries.contains_key(*name))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    if let Some(Value::Dict(_, models)) = root.get_mut("models") {
        for model in models.values_mut() {
            *model = overlay(Value::Dict(model.tag(), top.clone()), model.clone());
        }
    }
    Value::Dict(tag, root)
}

fn overlay(below: Value, above: Value) -> Value {
    match (below, above) {
        (Value::Dict(_, mut below), Value::Dict(tag, above)) => {
            for (name, value) in above {
                let value = match below.remove(&name) {
                    Some(old) => overlay(old, value),
                    None => value,
                };
                below.insert(name, value);
            }
            Value::Dict(tag, below)
        }
        (_, above) => above,
    }
}

/// What the walk over the schema did not foresee: a type whose own reading refuses the value. Its other kinds of
/// error show the value, which may be a secret.
fn problem(error: &figment::Error) -> Problem {
    let what = match &error.kind {
        Kind::Message(message) if !TREE.key(&error.path).is_some_and(|key| key.kind.is_secret()) => {
            message.clone()
        }
        _ => "has a value that cannot be taken".to_owned(),
    };
    let source = error.metadata.as_ref().map(|metadata| metadata.name.to_string());
    Problem { source, key: Some(path::dotted(&error.path)), what }
}
