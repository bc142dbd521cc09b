//! Walks what a source says against the schema, before anything is made of it, and tells all that is wrong.

use toml::Value;

use super::{
    backend_names,
    layers::Layer,
    path,
    problem::Problem,
    schema::{Entry, Key, TREE, Table},
    suggest,
    values::{Kind, found, found_kind},
};

pub(super) fn check(layer: &Layer, problems: &mut Vec<Problem>) {
    Walk { layer, problems }.table(&TREE, &layer.table, &[]);
}

struct Walk<'a> {
    layer: &'a Layer,
    problems: &'a mut Vec<Problem>,
}

impl Walk<'_> {
    fn table(&mut self, schema: &Table, table: &toml::Table, at: &[String]) {
        for (name, value) in table {
            let path = path::below(at, name);
            match schema.entries.get(name) {
                None => self.unknown(&path),
                Some(Entry::Key(key)) => self.key(key, value, &path),
                Some(Entry::Table(inner)) => self.inner(inner, value, &path),
                Some(Entry::Tables { each, .. }) => match value.as_table() {
                    Some(tables) => {
                        for (name, value) in tables {
                            self.inner(each, value, &path::below(&path, name));
                        }
                    }
                    None => self.not_a_table(value, &path),
                },
            }
        }
    }

    fn inner(&mut self, schema: &Table, value: &Value, path: &[String]) {
        match value.as_table() {
            Some(table) => self.table(schema, table, path),
            None => self.not_a_table(value, path),
        }
    }

    fn key(&mut self, key: &Key, value: &Value, path: &[String]) {
        let dotted = path::dotted(path);
        match (&key.kind, value) {
            (Kind::Choice(_), Value::String(name)) if is_backend(path) => {
                if let Some(refusal) = backend_names::refusal(name) {
                    self.report(dotted, refusal);
                }
            }
            (Kind::List(each), Value::Array(values)) => {
                for (n, value) in values.iter().enumerate().filter(|(_, value)| !each.accepts(value)) {
                    self.mismatch(each, value, format!("{dotted}[{n}]"));
                }
            }
            (kind, value) if !kind.accepts(value) => self.mismatch(kind, value, dotted),
            _ => {}
        }
    }

    fn mismatch(&mut self, kind: &Kind, value: &Value, key: String) {
        let found = if kind.is_secret() { found_kind(value).to_owned() } else { found(value) };
        self.report(key, format!("expected {}, found {found}", kind.expected()));
    }

    /// The value stays unseen: it may be a secret that was put one level too high.
    fn not_a_table(&mut self, value: &Value, path: &[String]) {
        self.report(path::dotted(path), format!("expected a table, found {}", found_kind(value)));
    }

    fn unknown(&mut self, path: &[String]) {
        let what = match suggest::key(&TREE, path) {
            Some(right) => format!("unknown key; did you mean `{}`?", self.layer.source.spell(&right)),
            None => "unknown key".to_owned(),
        };
        self.report(path::dotted(path), what);
    }

    fn report(&mut self, key: String, what: String) {
        self.problems.push(Problem::of_key(&self.layer.source, key, what));
    }
}

fn is_backend(path: &[String]) -> bool {
    match path {
        [key] => key == "backend",
        [table, _, key] => table == "models" && key == "backend",
        _ => false,
    }
}
