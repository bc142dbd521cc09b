//! Where an upstream is.

use std::{path::PathBuf, str::FromStr};

use http::{Uri, uri::Scheme};

/// `http://host[:port][/path]`, `https://…`, or `unix:/path/of/socket[:/path]`. Without a path, `/v1` is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BaseUrl {
    pub(super) place: Place,
    /// For the `host` header, and the text that no answer may hold.
    pub(super) authority: String,
    /// Without a slash at its end.
    pub(super) path: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

const FORM: &str = "expected http://host[:port][/path], https://host[:port][/path] or unix:/socket[:/path]";

impl FromStr for BaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("unix:") {
            let (socket, path) = rest.split_once(':').unwrap_or((rest, ""));
            if !socket.starts_with('/') || !(path.is_empty() || path.starts_with('/')) {
                return Err(FORM.to_owned());
            }
            return Ok(Self {
                place: Place::Unix(socket.into()),
                authority: "localhost".to_owned(),
                path: with_default(path),
            });
        }
        let url: Uri = text.parse().map_err(|_| FORM.to_owned())?;
        let (Some(scheme), Some(authority)) = (url.scheme(), url.authority()) else {
            return Err(FORM.to_owned());
        };
        let tls = *scheme == Scheme::HTTPS;
        if !tls && *scheme != Scheme::HTTP {
            return Err(FORM.to_owned());
        }
        if authority.as_str().contains('@') {
            return Err(
                "has a user or password in it; a key is given by `api_key` or `api_key_file`".to_owned()
            );
        }
        if url.query().is_some() {
            return Err("has a query (`?…`) in it, which a base URL cannot have".to_owned());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(FORM.to_owned());
        }
        Ok(Self {
            place: Place::Tcp {
                host: host.to_owned(),
                port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
                tls,
            },
            authority: authority.to_string(),
            path: with_default(url.path()),
        })
    }
}

fn with_default(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" => "/v1".to_owned(),
        path => path.to_owned(),
    }
}

impl BaseUrl {
    /// The path of what stands beside the API's prefix: vLLM has `/tokenize`, not `/v1/tokenize`.
    pub(super) fn root(&self) -> &str {
        self.path.strip_suffix("/v1").unwrap_or(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read() {
        let tcp = |host: &str, port, tls| Place::Tcp { host: host.to_owned(), port, tls };
        for (text, place, authority, path) in [
            ("http://a:8000/v1", tcp("a", 8000, false), "a:8000", "/v1"),
            ("http://a/v1/", tcp("a", 80, false), "a", "/v1"),
            ("https://a.example", tcp("a.example", 443, true), "a.example", "/v1"),
            ("http://[::1]:9/x/v1", tcp("::1", 9, false), "[::1]:9", "/x/v1"),
            ("unix:/run/s", Place::Unix("/run/s".into()), "localhost", "/v1"),
            ("unix:/run/s:/api/", Place::Unix("/run/s".into()), "localhost", "/api"),
        ] {
            let expected = BaseUrl { place, authority: authority.to_owned(), path: path.to_owned() };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        assert_eq!("http://a/x/v1".parse::<BaseUrl>().unwrap().root(), "/x");
        assert_eq!("http://a/api".parse::<BaseUrl>().unwrap().root(), "/api");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "a:8000",
            "/v1",
            "ftp://a",
            "http://",
            "http://u:p@a",
            "http://a?x=1",
            "unix:s",
            "unix:/s:v1",
        ] {
            assert!(text.parse::<BaseUrl>().is_err(), "{text}");
        }
    }
}
