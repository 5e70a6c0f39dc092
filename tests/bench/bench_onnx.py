"""Each ranker by its own predict and by its graph in ONNX Runtime: milliseconds of a request, bytes, memory.

Milliseconds are of the processor, one thread, the median of `TIMES` calls that take turns; columns are ready, ids are
looked up in both. `bytes`: of all files of the ranker, the graph among them. `memory`: MiB by which a process grows
with the ranker loaded and asked once for 1,000 candidates, libraries aside, each way in a process of its own.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from models.rankers import RANKERS, exported, fit, load
from models.rankers.served import GRAPH_FILE, Served, furthest
from models.settings import RankerSettings
from tests.models.rankers.id_world import IdWorld

TRAIN_ROWS, CANDIDATES, TIMES = 20_000, (20, 200, 1_000), 100
PAGE = 10
"""Rows shown together, for rankers that learn an order."""


def milliseconds(*ways: Callable[[], object]) -> list[float]:
    """Of each, taking turns."""
    took: list[list[float]] = [[] for _ in ways]
    for _ in range(TIMES):
        for way, times in zip(ways, took, strict=True):
            began = time.process_time()
            way()
            times.append((time.process_time() - began) * 1e3)
    return [float(np.median(times[2:])) for times in took]


def figures() -> Iterator[dict[str, Any]]:
    """A row for each ranker."""
    world = IdWorld()
    train, test = world.rows(TRAIN_ROWS, 1).data, world.rows(max(CANDIDATES), 2).data.features
    train = replace(train, groups=np.arange(TRAIN_ROWS) // PAGE)
    for kind in RANKERS:
        own = fit(kind, train, RankerSettings())
        graph = exported(own, test)
        row: dict[str, Any] = {"ranker": kind, "graph": isinstance(graph, Served)}
        for n in CANDIDATES:
            some = {name: column[:n] for name, column in test.items()}
            ways = [own, graph] if row["graph"] else [own]
            took = milliseconds(*(lambda of=of, some=some: of.predict(some) for of in ways))  # type: ignore[misc]
            row |= dict(zip((f"own_ms_{n}", f"onnx_ms_{n}"), took, strict=False))
        files = graph.to_files()
        row["bytes"] = sum(map(len, files.values()))
        if row["graph"]:
            row |= {"graph_bytes": len(files[GRAPH_FILE]), "apart": furthest(own.predict(test), graph.predict(test))}
        yield row


def memory(rows: int, dimensions: int, by_graph: bool) -> float:
    """MiB that a network over a table of so many rows takes, loaded and asked, in a process of its own."""
    call = [sys.executable, "-m", "tests.bench.bench_onnx", str(rows), str(dimensions), str(int(by_graph))]
    root = Path(__file__).resolve().parents[2]
    return float(json.loads(subprocess.run(call, cwd=root, capture_output=True, check=True, text=True).stdout))


def grown(rows: int, dimensions: int, by_graph: bool) -> float:
    """What `memory` asks, in this process."""
    import psutil

    from models.rankers.embeddings import Embeddings
    from models.rankers.mmoe import MMoERanker

    world = IdWorld()
    settings = RankerSettings.model_validate({"mmoe": {"embedding_dimensions": dimensions}})
    small = fit("mmoe", world.rows(2_000, 1).data, settings)
    assert isinstance(small, MMoERanker)
    test, table = world.rows(1_000, 2).data.features, small._table
    more = {**table.values, "item_id": (*table.values["item_id"], *(f"more {at}" for at in range(rows)))}
    wide = [np.concatenate([of, np.zeros((rows, *of.shape[1:]), of.dtype)]) for of in (table.rows, table.accumulators)]
    last = np.concatenate([table.last_seen, np.zeros(rows, np.int32)])
    small._table = Embeddings(more, *wide, last)
    files = exported(small, test).to_files() if by_graph else small.to_files()
    del small, table, more, wide, last
    process = psutil.Process()
    before = process.memory_info().rss
    load("mmoe", files).predict(test)
    return (process.memory_info().rss - before) / 2**20


def prove(small: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """A row for each ranker, then the memory of a network over so many ids of 32 numbers."""
    for row in figures():
        yield "serving", row
    ids = 10_000 if small else 1_000_000
    wide = {name: memory(ids, 32, by_graph) for name, by_graph in (("own_mib", False), ("onnx_mib", True))}
    yield "memory", {"ranker": "mmoe", "ids": ids, "dimensions": 32, **wide}


if __name__ == "__main__":
    print(json.dumps(grown(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1")))
