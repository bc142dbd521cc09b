//! The predecessor's `APP_*` variables.

use crate::{Place, assert_has};

fn key(place: &Place) -> String {
    let keys = place.config().auth.keys;
    assert_eq!(keys.len(), 1);
    keys[0].reveal().to_owned()
}

#[test]
fn each_variable_sets_its_key() {
    let place = Place::new()
        .env("APP_API_KEY", "secret")
        .env("APP_MODEL_ID", "123")
        .env("APP_BACKEND", "echo")
        .env("APP_API_PREFIX", "/api/")
        .env("APP_MAX_TOKENS", "9")
        .env("APP_TEMPERATURE", "1")
        .env("APP_TOP_P", "0.5");
    let config = place.config();
    assert_eq!(key(&place), "secret");
    assert_eq!(config.model_id, "123");
    assert_eq!(config.api_prefix, "/api");
    assert_eq!(config.model.max_tokens, 9);
    assert_eq!((config.model.temperature, config.model.top_p), (Some(1.0), Some(0.5)));
    assert!(place.warnings().is_empty());
}

#[test]
fn names_have_any_case() {
    assert_eq!(Place::new().env("app_model_id", "x").config().model_id, "x");
    assert_eq!(Place::new().dotenv("App_Model_Id=x").config().model_id, "x");
}

#[test]
fn the_key_is_one_key_whatever_it_holds() {
    assert_eq!(key(&Place::new().env("APP_API_KEY", "a,b")), "a,b");
    assert_eq!(key(&Place::new().env("APP_API_KEY", "[\"a\"]")), "[\"a\"]");
    assert_eq!(
        key(&Place::new().env("APP_API_KEY", "a:b")),
        "default:a:b",
        "else `a` would be the key's name"
    );
}

#[test]
fn an_empty_key_is_none_and_leaves_those_of_weaker_layers() {
    assert!(Place::new().env("APP_API_KEY", "").config().auth.keys.is_empty());
    assert_eq!(key(&Place::new().etc("auth.keys = ['x']").env("APP_API_KEY", "")), "x");
    assert_eq!(key(&Place::new().dotenv("APP_API_KEY=x").env("APP_API_KEY", "")), "x");
}

#[test]
fn those_of_the_proxy_are_its_only_upstream() {
    let place = Place::new()
        .env("APP_BACKEND", "vllm_proxy")
        .dotenv("APP_VLLM_BASE_URL=http://u:1/v1")
        .env("APP_VLLM_API_KEY", "k");
    let config = place.config();
    assert_eq!(config.model.backend, sconce::backend::Kind::Proxy);
    let upstream = &config.model.proxy.resolved()["default"];
    assert_eq!(upstream.base_url.as_deref(), Some("http://u:1/v1"));
    assert_eq!(upstream.api_key.as_ref().map(|key| key.reveal()), Some("k"));
    assert!(place.warnings().is_empty());
    assert!(Place::new().env("APP_VLLM_API_KEY", "").config().model.proxy.upstream.api_key.is_none());
    let problems = Place::new().env("APP_VLLM_BASE_URL", "u").problems();
    assert_has(&problems, &["APP_VLLM_BASE_URL: proxy.base_url: expected http://host"]);
}

#[test]
fn a_misspelt_name_is_a_warning_and_a_strange_one_is_nothing() {
    for name in ["APP_APIKEY", "APP_API_KEYS", "app_api_kye"] {
        let warnings = Place::new().env(name, "x").warnings();
        assert_has(&warnings, &[name, "did you mean `APP_API_KEY`?"]);
    }
    assert!(Place::new().env("APP_ENVIRONMENT", "x").env("APP_PORT", "1").warnings().is_empty());
}

#[test]
fn a_wrong_value_is_told_with_the_predecessors_name() {
    let problems = Place::new().env("APP_MAX_TOKENS", "lots").problems();
    assert_has(&problems, &["environment variable APP_MAX_TOKENS: max_tokens: expected", "found \"lots\""]);
}
