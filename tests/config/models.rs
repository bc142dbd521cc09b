//! One model or several.

use crate::{Place, assert_has};

#[test]
fn one_model_by_its_id() {
    let served = Place::new().set("model_id=m").set("max_tokens=5").config().served();
    assert_eq!(served.keys().collect::<Vec<_>>(), ["m"]);
    assert_eq!(served["m"].max_tokens, 5);
}

#[test]
fn several_models_take_from_the_top_level_what_they_do_not_say() {
    let place = Place::new().etc(
        r#"
        max_tokens = 100
        echo.delay_ms = 7
        [models."org/b.v1"]
        max_tokens = 5
        [models.a.echo]
        dimensions = 9
        "#,
    );
    let served = place.config().served();
    assert_eq!(served.keys().collect::<Vec<_>>(), ["org/b.v1", "a"], "in the file's order");
    assert_eq!(served["org/b.v1"].max_tokens, 5);
    assert_eq!(served["org/b.v1"].echo.delay_ms, 7);
    assert_eq!(served["a"].max_tokens, 100);
    assert_eq!((served["a"].echo.delay_ms, served["a"].echo.dimensions), (7, 9));
}

#[test]
fn the_top_level_is_the_sum_of_all_layers_before_models_take_from_it() {
    let place = Place::new().etc("models.m.top_p = 0.5").env("SCONCE_MAX_TOKENS", "6");
    assert_eq!(place.config().served()["m"].max_tokens, 6);
}

#[test]
fn ids_with_awkward_characters() {
    let place = Place::new()
        .set(r#"models."org/name=1.5".backend=echo"#)
        .env("SCONCE_MODELS__Qwen3-8B__MAX_TOKENS", "4");
    let served = place.config().served();
    assert_eq!(served.keys().collect::<Vec<_>>(), ["Qwen3-8B", "org/name=1.5"]);
    assert_eq!(served["Qwen3-8B"].max_tokens, 4);
    assert_has(&Place::new().set("models.org/name.backend=echo").problems(), &["--set", "double quotes"]);
}

#[test]
fn a_model_id_beside_models_is_an_error_whoever_says_it() {
    let models = || Place::new().etc("[models.a]");
    models().config();
    let said: [(Place, &str); 4] = [
        (models().file("a.toml", "model_id = 'x'"), "a.toml"),
        (models().env("APP_MODEL_ID", "x"), "APP_MODEL_ID"),
        (models().env("SCONCE_MODEL_ID", "gpt-oss-20b"), "SCONCE_MODEL_ID"),
        (models().flag("--model-id", "x"), "--model-id"),
    ];
    for (place, source) in said {
        assert_has(&place.problems(), &[source, "model_id", "use one or the other"]);
    }
}

#[test]
fn an_empty_table_of_models_is_none() {
    assert_eq!(Place::new().etc("[models]\n").set("model_id=x").config().served().len(), 1);
}

#[test]
fn what_is_wrong_at_the_top_level_is_not_said_again_for_each_model() {
    let problems = Place::new().etc("max_tokens = 0\n[models.a]\n[models.b]\nmax_tokens = 0").problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert_has(&problems, &["etc.toml: max_tokens: "]);
    assert_has(&problems, &["etc.toml: models.b.max_tokens: "]);
}

#[test]
fn a_proxied_model_needs_an_upstream() {
    let needs = "the proxy backend needs it for each upstream";
    for name in ["proxy", "vllm_proxy"] {
        assert_has(&Place::new().set(format!("backend={name}")).problems(), &["proxy.base_url", needs]);
        let of_a_model = Place::new().etc(&format!("models.\"a/b\".backend = '{name}'")).problems();
        assert_has(&of_a_model, &["models.\"a/b\".proxy.base_url", needs]);
    }
    let two =
        "backend = 'proxy'\n[proxy.upstreams.a]\nbase_url = 'http://a'\n[proxy.upstreams.b]\nweight = 2";
    assert_has(&Place::new().etc(two).problems(), &["proxy.upstreams.b.base_url", needs]);
    let half = "backend = 'proxy'\nproxy.base_url = 'https://a'\nproxy.tls_key = 'k.pem'";
    assert_has(
        &Place::new().etc(half).problems(),
        &["etc.toml: proxy.tls_key: needs `tls_certificate` as well"],
    );
    let both =
        "backend = 'proxy'\nproxy.base_url = 'http://a'\nproxy.discover_interval = '1m'\nproxy.model = 'm'";
    assert_has(
        &Place::new().etc(both).problems(),
        &["etc.toml: proxy.model: cannot stand beside `discover_interval`"],
    );
    let name = "[proxy.upstreams.\"a b\"]\nbase_url = 'http://a'";
    assert_has(&Place::new().etc(name).problems(), &["an upstream's name has letters"]);
}

#[test]
fn what_only_lazy_models_have() {
    let needs = "idle_unload: needs `load = \"lazy\"` as well";
    assert_has(&Place::new().etc("idle_unload = '1m'").problems(), &["etc.toml: ", needs]);
    assert_has(&Place::new().etc("models.a.idle_unload = '1m'").problems(), &["etc.toml: models.a.", needs]);
    let proxied = "proxy.base_url = 'http://a'\n[models.a]\nbackend = 'proxy'";
    assert_has(
        &Place::new().etc(&format!("{proxied}\nload = 'lazy'")).problems(),
        &["etc.toml: models.a.load: a proxied model takes no memory here"],
    );
    // For those that can, at the top level; the others are as they always are.
    Place::new().etc(&format!("load = 'lazy'\nidle_unload = '1m'\n{proxied}\n[models.b]")).config();
    Place::new().etc("load = 'lazy'\nidle_unload = '1m'\n[models.a]\n[models.b]\nload = 'start'").config();
}

#[cfg(feature = "candle")]
#[test]
fn an_adapter_has_a_base_and_nothing_that_is_the_bases() {
    let place = |poet: &str| {
        Place::new().etc(&format!(
            "backend = 'candle'\ncandle.threads = 2\n[models.plain]\ncandle.source = 'a'\n[models.echo]\nbackend = 'echo'\n\
             [models.poet]\n{poet}"
        ))
    };
    let good = "candle = { base = 'plain', adapter = 'p' }\ntemperature = 0.5\nmax_tokens = 9";
    let served = place(good).config().served();
    assert_eq!((served["poet"].base(), served["plain"].base()), (Some("plain"), None));
    for (poet, told) in [
        ("candle.base = 'plain'", "models.poet.candle.base: needs `candle.adapter` as well"),
        ("candle.adapter = 'p'", "models.poet.candle.adapter: needs `candle.base` as well"),
        ("candle = { base = 'lost', adapter = 'p' }", "there is no model \"lost\""),
        ("candle = { base = 'echo', adapter = 'p' }", "\"echo\" is not served by the candle backend"),
        ("candle = { base = 'poet', adapter = 'p' }", "\"poet\" is an adapter itself"),
    ] {
        assert_has(&place(poet).problems(), &["etc.toml: models.poet.candle.", told]);
    }
    for key in ["load = 'lazy'", "required = false", "requests.max_running = 3", "candle.threads = 3"] {
        let (name, _) = key.split_once(' ').unwrap();
        let told = format!("models.poet.{name}: is that of \"plain\"");
        let poet = format!("candle.base = 'plain'\ncandle.adapter = 'p'\n{key}");
        assert_has(&place(&poet).problems(), &["etc.toml: ", &told]);
    }
    let of_nothing = Place::new().etc("backend = 'candle'\ncandle.source = 's'\ncandle.adapter = 'b'");
    assert_has(&of_nothing.problems(), &["etc.toml: candle.adapter: belongs into the table of a model"]);
    let alone = Place::new().etc("backend = 'candle'\ncandle.base = 'a'\ncandle.adapter = 'b'");
    assert_has(&alone.problems(), &["etc.toml: candle.base: belongs into the table of a model"]);
}

#[test]
fn an_upstream_takes_from_the_proxy_what_it_does_not_say() {
    let place = Place::new().etc(
        r#"
        backend = "proxy"
        [proxy]
        model = "m"
        api_key = "k"
        connect_timeout = "1s"
        [proxy.upstreams.a]
        base_url = "http://a"
        [proxy.upstreams.b]
        base_url = "http://b"
        api_key_file = "key"
        connect_timeout = "2s"
        "#,
    );
    let upstreams = place.config().model.proxy.resolved();
    let (a, b) = (&upstreams["a"], &upstreams["b"]);
    assert_eq!((a.model.as_deref(), b.model.as_deref()), (Some("m"), Some("m")));
    assert_eq!((a.api_key.is_some(), b.api_key.is_some()), (true, false), "a key's file is its own key");
    assert_eq!((a.api_key_file.is_some(), b.api_key_file.is_some()), (false, true));
    let seconds = |upstream: &sconce::backend::proxy::Upstream| upstream.connect_timeout.unwrap().0.as_secs();
    assert_eq!((seconds(a), seconds(b)), (1, 2));
}

#[cfg(feature = "candle")]
#[test]
fn the_predecessors_name_of_local_inference_is_taken() {
    let config = Place::new().env("APP_BACKEND", "transformers").config();
    assert_eq!(config.model.backend, sconce::backend::Kind::Candle);
}

#[test]
fn unknown_backends_are_refused_with_the_nearest_name() {
    assert_has(
        &Place::new().set("backend=ecko").problems(),
        &["unknown backend \"ecko\"; did you mean `echo`?"],
    );
    assert_has(
        &Place::new().set("backend=Echo").problems(),
        &["unknown backend \"Echo\"; did you mean `echo`?"],
    );
    assert_has(
        &Place::new().set("backend=llama").problems(),
        &["unknown backend \"llama\"; this build has: echo"],
    );
}
