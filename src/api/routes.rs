//! The operations: what each URL does.

use poem::Request;
use poem_openapi::{OpenApi, Tags};
use tokio_util::sync::CancellationToken;

use super::{
    auth::{Caller, Secured},
    chat::{self, ChatEncoder, CreateChatCompletionRequest, CreateChatCompletionResponse},
    completions::{self, CompletionEncoder, CreateCompletionRequest, CreateCompletionResponse},
    embeddings::{self, CreateEmbeddingRequest, CreateEmbeddingResponse},
    error::{ApiError, Kind},
    head::Head,
    health::{Health, Status},
    limits::Admitted,
    metrics, models,
    observe::Exchange,
    payload::WireJson,
    reply::{Health as HealthPage, Json, JsonOrEvents, Page, Reply, Text},
    rerank::{self, CreateRerankRequest, CreateRerankResponse},
    router::PathId,
    sse,
    tokenize::{self, DetokenizeRequest, DetokenizeResponse, Subject, TokenizeRequest, TokenizeResponse},
};
use crate::{
    backend::{Backend, Named, Readiness, Registry as Models, Tokenizer},
    generation,
};

#[derive(Tags)]
enum Tag {
    /// Conversations.
    Chat,
    /// Raw prompts.
    Completions,
    /// Texts as vectors.
    Embeddings,
    /// What is served.
    Models,
    /// Text as token ids.
    Tokens,
    /// How the daemon is.
    Health,
}

/// The operations under the prefix.
pub(crate) struct V1 {
    pub(crate) models: Models,
    /// The server's end: what still runs then is told so.
    pub(crate) cut: CancellationToken,
}

impl V1 {
    /// The paths below the prefix.
    pub(crate) fn paths() -> Vec<String> {
        Self::meta().into_iter().flat_map(|api| api.paths).map(|path| path.path).collect()
    }
}

type Chat = JsonOrEvents<CreateChatCompletionResponse, chat::CreateChatCompletionStreamResponse<'static>>;
type Completion = JsonOrEvents<CreateCompletionResponse, CreateCompletionResponse>;
type Answer<C> = poem::Result<Reply<C>>;

#[OpenApi]
impl V1 {
    /// Create a chat completion
    ///
    /// Continues a conversation; with `stream`, as server-sent events.
    #[oai(
        path = "/chat/completions",
        method = "post",
        tag = "Tag::Chat",
        operation_id = "createChatCompletion"
    )]
    async fn chat(
        &self,
        request: &Request,
        Secured(admitted): Secured<Admitted>,
        body: WireJson<CreateChatCompletionRequest>,
    ) -> Answer<Chat> {
        let exchange = super::exchange(request)?;
        let named = self.model(&body.0.model, &exchange)?;
        let (request, delivery) = chat::convert(*body.0)?;
        let slot = admitted.turn(named.lease()).await?;
        let head = Head::new("chatcmpl-", &named.id, &slot.backend().card().fingerprint);
        let choices = request.choices;
        let events = slot.backend().generate(request).await.map_err(ApiError::from)?;
        if delivery.stream {
            let encoder = ChatEncoder::new(head, delivery, choices);
            return Ok(Reply::events(sse::body(events, encoder, slot, exchange, self.cut.clone())));
        }
        Ok(Reply::json(&chat::collect(events, choices, head, delivery, &exchange).await?)?)
    }

    /// Create a completion
    ///
    /// Continues a raw prompt; with `stream`, as server-sent events.
    #[oai(
        path = "/completions",
        method = "post",
        tag = "Tag::Completions",
        operation_id = "createCompletion"
    )]
    async fn completion(
        &self,
        request: &Request,
        Secured(admitted): Secured<Admitted>,
        body: WireJson<CreateCompletionRequest>,
    ) -> Answer<Completion> {
        let exchange = super::exchange(request)?;
        let named = self.model(&body.0.model, &exchange)?;
        let (requests, delivery) = completions::convert(*body.0)?;
        let slot = admitted.turn(named.lease()).await?;
        let head = Head::new("cmpl-", &named.id, &slot.backend().card().fingerprint);
        let each = requests.first().map_or(1, |request| request.choices);
        let choices = each * u32::try_from(requests.len()).unwrap_or(u32::MAX);
        let mut generations = Vec::with_capacity(requests.len());
        let several = requests.len() > 1;
        for (place, request) in requests.into_iter().enumerate() {
            let events = slot.backend().generate(request).await;
            let prompt = if several { format!("prompt[{place}]") } else { "prompt".to_owned() };
            generations.push(events.map_err(|error| ApiError::from(error.within(prompt)))?);
        }
        let events = generation::join(generations, each);
        if delivery.stream {
            let encoder = CompletionEncoder::new(head, delivery, choices);
            return Ok(Reply::events(sse::body(events, encoder, slot, exchange, self.cut.clone())));
        }
        Ok(Reply::json(&completions::collect(events, choices, head, delivery, &exchange).await?)?)
    }

    /// Create embeddings
    ///
    /// Turns texts into vectors.
    #[oai(path = "/embeddings", method = "post", tag = "Tag::Embeddings", operation_id = "createEmbedding")]
    async fn embedding(
        &self,
        request: &Request,
        Secured(admitted): Secured<Admitted>,
        body: WireJson<CreateEmbeddingRequest>,
    ) -> Answer<Json<CreateEmbeddingResponse>> {
        let exchange = super::exchange(request)?;
        let named = self.model(&body.0.model, &exchange)?;
        let (request, format) = embeddings::convert(*body.0)?;
        let slot = admitted.turn(named.lease()).await?;
        let made =
            slot.backend().embed(request).await.map_err(|error| ApiError::from(error.within("input")))?;
        exchange.counted(made.prompt_tokens);
        Ok(Reply::json(&embeddings::respond(made, &named.id, format))?)
    }

    /// Rerank
    ///
    /// Sorts documents by how well they answer a query. (An extension, in the shape of Jina, Cohere and vLLM.)
    #[oai(path = "/rerank", method = "post", tag = "Tag::Embeddings", operation_id = "createRerank")]
    async fn rerank(
        &self,
        request: &Request,
        Secured(admitted): Secured<Admitted>,
        body: WireJson<CreateRerankRequest>,
    ) -> Answer<Json<CreateRerankResponse>> {
        let exchange = super::exchange(request)?;
        let named = self.model(&body.0.model, &exchange)?;
        let (request, delivery) = rerank::convert(*body.0)?;
        let slot = admitted.turn(named.lease()).await?;
        let head = Head::new("rerank-", &named.id, &slot.backend().card().fingerprint);
        let scores = slot.backend().rerank(request).await.map_err(ApiError::from)?;
        exchange.counted(scores.prompt_tokens);
        Ok(Reply::json(&rerank::respond(scores, head.id, &named.id, delivery))?)
    }

    /// List models
    ///
    /// Every model that is served, in the configuration's order.
    #[oai(path = "/models", method = "get", tag = "Tag::Models", operation_id = "listModels")]
    async fn models(&self, _caller: Secured<Caller>) -> Answer<Page<models::ListModelsResponse>> {
        let data = self.models.cards().iter().map(|(id, card)| models::Model::new(id, card)).collect();
        Ok(Reply::json(&models::ListModelsResponse { object: embeddings::ListObject, data })?)
    }

    /// Retrieve a model
    ///
    /// One model that is served. Its id may have slashes in it, encoded or not.
    #[oai(path = "/models/:model", method = "get", tag = "Tag::Models", operation_id = "retrieveModel")]
    async fn retrieve(
        &self,
        _caller: Secured<Caller>,
        /// The model's id.
        model: PathId,
    ) -> Answer<Page<models::Model>> {
        let card = self.models.cards().swap_remove(&*model.0).ok_or_else(|| self.unknown(&model.0))?;
        Ok(Reply::json(&models::Model::new(&model.0, &card))?)
    }

    /// Tokenize
    ///
    /// The token ids of a prompt, or of a conversation as the model sees it. (An extension, in vLLM's shape.)
    #[oai(path = "/tokenize", method = "post", tag = "Tag::Tokens", operation_id = "tokenize")]
    async fn tokenize(
        &self,
        request: &Request,
        Secured(admitted): Secured<Admitted>,
        body: WireJson<TokenizeRequest>,
    ) -> Answer<Json<TokenizeResponse>> {
        let named = self.model(&body.0.model, &*super::exchange(request)?)?;
        let subject = tokenize::convert(*body.0)?;
        let slot = admitted.turn(named.lease()).await?;
        let tokenizer = tokenizer(&named.id, slot.backend())?;
        let tokens = match subject {
            Subject::Prompt(prompt) => tokenizer.tokenize(&prompt),
            Subject::Chat(chat) => tokenizer.tokenize_chat(&chat),
        };
        let tokens = tokens.map_err(ApiError::from)?;
        let max_model_len = slot.backend().card().context_length;
        Ok(Reply::json(&TokenizeResponse { count: tokens.len() as u64, tokens, max_model_len })?)
    }

    /// Detokenize
    ///
    /// The text of token ids. (An extension, in vLLM's shape.)
    #[oai(path = "/detokenize", method = "post", tag = "Tag::Tokens", operation_id = "detokenize")]
    async fn detokenize(
        &self,
        request: &Request,
        Secured(admitted): Secured<Admitted>,
        body: WireJson<DetokenizeRequest>,
    ) -> Answer<Json<DetokenizeResponse>> {
        let named = self.model(&body.0.model, &*super::exchange(request)?)?;
        let slot = admitted.turn(named.lease()).await?;
        let tokenizer = tokenizer(&named.id, slot.backend())?;
        let prompt =
            tokenizer.detokenize(&body.0.tokens).map_err(|error| ApiError::from(error.within("tokens")))?;
        Ok(Reply::json(&DetokenizeResponse { prompt })?)
    }
}

impl V1 {
    /// The model of a request.
    fn model(&self, id: &str, exchange: &Exchange) -> Result<Named, ApiError> {
        let named = self.models.find(id).ok_or_else(|| self.unknown(id))?;
        let id = &named.id;
        exchange.model(id);
        if let Readiness::NotReady(reason) = named.model.readiness() {
            return Err(ApiError::new(Kind::NotReady, format!("The model '{id}' is not ready: {reason}.")));
        }
        Ok(named)
    }

    fn unknown(&self, id: &str) -> ApiError {
        unknown_model(&self.models, id)
    }
}

pub(crate) fn unknown_model(models: &Models, id: &str) -> ApiError {
    let cards = models.cards();
    let served: Vec<&str> = cards.keys().map(|id| &**id).collect();
    let message = format!("The model '{id}' does not exist here. Served are: {}.", served.join(", "));
    ApiError::at(Kind::ModelNotFound, "model", message)
}

fn tokenizer<'a>(id: &str, backend: &'a dyn Backend) -> Result<&'a dyn Tokenizer, ApiError> {
    let message = || format!("The backend of '{id}' has no tokenizer.");
    backend.tokenizer().ok_or_else(|| ApiError::unsupported("model", message()))
}

/// The operations beside the prefix: how the daemon is.
pub(crate) struct Root {
    pub(crate) models: Models,
    pub(crate) draining: CancellationToken,
}

#[OpenApi]
impl Root {
    /// Readiness
    ///
    /// The same as `/health/ready`.
    #[oai(path = "/health", method = "get", tag = "Tag::Health", operation_id = "getHealth")]
    async fn health(&self) -> Answer<HealthPage> {
        self.readiness()
    }

    /// Readiness
    ///
    /// 200 when every required model can serve, until the server begins to shut down.
    #[oai(path = "/health/ready", method = "get", tag = "Tag::Health", operation_id = "getReadiness")]
    async fn ready(&self) -> Answer<HealthPage> {
        self.readiness()
    }

    /// Liveness
    ///
    /// 200 while the process answers at all.
    #[oai(path = "/health/live", method = "get", tag = "Tag::Health", operation_id = "getLiveness")]
    async fn live(&self) -> Answer<HealthPage> {
        Ok(Reply::health(&Health { status: Status::Ok, reason: None })?)
    }

    /// Metrics
    ///
    /// What the models' engines count, in Prometheus's text format.
    #[oai(path = "/metrics", method = "get", tag = "Tag::Health", operation_id = "getMetrics")]
    async fn metrics(&self, _caller: Secured<Caller>) -> Answer<Text> {
        Ok(Reply::text(metrics::text(&self.models)))
    }
}

impl Root {
    fn readiness(&self) -> Answer<HealthPage> {
        let reason = if self.draining.is_cancelled() {
            Some("shutting down".to_owned())
        } else {
            match self.models.readiness() {
                Readiness::Ready => None,
                Readiness::NotReady(reason) => Some(reason),
            }
        };
        let status = if reason.is_none() { Status::Ok } else { Status::Unavailable };
        Ok(Reply::health(&Health { status, reason })?)
    }
}
