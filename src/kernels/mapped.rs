//! Files seen as memory.

use std::{
    fs::File,
    io,
    ops::{Deref, Range},
    path::Path,
};

use memmap2::Mmap;

/// A file's bytes. Its pages come in when they are read, and the system may take them back.
pub struct Mapped(Mmap);

impl Mapped {
    /// # Errors
    /// When the file cannot be opened or mapped.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        #[expect(unsafe_code, reason = "a mapped file is memory that others may change")]
        // SAFETY: model files are not written while they are served. Who does it nonetheless gets wrong numbers or, when
        // the file is cut, a dead process: every bit pattern is a number, and headers are copied before they are used.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self(map))
    }

    /// Gives the pages of these bytes back; those who read them again find them as they were.
    ///
    /// # Panics
    /// When the file is shorter.
    pub fn release(&self, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.0.len(), "a part of the file");
        #[cfg(unix)]
        #[expect(unsafe_code, reason = "advice that would lose what was written")]
        // SAFETY: nothing was written: the mapping is for reading, and the file still has the bytes.
        unsafe {
            // Refused, it changes nothing.
            let _ =
                self.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len());
        }
    }
}

impl Deref for Mapped {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::fs;

    use super::*;

    /// KiB of the file's pages that this process holds.
    fn resident(path: &Path) -> u64 {
        let name = path.to_string_lossy();
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let own = maps.lines().skip_while(|line| !line.ends_with(&*name));
        let size = own.filter_map(|line| line.strip_prefix("Rss:")).next().unwrap();
        size.trim().trim_end_matches("kB").trim().parse().unwrap()
    }

    #[test]
    fn pages_that_were_given_back_come_again() {
        const SIZE: usize = 1 << 20;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("numbers");
        let bytes: Vec<u8> = (0..SIZE).map(|i| (i / 7) as u8).collect();
        fs::write(&path, &bytes).unwrap();
        let file = Mapped::open(&path).unwrap();
        assert_eq!(file[..], bytes);
        assert_eq!(resident(&path), 1024);
        file.release(100..SIZE - 100);
        assert_eq!(resident(&path), 0);
        assert_eq!(file[..], bytes);
    }
}
