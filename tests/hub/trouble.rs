//! What goes wrong on the way and comes right.

use std::{fs, time::Duration};

use sconce::hub::{Patience, Settings};

use crate::{
    place::{Heard, Place, assert_sound, fetch, tiny_files},
    server::{At, Fault, etag},
};

/// Bytes that the requests for large files began at.
fn starts(seen: &[String]) -> Vec<usize> {
    let large = seen.iter().filter(|line| line.contains("model.safetensors?signature"));
    let start = |line: &String| Some(line.split_once("bytes=")?.1.trim_end_matches('-').parse().unwrap());
    large.map(|line| start(line).unwrap_or(0)).collect()
}

fn fetched(place: &Place) -> (Heard, Vec<usize>) {
    let heard = Heard::default();
    let path = fetch(place.settings(), "org/tiny", &heard).unwrap();
    assert_sound(&place.cache(), "org/tiny");
    assert_eq!(fs::read(path.join("model.safetensors")).unwrap(), tiny_files()["model.safetensors"]);
    (heard, starts(&place.hub.seen()))
}

fn says(heard: &Heard, what: &str) -> bool {
    heard.trouble.lock().unwrap().iter().any(|text| text.contains(what))
}

#[test]
fn failures_that_pass_are_tried_again() {
    let place = Place::with_tiny();
    place.hub.fault(At::List, 1, Fault::Status(429, "0"));
    place.hub.fault(At::List, 1, Fault::Status(500, ""));
    place.hub.fault(At::Head, 2, Fault::Status(502, ""));
    place.hub.fault(At::Bytes, 1, Fault::Status(403, ""));
    let (heard, _) = fetched(&place);
    for what in ["too many requests (429); trying again in 0.0 s", "500", "502", "403"] {
        assert!(says(&heard, what), "{what}: {:?}", heard.trouble.lock().unwrap());
    }
}

#[test]
fn cut_connections_are_gone_on_with() {
    let place = Place::with_tiny();
    // The tokenizer may be the first to be cut; each try brings something, so they are no reason to give up.
    place.hub.fault(At::Bytes, 8, Fault::Cut(10_000));
    let (heard, starts) = fetched(&place);
    assert!(starts.len() >= 4 && starts.windows(2).all(|pair| pair[0] < pair[1]), "{starts:?}");
    assert!(says(&heard, "trying again"));
}

#[test]
fn nothing_but_cuts_is_told() {
    let place = Place::with_tiny();
    place.hub.fault(At::Bytes, 100, Fault::Cut(0));
    let told = place.told("org/tiny");
    assert!(told.contains("came to a stop 3 times") && told.contains("is kept"), "{told}");
}

#[test]
fn silence_is_not_waited_for() {
    let place = Place::with_tiny();
    place.hub.fault(At::Bytes, 2, Fault::Stall(5000));
    // A busy machine may be silent for as long, too; it is not always.
    let patience = Patience { stall: Duration::from_millis(200), tries: 20, ..place.settings().patience };
    let heard = Heard::default();
    fetch(Settings { patience, ..place.settings() }, "org/tiny", &heard).unwrap();
    assert_sound(&place.cache(), "org/tiny");
    assert!(says(&heard, "no byte came for 0.2 s"));
}

#[test]
fn slow_bytes_are_waited_for() {
    let place = Place::with_tiny();
    place.hub.pause(Duration::from_millis(5));
    let (heard, starts) = fetched(&place);
    assert_eq!(starts, [0]);
    assert!(heard.trouble.lock().unwrap().is_empty());
    let progress = heard.progress.lock().unwrap();
    assert!(progress.len() > 20, "{progress:?}");
}

#[test]
fn a_part_is_gone_on_with_by_another_process() {
    let place = Place::with_tiny();
    let weights = tiny_files()["model.safetensors"].clone();
    let blobs = place.cache().join("models--org--tiny/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let part = blobs.join(format!("{}.incomplete", etag(&weights)));
    let half = weights.len() / 2;
    fs::write(&part, &weights[..half]).unwrap();
    assert_eq!(fetched(&place).1, [half]);
}

#[test]
fn a_server_that_cannot_go_on_begins_anew() {
    let place = Place::with_tiny();
    let weights = tiny_files()["model.safetensors"].clone();
    let blobs = place.cache().join("models--org--tiny/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{}.incomplete", etag(&weights))), &weights[..1000]).unwrap();
    place.hub.fault(At::Bytes, 10, Fault::Whole);
    fetched(&place);
}

#[test]
fn what_was_damaged_is_fetched_anew() {
    let place = Place::with_tiny();
    let weights = tiny_files()["model.safetensors"].clone();
    let blobs = place.cache().join("models--org--tiny/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let part = blobs.join(format!("{}.incomplete", etag(&weights)));
    for (n, wrong) in
        [&[7; 1000][..], &vec![7; weights.len()], &vec![7; weights.len() + 1]].iter().enumerate()
    {
        let _ = fs::remove_file(blobs.join(etag(&weights)));
        fs::remove_dir_all(place.cache().join("models--org--tiny/snapshots")).unwrap_or_default();
        fs::write(&part, wrong).unwrap();
        let (heard, starts) = fetched(&place);
        assert_eq!(starts.last(), Some(&0));
        assert_eq!(says(&heard, "fetching it anew"), n < 2, "what is too long is known at once");
    }
}

#[test]
fn what_stays_damaged_is_refused_and_not_kept() {
    let place = Place::with_tiny();
    place.hub.fault(At::Bytes, 100, Fault::Flipped);
    let told = place.told("org/tiny");
    assert!(told.contains("its hash is") && told.contains("HF_ENDPOINT"), "{told}");
    let weights = etag(&tiny_files()["model.safetensors"]);
    let blobs = place.cache().join("models--org--tiny/blobs");
    assert!(!blobs.join(&weights).exists());
}

#[test]
fn two_downloads_of_one_model_share_the_work() {
    let place = Place::with_tiny();
    place.hub.pause(Duration::from_millis(2));
    std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| place.fetch("org/tiny").unwrap()));
        let [one, two] = both.map(|thread| thread.join().unwrap());
        assert_eq!(one, two);
    });
    assert_eq!(starts(&place.hub.seen()), [0], "the second waits for the first");
    assert_sound(&place.cache(), "org/tiny");
}
