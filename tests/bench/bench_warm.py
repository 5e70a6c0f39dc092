"""A fortnight in which a ranker is trained in full every day, warm-started, or left as it is: its worth, its cost.

Simulated worlds, whose tastes drift, and a dataset a day as the pipeline makes it: train days (14 here), a validation
day, a test day. On the first day all three are one full training. From then on, every day

    full    a full training of that day's dataset: the yardstick
    warm    continues the day before's warm start by the last train days, as `daily_warm_start` does; after
            `warm.max_depth` of them a full training, which its cost contains
    stale   never trained again

is calibrated by the day's validation rows (stale keeps its first map) and judged on its test rows, which nobody has
learned from, by what the world knows: figures are expectations over clicks, none is drawn for them. Tables: `days`, a
row a world, ranker and day; `fortnight`, a row a drift and ranker with paired differences, intervals by user:

    auc         as if all items were shown first, as candidates are chosen by; at the place they had: auc_shown,
                log_loss, ratio (sum p / sum of the truth)
    young       auc of items shown before they were a day old; newer: of those created after the stale one last learned
    cost        processor seconds of all the fortnight's fits of `warm`, as a share of `full`'s; one, of a warm start
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.evidence.scored import scored
from jobs.moment.identity import IDENTITY
from jobs.train.chain import to_learn
from jobs.train.core import Folds
from models.delays.curve import DelayCurve
from models.evaluation.estimate import Estimate, Finding, Refusal
from models.evaluation.linear import Linear
from models.rankers import fit
from models.rankers.calibrated import calibrated, maps_of
from models.rankers.protocol import Floats, Ranker, Scorer
from models.rankers.recalibration import Outcomes, Recalibration
from models.rankers.words import unpacked
from models.settings import GateSettings
from tests.bench.warm_days import Day, days

KINDS = ("logistic", "xgboost", "mmoe")
DAYS, SEEDS = 14, (31, 32)
WORLD = {
    "WORLD__USERS": "4000",
    "WORLD__ITEMS": "600",
    "WORLD__NEW_ITEMS_PER_DAY": "40",
    "WORLD__REQUESTS_PER_DAY": "4000",
    "DATASET__TRAIN_DAYS": "14",
}
DRIFTS = {"slow": "0.01", "fast": "0.05"}
"""How far tastes walk in a day: the world's own default, and five times that."""
SMALL_WORLD = WORLD | {
    "WORLD__USERS": "300",
    "WORLD__ITEMS": "80",
    "WORLD__REQUESTS_PER_DAY": "300",
    "DATASET__TRAIN_DAYS": "5",
    "RANKER__XGBOOST__ROUNDS": "10",
}
GATE = GateSettings()
WITHIN, AT_MOST = 0.001, 0.25
"""AUC that a warm start may lose to a full training, and its share of that one's cost."""
SIDES, TRUTH = ("full", "warm", "stale"), "truth"
A_WORLD = 10**9
"""Users of different worlds are told apart by that."""


@dataclass(frozen=True)
class Made:
    """A ranker as it serves, where it stands in its chain, and the processor seconds that its fit took."""

    ranker: Scorer
    taught_until: datetime
    curve: DelayCurve | None
    depth: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Judged:
    """What the three say of one day's test rows, and what is true of them; arrays are (n,).

    `first`, `shown`: P(click) by side, and as `TRUTH`, were the item shown first, and at the place it had.
    """

    first: Mapping[str, Floats]
    shown: Mapping[str, Floats]
    users: NDArray[np.int64]
    """The same integers on every day of a world."""
    age_days: Floats
    newer: NDArray[np.bool_]
    """Whether the item was created after the stale one last learned."""
    depth: int
    seconds: Mapping[str, float]


def trained(folds: Folds, kind: str, of: Day, before: Made | None = None) -> Made:
    """A full training, or what `before` becomes by the rows of `folds` that are new to it."""
    data = folds.train if before is None else to_learn(folds.train, kind, before.taught_until)
    if data is None:
        raise ValueError(f"a warm start of {of.day} needs new rows; found none")
    started = time.process_time()
    plain = fit(kind, data, of.config.ranker, None if before is None else before.ranker)
    seconds = time.process_time() - started
    depth = 0 if before is None else before.depth + 1
    ranker = mapped(plain, folds, None if before is None else before.ranker)
    return Made(ranker, folds.taught_until, folds.conversions.curve, depth, seconds)


def mapped(plain: Ranker, folds: Folds, before: Scorer | None) -> Scorer:
    """Calibrated on the validation rows as `jobs.train` does it; clicks alone, which alone are judged."""
    later = folds.train.held_out
    if later is None:
        return plain
    clicks = Outcomes(
        plain.predict(later.features).p_click,
        later.clicked,
        _users(unpacked(later.features["user_id"])),
        unpacked(later.features["surface"]),
    )
    of_click, of_conversion = maps_of(plain if before is None else before)
    return calibrated(plain, Recalibration.fit(clicks, of_click), of_conversion)


def _users(names: Any) -> NDArray[np.int64]:
    """A user's integer is that of its name, whatever the rows."""
    return np.array([int(name.removeprefix("u")) for name in names], dtype=np.int64)


def lived(of: Iterable[Day], kinds: Sequence[str]) -> Iterator[tuple[str, Day, Judged]]:
    """Every ranker's days but the first, on which all is one full training."""
    standing: dict[str, dict[str, Made]] = {}
    for day in of:
        folds, test = day.full(), day.test()
        for kind in kinds:
            full = trained(folds, kind, day)
            if kind not in standing:
                standing[kind] = dict.fromkeys(SIDES, full)
                continue
            last = standing[kind]
            warm = full
            if last["warm"].depth < day.config.warm.max_depth:
                warm = trained(day.warm(last["warm"].curve), kind, day, last["warm"])
            now = standing[kind] = {"full": full, "warm": warm, "stale": last["stale"]}
            yield kind, day, judged(day, test, now)


def judged(day: Day, test: pa.Table, sides: Mapping[str, Made]) -> Judged:
    """The three on the test rows."""
    rows = scored(test, {side: of.ranker for side, of in sides.items()}, IDENTITY.empty_table())
    shown, first = day.truth(test)
    return Judged(
        {**rows.as_first, TRUTH: first},
        {**rows.as_shown, TRUTH: shown},
        _users(test["user_id"].to_pylist()),
        *day.ages(test, sides["stale"].taught_until),
        sides["warm"].depth,
        {side: of.seconds for side, of in sides.items()},
    )


def auc(truth: Floats, scores: Floats) -> Linear:
    """The AUC to expect of rows (n,) that are clicked with probability `truth`, as in
    `models.evaluation.ranking.auc_influence`, a row being clicked and not, each as far as it is likely."""
    values, at = np.unique(scores, return_inverse=True)
    clicked, other = (np.bincount(at, weights=w, minlength=len(values)) for w in (truth, 1 - truth))
    positive, negative = clicked.sum(), other.sum()
    below = ((np.cumsum(other) - other / 2) / negative)[at]
    above = ((positive - np.cumsum(clicked) + clicked / 2) / positive)[at]
    value = float(truth @ below / positive)
    influence = truth * (below - value) / positive + (1 - truth) * (above - value) / negative
    return Linear(value, influence, np.arange(len(truth)))


def log_loss(truth: Floats, said: Floats) -> Linear:
    """The mean log-loss to expect, in nats."""
    return Linear.mean(-truth * np.log(said) - (1 - truth) * np.log1p(-said))


def _all(day: Judged) -> NDArray[np.bool_]:
    return np.ones(len(day.users), dtype=bool)


METRICS: dict[str, tuple[Callable[[Floats, Floats], Linear], str, Callable[[Judged], NDArray[np.bool_]]]] = {
    "auc": (auc, "first", _all),
    "auc_shown": (auc, "shown", _all),
    "log_loss": (log_loss, "shown", _all),
    "auc_young": (auc, "first", lambda day: day.age_days < 1),
    "auc_newer": (auc, "first", lambda day: day.newer),
}
"""By name: the figure, the scores it is of, and which rows."""


def found(day: Judged, metric: str, side: str) -> Linear:
    """A metric of one of the three on its rows."""
    figure, place, rows = METRICS[metric]
    said, here = getattr(day, place), rows(day)
    return figure(said[TRUTH][here], said[side][here])


def apart(worlds: Sequence[Sequence[Judged]], metric: str, one: str, other: str) -> Finding:
    """`one` minus `other`, the mean over the days of some worlds, interval by user of a world."""
    days = [(number, day) for number, world in enumerate(worlds) for day in world if METRICS[metric][2](day).any()]
    if not days:
        return Refusal(f"{metric} needs such rows; found none")
    differences = [found(day, metric, one) - found(day, metric, other) for _, day in days]
    influence = np.concatenate([of.influence / len(days) for of in differences])
    users = [day.users[METRICS[metric][2](day)] + number * A_WORLD for number, day in days]
    mean = Linear(float(np.mean([of.value for of in differences])), influence, np.arange(len(influence)))
    return mean.estimate(GATE.confidence, np.concatenate(users))


def told(kind: str, day: date, of: Judged) -> dict[str, Any]:
    """A row of `days`."""
    row: dict[str, Any] = {"ranker": kind, "day": str(day), "rows": len(of.users), "depth": of.depth}
    for side in SIDES:
        row |= {f"{metric}_{side}": found(of, metric, side).value for metric in ("auc", "log_loss")}
        row[f"ratio_{side}"] = float(of.shown[side].sum() / of.shown[TRUTH].sum())
    return row | {f"seconds_{side}": of.seconds[side] for side in ("full", "warm")}


def fortnight(kind: str, worlds: Sequence[Sequence[Judged]]) -> dict[str, Any]:
    """A row of `fortnight`, from the days of some worlds."""
    every = [day for world in worlds for day in world]
    row: dict[str, Any] = {"ranker": kind, "worlds": len(worlds), "days": len(every)}
    for side in SIDES:
        row[f"auc_{side}"] = float(np.mean([found(day, "auc", side).value for day in every]))
        row[f"ratio_{side}"] = float(np.mean([day.shown[side].sum() / day.shown[TRUTH].sum() for day in every]))
    for metric in METRICS:
        for other in ("full", "stale"):
            row[f"{metric}_over_{other}"] = interval(apart(worlds, metric, "warm", other))
    full = sum(day.seconds["full"] for day in every)
    ones = [day.seconds["warm"] for day in every if day.depth]
    return row | {
        "cost": sum(day.seconds["warm"] for day in every) / full,
        "one": float(np.mean(ones)) * len(every) / full,
        "seconds_full": full / len(every),
    }


def interval(found: Finding) -> list[float] | str:
    """Value, low, high; or why there is none."""
    return (
        [round(of, 5) for of in (found.value, found.low, found.high)] if isinstance(found, Estimate) else found.reason
    )


def prove(small: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """(table, row) as they are found."""
    kinds, count = (KINDS[:2], 3) if small else (KINDS, DAYS)
    for name, drift in list(DRIFTS.items())[: 1 if small else None]:
        worlds: dict[str, list[list[Judged]]] = {kind: [] for kind in kinds}
        for seed in SEEDS[: 1 if small else None]:
            settings = (SMALL_WORLD if small else WORLD) | {"WORLD__SEED": str(seed), "WORLD__DRIFT_PER_DAY": drift}
            for kind in kinds:
                worlds[kind].append([])
            with tempfile.TemporaryDirectory() as folder:
                for kind, day, of in lived(days(Path(folder), count, settings), kinds):
                    worlds[kind][-1].append(of)
                    yield "days", {"drift": name, "seed": seed, **told(kind, day.day, of)}
        for kind in kinds:
            yield "fortnight", {"drift": name, **fortnight(kind, worlds[kind])}


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a warm start may lose and cost, by ranker and drift; and what it must win on young items."""
    judged = []
    for row in (row for row in rows if row["table"] == "fortnight"):
        of = f"{row['ranker']}, {row['drift']} drift"
        lost, young = -row["auc_over_full"][0], row["auc_young_over_stale"][0]
        for goal, found, met in (
            (f"a fortnight's warm starts lose at most {WITHIN} AUC to daily full trainings", lost, lost <= WITHIN),
            (f"they take at most {AT_MOST:.0%} of the time", row["cost"], row["cost"] <= AT_MOST),
            ("they beat a stale model on items younger than a day, AUC", young, young > 0),
        ):
            judged.append({"goal": f"{of}: {goal}", "found": f"{found:.4f}", "met": bool(met)})
    return judged
