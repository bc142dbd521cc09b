//! The proxy backend: requests go to other OpenAI-compatible servers as they came, and answers come back the same way.
//!
//! [`fleet`] chooses an upstream ([`choice`], [`circuit`]) and tries a second one; [`upstream`] is one of them, with its
//! connections ([`pool`], [`connection`], [`dial`]); [`answer`] is the body on its way back; [`health`] asks how they are.

mod answer;
mod base_url;
mod choice;
mod circuit;
mod config;
mod connection;
mod dial;
mod fleet;
mod head;
mod health;
mod http2;
mod metrics;
mod pool;
mod socket;
mod tls;
mod upstream;
mod waking;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use futures_util::future::{BoxFuture, FutureExt};
use indexmap::IndexMap;

pub use config::{Affinity, Config, Upstream};

use self::fleet::Fleet;
use super::{
    Backend, ModelCard, Readiness, Tokenizer,
    metric::Metric,
    passthrough::{Forward, Forwarded, Passthrough, Unanswered},
};
use crate::generation::Error;

/// One model, or all that its upstreams list.
pub struct Proxy {
    config: Config,
    /// What is told of the one model.
    card: ModelCard,
    /// Upstreams of the configuration before this one: those that are the same are taken over.
    before: Vec<Arc<upstream::Upstream>>,
    in_use: Arc<ArcSwapOption<InUse>>,
}

/// What there is once it is loaded.
struct InUse {
    health_interval: Duration,
    discover_interval: Option<Duration>,
    fleet: Fleet,
}

impl InUse {
    fn new(config: &Config, before: &[Arc<upstream::Upstream>], created: u64) -> Result<Self, String> {
        Ok(Self {
            health_interval: config.health_interval.0,
            discover_interval: config.discover_interval.map(|interval| interval.0),
            fleet: Fleet::new(config, before, created)?,
        })
    }
}

impl Proxy {
    #[must_use]
    pub fn new(config: &super::Config, created: u64) -> Self {
        let card = ModelCard {
            created,
            owner: "upstream".to_owned(),
            fingerprint: String::new(),
            context_length: 0,
        };
        Self { config: config.proxy.clone(), card, before: Vec::new(), in_use: Arc::default() }
    }
}

impl Backend for Proxy {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn readiness(&self) -> Readiness {
        let why = match self.in_use.load().as_deref() {
            None => "its upstream servers have not been looked at yet",
            Some(in_use) if !in_use.fleet.is_well() => "none of its upstream servers is well",
            Some(in_use) if in_use.fleet.discovered().is_some_and(|models| models.is_empty()) => {
                "none of its upstream servers has listed a model"
            }
            Some(_) => return Readiness::Ready,
        };
        Readiness::NotReady(why.to_owned())
    }

    fn load(&self) -> BoxFuture<'_, Result<(), String>> {
        async move {
            let in_use = InUse::new(&self.config, &self.before, self.card.created)?;
            health::check_all(&in_use.fleet, true).await;
            self.in_use.store(Some(Arc::new(in_use)));
            tokio::spawn(health::watch(Arc::downgrade(&self.in_use)));
            Ok(())
        }
        .boxed()
    }

    fn metrics(&self) -> Vec<Metric> {
        let in_use = self.in_use.load();
        let upstreams = in_use.iter().flat_map(|in_use| &in_use.fleet.upstreams);
        upstreams.flat_map(|upstream| metrics::metrics(upstream)).collect()
    }

    fn warm_up(&self) -> BoxFuture<'_, Result<(), String>> {
        // Other servers compute, and their first tokens cost money there.
        Box::pin(std::future::ready(Ok(())))
    }

    fn reads_files_again(&self) -> bool {
        // Keys, which may be credentials that it does not even name, and certificates.
        true
    }

    fn successor(&self, config: &super::Config, _: u64) -> Option<Box<dyn Backend>> {
        let before = self.in_use.load().as_ref().map(|in_use| in_use.fleet.upstreams.clone());
        // It has been served since then, whatever has changed behind it.
        let same = Self::new(config, self.card.created);
        Some(Box::new(Self { before: before.unwrap_or_default(), ..same }))
    }

    fn tokenizer(&self) -> Option<&dyn Tokenizer> {
        None
    }

    fn passthrough(&self) -> Option<&dyn Passthrough> {
        Some(self)
    }
}

impl Passthrough for Proxy {
    fn forward(&self, request: Forward) -> BoxFuture<'_, Result<Forwarded, Unanswered>> {
        async move {
            match self.in_use.load_full() {
                Some(in_use) => in_use.fleet.forward(request).await,
                None => Err(Error::Unavailable("The model is not ready yet.".to_owned()).into()),
            }
        }
        .boxed()
    }

    fn discovered(&self) -> Option<IndexMap<String, ModelCard>> {
        match self.in_use.load().as_deref() {
            Some(in_use) => in_use.fleet.discovered(),
            None => self.config.discover_interval.map(|_| IndexMap::new()),
        }
    }

    fn lists(&self, id: &str) -> bool {
        self.in_use.load().as_deref().is_some_and(|in_use| in_use.fleet.lists(id))
    }
}
