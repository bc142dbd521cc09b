//! Which files of a repository are needed to serve it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Error, HubId,
    id::{is_gguf, is_plain},
};

pub(super) const CONFIG: &str = "config.json";
pub(super) const TOKENIZER: &str = "tokenizer.json";
pub(super) const SINGLE: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// Files beside the weights, where a repository has them: those that an answer may depend on, and sentence-transformers'.
#[cfg(feature = "hub")]
const BESIDE: [&str; 11] = [
    CONFIG,
    TOKENIZER,
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "modules.json",
    "1_Pooling/config.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
];

/// What a repository, or a part of one, can be served from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// The directory, with all its weights in one file.
    Single,
    /// The directory, with the weights in the files that its index lists.
    Sharded,
    /// One file, by name.
    Gguf(String),
}

/// # Errors
/// That there is nothing to serve among `names`, or which of several files might be meant.
pub(super) fn choose(names: &[String], id: &HubId) -> Result<Choice, Error> {
    let repo = || id.repo.clone();
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let files: Vec<String> = names.iter().filter(|name| is_gguf(name)).cloned().collect();
    match (&id.file, &files[..]) {
        (Some(file), _) if has(file) => gguf(file),
        (Some(file), _) => Err(Error::NoFile { repo: repo(), file: file.clone(), files }),
        // A directory with both is read by its index.
        (None, _) if has(CONFIG) && has(INDEX) => Ok(Choice::Sharded),
        (None, _) if has(CONFIG) && has(SINGLE) => Ok(Choice::Single),
        (None, [file]) => gguf(file),
        (None, []) => Err(Error::Unservable { repo: repo(), files: names.to_vec() }),
        (None, _) => Err(Error::Ambiguous { repo: repo(), files }),
    }
}

/// # Errors
/// That it is one of several parts (`name-00001-of-00003.gguf`).
fn gguf(name: &str) -> Result<Choice, Error> {
    let parts = name.rsplit_once('.').and_then(|(stem, _)| stem.rsplit_once("-of-")).map(|(_, parts)| parts);
    match parts.and_then(|parts| parts.parse::<u32>().ok()) {
        Some(parts) if parts > 1 => Err(Error::Split { file: name.to_owned() }),
        _ => Ok(Choice::Gguf(name.to_owned())),
    }
}

#[cfg(feature = "hub")]
impl Choice {
    /// Files of a repository to fetch before the weights, and those that might have been there and are not.
    pub(super) fn beside(&self, names: &[String]) -> (Vec<String>, Vec<String>) {
        if let Self::Gguf(_) = self {
            return (Vec::new(), Vec::new());
        }
        let (mut there, absent): (Vec<String>, Vec<String>) =
            BESIDE.iter().map(|name| (*name).to_owned()).partition(|name| names.contains(name));
        if *self == Self::Sharded {
            there.push(INDEX.to_owned());
        }
        let is_template =
            |name: &str| name.starts_with("additional_chat_templates/") && name.ends_with(".jinja");
        let more = names.iter().filter(|name| is_template(name) || is_module(name));
        let more: Vec<String> = more.filter(|name| !there.contains(name)).cloned().collect();
        there.extend(more);
        (there, absent)
    }
}

/// Whether this is a file of what follows a transformer: `2_Dense/model.safetensors`.
#[cfg(feature = "hub")]
fn is_module(name: &str) -> bool {
    let Some((module, file)) = name.split_once('/') else { return false };
    let numbered = module.split_once('_').is_some_and(|(number, _)| number.parse::<u32>().is_ok());
    numbered && [CONFIG, SINGLE].contains(&file)
}

/// The files that an index lists, by name.
///
/// # Errors
/// What is wrong with it.
pub(super) fn shards(index: &[u8]) -> Result<Vec<String>, String> {
    let index: Value = serde_json::from_slice(index).map_err(|error| format!("{INDEX}: {error}"))?;
    let map = index["weight_map"].as_object().ok_or_else(|| format!("{INDEX} has no weight_map"))?;
    let names: Option<BTreeSet<&str>> = map.values().map(Value::as_str).collect();
    let names = names.filter(|names| names.iter().all(|name| is_plain(name) && !name.contains('/')));
    let names = names.ok_or_else(|| format!("{INDEX} lists what is no file beside it"))?;
    Ok(names.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn chosen(files: &[&str], id: &str) -> Result<Choice, Error> {
        choose(&names(files), &id.parse().unwrap())
    }

    #[test]
    fn the_form_that_can_be_read_is_chosen() {
        let safetensors = ["README.md", "config.json", "model.safetensors", "a.gguf"];
        assert_eq!(chosen(&safetensors, "o/n").unwrap(), Choice::Single);
        assert_eq!(chosen(&safetensors, "o/n:a.gguf").unwrap(), Choice::Gguf("a.gguf".into()));
        let both = ["config.json", "model.safetensors", "model.safetensors.index.json"];
        assert_eq!(chosen(&both, "o/n").unwrap(), Choice::Sharded);
        assert_eq!(chosen(&["config.json", "q/a.gguf"], "o/n").unwrap(), Choice::Gguf("q/a.gguf".into()));
    }

    #[test]
    fn what_is_not_clear_is_refused_with_what_there_is() {
        let told = |files: &[&str], id: &str| chosen(files, id).unwrap_err().to_string();
        let two = ["config.json", "a-Q4.gguf", "a-Q8.gguf"];
        let several = told(&two, "o/n");
        assert!(several.contains("o/n:a-Q4.gguf") && several.contains("a-Q8.gguf"), "{several}");
        let other = told(&two, "o/n:b.gguf");
        assert!(other.contains("b.gguf") && other.contains("a-Q4.gguf, a-Q8.gguf"), "{other}");
        let part = told(&["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"], "o/n:a-00001-of-00002.gguf");
        assert!(part.contains("one part"), "{part}");
        let none = told(&["config.json", "pytorch_model.bin"], "o/n");
        assert!(none.contains("pytorch_model.bin"), "{none}");
    }

    #[test]
    #[cfg(feature = "hub")]
    fn only_what_is_needed_is_fetched() {
        let repo = names(&[
            "README.md",
            "config.json",
            "onnx/model.onnx",
            "onnx/config.json",
            "1_Pooling/config.json",
            "2_Dense/config.json",
            "2_Dense/model.safetensors",
            "2_Dense/pytorch_model.bin",
            "tokenizer.json",
            "additional_chat_templates/rag.jinja",
            "additional_chat_templates/readme.md",
            "pytorch_model.bin",
            "model.safetensors",
        ]);
        let (there, absent) = Choice::Single.beside(&repo);
        let needed = [
            "config.json",
            "tokenizer.json",
            "1_Pooling/config.json",
            "2_Dense/config.json",
            "2_Dense/model.safetensors",
            "additional_chat_templates/rag.jinja",
        ];
        assert_eq!(there, needed);
        assert!(
            absent.contains(&"generation_config.json".to_owned()) && !absent.contains(&CONFIG.to_owned())
        );
        assert_eq!(Choice::Gguf("a.gguf".into()).beside(&repo), (vec![], vec![]));
    }

    #[test]
    fn an_index_leads_nowhere_else() {
        assert_eq!(shards(br#"{"weight_map":{"x":"b","y":"a","z":"b"}}"#).unwrap(), ["a", "b"]);
        for wrong in [
            r#"{"weight_map":{"x":"../a"}}"#,
            r#"{"weight_map":{"x":"a/b"}}"#,
            r#"{"weight_map":{"x":1}}"#,
            "{}",
            "[",
        ] {
            assert!(shards(wrong.as_bytes()).unwrap_err().contains(INDEX), "{wrong}");
        }
    }
}
