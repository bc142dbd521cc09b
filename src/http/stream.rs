//! The byte stream under HTTP: sees where heads begin, whether the peer has left, and closes without losing answers.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::{phase::State, socket::Socket};

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes read ahead of HTTP, only to see the stream's end behind them.
const AHEAD: usize = 8 << 10;
/// Bytes discarded after an early answer.
const LINGER: usize = 256 << 20;

#[derive(Debug)]
pub(super) enum Channel {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

#[derive(Debug)]
pub(super) struct Stream {
    channel: Channel,
    state: Arc<State>,
    ahead: BytesMut,
    /// HTTP waits for bytes, so it will see the stream's end by itself.
    awaited: bool,
    /// How much of HTTP/2's preface has come; `None` once something else has, or all of it.
    preface: Option<usize>,
    shut: bool,
    discarded: usize,
}

macro_rules! delegate {
    ($stream:expr, $channel:ident => $call:expr) => {
        match &mut $stream.channel {
            Channel::Plain(channel) => {
                let $channel = Pin::new(channel);
                $call
            }
            Channel::Tls(channel) => {
                let $channel = Pin::new(channel.as_mut());
                $call
            }
        }
    };
}

impl Stream {
    pub(super) fn new(channel: Channel, state: Arc<State>) -> Self {
        Self {
            channel,
            state,
            ahead: BytesMut::new(),
            awaited: false,
            preface: Some(0),
            shut: false,
            discarded: 0,
        }
    }

    fn saw(&mut self, bytes: &[u8]) {
        self.state.read_some();
        let Some(have) = self.preface else { return };
        let missing = &HTTP2_PREFACE[have..];
        let n = missing.len().min(bytes.len());
        self.preface = (missing[..n] == bytes[..n]).then_some(have + n);
        if self.preface == Some(HTTP2_PREFACE.len()) {
            self.preface = None;
            self.state.speaks_http2();
        }
    }

    /// While a request runs and HTTP asks for no bytes (the peer has sent more than it takes: a second request, a
    /// body's rest, a stray line end), nobody would see the peer leave.
    fn look_ahead(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.ahead.len() < AHEAD {
            let mut room = [MaybeUninit::uninit(); 2048];
            let mut buffer = ReadBuf::uninit(&mut room);
            match delegate!(self, channel => channel.poll_read(cx, &mut buffer)) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the peer has left"));
                }
                Poll::Ready(Ok(())) => self.ahead.extend_from_slice(buffer.filled()),
            }
        }
        Ok(())
    }

    /// Closing a socket with unread bytes resets the connection, and the peer may lose the answer it has not read.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.ahead.clear();
        while self.discarded < LINGER {
            let mut room = [MaybeUninit::uninit(); 16 << 10];
            let mut buffer = ReadBuf::uninit(&mut room);
            let read = ready!(delegate!(self, channel => channel.poll_read(cx, &mut buffer)));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
            self.discarded += buffer.filled().len();
            self.state.read_some();
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.ahead.is_empty() {
            let this = &mut *self;
            let read = delegate!(this, channel => channel.poll_read(cx, buffer));
            this.awaited = read.is_pending();
            ready!(read)?;
        } else {
            let n = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead[..n]);
            self.ahead.advance(n);
        }
        if buffer.filled().len() > before {
            self.saw(&buffer.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, channel => channel.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, channel => channel.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.channel {
            Channel::Plain(channel) => channel.is_write_vectored(),
            Channel::Tls(channel) => channel.is_write_vectored(),
        }
    }

    /// HTTP/1.1 flushes at the end of each turn, which makes it the place to look whether the turn read at all.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(delegate!(self, channel => channel.poll_flush(cx)))?;
        if !std::mem::take(&mut self.awaited) && self.state.is_running() && !self.state.is_http2() {
            self.look_ahead(cx)?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(delegate!(self, channel => channel.poll_shutdown(cx)))?;
            self.shut = true;
        }
        if self.state.expects_more() {
            self.state.linger();
            ready!(self.poll_discard(cx));
        }
        Poll::Ready(Ok(()))
    }
}
