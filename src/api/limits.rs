//! How much is let in: body sizes, requests at once, the waiting queue.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use poem::Request;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    App,
    auth::{Caller, Entry},
    error::{ApiError, Kind},
};
use crate::{
    backend::{Backend, Lease, gate::Gate},
    generation,
    units::ByteSize,
};

/// What is refused rather than served badly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Config {
    /// Size of a request's body; a larger one gets 413.
    #[garde(custom(holds_a_request))]
    pub max_body_size: ByteSize,
    /// Bodies of requests that are held in memory at one time, until they are answered or their stream begins; one
    /// that would go beyond gets 429.
    #[garde(custom(holds_a_request))]
    pub max_waiting_bodies: ByteSize,
    /// Requests that run at one time.
    #[garde(range(min = 1, max = 1_000_000))]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_concurrent_requests: u32,
    /// Requests that one API key may have running or waiting at one time. Unset: no limit of its own.
    #[garde(inner(range(min = 1)))]
    #[schemars(range(min = 1))]
    pub max_requests_per_key: Option<u32>,
    /// Requests that may wait for their turn; one more gets 429.
    #[garde(range(max = 1_000_000))]
    #[schemars(range(max = 1_000_000))]
    pub max_queued_requests: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "garde hands fields over like this")]
fn holds_a_request(size: &ByteSize, (): &()) -> garde::Result {
    if size.0 < 1024 {
        return Err(garde::Error::new("smaller than 1KiB, which holds no request"));
    }
    Ok(())
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_body_size: ByteSize::mib(32),
            max_waiting_bodies: ByteSize::mib(512),
            max_concurrent_requests: 1024,
            max_requests_per_key: None,
            max_queued_requests: 1024,
        }
    }
}

/// Requests at the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub running: usize,
    pub waiting: usize,
}

/// Counts who is in.
pub(crate) struct Admission {
    /// One for each request that runs or waits.
    places: Gate,
    /// One for each request that runs.
    turns: Gate,
    /// One for each KiB of bodies.
    bodies: Gate,
    config: ArcSwap<Config>,
    held: Mutex<HashMap<Arc<str>, u32>>,
}

impl Admission {
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        let [places, turns, bodies] = sizes(config).map(Gate::new);
        let config = ArcSwap::from_pointee(config.clone());
        Arc::new(Self { places, turns, bodies, config, held: Mutex::default() })
    }

    /// From now on these limits hold. Who is in stays in.
    pub(crate) fn set(&self, config: &Config) {
        for (gate, size) in [&self.places, &self.turns, &self.bodies].into_iter().zip(sizes(config)) {
            gate.resize(size);
        }
        self.config.store(Arc::new(config.clone()));
    }

    pub(crate) fn max_body_size(&self) -> usize {
        self.config.load().max_body_size.as_usize()
    }

    pub(crate) fn load(&self) -> Load {
        let running = self.turns.taken();
        Load { running, waiting: self.places.taken().saturating_sub(running) }
    }

    /// Takes a place among those that run or wait, or refuses at once.
    fn enter(self: &Arc<Self>, caller: &Caller) -> Result<Place, ApiError> {
        let place = self.places.permits().try_acquire_owned().map_err(|_| full())?;
        let key = match (self.config.load().max_requests_per_key, &caller.key) {
            (Some(limit), Some(key)) => Some(self.count(key, limit)?),
            _ => None,
        };
        Ok(Place { _place: place, _key: key })
    }

    /// Makes room for one more piece of a body that is being read.
    ///
    /// # Errors
    /// When all bodies in memory are as many as there may be.
    pub(crate) fn hold(&self, body: &mut HeldBody, bytes: usize) -> Result<(), ApiError> {
        body.bytes += bytes;
        let more =
            kib(body.bytes).saturating_sub(body.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).map_err(|_| full())?;
        let permit = self.bodies.permits().try_acquire_many_owned(more).map_err(|_| full())?;
        match &mut body.permit {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
    }

    fn count(self: &Arc<Self>, key: &Arc<str>, limit: u32) -> Result<KeyCount, ApiError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(Arc::clone(key)).or_insert(0);
        if *count >= limit {
            let message = format!("This API key already has {limit} requests at the server, its limit.");
            return Err(ApiError::new(Kind::RateLimited, message));
        }
        *count += 1;
        Ok(KeyCount { admission: Arc::clone(self), key: Arc::clone(key) })
    }
}

/// Of places, turns and bodies.
fn sizes(config: &Config) -> [usize; 3] {
    let running = config.max_concurrent_requests as usize;
    let bodies = kib(config.max_waiting_bodies.as_usize());
    [running + config.max_queued_requests as usize, running, bodies]
}

fn full() -> ApiError {
    let message = "The server has as many requests waiting as it takes. Please try again later.";
    ApiError::new(Kind::RateLimited, message)
}

fn kib(bytes: usize) -> usize {
    bytes.div_ceil(1024)
}

/// Room for a body in memory, given back when dropped.
#[derive(Default)]
pub(crate) struct HeldBody {
    permit: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

struct Place {
    _place: OwnedSemaphorePermit,
    _key: Option<KeyCount>,
}

/// One request of one key; dropping it gives it back.
struct KeyCount {
    admission: Arc<Admission>,
    key: Arc<str>,
}

impl Drop for KeyCount {
    fn drop(&mut self) {
        let mut held = self.admission.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.key);
            }
        }
    }
}

/// A caller who may ask for a place in the queue once the request's body has been read: a slow body takes none. There
/// was one when the body began, so that a full server does not read what it would refuse.
pub(crate) struct Admitted {
    caller: Caller,
    admission: Arc<Admission>,
}

impl Admitted {
    /// Takes a place, and waits for the `lease` of a model and for its turn to run. Dropping the future leaves the queue.
    ///
    /// # Errors
    /// When there is no place, or the model cannot be used.
    pub(crate) async fn turn(
        self,
        lease: impl Future<Output = Result<Lease, generation::Error>>,
    ) -> Result<Slot, ApiError> {
        let place = self.admission.enter(&self.caller)?;
        // The model first: who waits until one is loaded keeps nobody from running on another.
        let lease = lease.await.map_err(ApiError::from)?;
        let turn = self.admission.turns.permits();
        let turn = turn.acquire_owned().await.map_err(|_| ApiError::internal())?;
        Ok(Slot { lease, _turn: turn, _place: place })
    }
}

/// The right to run, until dropped.
pub(crate) struct Slot {
    lease: Lease,
    _turn: OwnedSemaphorePermit,
    _place: Place,
}

impl Slot {
    /// What it runs on.
    pub(crate) fn backend(&self) -> &dyn Backend {
        self.lease.backend()
    }
}

impl Entry for Admitted {
    fn enter(request: &Request, caller: Caller) -> Result<Self, ApiError> {
        let admission = Arc::clone(&App::of(request)?.admission);
        if admission.places.permits().available_permits() == 0 {
            return Err(full());
        }
        Ok(Self { caller, admission })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{self, Model, echo};

    #[tokio::test]
    async fn who_is_in_is_counted_over_a_change_of_limits() {
        let config = Config { max_concurrent_requests: 1, max_queued_requests: 0, ..Config::default() };
        let admission = Admission::new(&config);
        let admitted = || Admitted { caller: Caller { key: None }, admission: Arc::clone(&admission) };
        let echo = Box::new(echo::Echo::new("m", &backend::Config::default(), 0));
        let model = Arc::new(Model::loaded("m", backend::Kind::Echo, echo));
        let first = admitted().turn(model.lease()).await.unwrap();
        assert!(admitted().turn(model.lease()).await.is_err());
        admission.set(&Config { max_concurrent_requests: 2, ..config });
        let second = admitted().turn(model.lease()).await.unwrap();
        assert!(admitted().turn(model.lease()).await.is_err());
        assert_eq!(admission.load(), Load { running: 2, waiting: 0 });
        drop((first, second));
        assert_eq!(admission.load(), Load { running: 0, waiting: 0 });
    }
}
