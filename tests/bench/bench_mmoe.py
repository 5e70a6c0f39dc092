"""MMoE beside the rankers it must beat, in a world of ids whose truth is known; how fast it learns and answers.

    quality    log-loss above the truth's (nats) of clicks and conversions, AUC, ratio of promised to true clicks
    speed      rows a second of a fit, with and without the encoding of its columns; the loader's share of learning
    serving    milliseconds of one request of 500 candidates
    pruning    what dropping experts by the use of gates costs

The world is `tests.models.rankers.id_world`. torch-rechub is no peer here: its wheels bring a CUDA stack.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from models.evaluation.estimate import Estimate
from models.evaluation.ranking import auc
from models.rankers import RANKERS
from models.rankers.learner import Learner
from models.rankers.mmoe import MMoERanker
from models.rankers.protocol import Ranker
from models.settings import GateSettings, MMoESettings, RankerSettings
from tests.models.rankers.id_world import Drawn, IdWorld, excess

TEST_ROWS, CANDIDATES = 30_000, 500
WORLDS = {50_000: 5, 200_000: 3}
"""Training rows to worlds drawn."""
SINGLE = "mmoe, one expert a task"
FOUR_TIMES = {"epochs": 4}


def fitted(kind: str, drawn: Drawn, seed: int, **settings: Any) -> Ranker:
    """A ranker of a kind by its defaults and `settings`."""
    own = getattr(RankerSettings.model_validate({kind: settings}), kind)
    return RANKERS[kind].fit(drawn.data, own, seed)


PEERS: dict[str, Callable[[Drawn, int], Ranker]] = {
    "logistic": lambda drawn, seed: fitted("logistic", drawn, seed),
    "xgboost": lambda drawn, seed: fitted("xgboost", drawn, seed),
    "mmoe": lambda drawn, seed: fitted("mmoe", drawn, seed),
    SINGLE: lambda drawn, seed: fitted("mmoe", drawn, seed, experts=1, shared=False),
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


def speed(rows: int) -> dict[str, Any]:
    """Of one fit by defaults; processor seconds, so that a busy machine does not count."""
    drawn = IdWorld(users=20_000, items=2_000).rows(rows, 1)
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


def prove(small: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """(table, row) as they are found."""
    for rows, seeds in ({5_000: 2} if small else WORLDS).items():
        for row in quality(rows, seeds):
            yield "quality", row
    yield "speed", speed(5_000 if small else 300_000)
    yield "serving", serving(3 if small else 200)
    for row in pruning(5_000 if small else 100_000):
        yield "pruning", row


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """MMoE closes most of what the linear ranker leaves; the loader takes at most a tenth of learning."""
    most = {row["ranker"]: row for row in rows if row["table"] == "quality" and row["rows"] == 200_000}
    left = most["mmoe"]["click"] / most["logistic"]["click"]
    share = next(row["loader_share"] for row in rows if row["table"] == "speed")
    return [
        {"goal": "mmoe leaves at most half of logistic's excess log-loss", "found": f"{left:.2f}", "met": left <= 0.5},
        {"goal": "the loader takes at most 10 % of learning", "found": f"{share:.1%}", "met": share <= 0.1},
    ]
