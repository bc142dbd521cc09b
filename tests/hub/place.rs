//! A hub, a cache of its own, and a model in the hub.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Mutex,
    time::Duration,
};

use sconce::hub::{Error, Hub, News, Patience, Settings, Token};
use sconce::units::Secret;
use tempfile::TempDir;

use crate::{
    server::{Access, FakeHub, etag},
    tiny,
};

pub(crate) struct Place {
    pub(crate) hub: FakeHub,
    pub(crate) home: TempDir,
}

/// What a download said of itself.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) progress: Mutex<Vec<String>>,
    pub(crate) trouble: Mutex<Vec<String>>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { hub: FakeHub::start(), home: TempDir::new().unwrap() }
    }

    /// With a model `org/tiny` that can be served, and files that are not needed for that.
    pub(crate) fn with_tiny() -> Self {
        let place = Self::new();
        place.hub.publish_files("org/tiny", Access::Open, tiny_files());
        place
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.home.path().join("hub")
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            cache: self.cache(),
            endpoint: self.hub.url(),
            token: None,
            offline: false,
            patience: Patience { tries: 3, pause: Duration::from_millis(1), stall: Duration::from_secs(20) },
        }
    }

    pub(crate) fn with_token(&self, token: &str) -> Settings {
        let token = Token { secret: Secret::new(token), origin: "HF_TOKEN".to_owned() };
        Settings { token: Some(token), ..self.settings() }
    }

    pub(crate) fn fetch(&self, id: &str) -> Result<PathBuf, Error> {
        fetch(self.settings(), id, &Heard::default())
    }

    pub(crate) fn told(&self, id: &str) -> String {
        self.fetch(id).unwrap_err().to_string()
    }

    /// `sconce` with only this place's variables in its environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sconce"));
        command
            .args(arguments)
            .current_dir(self.home.path())
            .env_clear()
            .env("HF_HOME", self.home.path())
            .env("HF_ENDPOINT", self.hub.url());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Standard output of a command that must succeed.
    pub(crate) fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

pub(crate) fn fetch(settings: Settings, id: &str, heard: &Heard) -> Result<PathBuf, Error> {
    let id = id.parse().unwrap();
    Hub::new(settings).fetch(&id, |news| match news {
        News::Progress(text) | News::Tenth(text) => heard.progress.lock().unwrap().push(text.to_owned()),
        News::Trouble(text) => heard.trouble.lock().unwrap().push(text.to_owned()),
    })
}

/// A model as it is published, with what nobody needs to serve it.
pub(crate) fn tiny_files() -> BTreeMap<String, Vec<u8>> {
    let directory = TempDir::new().unwrap();
    tiny::write(directory.path(), tiny::Stored::F32);
    let mut files = files(directory.path());
    files.insert("README.md".to_owned(), b"# tiny".to_vec());
    files.insert("pytorch_model.bin".to_owned(), vec![1; 10_000]);
    files.insert("onnx/model.onnx".to_owned(), vec![2; 10_000]);
    files.insert("generation_config.json".to_owned(), b"{}".to_vec());
    files
}

/// The files of a directory without directories in it.
pub(crate) fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    entries.filter(|path| path.is_file()).map(|path| (name(&path), fs::read(&path).unwrap())).collect()
}

/// Every blob is what its name says, and nothing half is left.
pub(crate) fn assert_sound(cache: &Path, repo: &str) {
    let blobs = files(&cache.join(format!("models--{}", repo.replace('/', "--"))).join("blobs"));
    assert!(!blobs.is_empty());
    for (name, bytes) in blobs {
        assert_eq!(name, etag(&bytes));
    }
}
