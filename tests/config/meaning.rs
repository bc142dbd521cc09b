//! Well-formed values that mean nothing.

use crate::{Place, assert_has};

#[test]
fn prefixes() {
    for (written, read) in [("/v1", "/v1"), ("/v1/", "/v1"), ("/", ""), ("", ""), ("/a/b-c", "/a/b-c")] {
        assert_eq!(Place::new().set(format!("api_prefix={written}")).config().api_prefix, read);
    }
    for wrong in ["v1", "/a//b", "/a b", "/:a", "/a?b", "/*a", "/{a}"] {
        let problems = Place::new().set(format!("api_prefix={wrong}")).problems();
        assert_has(&problems, &["--set: api_prefix: must ", wrong]);
    }
}

#[test]
fn tls_needs_both_files() {
    let one = Place::new().set("server.tls_certificate=c");
    assert_has(&one.problems(), &["--set: server.tls_certificate: needs `server.tls_key` as well"]);
    one.set("server.tls_key=k").config();
}

#[test]
fn modes_of_unix_sockets() {
    for mode in ["660", "0660", "000", "0777"] {
        assert_eq!(
            Place::new().set(format!("server.unix_socket_mode={mode}")).config().server.unix_socket_mode,
            mode
        );
    }
    for wrong in ["", "66", "1660", "00660", "668", "+66", "0o660", "rw-"] {
        let problems = Place::new().etc(&format!("server.unix_socket_mode = '{wrong}'")).problems();
        assert_has(&problems, &["server.unix_socket_mode: must be three octal digits such as `660`", wrong]);
    }
}

#[test]
fn origins() {
    for origin in
        ["*", "https://a.example", "http://localhost:3000", "http://[::1]:8080", "http://[::1]", "app://x"]
    {
        Place::new().etc(&format!("cors.allowed_origins = ['{origin}']")).config();
    }
    for wrong in [
        "a.example",
        "https://",
        "https://a/",
        "https://a/b",
        "https://a:x",
        "https://a:99999",
        "://a",
        "null",
    ] {
        let problems = Place::new().etc(&format!("cors.allowed_origins = ['{wrong}']")).problems();
        assert_has(&problems, &["cors.allowed_origins: expected `*` or scheme://host[:port]", wrong]);
    }
}

#[test]
fn log_filters() {
    for level in
        ["info", "WARN", "off", "debug,hyper=warn", "sconce::http=trace", "sconce", "info,[span]=debug"]
    {
        assert_eq!(Place::new().flag("--log-level", level).config().log.level, level);
    }
    assert_has(&Place::new().flag("--log-level", "inof").problems(), &["did you mean `info`?"]);
    assert_has(&Place::new().flag("--log-level", "info,debg").problems(), &["did you mean `debug`?"]);
    assert_has(
        &Place::new().flag("--log-level", "a=loud").problems(),
        &["--log-level: log.level: is not a log filter"],
    );
}

#[test]
fn ids_and_keys_are_not_empty() {
    assert_has(&Place::new().set("model_id=").problems(), &["model_id: must not be empty"]);
    assert_has(
        &Place::new().etc("[models.\"\"]").problems(),
        &["models.\"\": a model's id must not be empty"],
    );
    assert_has(
        &Place::new().etc("auth.keys = ['a', ' ']").problems(),
        &["auth.keys: key 1: an API key or its name is empty"],
    );
}

#[test]
#[cfg(all(feature = "candle", not(feature = "cuda"), not(feature = "metal")))]
fn a_device_that_the_build_lacks_is_refused_with_the_feature_to_build_with() {
    for (device, feature) in [("cuda", "cuda"), ("cuda:1", "cuda"), ("metal", "metal")] {
        for key in ["candle.device", "models.m.candle.device"] {
            let problems = Place::new().etc(&format!("{key} = '{device}'")).problems();
            assert_eq!(problems.len(), 1, "{problems:?}");
            let what = format!("build with the cargo feature `{feature}`, or take `cpu`, found \"{device}\"");
            assert_has(&problems, &["etc.toml: ", &format!("{key}: "), &what]);
        }
    }
    for wrong in ["cuda:", "cuda:x", "cuda:-1", "metal:1", "cpu:0", "gpu", ""] {
        let problems = Place::new().set(format!("candle.device={wrong}")).problems();
        assert_has(&problems, &["--set: candle.device: no such device", wrong, "`cuda:1`"]);
    }
}
