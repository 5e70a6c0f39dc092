"""How much of what late labels cost each method of `models.delays` wins back, judged on final labels.

Clicks of the simulated world (`tests.bench.delay_worlds`), 28 days of them with the conversions known at the midnight
after, a window of 7 days; the clicks of the three days after it are judged. Four worlds, five seeds. Learners are the
product's own conversion heads on a few columns (price, age, past earnings and place of the item; surface, device,
region, segment, category, tier): L-BFGS by `models.rankers.lbfgs`, trees with the settings of `models.rankers.xgboost`,
and the network `mmoe` as it is, told that rows are clicks. Not the whole ranker: other columns.

Figures are exact expectations over the final labels, which the world knows: no label is drawn for them, and what
differs between seeds is what was learned. Tables: `delay`, means over seeds, of rows

    closed       of the gap in log-loss between as_seen and the oracle (final labels), both on the same rows
    loss         log-loss less the oracle's on the same rows, in 1e-4 nats; auc, auc_pr; ece over ten equal bins, and
                 the largest of a surface; bias: mean p / mean y - 1
    newest       only the clicks of the last seven days are learned from (the curve is of all)
    calibrated   the words shifted by the last seven days' clicks, all of them learned from, as `jobs.train.calibrate`
                 does where drift is not found; mapped: in how many of the seeds a shift was kept

`level`: that shift alone on a small world with a ranker of the right form (`tests.models.delays.late_world`): how often
one is kept, and the bias of the level before and after, with how far it lies from 0 (root mean square).

`drift`: how often the drift of the delays in the last week is found, of all seeds; and `so_far`, conversions per
decision before they close (`tests.models.delays.so_far_world`), a row per world and figure:

    held         share of the intervals that hold the truth; bias: mean value / mean truth - 1; heard: the same of what
                 has been heard, nothing added
    width        of the interval, in truths; warned: how often delays are said to drift

and `renewed`, what a warm start's three days do to its parent's curve: errors of log F at half a day to four, in 1e-3,
of the parent's curve carried, renewed in any case, and renewed where it is contradicted, as training does.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from jobs.train.delays import RECENT_DAYS
from models.delays.curve import DRIFT_RISK, DelayCurve, Drift, drift
from models.delays.methods import METHODS, Learn, Predict, learned, taught
from models.delays.observed import Floats, Indices
from models.delays.targets import Targets, sigmoid
from models.evaluation.estimate import Estimate
from models.rankers import fit
from models.rankers.bins import BINS
from models.rankers.features import ATTRIBUTE_PREFIX, CATEGORICAL, HEAVY_TAILED, IDS, NUMERIC, WIDTHS
from models.rankers.lbfgs import Design, minimise
from models.rankers.protocol import Columns, TrainingData
from models.rankers.recalibration import Outcomes, Recalibration
from models.settings import DelaySettings, RankerSettings
from tests.bench.delay_worlds import LAWS, MOVED_DAYS, TRAIN_DAYS, Clicks, Sample, sample
from tests.models.delays import so_far_world
from tests.models.delays.late_world import DAYS, LateWorld, newton, within

SEEDS, REQUESTS, FIRST_SEED = 5, 9_000, 50_000
SO_FAR_WORLDS = 300
LEVEL_WORLDS = 200
NEWEST, CALIBRATED = "newest", ", calibrated"
SETTINGS = RankerSettings()
Row = dict[str, Any]


def logistic(clicks: Clicks, train: Indices) -> Learn:
    """The logistic ranker's head; features are positions in `clicks`."""

    def design(rows: Indices) -> Design:
        return Design(clicks.numbers[rows], clicks.codes[rows], clicks.sizes)

    def learn(targets: Targets) -> Predict:
        start = np.zeros(design(train[:1]).weights)
        start[0] = np.log(targets.rate() / (1 - targets.rate()))
        weights = minimise(design(train[targets.rows]), targets, start, SETTINGS.logistic.l2, SETTINGS.logistic.steps)
        return lambda rows: sigmoid(_logits(weights, clicks, rows))

    return learn


def _logits(weights: Floats, clicks: Clicks, rows: Indices) -> Floats:
    d = clicks.numbers.shape[1]
    first = 1 + d + np.concatenate([[0], np.cumsum(clicks.sizes)[:-1]])
    of_codes = weights[first + clicks.codes[rows]].sum(axis=1)
    return np.asarray(weights[0] + clicks.numbers[rows] @ weights[1 : 1 + d] + of_codes)


def trees(clicks: Clicks, train: Indices) -> Learn:
    """Boosting with the XGBoost ranker's settings for conversions and a custom objective; features likewise."""
    import xgboost as xgb

    table = np.hstack([clicks.numbers, clicks.codes.astype(np.float32)])
    types = ["float"] * clicks.numbers.shape[1] + ["c"] * clicks.codes.shape[1]

    def learn(targets: Targets) -> Predict:
        matrix = xgb.QuantileDMatrix(
            table[train[targets.rows]], feature_types=types, enable_categorical=True, max_bin=BINS, nthread=1
        )
        parameters = {
            "objective": "binary:logistic", "base_score": targets.rate(), "tree_method": "hist", "max_bin": BINS,
            "max_depth": SETTINGS.xgboost.depth, "eta": SETTINGS.xgboost.eta, "seed": SETTINGS.seed, "nthread": 1,
            "lambda": SETTINGS.xgboost.conversion_l2, "verbosity": 0,
        }  # fmt: skip
        booster = xgb.train(
            parameters, matrix, SETTINGS.xgboost.rounds, obj=lambda logit, _: targets.at(logit.astype(np.float64))[1:]
        )
        return lambda rows: booster.inplace_predict(table[rows]).astype(np.float64)

    return learn


def network(clicks: Clicks, train: Indices) -> Learn:
    """The ranker `mmoe` itself, what it is not told unknown; features likewise."""
    names = np.array([f"v{code}" for code in range(max(clicks.sizes))], dtype=object)
    numbers = [name for name in NUMERIC if name not in HEAVY_TAILED][: clicks.numbers.shape[1]]

    def columns(rows: Indices) -> Columns:
        n = len(rows)
        found: dict[str, NDArray[Any]] = {name: np.full(n, np.nan) for name in NUMERIC}
        found |= {name: np.full(n, None, dtype=object) for name in (*CATEGORICAL, *IDS)}
        found |= {name: np.full((n, width), None, dtype=object) for name, width in WIDTHS.items()}
        found |= {name: clicks.numbers[rows, k].astype(np.float64) for k, name in enumerate(numbers)}
        return found | {f"{ATTRIBUTE_PREFIX}{k}": names[clicks.codes[rows, k]] for k in range(len(clicks.sizes))}

    def learn(targets: Targets) -> Predict:
        shown = np.append(train, train[:1])  # a ranker needs a row without a click
        clicked = np.append(np.ones(len(train)), 0.0)
        data = TrainingData(
            columns(shown), clicked, np.full(len(shown), np.nan), np.ones(len(shown)), conversion=targets
        )
        found = fit("mmoe", data, SETTINGS)
        return lambda rows: found.predict(columns(rows)).p_conversion_given_click

    return learn


LEARNERS: dict[str, tuple[Callable[[Clicks, Indices], Learn], tuple[str, ...]]] = {
    "logistic": (logistic, METHODS),
    "xgboost": (trees, ("as_seen", "plug_in")),
    "mmoe": (network, ("as_seen", "plug_in")),
}


def fitted(of: Sample, learner: str, drifts: bool) -> Iterator[tuple[str, str, Predict, bool]]:
    """(rows learned from, method, what predicts, whether its words are mapped)."""
    make, names = LEARNERS[learner]
    day = of.clicks.day
    for rows, since in (("all", 0), (NEWEST, TRAIN_DAYS - MOVED_DAYS)):
        train = np.flatnonzero((day < TRAIN_DAYS) & (day >= since))
        observed, learn = of.observed(train), make(of.clicks, train)
        final = Targets.of(np.arange(len(train)), of.final[train], np.ones(len(train)))
        found = {"oracle": learn(final)}
        if rows == "all":
            curve = DelayCurve.fit(observed)
            found |= {name: learned(taught(name, observed), learn) for name in names}
            if learner == "logistic":
                one = DelayCurve(curve.horizon, curve.pooled, {})
                found["plug_in, one curve"] = learned(taught("plug_in", observed, one), learn)
        else:
            found["as_seen"] = learned(taught("as_seen", observed), learn)
            found["plug_in"] = learned(taught("plug_in", observed, curve), learn)
        for name, predict in found.items():
            yield rows, name, predict, False
            if rows == "all":
                mapped = Recalibration() if drifts else Recalibration.fit(last_days(of, train, curve, predict))
                yield rows, f"{name}{CALIBRATED}", calibrated(mapped, of.clicks, predict), mapped.changes


def last_days(of: Sample, train: Indices, curve: DelayCurve, predict: Predict) -> Outcomes:
    """The newest clicks that were learned from, as `jobs.train.delays.newest`."""
    rows = train[of.clicks.day[train] >= TRAIN_DAYS - RECENT_DAYS]
    observed = of.observed(rows)
    seen = curve.seen(observed.age, observed.group)
    heard = observed.come.astype(np.float64)
    return Outcomes(within_one(predict(rows)), heard, of.clicks.user[rows], observed.group, seen)


def calibrated(mapped: Recalibration, clicks: Clicks, predict: Predict) -> Predict:
    """By surface."""
    return lambda rows: mapped(within_one(predict(rows)), clicks.surface[rows].astype(str))


def within_one(said: Floats) -> Floats:
    """(n,) none of it never or always."""
    return np.clip(said, 1e-6, 1 - 1e-6)


def ece(p: Floats, said: Floats) -> float:
    """Over ten bins of equally many rows."""
    bins = np.array_split(np.argsort(said, kind="stable"), 10)
    return float(sum(abs((said[b] - p[b]).sum()) for b in bins) / len(p))


def judged(p: Floats, said: Floats, surface: Indices) -> dict[str, float]:
    """Figures of predictions `said` where outcomes have the probabilities `p`, (n,): expectations over outcomes."""
    both, weight = np.tile(said, 2), np.concatenate([p, 1 - p])
    label = np.repeat([1, 0], len(p))
    return {
        "log_loss": float(-(p * np.log(said) + (1 - p) * np.log1p(-said)).mean()),
        "auc": float(roc_auc_score(label, both, sample_weight=weight)),
        "auc_pr": float(average_precision_score(label, both, sample_weight=weight)),
        "ece": ece(p, said),
        "ece_surface": max(ece(p[surface == one], said[surface == one]) for one in np.unique(surface)),
        "bias": float(said.mean() / p.mean() - 1),
    }


def of_seed(law: str, seed: int, requests: int, learners: Iterable[str] = tuple(LEARNERS)) -> tuple[list[Row], bool]:
    """The figures of every learner, rows and method in one drawn world; and whether drift was found at 1 %."""
    of = sample(seed, requests, LAWS[law])
    train, test = (np.flatnonzero(side) for side in (of.clicks.day < TRAIN_DAYS, of.clicks.day >= TRAIN_DAYS))
    observed = of.observed(train)
    moved = drift(observed, observed.age < RECENT_DAYS)
    drifts = isinstance(moved, Drift) and moved.p_value < DRIFT_RISK
    found: list[Row] = []
    for learner in learners:
        for rows, method, predict, mapped in fitted(of, learner, drifts):
            figures = judged(of.p[test], within_one(predict(test)), of.clicks.surface[test])
            found.append({"learner": learner, "rows": rows, "method": method, **figures, "mapped": float(mapped)})
    return found, drifts


FIGURES = ("auc", "auc_pr", "ece", "ece_surface", "bias", "mapped")


def of_laws(seed: int, requests: int) -> dict[str, tuple[list[Row], bool]]:
    """In every world; the clicks of a seed are drawn once for all of them."""
    return {law: of_seed(law, seed, requests) for law in LAWS}


def averaged(law: str, seeds: list[list[Row]]) -> list[Row]:
    """One row a learner, rows and method: means over seeds, the share closed of the mean gap, worst `closed` first."""
    by: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in (row for rows in seeds for row in rows):
        by[row["learner"], row["rows"], row["method"]].append(row)
    mean = {
        key: {name: float(np.mean([row[name] for row in rows])) for name in ("log_loss", *FIGURES)}
        for key, rows in by.items()
    }
    found = []
    for (learner, rows, method), figures in mean.items():
        naive, oracle = (mean[learner, rows, side]["log_loss"] for side in ("as_seen", "oracle"))
        losses = [row["log_loss"] for row in by[learner, rows, method]]
        oracles = [row["log_loss"] for row in by[learner, rows, "oracle"]]
        found.append(
            {
                "world": law, "learner": learner, "rows": rows, "method": method,
                "closed": (naive - figures["log_loss"]) / (naive - oracle),
                "loss": 1e4 * (figures["log_loss"] - oracle),
                "loss_sd": 1e4 * float(np.std(np.subtract(losses, oracles))),
                **{name: figures[name] for name in FIGURES},
            }
        )  # fmt: skip
    return sorted(found, key=lambda row: (row["learner"], row["rows"], row["closed"]))


def so_far(law: str, worlds: int) -> list[Row]:
    """What is said of conversions a day or two after they were earned, a row a figure; truth known."""
    told = [so_far_world.world(FIRST_SEED + seed, so_far_world.LAWS[law]) for seed in range(worlds)]
    found = []
    for name in so_far_world.TRUE:
        pairs = [(of.found.findings[name], of.truth[name]) for of in told]
        known = [(found, true) for found, true in pairs if isinstance(found, Estimate)]
        truth = float(np.mean([true for _, true in known]))
        row = {
            "world": law, "figure": name, "worlds": len(known),
            "held": float(np.mean([found.low <= true <= found.high for found, true in known])),
            "bias": float(np.mean([found.value for found, _ in known])) / truth - 1,
            "heard": float(np.mean([of.as_seen[name] for of in told])) / truth - 1,
            "width": float(np.mean([found.high - found.low for found, _ in known])) / abs(truth),
            "warned": float(np.mean([of.found.drifted for of in told])),
        }  # fmt: skip
        found.append(row)
    return found


def renewed(stretch: float, clicks: int, worlds: int) -> Row:
    """Three days of so many clicks, three to six days old, whose delays are `stretch` times their parent's."""
    at = np.array([0.5, 1.0, 2.0, 4.0])
    truth = within(at, stretch)
    errors: dict[str, list[Floats]] = defaultdict(list)
    for seed in range(FIRST_SEED, FIRST_SEED + worlds):
        parent = DelayCurve.fit(LateWorld(seed).observed).pooled
        log = LateWorld(seed + worlds, rows=clicks * DAYS // 3, stretch=stretch).observed
        young = log.rows(log.come & (log.age > 3) & (log.age < 6))
        new = parent.renewed(young.delay, young.elapsed)
        kept = new if parent.contradicted(young.delay, young.elapsed) else parent
        for name, steps in (("carried", parent), ("renewed", new), ("where_contradicted", kept)):
            errors[name].append(np.log(steps.within(at) / truth))
    figures = {name: 1e3 * float(np.sqrt(np.mean(np.square(of)))) for name, of in errors.items()}
    return {"stretch": stretch, "clicks": clicks, "worlds": worlds, **figures}


LEVELS: dict[str, dict[str, float]] = {
    "stable": {}, "by group": {"slow": 2.0}, "rates rise a little": {"rise": 0.1}, "rates rise": {"rise": 0.5},
    "delays stretch": {"stretch": 1.5},
}  # fmt: skip
"""What differs from the stable `LateWorld`."""


def level(name: str, worlds: int) -> Row:
    """The shift that a ranker gets which learned the month by the plug-in, as `jobs.train` decides on it."""
    kept, found, before, after = 0, 0, [], []
    for seed in range(FIRST_SEED, FIRST_SEED + worlds):
        world = LateWorld(seed, **LEVELS[name])
        observed, curve = world.observed, DelayCurve.fit(world.observed)
        said = newton(world.x)(taught("plug_in", observed, curve))(world.x)
        week = np.flatnonzero(observed.age < RECENT_DAYS)
        moved = drift(observed, observed.age < RECENT_DAYS)
        drifts = isinstance(moved, Drift) and moved.p_value < DRIFT_RISK
        seen, group = curve.seen(observed.age, observed.group)[week], observed.group[week].astype(str)
        rows = Outcomes(said[week], observed.come[week].astype(np.float64), week, group, seen)
        mapped = Recalibration() if drifts else Recalibration.fit(rows)
        kept, found = kept + mapped.changes, found + drifts
        truth = float(world.p[week].mean())
        before.append(float(said[week].mean()) / truth - 1)
        after.append(float(mapped(said[week], group).mean()) / truth - 1)
    off = {"before": np.array(before), "after": np.array(after)}
    figures = {f"bias_{when}": float(of.mean()) for when, of in off.items()}
    figures |= {f"off_{when}": float(np.sqrt((of**2).mean())) for when, of in off.items()}
    return {
        "world": name,
        **LEVELS[name],
        "worlds": worlds,
        "mapped": kept / worlds,
        "drift": found / worlds,
        **figures,
    }


def prove(small: bool) -> Iterator[tuple[str, Row]]:
    """(table, row), world by world."""
    seeds, requests = (1, 1_000) if small else (SEEDS, REQUESTS)
    found: dict[str, list[tuple[list[Row], bool]]] = defaultdict(list)
    with ProcessPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for laws in pool.map(partial(of_laws, requests=requests), range(FIRST_SEED, FIRST_SEED + seeds)):
            for law, of_law in laws.items():
                found[law].append(of_law)
        for law, of in found.items():
            yield from (("delay", row) for row in averaged(law, [rows for rows, _ in of]))
            yield "drift", {"world": law, "found": float(np.mean([moved for _, moved in of])), "seeds": len(of)}
        for rows in pool.map(partial(so_far, worlds=4 if small else SO_FAR_WORLDS), so_far_world.LAWS):
            yield from (("so_far", row) for row in rows)
        for row in pool.map(partial(level, worlds=4 if small else LEVEL_WORLDS), LEVELS):
            yield "level", row
        sizes = [(stretch, clicks) for stretch in (1.0, 1.3, 2.0) for clicks in (1_000, 4_000, 16_000)]
        for row in pool.map(partial(renewed, worlds=2 if small else 100), *zip(*sizes, strict=True)):
            yield "renewed", row


DEFAULT, STRETCHED = DelaySettings().conversion, "delays stretch"


def goals(rows: list[Row]) -> list[Row]:
    """The default closes 70 % of the gap wherever delays stay as they were, and is calibrated there."""
    default = {"all": f"{DEFAULT}{CALIBRATED}", NEWEST: DEFAULT}
    told = [row for row in rows if row["table"] == "delay" and row["world"] != STRETCHED]
    asked = [row for row in told if row["method"] == default[row["rows"]]]
    judged = []
    for learner, of in ((learner, rows) for learner in LEARNERS for rows in ("all", NEWEST)):
        mine = [row for row in asked if (row["learner"], row["rows"]) == (learner, of)]
        closed, ece = min(mine, key=lambda row: float(row["closed"])), max(mine, key=lambda row: float(row["ece"]))
        name = f"{default[of]}, {learner}, rows {of}"
        judged += [
            {"goal": f"{name}: closes at least 70 % of the gap", "met": closed["closed"] >= 0.7,
             "found": f"{closed['closed']:.0%} at least, {closed['world']}"},
            {"goal": f"{name}: calibration error at most 0.01", "met": ece["ece"] <= 0.01,
             "found": f"{ece['ece']:.4f} at most, {ece['world']}"},
        ]  # fmt: skip
    early = [row for row in rows if row["table"] == "so_far"]
    compares = [row for row in early if row["figure"] in ("difference", "against_logging")]
    for name, of in (
        ("in every world but the stretched one", [row for row in early if row["world"] != STRETCHED]),
        ("of the difference in every world", compares),
    ):
        worst = min(of, key=lambda row: float(row["held"]))
        judged.append(
            {"goal": f"conversions so far, {name}: 93 % of intervals hold the truth", "met": worst["held"] >= 0.93,
             "found": f"{worst['held']:.1%} at least, {worst['figure']}, {worst['world']}"}
        )  # fmt: skip
    return judged
