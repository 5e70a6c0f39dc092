"""Peak memory of a training against its rows, by kind of ranker: the whole stage, from examples to published bundles.

Each run is a process of its own. Memory that has no file behind it is what ends a process where there is too little;
pages of files, which the system takes back when it needs them, are told apart.
"""

import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.train import job
from jobs.train.sample import BYTES_A_ROW
from models.features import LAST_ITEMS
from models.rankers import BASELINE, RANKERS
from tests.jobs import small_lake
from tests.jobs.small_lake import DAY, World, a_run, publish, settings

ROWS = (100_000, 400_000)
FEW = (3_000, 6_000)
DAYS = 20
"""Of examples; the newest is the validate split."""
SIZES = {"USERS": 20_000, "ITEMS": 2_000}
MOST_BYTES_A_ROW = BYTES_A_ROW
"""Of private memory: by it a training says how many rows it learns from."""
SAMPLES_PER_SECOND = 50


def prove(small: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """(table, row): a training's peaks by kind and rows, then what a row adds."""
    kinds = (BASELINE, "xgboost") if small else tuple(RANKERS)
    counts = FEW if small else ROWS
    with tempfile.TemporaryDirectory() as folder:
        for rows in counts:
            _in_a_process(_prepare, Path(folder) / str(rows), rows)
        for kind in kinds:
            peaks = []
            for rows in counts:
                peaks.append(_in_a_process(_peaks, Path(folder) / str(rows), kind))
                yield "trainings", {"ranker": kind, "examples": rows, **peaks[-1]}
            more = {name: (peaks[1][name] - peaks[0][name]) * 2**20 / (counts[1] - counts[0]) for name in MEASURED}
            yield "a row", {"ranker": kind, **{f"bytes_{name}": round(of) for name, of in more.items()}}


MEASURED = {"private": "RssAnon", "of_files": "RssFile"}
"""Kinds of memory, MiB, and what the kernel calls them."""


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a row adds to the peak, of each ranker."""
    found = {row["ranker"]: row["bytes_private"] for row in rows if row["table"] == "a row"}
    return [
        {"goal": f"a row of {kind} adds at most {MOST_BYTES_A_ROW} bytes", "found": of, "met": of <= MOST_BYTES_A_ROW}
        for kind, of in found.items()
    ]


def _in_a_process(of: Any, *given: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(of, given)


def _prepare(root: Path, rows: int) -> None:
    """Examples of all days, with full lists."""
    _resized()
    rng, world = np.random.default_rng(rows), World()
    n = rows // DAYS // small_lake.SLATE
    days = [DAY - timedelta(days=1 + back) for back in range(DAYS, 0, -1)]
    parts = [small_lake.examples(world, day, "train", n) for day in days[:-1]]
    examples = pa.concat_tables([*parts, small_lake.examples(world, days[-1], "validate", n)])
    listed = pa.array(small_lake.item_ids(rng.integers(0, SIZES["ITEMS"], len(examples) * LAST_ITEMS)))
    lists = pa.ListArray.from_arrays(np.arange(0, len(listed) + 1, LAST_ITEMS, dtype=np.int32), listed)
    at = examples.schema.get_field_index("last_items")
    examples = examples.set_column(at, examples.schema.field(at), lists.cast(examples.schema.field(at).type))
    config = settings(root, root)
    publish(config, "examples", examples, day=str(DAY), mode="full")
    publish(config, "items", small_lake.items(world), day=str(days[-1]))


def _peaks(root: Path, kind: str) -> dict[str, Any]:
    """A training of one kind, and the baseline beside it."""
    _resized()
    config = settings(root, root, ranker__kinds=f'["{kind}"]', retrieval__kinds='["item_cf"]')
    found, ended = dict.fromkeys(MEASURED, 0.0), threading.Event()

    def watch() -> None:
        while not ended.wait(1 / SAMPLES_PER_SECOND):
            now = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            for name, field in MEASURED.items():
                found[name] = max(found[name], int(now[field].split()[0]) / 1024)

    watcher, started = threading.Thread(target=watch), time.monotonic()
    watcher.start()
    try:
        job.run(a_run("train", config))
    finally:
        ended.set()
        watcher.join()
    return {**found, "seconds": round(time.monotonic() - started, 1)}


def _resized() -> None:
    """The small lake, large."""
    for name, size in SIZES.items():
        setattr(small_lake, name, size)
