//! What the engine must know of a model that makes one vector of a text: an embedding, or scores.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ForwardError;

/// What a model is for: to continue texts, to make vectors of them, or to score how well documents answer a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    Generate,
    Embed,
    Rerank,
}

impl Task {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Embed => "embed",
            Self::Rerank => "rerank",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodeShape {
    pub vocabulary: usize,
    /// Tokens of one sequence.
    pub context_length: usize,
    /// Values in a vector.
    pub width: usize,
    /// Vectors have length 1.
    pub normalised: bool,
}

/// One text as the model sees it.
#[derive(Debug, Clone, Copy)]
pub struct Sequence<'a> {
    pub tokens: &'a [u32],
    /// The type of each token, where a model tells the two texts of a pair apart by it; missing ones are 0.
    pub types: &'a [u32],
    /// Tokens at the beginning that are a prompt, which some models leave out when they pool.
    pub prompt: usize,
    /// Length of the vector, where less than the model's own is wanted.
    pub dimensions: Option<usize>,
}

/// A model that is loaded, which makes a vector of each sequence.
pub trait Encode: Send {
    fn shape(&self) -> &EncodeShape;

    /// A vector for each sequence, in their order. Each one's bits depend on its own sequence alone: not on the rest of
    /// the batch or the number of threads. `alive` is called with each layer: a long text takes a while.
    fn encode(
        &mut self,
        sequences: &[Sequence<'_>],
        alive: &(dyn Fn() + Sync),
    ) -> Result<Vec<Vec<f32>>, ForwardError>;
}

impl EncodeShape {
    /// Rows of each sequence in a batch that stands one after the other.
    pub(super) fn rows(&self, sequences: &[Sequence<'_>]) -> Result<Vec<Range<usize>>, ForwardError> {
        let mut rows = Vec::with_capacity(sequences.len());
        let mut first = 0;
        for Sequence { tokens, dimensions, .. } in sequences {
            if tokens.is_empty() || tokens.len() > self.context_length {
                let (count, limit) = (tokens.len(), self.context_length);
                return Err(ForwardError(format!("{count} tokens, where 1 to {limit} are taken")));
            }
            if let Some(token) = tokens.iter().find(|token| **token as usize >= self.vocabulary) {
                return Err(ForwardError(format!("token {token} of {}", self.vocabulary)));
            }
            if dimensions.is_some_and(|dimensions| !(1..=self.width).contains(&dimensions)) {
                return Err(ForwardError(format!("a vector of {dimensions:?} of {} values", self.width)));
            }
            rows.push(first..first + tokens.len());
            first += tokens.len();
        }
        Ok(rows)
    }
}
