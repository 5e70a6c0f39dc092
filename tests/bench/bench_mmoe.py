"""MMoE beside the rankers it must beat, in a world of ids whose truth is known; how fast it learns and answers.

    quality    log-loss above the truth's (nats) of clicks and conversions, AUC, ratio of promised to true clicks
    speed      rows a second of a fit, with and without the encoding of its columns; the loader's share of learning
    serving    milliseconds of one request of 500 candidates
    pruning    what dropping experts by the use of gates costs

    peer       the same network in torch-rechub on the same encoded rows: rows a second of one thread, AUC

The world is `tests.models.rankers.id_world`. torch-rechub is installed without what it depends on (its wheels would
bring a CUDA stack) into `var/bench-rechub`, on the first run, and learns with the torch that is here; seconds are of
the processor, its loader and ours included, and the best of its `RATES` counts.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from models.evaluation.estimate import Estimate
from models.evaluation.ranking import auc
from models.rankers import RANKERS
from models.rankers.batches import Batch
from models.rankers.labels import click_label
from models.rankers.learner import Learner
from models.rankers.mmoe import MMoERanker
from models.rankers.protocol import Ranker
from models.rankers.vectors import _batch
from models.settings import GateSettings, MMoESettings, RankerSettings
from tests.models.rankers.id_world import Drawn, IdWorld, excess

ROOT = Path(__file__).resolve().parents[2]
SIDE, PEER = ROOT / "var" / "bench-rechub", "torch-rechub==0.9.0"
RATES = (3e-3, 1e-2)
TEST_ROWS, CANDIDATES = 30_000, 500
WORLDS = {50_000: 5, 200_000: 3}
"""Training rows to worlds drawn."""
FOUR_TIMES = {"epochs": 4}


def fitted(kind: str, drawn: Drawn, seed: int, **settings: Any) -> Ranker:
    """A ranker of a kind by its defaults and `settings`."""
    own = getattr(RankerSettings.model_validate({kind: settings}), kind)
    return RANKERS[kind].fit(drawn.data, own, seed)


PEERS: dict[str, Callable[[Drawn, int], Ranker]] = {
    "logistic": lambda drawn, seed: fitted("logistic", drawn, seed),
    "xgboost": lambda drawn, seed: fitted("xgboost", drawn, seed),
    "mmoe": lambda drawn, seed: fitted("mmoe", drawn, seed),
    "single_task": lambda drawn, seed: fitted("single_task", drawn, seed),
    "mmoe, four epochs": lambda drawn, seed: fitted("mmoe", drawn, seed, **FOUR_TIMES),
}


def quality(rows: int, seeds: int) -> Iterator[dict[str, Any]]:
    """Each ranker's mean over worlds and its standard error, the truth's own AUC beside it."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in (*PEERS, "truth", "constant")}
    for seed in range(seeds):
        world = IdWorld(seed=seed)
        train, test = world.rows(rows, 100 + seed), world.rows(TEST_ROWS, 200 + seed)
        for name, fit in PEERS.items():
            said = fit(train, seed).predict(test.data.features)
            found[name].append(figures(test, said.p_click, said.p_conversion))
        found["truth"].append(figures(test, test.p_click, test.p_conversion))
        rates = [np.full(TEST_ROWS, of.mean()) for of in (train.data.clicked, train.data.converted)]
        found["constant"].append(figures(test, *rates))
    for name, of in found.items():
        columns = {key: np.array([row[key] for row in of]) for key in of[0]}
        errors = {f"{key}_se": float(np.std(values) / np.sqrt(max(1, seeds - 1))) for key, values in columns.items()}
        yield {"ranker": name, "rows": rows, **{key: float(v.mean()) for key, v in columns.items()}, **errors}


def figures(test: Drawn, p_click: Any, p_conversion: Any) -> dict[str, float]:
    """Of one ranker on one world's test rows."""
    area = auc(test.data.clicked, p_click, settings=GateSettings())
    return {
        "click": excess(test.p_click, p_click),
        "conversion": excess(test.p_conversion, p_conversion),
        "auc": area.value if isinstance(area, Estimate) else float("nan"),
        "ratio": float(p_click.mean() / test.p_click.mean()),
    }


def speed(drawn: Drawn) -> dict[str, Any]:
    """Of one fit by defaults; processor seconds, so that a busy machine does not count."""
    rows = len(drawn.p_click)
    spent = {"step": 0.0, "learn": 0.0}
    kept = {name: getattr(Learner, name) for name in spent}

    def timed(name: str) -> Callable[..., Any]:
        def run(*of: Any) -> Any:
            started = time.process_time()
            result = kept[name](*of)
            spent[name] += time.process_time() - started
            return result

        return run

    level, levelled = Learner._level, [0.0]

    def timed_level(*of: Any) -> None:
        started = time.process_time()
        level(*of)
        levelled[0] += time.process_time() - started

    for name in spent:
        setattr(Learner, name, timed(name))
    Learner._level = timed_level  # type: ignore[method-assign]
    started = time.process_time()
    try:
        fitted("mmoe", drawn, 7)
    finally:
        for name, method in kept.items():
            setattr(Learner, name, method)
        Learner._level = level  # type: ignore[method-assign]
    whole = time.process_time() - started
    passes = spent["learn"] - levelled[0]
    return {
        "rows": rows,
        "columns": len(drawn.data.features),
        "cpu_seconds": whole,
        "rows_per_s": rows / whole,
        "learning_rows_per_s": rows / passes,
        "loader_share": 1 - spent["step"] / passes,
    }


def serving(requests: int) -> dict[str, Any]:
    """Of the ranker as a bundle holds it."""
    world = IdWorld(users=20_000, items=2_000)
    ranker = MMoERanker.from_files(fitted("mmoe", world.rows(50_000, 1), 7).to_files())
    asked = [world.rows(CANDIDATES, 1000 + at).data.features for at in range(requests)]
    ranker.predict(asked[0])
    took = []
    for features in asked:
        started = time.perf_counter()
        ranker.predict(features)
        took.append(1000 * (time.perf_counter() - started))
    return {"candidates": CANDIDATES, "p50_ms": float(np.median(took)), "p99_ms": float(np.percentile(took, 99))}


def pruning(rows: int) -> Iterator[dict[str, Any]]:
    """Eight experts of half the width, measured on rows that nothing was learned from."""
    world = IdWorld()
    settings = MMoESettings(experts=8, expert_width=32)
    ranker = MMoERanker.fit(world.rows(rows, 1).data, settings, 7)
    test = world.rows(TEST_ROWS, 2).data
    for below in (0.05, 0.1, 0.15, 0.2):
        cost = ranker.pruned(below, test)[1]
        losses = {
            f"{task}_{when}": of[task]
            for when, of in (("before", cost.log_loss_before), ("after", cost.log_loss_after))
            for task in of
        }
        yield {"below": below, "kept": len(cost.kept), "usage": [round(of, 3) for of in cost.usage], **losses}


def peer(rows: int) -> Iterator[dict[str, Any]]:
    """Ours by its defaults, then torch-rechub at each rate; ours again with its clock alone, as it was first."""
    if not (SIDE / "torch_rechub").exists():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(SIDE), PEER]
        subprocess.run(pip, check=True)
    world = IdWorld(users=20_000, items=2_000)
    train, test = world.rows(rows, 1), world.rows(TEST_ROWS, 2)
    spent = speed(train)
    ranker = MMoERanker.fit(train.data, MMoESettings(), 7)
    said = ranker.predict(test.data.features)
    found = {"who": "ours", "rows_per_s": spent["learning_rows_per_s"], "loader_share": spent["loader_share"]}
    yield found | areas(test, said.p_click, said.p_conversion)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_encoded(ranker, train, test, folder)
        for rate in RATES:
            command = [sys.executable, "-m", "tests.bench.rechub_peer", name, str(folder / "found.json"), str(rate)]
            path = os.pathsep.join([str(SIDE), os.environ.get("PYTHONPATH", "")])
            subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, check=True)
            of, told = json.loads((folder / "found.json").read_text()), np.load(folder / "found.npy")
            speeds = {
                "rows_per_s": of["rows"] / of["seconds"],
                "loader_share": 1 - of["step_seconds"] * -(-of["rows"] // MMoESettings().batch_size) / of["seconds"],
            }
            yield {"who": f"torch-rechub, rate {rate:g}"} | speeds | areas(test, told[:, 0], told[:, 1])


def areas(test: Drawn, p_click: Any, p_conversion: Any) -> dict[str, float]:
    """AUC of clicks and of conversions among all impressions."""
    pairs = {"auc": (test.data.clicked, p_click), "auc_conversion": (test.data.converted, p_conversion)}
    found = {name: auc(y, p.astype(np.float64), settings=GateSettings()) for name, (y, p) in pairs.items()}
    return {name: of.value if isinstance(of, Estimate) else float("nan") for name, of in found.items()}


def write_encoded(ranker: MMoERanker, train: Drawn, test: Drawn, folder: Path) -> None:
    """Each field's own codes, 0 where unknown, as the peer's tables want them; and the sizes of everything."""
    layout, table, settings = ranker._layout, ranker._table, MMoESettings()
    for name, drawn in (("train", train), ("test", test)):
        rows = _encoded(ranker, drawn)
        codes = rows.codes - np.array([table.first[field] for field in layout.fields], dtype=np.int32)
        words = {_plain(field): codes[:, at] for at, field in enumerate(layout.words)}
        y = np.column_stack([rows.clicked, rows.converted])
        last = codes[:, len(layout.words) :]
        np.savez(folder / f"{name}.npz", numbers=rows.numbers, last_items=last, y=y, **words)
    about = {
        "words": {_plain(field): len(table.values[field]) + 2 for field in layout.words},
        "numbers": rows.numbers.shape[1],
        "dimensions": settings.embedding_dimensions,
        "experts": settings.experts,
        "expert_width": settings.expert_width,
        "tower_width": settings.tower_width,
        "batch": settings.batch_size,
    }
    (folder / "about.json").write_text(json.dumps(about))


def _plain(field: str) -> str:
    """Without the dot, which the peer's library keeps for itself."""
    return field.replace(".", "_")


def _encoded(ranker: MMoERanker, drawn: Drawn) -> Batch:
    click = click_label(drawn.data)
    words = ranker._layout.hashed(drawn.data.features, click.rows)
    encoded = _batch(ranker._layout, ranker._table, drawn.data, click, None, words)
    encoded.converted[:] = drawn.data.converted
    return encoded


def prove(small: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """(table, row) as they are found."""
    for rows, seeds in ({5_000: 2} if small else WORLDS).items():
        for row in quality(rows, seeds):
            yield "quality", row
    yield "speed", speed(IdWorld(users=20_000, items=2_000).rows(5_000 if small else 300_000, 1))
    for row in peer(5_000 if small else 200_000):
        yield "peer", row
    yield "serving", serving(3 if small else 200)
    for row in pruning(5_000 if small else 100_000):
        yield "pruning", row


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """MMoE closes most of what the linear ranker leaves, and is faster than a peer without being worse."""
    most = {row["ranker"]: row for row in rows if row["table"] == "quality" and row["rows"] == 200_000}
    left = most["mmoe"]["click"] / most["logistic"]["click"]
    share = next(row["loader_share"] for row in rows if row["table"] == "speed")
    ours, *theirs = (row for row in rows if row["table"] == "peer")
    faster = ours["rows_per_s"] / max(row["rows_per_s"] for row in theirs)
    better = {name: ours[name] - max(row[name] for row in theirs) for name in ("auc", "auc_conversion")}
    return [
        {"goal": "at least twice torch-rechub's rows a second", "found": f"{faster:.1f}", "met": faster >= 2},
        {
            "goal": "AUC of clicks and of conversions at most 0.001 below torch-rechub's",
            "found": ", ".join(f"{of:+.4f}" for of in better.values()),
            "met": min(better.values()) >= -0.001,
        },
        {"goal": "mmoe leaves at most half of logistic's excess log-loss", "found": f"{left:.2f}", "met": left <= 0.5},
        {"goal": "the loader takes at most 10 % of learning", "found": f"{share:.1%}", "met": share <= 0.1},
    ]
