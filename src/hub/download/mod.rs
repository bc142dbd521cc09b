//! From the server into the cache.
//!
//! All of it happens on one thread with a runtime of its own: hashing and writing a model keep nobody waiting.

mod blob;
mod client;
mod failure;
mod part;
mod progress;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use futures_util::{StreamExt, TryStreamExt, stream};

use self::{
    client::{Client, Remote},
    failure::Failure,
    progress::Progress,
};
use super::{
    Error, HubId, News, Settings,
    cache::{Cache, Found, Repo},
    plan::{self, Choice},
};

/// Files on their way at one time.
const AT_ONCE: usize = 4;
/// What is asked about at one time.
const QUESTIONS: usize = 8;

/// One model on its way into the cache.
struct Download<'a> {
    client: Client<'a>,
    repo: Repo,
    commit: String,
    progress: &'a Progress<'a>,
}

pub(super) fn fetch(
    settings: &Settings,
    cache: &Cache,
    id: &HubId,
    hears: &dyn Fn(News<'_>),
) -> Result<PathBuf, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::Io { path: cache.root().to_owned(), error })?;
    let progress = Progress::new(id, hears);
    runtime.block_on(async {
        let client = Client::new(settings, id, &progress)?;
        let listing = client.listing().await?;
        let choice = plan::choose(&listing.names, id)?;
        let repo = cache.repo(&id.repo);
        mark(cache.root())?;
        let download = Download { client, repo, commit: listing.commit, progress: &progress };
        download.run(&choice, &listing.names).await?;
        download.name(id.revision())?;
        match download.repo.look(&download.commit, id)? {
            Found::Whole(path) => Ok(path),
            Found::Lacking(missing) => {
                Err(Error::NotCached { id: id.to_string(), missing, cache: cache.root().to_owned() })
            }
        }
    })
}

impl Download<'_> {
    async fn run(&self, choice: &Choice, names: &[String]) -> Result<(), Error> {
        if !matches!(choice, Choice::Gguf(_)) && !names.iter().any(|name| name == plan::TOKENIZER) {
            return Err(Error::NoTokenizer { repo: self.client.id().repo.clone() });
        }
        let blobs = self.repo.blobs();
        fs::create_dir_all(&blobs).map_err(|error| Error::Io { path: blobs, error })?;
        let (beside, absent) = choice.beside(names);
        let weights = match choice {
            Choice::Gguf(file) => vec![file.clone()],
            Choice::Single => vec![plan::SINGLE.to_owned()],
            Choice::Sharded => self.shards(names).await?,
        };
        let beside = self.ask(&beside).await?;
        let weights = self.ask(&weights).await?;
        let all = || beside.iter().chain(&weights);
        self.make_room(all())?;
        self.progress.begin(all().filter_map(|remote| remote.size).sum());
        // A model whose weights are there has the rest.
        self.take(&beside).await?;
        for name in absent {
            self.touch(&self.repo.no_exist(&self.commit).join(name))?;
        }
        self.take(&weights).await
    }

    /// The names of the weights' files, by the index.
    async fn shards(&self, names: &[String]) -> Result<Vec<String>, Error> {
        let index = self.ask(&[plan::INDEX.to_owned()]).await?;
        self.take(&index).await?;
        let path = self.repo.snapshot(&self.commit).join(plan::INDEX);
        let index = fs::read(&path).map_err(|error| Error::Io { path, error })?;
        let shards = plan::shards(&index).map_err(|why| self.client.strange(why))?;
        match shards.iter().find(|shard| !names.contains(shard)) {
            Some(shard) => {
                Err(self.client.strange(format!("{} lists {shard}, which is not there", plan::INDEX)))
            }
            None => Ok(shards),
        }
    }

    /// What the server says of those files that the snapshot lacks.
    async fn ask(&self, names: &[String]) -> Result<Vec<Remote>, Error> {
        let snapshot = self.repo.snapshot(&self.commit);
        let lacking = names.iter().filter(|name| !snapshot.join(name).is_file());
        let asked = lacking.map(|name| self.client.describe(name, &self.commit));
        stream::iter(asked).buffered(QUESTIONS).try_collect().await
    }

    async fn take(&self, files: &[Remote]) -> Result<(), Error> {
        let taken = files.iter().map(|remote| self.one(remote));
        stream::iter(taken).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// # Errors
    /// When the disk has less room than the files need.
    fn make_room<'a>(&self, files: impl Iterator<Item = &'a Remote>) -> Result<(), Error> {
        let blobs = self.repo.blobs();
        let there = |remote: &Remote| {
            let blob = blobs.join(&remote.etag);
            let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
            length(&blob).max(length(&part::incomplete(&blob)))
        };
        let needed = files.filter_map(|remote| Some(remote.size?.saturating_sub(there(remote)))).sum();
        // Where the system does not tell, the write will.
        let free = rustix::fs::statvfs(&blobs).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        match free {
            Some(free) if needed > free => Err(Error::Full { directory: blobs, needed, free: Some(free) }),
            _ => Ok(()),
        }
    }

    /// Gives the commit the revision's name.
    fn name(&self, revision: &str) -> Result<(), Error> {
        let path = self.repo.reference(revision);
        if revision == self.commit || fs::read_to_string(&path).is_ok_and(|commit| commit == self.commit) {
            return Ok(());
        }
        let temporary = temporary(&path);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = written.and_then(|()| fs::write(&temporary, &self.commit));
        written.and_then(|()| fs::rename(&temporary, &path)).map_err(|error| Error::Io { path, error })
    }

    fn touch(&self, path: &Path) -> Result<(), Error> {
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::OpenOptions::new().create(true).append(true).open(path).map(drop))
            .map_err(|error| Error::Io { path: path.to_owned(), error })
    }
}

/// A name beside `path` that nobody else takes, in this process or another.
fn temporary(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    path.with_extension(format!("{}.{number}.tmp", std::process::id()))
}

/// Tells programs for backups that this is a cache (bford.info/cachedir).
fn mark(root: &Path) -> Result<(), Error> {
    const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n";
    let wrong = |error| Error::Io { path: root.to_owned(), error };
    fs::create_dir_all(root).map_err(wrong)?;
    let tag = fs::OpenOptions::new().write(true).create_new(true).open(root.join("CACHEDIR.TAG"));
    match tag.and_then(|mut file| io::Write::write_all(&mut file, TAG.as_bytes())) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(wrong(error)),
        _ => Ok(()),
    }
}
