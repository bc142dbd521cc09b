//! `system_fingerprint`: what the bytes of an answer depend on besides the request.

use std::{fs, io, path::Path};

use sha2::{Digest, Sha256};

/// The arithmetic of the kernels; it grows when a change of theirs may change a bit of the logits.
const ARITHMETIC: &str = "portable-1";

/// A hash of the model's files, of the context length (which some rotary embeddings depend on) and of the arithmetic.
/// Threads, batches, caches and the instruction set are not in it: the answers do not depend on them.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn fingerprint(source: &Path, context_length: usize) -> io::Result<String> {
    let mut files = if source.is_dir() {
        fs::read_dir(source)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?
    } else {
        vec![source.to_owned()]
    };
    // What decides the answers. Other files in the directory, such as a README, do not.
    files.retain(|path| {
        let kind = path.extension().and_then(|extension| extension.to_str());
        path.is_file()
            && kind.is_some_and(|kind| ["json", "safetensors", "jinja", "gguf", "model"].contains(&kind))
    });
    files.sort();
    let mut hash = begin(context_length);
    for path in files {
        let mut content = Sha256::new();
        io::copy(&mut fs::File::open(&path)?, &mut HashWriter(&mut content))?;
        add(&mut hash, path.file_name().unwrap_or_default().as_encoded_bytes(), content);
    }
    Ok(text(hash))
}

/// The same of files in memory, in the order of their names: that of a directory with these files.
pub(super) fn embedded(files: &[(&str, &[u8])], context_length: usize) -> String {
    let mut hash = begin(context_length);
    for (name, content) in files {
        add(&mut hash, name.as_bytes(), Sha256::new_with_prefix(content));
    }
    text(hash)
}

fn begin(context_length: usize) -> Sha256 {
    let mut hash = Sha256::new_with_prefix(ARITHMETIC);
    hash.update((context_length as u64).to_le_bytes());
    hash
}

fn add(hash: &mut Sha256, name: &[u8], content: Sha256) {
    hash.update(name);
    hash.update([0]);
    hash.update(content.finalize());
}

fn text(hash: Sha256) -> String {
    let digest = hash.finalize();
    format!("fp_{}", digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect::<String>())
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_changes_with_what_answers_depend_on_and_with_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("config.json", "{}");
        write("model.safetensors", "weights");
        let of = |context| fingerprint(directory.path(), context).unwrap();
        let first = of(8);
        assert!(first.starts_with("fp_") && first.len() == 27, "{first}");
        assert_eq!(embedded(&[("config.json", b"{}"), ("model.safetensors", b"weights")], 8), first);
        write("README.md", "hello");
        assert_eq!(of(8), first);
        assert_ne!(of(9), first);
        write("model.safetensors", "weightz");
        assert_ne!(of(8), first);
    }
}
