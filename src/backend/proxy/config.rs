//! Settings of the proxy backend.

use std::path::PathBuf;

use garde::{Path, Report, Validate};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::base_url::BaseUrl;
use crate::{
    backend::passthrough::OPERATIONS,
    units::{Duration, Secret},
};

/// What the only upstream is called in the log.
const ONLY: &str = "default";

/// Settings of the proxy backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false))]
pub struct Config {
    /// The only upstream; with `upstreams`, what their tables do not say.
    #[serde(flatten)]
    pub upstream: Upstream,
    /// Servers that answer for this model, each under a name for the log (letters, digits, `-` and `_`). What an
    /// upstream's table does not say it takes from `proxy`.
    #[schemars(with = "std::collections::BTreeMap<String, Upstream>")]
    pub upstreams: IndexMap<String, Upstream>,
    /// Which upstream gets a request, among those that can take it.
    pub affinity: Affinity,
    /// The request's header that `affinity = "header"` goes by.
    pub affinity_header: String,
    /// Time between two health checks of an upstream.
    pub health_interval: Duration,
    /// How long an upstream that failed three times in a row gets no request but one on trial.
    pub failure_pause: Duration,
    /// Serve every model that the upstreams list (`GET /models`), each under its own id and in place of this one; they are
    /// asked again after this time. Unset: this one model is served.
    pub discover_interval: Option<Duration>,
    /// Operations that the upstreams have beside the base URL's `/v1`, not below it.
    pub root_paths: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            upstream: Upstream::default(),
            upstreams: IndexMap::new(),
            affinity: Affinity::None,
            affinity_header: "x-session-id".to_owned(),
            health_interval: Duration::secs(5),
            failure_pause: Duration::secs(5),
            discover_interval: None,
            root_paths: vec!["tokenize".to_owned(), "detokenize".to_owned()],
        }
    }
}

/// Which upstream gets a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Affinity {
    /// The one with the fewest requests for its weight.
    #[default]
    None,
    /// The one that had the conversation before, by the first 2 KiB of its messages or prompt, unless it is far busier
    /// than the others.
    Prefix,
    /// The same by the value of a header of the request, where it has one.
    Header,
}

/// One upstream.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false))]
#[garde(allow_unvalidated)]
pub struct Upstream {
    /// Where the API is: `http://host:port/v1`, `https://…`, or `unix:/path/of/socket:/v1`. Without a path, `/v1`.
    #[garde(inner(custom(is_base_url)))]
    pub base_url: Option<String>,
    /// API key that the upstream wants. Better kept in a file: see `api_key_file`.
    #[garde(inner(custom(is_key)))]
    pub api_key: Option<Secret>,
    /// File with the API key that the upstream wants. Unset: the systemd credential `upstream-api-key.NAME`, else
    /// `upstream-api-key`, where there is one. Read again on SIGHUP.
    pub api_key_file: Option<PathBuf>,
    /// The model's name there. Unset: its id here.
    #[garde(inner(length(min = 1)))]
    pub model: Option<String>,
    /// Its share of the requests, beside those of the others. Unset: 1.
    #[garde(inner(range(min = 1, max = 1000)))]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: Option<u32>,
    /// Requests that it gets at one time. Unset: no limit.
    #[garde(inner(range(min = 1)))]
    #[schemars(range(min = 1))]
    pub max_requests: Option<u32>,
    /// Speak HTTP/2: over TLS where it offers that, else by prior knowledge. Unset: HTTP/1.1.
    pub http2: Option<bool>,
    /// PEM file of the certificates that its certificate must come from. Unset: the system's.
    pub tls_roots: Option<PathBuf>,
    /// PEM file of the certificate chain to show it.
    pub tls_certificate: Option<PathBuf>,
    /// PEM file of that certificate's private key.
    pub tls_key: Option<PathBuf>,
    /// Time to connect, TLS included. Unset: 5s.
    #[garde(inner(custom(positive)))]
    pub connect_timeout: Option<Duration>,
    /// Time until an answer begins, which without a stream is when it is whole. Unset: 10min.
    #[garde(inner(custom(positive)))]
    pub first_byte_timeout: Option<Duration>,
    /// Time between two pieces of an answer. Unset: 2min.
    #[garde(inner(custom(positive)))]
    pub idle_timeout: Option<Duration>,
    /// Time for a request as a whole. Unset: no limit.
    #[garde(inner(custom(positive)))]
    pub total_timeout: Option<Duration>,
    /// How long a connection is kept for the next request; best shorter than the upstream keeps it. Unset: 4s.
    pub keep_alive: Option<Duration>,
    /// Path of its health check; empty for none. Unset: `/health`.
    #[garde(inner(custom(is_path)))]
    pub health_path: Option<String>,
}

fn is_base_url(text: &str, (): &()) -> garde::Result {
    text.parse::<BaseUrl>().map(drop).map_err(garde::Error::new)
}

fn is_key(key: &Secret, (): &()) -> garde::Result {
    well_formed_key(key.reveal()).map_err(garde::Error::new)
}

/// What can stand in a header after `Bearer `.
pub(super) fn well_formed_key(key: &str) -> Result<(), &'static str> {
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("an API key is empty, or has white space or characters outside ASCII in it");
    }
    Ok(())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "garde hands fields over like this")]
fn positive(duration: &Duration, (): &()) -> garde::Result {
    if duration.0.is_zero() { Err(garde::Error::new("must be longer than nothing")) } else { Ok(()) }
}

fn is_path(path: &str, (): &()) -> garde::Result {
    let fits = path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok();
    if path.is_empty() || fits {
        Ok(())
    } else {
        Err(garde::Error::new("must be a path such as `/health`, or empty"))
    }
}

/// By hand, because the flattened upstream's keys stand beside the others.
impl Validate for Config {
    type Context = ();

    fn validate_into(&self, (): &(), parent: &mut dyn FnMut() -> Path, report: &mut Report) {
        self.upstream.validate_into(&(), parent, report);
        for (name, upstream) in &self.upstreams {
            let path = parent().join("upstreams").join(name);
            if name.is_empty()
                || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            {
                let what = "an upstream's name has letters, digits, `-` and `_` alone";
                report.append(path.clone(), garde::Error::new(what));
            }
            upstream.validate_into(&(), &mut || path.clone(), report);
        }
        for (key, time) in [
            ("health_interval", Some(self.health_interval)),
            ("failure_pause", Some(self.failure_pause)),
            ("discover_interval", self.discover_interval),
        ] {
            if time.is_some_and(|time| time.0.is_zero()) {
                report.append(parent().join(key), garde::Error::new("must be longer than nothing"));
            }
        }
        for path in &self.root_paths {
            if !OPERATIONS.iter().any(|operation| operation[1..] == *path.trim_matches('/')) {
                let known = OPERATIONS.map(|operation| &operation[1..]).join(", ");
                let what = format!("{path:?} is no operation that passes; those are: {known}");
                report.append(parent().join("root_paths"), garde::Error::new(what));
            }
        }
        if self.affinity_header.parse::<http::HeaderName>().is_err() {
            report.append(parent().join("affinity_header"), garde::Error::new("is not the name of a header"));
        }
    }
}

impl Config {
    /// The upstreams by name, each with what it takes from `proxy`.
    #[must_use]
    pub fn resolved(&self) -> IndexMap<String, Upstream> {
        if self.upstreams.is_empty() {
            return IndexMap::from([(ONLY.to_owned(), self.upstream.clone())]);
        }
        self.upstreams.iter().map(|(name, own)| (name.clone(), own.over(&self.upstream))).collect()
    }

    /// What does not fit together, or is missing for the backend to be of use: the key at fault, and what is wrong.
    #[must_use]
    pub fn fault(&self) -> Option<(Vec<&str>, &'static str)> {
        let resolved = self.resolved();
        let at = |name: &str, key: &'static str| match self.upstreams.get_key_value(name) {
            Some((name, _)) => vec!["upstreams", name.as_str(), key],
            None => vec![key],
        };
        resolved.iter().find_map(|(name, upstream)| {
            if upstream.base_url.is_none() {
                return Some((at(name, "base_url"), "the proxy backend needs it for each upstream"));
            }
            if self.discover_interval.is_some() && upstream.model.is_some() {
                let what =
                    "cannot stand beside `discover_interval`, which serves models under their own names";
                return Some((at(name, "model"), what));
            }
            match (&upstream.tls_certificate, &upstream.tls_key) {
                (Some(_), None) => Some((at(name, "tls_certificate"), "needs `tls_key` as well")),
                (None, Some(_)) => Some((at(name, "tls_key"), "needs `tls_certificate` as well")),
                _ => None,
            }
        })
    }
}

impl Upstream {
    fn over(&self, below: &Self) -> Self {
        // Destructured, so that the compiler asks for a new field here.
        let Self {
            base_url,
            api_key,
            api_key_file,
            model,
            weight,
            max_requests,
            http2,
            tls_roots,
            tls_certificate,
            tls_key,
            connect_timeout,
            first_byte_timeout,
            idle_timeout,
            total_timeout,
            keep_alive,
            health_path,
        } = self.clone();
        // A key is taken with the way in which it is given: a file here is not the text from above.
        let own_key = api_key.is_some() || api_key_file.is_some();
        Self {
            base_url: base_url.or_else(|| below.base_url.clone()),
            api_key: api_key.or_else(|| below.api_key.clone().filter(|_| !own_key)),
            api_key_file: api_key_file.or_else(|| below.api_key_file.clone().filter(|_| !own_key)),
            model: model.or_else(|| below.model.clone()),
            weight: weight.or(below.weight),
            max_requests: max_requests.or(below.max_requests),
            http2: http2.or(below.http2),
            tls_roots: tls_roots.or_else(|| below.tls_roots.clone()),
            tls_certificate: tls_certificate.or_else(|| below.tls_certificate.clone()),
            tls_key: tls_key.or_else(|| below.tls_key.clone()),
            connect_timeout: connect_timeout.or(below.connect_timeout),
            first_byte_timeout: first_byte_timeout.or(below.first_byte_timeout),
            idle_timeout: idle_timeout.or(below.idle_timeout),
            total_timeout: total_timeout.or(below.total_timeout),
            keep_alive: keep_alive.or(below.keep_alive),
            health_path: health_path.or_else(|| below.health_path.clone()),
        }
    }
}
