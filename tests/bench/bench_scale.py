"""What a row costs on Spark against one process, and whether the driver's memory grows with rows, users and items.

A small world is drawn once and stands beside itself 1, 4 and 16 times, every id of a copy its own: rows, users and
items grow together. Each stage runs as its command does, once in one process and once on Spark with two cores and a
driver of 1 GB, over the same tables; what one process publishes is what the next stage reads. `cpu_seconds` are those
of the whole tree of processes, imports and the JVM's start included, so that a busy machine changes them little;
`jvm`, `driver` and `workers` are its shares. Memory is the peak of resident pages of each kind, workers together.
Both ways must publish as many rows. With the fewest and the most rows each stage runs a third time, on a standalone
cluster of two workers of one core on this machine, where rows go through Spark's shuffles; the start of two executors
counts. Last `validate` takes many small days at once, as where a history is brought.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.config import ROOT
from jobs.flow import STAGES as FLOW
from tests.spark_cluster import SMALL, standalone

IMPRESSIONS, DAYS = 250_000, 5
TIMES, SMALL_TIMES = (1, 4, 16), (1,)
STAGES = ("validate", "attribute", "featurize", "assemble")
RANGE_DAYS, RANGE_IMPRESSIONS = 36, 1_152_000
FIRST = date(2026, 1, 1)
SLATE = 4
DRIVER_MB = 1024
GOAL_ROWS, MOST_CPU = 3_000_000, 2.0
MOST_WALL = 3.0
"""Of the long range, times one process's."""
MOST_GROWTH_MIB = 128
"""Of the driver from the least to the most rows: less than a byte a row of them."""
EXECUTOR_MB = 1024
"""A worker's Python is beside it."""
CLUSTER = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.executor.memory": f"{EXECUTOR_MB}m",
    "spark.driver.extraJavaOptions": SMALL,
    "spark.executor.extraJavaOptions": SMALL,
}
SAMPLES_PER_SECOND = 10
IDS = ("_id", "candidates")
"""The names of columns of ids end with these."""
Row = dict[str, Any]


@dataclass
class Used:
    """What a tree of processes took, by kind: `jvm`, `driver` (the command itself), `workers`."""

    seconds: dict[int, tuple[str, float]] = field(default_factory=dict)
    """Of each process the last that was seen of it: pages and time of those that ended are nobody's."""
    before: dict[int, float] = field(default_factory=dict)
    """What processes that were there at the start, a cluster's, had taken by then."""
    peak_mib: Counter[str] = field(default_factory=Counter)

    def begin(self) -> None:
        """What is taken from now on counts."""
        self.look(0)
        self.before = {pid: seconds for pid, (_, seconds) in self.seconds.items()}

    def look(self, driver: int) -> None:
        """At all that this process has started. Those that have ended since the last look keep what they had then."""
        now: Counter[str] = Counter()
        for process in psutil.Process().children(recursive=True):
            try:
                with process.oneshot():
                    kind = "driver" if process.pid == driver else "jvm" if process.name() == "java" else "workers"
                    times, memory = process.cpu_times(), process.memory_info()
            except psutil.Error:
                continue
            # Forked workers share pages with what they were forked from.
            now[kind] += (memory.rss - memory.shared * (kind == "workers")) / 2**20
            self.seconds[process.pid] = kind, times.user + times.system
        self.peak_mib = self.peak_mib | now

    def total(self, kind: str | None = None) -> float:
        """Processor seconds."""
        of = [(pid, seconds) for pid, (found, seconds) in self.seconds.items() if kind in (None, found)]
        return sum(seconds - self.before.get(pid, 0.0) for pid, seconds in of)


def prove(small: bool) -> Iterator[tuple[str, Row]]:
    """A row a stage, size and way, then one a stage and size with how the ways compare."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        impressions = 20_000 if small else IMPRESSIONS
        _ingest(home / "1", impressions, DAYS)
        for times in SMALL_TIMES if small else TIMES:
            at = home / f"x{times}"
            _multiply(home / "1" / "raw", at / "raw", times)
            alone = {}
            for stage in STAGES:
                # Jobs and stages are as many for however many rows.
                found = {way: _run(at, stage, way, noted=times == 1) for way in ("one process", "spark")}
                for way, row in found.items():
                    yield stage, {"impressions": impressions * times, "way": way, **row}
                yield "compared", _compared(stage, impressions * times, found["one process"], found["spark"])
                alone[stage] = found["one process"]
            if times in (TIMES[0], TIMES[-1]):
                yield from _clustered(at, impressions * times, alone)
            shutil.rmtree(at)
        days, many = (DAYS + 1, 20_000) if small else (RANGE_DAYS, RANGE_IMPRESSIONS)
        _ingest(home / "range", many, days)
        found = {way: _run(home / "range", "validate", way, days) for way in ("one process", "spark")}
        for way, row in found.items():
            yield "validate, a range", {"days": days, "impressions": many, "way": way, **row}
        yield "range", _compared("validate", many, found["one process"], found["spark"])


def _clustered(home: Path, impressions: int, alone: Mapping[str, Row]) -> Iterator[tuple[str, Row]]:
    """Each stage again, over what one process published of the stages before it."""
    with standalone(home, memory_mib=EXECUTOR_MB) as cluster:
        for stage in STAGES:
            found = _run(home, stage, "cluster", master=cluster.master)
            yield stage, {"impressions": impressions, "way": "cluster", **found}
            yield "clustered", _compared(stage, impressions, alone[stage], found)


def _compared(stage: str, impressions: int, one: Row, spark: Row) -> Row:
    if one["rows"] != spark["rows"]:
        raise SystemExit(f"{stage} needs as many rows either way; found {one['rows']} and {spark['rows']}")
    ratio = spark["cpu_seconds"] / one["cpu_seconds"]
    return {
        "stage": stage,
        "impressions": impressions,
        "cpu_ratio": round(ratio, 2),
        "wall_ratio": round(spark["seconds"] / one["seconds"], 2),
        "driver_mib": spark["driver_mib"],
        "jvm_mib": spark["jvm_mib"],
    }


def goals(rows: list[Row]) -> list[Row]:
    """What a row may cost where there are many, and how much more a driver may need for more rows."""
    compared = [row for row in rows if row["table"] == "compared"]
    found = []
    for stage in STAGES:
        mine = [row for row in compared if row["stage"] == stage]
        for row in (row for row in mine if row["impressions"] >= GOAL_ROWS):
            goal = f"{stage}: at most {MOST_CPU:g} times the processor time of one process"
            found.append({"goal": goal, "found": row["cpu_ratio"], "met": row["cpu_ratio"] <= MOST_CPU})
        grown = mine[-1]["driver_mib"] - mine[0]["driver_mib"]
        goal = f"{stage}: the driver takes at most {MOST_GROWTH_MIB} MiB more for {TIMES[-1]} times the rows"
        found.append({"goal": goal, "found": grown, "met": grown <= MOST_GROWTH_MIB})
    [wall] = [row["wall_ratio"] for row in rows if row["table"] == "range"]
    goal = f"validate of {RANGE_DAYS} days: at most {MOST_WALL:g} times the time of one process"
    return [*found, {"goal": goal, "found": wall, "met": wall <= MOST_WALL}]


def _settings(home: Path, way: str, noted: bool = False, master: str = "local[2]") -> dict[str, str]:
    """A lake of each way's own; Spark notes its jobs and stages where that is asked for, which costs it some."""
    log = {
        "spark.eventLog.enabled": True,
        "spark.eventLog.dir": f"file://{home / 'events'}",
        "spark.eventLog.rolling.enabled": False,
        "spark.eventLog.compress": False,
    }
    spark = {
        "master": master,
        "python": sys.executable,
        "driver_memory_mb": str(DRIVER_MB),
        "from_rows": str(2**62) if way == "one process" else "0",
        "conf": json.dumps((log if noted else {}) | (CLUSTER if way == "cluster" else {})),
    }
    own = {
        "TIDEGATE_ENV": "test",
        "TIDEGATE__LAKE__ROOT": str(home / way.replace(" ", "-")),
        "TIDEGATE__LAKE__RAW": str(home / "raw"),
        "TIDEGATE__LAKE__RESULTS": str(home / "results"),
        "TIDEGATE__FEATURES__ONLINE": "false",
        "TIDEGATE__DATASET__TRAIN_DAYS": "2",
        "OMP_NUM_THREADS": "1",
    }
    return own | {f"TIDEGATE__SPARK__{name.upper()}": value for name, value in spark.items()}


def _run(home: Path, stage: str, way: str, days: int = DAYS, noted: bool = False, master: str = "local[2]") -> Row:
    """One command, watched. On Spark it reads what one process published, in a lake that is linked to that one's."""
    (home / "events").mkdir(parents=True, exist_ok=True)
    ours, theirs = home / "one-process", home / way
    if way != "one process":
        shutil.rmtree(theirs, ignore_errors=True)
        written = FLOW[stage].writes
        for table in ours.iterdir():
            if table.name not in written:
                shutil.copytree(table, theirs / table.name, copy_function=os.link)
    since = [] if stage == "assemble" else ["--since", str(FIRST)]
    command = [sys.executable, "-m", "jobs", stage, "--day", str(_last(days)), *since]
    used, started = Used(), time.perf_counter()
    used.begin()
    with (home / f"{stage}.log").open("w") as log:
        environment = {**os.environ, **_settings(home, way, noted, master)}
        child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        while child.poll() is None:
            used.look(child.pid)
            time.sleep(1 / SAMPLES_PER_SECOND)
    printed = child.stdout.read() if child.stdout else ""
    if child.returncode:
        raise SystemExit(f"{stage}, {way}: {(home / f'{stage}.log').read_text()[-3000:]}")
    told = json.loads(printed.splitlines()[-1])
    return {
        "rows": told["rows"],
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(used.total(), 1),
        **{f"{kind}_seconds": round(used.total(kind), 1) for kind in ("driver", "jvm", "workers")},
        **{f"{kind}_mib": round(used.peak_mib[kind]) for kind in ("driver", "jvm", "workers")},
        **(_jobs(home / "events") if noted else {}),
    }


def _jobs(events: Path) -> Row:
    """How many jobs and stages Spark has noted, and forgets them."""
    counted: Counter[str] = Counter()
    for path in events.iterdir():
        with path.open() as lines:
            counted.update(line.partition('"Event":"')[2].partition('"')[0] for line in lines)
        path.unlink()
    return {"jobs": counted["SparkListenerJobStart"], "stages": counted["SparkListenerStageCompleted"]}


def _last(days: int) -> date:
    return FIRST + timedelta(days=days - 1)


def _ingest(home: Path, impressions: int, days: int) -> None:
    """Some days of a small world as raw files."""
    size = {"DAYS": days, "REQUESTS_PER_DAY": impressions // days // SLATE, "USERS": impressions // 25, "ITEMS": 2_000}
    world = {f"TIDEGATE__WORLD__{name}": str(value) for name, value in size.items()}
    command = [sys.executable, "-m", "jobs", "ingest", "--day", str(_last(days)), "--since", str(FIRST)]
    environment = {**os.environ, **_settings(home, "one process"), **world}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _multiply(raw: Path, many: Path, times: int) -> None:
    """Each file so many times over, every copy with ids of its own; events of copies in the order of their time."""
    for path in sorted(raw.rglob("*.parquet")):
        rows = pq.ParquetFile(path).read()
        copies = pa.concat_tables([_copy(rows, f"x{number}") for number in range(times)])
        out = many / path.relative_to(raw)
        out.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(copies, out)


def _copy(rows: pa.Table, mark: str) -> pa.Table:
    for n, name in enumerate(rows.column_names):
        if name.endswith(IDS):
            rows = rows.set_column(n, name, _marked(rows.column(name).combine_chunks(), mark))
    return rows


def _marked(ids: pa.Array, mark: str) -> pa.Array:
    if pa.types.is_list(ids.type):
        return pa.ListArray.from_arrays(ids.offsets, _marked(ids.values, mark), mask=ids.is_null())
    return pc.binary_join_element_wise(ids, mark, "")
