//! Why a model of the hub cannot be had, and what to do about it.

use std::{io, path::PathBuf};

use super::size;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the environment variable {name} is not {expected}")]
    Variable { name: &'static str, expected: &'static str },
    #[error("there is no place for models of the Hugging Face hub: set HF_HOME to a directory")]
    NoCache,
    #[error("the token in {origin} has white space or characters outside ASCII in it: write it anew")]
    MalformedToken { origin: String },
    /// Of the cache alone; [`Error::Offline`] where a download was wanted.
    #[error("{id} is not in the cache {}{}: `sconce models pull {id}` fetches it", cache.display(), lacks(missing))]
    NotCached { id: String, missing: Vec<String>, cache: PathBuf },
    #[error(
        "{id} is not in the cache {}{}, and HF_HUB_OFFLINE forbids to fetch it: unset that, or set HF_HUB_CACHE to where \
         it is",
        cache.display(),
        lacks(missing)
    )]
    Offline { id: String, missing: Vec<String>, cache: PathBuf },
    #[error("HF_HUB_OFFLINE forbids to fetch {id}: unset it")]
    Switched { id: String },
    #[error(
        "{id} is not in the cache, and this build cannot download: build it with the feature `hub`, or fetch it with `hf download`"
    )]
    NoDownloads { id: String },
    #[error(
        "{endpoint} has no model {repo}, or it is private{}",
        if *token { ": check its name, and that your token may read it" }
        else { ": check its name; for a private one set HF_TOKEN, or log in with `hf auth login`" }
    )]
    NotFound { repo: String, endpoint: String, token: bool },
    #[error("{repo} has no revision {revision:?}: see {endpoint}/{repo}/tree/main for its branches and tags")]
    NoRevision { repo: String, revision: String, endpoint: String },
    #[error(
        "{repo} is gated: ask for access at {endpoint}/{repo}{}",
        if *token { ", with the account that your token is of" }
        else { ", then set HF_TOKEN, or log in with `hf auth login`" }
    )]
    Gated { repo: String, endpoint: String, token: bool },
    #[error("{endpoint} does not accept the token in {origin}: make a new one at {endpoint}/settings/tokens")]
    WrongToken { endpoint: String, origin: String },
    #[error(
        "{endpoint} refuses {repo} ({says}): check what your token may read at {endpoint}/settings/tokens"
    )]
    Forbidden { repo: String, endpoint: String, says: String },
    #[error("{repo} has no file {file}; its GGUF files are: {}", listed(files))]
    NoFile { repo: String, file: String, files: Vec<String> },
    #[error("{repo} has several GGUF files: name one, as {repo}:{}; there are: {}", files.first().map_or("", String::as_str), listed(files))]
    Ambiguous { repo: String, files: Vec<String> },
    #[error(
        "{repo} has neither config.json with safetensors nor a GGUF file, which are what can be served; it has: {}",
        listed(files)
    )]
    Unservable { repo: String, files: Vec<String> },
    #[error("{file} is a part of a GGUF file that was split, which cannot be served: take one in one part")]
    Split { file: String },
    #[error(
        "{repo} has no tokenizer.json, which is needed beside safetensors: take a model that has one, or a GGUF file"
    )]
    NoTokenizer { repo: String },
    #[error(
        "{endpoint} answered too many times that there were too many requests (429): wait, or set HF_TOKEN for a higher limit"
    )]
    TooMany { endpoint: String },
    #[error("{host} fails ({says}): try again later; what was fetched is kept")]
    Server { host: String, says: String },
    #[error(
        "{host} cannot be reached ({why}): check the network, HF_ENDPOINT and HTTPS_PROXY; what the cache has is served without"
    )]
    Unreachable { host: String, why: String },
    #[error(
        "{file} came to a stop {times} times in a row ({why}): check the network and try again; what was fetched is kept"
    )]
    Cut { file: String, times: u32, why: String },
    #[error(
        "{file} is not what {endpoint} says it is ({why}), twice: try again later, or look at HF_ENDPOINT and at proxies on the way"
    )]
    Damaged { file: String, endpoint: String, why: String },
    #[error(
        "{endpoint} does not answer as the Hugging Face hub does ({why}): check HF_ENDPOINT and proxies on the way"
    )]
    Strange { endpoint: String, why: String },
    #[error("{} has no room: {} more are needed{}; make room, or set HF_HUB_CACHE to a larger disk",
        directory.display(), size(*needed), free.map(|free| format!(", {} are free", size(free))).unwrap_or_default())]
    Full { directory: PathBuf, needed: u64, free: Option<u64> },
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

impl Error {
    /// Whether the same may succeed later without anybody's doing.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::TooMany { .. } | Self::Server { .. } | Self::Unreachable { .. } | Self::Cut { .. } => true,
            Self::Variable { .. }
            | Self::NoCache
            | Self::MalformedToken { .. }
            | Self::NotCached { .. }
            | Self::Offline { .. }
            | Self::Switched { .. }
            | Self::NoDownloads { .. }
            | Self::NotFound { .. }
            | Self::NoRevision { .. }
            | Self::Gated { .. }
            | Self::WrongToken { .. }
            | Self::Forbidden { .. }
            | Self::NoFile { .. }
            | Self::Ambiguous { .. }
            | Self::Unservable { .. }
            | Self::Split { .. }
            | Self::NoTokenizer { .. }
            | Self::Damaged { .. }
            | Self::Strange { .. }
            | Self::Full { .. }
            | Self::Io { .. } => false,
        }
    }
}

fn lacks(missing: &[String]) -> String {
    if missing.is_empty() { String::new() } else { format!(" as a whole (it lacks {})", listed(missing)) }
}

/// The first of them; a repository may have hundreds.
fn listed(files: &[String]) -> String {
    const MOST: usize = 30;
    if files.is_empty() {
        return "none".to_owned();
    }
    let more = if files.len() > MOST { format!(" and {} more", files.len() - MOST) } else { String::new() };
    files.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(", ") + &more
}
