//! A connection's deadlines: one timer, moved only when a deadline comes nearer or the timer fires too early.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    Config,
    connections::{REST, SLOW},
    phase::{Order, Phase, State},
};

/// How long a connection that was accepted just before the drain has for its first byte: its peer does not know.
const FRESH: Duration = Duration::from_secs(1);
/// How long a peer may take to see that the connection ends, when nothing runs any more.
const CLOSING: Duration = Duration::from_secs(1);
/// How long a peer that was answered early may pause in what it still sends, and how long it may go on.
const LINGER_PAUSE: Duration = Duration::from_secs(2);
const LINGER: Duration = Duration::from_secs(30);
/// Where the timer waits while there is no deadline.
const FAR: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) first_byte: Duration,
    pub(super) header: Duration,
    pub(super) body: Duration,
    pub(super) idle: Duration,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Self {
            first_byte: config.first_byte_timeout.0,
            header: config.header_timeout.0,
            body: config.body_timeout.0,
            idle: config.idle_timeout.0,
        }
    }
}

/// How supervision of a future ended.
#[derive(Debug)]
pub(super) enum End<T> {
    Done(T),
    /// Closed by us, and why.
    Closed(&'static str),
}

pub(super) struct Clock {
    state: Arc<State>,
    limits: Limits,
    seen: Phase,
    since: Instant,
    closing: bool,
    linger_end: Option<Instant>,
}

impl Clock {
    pub(super) fn new(state: Arc<State>, limits: Limits) -> Self {
        let seen = state.phase();
        let since = Instant::now();
        state.publish(seen, since);
        Self { state, limits, seen, since, closing: false, linger_end: None }
    }

    /// A timer for `supervise`; it serves the connection's whole life.
    pub(super) fn timer(&self) -> Sleep {
        sleep_until(self.since + self.limits.first_byte)
    }

    /// Polls `work` until it ends, a deadline passes or an order ends it. `wind_up` asks the work to end by itself
    /// soon, and says whether it can.
    pub(super) fn poll<F: Future>(
        &mut self,
        cx: &mut Context<'_>,
        mut timer: Pin<&mut Sleep>,
        mut work: Pin<&mut F>,
        mut wind_up: impl FnMut(Pin<&mut F>) -> bool,
    ) -> Poll<End<F::Output>> {
        self.state.register(cx.waker());
        loop {
            // Work goes first: bytes of a request that are already here make the connection busy.
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(End::Done(output));
            }
            if self.state.ordered(Order::Cut) {
                return Poll::Ready(End::Closed("the drain is over"));
            }
            let end = if self.yields() {
                if !matches!(self.seen, Phase::Idle(_)) {
                    return Poll::Ready(End::Closed("its place is needed"));
                }
                "its place is needed"
            } else if self.state.ordered(Order::Drain) && !self.closing && !self.is_fresh() {
                "the server drains"
            } else {
                match (ready!(self.poll_deadline(cx, timer.as_mut())), self.closing) {
                    (Phase::FirstByte(_), _) => return Poll::Ready(End::Closed("nothing came in time")),
                    (Phase::Head(_), _) => return Poll::Ready(End::Closed("the head took too long")),
                    (Phase::Stalled(_), _) => return Poll::Ready(End::Closed("the peer does not read")),
                    (Phase::Lingering(_), _) => return Poll::Ready(End::Closed("the peer sends on and on")),
                    (_, true) => return Poll::Ready(End::Closed("the peer did not close in time")),
                    (_, false) => "idle for too long",
                }
            };
            self.closing = true;
            if !wind_up(work.as_mut()) {
                return Poll::Ready(End::Closed(end));
            }
        }
    }

    fn is_fresh(&self) -> bool {
        matches!(self.state.phase(), Phase::FirstByte(_))
    }

    /// Whether the connection rests and was asked for its place. Work may have come since it was asked.
    fn yields(&mut self) -> bool {
        if !self.state.ordered(Order::Yield) {
            return false;
        }
        self.state.withdraw(Order::Yield);
        self.look();
        let rested = self.since.elapsed();
        match self.seen {
            Phase::FirstByte(_) | Phase::Idle(_) => rested >= REST,
            Phase::Head(_) => rested >= SLOW,
            Phase::Lingering(_) => true,
            Phase::Busy | Phase::Stalled(_) | Phase::Closing(_) => false,
        }
    }

    /// Ready with the phase whose deadline has passed.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<Phase> {
        loop {
            let due = self.due();
            if let Some(due) = due
                && due < timer.deadline()
            {
                timer.as_mut().reset(due);
            }
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            match due {
                Some(due) if due <= now => return Poll::Ready(self.seen),
                Some(due) => timer.as_mut().reset(due),
                None => timer.as_mut().reset(now + FAR),
            }
        }
    }

    fn due(&mut self) -> Option<Instant> {
        self.look();
        let limit = match self.seen {
            Phase::Busy => return None,
            Phase::FirstByte(_) if self.state.ordered(Order::Drain) => self.limits.first_byte.min(FRESH),
            Phase::FirstByte(_) => self.limits.first_byte,
            Phase::Head(_) => self.limits.header,
            Phase::Idle(_) | Phase::Stalled(_) => self.limits.idle,
            Phase::Closing(_) => CLOSING,
            Phase::Lingering(_) => {
                let end = *self.linger_end.get_or_insert(self.since + LINGER);
                return Some(end.min(self.since + LINGER_PAUSE));
            }
        };
        Some(self.since + limit)
    }

    fn look(&mut self) {
        let mut phase = self.state.phase();
        if self.closing && matches!(phase, Phase::Idle(_) | Phase::FirstByte(_)) {
            // What is left of a response may wait for the peer's flow control, which shows as reads.
            phase = Phase::Closing(self.state.reads());
        }
        if phase != self.seen {
            let lingers_on = matches!((self.seen, phase), (Phase::Lingering(_), Phase::Lingering(_)));
            self.seen = phase;
            self.since = Instant::now();
            if !lingers_on {
                self.state.publish(phase, self.since);
            }
        }
    }
}
