//! Whether an upstream may get a request now: its health check, its recent failures, its limit. Pure; time is handed in.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row after which an upstream is left alone for a while.
const MOST_FAILURES: u32 = 3;
/// An upstream that says it is busy is believed for this long at most.
const LONGEST_BUSY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Circuit {
    /// Requests that it has now.
    outstanding: u32,
    limit: u32,
    /// What its health check said last.
    healthy: bool,
    failures: u32,
    /// Gets no request before this.
    paused_until: Option<Instant>,
    /// The one request is under way that shows whether it is well again.
    on_trial: bool,
}

/// Of a circuit breaker, as such things are called; it gets requests while it is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Closed,
    /// It failed several times in a row.
    Open,
    /// One request may show that it is well again.
    HalfOpen,
}

impl State {
    pub(super) const ALL: [(Self, &str); 3] =
        [(Self::Closed, "closed"), (Self::Open, "open"), (Self::HalfOpen, "half_open")];
}

/// Why it gets no request now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// Its health check or its last requests failed.
    Unwell,
    /// It has as many requests as it may have.
    Full,
    /// It says that it is busy. If all are, one of them may say so itself, and for how long.
    Busy,
}

impl Circuit {
    /// Without a limit, `limit` is `u32::MAX`.
    pub(super) fn new(limit: u32) -> Self {
        Self { outstanding: 0, limit, healthy: true, failures: 0, paused_until: None, on_trial: false }
    }

    pub(super) fn outstanding(&self) -> u32 {
        self.outstanding
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.healthy
    }

    fn is_open(&self) -> bool {
        self.failures >= MOST_FAILURES
    }

    pub(super) fn state(&self, now: Instant) -> State {
        match () {
            () if !self.is_open() => State::Closed,
            () if !self.on_trial && self.paused_until.is_some_and(|until| now < until) => State::Open,
            () => State::HalfOpen,
        }
    }

    pub(super) fn check(&self, now: Instant) -> Result<(), Closed> {
        if !self.healthy || (self.is_open() && self.on_trial) {
            return Err(Closed::Unwell);
        }
        let paused = self.paused_until.is_some_and(|until| now < until);
        match () {
            () if paused && self.is_open() => Err(Closed::Unwell),
            () if self.outstanding >= self.limit => Err(Closed::Full),
            () if paused => Err(Closed::Busy),
            () => Ok(()),
        }
    }

    /// Takes a place, at a busy one too. Each call that succeeds wants one of [`Circuit::end`], with what it returned:
    /// whether the request is on trial.
    pub(super) fn begin(&mut self, now: Instant) -> Result<bool, Closed> {
        match self.check(now) {
            Ok(()) | Err(Closed::Busy) => {}
            Err(closed) => return Err(closed),
        }
        self.outstanding += 1;
        self.on_trial |= self.is_open();
        Ok(self.is_open())
    }

    pub(super) fn end(&mut self, on_trial: bool) {
        self.outstanding -= 1;
        if on_trial {
            // If it was given up it said nothing, and the next one is on trial.
            self.on_trial = false;
        }
    }

    /// An answer has begun, so that there may be requests again. If it was left alone, one more failure is enough for
    /// that to happen again: answers that begin may all break off.
    pub(super) fn answered(&mut self) {
        self.failures = self.failures.min(MOST_FAILURES - 1);
        self.on_trial = false;
        self.paused_until = None;
    }

    /// An answer came whole. One that began before the failures says nothing against them.
    pub(super) fn succeeded(&mut self) {
        if !self.is_open() {
            self.failures = 0;
        }
    }

    /// Whether this was the failure too many.
    pub(super) fn failed(&mut self, now: Instant, pause: Duration) -> bool {
        let was_open = self.is_open();
        self.failures = self.failures.saturating_add(1);
        self.on_trial = false;
        if self.is_open() {
            self.paused_until = Some(now + pause);
        }
        self.is_open() && !was_open
    }

    /// It asks to be left alone for so long.
    pub(super) fn busy(&mut self, now: Instant, wait: Duration) {
        self.paused_until = Some(now + wait.min(LONGEST_BUSY));
        self.on_trial = false;
    }

    /// What a health check found. Whether that is news.
    pub(super) fn checked(&mut self, well: bool, now: Instant) -> bool {
        let news = self.healthy != well;
        self.healthy = well;
        if well && self.is_open() {
            // It may show at once that it is well.
            self.paused_until = Some(now);
        }
        news
    }

    /// Whether requests can be answered, now or as soon as others end.
    pub(super) fn is_well(&self, now: Instant) -> bool {
        !matches!(self.check(now), Err(Closed::Unwell)) || (self.healthy && self.on_trial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(5);

    fn failed_thrice(now: Instant) -> Circuit {
        let mut circuit = Circuit::new(u32::MAX);
        for last in [false, false, true] {
            assert_eq!(circuit.begin(now), Ok(false));
            assert_eq!(circuit.failed(now, PAUSE), last);
            circuit.end(false);
        }
        circuit
    }

    #[test]
    fn three_failures_close_it_and_one_trial_opens_it() {
        let now = Instant::now();
        let mut circuit = failed_thrice(now);
        assert_eq!(circuit.check(now), Err(Closed::Unwell));
        let later = now + PAUSE;
        assert_eq!(circuit.begin(later), Ok(true));
        assert_eq!(circuit.begin(later), Err(Closed::Unwell), "one on trial at a time");
        assert_eq!(circuit.state(later), State::HalfOpen);
        circuit.answered();
        assert_eq!(circuit.state(later), State::Closed);
        assert_eq!(circuit.begin(later), Ok(false));
    }

    #[test]
    fn answers_that_begin_and_break_off_close_it_too() {
        let now = Instant::now();
        let mut circuit = Circuit::new(u32::MAX);
        for last in [false, false, true] {
            circuit.answered();
            assert_eq!(circuit.failed(now, PAUSE), last);
        }
        assert_eq!(circuit.state(now), State::Open);
        circuit.succeeded();
        assert_eq!(circuit.state(now), State::Open, "an older answer has ended");
        let later = now + PAUSE;
        circuit.begin(later).unwrap();
        circuit.answered();
        assert!(circuit.failed(later, PAUSE), "once more is enough");
    }

    #[test]
    fn a_failed_trial_is_followed_by_another_pause_and_one_given_up_by_another_trial() {
        let now = Instant::now();
        let mut circuit = failed_thrice(now);
        let later = now + PAUSE;
        circuit.begin(later).unwrap();
        assert!(!circuit.failed(later, PAUSE), "no news");
        circuit.end(true);
        assert_eq!(circuit.check(later), Err(Closed::Unwell));
        let later = later + PAUSE;
        circuit.outstanding += 1;
        circuit.begin(later).unwrap();
        circuit.end(false);
        assert_eq!(circuit.begin(later), Err(Closed::Unwell), "an older request has ended");
        circuit.end(true);
        assert_eq!(circuit.begin(later), Ok(true));
    }

    #[test]
    fn a_success_between_failures_starts_the_count_again() {
        let now = Instant::now();
        let mut circuit = Circuit::new(u32::MAX);
        for _ in 0..5 {
            circuit.failed(now, PAUSE);
            circuit.failed(now, PAUSE);
            circuit.answered();
            circuit.succeeded();
        }
        assert_eq!(circuit.check(now), Ok(()));
    }

    #[test]
    fn health_checks_close_it_and_allow_a_trial_before_the_pause_is_over() {
        let now = Instant::now();
        let mut circuit = failed_thrice(now);
        assert!(circuit.checked(false, now));
        assert_eq!(circuit.check(now + PAUSE), Err(Closed::Unwell));
        assert!(circuit.checked(true, now));
        assert!(!circuit.checked(true, now));
        assert_eq!(circuit.begin(now), Ok(true));
        assert!(circuit.is_well(now), "its trial runs");
        assert_eq!(circuit.begin(now), Err(Closed::Unwell));
    }

    #[test]
    fn a_full_one_is_left_out_and_a_busy_one_is_the_last_resort() {
        let now = Instant::now();
        let mut circuit = Circuit::new(1);
        circuit.begin(now).unwrap();
        assert_eq!(circuit.begin(now), Err(Closed::Full));
        circuit.end(false);
        circuit.busy(now, Duration::from_secs(3600));
        assert_eq!(circuit.check(now), Err(Closed::Busy));
        assert!(circuit.is_well(now));
        assert_eq!(circuit.begin(now), Ok(false));
        circuit.end(false);
        assert_eq!(circuit.check(now + LONGEST_BUSY), Ok(()));
    }
}
