"""A server of the suite's own: started on a free port, stopped by its process id."""

import os
import re
import subprocess
import tempfile
import threading
import time

import httpx

STARTUP_SECONDS = 120  # only a broken server takes this long
SHUTDOWN_SECONDS = 60


class Server:
    """`with Server("--set", "echo.delay_ms=50") as server: ... server.url`."""

    def __init__(self, *arguments):
        self.arguments = arguments
        self.url = None

    def __enter__(self):
        self.log = tempfile.TemporaryFile()
        command = [os.environ["SERVER_UNDER_TEST"], "--listen", "127.0.0.1:0", *self.arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log)
        # Reading blocks; the timer ends a server that never says where it listens, and with it the reading.
        timer = threading.Timer(STARTUP_SECONDS, self.process.kill)
        timer.start()
        try:
            for line in self.process.stdout:
                if found := re.search(rb"listening on (http://127\.0\.0\.1:\d+)", line):
                    self.url = found[1].decode()
                    self.wait_until_ready()
                    return self
        finally:
            timer.cancel()
        self.log.seek(0)
        log = self.log.read().decode(errors="replace")
        self.__exit__()
        raise RuntimeError(f"the server did not start: {' '.join(command)}\n{log}")

    def wait_until_ready(self):
        """A model may still be loading; the server then says 503."""
        while httpx.get(f"{self.url}/health").status_code == 503:
            time.sleep(0.05)

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(SHUTDOWN_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process.stdout.close()
            self.log.close()
