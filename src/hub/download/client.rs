//! Requests to the hub, as `huggingface_hub` makes them: the list of a revision's files, then for each file its hash and
//! size (`get_hf_file_metadata`), then its bytes, which often come from another host.

use std::{error::Error as _, sync::Arc, time::Duration};

use http::{HeaderMap, Method, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Response, Url};
use serde::Deserialize;
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::{
    super::{
        Error, HubId, News, Settings,
        id::{is_commit, is_plain},
    },
    failure::{self, Failure},
    progress::Progress,
};

/// Redirections of one request.
const HOPS: usize = 10;
/// A list of files is longer than this only where somebody means harm.
const LONGEST_LIST: usize = 64 << 20;
const CONNECT: Duration = Duration::from_secs(10);
/// What stays in a path's segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

pub(super) struct Client<'a> {
    http: reqwest::Client,
    endpoint: Url,
    settings: &'a Settings,
    id: &'a HubId,
    progress: &'a Progress<'a>,
}

/// The files of a commit.
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) names: Vec<String>,
}

/// A file as the server describes it.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) name: String,
    /// The SHA-256 of a file in large file storage, the hash of git's blob of any other.
    pub(super) etag: String,
    pub(super) size: Option<u64>,
}

impl<'a> Client<'a> {
    /// # Errors
    /// An endpoint that is no URL, or a system without root certificates.
    pub(super) fn new(
        settings: &'a Settings,
        id: &'a HubId,
        progress: &'a Progress<'a>,
    ) -> Result<Self, Error> {
        let wrong = |_| Error::Variable {
            name: "HF_ENDPOINT",
            expected: "http://host[:port] or https://host[:port]",
        };
        let endpoint = Url::parse(&settings.endpoint).map_err(wrong)?;
        let host = failure::host(&settings.endpoint);
        let unreachable = |why: String| Error::Unreachable { host: host.clone(), why };
        let mut roots = RootCertStore::empty();
        // What the system has and rustls cannot use is no reason to fail: there are always some.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() && endpoint.scheme() == "https" {
            return Err(unreachable(
                "the system has no root certificates; install ca-certificates".to_owned(),
            ));
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unreachable(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .user_agent(concat!("sconce/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| unreachable(words(&error)))?;
        Ok(Self { http, endpoint, settings, id, progress })
    }

    pub(super) fn id(&self) -> &HubId {
        self.id
    }

    pub(super) fn settings(&self) -> &Settings {
        self.settings
    }

    pub(super) fn strange(&self, why: String) -> Error {
        Error::Strange { endpoint: self.settings.endpoint.clone(), why }
    }

    /// The commit of the revision, and its files.
    pub(super) async fn listing(&self) -> Result<Listing, Error> {
        #[derive(Deserialize)]
        struct Written {
            sha: String,
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let url = self.url(&["api", "models"], &["revision", self.id.revision()]);
        self.progress.tell(News::Progress(&format!("asking {}", failure::host(&self.settings.endpoint))));
        let listing = async || {
            let response = self.send(Method::GET, url.clone(), HeaderMap::new(), false).await?;
            let body = self.body(response).await?;
            let written: Written = serde_json::from_slice(&body)
                .map_err(|error| self.strange(format!("the list of files: {error}")))?;
            if !is_commit(&written.sha) {
                return Err(self.strange("the list of files names no commit".to_owned()).into());
            }
            let names = written.siblings.into_iter().map(|sibling| sibling.rfilename);
            Ok(Listing { commit: written.sha, names: names.filter(|name| is_plain(name)).collect() })
        };
        self.patiently(listing).await
    }

    pub(super) async fn describe(&self, name: &str, commit: &str) -> Result<Remote, Error> {
        let url = self.file(name, commit);
        let describe = async || {
            let response = self.send(Method::HEAD, url.clone(), identity(), false).await?;
            let linked = response.headers();
            let text = |name: &str| linked.get(name).and_then(|value| value.to_str().ok());
            let etag = text("x-linked-etag").or_else(|| text("etag")).unwrap_or_default();
            let etag = etag.trim_start_matches("W/").trim_matches('"');
            // The name of a file in the cache.
            let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if etag.is_empty() || etag.len() > 128 || etag.starts_with('.') || !etag.chars().all(fits) {
                return Err(self.strange(format!("{name} has no usable ETag")).into());
            }
            let own = || text("content-length").filter(|_| !response.status().is_redirection());
            let size = text("x-linked-size").or_else(own).and_then(|size| size.parse().ok());
            Ok(Remote { name: name.to_owned(), etag: etag.to_owned(), size })
        };
        self.patiently(describe).await
    }

    /// The bytes of a file from `start` on.
    pub(super) async fn bytes(&self, name: &str, commit: &str, start: u64) -> Result<Response, Failure> {
        let mut headers = identity();
        if start > 0
            && let Ok(range) = format!("bytes={start}-").parse()
        {
            headers.insert(header::RANGE, range);
        }
        self.send(Method::GET, self.file(name, commit), headers, true).await
    }

    /// Tries until it succeeds, fails for good, or patience ends.
    pub(super) async fn patiently<T>(
        &self,
        mut attempt: impl AsyncFnMut() -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let mut tries = 0;
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(failure) => {
                    tries += 1;
                    self.pause(failure, tries).await?;
                }
            }
        }
    }

    /// Waits for the next try, `tries` after the last that brought something.
    ///
    /// # Errors
    /// That there is none.
    pub(super) async fn pause(&self, failure: Failure, tries: u32) -> Result<(), Error> {
        let patience = self.settings.patience;
        if !failure.again || tries >= patience.tries {
            return Err(failure.error);
        }
        let longer = patience.pause.saturating_mul(1 << (tries - 1).min(6));
        let pause = failure.wait.unwrap_or(longer);
        let seconds = pause.as_secs_f64();
        let trouble = format!("{}; trying again in {seconds:.1} s", failure.why);
        self.progress.tell(News::Trouble(&trouble));
        sleep(pause).await;
        Ok(())
    }

    /// `bytes`: a success is wanted, wherever it comes from. Else an answer that describes a file will do, such as the
    /// hub's redirection to where the file lies.
    async fn send(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        bytes: bool,
    ) -> Result<Response, Failure> {
        let mut url = url;
        for _ in 0..HOPS {
            let at_home = url.origin() == self.endpoint.origin();
            let mut request = self.http.request(method.clone(), url.clone()).headers(headers.clone());
            if let (true, Some(token)) = (at_home, &self.settings.token) {
                request = request.bearer_auth(token.secret.reveal());
            }
            let host = failure::host(url.as_str());
            let lost = |why: String| {
                Failure::passing(
                    Error::Unreachable { host: host.clone(), why: why.clone() },
                    format!("{host}: {why}"),
                )
            };
            let stall = self.settings.patience.stall;
            let response = match timeout(stall, request.send()).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(lost(words(&error.without_url()))),
                Err(_) => return Err(lost(format!("no answer within {} s", stall.as_secs_f64()))),
            };
            let status = response.status();
            if !status.is_redirection() {
                let fine =
                    status.is_success() || (bytes && status == http::StatusCode::RANGE_NOT_SATISFIABLE);
                return match (fine, at_home) {
                    (true, _) => Ok(response),
                    (false, true) => Err(failure::of_hub(status, response.headers(), self.id, self.settings)),
                    (false, false) => Err(failure::of_server(status, &host)),
                };
            }
            let next = response.headers().get(header::LOCATION).and_then(|next| next.to_str().ok());
            let next = next.and_then(|next| url.join(next).ok());
            let next = next.ok_or_else(|| self.strange(format!("{status} leads nowhere")))?;
            let described = response.headers().contains_key("x-linked-etag");
            if !bytes && described && next.origin() != self.endpoint.origin() {
                return Ok(response);
            }
            url = next;
        }
        Err(self.strange("it redirects without end".to_owned()).into())
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut response).await? {
            body.extend_from_slice(&chunk);
            if body.len() > LONGEST_LIST {
                return Err(self.strange("the list of files has no end".to_owned()).into());
            }
        }
        Ok(body)
    }

    /// The next bytes of an answer, `None` at its end.
    pub(super) async fn chunk(&self, response: &mut Response) -> Result<Option<bytes::Bytes>, Failure> {
        let stall = self.settings.patience.stall;
        let why = match timeout(stall, response.chunk()).await {
            Ok(Ok(chunk)) => return Ok(chunk),
            Ok(Err(error)) => words(&error.without_url()),
            Err(_) => format!("no byte came for {} s", stall.as_secs_f64()),
        };
        let host = failure::host(response.url().as_str());
        Err(Failure::passing(
            Error::Unreachable { host: host.clone(), why: why.clone() },
            format!("{host}: {why}"),
        ))
    }

    fn file(&self, name: &str, commit: &str) -> Url {
        let mut after = vec!["resolve", commit];
        after.extend(name.split('/'));
        self.url(&[], &after)
    }

    /// The URL of segments before and after the repository's name.
    fn url(&self, before: &[&str], after: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        let segments = before.iter().copied().chain(self.id.repo.split('/')).chain(after.iter().copied());
        let path: String =
            segments.map(|segment| format!("/{}", utf8_percent_encode(segment, SEGMENT))).collect();
        url.set_path(&format!("{}{path}", self.endpoint.path().trim_end_matches('/')));
        url
    }
}

/// Sizes and places are those of the file, not of some compressed form.
fn identity() -> HeaderMap {
    HeaderMap::from_iter([(header::ACCEPT_ENCODING, header::HeaderValue::from_static("identity"))])
}

/// What is at the bottom of an error; above it is only where it happened.
fn words(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    text
}
