//! What every object of one answer starts with, and the ids that name answers and requests.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use crate::units;

/// Equal in every chunk of one answer.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) id: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) model: Arc<str>,
    pub(crate) fingerprint: String,
}

impl Head {
    pub(crate) fn new(prefix: &str, model: &str, fingerprint: &str) -> Self {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        Self { id: unique_id(prefix), created, model: model.into(), fingerprint: fingerprint.to_owned() }
    }
}

/// `prefix` and 32 hexadecimal digits that no other call and, as far as chance goes, no other process returns.
pub(crate) fn unique_id(prefix: &str) -> String {
    // A keyed hash of a counter: as unique as random numbers, without a system call for each.
    static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let n = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut id = String::with_capacity(prefix.len() + 32);
    id.push_str(prefix);
    for keys in &*KEYS {
        id.push_str(str::from_utf8(&units::hex(keys.hash_one(n))).unwrap_or_default());
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_do_not_repeat() {
        let ids: std::collections::HashSet<String> = (0..10_000).map(|_| unique_id("req_")).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| id.len() == 36));
    }
}
