//! `sconce models pull | list | inspect | remove`.

use std::fs;

use serde_json::Value;

use crate::{
    place::{Place, tiny_files},
    server::Access,
};

fn refused(place: &Place, arguments: &[&str]) -> (i32, String) {
    let output = place.run(arguments);
    assert!(output.stdout.is_empty());
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_model_is_pulled_listed_inspected_and_removed() {
    let place = Place::with_tiny();
    assert!(place.text(&["models", "list"]).starts_with("no model is in "));
    let (status, told) = refused(&place, &["models", "inspect", "org/tiny"]);
    assert_eq!(status, 66);
    assert!(
        told.contains("`sconce models pull org/tiny` fetches it")
            && told.contains("nor is there such a path"),
        "{told}"
    );

    let path = place.text(&["models", "pull", "org/tiny"]);
    let listed = place.text(&["models", "list"]);
    assert!(listed.starts_with("org/tiny  ") && listed.trim_end().ends_with("  main"), "{listed}");
    let json: Vec<Value> = serde_json::from_str(&place.text(&["models", "list", "--json"])).unwrap();
    assert_eq!(
        (json.len(), &json[0]["whole"], &json[0]["path"]),
        (1, &Value::from(true), &Value::from(path.trim()))
    );

    let inspected = place.text(&["models", "inspect", "org/tiny", "--set", "candle.kv_cache=1MiB"]);
    for told in [
        path.trim(),
        "llama (safetensors)",
        "memory",
        "chat template  from tokenizer_config.json; has system",
    ] {
        assert!(inspected.contains(told), "{told}: {inspected}");
    }

    let removed = place.text(&["models", "remove", "org/tiny"]);
    assert!(removed.starts_with("org/tiny: removed 5 files, "), "{removed}");
    assert!(!place.cache().join("models--org--tiny").exists());
    let (status, told) = refused(&place, &["models", "remove", "org/tiny"]);
    assert!(status == 66 && told.contains("is not in the cache"), "{told}");
}

#[test]
fn the_configurations_models_are_pulled() {
    let place = Place::with_tiny();
    let configuration = r#"
        [models.small]
        backend = "candle"
        candle.source = "org/tiny@v1"
        [models.demo]
        backend = "candle"
        candle.source = "builtin:demo"
        [models.echo]
    "#;
    fs::write(place.home.path().join("c.toml"), configuration).unwrap();
    let path = place.text(&["models", "pull", "--config", "c.toml"]);
    assert_eq!(place.text(&["models", "pull", "small", "--config", "c.toml"]), path);
    assert!(place.cache().join("models--org--tiny/refs/v1").is_file());
    let inspected = place.text(&["models", "inspect", "--config", "c.toml", "--set", "candle.kv_cache=1MiB"]);
    assert!(
        inspected.contains(&format!("small: {}", path.trim())) && inspected.contains("demo: builtin:demo")
    );
    let (status, told) = refused(&place, &["models", "pull"]);
    assert!(status == 66 && told.contains("name one, as org/name"), "{told}");
    let (status, told) = refused(&place, &["models", "pull", "org"]);
    assert!(status == 66 && told.contains("expected org/name"), "{told}");
}

#[test]
fn a_revision_or_a_file_is_removed_alone() {
    let place = Place::new();
    let mut files = tiny_files();
    let first = place.hub.publish_files("org/tiny", Access::Open, files.clone());
    place.text(&["models", "pull", "org/tiny@v1"]);
    files.insert("generation_config.json".to_owned(), br#"{"top_k":5}"#.to_vec());
    for name in ["a.gguf", "b.gguf"] {
        files.insert(name.to_owned(), name.repeat(1000).into_bytes());
    }
    place.hub.publish_files("org/tiny", Access::Open, files);
    let path = place.text(&["models", "pull", "org/tiny", "org/tiny:a.gguf", "org/tiny:b.gguf"]);
    let listed = place.text(&["models", "list"]);
    let ids: Vec<&str> = listed.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let mut expected = ["org/tiny@v1", "org/tiny", "org/tiny:a.gguf", "org/tiny:b.gguf"];
    let mut sorted = ids.clone();
    sorted.sort();
    expected.sort();
    assert_eq!(sorted, expected, "{listed}");

    assert_eq!(
        place.text(&["models", "remove", "org/tiny:a.gguf"]),
        "org/tiny:a.gguf: removed 1 files, 6.0 kB\n"
    );
    assert_eq!(place.text(&["models", "remove", "org/tiny@v1"]), "org/tiny@v1: removed 1 files, 2 B\n");
    let repo = place.cache().join("models--org--tiny");
    assert!(!repo.join("refs/v1").exists() && !repo.join("snapshots").join(first).exists());
    let kept = place.text(&["models", "list"]);
    assert!(
        kept.contains("org/tiny ") && kept.contains("org/tiny:b.gguf") && !kept.contains("a.gguf"),
        "{kept}"
    );
    place.text(&["models", "inspect", "org/tiny", "--set", "candle.kv_cache=1MiB"]);
    assert!(fs::metadata(path.lines().next().unwrap()).unwrap().is_dir());
}

#[test]
fn what_was_not_downloaded_to_the_end_is_listed_and_removed() {
    let place = Place::with_tiny();
    place.hub.fault(crate::server::At::Bytes, 100, crate::server::Fault::Cut(100));
    let output = place.command(&["models", "pull", "org/tiny"]).env("HF_TOKEN", "bad").output().unwrap();
    assert_eq!(output.status.code(), Some(77), "{}", String::from_utf8_lossy(&output.stderr));
    let blobs = place.cache().join("models--org--tiny/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join("x.incomplete"), [0; 1234]).unwrap();
    let listed = place.text(&["models", "list"]);
    assert!(
        listed.contains("org/tiny")
            && listed.contains("1.2 kB")
            && listed.contains("not downloaded to the end"),
        "{listed}"
    );
    place.text(&["models", "remove", "org/tiny"]);
    assert!(place.text(&["models", "list"]).starts_with("no model"));
}
