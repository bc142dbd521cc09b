//! Which layer wins, and what each may hold.

use std::{env, fs, os::unix::fs::PermissionsExt};

use crate::{Place, assert_has};

#[test]
fn each_layer_is_stronger_than_those_before_it() {
    let mut place = Place::new();
    assert_eq!(place.config().max_tokens(), 512);
    place = place.etc("max_tokens = 1");
    assert_eq!(place.config().max_tokens(), 1);
    place = place.file("a.toml", "max_tokens = 2");
    assert_eq!(place.config().max_tokens(), 2);
    place = place.file("b.toml", "max_tokens = 3");
    assert_eq!(place.config().max_tokens(), 3);
    place = place.dotenv("APP_MAX_TOKENS=4");
    assert_eq!(place.config().max_tokens(), 4);
    place = place.dotenv("SCONCE_MAX_TOKENS=5\nAPP_MAX_TOKENS=4");
    assert_eq!(place.config().max_tokens(), 5);
    place = place.env("APP_MAX_TOKENS", "6");
    assert_eq!(place.config().max_tokens(), 6);
    place = place.env("SCONCE_MAX_TOKENS", "7");
    assert_eq!(place.config().max_tokens(), 7);
    place = place.set("max_tokens=8");
    assert_eq!(place.config().max_tokens(), 8);
    place = place.set("max_tokens=9");
    assert_eq!(place.config().max_tokens(), 9);
}

trait MaxTokens {
    fn max_tokens(&self) -> u32;
}

impl MaxTokens for sconce::config::Config {
    fn max_tokens(&self) -> u32 {
        self.model.max_tokens
    }
}

#[test]
fn flags_are_stronger_than_variables_and_weaker_than_set() {
    let place = Place::new().env("SCONCE_MODEL_ID", "variable").flag("--model-id", "flag");
    assert_eq!(place.config().model_id, "flag");
    assert_eq!(place.set("model_id=set").config().model_id, "set");
}

#[test]
fn tables_are_merged_and_lists_are_replaced() {
    let place = Place::new()
        .etc("[server]\nlisten = ['a:1', 'b:2']\nmax_connections = 3")
        .file("a.toml", "[server]\nlisten = ['c:3']");
    let server = place.config().server;
    assert_eq!(server.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["c:3"]);
    assert_eq!(server.max_connections, 3);
}

#[test]
fn a_named_file_must_exist_and_the_others_need_not() {
    let mut place = Place::new();
    place.config();
    place.options.files.push(place.path("absent.toml"));
    assert_has(&place.problems(), &["absent.toml", "does not exist"]);
}

#[test]
fn a_file_that_may_not_be_read_is_an_error_rather_than_absent() {
    let place = Place::new().etc("").dotenv("");
    for name in ["etc.toml", ".env"] {
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(0o000)).unwrap();
    }
    // The superuser may read everything.
    if fs::read(place.path("etc.toml")).is_ok() {
        return;
    }
    let problems = place.problems();
    assert_has(&problems, &["etc.toml", "cannot be read"]);
    assert_has(&problems, &[".env", "cannot be read"]);
}

#[test]
fn a_file_that_is_no_text_is_an_error() {
    let place = Place::new();
    fs::write(place.path("etc.toml"), [0xff]).unwrap();
    fs::write(place.path(".env"), [0xff]).unwrap();
    assert_has(&place.problems(), &["etc.toml", "cannot be read"]);
    assert_has(&place.problems(), &[".env", "cannot be read"]);
}

#[test]
fn strings_stay_strings_whatever_they_look_like() {
    for text in ["007", "123", "1e3", "true", "1979-05-27", "[x]", "a,b", "\"quoted\""] {
        assert_eq!(Place::new().env("SCONCE_MODEL_ID", text).config().model_id, text);
        assert_eq!(Place::new().set(format!("model_id={text}")).config().model_id, text);
        let keys = Place::new().env("SCONCE_AUTH__KEYS", "007").config().auth.keys;
        assert_eq!(keys[0].reveal(), "007");
    }
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let place = Place::new()
        .etc("temperature = 0.5\nauth.keys = ['x']\nauth.keys_file = 'f'\nmax_tokens = 3\napi_prefix = '/x'")
        .env("SCONCE_TEMPERATURE", "")
        .env("SCONCE_AUTH__KEYS", "")
        .env("SCONCE_AUTH__KEYS_FILE", "")
        .env("SCONCE_MAX_TOKENS", "")
        .env("SCONCE_API_PREFIX", "");
    let config = place.config();
    assert_eq!(config.model.temperature, Some(0.5));
    assert_eq!(config.auth.keys.len(), 1);
    assert!(config.auth.keys_file.is_some());
    assert_eq!(config.model.max_tokens, 3);
    assert_eq!(config.api_prefix, "", "an empty prefix means something");
}

#[test]
fn set_takes_an_empty_list() {
    let place = Place::new().etc("auth.keys = ['x']").set("auth.keys=");
    assert!(place.config().auth.keys.is_empty());
}

#[test]
fn variables_of_others_with_our_prefix_are_left_alone() {
    let place = Place::new()
        .env("SCONCE_SERVICE_HOST", "10.0.0.1")
        .env("SCONCE_SERVICE_PORT_HTTP", "80")
        .env("SCONCE_PORT", "tcp://10.0.0.1:80")
        .env("SCONCE_PORT_80_TCP_ADDR", "10.0.0.1")
        .env("SCONCE_REVISION", "abc");
    place.config();
    assert_has(&place.env("SCONCE_PORTS", "1").problems(), &["SCONCE_PORTS", "unknown key"]);
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_an_error_if_it_is_ours() {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt};
    let mut place = Place::new();
    place.sources.env.push(("OTHER".into(), OsString::from_vec(vec![0xff])));
    place.config();
    place.sources.env.push(("SCONCE_LOG__LEVEL".into(), OsString::from_vec(vec![0xff])));
    assert_has(&place.problems(), &["SCONCE_LOG__LEVEL", "UTF-8"]);
}

#[test]
fn dotenv_leaves_the_process_alone() {
    let place = Place::new().dotenv("\u{feff}export SCONCE_MODEL_ID=\"a b\" # why\nOTHER_TEST_VARIABLE=1\n");
    assert_eq!(place.config().model_id, "a b");
    assert_eq!(env::var_os("SCONCE_MODEL_ID"), None);
    assert_eq!(env::var_os("OTHER_TEST_VARIABLE"), None);
}

#[test]
fn a_malformed_dotenv_is_told_by_file_and_line() {
    let place =
        Place::new().dotenv("# one\n\nA=1\nSCONCE_MODEL_ID=a b\nB='two\nlines'\n no equals\nC=\"open\nD=1\n");
    let problems = place.problems();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert_has(&problems, &[".env", "line 4 "]);
    assert_has(&problems, &[".env", "line 7 "]);
    assert_has(&problems, &[".env", "line 8 "]);
}

#[test]
fn a_directory_called_dotenv_is_passed_over() {
    let place = Place::new();
    fs::create_dir(place.path(".env")).unwrap();
    place.config();
}
