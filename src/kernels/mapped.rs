//! Files seen as memory.

use std::{fs::File, io, ops::Deref, path::Path};

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
}

impl Deref for Mapped {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}
