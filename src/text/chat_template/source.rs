//! Where a model keeps its chat templates and the special tokens that they write.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::text::LoadError;

/// A model's templates by name, and its special tokens by variable.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) templates: Vec<(String, String)>,
    pub(super) special_tokens: Map<String, Value>,
    /// The file that has the first template.
    pub(super) origin: PathBuf,
}

impl Sources {
    /// Reads what a model's directory has. As in transformers, template files replace what the configuration says.
    pub(super) fn read(directory: &Path) -> Result<Self, LoadError> {
        let configuration = directory.join("tokenizer_config.json");
        let config = json(&configuration)?;
        let mut special_tokens = special_tokens(&json(&directory.join("special_tokens_map.json"))?);
        special_tokens.extend(self::special_tokens(&config));
        let mut origin = directory.join("chat_template.jinja");
        let mut templates = files(directory)?;
        if templates.is_empty() {
            templates = of_config(&config["chat_template"]);
            origin = configuration;
        }
        if templates.is_empty() {
            // Older multimodal models keep it in a file of its own.
            origin = directory.join("chat_template.json");
            templates = of_config(&json(&origin)?["chat_template"]);
        }
        Ok(Self { templates, special_tokens, origin })
    }
}

fn files(directory: &Path) -> Result<Vec<(String, String)>, LoadError> {
    let mut templates = Vec::new();
    if let Some(source) = text(&directory.join("chat_template.jinja"))? {
        templates.push(("default".to_owned(), source));
    }
    let additional = directory.join("additional_chat_templates");
    let entries = match fs::read_dir(&additional) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(templates),
        Err(error) => return Err(LoadError::new(&additional, error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| LoadError::new(&additional, error))?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).map(str::to_owned);
        if path.extension().is_some_and(|extension| extension == "jinja")
            && let Some(name) = name
            && let Some(source) = text(&path)?
        {
            templates.push((name, source));
        }
    }
    Ok(templates)
}

/// The value of `chat_template`: one template, or a list of named ones.
fn of_config(value: &Value) -> Vec<(String, String)> {
    match value {
        Value::String(source) => vec![("default".to_owned(), source.clone())],
        Value::Array(named) => named
            .iter()
            .filter_map(|entry| {
                Some((entry["name"].as_str()?.to_owned(), entry["template"].as_str()?.to_owned()))
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Every `…_token` of a configuration: a string, or an object with the string as its `content`.
pub(super) fn special_tokens(config: &Value) -> Map<String, Value> {
    let named = [config, &config["extra_special_tokens"]];
    let named = named.into_iter().filter_map(Value::as_object).flatten();
    named
        .filter(|(name, _)| name.ends_with("_token"))
        .filter_map(|(name, token)| {
            let token = token.as_str().or_else(|| token["content"].as_str())?;
            Some((name.clone(), token.into()))
        })
        .collect()
}

/// The contents of a file, `Null` where there is none.
fn json(path: &Path) -> Result<Value, LoadError> {
    let Some(text) = text(path)? else {
        return Ok(Value::Null);
    };
    serde_json::from_str(&text).map_err(|error| LoadError::new(path, error))
}

fn text(path: &Path) -> Result<Option<String>, LoadError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LoadError::new(path, error)),
    }
}
