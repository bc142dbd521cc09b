//! Every key, in every way in which it can be said, right and wrong.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{Place, assert_has, at};

struct Row {
    key: &'static str,
    default: Value,
    /// A value as TOML, and the same as text in a variable.
    toml: &'static str,
    text: &'static str,
    /// What both become; a secret is printed covered.
    value: Value,
    /// TOML of a wrong type.
    wrong: &'static str,
    /// TOML out of the key's range.
    outside: Option<&'static str>,
    /// An assignment that must stand beside it.
    beside: Option<&'static str>,
}

impl Row {
    fn new(
        key: &'static str,
        default: Value,
        toml: &'static str,
        text: &'static str,
        value: Value,
        wrong: &'static str,
    ) -> Self {
        Self { key, default, toml, text, value, wrong, outside: None, beside: None }
    }

    fn outside(self, outside: &'static str) -> Self {
        Self { outside: Some(outside), ..self }
    }

    fn beside(self, beside: &'static str) -> Self {
        Self { beside: Some(beside), ..self }
    }

    fn place(&self) -> Place {
        Place::new().etc(self.beside.unwrap_or_default())
    }

    fn variable(&self) -> String {
        format!("SCONCE_{}", self.key.replace('.', "__").to_uppercase())
    }
}

/// The keys of an upstream, which are there for the only one and for each of several.
fn upstream_rows(at: [&'static str; 16]) -> Vec<Row> {
    let [
        base_url,
        api_key,
        api_key_file,
        model,
        weight,
        max_requests,
        http2,
        tls_roots,
        tls_certificate,
        tls_key,
        connect,
        first_byte,
        idle,
        total,
        keep_alive,
        health_path,
    ] = at;
    let time = |key| Row::new(key, Value::Null, "'90s'", "90s", json!("1m 30s"), "'soon'");
    let file = |key| Row::new(key, Value::Null, "'a.pem'", "a.pem", json!("a.pem"), "1");
    vec![
        Row::new(base_url, Value::Null, "'http://u:1/v1'", "http://u:1/v1", json!("http://u:1/v1"), "8000")
            .outside("'u:1'"),
        Row::new(api_key, Value::Null, "'x'", "x", json!("[secret]"), "5").outside("'x y'"),
        file(api_key_file),
        Row::new(model, Value::Null, "'007'", "007", json!("007"), "7").outside("''"),
        Row::new(weight, Value::Null, "2", "2", json!(2), "'much'").outside("0"),
        Row::new(max_requests, Value::Null, "2", "2", json!(2), "'many'").outside("0"),
        Row::new(http2, Value::Null, "true", "TRUE", json!(true), "'yes'"),
        file(tls_roots),
        file(tls_certificate),
        file(tls_key),
        time(connect).outside("0"),
        time(first_byte).outside("0"),
        time(idle).outside("'0s'"),
        time(total).outside("0"),
        time(keep_alive),
        Row::new(health_path, Value::Null, "'/ping'", "/ping", json!("/ping"), "1").outside("'ping'"),
    ]
}

/// The keys below `$at`.
macro_rules! upstream_keys {
    ($at:literal) => {
        [
            concat!($at, "base_url"),
            concat!($at, "api_key"),
            concat!($at, "api_key_file"),
            concat!($at, "model"),
            concat!($at, "weight"),
            concat!($at, "max_requests"),
            concat!($at, "http2"),
            concat!($at, "tls_roots"),
            concat!($at, "tls_certificate"),
            concat!($at, "tls_key"),
            concat!($at, "connect_timeout"),
            concat!($at, "first_byte_timeout"),
            concat!($at, "idle_timeout"),
            concat!($at, "total_timeout"),
            concat!($at, "keep_alive"),
            concat!($at, "health_path"),
        ]
    };
}

const ONE_UPSTREAM: [&str; 16] = upstream_keys!("proxy.");
/// Of the upstream that somebody called `A`.
const NAMED_UPSTREAM: [&str; 16] = upstream_keys!("proxy.upstreams.A.");

fn rows() -> Vec<Row> {
    let mut rows = plain_rows();
    rows.extend(upstream_rows(ONE_UPSTREAM));
    rows.extend(upstream_rows(NAMED_UPSTREAM));
    rows
}

fn is_of_a_model(key: &str) -> bool {
    OF_A_MODEL.contains(&key) || ONE_UPSTREAM.contains(&key) || NAMED_UPSTREAM.contains(&key)
}

fn plain_rows() -> Vec<Row> {
    vec![
        Row::new("api_prefix", json!("/v1"), "'/api'", "/api", json!("/api"), "1").outside("'v1'"),
        Row::new("model_id", json!("gpt-oss-20b"), "'007'", "007", json!("007"), "7").outside("' '"),
        Row::new("backend", json!("echo"), "'echo'", "echo", json!("echo"), "true"),
        Row::new("required", json!(true), "false", "false", json!(false), "'maybe'"),
        Row::new("load", json!("start"), "'lazy'", "lazy", json!("lazy"), "true"),
        Row::new("idle_unload", Value::Null, "'10m'", "10m", json!("10m"), "'soon'").beside("load = 'lazy'"),
        Row::new("requests.max_running", Value::Null, "3", "3", json!(3), "'3'").outside("0"),
        Row::new("requests.max_waiting", Value::Null, "0", "0", json!(0), "{}").outside("1000001"),
        Row::new("requests.wait_timeout", json!("10m"), "9", "9", json!("9s"), "'long'").outside("0"),
        Row::new("memory_budget", Value::Null, "'2GiB'", "2GiB", json!("2GiB"), "'huge'"),
        Row::new("max_tokens", json!(512), "64", "64", json!(64), "'many'").outside("0"),
        Row::new("temperature", Value::Null, "0.5", "0.5", json!(0.5), "'hot'").outside("2.5"),
        Row::new("top_p", Value::Null, "0.25", "0.25", json!(0.25), "nan").outside("1.5"),
        Row::new("echo.delay_ms", json!(0), "20", "20", json!(20), "-1").outside("60001"),
        Row::new("echo.context_length", json!(131_072), "99", "99", json!(99), "1.5").outside("0"),
        Row::new("echo.dimensions", json!(256), "8", "8", json!(8), "[8]").outside("65537"),
        Row::new("echo.load_delay_ms", json!(0), "20", "20", json!(20), "'long'").outside("600001"),
        Row::new("echo.stall_after", Value::Null, "3", "3", json!(3), "-1"),
        Row::new("candle.source", Value::Null, "'models/a'", "models/a", json!("models/a"), "5"),
        Row::new("candle.adapter", Value::Null, "'a'", "a", json!("a"), "5"),
        Row::new("candle.base", Value::Null, "'b'", "b", json!("b"), "5"),
        Row::new("candle.task", Value::Null, "'embed'", "embed", json!("embed"), "5").outside("'chat'"),
        Row::new("candle.instructions", Value::Null, "'avx2'", "avx2", json!("avx2"), "7"),
        Row::new("candle.device", json!("cpu"), "'cpu'", "cpu", json!("cpu"), "0"),
        Row::new("candle.threads", Value::Null, "2", "2", json!(2), "'all'").outside("0"),
        Row::new("candle.context_length", Value::Null, "99", "99", json!(99), "1.5").outside("0"),
        Row::new("candle.kv_cache", Value::Null, "'1GiB'", "1GiB", json!("1GiB"), "'huge'"),
        Row::new("candle.max_batch_tokens", json!(512), "64", "64", json!(64), "'many'").outside("0"),
        Row::new("candle.max_sequences", json!(64), "8", "8", json!(8), "[8]").outside("0"),
        Row::new("candle.max_waiting", json!(1024), "8", "8", json!(8), "[8]").outside("0"),
        Row::new("candle.prefix_cache", json!(true), "false", "false", json!(false), "'maybe'"),
        Row::new("proxy.affinity", json!("none"), "'prefix'", "prefix", json!("prefix"), "true"),
        Row::new("proxy.affinity_header", json!("x-session-id"), "'x-user'", "x-user", json!("x-user"), "1")
            .outside("'x user'"),
        Row::new("proxy.health_interval", json!("5s"), "9", "9", json!("9s"), "'often'").outside("0"),
        Row::new("proxy.failure_pause", json!("5s"), "9", "9", json!("9s"), "'long'").outside("0"),
        Row::new("proxy.discover_interval", Value::Null, "9", "9", json!("9s"), "'often'").outside("0"),
        Row::new(
            "proxy.root_paths",
            json!(["tokenize", "detokenize"]),
            "['score']",
            "score",
            json!(["score"]),
            "'score'",
        )
        .outside("['/chat/complitions']"),
        Row::new(
            "server.listen",
            json!(["127.0.0.1:8000"]),
            "['[::1]:80', 'unix:/run/s']",
            "[::1]:80, unix:/run/s",
            json!(["[::1]:80", "unix:/run/s"]),
            "['nowhere']",
        )
        .outside("[]"),
        Row::new("server.unix_socket_mode", json!("0660"), "'0600'", "0600", json!("0600"), "0o660")
            .outside("'999'"),
        Row::new("server.tls_certificate", Value::Null, "'c.pem'", "c.pem", json!("c.pem"), "['c.pem']")
            .beside("server.tls_key = 'k.pem'"),
        Row::new("server.tls_key", Value::Null, "'k.pem'", "k.pem", json!("k.pem"), "1")
            .beside("server.tls_certificate = 'c.pem'"),
        Row::new("server.max_connections", json!(8192), "5", "5", json!(5), "5000000000").outside("0"),
        Row::new("server.first_byte_timeout", json!("10s"), "5", "5", json!("5s"), "'soon'"),
        Row::new("server.header_timeout", json!("10s"), "'500ms'", "500ms", json!("500ms"), "-5"),
        Row::new("server.body_timeout", json!("1m"), "'2min'", "2min", json!("2m"), "true"),
        Row::new("server.idle_timeout", json!("1m 15s"), "'1h'", "1h", json!("1h"), "[]"),
        Row::new("server.drain_timeout", json!("30s"), "'90s'", "90s", json!("1m 30s"), "'90 parsecs'"),
        Row::new("server.exit_when_idle", Value::Null, "'5min'", "5min", json!("5m"), "'later'").outside("0"),
        Row::new("auth.keys", json!([]), "['x', 'ops:y']", "x,ops:y", json!(["[secret]", "[secret]"]), "5")
            .outside("['']"),
        Row::new("auth.keys_file", Value::Null, "'keys'", "keys", json!("keys"), "['x']"),
        Row::new("limits.max_body_size", json!("32MiB"), "'64kB'", "64kB", json!("64kB"), "'huge'"),
        Row::new("limits.max_waiting_bodies", json!("512MiB"), "'1GiB'", "1GiB", json!("1GiB"), "'huge'"),
        Row::new("limits.max_concurrent_requests", json!(1024), "3", "3", json!(3), "'3'").outside("0"),
        Row::new("limits.max_requests_per_key", Value::Null, "4", "4", json!(4), "false").outside("0"),
        Row::new("limits.max_queued_requests", json!(1024), "0", "0", json!(0), "{}"),
        Row::new(
            "cors.allowed_origins",
            json!([]),
            "['*', 'https://a.example:444']",
            "*,https://a.example:444",
            json!(["*", "https://a.example:444"]),
            "[1]",
        )
        .outside("['https://a.example/']"),
        Row::new(
            "log.level",
            json!("info"),
            "'warn,sconce::http=debug'",
            "warn,sconce::http=debug",
            json!("warn,sconce::http=debug"),
            "1",
        )
        .outside("'inof'"),
        Row::new("log.format", json!("auto"), "'json'", "json", json!("json"), "'xml'"),
        Row::new("log.prompts", json!(false), "true", "TRUE", json!(true), "'yes'"),
    ]
}

/// Keys that one table of `models` has too.
const OF_A_MODEL: [&str; 34] = [
    "proxy.affinity",
    "proxy.affinity_header",
    "proxy.health_interval",
    "proxy.failure_pause",
    "proxy.discover_interval",
    "proxy.root_paths",
    "required",
    "load",
    "idle_unload",
    "requests.max_running",
    "requests.max_waiting",
    "requests.wait_timeout",
    "echo.load_delay_ms",
    "echo.stall_after",
    "candle.source",
    "candle.adapter",
    "candle.base",
    "candle.task",
    "candle.device",
    "candle.instructions",
    "candle.threads",
    "candle.context_length",
    "candle.kv_cache",
    "candle.max_batch_tokens",
    "candle.max_sequences",
    "candle.max_waiting",
    "candle.prefix_cache",
    "backend",
    "max_tokens",
    "temperature",
    "top_p",
    "echo.delay_ms",
    "echo.context_length",
    "echo.dimensions",
];

fn leaves(schema: &Value, path: &str, into: &mut BTreeSet<String>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    if let Some(properties) = schema["properties"].as_object() {
        for (name, schema) in properties {
            leaves(schema, &below(name), into);
        }
    } else if schema["additionalProperties"].is_object() {
        leaves(&schema["additionalProperties"], &below("*"), into);
    } else {
        into.insert(path.to_owned());
    }
}

#[test]
fn every_key_of_the_schema_has_a_row() {
    let schema: Value = serde_json::from_str(&sconce::config::reference::json()).unwrap();
    let mut leaves_found = BTreeSet::new();
    leaves(&schema, "", &mut leaves_found);
    let any = |key: &str| key.replace(".A.", ".*.");
    let mut expected: BTreeSet<String> = rows().iter().map(|row| any(row.key)).collect();
    let of_a_model = rows().into_iter().filter(|row| is_of_a_model(row.key));
    expected.extend(of_a_model.map(|row| format!("models.*.{}", any(row.key))));
    assert_eq!(leaves_found, expected);
}

#[test]
fn defaults() {
    let config = Place::new().config();
    for row in rows() {
        assert_eq!(at(&config, row.key), row.default, "{}", row.key);
        assert_eq!(
            row.default == row.value,
            // A build may have no other device.
            ["backend", "candle.device"].contains(&row.key),
            "{}: the row would not see a change",
            row.key
        );
    }
}

#[test]
fn set_by_a_file() {
    for row in rows() {
        let place = row.place().file("a.toml", &format!("{} = {}", row.key, row.toml));
        assert_eq!(at(&place.config(), row.key), row.value, "{}", row.key);
    }
}

#[test]
fn set_by_a_variable() {
    for row in rows() {
        let place = row.place().env(&row.variable(), row.text);
        assert_eq!(at(&place.config(), row.key), row.value, "{}", row.key);
        let place = row.place().dotenv(&format!("{}='{}'", row.variable(), row.text));
        assert_eq!(at(&place.config(), row.key), row.value, "{} in .env", row.key);
    }
}

#[test]
fn set_by_the_command_line() {
    for row in rows() {
        let place = row.place().set(format!("{}={}", row.key, row.text));
        assert_eq!(at(&place.config(), row.key), row.value, "{}", row.key);
    }
}

#[test]
fn lists_are_read_as_toml_too() {
    for row in rows().into_iter().filter(|row| row.default.is_array()) {
        let place = row.place().env(&row.variable(), row.toml);
        assert_eq!(at(&place.config(), row.key), row.value, "{}", row.key);
    }
}

#[test]
fn a_wrong_type_is_told_with_its_key_and_file() {
    for row in rows() {
        let place = Place::new().file("a.toml", &format!("{} = {}", row.key, row.wrong));
        let problems = place.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_has(&problems, &["a.toml", row.key, "expected", "found"]);
    }
}

#[test]
fn a_value_out_of_range_is_told_with_its_key_and_file() {
    for (row, outside) in rows().into_iter().filter_map(|row| Some((row.outside?, row))).map(|(o, r)| (r, o))
    {
        let place = Place::new().file("a.toml", &format!("{} = {outside}", row.key));
        let problems = place.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_has(&problems, &["a.toml", row.key]);
    }
}

#[test]
fn a_misspelt_key_is_told_with_the_right_one() {
    for row in rows() {
        let misspelt = format!("{}x", row.key);
        let place = Place::new()
            .file("a.toml", &format!("{misspelt} = {}", row.toml))
            .env(&format!("{}X", row.variable()), row.text)
            .set(format!("{misspelt}={}", row.text));
        let problems = place.problems();
        let right = format!("did you mean `{}`?", row.key);
        assert_has(&problems, &["a.toml: ", &misspelt, &right]);
        assert_has(&problems, &["--set: ", &misspelt, &right]);
        let variable = row.variable();
        let told = format!("environment variable {variable}X: {misspelt}: ");
        assert_has(&problems, &[&told, &format!("did you mean `{variable}`?")]);
    }
}

#[test]
fn a_model_has_its_keys_in_every_way() {
    for row in rows().into_iter().filter(|row| is_of_a_model(row.key)) {
        let key = format!("models.m.{}", row.key);
        let variable = format!("SCONCE_MODELS__m__{}", row.key.replace('.', "__").to_uppercase());
        let by_file = row.place().file("a.toml", &format!("{key} = {}", row.toml));
        let by_variable = row.place().env(&variable, row.text);
        let by_set = row.place().set(format!("{key}={}", row.text));
        for place in [by_file, by_variable, by_set] {
            let config = place.config();
            assert_eq!(at(&config, &key), row.value, "{key}");
            assert_eq!(at(&config, row.key), row.default, "{key} must leave the top level alone");
        }
        let inherited = row.place().set("models.m.backend=echo").set(format!("{}={}", row.key, row.text));
        assert_eq!(at(&inherited.config(), &key), row.value, "{key} is inherited");
        let wrong = Place::new().file("a.toml", &format!("{key} = {}\n{key}x = 1", row.wrong));
        assert_has(&wrong.problems(), &["a.toml", &key, "expected"]);
        assert_has(&wrong.problems(), &["a.toml", &format!("did you mean `{key}`?")]);
    }
}
