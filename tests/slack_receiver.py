"""What Slack is to a test: a server on loopback that keeps what it got. The fixture `receiver` is one.

`python -m tests.slack_receiver PORT GOT.jsonl` is one for a person; `tests.slack_page` draws what it got.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Receiver(ThreadingHTTPServer):
    """Answers as Slack does and keeps what it got."""

    status = 200

    def __init__(self, port: int = 0, keep: Path | None = None) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.got: list[dict[str, Any]] = []
        self.keep = keep


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        server.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        if server.keep is not None:
            with server.keep.open("a") as file:
                file.write(json.dumps({"at": time.time(), **server.got[-1]}) + "\n")
        self.send_response(server.status)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: Any) -> None:
        """Quiet."""


if __name__ == "__main__":
    Receiver(int(sys.argv[1]), Path(sys.argv[2])).serve_forever()
