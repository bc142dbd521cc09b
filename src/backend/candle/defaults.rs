//! What a model's own files say about drawing tokens: `generation_config.json`, and the end-of-sequence tokens of
//! `config.json` where that has none.

use std::{fs, io, path::Path};

use serde::Deserialize;

/// The model's defaults, below the request's and the configuration's.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Defaults {
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) top_k: Option<usize>,
    pub(super) min_p: Option<f64>,
    pub(super) repetition_penalty: Option<f64>,
    pub(super) eos: Vec<u32>,
}

#[derive(Debug, Deserialize, Default)]
struct Written {
    /// transformers draws only where this is true; its own default is greedy.
    do_sample: Option<bool>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<usize>,
    min_p: Option<f64>,
    repetition_penalty: Option<f64>,
    eos_token_id: Option<OneOrMany>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl Defaults {
    /// Reads the files of a model's directory; one that is not there says nothing.
    ///
    /// # Errors
    /// A file that cannot be read or is not what it should be.
    pub(super) fn read(directory: &Path) -> Result<Self, String> {
        let own = read(&directory.join("generation_config.json"))?;
        Ok(Self::of(own, read(&directory.join("config.json"))?))
    }

    /// Reads the contents of the two files.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn parse(generation_config: &str, config: &str) -> Result<Self, serde_json::Error> {
        Ok(Self::of(serde_json::from_str(generation_config)?, serde_json::from_str(config)?))
    }

    fn of(own: Written, config: Written) -> Self {
        let draws = own.do_sample != Some(false);
        Self {
            temperature: own.temperature.filter(|_| draws),
            top_p: own.top_p.filter(|_| draws),
            top_k: own.top_k.filter(|_| draws),
            min_p: own.min_p.filter(|_| draws),
            repetition_penalty: own.repetition_penalty,
            eos: match own.eos_token_id.or(config.eos_token_id) {
                None => vec![],
                Some(OneOrMany::One(id)) => vec![id],
                Some(OneOrMany::Many(ids)) => ids,
            },
        }
    }
}

fn read(path: &Path) -> Result<Written, String> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Written::default()),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(generation: Option<&str>, config: &str) -> Result<Defaults, String> {
        let directory = tempfile::tempdir().unwrap();
        if let Some(text) = generation {
            fs::write(directory.path().join("generation_config.json"), text).unwrap();
        }
        fs::write(directory.path().join("config.json"), config).unwrap();
        Defaults::read(directory.path())
    }

    #[test]
    fn the_models_own_values_are_read() {
        let defaults =
            read(Some(r#"{"temperature":0.6,"top_k":20,"eos_token_id":[1,2]}"#), r#"{"eos_token_id":9}"#);
        let expected =
            Defaults { temperature: Some(0.6), top_k: Some(20), eos: vec![1, 2], ..Defaults::default() };
        assert_eq!(defaults, Ok(expected));
    }

    #[test]
    fn the_end_token_of_the_configuration_stands_in() {
        assert_eq!(read(None, r#"{"eos_token_id":9}"#).unwrap().eos, [9]);
        assert_eq!(read(Some("{}"), r#"{"eos_token_id":null}"#).unwrap().eos, [0; 0]);
    }

    #[test]
    fn greedy_models_keep_no_temperature_and_broken_files_are_named() {
        assert_eq!(read(Some(r#"{"do_sample":false,"temperature":0.6}"#), "{}").unwrap().temperature, None);
        assert!(read(Some("{"), "{}").unwrap_err().contains("generation_config.json"));
    }
}
