"""Whether what is said of experiments errs as seldom as promised: read once, read daily, drawn wrongly, interleaved.

No lake: users, faults and rankings are drawn (`experiment_worlds`), the rules are those of the readout. An A/A
experiment is a fortnight of 1,500 users who come back, differ a lot and are new on any day; it is read every evening.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import numpy as np

from models.evaluation.estimate import Refusal
from models.experiments.compare import Difference, compare
from models.experiments.plan import Design
from models.experiments.rules import HEAVY, Rules
from models.experiments.verdict import verdict
from tests.bench.experiment_worlds import FIGURES, looks

DAYS, USERS, CONFIDENCE, LIFT = 14, 1500, 0.95, 0.2
START = date(2026, 3, 2)
RULES = Rules(FIGURES[:2], FIGURES[2:], LIFT, 0.2, CONFIDENCE, "holm", START, DAYS)
Row = tuple[str, dict[str, Any]]


def prove(small: bool) -> Iterator[Row]:
    """Rates of error and of success, table by table."""
    yield from type_one(100 if small else 1000)
    yield from power(20 if small else 200)


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the issue asks of them."""
    aa = [row for row in rows if row["table"] == "a_a"]
    noise = 3 * (0.05 * 0.95 / 1000) ** 0.5
    once, daily = max(abs(row["fixed_once"] - 0.05) for row in aa), max(row["always_daily"] for row in aa)
    [shipped] = [row["shipped"] for row in rows if row["table"] == "a_a_verdict"]
    covered = [row["always_covers_daily"] for row in rows if row["table"] == "power"]
    return [
        {"goal": "a single look errs in 5 %, within noise", "found": once, "met": once <= noise},
        {"goal": "any of 14 daily looks errs in at most 5 %", "found": daily, "met": daily <= 0.05},
        {"goal": "an A/A ships in at most 5 %, read daily", "found": shipped, "met": shipped <= 0.05},
        {"goal": "all 14 intervals hold a lift in 95 %", "found": min(covered), "met": min(covered) >= 0.93},
    ]


def _read(rng: np.random.Generator, lift: float, users: int) -> list[dict[str, Difference | Refusal]]:
    """Each evening's differences."""
    return [
        {
            metric: compare(
                *look.of(metric),
                look.treated,
                interesting=LIFT,
                confidence=CONFIDENCE,
                before=look.before,
                cap=0.999 if metric in HEAVY else 1.0,
            )
            for metric in FIGURES
        }
        for look in looks(rng, users, DAYS, lift)
    ]


def _ends(read: list[dict[str, Difference | Refusal]]) -> tuple[str, int]:
    """The last word, and the day of it, of somebody who reads every evening and does as told."""
    for day, found in enumerate(read):
        said = verdict(found, RULES, START + timedelta(days=day))
        if said.word != "go on":
            return said.word, day
    return "go on", DAYS


def type_one(runs: int) -> Iterator[Row]:
    """A/A: how often each interval misses zero, at the end alone and on any evening; and what the words do."""
    once, fixed, always = (dict.fromkeys(FIGURES, 0) for _ in range(3))
    widths: dict[str, list[float]] = {metric: [] for metric in FIGURES}
    left: dict[str, list[float]] = {metric: [] for metric in FIGURES}
    words, unlike = {"ship": 0, "stop": 0, "go on": 0}, 0
    for seed in range(runs):
        read = _read(np.random.default_rng(seed), 0.0, USERS)
        for metric in FIGURES:
            seen = [found[metric] for found in read if isinstance(found[metric], Difference)]
            fixed[metric] += any(one.p_value < 1 - CONFIDENCE for one in seen)
            always[metric] += any(not one.always[0] <= 0 <= one.always[1] for one in seen)
            once[metric] += not seen[-1].fixed.low <= 0 <= seen[-1].fixed.high
            widths[metric].append(
                (seen[-1].always[1] - seen[-1].always[0]) / (seen[-1].fixed.high - seen[-1].fixed.low)
            )
            left[metric].append(seen[-1].variance_left)
        unlike += any(isinstance(one, Difference) and not one.sound for one in read[-1].values())
        words[_ends(read)[0]] += 1
    for metric in FIGURES:
        yield (
            "a_a",
            {
                "metric": metric,
                "runs": runs,
                "fixed_once": once[metric] / runs,
                "fixed_daily": fixed[metric] / runs,
                "always_daily": always[metric] / runs,
                "width": float(np.mean(widths[metric])),
                "variance_left": float(np.mean(left[metric])),
            },
        )
    yield "a_a_verdict", {"runs": runs, "shipped": words["ship"] / runs, "unlike_before": unlike / runs}


def power(runs: int) -> Iterator[Row]:
    """How often a lift is found, at the end and on any evening; how often intervals hold it; and what the words do."""
    truth = _truth()
    for lift in (0.1, 0.2, 0.4):
        found = {metric: np.zeros(4) for metric in FIGURES}
        words, days = {"ship": 0, "stop": 0, "go on": 0}, []
        for seed in range(runs):
            read = _read(np.random.default_rng(10_000 + seed), lift, USERS)
            word, day = _ends(read)
            words[word] += 1
            days.append(day + 1)
            for metric in FIGURES:
                true = [lift * level for level in truth[metric]]
                seen = [(of[metric], at) for of, at in zip(read, true, strict=True)]
                told = [(one, at) for one, at in seen if isinstance(one, Difference)]
                last = told[-1][0].fixed
                found[metric] += [
                    last.low > 0,
                    any(one.always[0] > 0 for one, _ in told),
                    last.low <= true[-1] <= last.high,
                    all(one.always[0] <= at <= one.always[1] for one, at in told),
                ]
        for metric, sums in found.items():
            names = ("fixed_at_end", "always_daily", "fixed_covers", "always_covers_daily")
            yield "power", {"metric": metric, "lift": lift, **dict(zip(names, (sums / runs).tolist(), strict=True))}
        shares = {word: count / runs for word, count in words.items()}
        yield "words", {"lift": lift, **shares, "median_days": float(np.median(days))}
    design = Design(1.0, 2.0, (0.5, 0.5))
    for lift in (0.01, 0.02, 0.05):
        needed = {s: design.users_needed(lift, CONFIDENCE, sequential=s == "always") for s in ("once", "always")}
        yield "users_needed", {"lift": lift, "deviation_of_mean": 2.0, **needed}


def _truth() -> dict[str, list[float]]:
    """Control's level of each metric at the end of each day, from many users."""
    seen = [
        {metric: float(y.sum() / x.sum()) for metric in FIGURES for y, x in [look.of(metric)]}
        for look in looks(np.random.default_rng(99), 400_000, DAYS)
    ]
    return {metric: [levels[metric] for levels in seen] for metric in FIGURES}
