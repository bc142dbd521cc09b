//! Models of the Hugging Face hub: its cache, which Python's tools share, and downloads into it.
//!
//! What the cache has is found without a network ([`Hub::cached`]). What it lacks is fetched with the feature `hub`
//! ([`Hub::obtain`]): the small files first and the weights last, each verified before it gets its name, the revision's
//! name at the very end. So a model whose weights are there is there as a whole, whenever a download was ended.

mod cache;
#[cfg(feature = "hub")]
mod download;
mod error;
mod id;
mod inventory;
mod plan;
mod settings;
mod size;

use std::path::PathBuf;

use self::cache::{Cache, Found};
pub use self::{
    error::Error,
    id::HubId,
    inventory::{Cached, Removed},
    settings::{Patience, Settings, Token},
    size::size,
};

/// What is told while a download goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News<'a> {
    /// How far it is, in words.
    Progress(&'a str),
    /// Another tenth of it is done, in words.
    Tenth(&'a str),
    /// What went wrong and is tried again.
    Trouble(&'a str),
}

/// The cache, and the server behind it.
#[derive(Debug)]
pub struct Hub {
    settings: Settings,
    cache: Cache,
}

impl Hub {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { cache: Cache::new(settings.cache.clone()), settings }
    }

    /// As the environment of the process says.
    ///
    /// # Errors
    /// A variable that makes no sense, or a token that cannot be read.
    pub fn of_process() -> Result<Self, Error> {
        Settings::of_process().map(Self::new)
    }

    /// Where the model lies in the cache: its directory, or its GGUF file. No network is used.
    ///
    /// # Errors
    /// That it is not there as a whole, or which of several files might be meant.
    pub fn cached(&self, id: &HubId) -> Result<PathBuf, Error> {
        match self.cache.find(id)? {
            Found::Whole(path) => Ok(path),
            Found::Lacking(missing) => {
                Err(Error::NotCached { id: id.to_string(), missing, cache: self.settings.cache.clone() })
            }
        }
    }

    /// Where the model lies in the cache, after it was fetched if it was not there. Blocks until then.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub fn obtain(&self, id: &HubId, hears: impl Fn(News<'_>)) -> Result<PathBuf, Error> {
        match self.cached(id) {
            Err(Error::NotCached { id, missing, cache }) if self.settings.offline => {
                Err(Error::Offline { id, missing, cache })
            }
            Err(Error::NotCached { .. }) => self.fetch(id, hears),
            cached => cached,
        }
    }

    /// Asks the server for the model as its revision now is, and fetches what the cache lacks of it. Blocks until then.
    ///
    /// # Errors
    /// Why it cannot be had.
    #[cfg(feature = "hub")]
    pub fn fetch(&self, id: &HubId, hears: impl Fn(News<'_>)) -> Result<PathBuf, Error> {
        if self.settings.offline {
            return Err(Error::Switched { id: id.to_string() });
        }
        download::fetch(&self.settings, &self.cache, id, &hears)
    }

    #[cfg(not(feature = "hub"))]
    fn fetch(&self, id: &HubId, _: impl Fn(News<'_>)) -> Result<PathBuf, Error> {
        Err(Error::NoDownloads { id: id.to_string() })
    }

    /// The models of the cache, by their ids.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub fn list(&self) -> Result<Vec<Cached>, Error> {
        inventory::list(&self.cache)
    }

    /// Removes a model from the cache: all of it, or one revision or file where `id` names one. Files that another
    /// revision shares stay.
    ///
    /// # Errors
    /// That it is not there, or what could not be removed.
    pub fn remove(&self, id: &HubId) -> Result<Removed, Error> {
        inventory::remove(&self.cache, id)
    }

    /// Where the models lie.
    #[must_use]
    pub fn directory(&self) -> &std::path::Path {
        &self.settings.cache
    }
}
