//! `sconce models pull | list | remove`: the cache of the Hugging Face hub.

use std::fmt::Write as _;

use clap::Args;

use super::Failure;
#[cfg(feature = "hub")]
use super::Options;
use crate::hub::{Cached, Error, Hub, HubId, Removed, size};
#[cfg(feature = "hub")]
use crate::{
    backend::{Kind, candle::inspect::hub_id},
    config::Loaded,
    hub::News,
};

#[cfg(feature = "hub")]
#[derive(Args)]
pub struct Pull {
    #[command(flatten)]
    pub(super) options: Options,
    #[command(flatten)]
    pub(super) wanted: Wanted,
}

#[cfg(feature = "hub")]
#[derive(Args)]
pub(super) struct Wanted {
    /// `org/name`, `org/name@revision`, `org/name:file.gguf`, or the id of a model of the configuration.
    ids: Vec<String>,
}

#[derive(Args)]
pub struct List {
    /// Print a JSON list with one object a model.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Remove {
    /// `org/name` with all its revisions, `org/name@revision`, or `org/name:file.gguf`.
    #[arg(required = true)]
    ids: Vec<HubId>,
}

#[cfg(feature = "hub")]
impl Wanted {
    /// Where each model lies, a line each.
    pub(super) fn pull(&self, loaded: &Loaded) -> Result<String, Failure> {
        let served = loaded.config.served();
        let of_configuration = |id: &str| hub_id(id, served.get(id)?);
        let ids: Vec<HubId> = if self.ids.is_empty() {
            let local =
                served.iter().filter(|(_, config)| config.backend == Kind::Candle && config.base().is_none());
            local.filter_map(|(id, _)| of_configuration(id)).collect()
        } else {
            let read =
                |id: &String| of_configuration(id).map_or_else(|| id.parse().map_err(Failure::NoInput), Ok);
            self.ids.iter().map(read).collect::<Result<_, _>>()?
        };
        if ids.is_empty() {
            let message = "the configuration has no model of the Hugging Face hub: name one, as org/name";
            return Err(Failure::NoInput(message.to_owned()));
        }
        let hub = Hub::of_process().map_err(Failure::Hub)?;
        let mut paths = String::new();
        for id in &ids {
            let path = hub.fetch(id, |news| tell(id, news)).map_err(Failure::Hub)?;
            let _ = writeln!(paths, "{}", path.display());
        }
        Ok(paths)
    }
}

/// The bar shows how far it is.
#[cfg(feature = "hub")]
fn tell(id: &HubId, news: News<'_>) {
    match news {
        News::Progress(_) => {}
        News::Tenth(text) | News::Trouble(text) => eprintln!("sconce: {id}: {text}"),
    }
}

impl List {
    pub(super) fn list(&self) -> Result<String, Failure> {
        let hub = Hub::of_process().map_err(Failure::Hub)?;
        let models = hub.list().map_err(Failure::Hub)?;
        if self.json {
            let json = serde_json::to_string_pretty(&models);
            return json.map(|json| json + "\n").map_err(|error| Failure::Model(error.to_string()));
        }
        if models.is_empty() {
            return Ok(format!("no model is in {}\n", hub.directory().display()));
        }
        let width = models.iter().map(|model| model.id.len()).max().unwrap_or(0);
        Ok(models.iter().map(|model| line(model, width)).collect())
    }
}

fn line(model: &Cached, width: usize) -> String {
    let Cached { id, revisions, commit, bytes, whole, missing, path: _ } = model;
    let commit = commit.as_ref().map_or("-", |commit| commit.get(..12).unwrap_or(commit));
    let state = match (whole, &missing[..]) {
        (true, _) => revisions.join(", "),
        (false, []) => "not downloaded to the end".to_owned(),
        (false, missing) => format!("lacks {}", missing.join(", ")),
    };
    let line = format!("{id:width$}  {:>7}  {commit:12}  {state}", size(*bytes));
    format!("{}\n", line.trim_end())
}

impl Remove {
    pub(super) fn remove(&self) -> Result<String, Failure> {
        let hub = Hub::of_process().map_err(Failure::Hub)?;
        let mut text = String::new();
        for id in &self.ids {
            let Removed { files, bytes } = hub.remove(id).map_err(Failure::Hub)?;
            let _ = writeln!(text, "{id}: removed {files} files, {}", size(bytes));
        }
        Ok(text)
    }
}

/// The exit status of `sysexits.h` for a model that cannot be had.
pub(super) fn status(error: &Error) -> u8 {
    const NO_INPUT: u8 = 66;
    const UNAVAILABLE: u8 = 69;
    const IO: u8 = 74;
    const NO_PERMISSION: u8 = 77;
    const CONFIGURATION: u8 = 78;
    match error {
        error if error.is_temporary() => UNAVAILABLE,
        Error::Variable { .. } | Error::NoCache => CONFIGURATION,
        Error::MalformedToken { .. }
        | Error::WrongToken { .. }
        | Error::Gated { .. }
        | Error::Forbidden { .. } => NO_PERMISSION,
        Error::Full { .. } | Error::Io { .. } => IO,
        _ => NO_INPUT,
    }
}
