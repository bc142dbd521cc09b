//! The models that are served.

use schemars::JsonSchema;
use serde::Serialize;

use super::{embeddings::ListObject, wire::constant};
use crate::backend::ModelCard;

constant! {
    ModelObject = "model",
}

/// Every model that is served.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ListModelsResponse {
    pub object: ListObject,
    pub data: Vec<Model>,
}

/// A model that is served.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Model {
    pub id: String,
    pub object: ModelObject,
    /// Seconds since 1970 at which it began to be served.
    pub created: u64,
    pub owned_by: String,
    /// Tokens of prompt and completion together, where that is known. (An extension, as vLLM's.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_model_len: Option<u32>,
    /// Never set here: a model is served until the configuration drops it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shutdown_date: Option<String>,
}

impl Model {
    pub(crate) fn new(id: &str, card: &ModelCard) -> Self {
        Self {
            id: id.to_owned(),
            object: ModelObject,
            created: card.created,
            owned_by: card.owner.clone(),
            max_model_len: (card.context_length > 0).then_some(card.context_length),
            shutdown_date: None,
        }
    }
}
