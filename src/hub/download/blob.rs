//! One file: fetched under a lock that Python's tools know, verified, named by its hash, and linked to.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use http::{StatusCode, header};
use reqwest::Response;
use rustix::fs::{FlockOperation, flock};
use tokio::{task::spawn_blocking, time::sleep};

use super::{Download, Failure, client::Remote, part::Part};
use crate::hub::{Error, News};

/// How often a lock is tried that another process has.
const LOOK: Duration = Duration::from_millis(100);

impl Download<'_> {
    /// Makes the file part of the snapshot.
    pub(super) async fn one(&self, remote: &Remote) -> Result<(), Error> {
        let blob = self.repo.blobs().join(&remote.etag);
        let lock = self.lock(remote).await?;
        let there = fs::metadata(&blob).ok().map(|metadata| metadata.len());
        match there {
            Some(length) if remote.size.is_none_or(|size| size == length) => self.progress.add(length),
            _ => self.fetch(remote, &blob).await?,
        }
        drop(lock);
        link(&blob, &self.repo.snapshot(&self.commit), &remote.name)
    }

    async fn lock(&self, remote: &Remote) -> Result<File, Error> {
        let path = self.repo.lock(&remote.etag);
        let wrong = |error: io::Error| Error::Io { path: path.clone(), error };
        path.parent().map_or(Ok(()), fs::create_dir_all).map_err(wrong)?;
        let file = OpenOptions::new().create(true).append(true).mode(0o664).open(&path).map_err(wrong)?;
        let mut told = false;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(wrong(error.into())),
            }
            if !told {
                let text = format!("waiting for another download of {}", remote.name);
                self.progress.tell(News::Progress(&text));
                told = true;
            }
            sleep(LOOK).await;
        }
    }

    async fn fetch(&self, remote: &Remote, blob: &Path) -> Result<(), Error> {
        let (place, etag, size) = (blob.to_owned(), remote.etag.clone(), remote.size);
        let mut part = blocking(blob, move || Part::open(&place, &etag, size)).await?;
        self.progress.add(part.length());
        let mut anew = false;
        loop {
            self.fill(remote, &mut part).await?;
            let Some(why) = part.wrong() else { break };
            self.progress.take_back(part.length());
            let file = remote.name.clone();
            if anew {
                part.discard();
                return Err(Error::Damaged { file, endpoint: self.client.settings().endpoint.clone(), why });
            }
            // What had come before may be at fault.
            let trouble = format!("{file} is not what it should be ({why}); fetching it anew");
            self.progress.tell(News::Trouble(&trouble));
            part.restart()?;
            anew = true;
        }
        let place = blob.to_owned();
        blocking(blob, move || part.keep(&place)).await
    }

    /// Fetches until all has come, over as many connections as it takes.
    async fn fill(&self, remote: &Remote, part: &mut Part) -> Result<(), Error> {
        let mut tries = 0;
        while !part.is_full() {
            let before = part.length();
            let Err(mut failure) = self.pour(remote, part).await else { return Ok(()) };
            tries = if part.length() > before { 1 } else { tries + 1 };
            if let (true, Error::Unreachable { .. }) = (failure.again, &failure.error) {
                let (file, why) = (remote.name.clone(), failure.why.clone());
                failure.error = Error::Cut { file, times: self.client.settings().patience.tries, why };
            }
            self.client.pause(failure, tries).await?;
        }
        Ok(())
    }

    /// What one connection brings.
    async fn pour(&self, remote: &Remote, part: &mut Part) -> Result<(), Failure> {
        let mut response = self.client.bytes(&remote.name, &self.commit, part.length()).await?;
        if part.length() > 0 && !goes_on(&response, part.length()) {
            self.progress.take_back(part.length());
            part.restart()?;
            if response.status() != StatusCode::OK {
                return Err(odd(&remote.name, response.status()));
            }
        }
        while let Some(bytes) = self.client.chunk(&mut response).await? {
            part.write(&bytes)?;
            self.progress.add(bytes.len() as u64);
            if part.is_full() {
                // A byte more would be a file of another size, which its hash would tell as well.
                return Ok(());
            }
        }
        match remote.size {
            Some(size) if part.length() < size => {
                let why = format!("{} ended after {} of {size} bytes", remote.name, part.length());
                let error = Error::Cut { file: remote.name.clone(), times: 1, why: why.clone() };
                Err(Failure::passing(error, why))
            }
            _ => Ok(()),
        }
    }
}

/// Whether an answer begins at `start`.
fn goes_on(response: &Response, start: u64) -> bool {
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let range = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    response.status() == StatusCode::PARTIAL_CONTENT && range == Some(start)
}

/// An answer to a range that was not asked for.
fn odd(file: &str, status: StatusCode) -> Failure {
    let why = format!("{file} is not continued ({status})");
    Failure::passing(Error::Cut { file: file.to_owned(), times: 1, why: why.clone() }, why)
}

/// Work that would keep the other files waiting.
async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Io { path: path.to_owned(), error: io::Error::other(error) }))
}

/// A link of the snapshot, relative, as the cache may be moved.
fn link(blob: &Path, snapshot: &Path, name: &str) -> Result<(), Error> {
    let path = snapshot.join(name);
    let wrong = |error| Error::Io { path: path.clone(), error };
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(wrong)?;
    let up = "../".repeat(2 + name.matches('/').count());
    let target = PathBuf::from(up).join("blobs").join(blob.file_name().unwrap_or_default());
    if fs::read_link(&path).is_ok_and(|there| there == target) {
        return Ok(());
    }
    let temporary = super::temporary(&path);
    let made = symlink(&target, &temporary).or_else(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            fs::remove_file(&temporary).and_then(|()| symlink(&target, &temporary))
        }
        _ => Err(error),
    });
    made.and_then(|()| fs::rename(&temporary, &path)).map_err(wrong)
}
