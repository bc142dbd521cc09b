//! A model's `config.json`, as Hugging Face transformers 4 and 5 write it. GGUF metadata is brought into the same form.

use std::{fmt, path::Path};

use serde_json::{Map, Value};

/// What is wrong with a configuration, naming the key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("config.json is no JSON object: {0}")]
    Syntax(String),
    #[error("the configuration has no {0}")]
    Missing(String),
    #[error("{key} is {value}, which is not {expected}")]
    Invalid { key: String, value: String, expected: &'static str },
    #[error("{0} is not supported")]
    Unsupported(String),
    #[error("architecture {found:?} is not supported; supported are {}", supported.join(", "))]
    Architecture { found: String, supported: Vec<&'static str> },
}

/// An object of the configuration, read by typed keys. A key that is `null` is absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config(Map<String, Value>);

impl Config {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// When it is no JSON object.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        serde_json::from_str(text).map(Self).map_err(|error| ConfigError::Syntax(error.to_string()))
    }

    /// Reads `config.json` of a directory.
    ///
    /// # Errors
    /// When it cannot be read, or is no JSON object.
    pub fn read(directory: &Path) -> Result<Self, ConfigError> {
        let path = directory.join("config.json");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| ConfigError::Syntax(format!("{}: {error}", path.display())))?;
        Self::parse(&text)
    }

    pub(super) fn new(map: Map<String, Value>) -> Self {
        Self(map)
    }

    pub(super) fn model_type(&self) -> Result<&str, ConfigError> {
        self.text("model_type")?.ok_or_else(|| ConfigError::Missing("model_type".to_owned()))
    }

    /// Takes a key of `other` that is not here.
    pub(super) fn inherit(&mut self, other: &Self, key: &str) {
        if let (None, Some(value)) = (self.value(key), other.value(key)) {
            self.0.insert(key.to_owned(), value.clone());
        }
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// Sets a key that is absent.
    pub(super) fn set_default(&mut self, key: &str, value: impl Into<Value>) {
        if !self.has(key) {
            self.0.insert(key.to_owned(), value.into());
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| invalid(key, value, expected))
    }

    /// A whole number under one of the names, the first that is there.
    pub(super) fn find_size(&self, keys: &[&str]) -> Result<Option<usize>, ConfigError> {
        for key in keys {
            let read = |value: &Value| usize::try_from(value.as_u64()?).ok();
            if let Some(size) = self.typed(key, "a whole number", read)? {
                return Ok(Some(size));
            }
        }
        Ok(None)
    }

    /// A number above 0 that must be there.
    pub(super) fn size(&self, keys: &[&str]) -> Result<usize, ConfigError> {
        match self.find_size(keys)? {
            Some(0) => Err(invalid(keys[0], 0, "more than 0")),
            Some(size) => Ok(size),
            None => Err(ConfigError::Missing(keys.join(" or "))),
        }
    }

    /// Keys in it.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn find_number(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        self.typed(key, "a number", Value::as_f64)
    }

    #[expect(clippy::cast_possible_truncation, reason = "parameters of an f32 model")]
    pub(super) fn number_or(&self, key: &str, default: f32) -> Result<f32, ConfigError> {
        Ok(self.find_number(key)?.map_or(default, |number| number as f32))
    }

    pub(super) fn flag_or(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        Ok(self.typed(key, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, ConfigError> {
        self.typed(key, "a string", Value::as_str)
    }

    pub(super) fn object(&self, key: &str) -> Result<Option<Self>, ConfigError> {
        self.typed(key, "an object", |value| value.as_object().cloned().map(Self))
    }

    pub(super) fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>, ConfigError> {
        self.typed(key, "a list of numbers", |value| value.as_array()?.iter().map(Value::as_f64).collect())
    }

    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<&str>>, ConfigError> {
        self.typed(key, "a list of strings", |value| value.as_array()?.iter().map(Value::as_str).collect())
    }
}

fn invalid(key: &str, value: impl fmt::Display, expected: &'static str) -> ConfigError {
    ConfigError::Invalid { key: key.to_owned(), value: value.to_string(), expected }
}
