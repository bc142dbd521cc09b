"""A server that takes one request at a time and answers slowly, so that a test can come while it is busy.

No test measures time here: the long answer takes minutes to the end, and every test is over long before that.
"""

from echo import MODEL
from expected import user
from server import Server

LONG = {"model": MODEL, "messages": [user("word " * 3000)]}
SHORT = {"model": MODEL, "messages": [user("hi")], "max_tokens": 1}


def slow_server():
    return Server(
        "--set", "echo.delay_ms=500",
        "--set", "limits.max_concurrent_requests=1",
        "--set", "limits.max_queued_requests=0",
    )  # fmt: skip
