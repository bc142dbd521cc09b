//! The layers, from the weakest to the strongest.

use std::{fs, io, path::Path};

use toml::Table;

use super::{
    dotenv,
    environment::{self, Said},
    path,
    problem::Problem,
    schema::TREE,
    source::{DEMO, FLAGS, Options, Source, Sources},
};

/// What one source says.
pub(super) struct Layer {
    pub(super) source: Source,
    pub(super) table: Table,
}

impl Layer {
    pub(super) fn of_key(source: Source, path: &[String], value: toml::Value) -> Self {
        let nest = |inner, segment: &String| toml::Value::Table(Table::from_iter([(segment.clone(), inner)]));
        match path.iter().rev().fold(value, nest) {
            toml::Value::Table(table) => Self { source, table },
            _ => Self { source, table: Table::new() },
        }
    }
}

/// All layers but the defaults. What cannot be read is a problem; the rest is read all the same.
pub(super) fn collect(sources: &Sources, options: &Options, problems: &mut Vec<Problem>) -> Said {
    let mut said = Said::default();
    said.layers.extend(sources.etc.iter().filter_map(|path| file(path, false, problems)));
    said.layers.extend(options.files.iter().filter_map(|path| file(path, true, problems)));
    let dotenv = sources.dotenv.iter().flat_map(|file| dotenv::read(file, problems)).collect();
    for variables in [dotenv, environment::from_process(&sources.env, problems)] {
        let Said { layers, warnings } = environment::read(&variables);
        said.layers.extend(layers);
        said.warnings.extend(warnings);
    }
    for (key, value) in DEMO.iter().filter(|_| options.demo) {
        let layer = |path: Vec<String>| Layer::of_key(Source::Flag("--demo"), &path, (*value).into());
        said.layers.extend(path::parse(key).map(layer));
    }
    for (flag, value) in &options.flags {
        let key = FLAGS.iter().find(|(name, _)| name == flag).and_then(|(_, key)| path::parse(key));
        said.layers.extend(key.map(|path| Layer::of_key(Source::Flag(flag), &path, value.clone())));
    }
    for assignment in &options.set {
        match set(assignment) {
            Ok((layer, warning)) => {
                said.layers.push(layer);
                said.warnings.extend(warning);
            }
            Err(what) => problems.push(Problem::of_source(Source::Set, what)),
        }
    }
    said
}

fn file(file: &Path, required: bool, problems: &mut Vec<Problem>) -> Option<Layer> {
    let source = Source::File(file.to_owned());
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        // Only a file that is not there is left out: one that may not be read could be the one with the keys.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !required => return None,
        Err(error) => {
            let what = match error.kind() {
                io::ErrorKind::NotFound => "does not exist".to_owned(),
                _ => format!("cannot be read: {error}"),
            };
            problems.push(Problem::of_source(source, what));
            return None;
        }
    };
    match toml::from_str(&text) {
        Ok(table) => Some(Layer { source, table }),
        // The error's own text quotes the line, which may hold a key.
        Err(error) => {
            let reason =
                if error.message().starts_with("duplicate key") { ": a key is given twice" } else { "" };
            let at = error.span().map_or(0, |span| span.start);
            let before = text.get(..at).unwrap_or(&text);
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            let what = format!("line {line}, column {column} is not valid TOML{reason}");
            problems.push(Problem::of_source(source, what));
            None
        }
    }
}

fn set(assignment: &str) -> Result<(Layer, Option<String>), String> {
    let (key, text) = path::split_assignment(assignment).ok_or("has no `=`; write --set key=value")?;
    let path = path::parse(key).ok_or_else(|| {
        format!("{key:?} is not a key; a name with other characters than A-Z a-z 0-9 _ - needs double quotes")
    })?;
    let key = TREE.key(&path);
    let warning = key.filter(|key| key.kind.is_secret()).map(|_| {
        format!("--set: {}: other users of this machine can read the command line", path::dotted(&path))
    });
    Ok((Layer::of_key(Source::Set, &path, environment::value(text, key)), warning))
}
