//! The byte stream under a connection to an upstream.

use std::{
    io::{self, IoSlice},
    os::fd::AsFd,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

pub(super) type Io = TokioIo<Box<dyn Stream>>;

/// Says to a socket that its connection rests and is about to be used again.
#[derive(Debug, Clone, Default)]
pub(super) struct Rest(Arc<AtomicBool>);

impl Rest {
    pub(super) fn look(&self, closely: bool) {
        self.0.store(closely, Relaxed);
    }
}

/// A socket that can be asked whether its peer has closed it: the runtime hears of that only when it next polls the
/// system, and a request written meanwhile would be lost.
pub(super) struct Socket<S> {
    inner: S,
    rest: Rest,
}

impl<S> Socket<S> {
    pub(super) fn new(inner: S, rest: Rest) -> Self {
        Self { inner, rest }
    }
}

impl<S: AsyncRead + AsFd + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if read.is_pending() && self.rest.0.load(Relaxed) {
            let mut byte = [0];
            if let Ok((_, 0)) = recv(&self.inner, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
                return Poll::Ready(Ok(()));
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
