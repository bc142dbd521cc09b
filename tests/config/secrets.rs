//! A secret is shown nowhere.

use std::fs;

use crate::{Place, program::run_in};

const SECRET: &str = "hunter2-never-shown";

/// What a place says when it is loaded, in every form that a program could show.
fn shown(place: &Place) -> String {
    match place.load() {
        Ok(loaded) => {
            format!("{loaded:?} {:#?} {} {}", loaded.config, loaded.print(true), loaded.warnings.join(" "))
        }
        Err(errors) => format!("{errors} {errors:?} {errors:#?}"),
    }
}

#[test]
fn in_no_error_no_debug_output_and_no_print() {
    let file = |text: &str| Place::new().file("a.toml", &text.replace('S', SECRET));
    let places = [
        (file("auth.keys = ['S', 'ops:S']"), "[secret]"),
        (file("auth.keys = 'S'"), "auth.keys: expected a list of secret strings, found a string"),
        (file("auth.keys = [['S']]"), "auth.keys[0]: expected a string, found a list"),
        (file("auth.keys = [{ key = 'S' }]"), "auth.keys[0]: expected a string, found a table"),
        (file("auth.keys = ['S', 5]"), "auth.keys[1]: expected a string, found a whole number"),
        (file("auth.keys = ['S', '']"), "auth.keys: key 1: an API key or its name is empty"),
        (file("auth = 'S'"), "auth: expected a table, found a string"),
        (file("auth.key = 'S'"), "auth.key: unknown key"),
        (file("auth.keys_file = ['S']"), "auth.keys_file: expected a string, found a list"),
        (file("auth.keys = ['S' 'S']"), "line 1, column "),
        (file("auth.keys = 'S"), "line 1, column "),
        (file("[auth]\nkeys = ['S']\nkeys = ['S']"), "line 3, column 1"),
        (Place::new().dotenv(&format!("APP_API_KEY={SECRET} {SECRET}")), "line 1 "),
        (Place::new().dotenv(&format!("SCONCE_AUTH__KEYS='{SECRET}")), "line 1 "),
        (Place::new().dotenv(&format!("APP_API_KEY={SECRET}")), "(APP_API_KEY)"),
        (Place::new().env("APP_API_KEY", SECRET), "APP_API_KEY"),
        (Place::new().env("APP_APIKEY", SECRET), "APP_APIKEY"),
        (Place::new().env("APP_VLLM_API_KEY", SECRET), "APP_VLLM_API_KEY"),
        (file("proxy.api_key = 'S'"), "# api_key = \"[secret]\""),
        (file("proxy.api_key = 'S S'"), "proxy.api_key: an API key is empty, or has white space"),
        (file("proxy.api_key = ['S']"), "proxy.api_key: expected a string, found a list"),
        (file("[proxy.upstreams.a]\napi_key = 'S'"), "# api_key = \"[secret]\""),
        (file("proxy.base_url = 'http://u:S@a'"), "proxy.base_url: has a user or password in it"),
        (file("proxy.base_url = 'http://a/v1?key=S'"), "proxy.base_url: has a query"),
        (Place::new().env("SCONCE_AUTH__KEYS", &format!("['{SECRET}'")), "SCONCE_AUTH__KEYS"),
        (Place::new().env("SCONCE_AUTH__KEYS", &format!("[['{SECRET}']]")), "SCONCE_AUTH__KEYS"),
        (Place::new().env("SCONCE_AUTH", SECRET), "SCONCE_AUTH"),
        (Place::new().env("SCONCE_AUTH__KEY", SECRET), "SCONCE_AUTH__KEY"),
        (Place::new().set(format!("auth.keys={SECRET}")), "--set: auth.keys: other users"),
        (Place::new().set(format!("auth.key={SECRET}")), "--set"),
        (Place::new().set(format!("auth.keys {SECRET}")), "--set"),
    ];
    for (place, told) in places {
        let shown = shown(&place);
        assert!(shown.contains(told), "{told:?} is missing in {shown}");
        assert!(!shown.contains(SECRET), "{shown}");
    }
}

#[test]
fn in_no_output_of_any_command() {
    let commands: [&[&str]; 5] = [
        &["check-config"],
        &["print-config"],
        &["print-config", "--with-sources"],
        &["print-openapi"],
        &["serve"],
    ];
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| fs::write(directory.path().join(name), text).unwrap();
    write("good.toml", format!("auth.keys = ['{SECRET}']\nserver.listen = ['unix:{}']", "/nonexistent/s"));
    write("wrong.toml", format!("auth.keys = [['{SECRET}']]"));
    write("broken.toml", format!("auth.keys = ['{SECRET}"));
    for command in commands {
        for (file, status) in [("good.toml", 0), ("wrong.toml", 78), ("broken.toml", 78)] {
            // Serving with a good configuration does not end.
            if command == ["serve"] && status == 0 {
                continue;
            }
            let run = run_in(directory.path(), &[command, &["--config", file]].concat(), &[]);
            assert_eq!(run.status, status, "{command:?} {}", run.err);
            assert!(
                !format!("{}{}", run.out, run.err).contains(SECRET),
                "{command:?} {} {}",
                run.out,
                run.err
            );
        }
        if command != ["serve"] {
            let run = run_in(directory.path(), command, &[("APP_API_KEY", SECRET)]);
            assert_eq!(run.status, 0, "{}", run.err);
            assert!(!format!("{}{}", run.out, run.err).contains(SECRET));
        }
    }
}

#[test]
fn a_mistaken_flag_is_told_without_its_value() {
    let directory = tempfile::tempdir().unwrap();
    let run = run_in(directory.path(), &[&format!("--api-key={SECRET}")], &[]);
    assert_eq!(run.status, 64);
    assert!(run.err.contains("--api-key") && !run.err.contains(SECRET), "{}", run.err);
}
