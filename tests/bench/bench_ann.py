"""Indexes of a million item vectors side by side: recall of the exact answers against milliseconds of one search.

    million    1,000,000 x 64: ours by kind, hnswlib and ScaNN (in `var/ann-env`, made on the first run); recall of
               the 1,000 and of the 100 nearest, p50 and p99 of one search on one thread, build in seconds of
               processor time, MiB as saved
    size       exact and ivf as the settings have them, of fewer vectors: from which size on a scan costs too much

The vectors are as embeddings of items are: of clusters whose sizes fall with their rank, wider along few directions
(none of them an axis) than along most, of lengths that differ. A user is the mean of ten items of three
clusters, as retrievers make one of a history. Ours are searched through `VectorIndex` and told what is barred, as
endpoints do. `docs/ann.svg` is drawn of the first table.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.retrieval.vector_index import VectorIndex
from models.settings import IndexSettings, RetrievalSettings
from tests.bench.ann_peer import BREADTHS, Search, measured

Floats = NDArray[np.float32]
ROOT = Path(__file__).resolve().parents[2]
DRAWING = ROOT / "docs" / "ann.svg"
SIDE = ROOT / "var" / "ann-env"
PACKAGES = ("numpy==2.4.6", "hnswlib==0.8.0", "scann==1.4.2", "protobuf==7.36.2")
N, D, USERS, KS = 1_000_000, 64, 300, (1_000, 100)
SMALL, SMALL_USERS, SMALL_KS = 2_000, 10, (100, 20)
SIZES = (30_000, 100_000, 300_000)
KINDS = ("exact", "ivf", "pq", "hnsw")
PROBED, REFINED = (8, 16, 32, 64, 128, 256), (1, 2, 4, 8, 16)
"""Lists a search of ivf looks into; so many times k codes of pq are looked at again."""


def embeddings(n: int, m: int) -> tuple[Floats, Floats]:
    """Items (n, 64) and users (m, 64)."""
    rng = np.random.default_rng(7)
    clusters = max(n // 500, 3)
    spread = (1.0 + np.arange(D)) ** -0.5
    share = (1.0 + np.arange(clusters)) ** -0.7
    of = rng.choice(clusters, n, p=share / share.sum())
    turned = np.linalg.qr(rng.standard_normal((D, D)))[0] * spread[:, None]
    centres = rng.standard_normal((clusters, D))
    items = (centres[of] + 0.6 * rng.standard_normal((n, D))) @ turned
    items *= rng.lognormal(0, 0.25, (n, 1))
    by_cluster, sizes = np.argsort(of, kind="stable"), np.bincount(of, minlength=clusters)
    liked = of[rng.integers(0, n, (m, 3))][np.arange(m)[:, None], rng.integers(0, 3, (m, 10))]
    taken = by_cluster[(np.cumsum(sizes) - sizes)[liked] + (rng.random((m, 10)) * sizes[liked]).astype(np.int64)]
    return items.astype(np.float32), items[taken].mean(axis=1).astype(np.float32)


def nearest(items: Floats, users: Floats, k: int) -> NDArray[np.int64]:
    """(m, k) the items of the largest inner products, largest first."""
    found = []
    for user in users:
        products = items @ user
        best = np.argpartition(-products, k - 1)[:k]
        found.append(best[np.argsort(-products[best], kind="stable")])
    return np.array(found)


def ours(kind: str, items: Floats, users: Floats) -> tuple[dict[str, Search], dict[str, Any]]:
    """An index as the settings build it at each of its points, and what is to be said of building it."""
    settings = RetrievalSettings(index=IndexSettings.model_validate({"kind": kind, "canary_min_recall": 0.01}))
    started = time.process_time()
    index = VectorIndex.build(items, users, settings)
    about = {"index": index.kind, "build_cpu_s": round(time.process_time() - started, 1)}
    barred = np.zeros(len(items), dtype=bool)

    def at(name: str, value: int) -> Search:
        def search(query: Any, k: int) -> Any:
            if name == "ef":
                index._facts = replace(index._facts, breadth=value)
            elif name:
                setattr(index._index, name, value)
            return index.search(query, k, barred)[0][0]

        return search

    named = {"ivf": ("nprobe", PROBED), "pq": ("k_factor", REFINED), "hnsw": ("ef", BREADTHS)}
    if kind not in named:
        points = {"as set": at("", 0)}
    else:
        name, values = named[kind]
        points = {f"{name} {value}": at(name, value) for value in values}
    return points, about | {"mib": round(sum(map(len, index.to_files().values())) / 2**20)}


def million(n: int, users: int, ks: tuple[int, ...], folder: Path | None) -> Iterator[dict[str, Any]]:
    """A row a point and k; peers where there is a `folder` to hand them the vectors in."""
    import faiss

    items, asked = embeddings(n, users)
    truth = nearest(items, asked, max(ks))
    for kind in KINDS:
        points, about = ours(kind, items, asked)
        faiss.omp_set_num_threads(1)
        yield from (about | row for row in measured(points, asked, truth, ks))
    if folder is None:
        return
    for name, array in {"items": items, "users": asked, "truth": truth}.items():
        np.save(folder / f"{name}.npy", array)
    del items
    for peer in ("hnswlib", "scann"):
        yield from by_peer(peer, folder)


def by_peer(peer: str, folder: Path) -> list[dict[str, Any]]:
    """Its rows, or why there are none."""
    out = folder / "found.json"
    try:
        if not (SIDE / "ready").exists():
            subprocess.run([sys.executable, "-m", "venv", str(SIDE)], check=True)
            subprocess.run([SIDE / "bin" / "pip", "install", "-q", *PACKAGES], check=True)
            (SIDE / "ready").touch()
        script = Path(__file__).with_name("ann_peer.py")
        subprocess.run([SIDE / "bin" / "python", script, peer, folder, out], check=True)
    except (subprocess.CalledProcessError, OSError) as error:
        return [{"index": peer, "left out": str(error)}]
    found: list[dict[str, Any]] = json.loads(out.read_text())
    return found


def sizes(ks: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """Of the first n of the vectors, by the settings' own points."""
    items, asked = embeddings(N, USERS)
    for n in SIZES:
        truth = nearest(items[:n], asked, max(ks))
        for kind, point in (("exact", "as set"), ("ivf", f"nprobe {RetrievalSettings().index.ivf_probed}")):
            points, about = ours(kind, items[:n], asked)
            for row in measured({point: points[point]}, asked, truth, ks):
                yield {"vectors": n} | about | row


def prove(small: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """See above."""
    if small:
        yield from (("million", row) for row in million(SMALL, SMALL_USERS, SMALL_KS, None))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for row in million(N, USERS, KS, Path(folder)):
            rows.append(row)
            yield "million", row
    DRAWING.write_bytes(drawn(rows))
    yield from (("size", row) for row in sizes(KS))


def drawn(rows: list[Mapping[str, Any]]) -> bytes:
    """Recall against p50, a panel a k, a line an index, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams |= {"svg.hashsalt": "ann", "svg.fonttype": "none", "font.size": 9}
    known = [row for row in rows if "recall" in row]
    ks = sorted({row["k"] for row in known}, reverse=True)
    figure, panels = pyplot.subplots(1, len(ks), figsize=(9, 3.6), sharey=True, layout="constrained")
    for k, panel in zip(ks, panels, strict=True):
        for index in dict.fromkeys(row["index"] for row in known):
            line = sorted((row["recall"], row["p50_ms"]) for row in known if (row["index"], row["k"]) == (index, k))
            recall, p50 = zip(*line, strict=True)
            panel.plot(p50, recall, "o-", label=index, markersize=3, linewidth=1)
        panel.set(xscale="log", xlabel="p50 of one search, ms of a processor", title=f"the {k} nearest")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("recall")
    panels[0].legend(loc="lower right")
    out = BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return out.getvalue()
