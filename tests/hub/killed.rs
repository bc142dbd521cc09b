//! Downloads that end at any moment.

use std::{collections::BTreeMap, fs, process::Stdio, thread::sleep, time::Duration};

use crate::{
    place::{Place, assert_sound},
    server::{Access, etag},
};

#[test]
fn a_download_that_is_killed_twenty_times_ends_whole() {
    let place = Place::new();
    let content = |size: usize| (0..size).map(|n| ((n * n) >> 7) as u8).collect::<Vec<_>>();
    let weights = content(4 << 20);
    let files = BTreeMap::from([
        ("config.json".to_owned(), b"{}".to_vec()),
        ("tokenizer.json".to_owned(), content(100_000)),
        ("model.safetensors".to_owned(), weights.clone()),
    ]);
    place.hub.publish_files("org/large", Access::Open, files);
    place.hub.pause(Duration::from_millis(2));
    let mut moments = Vec::new();
    for n in 1..=20 {
        let mut child = place
            .command(&["models", "pull", "org/large"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Places, not times: after so many requests and pieces, scattered by a fixed rule.
        let end = place.hub.steps() + n * 37 % 80;
        while place.hub.steps() < end {
            assert!(child.try_wait().unwrap().is_none(), "it has ended by itself");
            sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().code(), None, "it has ended by itself");
        let half =
            place.cache().join("models--org--large/blobs").join(format!("{}.incomplete", etag(&weights)));
        moments.push(fs::metadata(half).map_or(0, |part| part.len()));
    }
    assert!(
        moments.is_sorted() && moments[0] < moments[19],
        "each goes on where the one before was: {moments:?}"
    );
    assert!(!place.cache().join("models--org--large/refs/main").exists(), "nobody takes it for whole");
    place.hub.seen();
    place.hub.pause(Duration::ZERO);
    let path = place.text(&["models", "pull", "org/large"]);
    assert_eq!(fs::read(format!("{}/model.safetensors", path.trim())).unwrap(), weights);
    assert_sound(&place.cache(), "org/large");
    let seen = place.hub.seen();
    assert!(seen.iter().any(|line| line.ends_with(&format!("bytes={}-", moments[19]))), "{seen:?}");
}
