//! The cache's layout (`huggingface_hub`'s "Understand caching"): in `models--org--name`, `blobs` by their hashes,
//! `snapshots` of commits with links to them, `refs` from branches and tags to commits, and in `.no_exist` what a commit
//! is known not to have. Locks lie beside, in `.locks`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Error, HubId,
    id::is_plain,
    plan::{self, Choice},
};

/// What the names of models' directories begin with, and what stands there for `/`.
const PREFIX: &str = "models--";
const SEPARATOR: &str = "--";

#[derive(Debug)]
pub(super) struct Cache {
    root: PathBuf,
}

/// What the cache has of a model.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// All that is needed, here.
    Whole(PathBuf),
    /// Not all; these files are missing, as far as that is known.
    Lacking(Vec<String>),
}

/// One repository's part of the cache.
#[derive(Debug)]
pub(super) struct Repo {
    pub(super) directory: PathBuf,
    pub(super) locks: PathBuf,
}

impl Cache {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// `repo` is `org/name`.
    pub(super) fn repo(&self, repo: &str) -> Repo {
        let name = format!("{PREFIX}{}", repo.replace('/', SEPARATOR));
        Repo { directory: self.root.join(&name), locks: self.root.join(".locks").join(name) }
    }

    /// The repositories that are here, as `org/name`, in order.
    pub(super) fn repos(&self) -> Result<Vec<String>, Error> {
        let mut repos: Vec<String> = entries(&self.root)?
            .into_iter()
            .filter_map(|entry| {
                entry.strip_prefix(PREFIX)?.split_once(SEPARATOR).map(|(org, name)| format!("{org}/{name}"))
            })
            .filter(|repo| repo.parse::<HubId>().is_ok())
            .collect();
        repos.sort();
        Ok(repos)
    }

    pub(super) fn find(&self, id: &HubId) -> Result<Found, Error> {
        let repo = self.repo(&id.repo);
        match repo.commit(id.revision())? {
            Some(commit) => repo.look(&commit, id),
            None => Ok(Found::Lacking(Vec::new())),
        }
    }
}

impl Repo {
    pub(super) fn blobs(&self) -> PathBuf {
        self.directory.join("blobs")
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.directory.join("snapshots").join(commit)
    }

    pub(super) fn reference(&self, revision: &str) -> PathBuf {
        self.directory.join("refs").join(revision)
    }

    pub(super) fn no_exist(&self, commit: &str) -> PathBuf {
        self.directory.join(".no_exist").join(commit)
    }

    #[cfg(feature = "hub")]
    pub(super) fn lock(&self, etag: &str) -> PathBuf {
        self.locks.join(format!("{etag}.lock"))
    }

    /// The commit that a revision is here.
    pub(super) fn commit(&self, revision: &str) -> Result<Option<String>, Error> {
        let reference = self.reference(revision);
        match fs::read_to_string(&reference) {
            Ok(commit) => {
                Ok(Some(commit.trim().to_owned()).filter(|commit| is_plain(commit) && !commit.contains('/')))
            }
            Err(error) if is_absent(&error) => {
                Ok((!revision.contains('/') && self.snapshot(revision).is_dir()).then(|| revision.to_owned()))
            }
            Err(error) => Err(Error::Io { path: reference, error }),
        }
    }

    /// What the snapshot of `commit` has of the model.
    pub(super) fn look(&self, commit: &str, id: &HubId) -> Result<Found, Error> {
        let snapshot = self.snapshot(commit);
        let names = files_below(&snapshot)?;
        let has = |name: &str| names.iter().any(|there| there == name);
        let mut missing = Vec::new();
        match plan::choose(&names, id) {
            Ok(Choice::Gguf(name)) => return Ok(Found::Whole(snapshot.join(name))),
            Ok(Choice::Single) => {}
            Ok(Choice::Sharded) => {
                let path = snapshot.join(plan::INDEX);
                let index = fs::read(&path).map_err(|error| Error::Io { path, error })?;
                // An index that cannot be read is fetched anew, or told of when the model is opened.
                let shards = plan::shards(&index).unwrap_or_default();
                missing.extend(shards.into_iter().filter(|name| !has(name)));
            }
            Err(Error::NoFile { file, .. }) => return Ok(Found::Lacking(vec![file])),
            Err(Error::Unservable { .. }) if names.is_empty() => return Ok(Found::Lacking(vec![])),
            Err(Error::Unservable { .. }) => return Ok(Found::Lacking(vec!["weights".to_owned()])),
            Err(other) => return Err(other),
        }
        if !has(plan::TOKENIZER) {
            missing.push(plan::TOKENIZER.to_owned());
        }
        Ok(if missing.is_empty() { Found::Whole(snapshot) } else { Found::Lacking(missing) })
    }

    /// Commits that there are snapshots of.
    pub(super) fn commits(&self) -> Result<Vec<String>, Error> {
        entries(&self.directory.join("snapshots"))
    }

    /// Branches and tags, and their commits.
    pub(super) fn references(&self) -> Result<Vec<(String, String)>, Error> {
        let directory = self.directory.join("refs");
        let names = files_below(&directory)?;
        let names = names.into_iter().filter(|name| !name.ends_with(".tmp"));
        Ok(names
            .filter_map(|name| {
                let commit = fs::read_to_string(directory.join(&name)).ok()?;
                Some((name, commit.trim().to_owned()))
            })
            .collect())
    }
}

/// Files below a directory by their paths there, in order. Links whose targets are gone do not count.
pub(super) fn files_below(directory: &Path) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    let mut open = vec![String::new()];
    while let Some(at) = open.pop() {
        for entry in entries(&directory.join(&at))? {
            let name = if at.is_empty() { entry } else { format!("{at}/{entry}") };
            let path = directory.join(&name);
            if path.is_file() {
                found.push(name);
            } else if path.is_dir() && !path.is_symlink() {
                open.push(name);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The names in a directory; none where there is no directory.
pub(super) fn entries(directory: &Path) -> Result<Vec<String>, Error> {
    let wrong = |error: io::Error| Error::Io { path: directory.to_owned(), error };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(wrong(error)),
    };
    let names = entries.map(|entry| Ok(entry.map_err(wrong)?.file_name().into_string().ok()));
    Ok(names.collect::<Result<Vec<_>, Error>>()?.into_iter().flatten().collect())
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const COMMIT: &str = "0123456789012345678901234567890123456789";

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn found(cache: &Cache, id: &str) -> Result<Found, Error> {
        cache.find(&id.parse().unwrap())
    }

    #[test]
    fn a_model_is_found_when_it_is_whole() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(root.path().to_owned());
        let repo = cache.repo("org/na-me");
        let lacking = |names: &[&str]| Found::Lacking(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(found(&cache, "org/na-me").unwrap(), lacking(&[]));
        write(&root.path().join("models--org--na-me/refs/main"), COMMIT);
        assert_eq!(found(&cache, "org/na-me").unwrap(), lacking(&[]));
        let file = |name: &str, text: &str| write(&repo.snapshot(COMMIT).join(name), text);
        file("config.json", "{}");
        assert_eq!(found(&cache, "org/na-me").unwrap(), lacking(&["weights"]));
        file("model.safetensors.index.json", r#"{"weight_map":{"x":"a.safetensors","y":"b.safetensors"}}"#);
        file("a.safetensors", "");
        symlink("../../blobs/gone", repo.snapshot(COMMIT).join("b.safetensors")).unwrap();
        assert_eq!(found(&cache, "org/na-me").unwrap(), lacking(&["b.safetensors", "tokenizer.json"]));
        write(&repo.blobs().join("gone"), "");
        file("tokenizer.json", "");
        assert_eq!(found(&cache, "org/na-me").unwrap(), Found::Whole(repo.snapshot(COMMIT)));
        for id in [&format!("org/na-me@{COMMIT}"), "org/na-me@main"] {
            assert_eq!(found(&cache, id).unwrap(), Found::Whole(repo.snapshot(COMMIT)));
        }
        assert_eq!(found(&cache, "org/na-me@v1").unwrap(), lacking(&[]));
        assert_eq!(found(&cache, "org/na-me:a.gguf").unwrap(), lacking(&["a.gguf"]));
        file("q/a.gguf", "");
        assert_eq!(
            found(&cache, "org/na-me:q/a.gguf").unwrap(),
            Found::Whole(repo.snapshot(COMMIT).join("q/a.gguf"))
        );
        assert_eq!(cache.repos().unwrap(), ["org/na-me"]);
    }

    #[test]
    fn a_reference_leads_nowhere_else() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(root.path().to_owned());
        write(&root.path().join("model.gguf"), "");
        write(&root.path().join("models--o--n/refs/main"), "../../..");
        assert_eq!(found(&cache, "o/n").unwrap(), Found::Lacking(vec![]));
    }
}
