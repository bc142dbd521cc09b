//! The generated reference: fresh, complete and true.

use std::{env, fs, path::Path};

use sconce::config::{Config, reference};
use serde_json::Value;

use crate::Place;

#[track_caller]
fn fresh(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if env::var_os("UPDATE").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == text, "{name} is stale; `UPDATE=1 cargo test --test config` writes it again");
}

#[test]
fn the_page_is_fresh() {
    fresh("docs/configuration.md", &reference::markdown());
}

#[test]
fn the_example_file_is_fresh() {
    fresh("config.example.toml", &reference::toml());
}

#[test]
fn the_options_of_the_nixos_module_are_fresh() {
    fresh("nixos-module/reference.json", &reference::json());
}

/// The keys and tables of the schema with their paths.
fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        visit(&path, schema);
        walk(schema, &path, visit);
    }
}

#[test]
fn every_key_is_described_and_in_the_page() {
    let schema: Value = serde_json::from_str(&reference::json()).unwrap();
    let page = reference::markdown();
    walk(&schema, "", &mut |path, schema| {
        assert!(
            schema["description"].as_str().is_some_and(|text| text.len() > 5),
            "{path} has no description"
        );
        let heading = match schema["type"].as_str() {
            Some("object") if path == "models" => "\n## `[models.\"id\"]`\n".to_owned(),
            Some("object") if schema["additionalProperties"].is_object() => {
                format!("\n## `[{path}.NAME]`\n")
            }
            Some("object") => format!("\n## `[{path}]`\n"),
            _ => format!("\n### `{path}`\n"),
        };
        assert!(page.contains(&heading), "{path} is not in the page");
    });
}

#[test]
fn the_page_says_what_a_key_takes() {
    let page = reference::markdown();
    for line in [
        "Type: whole number; 1 to 4096 · Default: `256` · Variable: `SCONCE_ECHO__DIMENSIONS`",
        "Type: number; 0.0 to 2.0 · Default: not set · Variable: `SCONCE_TEMPERATURE`",
        "Default: `[\"127.0.0.1:8000\"]` · Variable: `SCONCE_SERVER__LISTEN` · Flag: `--listen`",
        "| `APP_API_KEY` | `auth.keys` | `SCONCE_AUTH__KEYS` |",
        "- `human`: A coloured line.",
    ] {
        assert!(page.contains(line), "{line}");
    }
}

#[test]
fn the_example_file_holds_every_key_with_its_default() {
    let text = reference::toml();
    assert_eq!(Place::new().etc(&text).config(), Config::default(), "as it stands it says nothing");
    let key = |line: &&str| line.starts_with(|c: char| c.is_ascii_lowercase());
    let lines = text.lines().map(|line| line.strip_prefix('#').filter(key).unwrap_or(line));
    let (unset, set): (Vec<_>, Vec<_>) = lines.partition(|line| line.ends_with(" ="));
    assert_eq!(Place::new().etc(&set.join("\n")).config(), Config::default());
    let all = [set.join("\n"), unset.join("\n")].join("\n");
    let schema: Value = serde_json::from_str(&reference::json()).unwrap();
    walk(&schema, "", &mut |path, schema| {
        let name = path.rsplit('.').next().unwrap();
        let here =
            all.lines().any(|line| line.starts_with(&format!("{name} =")) || line == format!("[{path}]"));
        let tables = schema["additionalProperties"].is_object();
        assert!(here || tables && text.contains(&format!("\n# [{path}.")), "{path} ({})", schema["type"]);
    });
}
