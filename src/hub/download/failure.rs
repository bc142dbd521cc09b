//! What an answer that is none means.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::super::{Error, HubId, Settings};

/// The longest that a server can make us wait.
const LONGEST: Duration = Duration::from_secs(300);

/// A try that brought nothing.
#[derive(Debug)]
pub(super) struct Failure {
    /// What is told when no further try is made.
    pub(super) error: Error,
    /// What happened, in short.
    pub(super) why: String,
    pub(super) again: bool,
    /// How long the server wants to be left alone.
    pub(super) wait: Option<Duration>,
}

impl Failure {
    pub(super) fn passing(error: Error, why: String) -> Self {
        Self { error, why, again: true, wait: None }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, why: String::new(), again: false, wait: None }
    }
}

/// What the hub means by an answer that is no success. Its errors have a code in a header, as `huggingface_hub` reads them
/// (`utils/_http.py`, `hf_raise_for_status`).
pub(super) fn of_hub(status: StatusCode, headers: &HeaderMap, id: &HubId, settings: &Settings) -> Failure {
    let text =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(clean).unwrap_or_default();
    let (code, says) = (text("x-error-code"), text("x-error-message"));
    let (repo, endpoint) = (id.repo.clone(), settings.endpoint.clone());
    let token = settings.token.is_some();
    match (status.as_u16(), code.as_str()) {
        (429, _) => {
            let (why, wait) = ("too many requests (429)".to_owned(), wait(headers));
            Failure { error: Error::TooMany { endpoint }, why, again: true, wait }
        }
        (408 | 500.., _) => of_server(status, &host(&settings.endpoint)),
        (_, "GatedRepo") => Error::Gated { repo, endpoint, token }.into(),
        (_, "RevisionNotFound") => {
            Error::NoRevision { repo, revision: id.revision().to_owned(), endpoint }.into()
        }
        (_, "EntryNotFound") => {
            Error::Strange { endpoint, why: "a file that it lists is not there".to_owned() }.into()
        }
        (_, "RepoNotFound") | (404, _) => Error::NotFound { repo, endpoint, token }.into(),
        // Without a token this is said of what does not exist too.
        (401, _) => match &settings.token {
            Some(token) => Error::WrongToken { endpoint, origin: token.origin.clone() }.into(),
            None => Error::NotFound { repo, endpoint, token: false }.into(),
        },
        (403, _) => {
            let says = if says.is_empty() { "403 Forbidden".to_owned() } else { says };
            Error::Forbidden { repo, endpoint, says }.into()
        }
        _ => Error::Strange { endpoint, why: format!("{status} {says}").trim_end().to_owned() }.into(),
    }
}

/// What another server means, to which the hub sent us: a link of its may have expired, a new one may not.
pub(super) fn of_server(status: StatusCode, host: &str) -> Failure {
    let says = status.to_string();
    Failure::passing(Error::Server { host: host.to_owned(), says: says.clone() }, format!("{host}: {says}"))
}

/// `Retry-After`, or the reset time of `RateLimit: "api";r=0;t=55`, both in seconds.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let after = text("retry-after").and_then(|text| text.trim().parse().ok());
    let reset =
        || text("ratelimit")?.split(';').find_map(|part| part.trim().strip_prefix("t=")?.parse().ok());
    after.or_else(reset).map(|seconds| Duration::from_secs(seconds).min(LONGEST))
}

/// Words of a server, for a log or a terminal.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

pub(super) fn host(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_wish_is_read_and_bounded() {
        let headers = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(
                http::HeaderName::from_static(name),
                http::HeaderValue::from_static(value),
            )])
        };
        assert_eq!(wait(&headers("retry-after", "7")), Some(Duration::from_secs(7)));
        assert_eq!(wait(&headers("retry-after", "86400")), Some(LONGEST));
        assert_eq!(wait(&headers("ratelimit", "\"api\";r=0;t=55")), Some(Duration::from_secs(55)));
        assert_eq!(wait(&HeaderMap::new()), None);
    }

    #[test]
    fn a_host_has_no_password() {
        assert_eq!(host("https://user:secret@hub.example:81/a/b"), "hub.example:81");
    }
}
