//! Why a model could not be loaded.

use std::{io, path::PathBuf};

use super::config::ConfigError;

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {reason}", path = path.display())]
    Format { path: PathBuf, reason: String },
    #[error("the model has no tensor {0}")]
    MissingTensor(String),
    #[error("{count} tensors have no place in this architecture, among them {}", examples.join(", "))]
    ExtraTensors { count: usize, examples: Vec<String> },
    #[error("tensor {name} is {found:?}, but the configuration makes it {expected:?}")]
    Shape { name: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("tensor {name} is of type {dtype}, which is not supported")]
    Dtype { name: String, dtype: String },
    /// A device that is not there, or what it said while the weights were put on it.
    #[error("the device: {0}")]
    Device(String),
}
