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

/// A socket whose reads see what has come by now: the runtime hears of it only when it next polls the system, and a
/// request written meanwhile to a connection that the peer has closed would be lost. While the connection rests, that is.
///
/// A peer that answers before it has read the whole request, and closes, is heard too: writes to it fail before that
/// answer is read, but are not needed any more. That they failed is told at the end of what can be read.
pub(super) struct Socket<S> {
    inner: S,
    rest: Rest,
    /// What is written goes nowhere.
    deaf: bool,
}

impl<S> Socket<S> {
    pub(super) fn new(inner: S, rest: Rest) -> Self {
        Self { inner, rest, deaf: false }
    }
}

impl<S: AsFd> Socket<S> {
    /// Whether there is something to read that the runtime may not know of: bytes, an end or an error.
    fn peek(&self) -> io::Result<usize> {
        let (_, read) = recv(&self.inner, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
        Ok(read)
    }

    /// What to tell of a write that failed.
    fn unwritten(&mut self, error: io::Error, length: usize) -> io::Result<usize> {
        self.deaf |= matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset);
        if self.deaf { Ok(length) } else { Err(error) }
    }
}

impl<S: AsyncRead + AsFd + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if self.deaf && matches!(read, Poll::Ready(Ok(()))) && buffer.filled().len() == before {
            // The failed write took the error away.
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if read.is_ready() || !self.rest.0.load(Relaxed) {
            return read;
        }
        match self.peek() {
            Err(error) if will_be(&error) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
            Ok(_) => {
                let (_, read) = recv(&self.inner, buffer.initialize_unfilled(), RecvFlags::DONTWAIT)?;
                buffer.advance(read);
                Poll::Ready(Ok(()))
            }
        }
    }
}

/// Whether a read was only too early.
fn will_be(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl<S: AsyncWrite + AsFd + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.inner).poll_write(cx, bytes) {
            Poll::Ready(Err(error)) => Poll::Ready(self.unwritten(error, bytes.len())),
            written => written,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.inner).poll_write_vectored(cx, slices) {
            Poll::Ready(Err(error)) => {
                let length = slices.iter().map(|slice| slice.len()).sum();
                Poll::Ready(self.unwritten(error, length))
            }
            written => written,
        }
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

#[cfg(test)]
mod tests {
    use std::{io::Write as _, net};

    use rustix::net::sockopt::set_socket_linger;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    /// The far end is used without the runtime, which therefore does not hear of what it does before it next waits.
    async fn connected() -> (Socket<TcpStream>, Rest, net::TcpStream) {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        near.writable().await.unwrap();
        let rest = Rest::default();
        (Socket::new(near, rest.clone()), rest, listener.accept().unwrap().0)
    }

    fn reset(far: net::TcpStream) {
        set_socket_linger(&far, Some(std::time::Duration::ZERO)).unwrap();
    }

    /// What a read gives at once.
    fn read(socket: &mut Socket<TcpStream>) -> Poll<io::Result<Vec<u8>>> {
        let mut bytes = [0; 64];
        let mut buffer = ReadBuf::new(&mut bytes);
        let read =
            Pin::new(socket).poll_read(&mut Context::from_waker(std::task::Waker::noop()), &mut buffer);
        read.map_ok(|()| buffer.filled().to_vec())
    }

    #[tokio::test]
    async fn a_connection_that_rests_sees_what_has_come_by_now() {
        let (mut near, rest, mut far) = connected().await;
        assert!(read(&mut near).is_pending());
        rest.look(true);
        assert!(read(&mut near).is_pending());
        far.write_all(b"bye").unwrap();
        rest.look(false);
        assert!(read(&mut near).is_pending());
        rest.look(true);
        assert!(matches!(read(&mut near), Poll::Ready(Ok(bytes)) if bytes == b"bye"));
        drop(far);
        assert!(matches!(read(&mut near), Poll::Ready(Ok(bytes)) if bytes.is_empty()));

        let (mut near, rest, far) = connected().await;
        assert!(read(&mut near).is_pending());
        rest.look(true);
        reset(far);
        assert!(
            matches!(read(&mut near), Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset)
        );
    }

    #[tokio::test]
    async fn an_answer_before_a_reset_outlives_the_writes_that_fail() {
        let (mut near, _, mut far) = connected().await;
        far.write_all(b"no").unwrap();
        reset(far);
        for _ in 0..3 {
            assert_eq!(near.write(b"more").await.unwrap(), 4);
        }
        let mut answer = Vec::new();
        let end = near.read_to_end(&mut answer).await.unwrap_err();
        assert_eq!((&answer[..], end.kind()), (&b"no"[..], io::ErrorKind::ConnectionReset));

        let (mut near, _, far) = connected().await;
        reset(far);
        near.write_all(b"more").await.unwrap();
        let end = near.read_u8().await.unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
    }
}
