"""`python -m tests.bench.callers URL PATH BODIES CALLERS RATE SECONDS [random]`: HTTP load from one process, as JSON.

CALLERS connections. RATE 0: each asks again as soon as it is answered. RATE r: r requests a second come at evenly
spaced moments, or at random ones as of many users who know nothing of each other (a Poisson process), whether or not
others are answered, and one waits for a free connection; its time counts from its moment, so that a server which stalls
cannot hide what waited (coordinated omission). BODIES names a file with one body a line.
"""

import asyncio
import json
import math
import sys
import time
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

WARM_UP_SECONDS = 1.0
FALLBACK = b'"fallback":true'


class Caller:
    """One keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connected(cls, url: str) -> "Caller":
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port))

    async def ask(self, request: bytes) -> tuple[int, bool]:
        """The status and whether popularity answered."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        body = await self._reader.readexactly(length)
        return int(head.split(b" ", 2)[1]), FALLBACK in body


class Load:
    """What came of the requests: (moment, seconds, status, fallback) each."""

    def __init__(self, path: str, bodies: list[bytes], rate: float, seconds: float, at_random: bool = False) -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
        self._requests = [head.encode() + f"{len(body)}\r\n\r\n".encode() + body for body in bodies]
        self._rate, self._numbers = rate, count()
        many = math.ceil(rate * (WARM_UP_SECONDS + seconds) * 1.5) + 100
        gaps = np.random.default_rng(0).exponential(size=many) if at_random else np.ones(many)
        self._moments = (np.cumsum(gaps) / rate).tolist() if rate else []
        self._start = time.perf_counter()
        self._warm = self._start + WARM_UP_SECONDS
        self._end = self._warm + seconds
        self._measured = False
        self.found: list[tuple[float, float, int, bool]] = []

    async def call(self, caller: Caller) -> None:
        """Ask until the time is over, and until something was asked after the warm-up, however long answers take."""
        while True:
            number = next(self._numbers)
            moment = self._start + self._moments[number] if self._rate else time.perf_counter()
            if moment >= self._end and self._measured:
                return
            self._measured |= moment >= self._warm
            if (early := moment - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            status, fallback = await caller.ask(self._requests[number % len(self._requests)])
            self.found.append((moment, time.perf_counter() - moment, status, fallback))

    def figures(self) -> dict[str, float]:
        """Of the requests after the warm-up."""
        kept = [row for row in self.found if row[0] >= self._warm]
        took = np.array([seconds for _, seconds, _, _ in kept]) * 1000
        spent = max(moment + seconds for moment, seconds, _, _ in kept) - self._warm
        fallback = sum(row[3] for row in kept)
        return {
            "asked": len(self.found),
            "requests": len(kept),
            "per_second": len(kept) / spent,
            "ranked_per_second": (len(kept) - fallback) / spent,
            "p50_ms": float(np.quantile(took, 0.5)),
            "p99_ms": float(np.quantile(took, 0.99)),
            "p999_ms": float(np.quantile(took, 0.999)),
            "max_ms": float(took.max()),
            "fallback_share": fallback / len(kept),
            "errors": sum(row[2] != 200 for row in kept),
        }


async def main(url: str, path: str, bodies: str, callers: str, rate: str, seconds: str, arrivals: str = "even") -> None:
    """Connect, ask, print."""
    connected = [await Caller.connected(url) for _ in range(int(callers))]
    load = Load(path, Path(bodies).read_bytes().splitlines(), float(rate), float(seconds), arrivals == "random")
    await asyncio.gather(*(load.call(caller) for caller in connected))
    print(json.dumps(load.figures()))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
