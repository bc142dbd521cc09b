//! What a connection is doing, as told by those who see it: the socket, the byte stream and the service.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::Waker,
    time::Duration,
};

use futures_util::task::AtomicWaker;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::body;

/// A write as small as this may be a ping's answer; a larger one carries a response.
const CONTROL_FRAMES: usize = 64;

/// The numbers tell one rest (head, stall …) from the next of its kind: the clock starts anew when they change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing has come yet.
    FirstByte(u32),
    /// A request's head has begun to arrive.
    Head(u32),
    /// Requests are running.
    Busy,
    /// The peer does not take what is written to it.
    Stalled(u32),
    /// Between requests.
    Idle(u32),
    /// Answered and closed for writing; what the peer still sends is discarded.
    Lingering(u32),
    /// Told to end when nothing runs, and nothing does.
    Closing(u32),
}

/// What somebody else wants of the connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    /// Close if at rest: somebody waits for the place.
    Yield = 1,
    /// Finish what runs and close.
    Drain = 2,
    /// Close now.
    Cut = 4,
}

/// A connection's state. The connection's own task is the only one that decides upon it; HTTP/2 streams (tasks of
/// their own) and the server only leave notes and wake that task.
#[derive(Debug)]
pub(super) struct State {
    /// Requests not answered whole, request bodies not read whole.
    running: AtomicU32,
    /// Grows whenever the connection begins to rest or a head begins to arrive.
    turn: AtomicU32,
    /// Grows with each read that brought something.
    reads: AtomicU32,
    /// Grows with each write that went on after a stall.
    resumed: AtomicU32,
    heard: AtomicBool,
    head: AtomicBool,
    http2: AtomicBool,
    stalled: AtomicBool,
    lingering: AtomicBool,
    unread: AtomicBool,
    unwanted: Mutex<Unwanted>,
    orders: AtomicU8,
    waker: AtomicWaker,
    /// When the server began; `rest` counts from here.
    base: Instant,
    rest: AtomicU64,
}

/// A body that was given up, kept until its request is answered: by then the rest of it may have come.
#[derive(Debug, Default)]
struct Unwanted {
    answered: bool,
    body: Option<Incoming>,
}

/// How a connection rests, as other tasks may see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Has sent nothing, ever.
    Silent(Duration),
    /// Between requests.
    Idle(Duration),
    /// Sends a head, or discards after an early answer.
    Slow(Duration),
}

impl State {
    pub(super) fn new(base: Instant) -> Self {
        Self {
            running: AtomicU32::new(0),
            turn: AtomicU32::new(0),
            reads: AtomicU32::new(0),
            resumed: AtomicU32::new(0),
            heard: AtomicBool::new(false),
            head: AtomicBool::new(false),
            http2: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            lingering: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            unwanted: Mutex::default(),
            orders: AtomicU8::new(0),
            waker: AtomicWaker::new(),
            base,
            rest: AtomicU64::new(0),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        if self.stalled.load(Relaxed) {
            Phase::Stalled(self.resumed.load(Relaxed))
        } else if self.lingering.load(Relaxed) {
            Phase::Lingering(self.reads.load(Relaxed))
        } else if self.is_running() {
            Phase::Busy
        } else if self.head.load(Relaxed) {
            Phase::Head(self.turn.load(Relaxed))
        } else if self.heard.load(Relaxed) {
            Phase::Idle(self.turn.load(Relaxed))
        } else {
            Phase::FirstByte(self.turn.load(Relaxed))
        }
    }

    pub(super) fn reads(&self) -> u32 {
        self.reads.load(Relaxed)
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.load(Relaxed) != 0
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2.load(Relaxed)
    }

    /// The TLS handshake is over: the wait for a first byte begins again.
    pub(super) fn shook_hands(&self) {
        self.turn.fetch_add(1, Relaxed);
    }

    pub(super) fn read_some(&self) {
        self.reads.fetch_add(1, Relaxed);
        if !self.is_http2() && !self.is_running() && !self.head.load(Relaxed) {
            self.heard.store(true, Relaxed);
            self.turn.fetch_add(1, Relaxed);
            self.head.store(true, Relaxed);
        }
    }

    /// The peer speaks HTTP/2. Its frames hide where a head begins, so from here on there is only running and rest.
    pub(super) fn speaks_http2(&self) {
        self.http2.store(true, Relaxed);
        self.heard.store(true, Relaxed);
        self.head.store(false, Relaxed);
        self.turn.fetch_add(1, Relaxed);
    }

    pub(super) fn wrote(&self, bytes: usize) {
        self.resume();
        if bytes > CONTROL_FRAMES && !self.is_running() {
            // The last of a response leaves after its body was dropped; rest begins when it has gone.
            self.turn.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn resume(&self) {
        if self.stalled.load(Relaxed) {
            self.resumed.fetch_add(1, Relaxed);
            self.stalled.store(false, Relaxed);
        }
    }

    pub(super) fn stall(&self) {
        self.stalled.store(true, Relaxed);
    }

    pub(super) fn linger(&self) {
        self.lingering.store(true, Relaxed);
    }

    /// Whether bytes may be on their way that nobody will read: part of a body, or of a head that was refused.
    pub(super) fn expects_more(&self) -> bool {
        self.unread.load(Relaxed) || self.head.load(Relaxed)
    }

    fn unwanted(&self) -> MutexGuard<'_, Unwanted> {
        self.unwanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An HTTP/1.1 request has a body.
    pub(super) fn body_begins(&self) {
        *self.unwanted() = Unwanted::default();
    }

    /// That body was given up before its end.
    pub(super) fn gave_up_body(&self, body: Option<Incoming>) {
        self.unread.store(true, Relaxed);
        let mut unwanted = self.unwanted();
        if !unwanted.answered {
            unwanted.body = body;
        }
    }

    /// The request with that body is answered. Whether the connection must end with the answer, because a part of
    /// the body that nobody reads is still on its way.
    pub(super) fn ends_with_answer(&self) -> bool {
        let mut unwanted = self.unwanted();
        unwanted.answered = true;
        if unwanted.body.take().is_some_and(body::is_here) {
            self.unread.store(false, Relaxed);
        }
        self.unread.load(Relaxed)
    }

    pub(super) fn order(&self, order: Order) {
        self.orders.fetch_or(order as u8, Relaxed);
        self.waker.wake();
    }

    pub(super) fn ordered(&self, order: Order) -> bool {
        self.orders.load(Relaxed) & order as u8 != 0
    }

    pub(super) fn withdraw(&self, order: Order) {
        self.orders.fetch_and(!(order as u8), Relaxed);
    }

    /// Call before reading what `order` and HTTP/2 streams leave, so that no note is missed.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Publishes how long the connection has rested.
    pub(super) fn publish(&self, phase: Phase, since: Instant) {
        let kind = match phase {
            Phase::FirstByte(_) => 1,
            Phase::Idle(_) => 2,
            Phase::Head(_) | Phase::Lingering(_) => 3,
            Phase::Busy | Phase::Stalled(_) | Phase::Closing(_) => 0,
        };
        let millis = u64::try_from(since.duration_since(self.base).as_millis()).unwrap_or(u64::MAX >> 2);
        self.rest.store(millis << 2 | kind, Relaxed);
    }

    pub(super) fn rest(&self, now: Instant) -> Option<Rest> {
        let rest = self.rest.load(Relaxed);
        let since = self.base + Duration::from_millis(rest >> 2);
        let age = now.saturating_duration_since(since);
        match rest & 3 {
            1 => Some(Rest::Silent(age)),
            2 => Some(Rest::Idle(age)),
            3 => Some(Rest::Slow(age)),
            _ => None,
        }
    }
}

/// A request that runs, or a part of it. The connection is busy while one lives.
#[derive(Debug)]
pub(super) struct Running(Arc<State>);

impl Running {
    pub(super) fn begin(state: &Arc<State>) -> Self {
        state.running.fetch_add(1, Relaxed);
        state.head.store(false, Relaxed);
        state.unread.store(false, Relaxed);
        Self(Arc::clone(state))
    }

    pub(super) fn state(&self) -> &State {
        &self.0
    }
}

impl Clone for Running {
    fn clone(&self) -> Self {
        self.0.running.fetch_add(1, Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Relaxed) == 1 {
            self.0.turn.fetch_add(1, Relaxed);
            if self.0.is_http2() {
                self.0.waker.wake();
            }
        }
    }
}
