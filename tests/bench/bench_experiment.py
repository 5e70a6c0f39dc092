"""Whether what is said of experiments errs as seldom as promised: read once, read daily, drawn wrongly, interleaved.

No lake: users, faults and rankings are drawn (`experiment_worlds`), the rules are those of the readout. An A/A
experiment is a fortnight of 1,500 users who come back, differ a lot and are new on any day; it is read every evening.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any, get_args

import numpy as np

from models.evaluation.estimate import Estimate, Refusal
from models.experiments import srm
from models.experiments.causes import diagnose
from models.experiments.compare import Difference, compare
from models.experiments.interleaving import Method, credit, mixed, preferences
from models.experiments.plan import Design
from models.experiments.rules import HEAVY, Rules
from models.experiments.verdict import verdict
from tests.bench.experiment_worlds import FIGURES, looks
from tests.bench.interleaving_worlds import LEAVING, two_rankers, variety
from tests.bench.mismatch_worlds import FAULTS, WEIGHTS, Planted, sound

DAYS, USERS, CONFIDENCE, LIFT = 14, 1500, 0.95, 0.2
START = date(2026, 3, 2)
RULES = Rules(FIGURES[:2], FIGURES[2:], LIFT, 0.2, CONFIDENCE, "holm", START, DAYS)
Row = tuple[str, dict[str, Any]]


def prove(small: bool) -> Iterator[Row]:
    """Rates of error and of success, table by table."""
    yield from type_one(100 if small else 1000)
    yield from power(20 if small else 200)
    yield from ratios(100 if small else 1000)
    yield from causes(2 if small else 20)
    yield from mixtures(2_000 if small else 40_000)
    yield from preferred(100 if small else 1000)


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the issue asks of them."""
    aa = [row for row in rows if row["table"] == "a_a"]
    noise = 3 * (0.05 * 0.95 / 1000) ** 0.5
    once, daily = max(abs(row["fixed_once"] - 0.05) for row in aa), max(row["always_daily"] for row in aa)
    [shipped] = [row["shipped"] for row in rows if row["table"] == "a_a_verdict"]
    covered = [row["always_covers_daily"] for row in rows if row["table"] == "power"]
    [ratio] = [row for row in rows if row["table"] == "ratio"]
    named = [row["named"] for row in rows if row["table"] == "cause" and row["fault"] != "none"]
    [fewer] = [r["times"] for r in rows if r["table"] == "interleaving" and r["users_leave"] == "once content"]
    [misled] = [row for row in rows if row["table"] == "variety"]
    preference = [row["missed"] for row in rows if row["table"] == "preference"]
    return [
        {
            "goal": "a ratio read 100 times errs in at most 5 %",
            "found": ratio["always"],
            "met": ratio["always"] <= 0.05,
        },
        {
            "goal": "10 causes or more named in 90 %",
            "found": sum(x >= 0.9 for x in named),
            "met": sum(x >= 0.9 for x in named) >= 10,
        },
        {"goal": "30 times fewer sessions where users leave by relevance", "found": fewer, "met": fewer >= 30},
        {
            "goal": "variety misleads interleaving",
            "found": misled["interleaved_gain"],
            "met": misled["a_b_gain"] > 0 > misled["interleaved_gain"],
        },
        {
            "goal": "preferences miss in 5 %, within noise",
            "found": max(preference),
            "met": max(abs(x - 0.05) for x in preference) <= noise,
        },
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


def ratios(runs: int) -> Iterator[Row]:
    """Sound experiments of 50,000 units in 100 looks: how often either test of the ratio errs at 5 %."""
    rng, once, always = np.random.default_rng(5), 0, 0
    for _ in range(runs):
        treated = np.cumsum(rng.binomial(500, 0.5, 100))
        counts = [np.array([500 * (n + 1) - t, t]) for n, t in enumerate(treated.tolist())]
        once += any(srm.single_look(n, WEIGHTS) < 0.05 for n in counts)
        always += srm.over_looks(counts, WEIGHTS).always_p < 0.05
    yield "ratio", {"runs": runs, "looks": 100, "chi_squared": once / runs, "always": always / runs}


def causes(runs: int) -> Iterator[Row]:
    """Of each planted fault, and of none: how often it is found, how often by its name, and what it is taken for."""
    sane = Planted("none", lambda _, units: units)
    for fault in (sane, *FAULTS):
        named: Counter[str] = Counter()
        for seed in range(runs):
            rng = np.random.default_rng(seed)
            found = diagnose(fault.plant(rng, sound(rng, 20_000)), WEIGHTS)
            named[found[0].name if found else "none"] += 1
        taken = {name: count for name, count in named.items() if name != fault.name}
        yield "cause", {"fault": fault.name, "runs": runs, "named": named[fault.name] / runs, "taken_for": taken}


def mixtures(users: int) -> Iterator[Row]:
    """Sessions to tell the better of two rankers, by an A/B test and by team draft; and where the latter misleads."""
    for leaving in LEAVING:
        found = two_rankers(0, users, leaving)
        times = {"times": found.a_b / found.interleaved, "times_adjusted": found.a_b_adjusted / found.interleaved}
        yield "interleaving", {"users_leave": leaving, **vars(found), **times}
    yield "variety", vars(variety(0, users // 10))


def preferred(runs: int) -> Iterator[Row]:
    """Two rankers alike, 60 users with many pages each: how often the interval of the preference misses none."""
    lists, rng = [tuple("abcdef"), tuple("bcaefd")], np.random.default_rng(7)
    for method in get_args(Method):
        missed, pages = 0, [mixed(method, lists, 4, rng) for _ in range(300)]
        for _ in range(runs):
            user = np.repeat(np.arange(60), rng.geometric(0.15, 60))
            keen = rng.beta(1, 2, 60)[user]
            drawn = zip(rng.integers(0, len(pages), len(user)), rng.choice([-1, 1], len(user)), keen, strict=True)
            # Read forwards or backwards alike, credits prefer nobody.
            credits = np.array([credit(pages[at], rng.random(len(pages[at].items)) < p)[::way] for at, way, p in drawn])
            [found] = preferences(credits, user, CONFIDENCE)
            missed += not (isinstance(found, Estimate) and found.low <= 0 <= found.high)
        yield "preference", {"method": method, "runs": runs, "missed": missed / runs}
