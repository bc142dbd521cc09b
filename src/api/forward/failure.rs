//! Errors of other servers in OpenAI's envelope: as they came where they have its shape, else put into it.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use poem::Response;
use serde_json::{Map, Value, json};

use super::super::error::RETRY_AFTER;

/// An error with the status and the words of the server that answered it.
pub(super) fn response(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response {
    let body = envelope(status, &body).map_or(body, Bytes::from);
    let mut response = Response::builder().status(status).body(body);
    *response.headers_mut() = headers;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if status == StatusCode::SERVICE_UNAVAILABLE && !headers.contains_key(header::RETRY_AFTER) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
    }
    response
}

/// The envelope for an error of another shape; `None` for one that is in an envelope.
pub(super) fn envelope(status: StatusCode, body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = &value["error"];
    if is_envelope(error) {
        return None;
    }
    let (message, param) = words(&value);
    let message = message.unwrap_or_else(|| {
        format!(
            "The upstream server answered with status {} and no error that can be passed on.",
            status.as_u16()
        )
    });
    let text = |key: &str| [&error[key], &value[key]].into_iter().find_map(Value::as_str);
    let kind = match text("type").or_else(|| value["error_type"].as_str()) {
        // What Anthropic's envelope says beside the error proper.
        Some(kind) if kind != "error" => kind,
        _ if status == StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        _ if status.is_client_error() => "invalid_request_error",
        _ => "server_error",
    };
    let mut envelope = Map::new();
    if value["type"] == "error" {
        envelope.insert("type".to_owned(), "error".into());
    }
    let error = json!({
        "message": message,
        "type": kind,
        "param": param.as_deref().or_else(|| text("param")).map(|param| param.trim_start_matches("body.")),
        // vLLM and llama.cpp have the status here, as a number.
        "code": text("code"),
    });
    envelope.insert("error".to_owned(), error);
    Some(Value::Object(envelope).to_string())
}

/// Whether the data of an event are an error: an object that begins with one.
pub(super) fn is_error(data: &str) -> bool {
    let begins = data.strip_prefix('{').is_some_and(|rest| rest.trim_start().starts_with("\"error\""));
    begins && serde_json::from_str::<Value>(data).is_ok_and(|value| !value["error"].is_null())
}

fn is_envelope(error: &Value) -> bool {
    let has = |key: &str| error.get(key).is_some_and(|value| value.is_string() || value.is_null());
    error["message"].is_string() && error["type"].is_string() && has("param") && has("code")
}

/// What an error says, and of which parameter.
fn words(value: &Value) -> (Option<String>, Option<String>) {
    let said = [&value["error"]["message"], &value["message"], &value["error"], &value["detail"]];
    if let Some(text) = said.into_iter().find_map(Value::as_str).filter(|text| !text.is_empty()) {
        return (Some(text.to_owned()), None);
    }
    // FastAPI's list of what is wrong with which part of the request.
    let Some(first) = value["detail"].get(0) else { return (None, None) };
    let param = first["loc"].as_array().map(|path| {
        let mut param = String::new();
        for step in path.iter().skip_while(|step| **step == "body") {
            match step {
                Value::String(name) if param.is_empty() => param.push_str(name),
                Value::String(name) => param.extend([".", name]),
                step => param.push_str(&format!("[{step}]")),
            }
        }
        param
    });
    let message = first["msg"].as_str().map(|message| match &param {
        Some(param) if !param.is_empty() => format!("Invalid value for '{param}': {message}."),
        _ => message.to_owned(),
    });
    (message, param.filter(|param| !param.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(status: u16, body: &str) -> Value {
        let text = envelope(StatusCode::from_u16(status).unwrap(), body.as_bytes()).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn an_envelope_is_left_as_it_is() {
        let body = br#"{"error": {"message":"m","type":"t","param":null,"code":"c","more":1.50}}"#;
        assert_eq!(envelope(StatusCode::CONFLICT, body), None);
    }

    #[test]
    fn other_shapes_are_put_into_one() {
        let error = |message: &str, kind: &str, param: Option<&str>, code: Option<&str>| json!({ "error": { "message": message, "type": kind, "param": param, "code": code } });
        for (status, body, expected) in [
            // vLLM, at present and before 0.10.
            (
                404,
                r#"{"error":{"message":"no such model","type":"NotFoundError","param":"model","code":404}}"#,
                error("no such model", "NotFoundError", Some("model"), None),
            ),
            (
                400,
                r#"{"object":"error","message":"too long","type":"BadRequestError","param":null,"code":400}"#,
                error("too long", "BadRequestError", None, None),
            ),
            (
                400,
                r#"{"error":{"message":"m","type":"Bad Request","param":"body.messages","code":400}}"#,
                error("m", "Bad Request", Some("messages"), None),
            ),
            // FastAPI.
            (404, r#"{"detail":"Not Found"}"#, error("Not Found", "invalid_request_error", None, None)),
            (
                422,
                r#"{"detail":[{"loc":["body","messages",2,"content"],"msg":"field required","type":"missing"}]}"#,
                error(
                    "Invalid value for 'messages[2].content': field required.",
                    "invalid_request_error",
                    Some("messages[2].content"),
                    None,
                ),
            ),
            // TGI.
            (
                429,
                r#"{"error":"Model is overloaded","error_type":"overloaded"}"#,
                error("Model is overloaded", "overloaded", None, None),
            ),
            // llama.cpp, Ollama.
            (
                500,
                r#"{"error":{"code":500,"message":"m","type":"server_error"}}"#,
                error("m", "server_error", None, None),
            ),
            (400, r#"{"error":"bad"}"#, error("bad", "invalid_request_error", None, None)),
            (429, r#"{"message":"slow down"}"#, error("slow down", "rate_limit_error", None, None)),
        ] {
            assert_eq!(put(status, body), expected, "{body}");
        }
    }

    #[test]
    fn anthropics_envelope_keeps_its_type() {
        let body = r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#;
        let expected = json!({ "type": "error", "error": { "message": "m", "type": "overloaded_error", "param": null, "code": null } });
        assert_eq!(put(529, body), expected);
    }

    #[test]
    fn what_is_no_error_object_is_told_by_its_status_alone() {
        for body in ["", "<html>10.0.0.7</html>", "null", "[]", r#"{"detail":[]}"#, r#"{"error":""}"#] {
            let error = put(500, body);
            assert_eq!(
                error["error"]["message"],
                "The upstream server answered with status 500 and no error that can be passed on."
            );
            assert_eq!(error["error"]["type"], "server_error");
        }
    }
}
