//! The configuration: every room's own `Config` in one, and the layers that it is read from.
//!
//! A value comes from the strongest layer that has one: the defaults, `/etc/sconce/config.toml`, the files of
//! `--config`, `.env`, the predecessor's `APP_*` variables, `SCONCE_*` variables, flags. Each layer is walked against
//! the configuration's own JSON schema first ([`check`]); a key is thus documented, defaulted and typed in one place,
//! the field of its room. Nothing here shows a secret.

mod backend_names;
mod check;
mod dotenv;
mod environment;
mod layers;
mod meaning;
mod merged;
mod path;
mod print;
mod problem;
pub mod reference;
mod schema;
mod source;
mod suggest;
mod values;

use std::collections::{BTreeMap, HashMap};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use problem::{Errors, Problem};
pub use source::{Options, Sources};

use crate::{
    api::{auth, cors, limits},
    backend, http, telemetry,
    units::ByteSize,
};

/// The whole configuration of the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false))]
pub struct Config {
    /// Path under which the API stands, such as `/v1`. Empty: at the root.
    pub api_prefix: String,
    /// Id of the one model that is served. For several, leave it out and give each a table `[models."id"]`.
    pub model_id: String,
    #[serde(flatten)]
    pub model: backend::Config,
    /// Models to serve side by side, each under its id. What a model's table does not say it takes from the top
    /// level.
    #[schemars(with = "BTreeMap<String, backend::Config>")]
    pub models: IndexMap<String, backend::Config>,
    /// Memory that the loaded models take together: weights, KV caches and activations. Where a model has no room, lazy
    /// ones that are idle are unloaded, the least recently used first. Unset: what the machine and the control group allow.
    pub memory_budget: Option<ByteSize>,
    pub server: http::Config,
    pub auth: auth::Config,
    pub limits: limits::Config,
    pub cors: cors::Config,
    pub log: telemetry::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            api_prefix: "/v1".to_owned(),
            model_id: "gpt-oss-20b".to_owned(),
            model: backend::Config::default(),
            models: IndexMap::new(),
            memory_budget: None,
            server: http::Config::default(),
            auth: auth::Config::default(),
            limits: limits::Config::default(),
            cors: cors::Config::default(),
            log: telemetry::Config::default(),
        }
    }
}

impl Config {
    /// The models to serve, in the configuration's order: those of `models`, or the one that `model_id` names.
    #[must_use]
    pub fn served(&self) -> IndexMap<String, backend::Config> {
        if self.models.is_empty() {
            return IndexMap::from([(self.model_id.clone(), self.model.clone())]);
        }
        self.models.clone()
    }
}

/// A configuration that has been read and found good.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// What is odd without being wrong, for the caller to log: one line each.
    pub warnings: Vec<String>,
    /// Who said each value.
    origins: HashMap<Vec<String>, String>,
}

impl Loaded {
    /// The configuration in effect as TOML, its secrets covered; with `sources`, each line says where its value comes
    /// from.
    #[must_use]
    pub fn print(&self, sources: bool) -> String {
        print::print(self, sources)
    }
}

/// Reads the configuration.
///
/// # Errors
/// Returns everything that is wrong in any layer; if nothing is, everything that is wrong with their sum.
pub fn load(sources: &Sources, options: &Options) -> Result<Loaded, Errors> {
    let mut problems = Vec::new();
    let said = layers::collect(sources, options, &mut problems);
    for layer in &said.layers {
        check::check(layer, &mut problems);
    }
    Errors::check(problems)?;
    let merged = merged::Merged::new(said.layers).map_err(Errors::from)?;
    let mut config = merged.extract().map_err(Errors::from)?;
    let prefix = config.api_prefix.trim_end_matches('/').len();
    config.api_prefix.truncate(prefix);
    Errors::check(meaning::check(&config, &merged))?;
    Ok(Loaded { config, warnings: said.warnings, origins: merged.origins() })
}
