//! The configuration: its layers, its errors, its reference, and the commands that show it.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod errors;
mod keys;
mod layers;
mod meaning;
mod models;
mod predecessor;
mod program;
mod reference;
mod secrets;

use std::{fs, path::PathBuf};

use sconce::config::{self, Config, Errors, Loaded, Options, Sources};
use serde_json::Value;
use tempfile::TempDir;

/// A place with files, an environment and a command line of its own.
struct Place {
    directory: TempDir,
    sources: Sources,
    options: Options,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sources = Sources {
            etc: Some(directory.path().join("etc.toml")),
            dotenv: Some(directory.path().join(".env")),
            env: Vec::new(),
        };
        Self { directory, sources, options: Options::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn etc(self, text: &str) -> Self {
        fs::write(self.path("etc.toml"), text).unwrap();
        self
    }

    /// Adds a file of `--config`.
    fn file(mut self, name: &str, text: &str) -> Self {
        fs::write(self.path(name), text).unwrap();
        self.options.files.push(self.path(name));
        self
    }

    fn dotenv(self, text: &str) -> Self {
        fs::write(self.path(".env"), text).unwrap();
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.env.push((name.into(), value.into()));
        self
    }

    fn flag(mut self, name: &'static str, value: &str) -> Self {
        self.options.flags.push((name, value.into()));
        self
    }

    fn set(mut self, assignment: impl Into<String>) -> Self {
        self.options.set.push(assignment.into());
        self
    }

    fn load(&self) -> Result<Loaded, Errors> {
        config::load(&self.sources, &self.options)
    }

    #[track_caller]
    fn config(&self) -> Config {
        self.load().unwrap_or_else(|errors| panic!("refused: {errors}")).config
    }

    #[track_caller]
    fn warnings(&self) -> Vec<String> {
        self.load().unwrap_or_else(|errors| panic!("refused: {errors}")).warnings
    }

    /// The problems, a line each.
    #[track_caller]
    fn problems(&self) -> Vec<String> {
        self.load().expect_err("was accepted").to_string().lines().map(str::to_owned).collect()
    }
}

/// The value at `a.b.c`.
fn at(config: &Config, key: &str) -> Value {
    let value = serde_json::to_value(config).unwrap();
    value.pointer(&format!("/{}", key.replace('.', "/"))).cloned().unwrap_or(Value::Null)
}

#[track_caller]
fn assert_has(lines: &[String], parts: &[&str]) {
    let found = lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(found, "no line with all of {parts:?} in {lines:#?}");
}
