//! What a model of the hub is called.

use std::{fmt, str::FromStr};

/// `org/name[@revision][:file.gguf]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubId {
    /// `org/name`.
    pub repo: String,
    /// A branch, a tag or a commit.
    pub revision: Option<String>,
    /// One GGUF file of the repository, by its path there.
    pub file: Option<String>,
}

/// The branch that is meant where no revision is named.
const MAIN: &str = "main";

impl HubId {
    #[must_use]
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(MAIN)
    }
}

impl FromStr for HubId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, file) = text.split_once(':').map_or((text, None), |(rest, file)| (rest, Some(file)));
        let (repo, revision) = rest.split_once('@').map_or((rest, None), |(repo, named)| (repo, Some(named)));
        let Some((organisation, name)) = repo.split_once('/') else {
            return Err(format!("{text:?} is no id of the Hugging Face hub: expected org/name"));
        };
        if !is_name(organisation) || !is_name(name) || repo.len() > 96 || name.ends_with(".git") {
            return Err(format!(
                "{repo:?} is no repository of the Hugging Face hub: expected org/name of letters, digits, `-`, `_` and `.`"
            ));
        }
        if let Some(revision) = revision.filter(|revision| !is_revision(revision)) {
            return Err(format!("{revision:?} is no revision: expected a branch, a tag or a commit"));
        }
        if let Some(file) = file.filter(|file| !is_plain(file) || !is_gguf(file)) {
            return Err(format!("{file:?} is no file of a repository that ends in .gguf"));
        }
        Ok(Self {
            repo: repo.to_owned(),
            revision: revision.map(str::to_owned),
            file: file.map(str::to_owned),
        })
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        if let Some(file) = &self.file {
            write!(f, ":{file}")?;
        }
        Ok(())
    }
}

/// The rules of `huggingface_hub`'s `validate_repo_id`. `--` parts organisation and name in the cache.
fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !text.is_empty()
        && text.chars().all(fits)
        && !text.starts_with(['-', '.'])
        && !text.ends_with(['-', '.'])
        && !text.contains("--")
        && !text.contains("..")
}

fn is_revision(text: &str) -> bool {
    is_plain(text) && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./+".contains(c))
}

pub(super) fn is_gguf(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".gguf")
}

/// Whether a path stays below the directory that it is joined to. Names come from a server, or from somebody's keyboard.
pub(super) fn is_plain(path: &str) -> bool {
    let segment = |segment: &str| {
        !segment.is_empty()
            && segment != "."
            && segment != ".."
            && !segment.contains(|c: char| c == '\\' || c.is_control())
    };
    path.split('/').all(segment)
}

/// Whether `text` names a commit.
#[cfg(feature = "hub")]
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_and_written() {
        for (text, repo, revision, file) in [
            ("org/name", "org/name", None, None),
            ("Qwen/Qwen2.5-0.5B-Instruct@v1.0", "Qwen/Qwen2.5-0.5B-Instruct", Some("v1.0"), None),
            ("o/n:a-Q4_K_M.gguf", "o/n", None, Some("a-Q4_K_M.gguf")),
            ("o/n@refs/pr/1:Q8/a@b.GGUF", "o/n", Some("refs/pr/1"), Some("Q8/a@b.GGUF")),
        ] {
            let id: HubId = text.parse().unwrap();
            assert_eq!(
                (id.repo.as_str(), id.revision.as_deref(), id.file.as_deref()),
                (repo, revision, file)
            );
            assert_eq!(id.to_string(), text);
        }
        assert_eq!("o/n".parse::<HubId>().unwrap().revision(), "main");
    }

    #[test]
    fn what_would_lead_elsewhere_is_none() {
        for text in [
            "name",
            "/org/name",
            "org/name/more",
            "../name",
            "org/..",
            "./name",
            "org/",
            "org/na--me",
            "o r/g",
            "org/name.git",
            "org/name@",
            "org/name@../x",
            "org/name@a b",
            "org/name:",
            "org/name:model.bin",
            "org/name:../a.gguf",
            "org/name:/a.gguf",
            "org/name:a//b.gguf",
            "~/name",
        ] {
            assert!(text.parse::<HubId>().is_err(), "{text}");
        }
    }
}
