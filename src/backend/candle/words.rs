//! The text side of a model: its tokenizer, its chat template, its defaults; and where each was found.
//!
//! A directory has files for them. A GGUF file has them in its metadata; a file beside it is stronger.

use std::path::{Path, PathBuf};

use super::{defaults::Defaults, gguf, vectors::Prompts};
use crate::{
    model,
    text::{ChatTemplate, Clock, LoadError, Tokenizer, tokenizer::Algorithm},
};

/// Files beside the weights that can change an answer.
pub(super) const FILES: [&str; 10] = [
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "config_sentence_transformers.json",
    "generation_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// What stands between words and the engine.
pub(super) struct Words {
    pub(super) tokenizer: Tokenizer,
    pub(super) template: ChatTemplate,
    pub(super) defaults: Defaults,
    /// Of a model that makes vectors.
    pub(super) prompts: Prompts,
    pub(super) origins: Origins,
}

/// Where they were found.
pub(super) struct Origins {
    pub(super) tokenizer: Origin,
    /// How a vocabulary of the metadata says that texts are cut.
    pub(super) pre_tokenizer: Option<String>,
    /// `None`: the model has no template.
    pub(super) template: Option<Origin>,
    pub(super) defaults: Option<Origin>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    File(PathBuf),
    Metadata,
    /// It is part of the program.
    Program,
}

impl Words {
    /// # Errors
    /// What is missing, malformed or not supported.
    pub(super) fn read(source: &Path, model: &model::Model) -> Result<Self, String> {
        let directory = directory(source);
        let told = |error: LoadError| error.to_string();
        let here = |reason: String| format!("{}: {reason}", source.display());
        let mut metadata = model.text().map_err(|error| error.to_string())?;
        let vocabulary = metadata.as_mut().map(gguf::vocabulary);
        let file = directory.join("tokenizer.json");
        let (tokenizer, found) = match &vocabulary {
            Some(vocabulary) if !file.exists() => {
                let read = vocabulary.as_ref().map_err(Clone::clone).and_then(Tokenizer::from_vocabulary);
                let hint = "; a tokenizer.json beside it would be taken instead";
                (read.map_err(|reason| here(reason + hint))?, Origin::Metadata)
            }
            _ => (Tokenizer::from_file(&file).map_err(told)?, Origin::File(file)),
        };
        let mut origins = Origins { tokenizer: found, pre_tokenizer: None, template: None, defaults: None };
        // A vocabulary of a kind that is not supported is not needed where there is a tokenizer.json.
        let vocabulary = vocabulary.and_then(Result::ok);
        if let (Origin::Metadata, Some(Algorithm::ByteLevel { pre_tokenizer, .. })) =
            (&origins.tokenizer, vocabulary.as_ref().map(|vocabulary| &vocabulary.algorithm))
        {
            origins.pre_tokenizer = Some(pre_tokenizer.clone());
        }

        let mut template = ChatTemplate::from_directory(directory, Clock::default()).map_err(told)?;
        origins.template = template.origin().map(|path| Origin::File(path.to_owned()));
        let templates = metadata.as_ref().map(gguf::templates).unwrap_or_default();
        if origins.template.is_none() && !templates.is_empty() {
            let tokens = vocabulary.as_ref().map(|vocabulary| vocabulary.special_tokens());
            template = ChatTemplate::from_named(&templates, tokens.unwrap_or_default(), Clock::default())
                .map_err(here)?;
            origins.template = Some(Origin::Metadata);
        }

        let mut defaults = Defaults::read(directory)?;
        let file = directory.join("generation_config.json");
        if file.exists() {
            origins.defaults = Some(Origin::File(file));
        } else if let Some(metadata) = &metadata {
            let written = gguf::defaults(metadata).map_err(here)?;
            origins.defaults = (written != Defaults::default()).then_some(Origin::Metadata);
            defaults = Defaults { eos: defaults.eos, ..written };
        }
        if let (true, Some(vocabulary)) = (defaults.eos.is_empty(), &vocabulary) {
            defaults.eos = vocabulary.ends();
        }
        let prompts = Prompts::read(directory)?;
        Ok(Self { tokenizer, template, defaults, prompts, origins })
    }
}

/// Where the files of a model lie: itself, or for a GGUF file the directory that it is in.
fn directory(source: &Path) -> &Path {
    if source.is_dir() {
        return source;
    }
    match source.parent() {
        // A bare file name lies in the working directory.
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => source,
    }
}

/// The files beside the weights that are there and can change an answer, by name.
pub(super) fn files(source: &Path) -> Vec<(String, PathBuf)> {
    let directory = directory(source);
    let mut files: Vec<(String, PathBuf)> =
        FILES.iter().map(|name| ((*name).to_owned(), directory.join(name))).collect();
    let named = "additional_chat_templates";
    let entries = std::fs::read_dir(directory.join(named)).into_iter().flatten().flatten();
    let templates = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.ends_with(".jinja").then(|| (format!("{named}/{name}"), entry.path()))
    });
    files.extend(templates);
    files.retain(|(_, path)| path.is_file());
    files.sort();
    files
}
