"""The container's path at the size of a large catalogue: 1M items x 64, retrieve 1000, rank 1000 by MMoE, answer 50.

The real container over real HTTP, one process with one thread of ranking; users' features come from Feast's SQLite
store, a million items' are in the process. First how much one process ranks for one caller who asks again at once (a
second one would be answered by popularity, at no cost to speak of); then requests at 25 to 120 % of that, spread
evenly, whether or not others are answered, and at some of the shares at random moments; then by callers who never
pause, and who ask for as much as they are given; then with candidates of the request's own, from 10 to 1000 and mostly
few, at the same shares of what is ranked of those. Last the same bundle behind `mlflow models serve`.
`docs/serving.svg` is drawn of the loads. The callers are another process on the same machine, and rows say how busy
that was: a figure per core needs a core for the server alone. Vectors are those of `bench_ann`, which tells recall;
features are random.

    cost of a million = USD an hour of a machine / (3600 x requests a second of a core x its cores) x 1,000,000
    cores for a load  = requests a second / those of a core, rounded up

A core's requests are those of the highest load that keeps p99 and answers by the ranker; the cost is m5.xlarge's.
"""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

import numpy as np
import psutil

from infra.endpoint.__main__ import POOLS, listen, serve
from jobs import bundle, config
from jobs.asof.clock import available_at
from jobs.bundle import Bundle
from jobs.config import ROOT, Config
from jobs.features.online import OnlineFeatures, Published
from jobs.features.publish import publish
from models.features import INTEREST_BUCKETS, LAST_ITEMS, read
from models.rankers import exported, fit
from models.rankers.features import CATEGORICAL, LISTS, NUMERIC, WIDTHS, Encodings
from models.rankers.protocol import TrainingData
from models.retrieval import FirstStage
from models.retrieval.ials import Ials, Penalty
from models.settings import IndexSettings, PolicySettings, RankerSettings, RetrievalSettings
from tests.bench import mlflow_peer
from tests.bench.bench_ann import embeddings
from tests.bench.bench_endpoint import CATEGORIES, DAY, SURFACES, USERS, ids, tables

LOADS = (0.25, 0.5, 0.75, 0.9, 1.2)
"""Of what the process ranks for a caller who never pauses."""
RANDOM_LOADS = (0.5, 0.6, 0.7, 0.8)
"""Of the same, at random moments: two that come together wait for each other however idle the process is else."""
RANDOM_TIMES = 2
"""So much longer: their tail needs more of them."""
CALLERS, CONNECTIONS = 1, 64
NEVER_PAUSING = (16, 64)
"""Callers who ask again as soon as they are answered."""
KEPT_RANKED = 0.8
"""Of what is ranked at 90 % load, so much at least is when more is asked."""
DRAWING = ROOT / "docs" / "serving.svg"
GOAL_PER_SECOND, GOAL_MS = 150.0, 25.0
KEPT_FALLBACK = 0.01
"""A load that is kept has at most this share of its answers made by popularity."""
USD_AN_HOUR, CORES = 0.269, 4
"""Of an m5.xlarge; its cores are threads of two."""
SIZED = (1_000, 100_000)
"""Requests a second."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How much there is of everything."""

    items: int
    found: int
    shown: int
    rows: int
    bodies: int
    seconds: float


LARGE = Size(1_000_000, 1_000, 50, 200_000, 4_000, 8.0)
SMALL = Size(3_000, 200, 20, 4_000, 200, 0.3)


class Catalogue:
    """A day's items as arrays in the process, beside the users of the online store."""

    def __init__(self, settings: Config, items: int) -> None:
        rng = np.random.default_rng(1)
        category = np.arange(items) % CATEGORIES
        names = np.array([f"category-{n}" for n in range(CATEGORIES)], dtype=object)
        columns: dict[str, Any] = {"item_id": np.array(ids("i", range(items)), dtype=object)}
        for feature in read("item"):
            columns[feature.name] = rng.random(items) if feature.kind == "number" else np.empty((items, 0), np.float32)
        columns["category"] = names[category]
        columns["interest_bucket"] = rng.integers(0, INTEREST_BUCKETS, CATEGORIES)[category]
        rates = {"category": {name: np.array([0.1]) for name in names.tolist()}}
        self._users = OnlineFeatures(settings)
        at = available_at(DAY, settings.features)
        self._published = [Published(DAY, columns, Encodings(rates, np.array([0])), at)]

    def refresh(self) -> bool:
        """Users alone may change."""
        return self._users.refresh()

    def user(self, user_id: str, day: date) -> Mapping[str, Any] | None:
        """From the online store."""
        return self._users.user(user_id, day)

    def published(self) -> Sequence[Published]:
        """The one day."""
        return self._published


def trained(folder: Path, size: Size) -> Bundle:
    """An MMoE by its graph, of clicks that follow the item's click rate, and an index of vectors as items have them."""
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {name: rng.random(size.rows) for name in NUMERIC}
    columns["item_id"] = np.array(ids("i", rng.integers(0, size.items, size.rows)), dtype=object)
    columns["user_id"] = np.array(ids("u", rng.integers(0, USERS, size.rows)), dtype=object)
    columns |= {name: rng.choice(np.array([*SURFACES, None], dtype=object), size.rows) for name in CATEGORICAL}
    for name in LISTS:
        columns[name] = columns["item_id"][rng.integers(0, size.rows, (size.rows, WIDTHS[name]))]
    clicked = (rng.random(size.rows) < 0.3 * columns["item_click_rate"]).astype(float)
    bought = np.where(rng.random(size.rows) < 0.1, clicked, 0.0)
    data = TrainingData(columns, clicked, bought, np.ones(size.rows))
    ranker, fallback = (fit(kind, data, RankerSettings()) for kind in ("mmoe", "popularity"))
    some = {name: column[:500] for name, column in columns.items()}
    # Users' last items are of no taste here, for which no index of lists is exact: recall is `bench_ann`'s matter.
    settings = RetrievalSettings(k=size.found, index=IndexSettings(canary_min_recall=0.01))
    vectors = embeddings(size.items, 1)[0]
    retriever = Ials(vectors, Penalty(0.1, 0.01, 1.0), rng.random(size.items))
    histories = _histories(rng, size.items)
    none = np.zeros(size.items, dtype=bool)
    first = FirstStage.build(ids("i", range(size.items)), [retriever], histories, settings, none)
    name = f"mmoe-full-{DAY}"
    return bundle.write(folder, name, exported(ranker, some), fallback, first, PolicySettings(), {"seed": 0})


def _histories(rng: np.random.Generator, items: int) -> Any:
    """(500, items) of as many last items as users have."""
    from scipy.sparse import csr_array

    taken = rng.integers(0, items, (500, LAST_ITEMS))
    rows = np.repeat(np.arange(500), LAST_ITEMS)
    return csr_array((np.ones(taken.size), (rows, taken.ravel())), shape=(500, items))


def bodies(size: Size, brought: bool) -> list[bytes]:
    """Requests of known users; with candidates of their own mostly few: as many as 10 to the power of 1 to 3."""
    rng, found = np.random.default_rng(2), []
    for n in range(size.bodies):
        body: Row = {"request_id": f"r{n:06d}", "user_id": f"u{rng.integers(USERS):06d}", "k": size.shown}
        body |= {"surface": SURFACES[n % len(SURFACES)], "context": {"device": "phone", "region": "north"}}
        body["event_time"] = f"{DAY + timedelta(days=1)}T12:00:00Z"
        if brought:
            many = int(10 ** (1 + 2 * rng.random() ** 2))
            body["candidates"] = ids("i", rng.choice(size.items, many, replace=False))
        found.append(json.dumps(body).encode())
    return found


class World:
    """A bundle, what is online, and requests, in a folder."""

    def __init__(self, root: Path, size: Size) -> None:
        self.root, self.items = root, size.items
        self.environ = {**os.environ, **dict.fromkeys(POOLS, "1"), "TIDEGATE_ENV": "local"}
        self.environ["TIDEGATE__FEATURES__ONLINE_PATH"] = str(root / "online")
        tree = config.load(self.environ)
        publish(tree, DAY, tables(np.random.default_rng(0), available_at(DAY, tree.features)))
        self.made = trained(root / "bundles", size)
        found = bodies(size, brought=False)
        asked = {"found": found, "brought": bodies(size, brought=True), "mlflow": map(mlflow_peer.wrapped, found)}
        for name, of in asked.items():
            (root / f"{name}.jsonl").write_bytes(b"\n".join(of))


class Served:
    """A container with the bundle, or MLflow's server; ends with the `with` it is in."""

    def __init__(self, world: World, by_mlflow: bool = False) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._url, self._world = f"http://127.0.0.1:{port}", world
        of = (world.made.path, world.made.sha256, world.items)
        if by_mlflow:
            model = mlflow_peer.saved(world.root / "mlflow", *of)
            self._child = mlflow_peer.served(model, port, world.environ)
        else:
            command = [sys.executable, "-m", "tests.bench.bench_serving", *map(str, of), str(port)]
            self._child = subprocess.Popen(command, cwd=ROOT, env=world.environ, start_new_session=True)

    def __enter__(self) -> Self:
        while True:
            try:
                urlopen(f"{self._url}/ping", timeout=60).close()
                return self
            except OSError:
                if self._child.poll() is not None:
                    raise
                time.sleep(0.2)

    def __exit__(self, *_: object) -> None:
        os.killpg(self._child.pid, signal.SIGTERM)
        self._child.wait(60)

    def _tree(self) -> list[psutil.Process]:
        """MLflow's server begins another."""
        process = psutil.Process(self._child.pid)
        return [process, *process.children(recursive=True)]

    def _seconds(self) -> float:
        """Of processors."""
        return sum(of.user + of.system for of in (process.cpu_times() for process in self._tree()))

    def under(self, asked: str, callers: int, rate: float, seconds: float, arrivals: str = "even") -> Row:
        """One measurement: so many connections, as fast as answers come (rate 0) or at a rate."""
        words = [
            self._url,
            "/invocations",
            str(self._world.root / f"{asked}.jsonl"),
            str(callers),
            str(rate),
            str(seconds),
            arrivals,
        ]
        before, started = self._seconds(), time.perf_counter()
        psutil.cpu_percent()
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.callers", *words], cwd=ROOT, check=True, stdout=subprocess.PIPE
        )
        machine, spent = psutil.cpu_percent(), time.perf_counter() - started
        used = self._seconds() - before
        row = json.loads(done.stdout)
        row |= {"cpu_ms_a_request": 1000 * used / max(1, row["asked"]), "server_cores": used / spent}
        return {**row, "machine_busy": machine / 100, "memory_mib": self._memory()}

    def _memory(self) -> float:
        """MiB, what is shared by half."""
        return sum(process.memory_full_info().pss for process in self._tree()) / 2**20


def prove(small: bool) -> Iterator[tuple[str, Row]]:
    """(table, row) as they are found."""
    size = SMALL if small else LARGE
    with tempfile.TemporaryDirectory() as folder:
        world, rows = World(Path(folder), size), []
        with Served(world) as served:
            for table, row in measured(served, size.seconds):
                rows.append({"table": table, **row})
                yield table, row
        with Served(world, by_mlflow=True) as served:
            for callers in (CALLERS, NEVER_PAUSING[0]):
                yield "mlflow", {"callers": callers, **served.under("mlflow", callers, 0.0, size.seconds)}
    loads, random = ([row for row in rows if row["table"] == table] for table in ("open", "open, at random"))
    if not small:
        DRAWING.write_bytes(drawn(loads, random))
    for qps, row in zip(SIZED, sized(kept(loads)), strict=True):
        yield "sizing", {"requests_per_second": qps, **row}


def measured(served: Served, seconds: float) -> Iterator[tuple[str, Row]]:
    """Each table of the container's."""
    for asked, closed, opened in (("found", "closed", "open"), ("brought", "own candidates", "own candidates, open")):
        whole = served.under(asked, CALLERS, 0.0, seconds)
        yield closed, {"callers": CALLERS, **whole}
        for load in LOADS:
            rate = load * whole["ranked_per_second"]
            yield opened, {"load": load, "rate": rate, **served.under(asked, CONNECTIONS, rate, seconds)}
        if asked == "found":
            for load in RANDOM_LOADS:
                rate = load * whole["ranked_per_second"]
                row = served.under(asked, CONNECTIONS, rate, RANDOM_TIMES * seconds, "random")
                yield "open, at random", {"load": load, "rate": rate, **row}
            for callers in NEVER_PAUSING:
                yield "never pausing", {"callers": callers, **served.under(asked, callers, 0.0, seconds)}


def drawn(rows: Sequence[Row], random: Sequence[Row]) -> bytes:
    """Latency by load, and who answered how many a second, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams |= {"svg.hashsalt": "serving", "svg.fonttype": "none", "font.size": 9}
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    rates = [row["rate"] for row in rows]
    for name, label in (("p50_ms", "p50"), ("p99_ms", "p99"), ("p999_ms", "p99.9")):
        left.plot(rates, [row[name] for row in rows], "o-", label=label, markersize=3, linewidth=1)
    at = [row["rate"] for row in random]
    left.plot(at, [row["p99_ms"] for row in random], "o:", label="p99, at random", markersize=3, linewidth=1)
    left.axhline(GOAL_MS, color="grey", linewidth=0.8, linestyle="--")
    left.set(xlabel="requests a second", ylabel="ms", yscale="log", title="from arrival to answer")
    for told in (left.yaxis.set_major_formatter, left.yaxis.set_minor_formatter):
        told("{x:g}")
    ranked = [row["ranked_per_second"] for row in rows]
    popular = [row["per_second"] - row["ranked_per_second"] for row in rows]
    right.plot(rates, ranked, "o-", label="by the ranker", markersize=3, linewidth=1)
    right.plot(rates, popular, "o-", label="by popularity", markersize=3, linewidth=1)
    right.set(xlabel="requests a second", ylabel="answers a second", title="who answers")
    for panel in (left, right):
        panel.grid(alpha=0.3)
        panel.legend()
    out = BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return out.getvalue()


def kept(rows: Sequence[Row]) -> float:
    """Requests a second of the highest load that the process keeps; 0.0 where it keeps none."""
    good = (
        row["ranked_per_second"]
        for row in rows
        if row["p99_ms"] <= GOAL_MS and not row["errors"] and row["fallback_share"] <= KEPT_FALLBACK
    )
    return max(good, default=0.0)


def sized(per_core: float) -> list[Row]:
    """What each load of `SIZED` takes, and what a million requests cost; None where a core keeps nothing."""
    found: list[Row] = []
    for qps in SIZED:
        cores = math.ceil(qps / per_core) if per_core else None
        machines = None if cores is None else math.ceil(cores / CORES)
        usd = USD_AN_HOUR / (3600 * per_core * CORES) * 1e6 if per_core else None
        found.append({"per_core": per_core, "cores": cores, "m5_xlarge": machines, "usd_a_million": usd})
    return found


def goals(rows: list[Row]) -> list[Row]:
    """What a core keeps at p99; that nothing fails however much is asked, and no less is ranked for it."""
    loads, busy = ([row for row in rows if row["table"] == table] for table in ("open", "never pausing"))
    every = [row for row in rows if row["table"] not in ("sizing", "mlflow")]
    core, errors, worst = kept(loads), sum(row["errors"] for row in every), max(row["p99_ms"] for row in every)
    by_load = {row["load"]: row["ranked_per_second"] for row in loads}
    share = min(by_load[1.2], *(row["ranked_per_second"] for row in busy)) / by_load[0.9]
    return [
        {
            "goal": f"at least {GOAL_PER_SECOND:g} requests/s of one core at p99 of at most {GOAL_MS:g} ms",
            "found": f"{core:.0f}",
            "met": core >= GOAL_PER_SECOND,
        },
        {"goal": "no errors at any load", "found": str(errors), "met": not errors},
        {"goal": "p99 of at most 100 ms at any load", "found": f"{worst:.0f} ms", "met": worst <= 100},
        {
            "goal": f"when more is asked at least {KEPT_RANKED:.0%} of what is ranked at 90 % load",
            "found": f"{share:.0%}",
            "met": share >= KEPT_RANKED,
        },
    ]


def main(path: str, sha256: str, items: str, port: str) -> None:
    """The container of this bundle and so many items, until SIGTERM."""
    from infra.endpoint.container import application

    settings = config.load()
    listener = listen(int(port))
    serve(application(bundle.load(Path(path), sha256), Catalogue(settings, int(items)), settings), listener)


if __name__ == "__main__":
    main(*sys.argv[1:])
