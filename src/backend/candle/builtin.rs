//! Models inside the program: their files are part of the binary, which the system reads in only where they are used.

use std::path::Path;

use serde_json::Map;

use super::{
    defaults::Defaults,
    fingerprint::Content,
    vectors::Prompts,
    words::{Origin, Origins, Words},
};
use crate::{
    model::{self, LoadError},
    text::{ChatTemplate, Clock, Tokenizer},
};

/// What a source begins with that is no path. A directory of such a name is `./builtin:…`.
const PREFIX: &str = "builtin:";

const ALL: &[Builtin] = &[Builtin {
    name: "demo",
    config: include_str!("../../../assets/demo/config.json"),
    generation_config: include_str!("../../../assets/demo/generation_config.json"),
    tokenizer: include_bytes!("../../../assets/demo/tokenizer.json"),
    chat_template: include_str!("../../../assets/demo/chat_template.jinja"),
    weights: include_bytes!("../../../assets/demo/model.safetensors"),
}];

/// The files of one model.
pub(super) struct Builtin {
    name: &'static str,
    config: &'static str,
    generation_config: &'static str,
    tokenizer: &'static [u8],
    chat_template: &'static str,
    weights: &'static [u8],
}

/// The model that the source names; `None` where the source is a path.
///
/// # Errors
/// That there is no model of this name, and which there are.
pub(super) fn find(source: &Path) -> Result<Option<&'static Builtin>, String> {
    let Some(name) = source.to_str().and_then(|source| source.strip_prefix(PREFIX)) else {
        return Ok(None);
    };
    if let Some(found) = ALL.iter().find(|builtin| builtin.name == name) {
        return Ok(Some(found));
    }
    let names: Vec<String> = ALL.iter().map(|builtin| format!("`{PREFIX}{}`", builtin.name)).collect();
    Err(format!("there is no builtin model {name:?}; there is {}", names.join(", ")))
}

/// Whether the source is no path, but the name of a model inside the program.
pub(super) fn is_one(source: &Path) -> bool {
    find(source).is_ok_and(|found| found.is_some())
}

/// [`find`] as a rule for the configuration.
#[expect(clippy::ref_option, reason = "the form that garde asks for")]
pub(super) fn known(source: &Option<std::path::PathBuf>, (): &()) -> garde::Result {
    let found = source.as_deref().map_or(Ok(None), find);
    found.map(drop).map_err(garde::Error::new)
}

impl Builtin {
    pub(super) fn open(&self) -> Result<model::Model, LoadError> {
        model::open_embedded(self.config, self.weights)
    }

    pub(super) fn words(&self) -> Result<Words, String> {
        let tokenizer = Tokenizer::from_json(self.tokenizer)?;
        // Its template writes the special tokens itself.
        let template = ChatTemplate::from_source(self.chat_template, Map::new(), Clock::default())?;
        let defaults =
            Defaults::parse(self.generation_config, self.config).map_err(|error| error.to_string())?;
        let origins = Origins {
            tokenizer: Origin::Program,
            pre_tokenizer: None,
            template: Some(Origin::Program),
            defaults: Some(Origin::Program),
        };
        let prompts = Prompts::default();
        Ok(Words { tokenizer, template, defaults, prompts, origins })
    }

    /// What its answers depend on, named and ordered as in a directory of these files.
    pub(super) fn files(&self) -> Vec<(String, Content)> {
        [
            ("chat_template.jinja", self.chat_template.as_bytes()),
            ("config.json", self.config.as_bytes()),
            ("generation_config.json", self.generation_config.as_bytes()),
            ("tokenizer.json", self.tokenizer),
            ("model.safetensors", self.weights),
        ]
        .map(|(name, bytes)| (name.to_owned(), Content::Program(bytes)))
        .into()
    }
}
