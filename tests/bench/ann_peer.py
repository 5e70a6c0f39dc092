"""hnswlib or ScaNN over item vectors, by the interpreter of a side environment: `ann_peer.py KIND FOLDER OUT`.

`FOLDER` has `items.npy` (n, d), `users.npy` (m, d) and `truth.npy` (m, most), `OUT` becomes rows as JSON. `measured` is
what our own indexes are measured by, too; nothing but numpy is imported before a peer is asked for.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Search = Callable[[Any, int], Any]
"""(1, d) and k to (k,) items, best first."""
Row = dict[str, Any]
BURSTS = 3
LINKS, BREADTH = 32, 200
"""Of a graph when it is built: what our own is built with."""
BREADTHS = (1_000, 1_500, 2_500, 4_000)
SCANN = ((25, 2), (50, 2), (100, 4), (200, 4), (200, 8), (400, 16))
"""Leaves that are searched, of 2 sqrt(n), and so many times k looked at again in single precision."""


def measured(points: Mapping[str, Search], users: Any, truth: Any, ks: tuple[int, ...]) -> Iterator[Row]:
    """A row a point and k: recall of the k nearest, and milliseconds of a search for one user.

    Milliseconds are the processor's, of all threads (there is one): a machine that does other things, too, takes longer
    by the clock, which is `clock_p50_ms`. Every burst asks for all users, one after another, at each point; p50 and p99
    are a burst's, the least of `BURSTS`, since neighbours also take memory's bandwidth.
    """
    took: dict[tuple[str, int], list[Any]] = {(name, k): [] for name in points for k in ks}
    recall = {}
    for _ in range(BURSTS):
        for (name, k), bursts in took.items():
            search, found = points[name], np.empty((len(users), k), dtype=np.int64)
            times = np.empty((len(users) + 1, 2))
            times[0] = time.process_time(), time.perf_counter()
            for at in range(len(users)):
                found[at] = search(users[at : at + 1], k)
                times[at + 1] = time.process_time(), time.perf_counter()
            mine, clock = np.diff(times, axis=0).T * 1_000
            bursts.append((*np.percentile(mine, (50, 99)), np.median(clock)))
            shares = [len(np.intersect1d(row, best)) / k for row, best in zip(found, truth[:, :k], strict=True)]
            recall[name, k] = float(np.mean(shares))
    for (name, k), bursts in took.items():
        figures = dict(zip(("p50_ms", "p99_ms", "clock_p50_ms"), np.min(bursts, axis=0).round(3).tolist(), strict=True))
        yield {"point": name, "k": k, "recall": round(recall[name, k], 4)} | figures


def hnswlib(items: Any) -> tuple[dict[str, Search], Callable[[Path], None]]:
    """A graph of `LINKS` links; points by the breadth of a search, at least k."""
    from hnswlib import Index

    index = Index("ip", items.shape[1])
    index.init_index(len(items), M=LINKS, ef_construction=BREADTH, random_seed=7)
    index.add_items(items, num_threads=2)
    index.set_num_threads(1)

    def at(breadth: int) -> Search:
        def search(query: Any, k: int) -> Any:
            index.set_ef(max(breadth, k))
            return index.knn_query(query, k)[0][0]

        return search

    points = {f"ef {breadth}": at(breadth) for breadth in BREADTHS}
    return points, lambda folder: index.save_index(str(folder / "index"))


def scann(items: Any) -> tuple[dict[str, Search], Callable[[Path], None]]:
    """Leaves, four-bit codes of two dimensions with anisotropic loss and a second look, as its authors advise."""
    from scann import scann_ops_pybind

    leaves = round(2 * len(items) ** 0.5)
    index = (
        scann_ops_pybind.builder(items, 1_000, "dot_product")
        .set_n_training_threads(2)
        .tree(leaves, 100, training_sample_size=min(len(items), 250_000))
        .score_ah(2, anisotropic_quantization_threshold=0.2)
        .reorder(2_000)
        .build()
    )

    def at(searched: int, again: int) -> Search:
        return lambda query, k: index.search(query[0], k, again * k, searched)[0]

    points = {f"leaves {searched}, refine {again}": at(searched, again) for searched, again in SCANN}
    return points, lambda folder: index.serialize(str(folder))


def main(kind: str, folder: Path, out: Path) -> None:
    """Builds, saves and searches; seconds of building are the processor's."""
    items, users, truth = (np.load(folder / f"{name}.npy") for name in ("items", "users", "truth"))
    started = time.process_time()
    points, save = {"hnswlib": hnswlib, "scann": scann}[kind](items)
    about = {"index": kind, "build_cpu_s": round(time.process_time() - started, 1)}
    with tempfile.TemporaryDirectory() as saved:
        save(Path(saved))
        about["mib"] = round(sum(os.path.getsize(path) for path in Path(saved).rglob("*")) / 2**20)
    out.write_text(json.dumps([about | row for row in measured(points, users, truth, (1_000, 100))]))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
