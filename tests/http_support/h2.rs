//! The least of HTTP/2, written by hand, so that a test decides what is not sent.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use super::LONG;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RESET: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub struct Client<S> {
    pub stream: S,
    pub answers_pings: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub async fn start(stream: S) -> Self {
        Self::start_with(stream, &[]).await
    }

    /// With settings as (identifier, value).
    pub async fn start_with(mut stream: S, settings: &[(u16, u32)]) -> Self {
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut this = Self { stream, answers_pings: true };
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
            .collect();
        this.write(SETTINGS, 0, 0, &payload).await;
        this
    }

    pub async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        // A server that has closed shows when reading.
        let _ = self.stream.write_all(&frame).await;
    }

    /// A GET for `path` with no body.
    pub async fn get(&mut self, stream: u32, path: &str) {
        // Of the static table: method GET, scheme http, and the names of path and authority.
        let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
        block.extend(path.as_bytes());
        block.extend(b"\x01\x04test");
        self.write(HEADERS, END_HEADERS | END_STREAM, stream, &block).await;
    }

    /// The next frame; `None` at the stream's end. Acknowledges settings and, if told so, pings.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        timeout(LONG, self.stream.read_exact(&mut head)).await.expect("a frame in time").ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let frame = Frame { kind: head[3], flags: head[4], stream, payload };
        if frame.kind == SETTINGS && frame.flags & ACK == 0 {
            self.write(SETTINGS, ACK, 0, &[]).await;
        }
        if frame.kind == PING && frame.flags & ACK == 0 && self.answers_pings {
            self.write(PING, ACK, 0, &frame.payload).await;
        }
        Some(frame)
    }

    /// The next frame of this kind; what comes before is skipped.
    pub async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// The response's data, to its end.
    pub async fn body(&mut self, stream: u32) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let frame = self.next().await.expect("the response ends first");
            if frame.stream != stream {
                continue;
            }
            assert_ne!(frame.kind, RESET, "the stream was reset");
            if frame.kind == DATA {
                body.extend(frame.payload);
            }
            if frame.flags & END_STREAM != 0 {
                return body;
            }
        }
    }

    /// Waits for the connection's end; returns how long that took and whether it was announced.
    pub async fn closed(&mut self) -> (Duration, bool) {
        let start = tokio::time::Instant::now();
        let mut announced = false;
        while let Some(frame) = self.next().await {
            announced |= frame.kind == GOAWAY;
        }
        (start.elapsed(), announced)
    }
}
