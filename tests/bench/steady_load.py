"""`python -m tests.bench.steady_load URL PATH BODIES RATE OUT`: requests at a steady rate from one light process until
SIGTERM, one line each.

They come at evenly spaced moments whether or not others are answered (see `callers`). A line of OUT is [moment, on the
wall clock; seconds; status; reason of a fallback, "" of a ranked answer; sha256 of the bundle]. A connection that ends
under a request is a request that failed: status 0. Nothing is asked twice.
"""

import asyncio
import json
import signal
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

CONNECTIONS = 24
LATE_SECONDS = 60.0
"""SageMaker's own: an answer that takes longer is none."""
Line = list[Any]


class Steady:
    """The requests of all connections together."""

    def __init__(self, url: str, path: str, bodies: list[bytes], rate: float) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
        self._requests = [head.encode() + f"{len(body)}\r\n\r\n".encode() + body for body in bodies]
        self._rate, self._numbers = rate, count()
        self._start = time.time()
        self.over = False

    async def call(self, out: Any) -> None:
        """One connection, another in its place where it breaks."""
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self.over:
            number = next(self._numbers)
            moment = self._start + number / self._rate
            if (early := moment - time.time()) > 0:
                await asyncio.sleep(early)
            try:
                if streams is None:
                    streams = await asyncio.open_connection(self._host, self._port)
                async with asyncio.timeout(LATE_SECONDS):
                    said = await self._asked(*streams, self._requests[number % len(self._requests)])
            except (OSError, EOFError, TimeoutError) as error:
                streams, said = None, [0, type(error).__name__, ""]
            out.write(json.dumps([moment, time.time() - moment, *said]) + "\n")

    async def _asked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Line:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
        status = int(head.split(b" ", 2)[1])
        if status != 200:
            return [status, body.decode(errors="replace")[:300], ""]
        answer = orjson.loads(body)
        return [status, answer["fallback_reason"] or "", answer["bundle_sha256"]]


async def main(url: str, path: str, bodies: str, rate: str, out: str) -> None:
    """Ask until told to stop; what is under way is still waited for."""
    load = Steady(url, path, Path(bodies).read_bytes().splitlines(), float(rate))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: setattr(load, "over", True))
    with Path(out).open("w") as file:
        await asyncio.gather(*(load.call(file) for _ in range(CONNECTIONS)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
