//! Who may call: API keys.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use poem::{Request, RequestBody, http::header};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::{
    App,
    error::{ApiError, Kind},
};
use crate::units::Secret;

/// API keys. With none at all, everybody who reaches the port may call.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Config {
    /// Keys, each `key` or `name:key`. Better kept in a file: see `keys_file`.
    #[garde(custom(well_formed))]
    pub keys: Vec<Secret>,
    /// File of keys, one a line, `key` or `name:key`; `#` starts a comment line. Read again on SIGHUP, as are the
    /// systemd credentials `api-keys` and `api-keys.*`.
    pub keys_file: Option<PathBuf>,
}

/// Those of the credentials in `directory` that hold API keys, in the order of their names.
fn key_credentials(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Read { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name == "api-keys" || name.starts_with("api-keys.")) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// What can be known of keys before they are used.
fn well_formed(keys: &[Secret], (): &()) -> garde::Result {
    let mut ring = KeyRing::default();
    for (index, key) in keys.iter().enumerate() {
        ring.add(key.reveal(), format!("key {index}")).map_err(garde::Error::new)?;
    }
    Ok(())
}

/// Why the keys could not be read. Never says what a key is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the API keys in {path}: {source}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{place}: an API key or its name is empty, or has white space or characters outside ASCII in it")]
    Malformed { place: String },
    #[error("{place}: the name '{name}' already has another API key")]
    SameName { place: String, name: String },
    #[error("{path} has no API key in it; without keys everybody may call, so remove the setting to mean that", path = path.display())]
    Empty { path: PathBuf },
}

/// The keys that are accepted, as hashes.
#[derive(Default, Clone)]
pub struct KeyRing {
    keys: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    name: Arc<str>,
    digest: [u8; 32],
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.name)).finish()
    }
}

impl KeyRing {
    /// Reads the keys of the configuration, of its file, and of the systemd credentials `api-keys` and `api-keys.*`.
    ///
    /// # Errors
    /// A file that cannot be read or holds no key, and keys that are malformed.
    pub fn load(config: &Config, credentials: Option<&Path>) -> Result<Self, Error> {
        let mut ring = Self::default();
        for (index, key) in config.keys.iter().enumerate() {
            ring.add(key.reveal(), format!("auth.keys[{index}]"))?;
        }
        let credentials = credentials.map_or_else(|| Ok(Vec::new()), key_credentials)?;
        for path in config.keys_file.iter().chain(&credentials) {
            let text =
                std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.clone(), source })?;
            let before = ring.keys.len();
            for (index, line) in text.lines().enumerate() {
                let line = line.trim();
                if !line.is_empty() && !line.starts_with('#') {
                    ring.add(line, format!("{}, line {}", path.display(), index + 1))?;
                }
            }
            if ring.keys.len() == before {
                return Err(Error::Empty { path: path.clone() });
            }
        }
        Ok(ring)
    }

    fn add(&mut self, entry: &str, place: String) -> Result<(), Error> {
        let (name, key) = match entry.split_once(':') {
            Some((name, key)) => (Some(name.trim()), key.trim()),
            None => (None, entry.trim()),
        };
        let wrong = |text: &str| text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic());
        if wrong(key) || name.is_some_and(wrong) {
            return Err(Error::Malformed { place });
        }
        let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let name = match name {
            Some(name) => name.to_owned(),
            // A name for the log that stays the same and tells nothing of the key.
            None => format!("key-{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2]),
        };
        if self.keys.iter().any(|other| *other.name == *name && other.digest != digest) {
            return Err(Error::SameName { place, name });
        }
        self.keys.push(Key { name: name.into(), digest });
        Ok(())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The name of a key. Takes the same time whichever it is, and if it is none.
    fn name_of(&self, key: &str) -> Option<Arc<str>> {
        let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let mut found = u64::MAX;
        for (index, known) in (0u64..).zip(&self.keys) {
            let same: Choice = known.digest.ct_eq(&digest);
            found.conditional_assign(&index, same);
        }
        usize::try_from(found).ok().and_then(|index| self.keys.get(index)).map(|key| Arc::clone(&key.name))
    }
}

/// A caller whose key was checked, before anything of the body was read.
#[derive(Clone)]
pub(crate) struct Caller {
    /// The key's name; `None` where no key is needed.
    pub(crate) key: Option<Arc<str>>,
}

impl Caller {
    pub(crate) fn check(request: &Request) -> Result<Self, ApiError> {
        if let Some(checked) = request.data::<Self>() {
            return Ok(checked.clone());
        }
        let app = App::of(request)?;
        let keys = app.keys.load();
        if keys.is_empty() {
            return Ok(Self { key: None });
        }
        let refuse = |message| Err(ApiError::new(Kind::InvalidApiKey, message));
        let Some(header) = request.header(header::AUTHORIZATION) else {
            return refuse("No API key was given. Send it as 'Authorization: Bearer YOUR_KEY'.");
        };
        let bearer = header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, key)) = bearer else {
            return refuse("The Authorization header is not of the form 'Bearer YOUR_KEY'.");
        };
        match keys.name_of(key.trim()) {
            Some(name) => {
                super::exchange(request)?.key(&name);
                Ok(Self { key: Some(name) })
            }
            None => refuse("Incorrect API key provided."),
        }
    }
}

/// What an operation demands of its caller beyond a key.
pub(crate) trait Entry: Sized {
    fn enter(request: &Request, caller: Caller) -> Result<Self, ApiError>;
}

impl Entry for Caller {
    fn enter(_: &Request, caller: Caller) -> Result<Self, ApiError> {
        Ok(caller)
    }
}

/// The first argument of every operation that needs a key: checked before anything of the body is read.
pub(crate) struct Secured<T>(pub(crate) T);

impl<'a, T: Entry> ApiExtractor<'a> for Secured<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        registry.create_security_scheme(
            SCHEME,
            MetaSecurityScheme {
                ty: "http",
                description: Some("An API key of this server, where it has any."),
                name: None,
                key_in: None,
                scheme: Some("bearer"),
                bearer_format: None,
                flows: None,
                openid_connect_url: None,
            },
        );
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    fn has_security_fallback() -> bool {
        true
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self(T::enter(request, Caller::check(request)?)?))
    }
}

/// The name of the security scheme in the document.
const SCHEME: &str = "ApiKey";

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(lines: &str) -> Result<KeyRing, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), lines).unwrap();
        KeyRing::load(&Config { keys: vec![], keys_file: Some(file.path().to_owned()) }, None)
    }

    #[test]
    fn a_file_has_a_key_a_line_with_names_and_comments() {
        let ring = ring("# ours\n\nalice:sk-1\r\n  sk-2  \n").unwrap();
        assert_eq!(ring.name_of("sk-1").as_deref(), Some("alice"));
        assert!(ring.name_of("sk-2").is_some_and(|name| name.starts_with("key-")));
        assert_eq!(ring.name_of("sk-3"), None);
        assert_eq!(ring.name_of("alice:sk-1"), None);
        assert_eq!(ring.name_of(""), None);
    }

    #[test]
    fn malformed_files_are_refused_without_telling_their_keys() {
        for lines in ["alice:", ":sk-hidden", "al ice:sk-hidden", "a:sk-hidden\na:sk-hidden2", "# nothing\n"]
        {
            let error = ring(lines).unwrap_err().to_string();
            assert!(!error.contains("hidden"), "{error}");
        }
        let ring = ring("a:sk-hidden").unwrap();
        assert_eq!(format!("{ring:?}"), r#"["a"]"#);
    }

    #[test]
    fn credentials_of_other_names_hold_no_keys() {
        let directory = tempfile::tempdir().unwrap();
        for (name, key) in [("api-keys.1", "a:sk-1"), ("api-keys.2", "b:sk-2"), ("api-keys-old", "c:sk-3")] {
            std::fs::write(directory.path().join(name), key).unwrap();
        }
        let ring = KeyRing::load(&Config::default(), Some(directory.path())).unwrap();
        assert_eq!(format!("{ring:?}"), r#"["a", "b"]"#);
    }

    #[test]
    fn a_credential_adds_to_the_configured_keys() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("api-keys"), "ops:sk-9\n").unwrap();
        let config = Config { keys: vec![Secret::new("web:sk-8")], keys_file: None };
        let ring = KeyRing::load(&config, Some(directory.path())).unwrap();
        assert_eq!((ring.len(), ring.name_of("sk-9").as_deref()), (2, Some("ops")));
    }
}
