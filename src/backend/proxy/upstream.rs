//! One upstream: what the configuration says of it, its connections, and how it is.

use std::{
    env, fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header, uri::PathAndQuery};
use hyper::body::Incoming;
use indexmap::IndexMap;
use memchr::memmem;
use tokio::time::Instant;

use super::{
    base_url::{BaseUrl, Place},
    circuit::{Circuit, Closed},
    config::{self, well_formed_key},
    connection::{Connection, Lost, Payload},
    dial::Dialer,
    metrics::{Counts, Failure},
    pool::Pool,
    tls,
};
use crate::{
    backend::{
        ModelCard,
        passthrough::{Field, Forward},
    },
    units::Secret,
};

/// An upstream that is used.
pub(super) struct Upstream {
    pub(super) name: Arc<str>,
    settings: Settings,
    url: BaseUrl,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
    /// Its name for the model as a JSON string.
    quoted_model: Option<String>,
    pub(super) weight: u32,
    pub(super) times: Times,
    failure_pause: Duration,
    dialer: Dialer,
    pub(super) pool: Pool,
    circuit: Mutex<Circuit>,
    pub(super) counts: Counts,
    /// What it lists, where that is asked for.
    pub(super) listed: ArcSwapOption<IndexMap<String, ModelCard>>,
}

/// What tells whether a reloaded configuration means another upstream.
#[derive(PartialEq)]
struct Settings {
    written: config::Upstream,
    failure_pause: crate::units::Duration,
    key: Option<Secret>,
    tls: tls::Files,
}

/// How long it may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) first_byte: Duration,
    pub(super) idle: Duration,
    pub(super) total: Option<Duration>,
}

impl Upstream {
    /// # Errors
    /// Files that cannot be read or used, in words that show no key.
    fn new(name: &str, settings: Settings) -> Result<Self, String> {
        let written = &settings.written;
        let url: BaseUrl = written.base_url.as_deref().unwrap_or_default().parse()?;
        let or = |time: Option<crate::units::Duration>, default| time.map_or(default, |time| time.0);
        let tls = match url.place {
            Place::Tcp { tls: true, .. } => {
                Some(tls::client_config(&settings.tls, written.http2.unwrap_or(false))?)
            }
            _ => None,
        };
        let connect = or(written.connect_timeout, Duration::from_secs(5));
        let dialer = Dialer::new(&url, tls, written.http2.unwrap_or(false), connect)?;
        let authorization = settings.key.as_ref().map(|key| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", key.reveal()))
                .map_err(|_| "the API key cannot stand in a header".to_owned())?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        });
        Ok(Self {
            name: name.into(),
            host: HeaderValue::try_from(&url.authority).map_err(|error| error.to_string())?,
            authorization: authorization.transpose()?,
            quoted_model: written
                .model
                .as_ref()
                .map(|model| serde_json::Value::from(model.as_str()).to_string()),
            weight: written.weight.unwrap_or(1),
            times: Times {
                first_byte: or(written.first_byte_timeout, Duration::from_secs(600)),
                idle: or(written.idle_timeout, Duration::from_secs(120)),
                total: written.total_timeout.map(|time| time.0),
            },
            failure_pause: settings.failure_pause.0,
            dialer,
            pool: Pool::new(or(written.keep_alive, Duration::from_secs(4))),
            circuit: Mutex::new(Circuit::new(written.max_requests.unwrap_or(u32::MAX))),
            counts: Counts::default(),
            listed: ArcSwapOption::empty(),
            url,
            settings,
        })
    }

    pub(super) fn circuit(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has the model, where the upstreams are asked for theirs.
    pub(super) fn lists(&self, model: &str) -> bool {
        self.listed.load().as_ref().is_some_and(|listed| listed.contains_key(model))
    }

    /// The path of its health check, if it has one.
    pub(super) fn health_path(&self) -> Option<&str> {
        Some(self.settings.written.health_path.as_deref().unwrap_or("/health"))
            .filter(|path| !path.is_empty())
    }

    pub(super) fn models_path(&self) -> String {
        format!("{}/models", self.url.path)
    }

    /// The request as this upstream wants it.
    pub(super) fn request(
        &self,
        forward: &Forward,
        headers: HeaderMap,
        at_root: bool,
    ) -> Option<Request<Payload>> {
        let base = if at_root { self.url.root() } else { &self.url.path };
        let mut path = [base, forward.path].concat();
        if let Some(query) = &forward.query {
            path.extend(["?", query]);
        }
        let mut request = Request::new(Payload::new(self.body(forward)));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = PathAndQuery::try_from(path).ok()?.into();
        *request.headers_mut() = headers;
        self.sign(&mut request);
        Some(request)
    }

    pub(super) fn get(&self, path: &str) -> Option<Request<Payload>> {
        let mut request = Request::new(Payload::default());
        *request.uri_mut() = path.parse().ok()?;
        self.sign(&mut request);
        Some(request)
    }

    fn sign(&self, request: &mut Request<Payload>) {
        request.headers_mut().insert(header::HOST, self.host.clone());
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
    }

    /// The body as it came, but for the model's name.
    fn body(&self, forward: &Forward) -> Bytes {
        let (Some(quoted), Some(plain)) = (&self.quoted_model, &self.settings.written.model) else {
            return forward.body.clone();
        };
        let (place, name) = match &forward.model {
            Field::Json(place) => (place, quoted),
            Field::Form(place) => (place, plain),
        };
        let (before, after) = (forward.body.get(..place.start), forward.body.get(place.end..));
        [before.unwrap_or_default(), name.as_bytes(), after.unwrap_or_default()].concat().into()
    }

    /// What no answer may show: its key, and where it is.
    fn private(&self) -> impl Iterator<Item = &str> {
        let place = match &self.url.place {
            Place::Tcp { host, .. } => Some(host.as_str()),
            Place::Unix(path) => path.to_str(),
        };
        self.settings.key.as_ref().map(Secret::reveal).into_iter().chain(place)
    }

    /// Whether a text shows something of that.
    pub(super) fn is_shown_by(&self, text: &[u8]) -> bool {
        self.private().any(|private| memmem::find(text, private.as_bytes()).is_some())
    }

    /// Words for the log without it.
    pub(super) fn hide(&self, words: String) -> String {
        self.private().fold(words, |words, private| words.replace(private, "…"))
    }

    /// Sends a request over a kept connection or a new one, and waits for the head of the answer. A kept connection that
    /// turns out to be closed before anything was written is replaced.
    pub(super) async fn send(
        &self,
        mut request: Request<Payload>,
    ) -> Result<(http::Response<Incoming>, Connection), Failed> {
        loop {
            let kept = self.pool.take().await;
            let is_new = kept.is_none();
            let mut connection = match kept {
                Some(connection) => connection,
                // Boxed, because it is seldom: a request over a kept connection needs no room for it.
                None => Box::pin(self.dialer.connect()).await.map_err(Failed::Unreachable)?,
            };
            self.address(&mut request, connection.is_shared());
            if let Connection::Http2(stream) = &connection
                && is_new
            {
                self.pool.share(stream.connection());
            }
            match connection.send(request).await {
                Ok(answer) => return Ok((answer, connection)),
                Err(Lost::Unsent(_, error)) if is_new => {
                    return Err(Failed::Unreachable(io::Error::other(error)));
                }
                Err(Lost::Unsent(unsent, _)) => {
                    request = *unsent;
                    if let Connection::Http2(stream) = &connection {
                        self.pool.unshare(stream.connection());
                    }
                }
                Err(Lost::Sent(error)) => return Err(Failed::Broken(error)),
            }
        }
    }

    /// HTTP/2 sends scheme and authority where HTTP/1.1 has `host`. What was meant for one may go over the other in the end.
    fn address(&self, request: &mut Request<Payload>, http2: bool) {
        if request.uri().authority().is_some() == http2 {
            return;
        }
        if !http2 {
            let path = request.uri().path_and_query().cloned();
            *request.uri_mut() = path.unwrap_or_else(|| PathAndQuery::from_static("/")).into();
            request.headers_mut().insert(header::HOST, self.host.clone());
            return;
        }
        let scheme = match self.url.place {
            Place::Tcp { tls: true, .. } => "https",
            _ => "http",
        };
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        let uri =
            Uri::builder().scheme(scheme).authority(self.url.authority.as_str()).path_and_query(path).build();
        if let Ok(uri) = uri {
            *request.uri_mut() = uri;
            request.headers_mut().remove(header::HOST);
        }
    }
}

/// Why an upstream gave no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// No connection, so that nothing was sent.
    Unreachable(io::Error),
    Broken(hyper::Error),
}

/// The upstreams of a configuration; those of `before` that stay as they are stay the same.
///
/// # Errors
/// Which upstream cannot be used, and why.
pub(super) fn build(config: &config::Config, before: &[Arc<Upstream>]) -> Result<Vec<Arc<Upstream>>, String> {
    let resolved = config.resolved();
    let made = resolved.into_iter().map(|(name, written)| {
        let wrong = |error: String| format!("upstream '{name}': {error}");
        let key = read_key(&name, &written).map_err(wrong)?;
        let tls = tls::Files::read(&written).map_err(wrong)?;
        let settings = Settings { written, failure_pause: config.failure_pause, key, tls };
        let same = before.iter().find(|old| *old.name == *name && old.settings == settings);
        match same {
            Some(same) => Ok(Arc::clone(same)),
            None => Upstream::new(&name, settings).map(Arc::new).map_err(wrong),
        }
    });
    made.collect()
}

fn read_key(name: &str, written: &config::Upstream) -> Result<Option<Secret>, String> {
    if written.api_key.is_some() {
        return Ok(written.api_key.clone());
    }
    let credential = || {
        let directory = PathBuf::from(env::var_os("CREDENTIALS_DIRECTORY")?);
        let names = [format!("upstream-api-key.{name}"), "upstream-api-key".to_owned()];
        names.map(|name| directory.join(name)).into_iter().find(|path| path.exists())
    };
    let Some(path) = written.api_key_file.clone().or_else(credential) else { return Ok(None) };
    let text = fs::read_to_string(&path)
        .map_err(|error| format!("cannot read the API key in {}: {error}", path.display()))?;
    let key = text.trim();
    well_formed_key(key).map_err(|what| format!("{}: {what}", path.display()))?;
    Ok(Some(Secret::new(key)))
}

/// A request's place at an upstream, given back when dropped.
pub(super) struct Lease {
    pub(super) upstream: Arc<Upstream>,
    request_id: String,
    on_trial: bool,
    answered: bool,
    /// When it was taken; gone once a piece of an answer has come.
    unheard_since: Option<Instant>,
}

impl Lease {
    pub(super) fn take(upstream: &Arc<Upstream>, request_id: &str, now: Instant) -> Result<Self, Closed> {
        let on_trial = upstream.circuit().begin(now)?;
        upstream.counts.requests.fetch_add(1, Relaxed);
        let (upstream, request_id) = (Arc::clone(upstream), request_id.to_owned());
        Ok(Self { upstream, request_id, on_trial, answered: false, unheard_since: Some(now) })
    }

    /// An answer has begun that is not about how the upstream is.
    pub(super) fn answered(&mut self) {
        self.answered = true;
        self.upstream.circuit().answered();
    }

    /// A piece of a successful answer has come.
    pub(super) fn heard(&mut self) {
        if let Some(since) = self.unheard_since.take() {
            self.upstream.counts.first_byte.add(since.elapsed());
        }
    }

    /// The answer has come whole.
    pub(super) fn succeeded(&self) {
        if self.answered {
            self.upstream.circuit().succeeded();
        }
    }

    pub(super) fn busy(&self, wait: Duration) {
        self.upstream.counts.failed(Failure::Busy);
        self.upstream.circuit().busy(Instant::now(), wait);
    }

    /// It does not do what it is asked to, and will not before somebody has seen to that.
    pub(super) fn refused(&self, status: StatusCode, what: &str) {
        let Upstream { name, counts, .. } = &*self.upstream;
        let (status, request_id) = (status.as_u16(), &self.request_id);
        tracing::error!(upstream = &**name, status, request_id, "{what}");
        counts.failed(Failure::Refused);
    }

    /// The words are for the log.
    pub(super) fn failed(&self, failure: Failure, what: &str) {
        let Upstream { name, failure_pause, counts, .. } = &*self.upstream;
        let request_id = &self.request_id;
        tracing::warn!(upstream = &**name, error = what, request_id, "a request to an upstream failed");
        counts.failed(failure);
        if self.upstream.circuit().failed(Instant::now(), *failure_pause) {
            tracing::warn!(upstream = &**name, "left alone for a while: it failed several times in a row");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.upstream.circuit().end(self.on_trial);
    }
}
