//! The rules of the house (ARCHITECTURE.md), read off the sources.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Item, Path as SynPath, UseTree,
    visit::{self, Visit},
};

const ROOMS: [&str; 17] = [
    "api",
    "backend",
    "bench",
    "cli",
    "config",
    "engine",
    "generation",
    "heap",
    "http",
    "hub",
    "kernels",
    "model",
    "server",
    "systemd",
    "telemetry",
    "text",
    "units",
];

/// What a room may see of ours. `units` holds plain values and is open to all.
const MAY_SEE: [(&str, &[&str]); 17] = [
    ("generation", &[]),
    ("units", &[]),
    ("heap", &[]),
    ("telemetry", &[]),
    ("http", &[]),
    ("hub", &[]),
    ("kernels", &[]),
    ("model", &["kernels"]),
    ("engine", &["generation", "model"]),
    ("text", &["generation"]),
    ("backend", &["engine", "generation", "heap", "hub", "model", "text"]),
    ("api", &["backend", "generation"]),
    ("config", &["api", "backend", "http", "telemetry"]),
    ("systemd", &["http"]),
    ("server", &["api", "backend", "config", "heap", "http", "systemd", "telemetry"]),
    ("bench", &["model"]),
    ("cli", &["api", "backend", "bench", "config", "hub", "server"]),
];

/// Crates that one room alone may name.
const OWNED: [(&str, &str); 11] = [
    ("candle_core", "model"),
    ("figment", "config"),
    ("poem", "api"),
    ("poem_openapi", "api"),
    ("clap", "cli"),
    ("tracing_subscriber", "telemetry"),
    ("rustls", "http"),
    ("reqwest", "hub"),
    ("indicatif", "hub"),
    ("sd_notify", "systemd"),
    ("listenfd", "systemd"),
];

struct Source {
    path: PathBuf,
    room: String,
    text: String,
}

fn sources() -> Vec<Source> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    let source = |path: PathBuf| {
        let inside = path.strip_prefix(&root).unwrap();
        let first = inside.iter().next().unwrap().to_str().unwrap();
        let room = first.trim_end_matches(".rs").to_owned();
        Source { room, text: fs::read_to_string(&path).unwrap(), path }
    };
    paths.into_iter().map(source).collect()
}

/// Every path of a file, `use` declarations flattened.
#[derive(Default)]
struct Paths(BTreeSet<Vec<String>>);

impl Paths {
    fn of(text: &str) -> BTreeSet<Vec<String>> {
        let mut paths = Self::default();
        paths.visit_file(&syn::parse_file(text).unwrap());
        paths.0
    }

    fn flatten(&mut self, tree: &UseTree, mut before: Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.flatten(&path.tree, before);
            }
            UseTree::Name(name) => {
                before.push(name.ident.to_string());
                self.0.insert(before);
            }
            UseTree::Rename(name) => {
                before.push(name.ident.to_string());
                self.0.insert(before);
            }
            UseTree::Glob(_) => {
                self.0.insert(before);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.flatten(tree, before.clone());
                }
            }
        }
    }
}

impl<'a> Visit<'a> for Paths {
    fn visit_item(&mut self, item: &'a Item) {
        if let Item::Use(item) = item {
            self.flatten(&item.tree, vec![]);
        }
        visit::visit_item(self, item);
    }

    fn visit_path(&mut self, path: &'a SynPath) {
        self.0.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

#[test]
fn each_room_sees_only_what_it_may() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some((_, may)) = MAY_SEE.iter().find(|(room, _)| *room == source.room) else {
            assert!(
                ["main", "lib"].contains(&source.room.as_str()),
                "{}: a room without rules",
                source.path.display()
            );
            continue;
        };
        for path in Paths::of(&source.text) {
            let [first, second, ..] = path.as_slice() else { continue };
            let seen = ["crate", "sconce"].contains(&first.as_str()) && ROOMS.contains(&second.as_str());
            if seen && *second != source.room && second != "units" && !may.contains(&second.as_str()) {
                wrong.push(format!("{}: {}", source.path.display(), path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn text_and_engine_meet_in_one_backend_alone() {
    for source in sources().iter().filter(|source| source.room == "backend") {
        let candle = source.path.iter().any(|part| part == "candle");
        for path in Paths::of(&source.text) {
            let joins = path.len() > 1
                && path[0] == "crate"
                && ["engine", "model", "text"].contains(&path[1].as_str());
            assert!(candle || !joins, "{}: {}", source.path.display(), path.join("::"));
        }
    }
}

#[test]
fn unsafe_code_is_in_the_kernels_and_the_heap_alone() {
    for source in sources().iter().filter(|source| !["kernels", "heap"].contains(&&*source.room)) {
        assert!(!source.text.contains("unsafe_code"), "{}: a lint is lifted", source.path.display());
    }
}

#[test]
fn each_library_stays_in_its_room() {
    let mut wrong = Vec::new();
    for source in sources() {
        for path in Paths::of(&source.text) {
            for (library, room) in OWNED {
                if path.first().is_some_and(|first| first == library) && source.room != room {
                    wrong.push(format!("{}: {}", source.path.display(), path.join("::")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_whole_configuration_is_seen_by_few() {
    for source in sources() {
        let whole = Paths::of(&source.text)
            .into_iter()
            .any(|path| path.join("::").starts_with("crate::config::Config"));
        assert!(
            !whole || ["config", "server", "main", "lib"].contains(&source.room.as_str()),
            "{}",
            source.path.display()
        );
    }
}

#[test]
fn statuses_are_decided_in_one_place() {
    for source in sources().iter().filter(|source| source.room == "api") {
        let name = source.path.file_name().unwrap().to_str().unwrap();
        let decides =
            source.text.contains("StatusCode::BAD_REQUEST") || source.text.contains("StatusCode::NOT_FOUND");
        assert!(!decides || name == "error.rs", "{}", source.path.display());
    }
}

#[test]
fn every_room_is_on_the_map() {
    let map = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    for source in sources() {
        let room = &source.room;
        let named = ["main", "lib"].contains(&room.as_str())
            || map.contains(&format!("{room}/"))
            || map.contains(&format!("{room}.rs"));
        assert!(named, "ARCHITECTURE.md does not name {room}");
    }
}

#[test]
fn files_stay_small() {
    let mut lengths: Vec<(usize, String)> = sources()
        .iter()
        .map(|source| (source.text.lines().count(), source.path.display().to_string()))
        .collect();
    lengths.sort();
    let (longest, path) = lengths.last().unwrap();
    assert!(*longest <= 500, "{path} has {longest} lines: does it hold two nouns?");
}
