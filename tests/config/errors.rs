//! All problems at once, each with its place.

use crate::{Place, assert_has};

#[test]
fn the_problems_of_all_layers_come_at_once() {
    let place = Place::new()
        .etc("max_tokens = 'x'\n[server]\nlistn = []")
        .file("broken.toml", "a = 1\nb = = 2")
        .dotenv("SCONCE_NO=1")
        .env("APP_TOP_P", "x")
        .env("SCONCE_LOG__PROMPTS", "maybe")
        .flag("--backend", "nothing")
        .set("limits=1")
        .set("nothing");
    let problems = place.problems();
    assert_eq!(problems.len(), 9, "{problems:#?}");
    assert_has(
        &problems,
        &["etc.toml: max_tokens: expected a whole number from 0 to 4294967295, found \"x\""],
    );
    assert_has(&problems, &["etc.toml: server.listn: unknown key; did you mean `server.listen`?"]);
    assert_has(&problems, &["broken.toml: line 2, column 5 is not valid TOML"]);
    assert_has(&problems, &[".env (SCONCE_NO): no: unknown key"]);
    assert_has(&problems, &["environment variable APP_TOP_P: top_p: expected a number"]);
    assert_has(
        &problems,
        &["environment variable SCONCE_LOG__PROMPTS: log.prompts: expected `true` or `false`"],
    );
    assert_has(&problems, &["--backend: backend: unknown backend"]);
    assert_has(&problems, &["--set: limits: expected a table, found a string"]);
    assert_has(&problems, &["--set: has no `=`"]);
}

#[test]
fn a_value_that_a_stronger_layer_covers_is_checked_too() {
    assert_has(
        &Place::new().etc("max_tokens = 'x'").set("max_tokens=1").problems(),
        &["etc.toml: max_tokens"],
    );
}

#[test]
fn what_is_wrong_with_the_sum_comes_at_once() {
    let place = Place::new()
        .etc("max_tokens = 0\nserver.tls_key = 'k'")
        .env("SCONCE_LOG__LEVEL", "a=b=c")
        .set("cors.allowed_origins=https://a.example/,b");
    let problems = place.problems();
    assert_eq!(problems.len(), 5, "{problems:#?}");
    assert_has(&problems, &["etc.toml: max_tokens: ", "found 0"]);
    assert_has(&problems, &["etc.toml: server.tls_key: ", "needs `server.tls_certificate`"]);
    assert_has(&problems, &["environment variable SCONCE_LOG__LEVEL: log.level: "]);
    assert_has(&problems, &["--set: cors.allowed_origins: ", "\"https://a.example/\""]);
    assert_has(&problems, &["--set: cors.allowed_origins: ", "\"b\""]);
}

#[test]
fn a_key_in_the_wrong_place_is_found_again() {
    assert_has(&Place::new().etc("listen = ['a:1']").problems(), &["did you mean `server.listen`?"]);
    assert_has(
        &Place::new().env("SCONCE_SERVER_LISTEN", "a:1").problems(),
        &["did you mean `SCONCE_SERVER__LISTEN`?"],
    );
    assert_has(&Place::new().etc("models.a.level = 'x'").problems(), &["did you mean `log.level`?"]);
    assert_has(
        &Place::new().env("SCONCE_MODELS__Ab__TOPP", "1").problems(),
        &["models.Ab.topp: ", "did you mean `SCONCE_MODELS__Ab__TOP_P`?"],
    );
    let nowhere = Place::new().etc("quantum = 1").problems();
    assert!(nowhere[0].ends_with("quantum: unknown key"), "{nowhere:?}");
}

#[test]
fn a_table_where_a_value_belongs_and_the_reverse() {
    assert_has(&Place::new().etc("max_tokens.x = 1").problems(), &["max_tokens: ", "found a table"]);
    assert_has(&Place::new().etc("models = 5").problems(), &["models: expected a table"]);
    assert_has(&Place::new().etc("models.a = 5").problems(), &["models.a: expected a table"]);
    assert_has(&Place::new().env("SCONCE_SERVER", "a:1").problems(), &["server: expected a table"]);
}

#[test]
fn each_problem_is_one_line_however_long_or_odd_the_value() {
    let place = Place::new().env("SCONCE_MAX_TOKENS", &"a\nb".repeat(100)).etc("\"a\\nb\" = 1");
    let problems = place.problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems.iter().all(|line| line.len() < 400), "{problems:?}");
}

#[test]
fn a_key_given_twice() {
    assert_has(&Place::new().etc("a = 1\na = 2").problems(), &["line 2, column 1", "twice"]);
}
