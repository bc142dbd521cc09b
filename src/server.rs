//! The life of the daemon: bind, serve, reload when asked to, drain when told to stop.

use std::{
    convert::Infallible,
    env,
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

use http_body_util::BodyExt;
use hyper::service::service_fn;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    api::{self, Api, auth::KeyRing},
    backend::Registry,
    config::{Config, Errors, Loaded},
    http::{self, Address, Listeners, Shutdown, tls::Reloadable},
    telemetry,
};

/// Why the daemon ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be put into effect: a certificate that is none, a keys file that is not there.
    #[error("{0}")]
    Configuration(String),
    /// The system refused something: an address to listen on, a descriptor.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl Error {
    fn configuration(error: impl ToString) -> Self {
        Self::Configuration(error.to_string())
    }
}

/// Serves until told to stop by SIGTERM or SIGINT. `reload` reads the configuration again, for SIGHUP.
///
/// # Errors
/// Returns an error when serving cannot begin.
pub async fn run(
    loaded: Loaded,
    reload: impl Fn() -> Result<Loaded, Errors> + Send + 'static,
) -> Result<(), Error> {
    let Loaded { config, warnings, .. } = loaded;
    telemetry::start(&config.log).map_err(Error::configuration)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let mut signals = Signals::listen()?;
    let keys = read_keys(&config)?;
    let tls = read_tls(&config)?;
    http::raise_file_limit();
    let listeners = Listeners::bind(&config.server).await.map_err(io::Error::other)?;
    announce(listeners.addresses(), keys.is_empty());

    let shutdown = Shutdown::default();
    let models = Registry::new(&config.served());
    for (id, model) in models.iter() {
        tracing::info!(model = id, backend = model.kind.as_str(), "serving");
    }
    let api = Api::new(api::Parts {
        prefix: config.api_prefix.clone(),
        models: models.clone(),
        keys,
        limits: config.limits.clone(),
        cors: config.cors.clone(),
        log_prompts: config.log.prompts,
        draining: shutdown.draining.clone(),
        cut: shutdown.cut.clone(),
    });
    let connections = listeners.connections();
    let service = {
        let api = api.clone();
        service_fn(move |request: hyper::Request<http::Body>| {
            let api = api.clone();
            // Boxed, because a connection has room for this future as long as it lives, streams and rests included.
            Box::pin(async move { Ok::<_, Infallible>(api.call(request.map(BodyExt::boxed)).await) })
        })
    };
    let serving = http::serve(listeners, &config.server, tls.clone(), service, shutdown.clone());
    tokio::pin!(serving);
    let loading = models.load();
    tokio::pin!(loading);
    let mut loaded = false;

    loop {
        tokio::select! {
            () = &mut serving => return Ok(()),
            outcome = &mut loading, if !loaded => {
                outcome.map_err(Error::Configuration)?;
                loaded = true;
                tracing::info!("ready");
            }
            signal = signals.next() => match signal {
                Asked::Reload => apply(reload(), &config, &api, &models, tls.as_deref()),
                Asked::Stop => break,
            },
        }
    }
    let drain = config.server.drain_timeout;
    tracing::info!(connections = connections.count(), "stopping; running requests have {drain} to finish");
    shutdown.draining.cancel();
    tokio::select! {
        () = &mut serving => {}
        () = tokio::time::sleep(drain.0) => {
            tracing::warn!(connections = connections.count(), "ending what still runs");
            shutdown.cut.cancel();
            tokio::select! {
                () = &mut serving => {}
                () = signals.stop() => {}
            }
        }
        () = signals.stop() => tracing::warn!("told to stop again: stopping at once"),
    }
    tracing::info!("stopped");
    Ok(())
}

fn read_keys(config: &Config) -> Result<KeyRing, Error> {
    let credentials = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    KeyRing::load(&config.auth, credentials.as_deref()).map_err(Error::configuration)
}

fn read_tls(config: &Config) -> Result<Option<Arc<Reloadable>>, Error> {
    match (&config.server.tls_certificate, &config.server.tls_key) {
        (Some(certificate), Some(key)) => {
            Reloadable::load(certificate, key).map(Arc::new).map(Some).map_err(Error::configuration)
        }
        _ => Ok(None),
    }
}

/// One line an address on standard output, for whoever asked for port 0, and a warning where the world may come in.
fn announce(addresses: &[Address], no_keys: bool) {
    let mut lines = String::new();
    for address in addresses {
        lines.push_str(&format!("listening on {address}\n"));
        tracing::info!(%address, "listening");
        if let Address::Tcp { address, .. } = address
            && no_keys
            && !address.ip().is_loopback()
        {
            tracing::warn!(%address, "everybody who reaches this address may call: no API key is set (auth.keys_file)");
        }
    }
    let mut out = io::stdout().lock();
    // Nobody reads it, perhaps; that is no reason not to serve.
    let _ = out.write_all(lines.as_bytes()).and_then(|()| out.flush());
}

/// Puts a new configuration into effect as far as that is possible without a restart. What is wrong with it leaves
/// everything as it was.
fn apply(
    reloaded: Result<Loaded, Errors>,
    started: &Config,
    api: &Api,
    models: &Registry,
    tls: Option<&Reloadable>,
) {
    let config = match reloaded {
        Ok(loaded) => loaded.config,
        Err(errors) => return tracing::error!("not reloaded: the configuration is wrong\n{errors}"),
    };
    let keys = match read_keys(&config) {
        Ok(keys) => keys,
        Err(error) => return tracing::error!(%error, "not reloaded"),
    };
    if keys.is_empty() && api.needs_key() {
        return tracing::error!(
            "not reloaded: no API key is left, which would let everybody in; restart to mean that"
        );
    }
    let changes = match models.prepare(&config.served()) {
        Ok(changes) => changes,
        Err(error) => return tracing::error!(error, "not reloaded"),
    };
    if let Some(Err(error)) = tls.map(Reloadable::reload) {
        return tracing::error!(%error, "not reloaded");
    }
    let count = keys.len();
    api.set_keys(keys);
    let models = changes.len();
    changes.into_iter().for_each(|change| change());
    tracing::info!(
        keys = count,
        tls = tls.is_some(),
        models,
        "reloaded API keys, certificates and upstreams"
    );
    let unchanged = Config { auth: started.auth.clone(), ..config.with_reloadable_models_of(started) };
    if unchanged != *started {
        tracing::warn!("the rest of the new configuration takes effect after a restart");
    }
}

/// What the daemon is asked to do from outside.
enum Asked {
    Reload,
    Stop,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// A signal to stop; a reload is too late by now.
    async fn stop(&mut self) {
        while !matches!(self.next().await, Asked::Stop) {}
    }
}
