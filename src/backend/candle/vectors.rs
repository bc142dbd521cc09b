//! Models that make vectors of texts: embeddings, and scores of documents. Texts become tokens here, and the engine's
//! [`Batcher`] makes vectors of them.

use std::{fs, path::Path, sync::Arc};

use indexmap::IndexMap;
use serde::Deserialize;

use super::{loading::GiveBack, prepare};
use crate::{
    backend::{Heartbeat, ModelCard, metric::Metric},
    engine::{Batcher, SubmitError, Text},
    generation::{EmbeddingRequest, Embeddings, Error, PromptText, RerankRequest, Scores, Truncate},
    model::Task,
    text::Tokenizer,
};

/// A model that makes vectors.
pub(super) struct Encoder {
    pub(super) tokenizer: Tokenizer,
    pub(super) prompts: Prompts,
    pub(super) batcher: Batcher,
    pub(super) card: ModelCard,
    pub(super) task: Task,
    /// The last field, to be dropped when the others have been.
    pub(super) _heap: GiveBack,
}

/// What stands before texts, from the model's sentence-transformers files.
#[derive(Debug, Default)]
pub(super) struct Prompts {
    prompts: IndexMap<String, String>,
    default: Option<String>,
    /// Texts are made lower case first.
    lower_case: bool,
}

#[derive(Debug, Default, Deserialize)]
struct Written {
    #[serde(default)]
    prompts: Option<IndexMap<String, String>>,
    default_prompt_name: Option<String>,
    do_lower_case: Option<bool>,
}

impl Prompts {
    /// Reads the files of a model's directory; one that is not there says nothing.
    ///
    /// # Errors
    /// A file that cannot be read or is not what it should be, or a default that is not there.
    pub(super) fn read(directory: &Path) -> Result<Self, String> {
        let own: Written = read(&directory.join("config_sentence_transformers.json"))?;
        let transformer: Written = read(&directory.join("sentence_bert_config.json"))?;
        let prompts = own.prompts.unwrap_or_default();
        let lower_case = transformer.do_lower_case.unwrap_or(false);
        match own.default_prompt_name {
            Some(name) if !prompts.contains_key(&name) => {
                Err(format!("config_sentence_transformers.json: there is no prompt {name:?}, its default"))
            }
            default => Ok(Self { prompts, default, lower_case }),
        }
    }

    /// The text that the model sees.
    fn put(&self, prompt: &str, text: &str) -> String {
        let text = format!("{prompt}{text}");
        if self.lower_case { text.to_lowercase() } else { text }
    }

    /// The prompt of this name; without a name, the default.
    fn find(&self, name: Option<&str>) -> Result<&str, Error> {
        let Some(name) = name.or(self.default.as_deref()) else { return Ok("") };
        self.prompts.get(name).map(String::as_str).ok_or_else(|| {
            let names: Vec<&str> = self.prompts.keys().map(String::as_str).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Error::invalid("prompt_name", format!("This model has no prompt '{name}'. It has: {known}."))
        })
    }
}

fn read(path: &Path) -> Result<Written, String> {
    let told = |error: String| format!("{}: {error}", path.display());
    match fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| told(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Written::default()),
        Err(error) => Err(told(error.to_string())),
    }
}

impl Encoder {
    /// Tokens that one text may have.
    fn limit(&self) -> usize {
        self.batcher.shape().context_length
    }

    pub(super) async fn embed(self: Arc<Self>, request: EmbeddingRequest) -> Result<Embeddings, Error> {
        if self.task != Task::Embed {
            let message = "This model scores documents: ask it at '/rerank'. It makes no embeddings.";
            return Err(Error::unsupported("model", message));
        }
        let encoder = Arc::clone(&self);
        let (texts, prompt_tokens) = off_the_loop(move || encoder.texts(&request)).await?;
        Ok(Embeddings { vectors: self.vectors(texts).await?, prompt_tokens })
    }

    pub(super) async fn rerank(self: Arc<Self>, request: RerankRequest) -> Result<Scores, Error> {
        if self.task != Task::Rerank {
            let message =
                "This model makes embeddings: ask it at '/embeddings'. It does not score documents.";
            return Err(Error::unsupported("model", message));
        }
        let encoder = Arc::clone(&self);
        let (texts, prompt_tokens) = off_the_loop(move || encoder.pairs(&request)).await?;
        let scores = self.vectors(texts).await?.into_iter().flatten().collect();
        Ok(Scores { scores, prompt_tokens })
    }

    /// The tokens that the model would see of a text.
    pub(super) fn tokens(&self, prompt: &PromptText) -> Result<Vec<u32>, Error> {
        match prompt {
            PromptText::Text(text) if self.task == Task::Embed => {
                let text = self.prompts.put(self.prompts.find(None)?, text);
                prepare::ids(&self.tokenizer, &PromptText::Text(text))
            }
            prompt => prepare::ids(&self.tokenizer, prompt),
        }
    }

    /// One vector of one token.
    pub(super) async fn warm_up(&self) -> Result<(), Error> {
        self.vectors(vec![Text { tokens: vec![0], ..Text::default() }]).await.map(drop)
    }

    async fn vectors(&self, texts: Vec<Text>) -> Result<Vec<Vec<f32>>, Error> {
        let vectors = self.batcher.submit(texts).map_err(prepare::refusal)?;
        match vectors.await {
            Ok(Ok(vectors)) => Ok(vectors),
            Ok(Err(failure)) => Err(Error::Internal(failure.to_string())),
            Err(_) => Err(Error::Unavailable("The model was stopped.".to_owned())),
        }
    }

    /// The request's texts as tokens, and how many they are.
    fn texts(&self, request: &EmbeddingRequest) -> Result<(Vec<Text>, u64), Error> {
        let EmbeddingRequest { inputs, dimensions, prompt_name, truncate } = request;
        let dimensions = dimensions.map(|dimensions| dimensions as usize);
        let width = self.batcher.shape().width;
        if dimensions.is_some_and(|dimensions| dimensions > width) {
            let message = format!(
                "This model's embeddings have {width} dimensions, or fewer where fewer are asked for."
            );
            return Err(Error::invalid("dimensions", message));
        }
        let longest = self.longest(*truncate)?;
        let prompt = self.prompts.find(prompt_name.as_deref())?;
        let prompt_length = if prompt.is_empty() { 0 } else { self.prompt_length(prompt)? };
        let text = |input: &PromptText| -> Result<Text, Error> {
            let mut text = match input {
                PromptText::Text(text) => {
                    let text = self.prompts.put(prompt, text);
                    let encoded = self.tokenizer.encode_whole(&text, None, longest)?;
                    Text { tokens: encoded.ids, types: encoded.types, prompt: prompt_length, dimensions }
                }
                PromptText::Tokens(_) if prompt_name.is_some() => {
                    let message =
                        "A prompt stands before texts, not before token ids: leave out 'prompt_name'.";
                    return Err(Error::invalid("prompt_name", message));
                }
                PromptText::Tokens(ids) => Text { tokens: ids.clone(), dimensions, ..Text::default() },
            };
            text.tokens.truncate(longest.unwrap_or(usize::MAX));
            self.batcher.check(&text).map_err(|error| self.refusal(error))?;
            Ok(text)
        };
        let several = inputs.len() > 1;
        let place = |place: usize| if several { format!("[{place}]") } else { String::new() };
        let texts =
            inputs.iter().enumerate().map(|(i, input)| text(input).map_err(|error| error.within(place(i))));
        let texts = texts.collect::<Result<Vec<Text>, Error>>()?;
        let count = texts.iter().map(|text| text.tokens.len() as u64).sum();
        Ok((texts, count))
    }

    /// Each document in a pair with the query.
    fn pairs(&self, request: &RerankRequest) -> Result<(Vec<Text>, u64), Error> {
        let RerankRequest { query, documents, truncate } = request;
        let longest = self.longest(*truncate)?;
        let pair = |(place, document): (usize, &String)| -> Result<Text, Error> {
            let encoded = self.tokenizer.encode_whole(query, Some(document), longest)?;
            let text = Text { tokens: encoded.ids, types: encoded.types, ..Text::default() };
            let named = |error| self.refusal(error).within(format!("documents[{place}]"));
            self.batcher.check(&text).map_err(named)?;
            Ok(text)
        };
        let texts = documents.iter().enumerate().map(pair).collect::<Result<Vec<Text>, Error>>()?;
        let count = texts.iter().map(|text| text.tokens.len() as u64).sum();
        Ok((texts, count))
    }

    /// To how many tokens texts are cut.
    fn longest(&self, truncate: Option<Truncate>) -> Result<Option<usize>, Error> {
        truncate.map(|truncate| truncate.within(self.limit())).transpose()
    }

    /// Tokens that a prompt takes at the beginning of a text: without the special ones behind it.
    fn prompt_length(&self, prompt: &str) -> Result<usize, Error> {
        let ids = self.tokenizer.encode(&self.prompts.put(prompt, ""), true)?;
        let behind = ids.iter().rev().take_while(|id| self.tokenizer.is_special(**id)).count();
        Ok(ids.len() - behind)
    }

    /// Why a text was not taken; the caller names it.
    fn refusal(&self, error: SubmitError) -> Error {
        match error {
            SubmitError::ContextLengthExceeded { limit, prompt, .. } => {
                Error::TextTooLong { param: String::new(), limit: limit as u64, tokens: prompt as u64 }
            }
            SubmitError::EmptyPrompt => {
                Error::invalid("", "This text has no tokens, and this model adds none: give at least one.")
            }
            other => prepare::refusal(other),
        }
    }

    pub(super) fn heartbeat(&self) -> Heartbeat {
        let stats = self.batcher.stats();
        let busy = stats.stepping || stats.waiting > 0 || self.batcher.is_stopped();
        Heartbeat { steps: stats.beats, busy }
    }

    pub(super) fn metrics(&self) -> Vec<Metric> {
        let stats = self.batcher.stats();
        let metric = Metric::number;
        vec![
            metric("sconce_texts_waiting", "Texts that wait for their batch.", stats.waiting),
            metric("sconce_vectors_total", "Vectors that were made of texts.", stats.vectors),
            metric("sconce_engine_steps_total", "Forward passes.", stats.steps),
            metric("sconce_tokens_run_total", "Tokens that went through the model.", stats.tokens_run),
        ]
    }
}

/// Cutting thousands of texts into tokens takes a while, and others want this thread.
async fn off_the_loop<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Internal(error.to_string())))
}
