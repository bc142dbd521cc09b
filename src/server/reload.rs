//! A new configuration for a daemon that runs: all of it is read and loaded first, and then put into effect at once.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Error, read_keys, read_tls};
use crate::{
    api::{Api, auth::KeyRing},
    backend::Registry,
    config::{Config, Errors, Loaded},
    http::{self, tls::Reloadable},
    telemetry::{self, Level},
};

/// What a reload needs, and what it changes.
pub(super) struct Reload<F> {
    pub(super) read: F,
    /// The configuration that the daemon began with.
    pub(super) started: Config,
    pub(super) api: Api,
    pub(super) models: Registry,
    pub(super) tls: Option<Arc<Reloadable>>,
    pub(super) level: Level,
}

/// A configuration that can be put into effect.
pub(super) struct Prepared {
    config: Config,
    keys: KeyRing,
    tls: Option<Reloadable>,
    models: Registry,
}

impl<F: Fn() -> Result<Loaded, Errors>> Reload<F> {
    /// Reads everything, and loads the models that are new or have changed beside those that serve. `loading` holds
    /// them meanwhile, for whoever wants to see how far they are.
    ///
    /// # Errors
    /// Why it cannot be put into effect.
    pub(super) async fn prepare(&self, loading: Arc<Mutex<Option<Registry>>>) -> Result<Prepared, String> {
        let wrong = |errors: Errors| format!("the configuration is wrong: {errors}");
        let Loaded { config, warnings, .. } = (self.read)().map_err(wrong)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let told = |error: Error| error.to_string();
        let keys = read_keys(&config).map_err(told)?;
        if keys.is_empty() && self.api.needs_key() {
            return Err("no API key is left, which would let everybody in; restart to mean that".to_owned());
        }
        let tls = read_tls(&config).map_err(told)?;
        let models = self.models.with(&config.served(), config.memory_budget);
        *loading.lock().unwrap_or_else(PoisonError::into_inner) = Some(models.clone());
        models.load().await?;
        Ok(Prepared { config, keys, tls, models })
    }

    /// Puts it into effect. What is wrong with it leaves everything as it was, and is told.
    pub(super) fn commit(&self, prepared: Result<Prepared, String>) -> Result<(), String> {
        let committed = prepared.and_then(|Prepared { config, keys, tls, models }| {
            self.level.set(&config.log.level).map_err(|error| error.to_string())?;
            let count = keys.len();
            self.api.set_keys(keys);
            self.api.set_limits(&config.limits);
            if let (Some(tls), Some(new)) = (&self.tls, &tls) {
                tls.adopt(new);
            }
            self.models.adopt(&models);
            let models = models.models().len();
            tracing::info!(
                keys = count,
                tls = self.tls.is_some(),
                models,
                "reloaded; models: {models}, API keys: {count}"
            );
            let late = needs_restart(&self.started, config);
            if !late.is_empty() {
                tracing::warn!("takes effect after a restart: {}", late.join(", "));
            }
            Ok(())
        });
        committed.inspect_err(|error| tracing::error!("not reloaded: {error}"))
    }
}

/// What of a new configuration a running daemon cannot take up.
fn needs_restart(started: &Config, new: Config) -> Vec<&'static str> {
    let Config {
        api_prefix,
        model_id: _,
        model: _,
        models: _,
        memory_budget: _,
        server,
        auth: _,
        limits: _,
        cors,
        log,
    } = new;
    let both_tls = started.server.tls_certificate.is_some() && server.tls_certificate.is_some();
    let server = if both_tls {
        let http::Config { tls_certificate, tls_key, .. } = started.server.clone();
        http::Config { tls_certificate, tls_key, ..server }
    } else {
        server
    };
    let log = telemetry::Config { level: started.log.level.clone(), ..log };
    let changed = [
        ("api_prefix", api_prefix != started.api_prefix),
        ("server", server != started.server),
        ("cors", cors != started.cors),
        ("log", log != started.log),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
}
