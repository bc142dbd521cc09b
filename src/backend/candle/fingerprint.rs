//! `system_fingerprint`: what the bytes of an answer depend on besides the request.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use blake3::Hasher;
use serde::Serialize;

use super::{Settings, words};
use crate::model::{self, Device};

/// The arithmetic of kernels and sampler; it grows when a change of theirs may change a token.
const ARITHMETIC: &str = "portable-2";

/// The arithmetic of candle's devices, by candle's version; its second number grows with a change of ours.
const TENSORS: &str = "candle-0.11.1-1";

/// How texts become tokens and tokens text; it grows when a change of the libraries or of ours may change either.
const TEXT: &str = "text-2";

/// The fingerprint and what it is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Fingerprint {
    /// `fp_` and the first 24 digits of the BLAKE3 hash of [`Fingerprint::lines`].
    pub(super) fingerprint: String,
    pub(super) inputs: Vec<Input>,
}

/// Where a file of a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    File(PathBuf),
    /// A part of the program.
    Program(&'static [u8]),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Input {
    pub(super) name: String,
    /// What is hashed; of a file its size is told instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<u64>,
    pub(super) blake3: String,
}

impl Fingerprint {
    /// `inputs` are the files' hashes. Threads, batches, caches and the instruction set are not in it: the answers do not
    /// depend on them, on the CPU.
    pub(super) fn new(
        mut inputs: Vec<Input>,
        context_length: usize,
        settings: &Settings,
        device: Device,
    ) -> Self {
        let of_candle = || format!("{TENSORS}-{}", device.kind());
        let arithmetic = if device == Device::Cpu { ARITHMETIC.to_owned() } else { of_candle() };
        let Settings { max_tokens, temperature, top_p } = settings;
        // Unset: what the model's files say.
        let own = |value: &Option<f64>| value.map_or_else(|| "model".to_owned(), |value| value.to_string());
        for (name, value) in [
            ("context_length", context_length.to_string()),
            ("max_tokens", max_tokens.to_string()),
            ("temperature", own(temperature)),
            ("top_p", own(top_p)),
            ("arithmetic", arithmetic),
            ("text", TEXT.to_owned()),
        ] {
            let blake3 = blake3::hash(value.as_bytes()).to_string();
            inputs.push(Input { name: name.to_owned(), value: Some(value), bytes: None, blake3 });
        }
        let mut fingerprint = Self { fingerprint: String::new(), inputs };
        let digest = blake3::hash(fingerprint.lines().as_bytes()).to_string();
        fingerprint.fingerprint = format!("fp_{}", &digest[..24]);
        fingerprint
    }

    /// One line an input, as `b3sum` writes it.
    pub(super) fn lines(&self) -> String {
        self.inputs.iter().map(|input| format!("{}  {}\n", input.blake3, input.name)).collect()
    }
}

/// The files that a model's answers depend on, with names that do not depend on where they lie.
pub(super) fn files(source: &Path, model: &model::Model) -> Vec<(String, Content)> {
    let name = |path: &Path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // What a directory has in directories of its own is called as it lies there.
        let inside = path.strip_prefix(source).ok().filter(|inside| inside.components().count() > 1);
        match inside {
            Some(inside) => inside.display().to_string(),
            // A GGUF file may be called anything.
            None if path == source => "model.gguf".to_owned(),
            None => name,
        }
    };
    let mut files = words::files(source);
    files.extend(model.files().into_iter().map(|path| (name(&path), path)));
    files.into_iter().map(|(name, path)| (name, Content::File(path))).collect()
}

/// Reads and hashes files: each core takes the next one.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn hash(files: &[(String, Content)]) -> Result<Vec<Input>, String> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((name, content)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let input = content.hash().map(|(bytes, blake3)| Input {
                name: name.clone(),
                value: None,
                bytes: Some(bytes),
                blake3,
            });
            done.push((name, input));
        }
        done
    };
    let mut done: Vec<_> = thread::scope(|scope| {
        let threads = model::cores().min(files.len());
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    done.sort_by_key(|(name, _)| files.iter().position(|(other, _)| other == *name));
    done.into_iter().map(|(_, input)| input).collect()
}

impl Content {
    /// Bytes and their hash.
    fn hash(&self) -> Result<(u64, String), String> {
        match self {
            Self::File(path) => hash_file(path).map_err(|error| format!("{}: {error}", path.display())),
            Self::Program(bytes) => Ok((bytes.len() as u64, blake3::hash(bytes).to_string())),
        }
    }
}

/// Bytes of a file and their hash.
fn hash_file(path: &Path) -> io::Result<(u64, String)> {
    let mut hash = Hasher::new();
    hash.update_reader(File::open(path)?)?;
    Ok((hash.count(), hash.finalize().to_string()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SETTINGS: Settings = Settings { max_tokens: 512, temperature: None, top_p: None };

    fn of(directory: &Path, context_length: usize, settings: &Settings) -> String {
        let mut files = words::files(directory);
        files.push(("model.safetensors".to_owned(), directory.join("model.safetensors")));
        let files: Vec<_> = files.into_iter().map(|(name, path)| (name, Content::File(path))).collect();
        Fingerprint::new(hash(&files).unwrap(), context_length, settings, Device::Cpu).fingerprint
    }

    #[test]
    fn it_changes_with_what_answers_depend_on_and_with_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::create_dir(path.join("additional_chat_templates")).unwrap();
        let write = |name: &str, text: &str| fs::write(path.join(name), text).unwrap();
        write("config.json", "{}");
        write("model.safetensors", "weights");
        let first = of(path, 8, &SETTINGS);
        assert!(first.starts_with("fp_") && first.len() == 27, "{first}");
        for other in ["README.md", "notes.json", "other.safetensors", "other.gguf", "tokenizer.model"] {
            write(other, "hello");
        }
        assert_eq!(of(path, 8, &SETTINGS), first);
        assert_ne!(of(path, 9, &SETTINGS), first);
        assert_ne!(of(path, 8, &Settings { max_tokens: 511, ..SETTINGS }), first);
        assert_ne!(of(path, 8, &Settings { temperature: Some(0.7), ..SETTINGS }), first);
        assert_ne!(of(path, 8, &Settings { top_p: Some(0.7), ..SETTINGS }), first);
        let mut seen = vec![first];
        let used =
            words::FILES.into_iter().chain(["model.safetensors", "additional_chat_templates/tool_use.jinja"]);
        for used in used {
            write(used, "another");
            let now = of(path, 8, &SETTINGS);
            assert!(!seen.contains(&now), "{used}");
            seen.push(now);
        }
    }

    #[test]
    fn it_is_what_b3sum_gives_of_its_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        fs::write(&path, "abc").unwrap();
        let hashed = hash(&[("config.json".to_owned(), Content::File(path))]).unwrap();
        let made = Fingerprint::new(hashed, 8, &SETTINGS, Device::Cpu);
        // `printf abc | b3sum`.
        let abc = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";
        assert_eq!(made.lines().lines().next(), Some(&*format!("{abc}  config.json")));
        assert_eq!(made.inputs[0].bytes, Some(3));
        assert_eq!(made.inputs[1].blake3, blake3::hash(b"8").to_string());
        assert_eq!(made.fingerprint[3..], blake3::hash(made.lines().as_bytes()).to_string()[..24]);
    }

    #[test]
    fn a_device_of_candle_has_an_arithmetic_of_its_own_by_candles_version() {
        let lock = include_str!("../../../Cargo.lock");
        let version = lock.split_once("name = \"candle-core\"\nversion = \"").unwrap().1;
        let version = version.split_once('"').unwrap().0;
        assert!(TENSORS.starts_with(&format!("candle-{version}-")), "{TENSORS} of candle {version}");
        #[cfg(feature = "tensors")]
        {
            let arithmetic = |device| {
                let made = Fingerprint::new(Vec::new(), 8, &SETTINGS, device);
                let input = made.inputs.into_iter().find(|input| input.name == "arithmetic");
                (input.unwrap().value.unwrap(), made.fingerprint)
            };
            let (cpu, tensors) = (arithmetic(Device::Cpu), arithmetic(Device::Tensors));
            assert_eq!((cpu.0.as_str(), tensors.0), (ARITHMETIC, format!("{TENSORS}-tensors")));
            assert_ne!(cpu.1, tensors.1);
        }
    }
}
