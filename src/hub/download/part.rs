//! A file on its way: what has come so far lies beside its final name, hashed as it grows.

use std::{
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::super::Error;

pub(super) struct Part {
    path: PathBuf,
    file: File,
    length: u64,
    size: Option<u64>,
    etag: String,
    hash: Hash,
}

/// The hash that the server named the file by.
enum Hash {
    Sha256(Box<Sha256>),
    /// Of `blob`, the size and a zero before the contents, as git has it.
    Git(Box<Sha1>),
    Unknown,
}

/// Where the part of a blob lies, as `huggingface_hub` calls it too.
pub(super) fn incomplete(blob: &Path) -> PathBuf {
    let mut path = blob.as_os_str().to_owned();
    path.push(".incomplete");
    path.into()
}

impl Part {
    /// Goes on with what is there of `blob`, if anything.
    pub(super) fn open(blob: &Path, etag: &str, size: Option<u64>) -> Result<Self, Error> {
        let path = incomplete(blob);
        let wrong = |error| Error::Io { path: path.clone(), error };
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path).map_err(wrong)?;
        let there = file.metadata().map_err(wrong)?.len();
        let mut part =
            Self { hash: Hash::new(etag, size), path, file, length: 0, size, etag: etag.to_owned() };
        if size.is_some_and(|size| there > size) {
            part.length = there;
            part.restart()?;
        } else {
            part.read(there).map_err(|error| Error::Io { path: part.path.clone(), error })?;
        }
        Ok(part)
    }

    fn read(&mut self, length: u64) -> io::Result<()> {
        let mut there = File::open(&self.path)?.take(length);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = there.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            self.hash.update(&buffer[..count]);
            self.length += count as u64;
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// All has come that was announced.
    pub(super) fn is_full(&self) -> bool {
        self.size.is_some_and(|size| self.length >= size)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|error| self.lost(error))?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Begins anew.
    pub(super) fn restart(&mut self) -> Result<(), Error> {
        if self.length > 0 {
            self.file.set_len(0).map_err(|error| self.lost(error))?;
        }
        self.length = 0;
        self.hash = Hash::new(&self.etag, self.size);
        Ok(())
    }

    /// Why it is not the file that was announced.
    pub(super) fn wrong(&self) -> Option<String> {
        if let Some(size) = self.size.filter(|size| *size != self.length) {
            return Some(format!("it has {} bytes instead of {size}", self.length));
        }
        let found = self.hash.hexadecimal()?;
        (!found.eq_ignore_ascii_case(&self.etag))
            .then(|| format!("its hash is {found} instead of {}", self.etag))
    }

    /// On the disk, under its final name. Takes as long as the disk does.
    pub(super) fn keep(self, blob: &Path) -> Result<(), Error> {
        let kept = self.file.sync_all().and_then(|()| fs::rename(&self.path, blob));
        kept.map_err(|error| self.lost(error))
    }

    pub(super) fn discard(self) {
        // It is told already what is wrong, and the next download begins anew for its hash.
        let _ = fs::remove_file(&self.path);
    }

    fn lost(&self, error: io::Error) -> Error {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge];
        if full.contains(&error.kind()) {
            let directory = self.path.parent().unwrap_or(&self.path).to_owned();
            let needed = self.size.map_or(0, |size| size.saturating_sub(self.length));
            return Error::Full { directory, needed, free: None };
        }
        Error::Io { path: self.path.clone(), error }
    }
}

impl Hash {
    fn new(etag: &str, size: Option<u64>) -> Self {
        let digits = etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        match (etag.len(), size) {
            (64, _) if digits => Self::Sha256(Box::default()),
            (40, Some(size)) if digits => {
                Self::Git(Box::new(Sha1::new_with_prefix(format!("blob {size}\0"))))
            }
            _ => Self::Unknown,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Git(hash) => hash.update(bytes),
            Self::Unknown => {}
        }
    }

    fn hexadecimal(&self) -> Option<String> {
        let digest: Vec<u8> = match self {
            Self::Sha256(hash) => hash.clone().finalize().to_vec(),
            Self::Git(hash) => hash.clone().finalize().to_vec(),
            Self::Unknown => return None,
        };
        Some(digest.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_known_by_both_hashes() {
        let directory = tempfile::tempdir().unwrap();
        let blob = directory.path().join("blob");
        // `printf abc | sha256sum` (FIPS 180-2, B.1), and `printf abc | git hash-object --stdin`.
        for etag in [
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f",
        ] {
            let mut part = Part::open(&blob, etag, Some(3)).unwrap();
            part.write(b"a").unwrap();
            assert!(part.wrong().is_some() && !part.is_full());
            drop(part);
            let mut part = Part::open(&blob, etag, Some(3)).unwrap();
            assert_eq!(part.length(), 1);
            part.write(b"bc").unwrap();
            assert_eq!(part.wrong(), None);
            part.restart().unwrap();
            part.write(b"abd").unwrap();
            assert!(part.wrong().unwrap().contains(etag));
            part.restart().unwrap();
            part.write(b"abc").unwrap();
            part.keep(&blob).unwrap();
            assert_eq!(fs::read(&blob).unwrap(), b"abc");
        }
    }

    #[test]
    fn what_is_too_long_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let blob = directory.path().join("blob");
        fs::write(incomplete(&blob), "abcd").unwrap();
        let part = Part::open(&blob, "tag", Some(3)).unwrap();
        assert_eq!((part.length(), fs::metadata(incomplete(&blob)).unwrap().len()), (0, 0));
    }
}
