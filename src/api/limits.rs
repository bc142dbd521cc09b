//! How much is let in: body sizes, requests at once, the waiting queue.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use poem::Request;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    App,
    auth::{Caller, Entry},
    error::{ApiError, Kind},
};
use crate::units::ByteSize;

/// What is refused rather than served badly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct Config {
    /// Size of a request's body; a larger one gets 413.
    pub max_body_size: ByteSize,
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

impl Default for Config {
    fn default() -> Self {
        Self {
            max_body_size: ByteSize::mib(32),
            max_concurrent_requests: 1024,
            max_requests_per_key: None,
            max_queued_requests: 1024,
        }
    }
}

/// Counts who is in.
pub(crate) struct Admission {
    /// One for each request that runs or waits.
    places: Arc<Semaphore>,
    /// One for each request that runs.
    turns: Arc<Semaphore>,
    per_key: Option<u32>,
    held: Mutex<HashMap<Arc<str>, u32>>,
}

impl Admission {
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        let running = config.max_concurrent_requests as usize;
        Arc::new(Self {
            places: Arc::new(Semaphore::new(running + config.max_queued_requests as usize)),
            turns: Arc::new(Semaphore::new(running)),
            per_key: config.max_requests_per_key,
            held: Mutex::default(),
        })
    }

    /// Takes a place among those that run or wait, or refuses at once.
    fn enter(self: &Arc<Self>, caller: &Caller) -> Result<Place, ApiError> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let message = "The server has as many requests waiting as it takes. Please try again later.";
            return Err(ApiError::new(Kind::RateLimited, message));
        };
        let key = match (self.per_key, &caller.key) {
            (Some(limit), Some(key)) => Some(self.count(key, limit)?),
            _ => None,
        };
        Ok(Place { _place: place, _key: key })
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

/// A caller with a place in the queue, taken before the body was read so that bodies in memory are bounded too.
pub(crate) struct Admitted {
    place: Place,
    admission: Arc<Admission>,
}

impl Admitted {
    /// Waits for its turn to run. Dropping the future leaves the queue.
    pub(crate) async fn turn(self) -> Result<Slot, ApiError> {
        let turn =
            Arc::clone(&self.admission.turns).acquire_owned().await.map_err(|_| ApiError::internal())?;
        Ok(Slot { _turn: turn, _place: self.place })
    }
}

/// The right to run, until dropped.
pub(crate) struct Slot {
    _turn: OwnedSemaphorePermit,
    _place: Place,
}

impl Entry for Admitted {
    fn enter(request: &Request, caller: Caller) -> Result<Self, ApiError> {
        let admission = Arc::clone(&App::of(request)?.admission);
        Ok(Self { place: admission.enter(&caller)?, admission })
    }
}
