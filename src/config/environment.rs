//! Environment variables: our own, `SCONCE_*`, and the predecessor's, `APP_*`.

use std::ffi::OsString;

use toml::Value;

use super::{
    layers::Layer,
    path,
    problem::Problem,
    schema::{Key, TREE},
    source::Source,
    suggest,
    values::Kind,
};

pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) source: Source,
}

const PREFIX: &str = "SCONCE_";
const PREDECESSORS_PREFIX: &str = "APP_";

/// The predecessor's variables and our keys.
pub(super) const PREDECESSORS: [(&str, &str); 9] = [
    ("APP_API_KEY", "auth.keys"),
    ("APP_MODEL_ID", "model_id"),
    ("APP_BACKEND", "backend"),
    ("APP_API_PREFIX", "api_prefix"),
    ("APP_MAX_TOKENS", "max_tokens"),
    ("APP_TEMPERATURE", "temperature"),
    ("APP_TOP_P", "top_p"),
    ("APP_VLLM_BASE_URL", "proxy.base_url"),
    ("APP_VLLM_API_KEY", "proxy.api_key"),
];

/// What one set of variables says.
#[derive(Default)]
pub(super) struct Said {
    pub(super) layers: Vec<Layer>,
    pub(super) warnings: Vec<String>,
}

/// Those of the process's variables that are text, in the order of their names, which makes a configuration that
/// depends on their order at least repeatable.
pub(super) fn from_process(env: &[(OsString, OsString)], problems: &mut Vec<Problem>) -> Vec<Variable> {
    let mut variables = Vec::new();
    for (name, value) in env {
        let Some(name) = name.to_str() else { continue };
        let source = Source::Variable(name.to_owned());
        match value.to_str() {
            Some(value) => {
                variables.push(Variable { name: name.to_owned(), value: value.to_owned(), source })
            }
            None if strip_prefix(name, PREFIX).is_some() || predecessors(name).is_some() => {
                problems.push(Problem::of_source(source, "is not UTF-8"));
            }
            None => {}
        }
    }
    variables.sort_by(|a, b| a.name.cmp(&b.name));
    variables
}

/// One layer a variable: first the predecessor's, then ours, which are stronger.
pub(super) fn read(variables: &[Variable]) -> Said {
    let mut said = Said::default();
    for variable in variables {
        read_predecessors(variable, &mut said);
    }
    for variable in variables {
        let Some(name) = strip_prefix(&variable.name, PREFIX) else { continue };
        if is_foreign(name) {
            continue;
        }
        let path = path::from_variable(&TREE, name);
        let key = TREE.key(&path);
        if !counts_as_unset(&variable.value, key) {
            let value = value(&variable.value, key);
            said.layers.push(Layer::of_key(variable.source.clone(), &path, value));
        }
    }
    said
}

/// Text as the type of its key wants it. What is no key stays text, for the check to report.
pub(super) fn value(text: &str, key: Option<&Key>) -> Value {
    key.map_or_else(|| Value::String(text.to_owned()), |key| key.kind.read(text))
}

fn read_predecessors(variable: &Variable, said: &mut Said) {
    let Some((name, key)) = predecessors(&variable.name) else {
        said.warnings.extend(misspelt(variable));
        return;
    };
    let path: Vec<String> = key.split('.').map(str::to_owned).collect();
    let key = TREE.key(&path);
    if counts_as_unset(&variable.value, key) {
        return;
    }
    let value = match name {
        // One key, whatever characters it has: not a list, and not a name and a key.
        "APP_API_KEY" => {
            let name = if variable.value.contains(':') { "default:" } else { "" };
            Value::Array(vec![Value::String(format!("{name}{}", variable.value))])
        }
        _ => value(&variable.value, key),
    };
    said.layers.push(Layer::of_key(variable.source.clone(), &path, value));
}

fn predecessors(name: &str) -> Option<(&'static str, &'static str)> {
    PREDECESSORS.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
}

fn strip_prefix<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = name.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// `APP_APIKEY` would leave the port open without a word.
fn misspelt(variable: &Variable) -> Option<String> {
    let name = strip_prefix(&variable.name, PREDECESSORS_PREFIX)?;
    let known = PREDECESSORS.iter().map(|(known, _)| &known[PREDECESSORS_PREFIX.len()..]);
    let right = suggest::nearest(name, known)?;
    Some(format!("{}: has no meaning; did you mean `{PREDECESSORS_PREFIX}{right}`?", variable.source))
}

/// An empty variable is how many a tool says that there is none. Only a string can be meant to be empty.
fn counts_as_unset(text: &str, key: Option<&Key>) -> bool {
    text.is_empty() && !matches!(key, Some(Key { kind: Kind::Text, default: Some(_), .. }))
}

/// Variables with our prefix that others set: Kubernetes for a service called `sconce`, and our own build.
fn is_foreign(name: &str) -> bool {
    let numbered = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    matches!(name, "REVISION" | "SERVICE_HOST" | "SERVICE_PORT" | "PORT")
        || name.starts_with("SERVICE_PORT_")
        || name.strip_prefix("PORT_").is_some_and(numbered)
}
