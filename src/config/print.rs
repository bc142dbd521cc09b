//! The configuration in effect, as TOML that can be read again.

use std::fmt::Write as _;

use toml::Value;

use super::{
    Loaded, path,
    schema::{Entry, Key, TREE, Table},
};

pub(super) fn print(loaded: &Loaded, sources: bool) -> String {
    // The serialised form: secrets are already covered in it.
    let values = toml::Table::try_from(&loaded.config).unwrap_or_default();
    let mut printer = Printer { loaded, sources, out: String::new() };
    printer.table(&TREE, &values, &[]);
    printer.out
}

struct Printer<'a> {
    loaded: &'a Loaded,
    sources: bool,
    out: String,
}

impl Printer<'_> {
    fn table(&mut self, schema: &Table, values: &toml::Table, at: &[String]) {
        let below = |name: &String| path::below(at, name);
        for (name, entry) in &schema.entries {
            if let Entry::Key(key) = entry {
                self.key(key, values.get(name), &below(name));
            }
        }
        for (name, entry) in &schema.entries {
            let values = values.get(name).and_then(Value::as_table);
            match (entry, values) {
                (Entry::Table(inner), Some(values)) => self.section(inner, values, &below(name)),
                (Entry::Tables { each, .. }, Some(tables)) => {
                    for (id, values) in tables.iter().filter_map(|(id, table)| Some((id, table.as_table()?)))
                    {
                        self.section(each, values, &path::below(&below(name), id));
                    }
                }
                _ => {}
            }
        }
    }

    fn section(&mut self, schema: &Table, values: &toml::Table, path: &[String]) {
        self.line(&format!("\n[{}]", path::dotted(path)));
        self.table(schema, values, path);
    }

    fn key(&mut self, key: &Key, value: Option<&Value>, path: &[String]) {
        let Some(name) = path.last() else { return };
        let origin = match self.loaded.origins.get(path) {
            Some(source) if self.sources => format!("  # from {source}"),
            _ => String::new(),
        };
        match value {
            // Both at once would be refused when this is read again.
            _ if name == "model_id" && !self.loaded.config.models.is_empty() => {
                self.line("# model_id is not used: [models] names the models");
            }
            None => self.line(&format!("# {name} is not set")),
            Some(Value::Array(list)) if list.is_empty() => self.line(&format!("{name} = []{origin}")),
            Some(value) if key.kind.is_secret() => self.line(&format!("# {name} = {value}{origin}")),
            Some(value) => self.line(&format!("{name} = {value}{origin}")),
        }
    }

    fn line(&mut self, text: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "{text}");
    }
}
