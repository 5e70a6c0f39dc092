"""Ten minutes of requests that never pause, through all that happens to an endpoint: none may be lost.

The real platform with two real processes a variant, Feast's Redis (one of our own), a state folder on a small disk of
its own, an unmodified boto3, and callers in another process who ask at a steady rate whether or not others are
answered. In turn: a deploy, the way back, a canary, a linear update, a process killed, one stopped (SIGSTOP), a disk
that is full to its last byte, an update on one that is full but for what the capture leaves, a feature store that is
stopped, one that is gone, twice as many instances and as many as before. A request is lost where it gets anything but
status 200; popularity's answers are counted by their reason. After an update back to what served before,
`back_seconds` pass from boto3's call until an answer of the old model is there. `docs/steady.svg` is drawn of every
answer.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

import numpy as np
import psutil
from prometheus_client.parser import text_string_to_metric_families

from infra.stack.processes import free_ports
from jobs import config
from jobs.asof.clock import available_at
from jobs.bundle import Bundle
from jobs.config import ROOT
from jobs.features.publish import publish
from tests.bench.bench_endpoint import DAY, bodies, tables, trained
from tests.bench.steady_load import Line
from tests.infra.endpoint.rig import Client
from tests.infra.endpoint.test_shift import blue_green, percent

DRAWING = ROOT / "docs" / "steady.svg"
NAME = "tidegate"
DISK = "256m"
OWN_DISK = 'mount -t tmpfs -o size="$1" none "$2" && shift 2 && exec "$@"'
BACK_SECONDS = 2.0
PATIENCE_SECONDS = 120.0
COUNTED = ("busy", "late", "failed", "down", "hung")
Row = dict[str, Any]
Begun = tuple[str, float, float | None]
"""What happens, since when, and when the way back was asked for."""


@dataclass(frozen=True)
class Size:
    """How much is asked, and how long everything is watched."""

    rate: float
    hold: float
    """Seconds that a phase goes on after what happens in it."""
    processes: int
    hung: float
    keys: int
    """Users and items online."""
    timeout_ms: int = 60
    scales: bool = True


LARGE = Size(50.0, 32.0, 2, 5.0, 2_000)
SMALL = Size(30.0, 2.0, 2, 2.0, 200)
Make = Callable[[Path, int], Bundle]
"""A bundle of its own for each number, in a folder."""


class Store:
    """A Redis of our own on a free port, whose data outlives it."""

    def __init__(self, folder: Path) -> None:
        self._folder, [self.port] = folder, free_ports(1)
        folder.mkdir()
        self.start()

    def start(self) -> None:
        words = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._folder)]
        self.child = subprocess.Popen([*words, "--save", "", "--loglevel", "warning"], stdout=subprocess.DEVNULL)
        until(lambda: _listens(self.port))

    def keep(self) -> None:
        """What is held now is there again after a start."""
        import redis

        redis.Redis("127.0.0.1", self.port).save()

    def kill(self) -> None:
        self.child.kill()
        self.child.wait()


class Served:
    """The platform on a disk of its own, with bundle `a` in service and callers who ask; ends with its `with`."""

    def __init__(self, root: Path, size: Size, make: Make) -> None:
        self.root, self.size = root, size
        self.state = root / "state"
        self.state.mkdir()
        self.store = Store(root / "redis")
        self.environ = {
            **os.environ,
            "TIDEGATE_ENV": "local",
            "TIDEGATE__ENDPOINT__STATE": str(self.state),
            "TIDEGATE__ENDPOINT__PROCESSES": str(size.processes),
            "TIDEGATE__ENDPOINT__HUNG_SECONDS": str(size.hung),
            "TIDEGATE__ENDPOINT__TIMEOUT_MS": str(size.timeout_ms),
            "TIDEGATE__FEATURES__ONLINE_PATH": str(root / "online"),
            "TIDEGATE__FEATURES__ONLINE_STORE": "redis",
            "TIDEGATE__FEATURES__REDIS_URL": f"127.0.0.1:{self.store.port}",
        }
        tree = config.load(self.environ)
        rng = np.random.default_rng(0)
        online = tables(rng, available_at(DAY, tree.features))
        publish(tree, DAY, {name: rows.slice(0, size.keys) for name, rows in online.items()})
        self.store.keep()
        self.bundles = {name: make(root / name, seed) for seed, name in enumerate("ab")}
        (root / "bodies").write_bytes(b"\n".join(bodies(rng)))
        [port] = free_ports(1)
        words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", OWN_DISK, "sh", DISK, str(self.state)]
        words += [sys.executable, "-m", "infra.endpoint", "--port", str(port)]
        with (root / "log").open("w") as log:
            self.child = subprocess.Popen(words, cwd=ROOT, env=self.environ, stderr=log)
        self.client = Client(f"http://127.0.0.1:{port}")
        self.trace = root / "trace"

    def __enter__(self) -> Self:
        until(self._answers)
        client = self.client
        client.serve(self.bundles["a"], "a", NAME)
        client.config(client.model(self.bundles["b"], "b"), b=1.0)
        path = f"/endpoints/{NAME}/invocations"
        words = [client.url, path, str(self.root / "bodies"), str(self.size.rate), str(self.trace)]
        self.callers = subprocess.Popen([sys.executable, "-m", "tests.bench.steady_load", *words], cwd=ROOT)
        until(lambda: self.trace.exists())
        return self

    def __exit__(self, *_: object) -> None:
        self.callers.terminate()
        self.callers.wait(90)
        for process in (self.child, self.store.child):
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(90)

    def _answers(self) -> bool:
        if self.child.poll() is not None:
            raise RuntimeError(f"the platform ended: {(self.root / 'log').read_text()[-2000:]}")
        try:
            return bool(urlopen(f"{self.client.url}/ping", timeout=60).status == 200)
        except OSError:
            return False

    # -- what happens ---------------------------------------------------------------------------------------------
    def update(self, to: str, **how: Any) -> None:
        """To a config, and waited for."""
        extra = {"DeploymentConfig": how} if how else {}
        self.client.control.update_endpoint(EndpointName=NAME, EndpointConfigName=to, **extra)
        found = self.client.settled(NAME)
        if (found["EndpointStatus"], found["EndpointConfigName"]) != ("InService", to):
            raise RuntimeError(f"{to} must serve; found {found}")

    def answering(self) -> psutil.Process:
        """One of the processes that serve now."""
        sha256 = self.bundles[self.client.control.describe_endpoint(EndpointName=NAME)["EndpointConfigName"]].sha256
        children = psutil.Process(self.child.pid).children()
        return next(one for one in children if sha256 in one.cmdline())

    def scale(self, instances: int) -> None:
        """What serves has so many instances, and waited for."""
        now = self.client.control.describe_endpoint(EndpointName=NAME)["EndpointConfigName"]
        change = {"VariantName": now, "DesiredInstanceCount": instances}
        self.client.control.update_endpoint_weights_and_capacities(
            EndpointName=NAME, DesiredWeightsAndCapacities=[change]
        )
        [found] = self.client.settled(NAME)["ProductionVariants"]
        if found["CurrentInstanceCount"] != instances:
            raise RuntimeError(f"{instances} instances must answer; found {found}")

    def whole(self) -> bool:
        """Whether the processes of what serves are all there."""
        return self.metric("tidegate_processes") >= self.size.processes

    def metric(self, name: str, **labels: str) -> float:
        """Of the samples with these labels together."""
        text = urlopen(f"{self.client.url}/metrics", timeout=60).read().decode()
        families = {family.name: family for family in text_string_to_metric_families(text)}
        found = families[name].samples if name in families else []
        return sum(one.value for one in found if labels.items() <= one.labels.items())

    def restarts(self) -> float:
        return self.metric("tidegate_restarts")

    @contextmanager
    def full_disk(self, but: int = 0) -> Iterator[None]:
        """To the last byte, or so many before it: by a file of somebody else's."""
        filler = Path(f"/proc/{self.child.pid}/root{self.state}/filler")
        with filler.open("wb", buffering=0) as file:
            block = b"x" * 4096
            try:
                while True:
                    file.write(block)
            except OSError:
                pass
            file.truncate(max(0, file.tell() - but))
            yield
        filler.unlink()


def phases(served: Served, size: Size) -> Iterator[tuple[str, Callable[[], float | None]]]:
    """What happens, in turn; a way back says when it was asked for."""

    def steady() -> None:
        pass

    def back(to: str) -> Callable[[], float]:
        def asked() -> float:
            at = time.time()
            served.update(to)
            return at

        return asked

    def again(disturb: Callable[[psutil.Process], None]) -> Callable[[], None]:
        """A process is disturbed, and begun anew."""

        def done() -> None:
            before = served.restarts()
            disturb(served.answering())
            until(lambda: served.restarts() > before and served.whole())

        return done

    def full() -> None:
        with served.full_disk():
            before = served.metric("tidegate_captured", outcome="lost")
            until(lambda: served.metric("tidegate_captured", outcome="lost") > before)
            time.sleep(size.hold)
        before = served.metric("tidegate_captured", outcome="written")
        until(lambda: served.metric("tidegate_captured", outcome="written") > before)

    def back_while_full() -> float:
        with served.full_disk(but=1 << 20):
            before = served.metric("tidegate_captured", outcome="lost")
            until(lambda: served.metric("tidegate_captured", outcome="lost") > before)
            return back("b")()

    def stopped_store() -> None:
        served.store.child.send_signal(signal.SIGSTOP)
        time.sleep(size.hold)
        served.store.child.send_signal(signal.SIGCONT)

    def no_store() -> None:
        served.store.kill()
        time.sleep(size.hold)
        served.store.start()

    wait = max(1, int(size.hold / 4))
    yield "steady", steady
    yield "deploy", lambda: served.update("b")
    yield "rollback", back("a")
    yield "canary", lambda: served.update("b", **blue_green("CANARY", wait, CanarySize=percent(20)))
    yield "update", lambda: served.update("a", **blue_green("LINEAR", wait, LinearStepSize=percent(50)))
    yield "process killed", again(lambda process: process.kill())
    yield "process stopped", again(lambda process: process.suspend())
    yield "disk full", full
    yield "back on a full disk", back_while_full
    yield "feature store stopped", stopped_store
    yield "feature store gone", no_store
    if size.scales:
        yield "scaled up", lambda: served.scale(2)
        yield "scaled down", lambda: served.scale(1)
    yield "steady again", steady


def prove(small: bool) -> Iterator[tuple[str, Row]]:
    """(table, row) as they are found."""
    lines, begun, found = seen(SMALL if small else LARGE, lambda path, n: trained(path, np.random.default_rng(n)))
    yield from (("phase", row) for row in found)
    if not small:
        DRAWING.write_bytes(drawn(lines, begun))


def seen(size: Size, make: Make) -> tuple[list[Line], list[Begun], list[Row]]:
    """Every answer; when what happened; and a row a phase and one of all."""
    begun: list[Begun] = []
    with tempfile.TemporaryDirectory() as folder:
        with Served(Path(folder), size, make) as served:
            for name, happens in phases(served, size):
                begun.append((name, time.time(), None))
                at = happens()
                begun[-1] = (*begun[-1][:2], at)
                time.sleep(size.hold)
        end = time.time()
        lines = [json.loads(line) for line in served.trace.read_text().splitlines()]
        old = {name: bundle.sha256 for name, bundle in served.bundles.items()}
    return lines, begun, list(rows(lines, begun, end, {"rollback": old["a"], "back on a full disk": old["b"]}))


def rows(lines: Sequence[Line], begun: Sequence[Begun], end: float, old: dict[str, str]) -> Iterator[Row]:
    """A row a phase, and one of all; `old`: of a way back, the bundle that it leads to."""
    ends = [at for _, at, _ in begun[1:]] + [end]
    for (name, since, asked), until_ in zip(begun, ends, strict=True):
        mine = [line for line in lines if since <= line[0] < until_]
        yield {"phase": name, "seconds": until_ - since, **figures(mine), "back_seconds": back(mine, asked, old, name)}
    all_of = [line for line in lines if line[0] >= begun[0][1]]
    yield {"phase": "all", "seconds": end - begun[0][1], **figures(all_of), "back_seconds": None}


def back(lines: Sequence[Line], asked: float | None, old: dict[str, str], name: str) -> float | None:
    """Seconds from the call to the first answer of the old model; None where nobody asked for the way back."""
    if asked is None:
        return None
    answers = [at + seconds for at, seconds, status, _, sha256 in lines if status == 200 and sha256 == old[name]]
    return min((at - asked for at in answers if at >= asked), default=float("inf"))


def figures(lines: Sequence[Line]) -> Row:
    """Requests, those that were lost, popularity's by reason, and how long they took."""
    took = np.array([line[1] for line in lines] or [np.nan]) * 1000
    reasons = Counter(line[3] for line in lines if line[2] == 200)
    return {
        "requests": len(lines),
        "lost": sum(line[2] != 200 for line in lines),
        **{reason: reasons[reason] for reason in COUNTED},
        "p50_ms": float(np.quantile(took, 0.5)),
        "p99_ms": float(np.quantile(took, 0.99)),
    }


def goals(rows: list[Row]) -> list[Row]:
    """Nothing lost, and a short way back."""
    whole, backs = rows[-1], [row for row in rows if row["back_seconds"] is not None]
    slowest = max(row["back_seconds"] for row in backs)
    return [
        {"goal": "no request is lost", "found": whole["lost"], "met": whole["lost"] == 0},
        {"goal": "an old answer in 2 s", "found": f"{slowest:.2f} s", "met": slowest < BACK_SECONDS},
    ]


def drawn(lines: Sequence[Line], begun: Sequence[Begun]) -> bytes:
    """Every answer's time over the minutes, by who made it, and when what happened, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams |= {"svg.hashsalt": "steady", "svg.fonttype": "none", "font.size": 9}
    start = begun[0][1]
    figure, (above, below) = pyplot.subplots(2, 1, figsize=(9, 5), sharex=True, layout="constrained")
    lines = [line for line in lines if line[0] >= start]
    seconds = np.array([line[0] - start for line in lines])
    took = np.array([line[1] * 1000 for line in lines])
    bins = np.arange(0, seconds.max() + 1)
    at = np.digitize(seconds, bins) - 1
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        line = [np.quantile(took[at == n], share) if (at == n).any() else np.nan for n in range(len(bins))]
        above.plot(bins / 60, line, label=name, linewidth=0.8)
    above.set(yscale="log", ylabel="ms, by second")
    above.legend(loc="upper right")
    kinds = {"ranked": [line[2] == 200 and not line[3] for line in lines]}
    kinds |= {reason: [line[2] == 200 and line[3] == reason for line in lines] for reason in COUNTED}
    kinds |= {"lost": [line[2] != 200 for line in lines]}
    counts = [np.bincount(at[np.array(of)], minlength=len(bins)) for of in kinds.values()]
    below.stackplot(bins / 60, counts, labels=kinds, linewidth=0)
    below.set(xlabel="minutes", ylabel="answers a second")
    below.legend(loc="lower left", ncols=len(kinds), fontsize=7)
    for name, since, _ in begun:
        for panel in (above, below):
            panel.axvline((since - start) / 60, color="grey", linewidth=0.5)
        above.annotate(name, ((since - start) / 60, above.get_ylim()[1]), rotation=25, fontsize=7)
    out = BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return re.sub(rb"(\d\.\d)\d{3,}", rb"\1", out.getvalue())  # a tenth of a point is seen by nobody


def until(done: Callable[[], bool]) -> None:
    """Raises where it takes longer than anybody would wait."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{done} must come to pass in {PATIENCE_SECONDS:.0f} s")
        time.sleep(0.05)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False
