//! What the cache has, and how it is given up.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    Error, HubId,
    cache::{Cache, Found, Repo, entries, files_below},
    id::is_gguf,
    plan,
};

/// A model of the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cached {
    /// As `candle.source` names it.
    pub id: String,
    /// Branches and tags that are this commit.
    pub revisions: Vec<String>,
    /// `None`: a download that has not come so far.
    pub commit: Option<String>,
    /// Bytes of its files. Revisions may share some.
    pub bytes: u64,
    /// Whether it can be served.
    pub whole: bool,
    /// What it needs besides, as far as that is known.
    pub missing: Vec<String>,
    /// Its directory or file.
    pub path: PathBuf,
}

/// What a removal has freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Removed {
    pub files: usize,
    pub bytes: u64,
}

pub(super) fn list(cache: &Cache) -> Result<Vec<Cached>, Error> {
    let mut rows = Vec::new();
    for name in cache.repos()? {
        let repo = cache.repo(&name);
        let references = repo.references()?;
        let mut commits = repo.commits()?;
        commits.sort();
        for commit in &commits {
            let revisions: Vec<String> = references
                .iter()
                .filter(|(_, other)| other == commit)
                .map(|(revision, _)| revision.clone())
                .collect();
            rows.extend(models(&repo, &name, commit, &revisions)?);
        }
        let bytes = blob_bytes(&repo)?;
        if commits.is_empty() && bytes > 0 {
            rows.push(Cached {
                id: name,
                revisions: Vec::new(),
                commit: None,
                bytes,
                whole: false,
                missing: Vec::new(),
                path: repo.directory,
            });
        }
    }
    Ok(rows)
}

/// The models of one snapshot: each GGUF file, and the directory.
fn models(repo: &Repo, name: &str, commit: &str, revisions: &[String]) -> Result<Vec<Cached>, Error> {
    let revision = match revisions {
        [] => Some(commit.to_owned()),
        some if some.iter().any(|revision| revision == "main") => None,
        [first, ..] => Some(first.clone()),
    };
    let names = files_below(&repo.snapshot(commit))?;
    let (files, others): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| is_gguf(name));
    let whole = HubId { repo: name.to_owned(), revision, file: None };
    let mut ids: Vec<(HubId, Vec<&String>)> = Vec::new();
    if files.is_empty() || names.iter().any(|name| [plan::SINGLE, plan::INDEX].contains(&name.as_str())) {
        ids.push((whole.clone(), others));
    }
    ids.extend(
        files.into_iter().map(|file| (HubId { file: Some(file.clone()), ..whole.clone() }, vec![file])),
    );
    let row = |(id, names): (HubId, Vec<&String>)| {
        let snapshot = repo.snapshot(commit);
        let bytes =
            names.iter().filter_map(|name| fs::metadata(snapshot.join(name)).ok()).map(|it| it.len()).sum();
        let (whole, missing, path) = match repo.look(commit, &id)? {
            Found::Whole(path) => (true, Vec::new(), path),
            Found::Lacking(missing) => (false, missing, snapshot),
        };
        let id = id.to_string();
        Ok(Cached {
            id,
            revisions: revisions.to_vec(),
            commit: Some(commit.to_owned()),
            bytes,
            whole,
            missing,
            path,
        })
    };
    ids.into_iter().map(row).collect()
}

pub(super) fn remove(cache: &Cache, id: &HubId) -> Result<Removed, Error> {
    let repo = cache.repo(&id.repo);
    let absent =
        || Error::NotCached { id: id.to_string(), missing: Vec::new(), cache: cache.root().to_owned() };
    if id.revision.is_none() && id.file.is_none() {
        if !repo.directory.exists() {
            return Err(absent());
        }
        return remove_all(&repo);
    }
    let commits = match &id.revision {
        Some(revision) => repo.commit(revision)?.into_iter().collect(),
        None => repo.commits()?,
    };
    let mut links = Vec::new();
    for commit in &commits {
        let snapshot = repo.snapshot(commit);
        let names = files_below(&snapshot)?;
        let wanted = names.into_iter().filter(|name| id.file.as_ref().is_none_or(|file| file == name));
        links.extend(wanted.map(|name| snapshot.join(name)));
    }
    if links.is_empty() && (id.file.is_some() || commits.is_empty()) {
        return Err(absent());
    }
    let targets: BTreeSet<PathBuf> = links.iter().filter_map(|link| fs::canonicalize(link).ok()).collect();
    let mut removed = Removed::default();
    for link in &links {
        delete(link, &mut removed)?;
    }
    if id.file.is_none() {
        forget(&repo, &commits)?;
    }
    let kept = targets_of(&repo)?;
    for target in targets.iter().filter(|target| !kept.contains(*target) && target.exists()) {
        delete(target, &mut removed)?;
    }
    if kept.is_empty() {
        let rest = remove_all(&repo)?;
        removed = Removed { files: removed.files + rest.files, bytes: removed.bytes + rest.bytes };
    }
    Ok(removed)
}

/// Removes what is left of revisions whose files are gone.
fn forget(repo: &Repo, commits: &[String]) -> Result<(), Error> {
    for (revision, commit) in repo.references()? {
        if commits.contains(&commit) {
            delete(&repo.reference(&revision), &mut Removed::default())?;
        }
    }
    for directory in commits.iter().flat_map(|commit| [repo.snapshot(commit), repo.no_exist(commit)]) {
        remove_tree(&directory)?;
    }
    Ok(())
}

fn remove_all(repo: &Repo) -> Result<Removed, Error> {
    let removed = Removed { files: entries(&repo.blobs())?.len(), bytes: blob_bytes(repo)? };
    remove_tree(&repo.directory)?;
    remove_tree(&repo.locks)?;
    Ok(removed)
}

fn remove_tree(directory: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::Io { path: directory.to_owned(), error })
        }
        _ => Ok(()),
    }
}

/// Links count for nothing.
fn delete(path: &Path, removed: &mut Removed) -> Result<(), Error> {
    let wrong = |error| Error::Io { path: path.to_owned(), error };
    let metadata = fs::symlink_metadata(path).map_err(wrong)?;
    fs::remove_file(path).map_err(wrong)?;
    if metadata.is_file() {
        removed.files += 1;
        removed.bytes += metadata.len();
    }
    Ok(())
}

/// What the snapshots that are left lead to.
fn targets_of(repo: &Repo) -> Result<BTreeSet<PathBuf>, Error> {
    let directory = repo.directory.join("snapshots");
    let names = files_below(&directory)?;
    Ok(names.iter().filter_map(|name| fs::canonicalize(directory.join(name)).ok()).collect())
}

fn blob_bytes(repo: &Repo) -> Result<u64, Error> {
    let directory = repo.blobs();
    let size = |name: String| Some(fs::metadata(directory.join(name)).ok()?.len());
    Ok(entries(&directory)?.into_iter().filter_map(size).sum())
}
