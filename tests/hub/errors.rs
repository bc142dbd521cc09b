//! Each reason for which there is no model, and what is said to do about it.

use std::net::TcpListener;

use sconce::hub::{Error, Patience, Settings};

use crate::{
    place::{Heard, Place, fetch, tiny_files},
    server::{Access, At, Fault, TOKEN},
};

fn has(told: &str, parts: &[&str]) {
    for part in parts {
        assert!(told.contains(part), "{part:?} is not in {told:?}");
    }
}

fn refused(settings: Settings, id: &str) -> Error {
    fetch(settings, id, &Heard::default()).unwrap_err()
}

#[test]
fn missing_and_private_models() {
    let place = Place::new();
    place.hub.publish_files("org/private", Access::Private, tiny_files());
    for id in ["org/absent", "org/private"] {
        has(&place.told(id), &[id, &place.hub.url(), "or it is private", "HF_TOKEN", "hf auth login"]);
        let other = refused(place.with_token("hf_other"), id);
        has(&other.to_string(), &[id, "your token may read it"]);
        assert!(matches!(other, Error::NotFound { token: true, .. }) && !other.is_temporary());
    }
}

#[test]
fn gated_models() {
    let place = Place::new();
    place.hub.publish_files("org/gated", Access::Gated, tiny_files());
    let page = format!("ask for access at {}/org/gated", place.hub.url());
    has(&place.told("org/gated"), &["is gated", &page, "HF_TOKEN"]);
    has(&refused(place.with_token("hf_other"), "org/gated").to_string(), &["is gated", &page, "account"]);
}

#[test]
fn wrong_tokens() {
    let place = Place::with_tiny();
    let told = refused(place.with_token("wrong"), "org/tiny").to_string();
    has(&told, &["does not accept the token in HF_TOKEN", "/settings/tokens"]);
    assert!(!told.contains("wrong"), "{told}");
    place.hub.fault(At::List, 1, Fault::Status(403, ""));
    has(&refused(place.with_token(TOKEN), "org/tiny").to_string(), &["refuses org/tiny", "/settings/tokens"]);
}

#[test]
fn missing_revisions_and_files() {
    let place = Place::with_tiny();
    has(&place.told("org/tiny@v9"), &["org/tiny has no revision \"v9\"", "/tree/main"]);
    has(&place.told("org/tiny:a.gguf"), &["has no file a.gguf", "none"]);
    let mut files = tiny_files();
    files.remove("tokenizer.json");
    place.hub.publish_files("org/tiny", Access::Open, files.clone());
    place.hub.seen();
    has(&place.told("org/tiny"), &["no tokenizer.json"]);
    assert_eq!(place.hub.seen().len(), 1, "nothing is fetched in vain");
    files.remove("model.safetensors");
    place.hub.publish_files("org/tiny", Access::Open, files);
    has(
        &place.told("org/tiny"),
        &["neither config.json with safetensors nor a GGUF file", "pytorch_model.bin"],
    );
}

#[test]
fn too_many_requests_and_servers_that_fail() {
    let place = Place::with_tiny();
    place.hub.fault(At::List, 3, Fault::Status(429, "0"));
    let busy = place.fetch("org/tiny").unwrap_err();
    has(&busy.to_string(), &["too many requests (429)", "HF_TOKEN"]);
    place.hub.fault(At::Head, 100, Fault::Status(503, ""));
    let broken = place.fetch("org/tiny").unwrap_err();
    has(&broken.to_string(), &["503", "try again later", "is kept"]);
    assert!(busy.is_temporary() && broken.is_temporary());
}

#[test]
fn nobody_there() {
    let place = Place::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("http://{closed}");
    let gone = refused(Settings { endpoint, ..place.settings() }, "org/tiny");
    has(&gone.to_string(), &[&closed.to_string(), "cannot be reached", "HF_ENDPOINT", "HTTPS_PROXY"]);
    assert!(gone.is_temporary());
    // Something listens and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let stall = std::time::Duration::from_millis(50);
    let patience = Patience { tries: 2, stall, ..place.settings().patience };
    let told = refused(Settings { endpoint, patience, ..place.settings() }, "org/tiny").to_string();
    has(&told, &["no answer within 0.05 s"]);
}

#[test]
fn a_server_that_is_no_hub() {
    let place = Place::with_tiny();
    place.hub.fault(At::List, 1, Fault::Status(200, ""));
    has(&place.told("org/tiny"), &["does not answer as the Hugging Face hub does", "HF_ENDPOINT"]);
    place.hub.fault(At::List, 1, Fault::Status(302, ""));
    has(&place.told("org/tiny"), &["leads nowhere"]);
    place.hub.hide("org/tiny", "config.json");
    has(&place.told("org/tiny"), &["a file that it lists is not there"]);
    place.hub.fault(At::Head, 100, Fault::Status(200, ""));
    has(&place.told("org/tiny"), &["no usable ETag"]);
}

#[test]
fn a_full_disk() {
    let place = Place::with_tiny();
    // Of the weights, which are the last to come.
    let files = tiny_files();
    let weights = crate::server::etag(&files["model.safetensors"]);
    let blobs = place.cache().join("models--org--tiny/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::os::unix::fs::symlink("/dev/full", blobs.join(format!("{weights}.incomplete"))).unwrap();
    let told = place.told("org/tiny");
    has(&told, &["models--org--tiny/blobs has no room", "make room", "HF_HUB_CACHE"]);
}
