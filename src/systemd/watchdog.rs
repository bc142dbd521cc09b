//! The watchdog: a thread of its own that looks whether everything goes on, and says so as long as it does.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use sd_notify::NotifyState;
use tokio::runtime::Handle;

/// A sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sign {
    /// Whose: "the accept loop".
    pub of: String,
    /// Changes with each step.
    pub count: u64,
    /// There is something to do. It may stand still while there is nothing.
    pub busy: bool,
}

/// What was seen of all signs, and when each of them moved last.
#[derive(Debug)]
pub struct Watchdog {
    limit: Duration,
    seen: HashMap<String, (u64, Instant)>,
}

impl Watchdog {
    /// What is busy may stand still for less than `limit`.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { limit, seen: HashMap::new() }
    }

    /// Whose signs have stood still for too long, at `now`.
    pub fn look(&mut self, signs: Vec<Sign>, now: Instant) -> Vec<String> {
        let mut stalled = Vec::new();
        // Models come and go with reloads.
        self.seen.retain(|of, _| signs.iter().any(|sign| sign.of == *of));
        for Sign { of, count, busy } in signs {
            match self.seen.get(&of) {
                Some((before, since)) if busy && *before == count => {
                    if now.duration_since(*since) >= self.limit {
                        stalled.push(of);
                    }
                }
                _ => _ = self.seen.insert(of, (count, now)),
            }
        }
        stalled
    }

    /// Watches on a thread of its own, if the service manager asks for it (`WatchdogSec=`), the runtime of the calling
    /// task and what `signs` tells. What stands still for as long as the service manager's interval is told to the log
    /// and to the service manager, which then ends the process; and so does it when this thread itself falls silent.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn start(signs: impl Fn() -> Vec<Sign> + Send + 'static) -> io::Result<()> {
        let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
            return Ok(());
        };
        let runtime = Handle::current();
        let scheduled = Arc::new(AtomicU64::new(0));
        thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            let mut this = Self::new(limit);
            loop {
                let beat = Arc::clone(&scheduled);
                runtime.spawn(async move { beat.fetch_add(1, Relaxed) });
                thread::sleep(limit / 4);
                let mut signs = signs();
                let count = scheduled.load(Relaxed);
                signs.push(Sign { of: "the runtime".to_owned(), count, busy: true });
                let stalled = this.look(signs, Instant::now());
                if !stalled.is_empty() {
                    let stalled = stalled.join(", ");
                    tracing::error!(stalled, "no progress for {limit:?}, asking to be restarted: {stalled}");
                    _ = sd_notify::notify(&[NotifyState::WatchdogTrigger]);
                    return;
                }
                // Were it not to arrive, the service manager would act, as it should.
                _ = sd_notify::notify(&[NotifyState::Watchdog]);
            }
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn sign(of: &str, count: u64, busy: bool) -> Sign {
        Sign { of: of.to_owned(), count, busy }
    }

    #[test]
    fn what_is_busy_and_does_not_move_is_stalled_after_the_limit() {
        let mut watchdog = Watchdog::new(LIMIT);
        let start = Instant::now();
        let mut look = |seconds, count, busy| {
            watchdog.look(vec![sign("a", count, busy)], start + Duration::from_secs(seconds))
        };
        assert!(look(0, 1, true).is_empty());
        assert!(look(9, 1, true).is_empty());
        assert!(look(11, 2, true).is_empty(), "it moved");
        assert!(look(20, 2, true).is_empty());
        assert_eq!(look(21, 2, true), ["a"]);
    }

    #[test]
    fn what_is_idle_may_stand_still_and_its_time_counts_from_the_first_work() {
        let mut watchdog = Watchdog::new(LIMIT);
        let start = Instant::now();
        for seconds in [0, 50, 100] {
            let at = start + Duration::from_secs(seconds);
            assert!(watchdog.look(vec![sign("a", 7, false)], at).is_empty());
        }
        let look = |watchdog: &mut Watchdog, seconds| {
            watchdog.look(vec![sign("a", 7, true)], start + Duration::from_secs(seconds))
        };
        assert!(look(&mut watchdog, 109).is_empty());
        assert_eq!(look(&mut watchdog, 110), ["a"]);
    }

    #[test]
    fn what_went_away_is_forgotten() {
        let mut watchdog = Watchdog::new(LIMIT);
        let start = Instant::now();
        watchdog.look(vec![sign("a", 1, true), sign("b", 1, true)], start);
        assert_eq!(watchdog.look(vec![sign("b", 2, true)], start + LIMIT), Vec::<String>::new());
        let back = vec![sign("a", 1, true), sign("b", 3, true)];
        assert!(watchdog.look(back, start + 2 * LIMIT).is_empty());
    }
}
