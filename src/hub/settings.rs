//! The environment, as `huggingface_hub` reads it (its `constants.py`).

use std::{env, ffi::OsString, fs, io, path::PathBuf, time::Duration};

use super::Error;
use crate::units::Secret;

const ENDPOINT: &str = "https://huggingface.co";

/// Where models come from and where they are kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `HF_HUB_CACHE`, else `hub` in `HF_HOME`, else in `huggingface` in the user's cache directory.
    pub cache: PathBuf,
    /// `HF_ENDPOINT`: the server's URL, without a slash at its end.
    pub endpoint: String,
    pub token: Option<Token>,
    /// `HF_HUB_OFFLINE`: nothing is asked of the server.
    pub offline: bool,
    pub patience: Patience,
}

/// Who we are to the server.
#[derive(Debug, Clone)]
pub struct Token {
    pub secret: Secret,
    /// The variable or the file that has it.
    pub origin: String,
}

/// For how long what may pass is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Tries in a row that bring nothing.
    pub tries: u32,
    /// The pause after the first of them; each further one is twice as long.
    pub pause: Duration,
    /// Time without a byte after which a connection counts as dead (`HF_HUB_DOWNLOAD_TIMEOUT`, seconds).
    pub stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { tries: 6, pause: Duration::from_millis(500), stall: Duration::from_secs(10) }
    }
}

impl Settings {
    /// # Errors
    /// A variable that makes no sense, or a token file that cannot be read.
    pub fn of_process() -> Result<Self, Error> {
        Self::read(|name| env::var_os(name))
    }

    /// As `variable` says.
    ///
    /// # Errors
    /// A variable that makes no sense, or a token file that cannot be read.
    pub fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let home = set("HOME").map(PathBuf::from);
        let path = |name: &str| set(name).map(|value| expanded(value, home.as_ref()));
        let text = |name: &'static str| match set(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(_)) => Err(Error::Variable { name, expected: "text in UTF-8" }),
        };
        let user = path("XDG_CACHE_HOME").or_else(|| home.as_ref().map(|home| home.join(".cache")));
        let own = path("HF_HOME").or_else(|| user.map(|user| user.join("huggingface")));
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let cache = cache.or_else(|| own.as_ref().map(|own| own.join("hub"))).ok_or(Error::NoCache)?;
        let endpoint = text("HF_ENDPOINT")?.unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        if !(endpoint.starts_with("http://") || endpoint.starts_with("https://")) {
            return Err(Error::Variable {
                name: "HF_ENDPOINT",
                expected: "http://host[:port] or https://host[:port]",
            });
        }
        let mut patience = Patience::default();
        if let Some(seconds) = text("HF_HUB_DOWNLOAD_TIMEOUT")? {
            let seconds = seconds.trim().parse().ok().filter(|seconds| (1..=86_400).contains(seconds));
            let wrong =
                Error::Variable { name: "HF_HUB_DOWNLOAD_TIMEOUT", expected: "seconds, from 1 to 86400" };
            patience.stall = Duration::from_secs(seconds.ok_or(wrong)?);
        }
        let offline =
            ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find_map(set).is_some_and(is_true);
        let mut token = None;
        for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
            if let (None, Some(value)) = (&token, text(name)?) {
                token = Token::read(&value, name.to_owned())?;
            }
        }
        let file = path("HF_TOKEN_PATH").or_else(|| own.map(|own| own.join("token")));
        let implicit = !set("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(is_true);
        if let (None, true, Some(file)) = (&token, implicit, file) {
            token = match fs::read_to_string(&file) {
                Ok(text) => Token::read(&text, file.display().to_string())?,
                // Nobody has logged in, or a service has no such credential.
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(Error::Io { path: file, error }),
            };
        }
        Ok(Self { cache, endpoint, token, offline, patience })
    }
}

impl Token {
    /// Without white space around it; `None` where that is all there is.
    fn read(text: &str, origin: String) -> Result<Option<Self>, Error> {
        let text = text.trim();
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::MalformedToken { origin });
        }
        Ok(Some(Self { secret: Secret::new(text), origin }).filter(|_| !text.is_empty()))
    }
}

fn expanded(path: OsString, home: Option<&PathBuf>) -> PathBuf {
    let path = PathBuf::from(path);
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

fn is_true(value: OsString) -> bool {
    value
        .to_str()
        .is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_ascii_uppercase().as_str()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, Error> {
        Settings::read(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_cache_is_where_python_has_it() {
        for (variables, cache) in [
            (&[("HOME", "/h")][..], "/h/.cache/huggingface/hub"),
            (&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("HOME", "/h"), ("HF_HOME", "~/hf")], "/h/hf/hub"),
            (&[("HF_HOME", "/hf"), ("HUGGINGFACE_HUB_CACHE", "/old")], "/old"),
            (&[("HF_HOME", "/hf"), ("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/new")], "/new"),
        ] {
            assert_eq!(read(variables).unwrap().cache, Path::new(cache));
        }
        assert!(read(&[]).unwrap_err().to_string().contains("HF_HOME"));
    }

    #[test]
    fn the_token_is_a_variable_or_a_file() {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().to_str().unwrap();
        let token = |more: &[(&str, &str)]| {
            let settings = read(&[&[("HF_HOME", place)], more].concat()).unwrap();
            settings.token.map(|token| (token.secret.reveal().to_owned(), token.origin))
        };
        assert_eq!(token(&[]), None);
        let file = home.path().join("token");
        fs::write(&file, "hf_file\n").unwrap();
        assert_eq!(token(&[]), Some(("hf_file".to_owned(), file.display().to_string())));
        assert_eq!(token(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        assert_eq!(token(&[("HF_TOKEN", " hf_a\n")]), Some(("hf_a".to_owned(), "HF_TOKEN".to_owned())));
        assert_eq!(token(&[("HF_TOKEN", "")]).unwrap().0, "hf_file");
        let other = home.path().join("other");
        fs::write(&other, "hf_other").unwrap();
        assert_eq!(token(&[("HF_TOKEN_PATH", other.to_str().unwrap())]).unwrap().0, "hf_other");
        let wrong = read(&[("HF_HOME", place), ("HF_TOKEN", "hf_a b")]).unwrap_err().to_string();
        assert!(wrong.contains("HF_TOKEN") && !wrong.contains("hf_a"), "{wrong}");
    }

    #[test]
    fn switches_and_wrong_values() {
        let with = |name, value| read(&[("HF_HOME", "/hf"), (name, value)]);
        for (value, offline) in [("1", true), ("true", true), ("Yes", true), ("0", false), ("", false)] {
            assert_eq!(with("HF_HUB_OFFLINE", value).unwrap().offline, offline, "{value}");
        }
        assert!(with("TRANSFORMERS_OFFLINE", "1").unwrap().offline);
        assert_eq!(with("HF_ENDPOINT", "http://hub:81/").unwrap().endpoint, "http://hub:81");
        assert_eq!(with("HF_HUB_DOWNLOAD_TIMEOUT", "3").unwrap().patience.stall, Duration::from_secs(3));
        for (name, value) in [("HF_ENDPOINT", "hub"), ("HF_HUB_DOWNLOAD_TIMEOUT", "soon")] {
            assert!(with(name, value).unwrap_err().to_string().contains(name));
        }
    }
}
