//! HTTP/2 streams whose peer does not open their window. The socket cannot tell: other streams and pings go on.

use std::{
    cell::Cell,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};

use super::connections::Registry;

thread_local! {
    /// Whether the last question to a response's body, if one was asked since the stream's turn began, was answered
    /// with a frame.
    static HANDED: Cell<Option<bool>> = const { Cell::new(None) };
}

pub(super) fn handed_frame(handed: bool) {
    HANDED.set(Some(handed));
}

/// Runs hyper's HTTP/2 streams, each as a task that the server waits for.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) registry: Arc<Registry>,
    pub(super) patience: Duration,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let task = self.registry.task();
        let stream = Patient { stream, blocked: false, timer: None, patience: self.patience };
        tokio::spawn(async move {
            let _task = task;
            stream.await;
        });
    }
}

pin_project! {
    /// hyper asks a body for its next frame only when the last one fits into the peer's window. So a stream that was
    /// handed a frame and asks no more waits for its peer.
    struct Patient<F> {
        #[pin]
        stream: F,
        blocked: bool,
        timer: Option<Pin<Box<Sleep>>>,
        patience: Duration,
    }
}

impl<F: Future<Output = ()>> Future for Patient<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        HANDED.set(None);
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if let Some(handed) = HANDED.take() {
            *this.blocked = handed;
            *this.timer = None;
        }
        if !*this.blocked {
            return Poll::Pending;
        }
        let patience = *this.patience;
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(patience)));
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        // The stream is dropped, which resets it; the connection and its other streams go on.
        tracing::debug!("HTTP/2 stream reset: the peer does not read");
        Poll::Ready(())
    }
}
