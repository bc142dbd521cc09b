//! Python's `huggingface_hub`, the cache's other user. `tests/hub/run` installs it and runs these.

use std::{fs, path::Path, process::Command};

use crate::{
    place::{Place, assert_sound, tiny_files},
    server::{Access, etag},
};

/// `tests/hub/client.py` with its arguments, and what it printed.
fn python(place: &Place, offline: bool, arguments: &[&str]) -> String {
    let interpreter = std::env::var_os("HUB_PYTHON").expect("tests/hub/run sets HUB_PYTHON");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hub/client.py");
    let mut command = Command::new(interpreter);
    command
        .arg(script)
        .args(arguments)
        .env_clear()
        .env("HF_HOME", place.home.path())
        .env("HF_ENDPOINT", place.hub.url());
    if offline {
        command.env("HF_HUB_OFFLINE", "1");
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
#[ignore = "tests/hub/run runs it"]
fn python_finds_what_we_fetched() {
    let place = Place::with_tiny();
    let path = place.text(&["models", "pull", "org/tiny", "org/tiny@v1"]);
    let path = path.lines().next().unwrap();
    place.hub.seen();
    assert_eq!(python(&place, true, &["snapshot", "org/tiny"]), path);
    assert_eq!(
        python(&place, true, &["file", "org/tiny", "model.safetensors", "v1"]),
        format!("{path}/model.safetensors")
    );
    // It knows of what is not there.
    assert_eq!(python(&place, true, &["cached", "org/tiny", "chat_template.jinja"]), "known not to exist");
    let scanned = python(&place, true, &["scan"]);
    assert_eq!(
        scanned, "org/tiny model 1 5 main,v1 0",
        "repositories, revisions, files, references, warnings"
    );
    assert_eq!(place.hub.seen(), [""; 0]);
    // And adds to it what we left out.
    python(&place, false, &["snapshot", "org/tiny"]);
    let seen = place.hub.seen();
    assert!(seen.iter().any(|line| line.contains("pytorch_model.bin")));
    assert!(seen.iter().all(|line| !line.contains("model.safetensors?signature")), "{seen:?}");
}

#[test]
#[ignore = "tests/hub/run runs it"]
fn we_find_what_python_fetched() {
    let place = Place::with_tiny();
    let path = python(&place, false, &["snapshot", "org/tiny"]);
    place.hub.seen();
    let listed = place.text(&["models", "list"]);
    assert!(listed.starts_with("org/tiny  ") && listed.trim_end().ends_with("  main"), "{listed}");
    let inspected = place.text(&["models", "inspect", "org/tiny", "--set", "candle.kv_cache=1MiB"]);
    assert!(inspected.starts_with(&path), "{inspected}");
    assert_eq!(place.hub.seen(), [""; 0]);
    // A pull has nothing to fetch but the list.
    assert_eq!(place.text(&["models", "pull", "org/tiny"]).trim(), path);
    assert_eq!(place.hub.seen(), ["GET /api/models/org/tiny/revision/main"]);
    place.text(&["models", "remove", "org/tiny"]);
    assert_eq!(python(&place, true, &["scan"]), "");
}

#[test]
#[ignore = "tests/hub/run runs it"]
fn what_python_has_in_part_is_completed() {
    let place = Place::with_tiny();
    python(&place, false, &["file", "org/tiny", "model.safetensors", "main"]);
    place.hub.seen();
    let listed = place.text(&["models", "list"]);
    assert!(listed.contains("lacks weights"), "{listed}");
    place.text(&["models", "pull", "org/tiny"]);
    assert!(place.hub.seen().iter().all(|line| !line.contains("model.safetensors")), "the weights are there");
    assert_sound(&place.cache(), "org/tiny");
}

#[test]
#[ignore = "tests/hub/run runs it"]
fn both_wait_for_each_others_locks() {
    let place = Place::new();
    place.hub.publish_files("org/tiny", Access::Open, tiny_files());
    let weights = etag(&tiny_files()["model.safetensors"]);
    place.hub.pause(std::time::Duration::from_millis(30));
    let lock = place.cache().join(format!(".locks/models--org--tiny/{weights}.lock"));
    std::thread::scope(|scope| {
        let pull = scope.spawn(|| place.text(&["models", "pull", "org/tiny"]));
        let until = std::time::Instant::now() + crate::common::LONG;
        while !lock.exists() {
            assert!(std::time::Instant::now() < until);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let file = python(&place, false, &["file", "org/tiny", "model.safetensors", "main"]);
        let path = pull.join().unwrap();
        assert_eq!(file, format!("{}/model.safetensors", path.trim()));
    });
    let seen = place.hub.seen();
    let fetched = seen.iter().filter(|line| line.contains("model.safetensors?signature")).count();
    assert_eq!(fetched, 1, "{seen:?}");
    assert_eq!(fs::read_dir(place.cache().join("models--org--tiny/blobs")).unwrap().count(), 5);
}
