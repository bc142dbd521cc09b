//! Wakes among futures that one task polls together.
//!
//! A task that drives a connection and waits for what comes of it holds both ends of the channels between the two. Each end
//! wakes the task for the other, although it is polled next anyway: without this, each request and each piece of an
//! answer has the whole task polled once more, for nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::AcqRel},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

const POLLED: u8 = 1;
const WOKEN: u8 = 2;
/// A task that would go on for longer lets others have a turn.
const TURNS: usize = 8;

/// Polls futures in turn, with a waker that wakes their task only while it polls none of them.
pub(super) struct Waking {
    state: Arc<State>,
    waker: Waker,
}

/// Of the poll that runs.
pub(super) struct Turn<'a> {
    state: &'a State,
    pub(super) cx: Context<'a>,
}

#[derive(Default)]
struct State {
    task: AtomicWaker,
    flags: AtomicU8,
}

impl Wake for State {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Who polls sees it himself.
        if self.flags.fetch_or(WOKEN, AcqRel) & POLLED == 0 {
            self.task.wake();
        }
    }
}

impl Turn<'_> {
    /// What woke so far is polled next.
    pub(super) fn goes_on(&self) {
        // A plain store could take effect after what is polled next has looked, and drop a wake that came in between.
        self.state.flags.swap(POLLED, AcqRel);
    }
}

impl Waking {
    pub(super) fn new() -> Self {
        let state = Arc::<State>::default();
        Self { waker: Waker::from(Arc::clone(&state)), state }
    }

    /// Polls until nothing of it was woken meanwhile, or it is ready. Before it waits for anything else, the task polls it
    /// again.
    pub(super) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Turn<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.state.task.register(cx.waker());
        for _ in 0..TURNS {
            let mut turn = Turn { state: &self.state, cx: Context::from_waker(&self.waker) };
            turn.goes_on();
            let polled = poll(&mut turn);
            let woken = self.state.flags.swap(0, AcqRel) & WOKEN != 0;
            if polled.is_ready() || !woken {
                return polled;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        hint,
        pin::pin,
        sync::atomic::{
            AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
        thread,
        time::Duration,
    };

    use tokio::{sync::mpsc, task::yield_now};

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn who_is_polled_next_wakes_nobody() {
        let counter = Arc::<Counter>::default();
        let task = Waker::from(Arc::clone(&counter));
        let mut cx = Context::from_waker(&task);
        let waking = Waking::new();
        let (send, mut receive) = mpsc::unbounded_channel();
        let mut polls = 0;
        let mut exchange = |number: Option<u32>| {
            waking.poll(&mut cx, |turn| {
                polls += 1;
                if polls == 2
                    && let Some(number) = number
                {
                    send.send(number).unwrap();
                }
                turn.goes_on();
                receive.poll_recv(&mut turn.cx)
            })
        };
        assert_eq!(exchange(None), Poll::Pending);
        assert_eq!(exchange(Some(7)), Poll::Ready(Some(7)));
        assert_eq!(exchange(None), Poll::Pending);
        assert_eq!(polls, 3);
        assert_eq!(counter.0.load(Relaxed), 0);
        send.send(8).unwrap();
        assert_eq!(counter.0.load(Relaxed), 1);
    }

    #[test]
    fn what_was_woken_is_polled_again_and_not_for_ever() {
        let counter = Arc::<Counter>::default();
        let task = Waker::from(Arc::clone(&counter));
        let mut cx = Context::from_waker(&task);
        let waking = Waking::new();
        let mut left = 3;
        let polled = waking.poll(&mut cx, |turn| {
            left -= 1;
            if left == 0 {
                return Poll::Ready(());
            }
            turn.cx.waker().wake_by_ref();
            Poll::Pending
        });
        assert_eq!((polled, counter.0.load(Relaxed)), (Poll::Ready(()), 0));
        let mut polls = 0;
        let polled: Poll<()> = waking.poll(&mut cx, |turn| {
            polls += 1;
            turn.cx.waker().wake_by_ref();
            Poll::Pending
        });
        assert_eq!((polled, polls, counter.0.load(Relaxed)), (Poll::Pending, TURNS, 1));
    }

    #[test]
    fn a_wake_while_the_task_goes_on_is_not_lost() {
        const ROUNDS: usize = 300_000;
        /// On a cache line of its own.
        #[repr(align(128))]
        struct Shared(AtomicUsize);
        impl Shared {
            fn until(&self, round: usize) {
                while self.0.load(Acquire) < round {
                    hint::spin_loop();
                }
            }
        }

        let [asked, answered, woke, delay] = [const { Shared(AtomicUsize::new(0)) }; 4];
        let counter = Arc::<Counter>::default();
        let task = Waker::from(Arc::clone(&counter));
        let waking = Waking::new();
        let waker = waking.waker.clone();
        thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..=ROUNDS {
                    asked.until(round);
                    (0..round % 4).for_each(|_| hint::spin_loop());
                    delay.0.store(round, Relaxed);
                    answered.0.swap(round, AcqRel);
                    waker.wake_by_ref();
                    woke.0.store(round, Release);
                }
            });
            let mut lost = 0;
            for round in 1..=ROUNDS {
                let wakes = counter.0.load(Relaxed);
                asked.0.store(round, Release);
                let is_answered = || answered.0.load(Acquire) == round;
                let polled = waking.poll(&mut Context::from_waker(&task), |turn| {
                    if is_answered() {
                        return Poll::Ready(());
                    }
                    // The other thread writes there too: stores behind this one wait for it, loads do not.
                    delay.0.store(0, Relaxed);
                    turn.goes_on();
                    if is_answered() { Poll::Ready(()) } else { Poll::Pending }
                });
                woke.until(round);
                lost += usize::from(polled.is_pending() && counter.0.load(Relaxed) == wakes);
            }
            assert_eq!(lost, 0);
        });
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_of_another_thread_is_lost() {
        const NUMBERS: u32 = 20_000;
        let (send, mut receive) = mpsc::channel(1);
        let sender = tokio::spawn(async move {
            for number in 0..NUMBERS {
                send.send(number).await.unwrap();
                if number % 7 == 0 {
                    yield_now().await;
                }
            }
        });
        let waking = Waking::new();
        let all = pin!(async {
            for number in 0..NUMBERS {
                let got = poll_fn(|cx| waking.poll(cx, |turn| receive.poll_recv(&mut turn.cx))).await;
                assert_eq!(got, Some(number));
            }
        });
        tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
        sender.await.unwrap();
    }
}
