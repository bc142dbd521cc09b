//! A model before its weights are read: from a path, or from inside the program.

use std::path::Path;

use super::{
    builtin,
    fingerprint::{self, Content},
    words::Words,
};
use crate::model::{self, Model};

/// Headers, the text side, and the files that answers depend on.
pub(super) struct Opened {
    pub(super) model: Model,
    pub(super) words: Words,
    pub(super) files: Vec<(String, Content)>,
}

impl Opened {
    /// # Errors
    /// What is missing, malformed or not supported.
    pub(super) fn open(source: &Path) -> Result<Self, String> {
        if let Some(builtin) = builtin::find(source)? {
            let model = builtin.open().map_err(|error| error.to_string())?;
            return Ok(Self { model, words: builtin.words()?, files: builtin.files() });
        }
        let model = model::open(source).map_err(|error| error.to_string())?;
        let words = Words::read(source, &model)?;
        let files = fingerprint::files(source, &model);
        Ok(Self { model, words, files })
    }
}
