//! Health checks, pages, and the headers that every answer has.

use serde_json::{Value, json};

use crate::common::{TestServer, chat};

#[tokio::test]
async fn a_ready_daemon_says_so() {
    let server = TestServer::start(&[]);
    for path in ["/health", "/health/ready", "/health/live"] {
        let response = server.get(path).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.text().await.unwrap(), r#"{"status":"ok"}"#);
    }
}

#[tokio::test]
async fn every_answer_is_named_and_timed() {
    let server = TestServer::start(&[]);
    for path in ["/health", "/v1/models", "/nowhere", "/docs", "/"] {
        let response = server.get(path).await;
        let headers = response.headers();
        assert!(headers["x-request-id"].to_str().unwrap().starts_with("req_"), "{path}");
        assert!(headers["openai-processing-ms"].to_str().unwrap().parse::<u64>().is_ok());
        assert!(headers.contains_key("openai-version"));
    }
    let asked = async |id: &str| {
        let request = server.client.get(server.url("/health")).header("x-request-id", id);
        request.send().await.unwrap().headers()["x-request-id"].to_str().unwrap().to_owned()
    };
    assert_eq!(asked("trace-42.a_b:c").await, "trace-42.a_b:c");
    for malformed in ["has space", "", "q\"uote", &"x".repeat(129)] {
        assert!(asked(malformed).await.starts_with("req_"), "{malformed}");
    }
}

#[tokio::test]
async fn a_request_is_one_line_in_the_log_without_its_text() {
    let server = TestServer::start(&[]);
    let request = server.client.post(server.url("/v1/chat/completions")).header("x-request-id", "mine");
    request.json(&chat("private words")).send().await.unwrap().bytes().await.unwrap();
    server.logged("mine").await;
    let lines = server.requests();
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    for (field, value) in [
        ("method", json!("POST")),
        ("path", json!("/v1/chat/completions")),
        ("status", json!(200)),
        ("model", json!("gpt-oss-20b")),
        ("request_id", json!("mine")),
        ("completion_tokens", json!(11)),
        ("outcome", json!("ok")),
    ] {
        assert_eq!(line[field], value, "{field}: {line}");
    }
    assert!(line["duration_ms"].as_f64().unwrap() >= line["first_token_ms"].as_f64().unwrap());
    assert!(!server.log().contains("private"));

    let telling = TestServer::set(&["log.prompts=true"]);
    telling.ok("/v1/chat/completions", &chat("private words")).await;
    telling.logged("private words").await;
}

#[tokio::test]
async fn an_error_is_logged_without_what_the_client_sent() {
    let server = TestServer::start(&[]);
    server
        .error("/v1/chat/completions", &json!({ "model": "gpt-oss-20b", "messages": "private words" }))
        .await;
    server.logged("invalid_value at messages").await;
    assert!(!server.log().contains("private"));
}

#[tokio::test]
async fn pages_link_to_each_other_and_to_no_other_host() {
    let server = TestServer::set(&[r#"models."<b>&co".backend=echo"#]);
    let landing = server.get("/").await.text().await.unwrap();
    for link in ["/docs", "/openapi.json", "/v1/models", "/health"] {
        assert!(landing.contains(&format!("href=\"{link}\"")), "{link}");
        assert!(server.get(link).await.status().is_success(), "{link}");
    }
    assert!(landing.contains("&lt;b&gt;&amp;co") && landing.contains("echo") && !landing.contains("<b>"));
    let docs = server.get("/docs").await;
    assert!(docs.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'self'"));
    let docs = docs.text().await.unwrap();
    for text in [&landing, &docs] {
        assert!(!text.contains("http://") && !text.contains("https://"));
    }
}

#[tokio::test]
async fn large_pages_are_compressed_and_cached() {
    let server = TestServer::start(&[]);
    for path in ["/docs/swagger-ui.js", "/docs/swagger-ui.css", "/openapi.json"] {
        let zipped =
            server.client.get(server.url(path)).header("accept-encoding", "gzip").send().await.unwrap();
        assert_eq!(zipped.headers()["content-encoding"], "gzip");
        assert!(zipped.headers()["cache-control"].to_str().unwrap().contains("max-age"));
        let tag = zipped.headers()["etag"].clone();
        let zipped = zipped.bytes().await.unwrap();
        let plain = server.get(path).await.bytes().await.unwrap();
        let mut unzipped = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&zipped[..]), &mut unzipped).unwrap();
        assert_eq!(plain, unzipped);
        assert!(zipped.len() * 2 < plain.len());
        let again = server.client.get(server.url(path)).header("if-none-match", tag).send().await.unwrap();
        assert_eq!(again.status(), 304);
    }
}

#[test]
fn the_committed_document_is_fresh() {
    let document = sconce::api::openapi_document("/v1");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &document).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(committed == document, "openapi/openapi.json is stale: run UPDATE=1 cargo test");
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    fn walk<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str));
                object.values().for_each(|value| walk(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| walk(value, found)),
            _ => {}
        }
    }
    let document: Value = serde_json::from_str(&sconce::api::openapi_document("/v1")).unwrap();
    let mut references = Vec::new();
    walk(&document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
}
