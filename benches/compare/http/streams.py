"""Thousands of streams at once: bare sockets, every byte of every answer checked."""

import json
import resource
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from servers import API_KEY, MODEL, PATH

# Connections that are being made at one time; more would fill the listener's queue.
CONNECTING = 128


def request(message: str) -> bytes:
    body = json.dumps(
        {"model": MODEL, "messages": [{"role": "user", "content": message}], "stream": True}
    ).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {API_KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Lost(Exception):
    """A stream that was not answered as it should have been."""


@dataclass
class Stream:
    socket: socket.socket
    sent: bool = False
    received: bytearray = field(default_factory=bytearray)
    # Searched up to here.
    checked: int = 0

    def begun(self) -> bool:
        return b"data: " in self.received

    def over(self) -> bool:
        """The last chunk of the answer has come. The connection stays open: nothing but the server's own word ends it."""
        found = self.received.find(b"\r\n0\r\n\r\n", max(0, self.checked - 8))
        self.checked = len(self.received)
        return found >= 0


def events(answer: bytes) -> list[str]:
    """The data of an answer's events. Raises `Lost` where the answer is not whole."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 ") or b"transfer-encoding: chunked" not in head.lower():
        raise Lost(f"not a stream: {answer[:300]!r}")
    body = b""
    while True:
        size, separator, rest = rest.partition(b"\r\n")
        if not separator:
            raise Lost("the last chunk is missing")
        length = int(size, 16)
        body += rest[:length]
        if rest[length : length + 2] != b"\r\n":
            raise Lost("a chunk is cut short")
        rest = rest[length + 2 :]
        if length == 0:
            break
    if rest:
        raise Lost(f"bytes behind the end: {rest[:100]!r}")
    if not body.endswith(b"\n\n"):
        raise Lost("the last event is not ended")
    blocks = body.decode()[:-2].split("\n\n")
    return [block.removeprefix("data: ") for block in blocks if not block.startswith(":")]


def check(answer: bytes, pieces: list[str]) -> None:
    """Every event, each once, in order, of one answer, and `[DONE]`."""
    *chunks, done = events(answer)
    if done != "[DONE]":
        raise Lost(f"the last event is {done!r}")
    chunks = [json.loads(chunk) for chunk in chunks]
    if len({chunk["id"] for chunk in chunks}) != 1:
        raise Lost("events of different answers")
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    if deltas != [{"role": "assistant"}, *({"content": piece} for piece in pieces), {}]:
        raise Lost(f"other events than expected: {deltas}")
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    if reasons != [None] * (len(chunks) - 1) + ["stop"]:
        raise Lost(f"finish reasons {reasons}")


def run(port: int, count: int, message: str, all_open: Callable[[], None], patience: float) -> list[bytes]:
    """Opens `count` streams and reads them to their ends. `all_open` is called again and again while every one of them
    has begun and none is over."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    ask = request(message)
    selector = selectors.DefaultSelector()
    streams: list[Stream] = []
    waiting = begun = over = 0
    looked = 0.0
    deadline = time.monotonic() + patience
    while over < count:
        while len(streams) < count and waiting < CONNECTING:
            stream = Stream(socket.socket())
            stream.socket.setblocking(False)
            stream.socket.connect_ex(("127.0.0.1", port))
            selector.register(stream.socket, selectors.EVENT_WRITE, stream)
            streams.append(stream)
            waiting += 1
        for key, _ in selector.select(1):
            stream: Stream = key.data
            if not stream.sent:
                if stream.socket.send(ask) != len(ask):
                    raise Lost("a request does not fit into its socket")
                stream.sent = True
                selector.modify(stream.socket, selectors.EVENT_READ, stream)
                continue
            data = stream.socket.recv(1 << 16)
            was_begun = stream.begun()
            stream.received += data
            if not was_begun and stream.begun():
                waiting -= 1
                begun += 1
            if not data or stream.over():
                over += 1
                selector.unregister(stream.socket)
        now = time.monotonic()
        if begun == count and over == 0 and now - looked > 0.2:
            looked = now
            all_open()
        if now > deadline:
            raise Lost(f"{count - over} of {count} streams are not over after {patience} s")
    selector.close()
    for stream in streams:
        stream.socket.close()
    return [bytes(stream.received) for stream in streams]
