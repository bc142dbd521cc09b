"""A hub with one model, org/name, for those with the token. It sends slowly, so that one can look.

usage: hub.py PORT DIRECTORY TOKEN
"""

import hashlib
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FILES = {path.name: path.read_bytes() for path in Path(sys.argv[2]).iterdir()}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        if self.headers["authorization"] != f"Bearer {sys.argv[3]}":
            self.send_error(401)
        elif self.path == "/api/models/org/name/revision/main":
            self.send(json.dumps({"sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]}).encode())
        else:
            self.send(FILES[self.path.removeprefix(f"/org/name/resolve/{COMMIT}/")])

    def send(self, body):
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.send_header("etag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            for start in range(0, len(body), 1 + len(body) // 20):
                self.wfile.write(body[start : start + 1 + len(body) // 20])
                time.sleep(0.1)


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Hub).serve_forever()
