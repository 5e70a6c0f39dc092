"""The endpoint under load: answers a second, p50 and p99, and the share popularity answers, from idle to overload.

The real process (`python -m infra.endpoint`, default timer, all traffic captured, Feast's SQLite store) serves a
boosted ranker over 2,000 items; half of the requests bring 20 candidates, half have about 120 retrieved. First by so
many callers who ask again at once, then at shares of the rate that one caller reached, whether or not answers come. The
callers are one process on the same machine: with few cores they take from what they measure, and every row says how
busy the machine was.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

import numpy as np
import psutil
import pyarrow as pa

from jobs import bundle, config
from jobs.asof.clock import available_at
from jobs.bundle import Bundle
from jobs.config import ROOT
from jobs.features.publish import publish
from jobs.lake.tables import LAKE
from models.features import INTEREST_BUCKETS, LAST_ITEMS, SESSION_EVENTS
from models.rankers import fit
from models.rankers.features import CATEGORICAL, NUMERIC, SEPARATOR
from models.rankers.protocol import TrainingData
from models.retrieval import FirstStage
from models.retrieval.ials import Ials
from models.retrieval.interactions import Interactions
from models.settings import PolicySettings, RankerSettings, RetrievalSettings
from tests.infra.endpoint.rig import Client

DAY = date(2026, 1, 8)
ITEMS, USERS, CATEGORIES, ROWS, BODIES = 2_000, 2_000, 24, 50_000, 4_000
CALLERS = (1, 8, 32, 64)
LOADS = (0.5, 1.0, 2.0, 4.0)
"""Of what one caller reached; requests come whether or not others are answered, over at most `CONNECTIONS`."""
CONNECTIONS = 64
SECONDS, SMALL_SECONDS = 10.0, 1.0
PROMISE_MS = 100.0
SURFACES = ("home", "search", "similar", "notification")
NAME = "tidegate"
Row = dict[str, Any]


def ids(letter: str, numbers: Any) -> list[str]:
    return [f"{letter}{n:06d}" for n in numbers]


def tables(rng: np.random.Generator, at: datetime) -> dict[str, pa.Table]:
    """A day of features: numbers without meaning in the shapes that serving reads, known from `at` on."""
    buckets = rng.integers(0, INTEREST_BUCKETS, CATEGORIES)
    category = np.arange(ITEMS) % CATEGORIES
    starts = [("category", ""), *(("surface_category", surface + SEPARATOR) for surface in SURFACES)]
    pairs = [(name, f"{start}category-{c}") for name, start in starts for c in range(CATEGORIES)]
    columns: dict[str, dict[str, Any]] = {
        "item_features": {
            "item_id": ids("i", range(ITEMS)),
            "category": [f"category-{c}" for c in category],
            "interest_bucket": buckets[category],
            "vector": [None] * ITEMS,
            "outcomes": None,
        },
        "user_features": {
            "user_id": ids("u", range(USERS)),
            "interests": list(rng.random((USERS, INTEREST_BUCKETS), np.float32)),
            "last_items": [ids("i", rng.integers(0, ITEMS, LAST_ITEMS)) for _ in range(USERS)],
            "last_buckets": list(rng.integers(0, INTEREST_BUCKETS, (USERS, LAST_ITEMS))),
            "session_buckets": list(rng.integers(0, INTEREST_BUCKETS, (USERS, SESSION_EVENTS))),
            "outcomes": None,
        },
        "encodings": {"encoding": [name for name, _ in pairs], "value": [value for _, value in pairs]},
    }
    return {name: filled(LAKE[name].schema, {"available_at": at, **of}, rng) for name, of in columns.items()}


def filled(schema: pa.Schema, columns: Row, rng: np.random.Generator) -> pa.Table:
    """The columns, a single value repeated, and a random number in [0, 1) wherever the schema has another float."""
    rows = max(len(column) for column in columns.values() if hasattr(column, "__len__"))
    whole = {n: column if hasattr(column, "__len__") else [column] * rows for n, column in columns.items()}
    numbers = {f.name: rng.random(rows) for f in schema if f.name not in columns}
    return pa.table({f.name: pa.array((whole | numbers)[f.name], f.type) for f in schema}, schema=schema)


def trained(folder: Path, rng: np.random.Generator) -> Bundle:
    """A boosted ranker of the default size, whose clicks follow the item's click rate."""
    columns: dict[str, Any] = {name: rng.random(ROWS) for name in NUMERIC}
    columns["item_id"] = np.array(ids("i", rng.integers(0, ITEMS, ROWS)), dtype=object)
    columns |= {name: rng.choice(np.array([*SURFACES, None], dtype=object), ROWS) for name in CATEGORICAL}
    clicked = (rng.random(ROWS) < 0.3 * columns["item_click_rate"]).astype(float)
    data = TrainingData(columns, clicked, np.where(rng.random(ROWS) < 0.1, clicked, 0.0), np.ones(ROWS))
    ranker, fallback = (fit(kind, data, RankerSettings()) for kind in ("xgboost", "popularity"))
    settings, taken = RetrievalSettings(), (rng.integers(0, USERS, ROWS), rng.integers(0, ITEMS, ROWS))
    clicks = Interactions(*taken, np.zeros(ROWS), np.ones(ROWS), USERS, ITEMS)
    retriever, none = Ials.fit(clicks, settings), np.zeros(ITEMS, dtype=bool)
    first = FirstStage.build(ids("i", range(ITEMS)), [retriever], clicks.matrix()[:500], settings, none)
    return bundle.write(folder, f"xgboost-full-{DAY}", ranker, fallback, first, PolicySettings(), {"seed": 0})


def bodies(rng: np.random.Generator) -> list[bytes]:
    """Requests of known users on every surface; every other one brings its candidates."""
    found = []
    for n in range(BODIES):
        body: Row = {"request_id": f"r{n:06d}", "user_id": f"u{rng.integers(USERS):06d}", "k": 10}
        body |= {"surface": SURFACES[n % len(SURFACES)], "context": {"device": "phone", "region": "north"}}
        body["event_time"] = f"{DAY + timedelta(days=1)}T12:00:00Z"
        if n % 2:
            body["candidates"] = ids("i", rng.choice(ITEMS, 20, replace=False))
        found.append(json.dumps(body).encode())
    return found


class Served:
    """A process with the bundle in service; ends with the `with` it is in."""

    def __init__(self, root: Path) -> None:
        rng = np.random.default_rng(0)
        settings = {"TIDEGATE_ENV": "local", "TIDEGATE__ENDPOINT__STATE": str(root / "state")}
        environ = {**os.environ, **settings, "TIDEGATE__FEATURES__ONLINE_PATH": str(root / "online")}
        tree = config.load(environ)
        publish(tree, DAY, tables(rng, available_at(DAY, tree.features)))
        self._bundle = trained(root / "bundles", rng)
        self._bodies = root / "bodies.jsonl"
        self._bodies.write_bytes(b"\n".join(bodies(rng)))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "infra.endpoint", "--port", str(port)]
        self._child = subprocess.Popen(command, cwd=ROOT, env=environ)

    def __enter__(self) -> Self:
        while True:
            try:
                urlopen(f"{self._url}/ping", timeout=60).close()
                break
            except OSError:
                if self._child.poll() is not None:
                    raise
                time.sleep(0.2)
        Client(self._url).serve(self._bundle, endpoint=NAME)
        return self

    def __exit__(self, *_: object) -> None:
        self._child.send_signal(signal.SIGTERM)
        self._child.wait(60)

    def under(self, callers: int, rate: float, seconds: float) -> Row:
        """One measurement: so many connections, as fast as answers come (rate 0) or at a rate."""
        path = f"/endpoints/{NAME}/invocations"
        words = [self._url, path, str(self._bodies), str(callers), str(rate), str(seconds)]
        command = [sys.executable, "-m", "tests.bench.callers", *words]
        before, started = self._used(), time.perf_counter()
        psutil.cpu_percent()
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
        machine, spent = psutil.cpu_percent(), time.perf_counter() - started
        used = (self._used() - before) / spent
        return {**json.loads(done.stdout), "server_cores": used, "machine_busy": machine / 100}

    def _used(self) -> float:
        """Seconds of CPU, of the platform and of its variants' processes."""
        platform = psutil.Process(self._child.pid)
        times = [process.cpu_times() for process in (platform, *platform.children())]
        return float(sum(of.user + of.system for of in times))


def prove(small: bool) -> Iterator[tuple[str, Row]]:
    """(table, row) as they are found."""
    seconds = SMALL_SECONDS if small else SECONDS
    with tempfile.TemporaryDirectory() as folder, Served(Path(folder)) as served:
        alone = 0.0
        for callers in CALLERS:
            row = served.under(callers, 0.0, seconds)
            alone = alone or row["per_second"]
            yield "closed", {"callers": callers, **row}
        for load in LOADS:
            row = served.under(CONNECTIONS, load * alone, seconds)
            yield "open", {"load": load, "rate": load * alone, **row}


def goals(rows: list[Row]) -> list[Row]:
    """The promise at every load, and nobody who asks alone is given popularity."""
    found = []
    for row in rows:
        which = f"{row['callers']} callers" if row["table"] == "closed" else f"{row['load']:g} x the rate of one caller"
        p99 = row["p99_ms"]
        goal = f"{which}: p99 at most {PROMISE_MS:g} ms, no errors"
        found.append({"goal": goal, "found": f"{p99:.0f} ms", "met": p99 <= PROMISE_MS and not row["errors"]})
    share = rows[0]["fallback_share"]
    found.append({"goal": "one caller: at most 1% fallback", "found": f"{share:.2%}", "met": share <= 0.01})
    return found
