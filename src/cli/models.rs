//! `sconce models`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use indexmap::IndexMap;

use super::{Failure, Options, cached};
use crate::{
    backend::{
        Config, Kind,
        candle::inspect::{Absent, Report, inspect, locate},
    },
    config::Loaded,
};

/// What to do with models.
#[derive(Subcommand)]
pub enum Command {
    /// Download models of the Hugging Face hub into its cache, or bring them up to date.
    ///
    /// Without ID it takes all models of the configuration that are the hub's. What was begun is gone on with.
    #[cfg(feature = "hub")]
    Pull(cached::Pull),
    /// Print the models in the cache of the Hugging Face hub.
    List(cached::List),
    /// Remove a model from the cache of the Hugging Face hub.
    Remove(cached::Remove),
    /// Print what a model is, what it needs, and what its `system_fingerprint` is made of.
    ///
    /// Reads headers and hashes the weights. Without PATH it takes all models of the configuration that run on this machine.
    Inspect(Inspect),
}

#[derive(Args)]
pub struct Inspect {
    #[command(flatten)]
    pub(super) options: Options,
    #[command(flatten)]
    pub(super) wanted: Wanted,
}

#[derive(Args)]
pub(super) struct Wanted {
    /// A model's directory, a GGUF file, the id of a model of the configuration, or one of the Hugging Face hub that is in
    /// the cache.
    path: Option<PathBuf>,
    /// Print a JSON list with one object a model.
    #[arg(long)]
    json: bool,
}

impl Wanted {
    /// # Errors
    /// What cannot be looked at, and why.
    pub(super) fn inspect(&self, loaded: &Loaded) -> Result<String, Failure> {
        let served = loaded.config.served();
        let budget = loaded.config.memory_budget.map(|budget| budget.0);
        let look = |id: Option<&str>, config: &Config| {
            let adapters = id.map(|id| Config::adapters_of(id, &served)).unwrap_or_default();
            look(id, config, &adapters, budget)
        };
        let reports = match &self.path {
            None => {
                let local = served
                    .iter()
                    .filter(|(_, config)| config.backend == Kind::Candle && config.base().is_none());
                local.map(|(id, config)| look(Some(id.as_str()), config)).collect::<Result<Vec<_>, _>>()?
            }
            Some(path) => {
                let id = path.to_str().and_then(|id| served.get_key_value(id));
                vec![match id {
                    Some((id, config)) => look(Some(id.as_str()), config)?,
                    None => {
                        let mut config = loaded.config.model.clone();
                        config.candle.source = Some(path.clone());
                        look(None, &config)?
                    }
                }]
            }
        };
        if reports.is_empty() {
            let message =
                "the configuration has no model that runs on this machine: name a directory or a file";
            return Err(Failure::NoInput(message.to_owned()));
        }
        if self.json {
            let json = serde_json::to_string_pretty(&reports);
            return json.map(|json| json + "\n").map_err(|error| Failure::Model(error.to_string()));
        }
        Ok(reports.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }
}

fn look(
    id: Option<&str>,
    config: &Config,
    adapters: &IndexMap<String, Config>,
    budget: Option<u64>,
) -> Result<Report, Failure> {
    if let (Some(id), Some(base)) = (id, config.base()) {
        return Err(Failure::Model(format!("'{id}' is an adapter of '{base}', which can be looked at")));
    }
    let path = locate(id, config).map_err(|absent| Failure::NoInput(told(&absent, id)))?;
    inspect(id, &path, config, adapters, budget).map_err(|reason| {
        Failure::Model(match id {
            Some(id) => format!("the model '{id}' cannot be served: {reason}"),
            None => reason,
        })
    })
}

fn told(absent: &Absent, id: Option<&str>) -> String {
    match (absent, id) {
        (Absent::Path(path), Some(id)) => {
            format!("the model '{id}' is to be at {}, where nothing is", path.display())
        }
        (Absent::Path(path), None) => {
            format!("{}: neither a path nor a model of the configuration", path.display())
        }
        (absent, Some(id)) => format!("the model '{id}': {absent}"),
        (absent, None) => absent.to_string(),
    }
}
