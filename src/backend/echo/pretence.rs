//! What echo plays for tests of those who wait for a model or watch over one: a load that takes its time, a hang.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::backend::{Heartbeat, Readiness};

pub(super) struct Pretence {
    load: Duration,
    loading_since: OnceLock<Instant>,
    stall_after: Option<u32>,
    requests: AtomicU32,
}

impl Pretence {
    pub(super) fn new(config: &super::Config) -> Self {
        Self {
            load: Duration::from_millis(config.load_delay_ms),
            loading_since: OnceLock::new(),
            stall_after: config.stall_after,
            requests: AtomicU32::new(0),
        }
    }

    pub(super) fn readiness(&self) -> Readiness {
        let spent = self.loading_since.get().map_or(Duration::ZERO, Instant::elapsed);
        if spent >= self.load {
            return Readiness::Ready;
        }
        let percent = 100 * spent.as_millis() / self.load.as_millis().max(1);
        Readiness::NotReady(format!("loading {percent} %"))
    }

    pub(super) async fn load(&self) {
        self.loading_since.get_or_init(Instant::now);
        // Even a sleep of nothing would wait for the clock's next tick.
        if !self.load.is_zero() {
            tokio::time::sleep(self.load).await;
        }
    }

    /// Takes one more request; `false` if it hangs.
    pub(super) fn goes_on(&self) -> bool {
        let requests = self.requests.fetch_add(1, Relaxed).saturating_add(1);
        !self.hangs(requests)
    }

    pub(super) fn heartbeat(&self) -> Heartbeat {
        let requests = self.requests.load(Relaxed);
        let steps = self.stall_after.map_or(requests, |after| requests.min(after));
        Heartbeat { steps: steps.into(), busy: self.hangs(requests) }
    }

    fn hangs(&self, requests: u32) -> bool {
        self.stall_after.is_some_and(|after| requests > after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_hangs_after_as_many_requests_as_it_was_told() {
        let pretence = Pretence::new(&super::super::Config { stall_after: Some(2), ..Default::default() });
        assert!(pretence.goes_on() && pretence.goes_on());
        assert_eq!(pretence.heartbeat(), Heartbeat { steps: 2, busy: false });
        assert!(!pretence.goes_on());
        let hung = Heartbeat { steps: 2, busy: true };
        assert_eq!(pretence.heartbeat(), hung);
        assert!(!pretence.goes_on());
        assert_eq!(pretence.heartbeat(), hung);
    }
}
