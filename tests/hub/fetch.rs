//! What a download leaves in the cache.

use std::{collections::BTreeMap, fs};

use sconce::hub::{Error, Hub, Settings};
use serde_json::json;

use crate::{
    place::{Heard, Place, assert_sound, fetch, tiny_files},
    server::{Access, TOKEN, etag},
};

fn named(files: &[(&str, usize)]) -> BTreeMap<String, Vec<u8>> {
    let content = |(n, (name, size)): (usize, &(&str, usize))| ((*name).to_owned(), vec![n as u8 + 1; *size]);
    files.iter().enumerate().map(content).collect()
}

fn below(directory: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                names.push(path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    names.sort();
    names
}

#[test]
fn the_cache_is_laid_out_as_pythons_tools_do() {
    let place = Place::with_tiny();
    let heard = Heard::default();
    let path = fetch(place.settings(), "org/tiny", &heard).unwrap();
    let repo = place.cache().join("models--org--tiny");
    let commit = fs::read_to_string(repo.join("refs/main")).unwrap();
    assert_eq!(path, repo.join("snapshots").join(&commit));
    let files = tiny_files();
    let wanted = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(below(&path), wanted);
    for name in wanted {
        let link = fs::read_link(path.join(name)).unwrap();
        assert_eq!(link.to_str().unwrap(), format!("../../blobs/{}", etag(&files[name])));
        assert_eq!(&fs::read(path.join(name)).unwrap(), &files[name], "{name}");
    }
    assert_sound(&place.cache(), "org/tiny");
    let absent = below(&repo.join(".no_exist").join(&commit));
    assert!(
        absent.contains(&"1_Pooling/config.json".to_owned())
            && absent.contains(&"chat_template.jinja".to_owned())
    );
    let locks = below(&place.cache().join(".locks/models--org--tiny"));
    assert_eq!(locks.len(), wanted.len());
    assert!(place.cache().join("CACHEDIR.TAG").exists());
    let progress = heard.progress.lock().unwrap();
    assert!(progress.iter().any(|text| text.starts_with("downloading 100.0 % of ")), "{progress:?}");
    assert!(heard.trouble.lock().unwrap().is_empty());
    // So that weights which are there have the rest beside them.
    let fetched: Vec<String> = place.hub.seen().into_iter().filter(|line| line.starts_with("GET")).collect();
    assert!(fetched.last().unwrap().contains("model.safetensors?signature"), "{fetched:?}");
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let place = Place::with_tiny();
    let first = place.fetch("org/tiny").unwrap();
    place.hub.seen();
    assert_eq!(place.fetch("org/tiny").unwrap(), first);
    assert_eq!(place.hub.seen(), ["GET /api/models/org/tiny/revision/main"]);
    let hub = Hub::new(place.settings());
    assert_eq!(hub.obtain(&"org/tiny".parse().unwrap(), |_| {}).unwrap(), first);
    assert_eq!(place.hub.seen(), [""; 0], "the cache is enough");
    // A new commit shares what has not changed.
    let mut files = tiny_files();
    files.insert("generation_config.json".to_owned(), br#"{"top_k":5}"#.to_vec());
    let commit = place.hub.publish_files("org/tiny", Access::Open, files);
    let second = place.fetch("org/tiny").unwrap();
    assert!(second.ends_with(&commit) && first.is_dir());
    assert!(place.hub.seen().iter().all(|line| !line.contains("signature")), "no large file comes twice");
    assert_eq!(hub.cached(&"org/tiny".parse().unwrap()).unwrap(), second);
}

#[test]
fn revisions_are_branches_tags_and_commits() {
    let place = Place::with_tiny();
    let path = place.fetch("org/tiny@v1").unwrap();
    let repo = place.cache().join("models--org--tiny");
    assert!(repo.join("refs/v1").is_file() && !repo.join("refs/main").exists());
    let commit = path.file_name().unwrap().to_str().unwrap();
    assert_eq!(place.fetch(&format!("org/tiny@{commit}")).unwrap(), path);
    assert_eq!(place.fetch("org/tiny@refs/pr/1").unwrap(), path);
    assert_eq!(fs::read_to_string(repo.join("refs/refs/pr/1")).unwrap(), commit);
    assert!(place.hub.seen().contains(&"GET /api/models/org/tiny/revision/refs%2Fpr%2F1".to_owned()));
}

#[test]
fn shards_are_those_of_the_index() {
    let place = Place::new();
    let mut files = named(&[
        ("config.json", 10),
        ("tokenizer.json", 5000),
        ("model-1.safetensors", 50_000),
        ("model-2.safetensors", 60_000),
        ("model.safetensors", 70_000),
        ("original/consolidated.pth", 9000),
    ]);
    let index = json!({ "weight_map": { "a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors" } });
    files.insert("model.safetensors.index.json".to_owned(), index.to_string().into_bytes());
    place.hub.publish_files("org/large", Access::Open, files.clone());
    let path = place.fetch("org/large").unwrap();
    let expected = [
        "config.json",
        "model-1.safetensors",
        "model-2.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ];
    assert_eq!(below(&path), expected);
    assert_sound(&place.cache(), "org/large");
    let hub = Hub::new(place.settings());
    fs::remove_file(path.join("model-2.safetensors")).unwrap();
    let lacking = hub.cached(&"org/large".parse().unwrap()).unwrap_err();
    assert!(
        matches!(&lacking, Error::NotCached { missing, .. } if missing == &["model-2.safetensors"]),
        "{lacking}"
    );
    place.hub.seen();
    hub.obtain(&"org/large".parse().unwrap(), |_| {}).unwrap();
    assert!(place.hub.seen().iter().all(|line| !line.contains("signature")), "its blob is still there");
    files.remove("model-2.safetensors");
    place.hub.publish_files("org/large", Access::Open, files);
    assert!(place.told("org/large").contains("lists model-2.safetensors, which is not there"));
}

#[test]
fn of_gguf_repositories_one_file_is_fetched() {
    let place = Place::new();
    let files = [("README.md", 10), ("config.json", 10), ("a-Q4_K_M.gguf", 9000), ("sub/a-Q8_0.gguf", 9000)];
    place.hub.publish_files("org/files", Access::Open, named(&files));
    let path = place.fetch("org/files:sub/a-Q8_0.gguf").unwrap();
    assert_eq!(fs::read(&path).unwrap(), [4; 9000]);
    assert!(fs::read_link(&path).unwrap().starts_with("../../../blobs"));
    let snapshot = path.parent().unwrap().parent().unwrap();
    assert_eq!(below(snapshot), ["sub/a-Q8_0.gguf"]);
    let told = place.told("org/files");
    assert!(told.contains("a-Q4_K_M.gguf, sub/a-Q8_0.gguf"), "{told}");
    place.hub.publish_files("org/one", Access::Open, named(&files[..3]));
    assert!(place.fetch("org/one").unwrap().ends_with("a-Q4_K_M.gguf"));
}

#[test]
fn sentence_transformers_have_their_own_files() {
    let place = Place::new();
    let files = [
        ("config.json", 10),
        ("tokenizer.json", 10),
        ("model.safetensors", 9000),
        ("modules.json", 20),
        ("1_Pooling/config.json", 30),
        ("config_sentence_transformers.json", 40),
        ("sentence_bert_config.json", 50),
        ("openvino/openvino_model.bin", 9000),
    ];
    place.hub.publish_files("org/encoder", Access::Open, named(&files));
    let path = place.fetch("org/encoder").unwrap();
    let mut expected: Vec<&str> = files[..7].iter().map(|(name, _)| *name).collect();
    expected.sort();
    assert_eq!(below(&path), expected);
}

#[test]
fn a_token_opens_what_it_may_and_is_shown_to_the_hub_alone() {
    let place = Place::new();
    place.hub.publish_files("org/private", Access::Private, tiny_files());
    place.hub.publish_files("org/gated", Access::Gated, tiny_files());
    for id in ["org/private", "org/gated"] {
        fetch(place.with_token(TOKEN), id, &Heard::default()).unwrap();
        assert_sound(&place.cache(), id);
    }
    // Asserts that the host of the large files saw none.
    assert!(place.hub.seen().iter().any(|line| line.contains("signature")));
}

#[test]
fn without_a_network_the_cache_serves() {
    let place = Place::with_tiny();
    let path = place.fetch("org/tiny").unwrap();
    place.hub.seen();
    let hub = Hub::new(Settings { offline: true, ..place.settings() });
    assert_eq!(hub.obtain(&"org/tiny".parse().unwrap(), |_| {}).unwrap(), path);
    let told = hub.obtain(&"org/other".parse().unwrap(), |_| {}).unwrap_err().to_string();
    assert!(told.contains("org/other is not in the cache") && told.contains("HF_HUB_OFFLINE"), "{told}");
    let told = hub.fetch(&"org/tiny".parse().unwrap(), |_| {}).unwrap_err().to_string();
    assert!(told.contains("HF_HUB_OFFLINE"), "{told}");
    assert_eq!(place.hub.seen(), [""; 0]);
}
