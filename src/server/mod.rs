//! The life of the daemon: bind, load, serve, reload when asked to, drain when told to stop.

mod listen;
mod reload;
mod signals;
mod state;

use std::{convert::Infallible, io, path::PathBuf, pin::pin, sync::Arc, time::Duration};

use futures_util::future::OptionFuture;
use http_body_util::BodyExt;
use hyper::service::service_fn;
use tokio::time::MissedTickBehavior;

use self::{
    reload::Reload,
    signals::{Asked, Signals},
    state::State,
};
use crate::{
    api::{self, Api, auth::KeyRing},
    backend::Registry,
    config::{Config, Errors, Loaded},
    http::{self, Shutdown, tls::Reloadable},
    systemd::{self, Manager, Sockets, Watchdog},
    telemetry,
};

/// How often the service manager is told what goes on, where that has changed, and idleness and leftovers are looked for.
const TICK: Duration = Duration::from_secs(1);
/// What is given beyond `server.drain_timeout` for all to end.
const END: Duration = Duration::from_secs(10);

/// Why the daemon ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be put into effect: a certificate that is none, a keys file that is not there.
    #[error("{0}")]
    Configuration(String),
    /// A model could not be loaded, and may be later.
    #[error("{0}")]
    Later(String),
    /// An address cannot be listened on.
    #[error("{0}")]
    Listen(#[from] http::Error),
    /// The system refused something: a signal handler, a thread.
    #[error("{0}")]
    System(#[from] io::Error),
    /// The service manager handed over what cannot be used.
    #[error("{0}")]
    Sockets(#[from] systemd::Error),
}

impl Error {
    fn configuration(error: impl ToString) -> Self {
        Self::Configuration(error.to_string())
    }

    /// The system's number for what went wrong, where it is the system's.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Configuration(_) | Self::Later(_) | Self::Sockets(_) => None,
            Self::Listen(error) => error.io()?.raw_os_error(),
            Self::System(error) => error.raw_os_error(),
        }
    }
}

/// Serves until told to stop by SIGTERM or SIGINT. `sockets` are those of the service manager; `reload` reads the
/// configuration again, for SIGHUP.
///
/// # Errors
/// Returns an error when serving cannot begin.
pub async fn run(
    loaded: Loaded,
    sockets: Sockets,
    reload: impl Fn() -> Result<Loaded, Errors> + Send + Sync + 'static,
) -> Result<(), Error> {
    let Loaded { config, warnings, .. } = loaded;
    let level = telemetry::start(&config.log).map_err(Error::configuration)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let manager = Arc::new(Manager::of_environment());
    let mut signals = Signals::listen()?;
    let keys = read_keys(&config)?;
    let tls = read_tls(&config)?.map(Arc::new);
    http::raise_file_limit();
    let activated = !sockets.activated.is_empty();
    let listeners = listen::open(&config.server, sockets, &manager).await?;
    listen::announce(listeners.addresses(), keys.is_empty());
    let idle_limit = config.server.exit_when_idle.filter(|_| activated);
    if idle_limit.is_none() && config.server.exit_when_idle.is_some() {
        tracing::warn!("server.exit_when_idle has no effect: the sockets are not the service manager's");
    }

    let shutdown = Shutdown::default();
    let models = Registry::new(&config.served(), config.memory_budget);
    for (id, model) in &*models.models() {
        let backend = model.kind.as_str();
        if model.is_lazy() {
            tracing::info!(model = &**id, backend, "{id} is loaded when it is asked for, backend {backend}");
        } else {
            tracing::info!(model = &**id, backend, "loading {id}, backend {backend}");
        }
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
    let mut state = State::new(manager, api.clone(), models.clone(), connections.clone(), idle_limit);
    let mut serving = pin!(http::serve(listeners, &config.server, tls.clone(), service, shutdown.clone()));
    let mut loading = pin!(models.load());
    let reload = Reload { read: reload, started: config.clone(), api, models: models.clone(), tls, level };
    let mut reloading = pin!(OptionFuture::from(None));
    let mut wanted = false;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);

    loop {
        // In this order: a model that needs no loading is ready before the first connection is accepted.
        tokio::select! {
            biased;
            outcome = &mut loading, if !state.has_loaded() => {
                outcome.map_err(if models.may_load_later() { Error::Later } else { Error::Configuration })?;
                state.loaded();
                Watchdog::start(state.signs(shutdown.draining.clone()))?;
                tracing::info!("ready");
            }
            asked = signals.next() => match asked {
                Asked::Reload => wanted = true,
                Asked::Stop => break,
            },
            Some(outcome) = &mut reloading => {
                reloading.set(None.into());
                state.reloaded(reload.commit(outcome));
            }
            _ = tick.tick() => if state.tick() {
                tracing::info!("idle, ending until the next connection");
                break;
            },
            () = &mut serving => return Ok(()),
        }
        if wanted && state.may_reload() {
            wanted = false;
            state.reloads();
            reloading.set(Some(reload.prepare(state.next_models())).into());
        }
    }
    let drain = config.server.drain_timeout;
    tracing::info!(connections = connections.count(), "stopping; running requests have {drain} to finish");
    state.stopping(drain.0 + END);
    shutdown.draining.cancel();
    let mut deadline = pin!(tokio::time::sleep(drain.0));
    loop {
        tokio::select! {
            () = &mut serving => break,
            () = &mut deadline => {
                tracing::warn!(connections = connections.count(), "ending what still runs");
                shutdown.cut.cancel();
                tokio::select! {
                    () = &mut serving => {}
                    () = signals.stop() => {}
                }
                break;
            }
            () = signals.stop() => {
                tracing::warn!("told to stop again: stopping at once");
                break;
            }
            _ = tick.tick() => {
                state.tick();
            }
        }
    }
    tracing::info!("stopped");
    Ok(())
}

fn read_keys(config: &Config) -> Result<KeyRing, Error> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    KeyRing::load(&config.auth, credentials.as_deref()).map_err(Error::configuration)
}

fn read_tls(config: &Config) -> Result<Option<Reloadable>, Error> {
    match (&config.server.tls_certificate, &config.server.tls_key) {
        (Some(certificate), Some(key)) => {
            Reloadable::load(certificate, key).map(Some).map_err(Error::configuration)
        }
        _ => Ok(None),
    }
}
