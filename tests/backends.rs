//! What the API makes of backends that are not ready, fail or panic.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use http_body_util::{BodyExt, Full};
use sconce::{
    api::{Api, Body, Parts},
    backend::{Backend, Kind, Model, ModelCard, Readiness, Tokenizer},
    generation::{EmbeddingRequest, Embeddings, Error, Events, GenerationEvent, GenerationRequest},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

type Play = fn() -> Result<BoxStream<'static, Result<GenerationEvent, Error>>, Error>;

/// A backend that does just what a test wants.
struct Scripted {
    card: ModelCard,
    ready: Arc<AtomicBool>,
    play: Play,
}

impl Backend for Scripted {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn readiness(&self) -> Readiness {
        if self.ready.load(Ordering::SeqCst) {
            Readiness::Ready
        } else {
            Readiness::NotReady("loading 3/24 layers".to_owned())
        }
    }

    fn generate(&self, _: GenerationRequest) -> BoxFuture<'_, Result<Events, Error>> {
        async move { (self.play)().map(|events| Box::pin(events) as Events) }.boxed()
    }

    fn embed(&self, _: EmbeddingRequest) -> BoxFuture<'_, Result<Embeddings, Error>> {
        async { Err(Error::Internal("the secret reason".to_owned())) }.boxed()
    }

    fn tokenizer(&self) -> Option<&dyn Tokenizer> {
        None
    }
}

struct House {
    api: Api,
    ready: Arc<AtomicBool>,
    draining: CancellationToken,
    cut: CancellationToken,
}

fn house(play: Play) -> House {
    let ready = Arc::new(AtomicBool::new(true));
    let card = ModelCard { created: 0, owner: "test".into(), fingerprint: "fp".into(), context_length: 1 };
    let backend = Scripted { card, ready: Arc::clone(&ready), play };
    let model = Model::loaded("m", Kind::Echo, Box::new(backend));
    let (draining, cut) = (CancellationToken::new(), CancellationToken::new());
    let api = Api::new(Parts {
        prefix: "/v1".into(),
        models: [model].into_iter().collect(),
        keys: sconce::api::auth::KeyRing::default(),
        limits: sconce::api::limits::Config::default(),
        cors: sconce::api::cors::Config::default(),
        log_prompts: false,
        draining: draining.clone(),
        cut: cut.clone(),
    });
    House { api, ready, draining, cut }
}

impl House {
    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        let body: Body = Full::new(body.to_string().into()).map_err(|never| match never {}).boxed();
        let request = http::Request::builder().method(method).uri(path).body(body).unwrap();
        let response = self.api.call(request).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn chat(&self, stream: bool) -> (u16, String) {
        let messages = json!([{ "role": "user", "content": "hi" }]);
        self.call(
            "POST",
            "/v1/chat/completions",
            json!({ "model": "m", "messages": messages, "stream": stream }),
        )
        .await
    }
}

fn text(text: &str) -> Result<GenerationEvent, Error> {
    Ok(GenerationEvent::Text { choice: 0, text: text.to_owned(), logprobs: vec![] })
}

/// The envelope of an answer, or of the last event of a stream that must end without `[DONE]`.
fn error(body: &str) -> Value {
    assert!(!body.contains("[DONE]"), "{body}");
    let last = body.trim_end().rsplit("\n\n").next().unwrap();
    let value: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap_or(last)).unwrap();
    assert_eq!(value["error"].as_object().unwrap().len(), 4, "{value}");
    value["error"].clone()
}

#[tokio::test]
async fn a_model_that_is_not_ready_is_said_so_everywhere() {
    let house = house(|| Ok(stream::empty().boxed()));
    house.ready.store(false, Ordering::SeqCst);
    for path in ["/health", "/health/ready"] {
        let (status, body) = house.call("GET", path, Value::Null).await;
        assert_eq!(
            (status, body.as_str()),
            (503, r#"{"status":"unavailable","reason":"m: loading 3/24 layers"}"#)
        );
    }
    assert_eq!(house.call("GET", "/health/live", Value::Null).await.0, 200);
    let (status, body) = house.chat(false).await;
    assert_eq!((status, &error(&body)["code"]), (503, &json!("not_ready")));
    assert!(body.contains("3/24"));

    house.ready.store(true, Ordering::SeqCst);
    assert_eq!(house.call("GET", "/health", Value::Null).await.0, 200);
    house.draining.cancel();
    let (status, body) = house.call("GET", "/health", Value::Null).await;
    assert_eq!((status, body.contains("shutting down")), (503, true));
}

#[tokio::test]
async fn a_panic_is_an_error_of_its_request_alone() {
    let house = house(|| panic!("in generate"));
    for _ in 0..3 {
        for stream in [false, true] {
            let (status, body) = house.chat(stream).await;
            assert_eq!((status, &error(&body)["type"]), (500, &json!("server_error")));
            assert!(!body.contains("in generate"));
        }
    }
}

#[tokio::test]
async fn a_panic_in_a_stream_ends_it_with_an_error_event() {
    let house =
        house(|| Ok(stream::iter(0..2).map(|n| if n == 0 { text("a") } else { panic!("inside") }).boxed()));
    let (status, body) = house.chat(true).await;
    assert_eq!(status, 200);
    assert!(body.contains(r#""content":"a""#));
    assert_eq!(error(&body)["type"], "server_error");
    assert_eq!(house.chat(false).await.0, 500);
}

#[tokio::test]
async fn a_failure_in_the_middle_is_an_error_event_and_never_a_short_answer() {
    let failing =
        || Ok(stream::iter([text("a"), Err(Error::Overloaded("no memory left".to_owned()))]).boxed());
    let house_ = house(failing);
    let (_, body) = house_.chat(true).await;
    assert_eq!(error(&body)["code"], "rate_limit_exceeded");
    assert_eq!(house_.chat(false).await.0, 429);
    // A stream that just stops is no answer either.
    let house = house(|| Ok(stream::iter([text("a")]).boxed()));
    assert_eq!(error(&house.chat(true).await.1)["type"], "server_error");
    assert_eq!(house.chat(false).await.0, 500);
}

#[tokio::test]
async fn inner_failures_keep_their_reason_to_the_log() {
    let house = house(|| Err(Error::Internal("the secret reason".to_owned())));
    let (status, body) = house.chat(false).await;
    assert_eq!((status, body.contains("secret")), (500, false));
    let (status, body) = house.call("POST", "/v1/embeddings", json!({ "model": "m", "input": "a" })).await;
    assert_eq!((status, body.contains("secret")), (500, false));
    let (status, body) = house.call("POST", "/v1/tokenize", json!({ "model": "m", "prompt": "a" })).await;
    assert_eq!((status, &error(&body)["param"]), (400, &json!("model")));
}

#[tokio::test]
async fn the_servers_end_ends_what_is_quiet() {
    let house = Arc::new(house(|| Ok(stream::pending().boxed())));
    let calls: Vec<_> = [false, true]
        .map(|stream| {
            let house = Arc::clone(&house);
            tokio::spawn(async move { house.chat(stream).await })
        })
        .into();
    tokio::task::yield_now().await;
    house.cut.cancel();
    for (call, expected) in calls.into_iter().zip([503, 200]) {
        let (status, body) = call.await.unwrap();
        assert_eq!((status, &error(&body)["code"]), (expected, &json!("not_ready")));
    }
}
