//! The example file.

use std::fmt::Write as _;

use crate::config::{
    path,
    schema::{Entry, Key, TREE, Table},
};

const WIDTH: usize = 100;

const HEAD: &str = "Configuration of sconce. Every key is here, commented out, with its default; `#` directly before \
a key is all that need go. `sconce check-config` checks a file, `sconce print-config --with-sources` tells what is in \
effect and why.";

pub(super) fn render() -> String {
    let mut out = String::new();
    comment(&mut out, HEAD);
    out.push('\n');
    table(&mut out, &TREE, &[]);
    out
}

fn table(out: &mut String, table: &Table, at: &[String]) {
    for (name, entry) in &table.entries {
        if let Entry::Key(key) = entry {
            self::key(out, key, name);
        }
    }
    for (name, entry) in &table.entries {
        let path = path::below(at, name);
        match entry {
            Entry::Key(_) => {}
            Entry::Table(inner) => {
                comment(out, &inner.description);
                let _ = writeln!(out, "[{}]\n", path::dotted(&path));
                self::table(out, inner, &path);
            }
            Entry::Tables { description, .. } => {
                comment(out, description);
                let (chosen, key) = match name.as_str() {
                    "models" => ("org/name", "backend = \"echo\""),
                    _ => ("NAME", "base_url = \"http://127.0.0.1:8001/v1\""),
                };
                let _ = writeln!(out, "# [{}]", path::dotted(&path::below(&path, chosen)));
                let _ = writeln!(out, "# {key}\n");
            }
        }
    }
}

fn key(out: &mut String, key: &Key, name: &str) {
    comment(out, &key.description);
    let _ = match &key.default {
        Some(value) => writeln!(out, "#{name} = {value}\n"),
        None => writeln!(out, "# Not set by default. A {}.\n#{name} =\n", key.kind.words(false)),
    };
}

/// Wraps the text into comment lines.
fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}
