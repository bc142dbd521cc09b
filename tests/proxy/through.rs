//! Requests and answers go through as they are.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    common::{MODEL, TestServer, chat, error_of, with},
    upstream::{Upstream, json, proxy, ready},
};

const CHAT: &str = "/v1/chat/completions";

/// An answer without what differs from answer to answer.
fn plain(mut answer: Value) -> Value {
    for name in ["id", "created"] {
        answer[name] = Value::Null;
    }
    answer
}

#[tokio::test]
async fn another_sconce_answers_as_it_does_itself() {
    let upstream = TestServer::start(&[]);
    let proxy = proxy(&[("a", &upstream.base)], &[]).await;
    for body in [chat("hi"), with(chat("höß"), json!({ "n": 2, "logprobs": true, "max_tokens": 3 }))] {
        let through = proxy.ok(CHAT, &body).await;
        assert_eq!(plain(through), plain(upstream.ok(CHAT, &body).await));
        let through: Vec<_> = proxy.stream(CHAT, &body).await.into_iter().map(plain).collect();
        let direct: Vec<_> = upstream.stream(CHAT, &body).await.into_iter().map(plain).collect();
        assert_eq!(through, direct);
    }
    for (path, body) in [
        ("/v1/completions", json!({ "model": MODEL, "prompt": ["a", "b"] })),
        ("/v1/embeddings", json!({ "model": MODEL, "input": "a" })),
        ("/v1/tokenize", json!({ "model": MODEL, "prompt": "a b" })),
        ("/v1/detokenize", json!({ "model": MODEL, "tokens": [97] })),
    ] {
        assert_eq!(plain(proxy.ok(path, &body).await), plain(upstream.ok(path, &body).await), "{path}");
    }
    for body in [json!({ "model": MODEL }), with(chat("hi"), json!({ "temperature": 9 }))] {
        assert_eq!(proxy.error(CHAT, &body).await, upstream.error(CHAT, &body).await);
    }
    let health: Value = proxy.get("/health").await.json().await.unwrap();
    assert_eq!(health, json!({ "status": "ok" }));
    let line = &proxy.requests()[0];
    assert_eq!((&line["upstream"], &line["outcome"]), (&json!("a"), &json!("ok")));
}

#[tokio::test]
async fn a_body_goes_on_byte_for_byte_but_for_the_model() {
    let upstream = Upstream::always(vec![json("200 OK", "{}")]).await;
    let url = upstream.url();
    let body = format!(
        r#"{{ "seed":1.50e1 , "x":[12345678901234567890.10, null],"model": "{MODEL}" ,"é":"\u00e9"}}"#
    );
    for (settings, expected) in [
        (vec![], body.clone()),
        (vec!["proxy.model=org/\"name\""], body.replace(&format!("\"{MODEL}\""), r#""org/\"name\"""#)),
    ] {
        let proxy = proxy(&[("a", &url)], &settings).await;
        let request = proxy.client.post(proxy.url("/v1/chat/completions?api-version=1"));
        let response =
            request.header("content-type", "application/json").body(body.clone()).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let seen = upstream.requests().pop().unwrap();
        assert!(seen.starts_with("POST /v1/chat/completions?api-version=1 HTTP/1.1\r\n"), "{seen}");
        assert!(seen.ends_with(&format!("\r\n\r\n{expected}")), "{seen}");
    }
}

#[tokio::test]
async fn an_answer_comes_back_byte_for_byte() {
    let body = r#"{ "id":"x","model":"other", "logprob":-0.10000000149011612, "u":1.0e5 }"#;
    let upstream = Upstream::always(vec![json("200 OK", body)]).await;
    let proxy = proxy(&[("a", &upstream.url())], &[]).await;
    let response = proxy.post(CHAT, &chat("hi")).await;
    assert_eq!(response.text().await.unwrap(), body);
}

#[tokio::test]
async fn keys_are_checked_here_and_replaced_for_the_upstream() {
    let upstream = Upstream::always(vec![json("200 OK", "{}")]).await;
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("ours"), "client:sk-ours\n").unwrap();
    fs::write(directory.path().join("theirs"), "sk-theirs\n").unwrap();
    let url = format!("proxy.base_url={}", upstream.url());
    let settings =
        ["--backend", "proxy", "--set", &url, "--set", "proxy.health_path=", "--api-key-file", "ours"];
    let settings = [&settings[..], &["--set", "proxy.api_key_file=theirs"]].concat();
    let server = ready(TestServer::start_in(directory, &settings)).await;
    let (status, error) = server.error(CHAT, &chat("hi")).await;
    assert_eq!((status, &error["code"]), (401, &json!("invalid_api_key")));
    assert!(upstream.requests().is_empty());

    let request = server.client.post(server.url(CHAT)).bearer_auth("sk-ours").header("x-api-key", "sk-ours");
    let request = request.header("x-request-id", "given").header("cookie", "c").header("openai-project", "p");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request =
        request.header("traceparent", trace).header("tracestate", "a=1").header("tracestate", "b=2");
    let response = request.json(&chat("hi")).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-request-id"]),
        (200, &"given".parse().unwrap())
    );
    let seen = upstream.requests().pop().unwrap().to_lowercase();
    for field in [
        "authorization: bearer sk-theirs\r\n",
        "x-request-id: given\r\n",
        "openai-project: p\r\n",
        &format!("traceparent: {trace}\r\n"),
        "tracestate: a=1\r\ntracestate: b=2\r\n",
    ] {
        assert!(seen.contains(field), "{seen}");
    }
    for field in ["sk-ours", "cookie"] {
        assert!(!seen.contains(field), "{seen}");
    }
    assert!(!server.log().contains("sk-"));

    let request = server.client.post(server.url(CHAT)).bearer_auth("sk-ours").header("tracestate", "a=1");
    assert_eq!(request.json(&chat("hi")).send().await.unwrap().status(), 200);
    let seen = upstream.requests().pop().unwrap().to_lowercase();
    assert!(seen.contains("traceparent: 00-"), "one is begun: {seen}");
    assert!(!seen.contains("tracestate"), "of a trace that nobody knows: {seen}");
}

#[tokio::test]
async fn a_local_model_beside_a_proxied_one_holds_its_body_once() {
    let upstream = Upstream::always(vec![json("200 OK", "{}")]).await;
    let far = format!("models.far.proxy.base_url={}", upstream.url());
    let settings = ["models.near.backend=echo", "models.far.backend=proxy", "models.far.proxy.health_path="];
    let settings = [&settings[..], &["limits.max_waiting_bodies=3KiB", &far]].concat();
    let server = ready(TestServer::set(&settings)).await;
    for model in ["near", "far"] {
        let body = |length| with(chat(&"x".repeat(length)), json!({ "model": model }));
        server.ok(CHAT, &body(2500)).await;
        assert_eq!(server.error(CHAT, &body(3100)).await.0, 429);
    }
}

#[tokio::test]
async fn what_is_no_request_goes_nowhere() {
    let upstream = Upstream::always(vec![json("200 OK", "{}")]).await;
    let proxy = proxy(&[("a", &upstream.url())], &["limits.max_body_size=1KiB"]).await;
    let send = async |body: String| {
        let request = proxy.client.post(proxy.url(CHAT)).header("content-type", "application/json");
        error_of(request.body(body).send().await.unwrap()).await
    };
    let deep = format!(r#"{{"model":"{MODEL}","x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    for (body, status, code) in [
        (format!(r#"{{"model":"{MODEL}","#), 400, "invalid_json"),
        (deep, 400, "invalid_json"),
        (r#"{"model":7}"#.to_owned(), 400, "invalid_value"),
        (r#"{"messages":[]}"#.to_owned(), 400, "invalid_value"),
        (chat("hi").to_string().replace(MODEL, "unknown"), 404, "model_not_found"),
        (chat(&"x".repeat(2000)).to_string(), 413, "body_too_large"),
    ] {
        let (found, error) = send(body).await;
        assert_eq!((found, &error["code"]), (status, &json!(code)), "{error}");
    }
    let (status, _) = proxy.error("/v1/files", &chat("hi")).await;
    assert_eq!(status, 404, "not on the list of what goes through");
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn other_operations_go_through_and_own_models_do_without_them() {
    let upstream = Upstream::always(vec![json("200 OK", r#"{"ok":1}"#)]).await;
    let url = format!("models.far.proxy.base_url={}", upstream.url());
    let server = ready(TestServer::set(&[
        "models.near.backend=echo",
        "models.far.backend=proxy",
        "models.far.proxy.health_path=",
        &url,
    ]))
    .await;
    let ask = |model: &str| json!({ "model": model, "query": "q", "documents": ["d"] });
    for path in ["rerank", "score", "responses", "messages", "audio/speech"] {
        let path = format!("/v1/{path}");
        assert_eq!(server.ok(&path, &ask("far")).await, json!({ "ok": 1 }));
        assert!(upstream.requests().pop().unwrap().starts_with(&format!("POST {path} ")));
        if path == "/v1/rerank" {
            assert_eq!(server.ok(&path, &ask("near")).await["model"], "near");
        } else {
            let (status, error) = server.error(&path, &ask("near")).await;
            assert_eq!((status, &error["param"]), (400, &json!("model")), "{error}");
        }
        assert_eq!(server.error(&path, &ask("none")).await.0, 404);
    }
    server.ok("/v1/tokenize", &ask("far")).await;
    assert!(upstream.requests().pop().unwrap().starts_with("POST /tokenize "), "beside vLLM's /v1");
    let near = server.ok(CHAT, &with(chat("hi"), json!({ "model": "near" }))).await;
    assert_eq!(near["choices"][0]["message"]["content"], "Echo from near: hi");
    let models: Value = server.get("/v1/models").await.json().await.unwrap();
    let ids: Vec<_> = models["data"].as_array().unwrap().iter().map(|model| model["id"].clone()).collect();
    assert_eq!(ids, ["near", "far"]);
    for path in ["/v1/rerank", "/v1/responses"] {
        let response = server.get(path).await;
        assert_eq!(
            (response.status(), &response.headers()["allow"]),
            (405.try_into().unwrap(), &"POST".parse().unwrap())
        );
    }
}

#[tokio::test]
async fn forms_go_through_with_their_model() {
    let upstream = Upstream::always(vec![json("200 OK", r#"{"text":"t"}"#)]).await;
    let proxy = proxy(&[("a", &upstream.url())], &["proxy.model=whisper"]).await;
    let part = |head: &str, content: &str| {
        format!("--b\r\ncontent-disposition: form-data; {head}\r\n\r\n{content}\r\n")
    };
    let form = |model: &str| {
        format!(
            "{}{}--b--\r\n",
            part("name=\"file\"; filename=\"a.wav\"", "RIFF"),
            part("name=\"model\"", model)
        )
    };
    let request = proxy.client.post(proxy.url("/v1/audio/transcriptions"));
    let request = request.header("content-type", "multipart/form-data; boundary=b");
    let response = request.body(form(MODEL)).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), r#"{"text":"t"}"#);
    assert!(upstream.requests()[0].ends_with(&form("whisper")), "{:?}", upstream.requests());
}

#[tokio::test]
async fn unix_sockets_http2_and_tls() {
    let directory = TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let write = |name: &str, text: String| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let certificate = write("c.pem", made.cert.pem());
    let key = write("k.pem", made.signing_key.serialize_pem());
    let socket = directory.path().join("s").display().to_string();
    let listen = format!("server.listen=['127.0.0.1:0', 'unix:{socket}']");
    let over_unix = TestServer::set(&[&listen]);
    let (certificate_, key_) =
        (format!("server.tls_certificate={certificate}"), format!("server.tls_key={key}"));
    let over_tls = TestServer::set(&[&certificate_, &key_]);
    let tls = format!("https://localhost:{}", over_tls.address.port());
    let roots = format!("proxy.tls_roots={certificate}");
    for (url, settings) in [
        (format!("unix:{socket}"), vec![]),
        (format!("unix:{socket}:/v1"), vec!["proxy.http2=true"]),
        (over_unix.base.clone(), vec!["proxy.http2=true"]),
        (tls.clone(), vec![roots.as_str()]),
        (tls.clone(), vec![roots.as_str(), "proxy.http2=true"]),
    ] {
        let proxy = proxy(&[("a", &url)], &settings).await;
        for _ in 0..3 {
            proxy.ok(CHAT, &chat("hi")).await;
            assert!(!proxy.stream(CHAT, &chat("hi")).await.is_empty());
        }
    }
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let roots = format!("proxy.tls_roots={}", write("other.pem", other.cert.pem()));
    let distrusting = proxy(&[("a", &tls)], &[&roots]).await;
    assert_eq!(distrusting.error(CHAT, &chat("hi")).await.0, 503, "its certificate comes from somebody else");
}
