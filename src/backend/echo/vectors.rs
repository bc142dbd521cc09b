//! Embeddings and scores of documents.

use std::collections::HashSet;

use super::{Echo, LONGEST_EMBEDDING, embedding, prompt_text, tokens};
use crate::generation::{EmbeddingRequest, Embeddings, Error, RerankRequest, Scores};

/// In all vectors of one request.
const MOST_NUMBERS: usize = 4 << 20;

pub(super) async fn embed(echo: &Echo, request: EmbeddingRequest) -> Result<Embeddings, Error> {
    let EmbeddingRequest { inputs, dimensions, prompt_name, truncate } = request;
    let dimensions = dimensions.unwrap_or(echo.dimensions);
    if !(1..=LONGEST_EMBEDDING).contains(&dimensions) {
        let message = format!("This model's embeddings have 1 to {LONGEST_EMBEDDING} dimensions.");
        return Err(Error::invalid("dimensions", message));
    }
    if dimensions as usize * inputs.len() > MOST_NUMBERS {
        let message =
            format!("{} vectors of {dimensions} numbers are more than {MOST_NUMBERS} numbers.", inputs.len());
        return Err(Error::invalid("dimensions", message));
    }
    if prompt_name.is_some() {
        let message = "The echo backend has no prompts: leave out 'prompt_name'.";
        return Err(Error::unsupported("prompt_name", message));
    }
    let limit = echo.card.context_length as usize;
    let longest = truncate.map(|truncate| truncate.within(limit)).transpose()?;
    let several = inputs.len() > 1;
    let mut texts = Vec::with_capacity(inputs.len());
    let mut prompt_tokens = 0;
    for (place, input) in inputs.iter().enumerate() {
        let named = |error: Error| if several { error.within(format!("[{place}]")) } else { error };
        let mut text = prompt_text(input).map_err(named)?;
        if let Some(longest) = longest {
            let length = tokens::pieces(&text).take(longest).map(str::len).sum();
            text.truncate(length);
        }
        prompt_tokens += fitting(echo, tokens::count(&text)).map_err(named)?;
        texts.push(text);
    }
    let mut vectors = Vec::with_capacity(texts.len());
    for text in &texts {
        vectors.push(embedding::unit_vector(text, dimensions as usize));
        // Thousands of vectors take a while; others want the thread too.
        tokio::task::yield_now().await;
    }
    Ok(Embeddings { vectors, prompt_tokens })
}

/// The share of the query's words that each document has, whatever their case.
pub(super) fn rerank(echo: &Echo, request: &RerankRequest) -> Result<Scores, Error> {
    let RerankRequest { query, documents, truncate } = request;
    if truncate.is_some() {
        let message = "The echo backend scores documents whole: leave out 'truncate_prompt_tokens'.";
        return Err(Error::unsupported("truncate_prompt_tokens", message));
    }
    let words = |text: &str| text.split_whitespace().map(str::to_lowercase).collect::<HashSet<_>>();
    let (wanted, asked) = (words(query), tokens::count(query));
    let mut scores = Vec::with_capacity(documents.len());
    let mut prompt_tokens = 0;
    for (place, document) in documents.iter().enumerate() {
        let named = |error: Error| error.within(format!("documents[{place}]"));
        prompt_tokens += fitting(echo, asked + tokens::count(document)).map_err(named)?;
        let found = wanted.intersection(&words(document)).count();
        #[expect(clippy::cast_precision_loss, reason = "words of a query")]
        scores.push(found as f32 / wanted.len().max(1) as f32);
    }
    Ok(Scores { scores, prompt_tokens })
}

/// So many tokens, unless they are too many.
fn fitting(echo: &Echo, tokens: usize) -> Result<u64, Error> {
    let (limit, tokens) = (u64::from(echo.card.context_length), tokens as u64);
    if tokens > limit {
        return Err(Error::TextTooLong { param: String::new(), limit, tokens });
    }
    Ok(tokens)
}
