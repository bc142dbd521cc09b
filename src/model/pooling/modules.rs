//! A model's sentence-transformers files: `modules.json` lists what follows the transformer, each in a directory of its
//! own; `sentence_bert_config.json` and `tokenizer_config.json` bound the tokens.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Dense, Description, Mode};
use crate::{
    kernels::activation::Activation,
    model::{
        config::{Config, ConfigError},
        error::LoadError,
        safetensors::Directory,
    },
};

/// Names of the modes, and the flags that say the same in older files, in the order in which results are put together.
const MODES: [(Mode, &str); 6] = [
    (Mode::Cls, "pooling_mode_cls_token"),
    (Mode::Max, "pooling_mode_max_tokens"),
    (Mode::Mean, "pooling_mode_mean_tokens"),
    (Mode::MeanSqrtLength, "pooling_mode_mean_sqrt_len_tokens"),
    (Mode::WeightedMean, "pooling_mode_weightedmean_tokens"),
    (Mode::LastToken, "pooling_mode_lasttoken"),
];

/// More than any model's context: what `tokenizer_config.json` says that has no bound.
const NO_BOUND: usize = 1_000_000_000;

impl Description {
    /// Whether the files tell how to make one vector of a text.
    pub(in crate::model) fn is_in(directory: &Path) -> bool {
        directory.join("modules.json").is_file()
    }

    /// Reads the files of a model's directory; `None` where there are none.
    ///
    /// # Errors
    /// When one is malformed, or a module is not supported.
    pub(in crate::model) fn read(directory: &Path) -> Result<Option<Self>, LoadError> {
        if !Self::is_in(directory) {
            return Ok(None);
        }
        let path = directory.join("modules.json");
        let format = |reason: String| LoadError::Format { path: path.clone(), reason };
        let text =
            std::fs::read_to_string(&path).map_err(|source| LoadError::Io { path: path.clone(), source })?;
        let modules: Vec<Value> = serde_json::from_str(&text).map_err(|error| format(error.to_string()))?;
        let mut found = Self { modes: Vec::new(), include_prompt: true, dense: Vec::new(), normalise: false };
        for (place, module) in modules.iter().enumerate() {
            let text = |key: &str| module.get(key).and_then(Value::as_str);
            let kind = text("type").ok_or_else(|| format(format!("module {place} has no type")))?;
            let own = text("path").unwrap_or_default();
            // The list comes with the model: it must not lead out of the model's directory.
            if Path::new(own).components().count() > 1 || own == ".." || own.starts_with('/') {
                return Err(format(format!("module {place} is not in a directory beside it")));
            }
            let own = directory.join(own);
            // Older releases called `models.Pooling` what newer ones call `modules.pooling.Pooling`.
            match (place, kind.rsplit('.').next().unwrap_or_default()) {
                (0, "Transformer") if own == directory => {}
                (1, "Pooling") => found.pooling(&own)?,
                (2.., "Dense") => found.dense.push(dense(&own)?),
                (2.., "Normalize") => found.normalise = true,
                (_, "Dropout") => {}
                (_, other) => {
                    let known = "a Transformer in the same directory, then Pooling, Dense, Normalize";
                    return Err(format(format!(
                        "module {place}, {other:?} in {:?}, is not supported there; supported are {known}",
                        text("path").unwrap_or_default()
                    )));
                }
            }
            if found.normalise && kind.ends_with("Dense") {
                return Err(format("a Dense after Normalize is not supported".to_owned()));
            }
        }
        if found.modes.is_empty() {
            return Err(format("it has no Pooling".to_owned()));
        }
        Ok(Some(found))
    }

    fn pooling(&mut self, directory: &Path) -> Result<(), LoadError> {
        let config = Config::read(directory)?;
        let unknown = |name: &str| LoadError::from(ConfigError::Unsupported(format!("pooling {name:?}")));
        let by_name = |name: &str| {
            let found = MODES.iter().find(|(mode, _)| mode.name() == name);
            found.map(|(mode, _)| *mode).ok_or_else(|| unknown(name))
        };
        self.modes = if let Ok(Some(name)) = config.text("pooling_mode") {
            vec![by_name(name)?]
        } else if let Some(names) = config.texts("pooling_mode")? {
            names.into_iter().map(by_name).collect::<Result<_, _>>()?
        } else {
            let mut modes = Vec::new();
            for (mode, flag) in MODES {
                if config.flag_or(flag, false)? {
                    modes.push(mode);
                }
            }
            modes
        };
        self.include_prompt = config.flag_or("include_prompt", true)?;
        Ok(())
    }

    /// The files that the vectors depend on, besides those of the directory itself.
    pub(in crate::model) fn files(directory: &Path) -> Vec<PathBuf> {
        if !Self::is_in(directory) {
            return Vec::new();
        }
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let directories = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
        // `1_Pooling`, `2_Dense`: what `modules.json` names begins with its number.
        let numbered = |path: &PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            name.split_once('_').is_some_and(|(number, _)| number.parse::<u32>().is_ok())
        };
        let mut files: Vec<PathBuf> = directories
            .filter(numbered)
            .flat_map(|path| ["config.json", "model.safetensors"].map(|name| path.join(name)))
            .filter(|path| path.is_file())
            .collect();
        files.sort();
        files
    }
}

fn dense(directory: &Path) -> Result<Dense, LoadError> {
    let config = Config::read(directory)?;
    let refuse = |what: &str| Err(ConfigError::Unsupported(format!("a Dense layer with {what}")).into());
    let activation = config.text("activation_function")?.unwrap_or("torch.nn.modules.activation.Tanh");
    let activation = match activation.rsplit('.').next().unwrap_or_default() {
        "Identity" => None,
        "Tanh" => Some(Activation::Tanh),
        "ReLU" => Some(Activation::Relu),
        "GELU" => Some(Activation::Gelu),
        "SiLU" => Some(Activation::Silu),
        _ => return refuse(&format!("activation {activation:?}")),
    };
    if config.flag_or("use_residual", false)? {
        return refuse("use_residual");
    }
    for key in ["module_input_name", "module_output_name"] {
        if config.text(key)?.is_some_and(|name| name != "sentence_embedding") {
            return refuse(key);
        }
    }
    Ok(Dense {
        inputs: config.size(&["in_features"])?,
        outputs: config.size(&["out_features"])?,
        bias: config.flag_or("bias", true)?,
        activation,
        tensors: Directory::open(directory)?,
    })
}

/// Tokens that a text, or a pair, may have by the files of a model's directory.
///
/// # Errors
/// When one is malformed.
pub(in crate::model) fn longest(directory: &Path) -> Result<Option<usize>, LoadError> {
    for (file, key) in
        [("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")]
    {
        let path = directory.join(file);
        if !path.is_file() {
            continue;
        }
        let text =
            std::fs::read_to_string(&path).map_err(|source| LoadError::Io { path: path.clone(), source })?;
        // `model_max_length` may be a number with thirty digits.
        let value: Value = serde_json::from_str(&text)
            .map_err(|error| LoadError::Format { path, reason: error.to_string() })?;
        let bound = value.get(key).and_then(Value::as_u64).and_then(|bound| usize::try_from(bound).ok());
        if let Some(bound) = bound.filter(|bound| (1..NO_BOUND).contains(bound)) {
            return Ok(Some(bound));
        }
    }
    Ok(None)
}
