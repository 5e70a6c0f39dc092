"""Whether what is said of experiments errs as seldom as promised: read once, read daily, drawn wrongly, interleaved.

No lake: users, faults and rankings are drawn (`experiment_worlds`), the rules are those of the readout. An A/A
experiment is a fortnight of 1,500 users who come back, differ a lot and are new on any day; it is read every evening.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from functools import cache
from typing import Any, get_args

import numpy as np

from jobs.experiment.mixed import SCALE
from models.evaluation.estimate import Estimate, Refusal
from models.experiments import metrics, srm
from models.experiments.assignment import Switchback
from models.experiments.causes import diagnose
from models.experiments.compare import Difference, compare
from models.experiments.interleaving import Mixed, credit, mixed, preferences
from models.experiments.plan import Design
from models.experiments.ratio import of_level
from models.experiments.rules import HEAVY, METRICS, Method, Rules
from models.experiments.sequences import half_width
from models.experiments.switchback import compare_blocks
from models.experiments.verdict import verdict
from tests.bench.experiment_worlds import FIGURES, looks
from tests.bench.interleaving_worlds import LEAVING, two_rankers, variety
from tests.bench.metric_worlds import RETENTION_DAYS, VALUE_DAYS
from tests.bench.metric_worlds import looks as metric_looks
from tests.bench.mismatch_worlds import FAULTS, WEIGHTS, Planted, sound
from tests.bench.ratio_worlds import LEVELS, TASTES, by_delta_method, missed, read_preferences
from tests.bench.switchback_worlds import HOUR, PLAN, requests
from tests.bench.uneven_candidates import uneven_candidates
from tests.bench.uneven_differences import differences, in_both_arms, read_daily, uneven_blocks

DAYS, USERS, CONFIDENCE, LIFT = 14, 1500, 0.95, 0.2
START, LOOKS = date(2026, 3, 2), range(5, DAYS + 1, 3)
RULES = Rules(FIGURES[:2], FIGURES[2:], LIFT, 0.2, CONFIDENCE, "holm", START, DAYS)
PEEKED = ("preference", "uneven_tastes", "metric", "switchback", "uneven_daily", "uneven_blocks")
DIFFERENCES = ("uneven_difference", "in_both_arms", "uneven_blocks", "uneven_candidates")
Row = tuple[str, dict[str, Any]]


def prove(small: bool) -> Iterator[Row]:
    """Rates of error and of success, table by table."""
    yield from mixtures(2_000 if small else 40_000)
    yield from type_one(100 if small else 1000)
    yield from every_metric(60 if small else 1000)
    yield from blocks(60 if small else 1000)
    yield from preferred(100 if small else 1000)
    yield from uneven_tastes(100 if small else 3000)
    yield from uneven_levels(100 if small else 3000)
    yield from differences(100 if small else 3000)
    yield from read_daily(60 if small else 2000)
    yield from in_both_arms(100 if small else 3000)
    yield from uneven_blocks(100 if small else 3000)
    yield from uneven_candidates(100 if small else 3000)
    yield from ratios(100 if small else 1000)
    yield from causes(2 if small else 20)
    yield from power(20 if small else 200)


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
    uneven = [row["missed"] for row in rows if row["table"] in ("uneven_tastes", "uneven_levels")]
    gaps = [row["missed"] for row in rows if row["table"] in DIFFERENCES]
    peeked = [row["always_daily"] for row in rows if row["table"] in PEEKED]
    once_more = [row["fixed_once"] for row in rows if row["table"] in ("metric", "switchback") and not row["lift"]]
    levels = [row["level_covers"] for row in rows if row["table"] == "metric"]
    lifts = [row["fixed_covers"] for row in rows if row["table"] in ("metric", "switchback") and row["lift"]]
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
            "goal": "preferences and levels of users who weigh unlike miss in at most 5 %, within noise",
            "found": max(uneven),
            "met": max(uneven) <= 0.05 + 2 * (0.05 * 0.95 / 3000) ** 0.5,
        },
        {
            "goal": "differences and correlations of who weighs unlike miss in at most 6 %, within noise",
            "found": max(gaps),
            "met": max(gaps) <= 0.06 + 2 * (0.06 * 0.94 / 3000) ** 0.5,
        },
        {
            "goal": "preferences miss in 5 %, within noise",
            "found": max(preference),
            "met": max(abs(x - 0.05) for x in preference) <= noise,
        },
        {"goal": "a single look errs in 5 %, within noise", "found": once, "met": once <= noise},
        {
            "goal": "so does one of every metric, and of a switchback",
            "found": max(once_more),
            "met": max(abs(x - 0.05) for x in once_more) <= noise,
        },
        {
            "goal": "any look at every metric, switchback and preference errs in at most 5 %",
            "found": max(peeked),
            "met": max(peeked) <= 0.05,
        },
        {
            "goal": "a planted lift, and each arm's level, are held in 95 %, within noise",
            "found": min(*levels, *lifts),
            "met": min(*levels, *lifts) >= 0.95 - 3 * (0.05 * 0.95 / 200) ** 0.5,
        },
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


def every_metric(runs: int) -> Iterator[Row]:
    """All metrics of a readout, conversions days late: without a lift, read once and daily; and how often held.

    Every lift is counted in a fifth as many runs. What is true comes from one world of many users.
    """
    for lift, times in ((0.0, runs), (0.2, max(20, runs // 5))):
        truth = true_metrics(lift)
        found = [metric_run(seed, lift, truth) for seed in range(times)]
        for metric in METRICS:
            told = np.array([of[metric] for of in found if metric in of], float)
            yield "metric", {"metric": metric, "lift": lift, "runs": len(told), **_shares(METRIC_RATES, told)}


METRIC_RATES = ("fixed_once", "fixed_daily", "always_daily", "fixed_covers", "level_covers")
BLOCK_RATES = METRIC_RATES[:4]


def _shares(names: tuple[str, ...], told: np.ndarray) -> dict[str, float]:
    return dict(zip(names, told.mean(axis=0).tolist(), strict=True))


def metric_run(seed: int, lift: float, truth: list[dict[str, tuple[float, float]]]) -> dict[str, list[bool]]:
    """Of every metric that can be told: `METRIC_RATES` of one experiment."""
    found, told = _metric_looks(np.random.default_rng(seed), 500, lift), {}
    for metric in METRICS:
        seen = [(of[metric], at[metric]) for of, at in zip(found, truth, strict=True)]
        known = [(one, at) for one, at in seen if isinstance(one, Difference)]
        if known:
            last, (level, gap) = known[-1]
            told[metric] = [
                not last.fixed.low <= 0 <= last.fixed.high,
                any(one.p_value < 1 - CONFIDENCE for one, _ in known),
                not all(one.always[0] <= of <= one.always[1] for one, (_, of) in known),
                last.fixed.low <= gap <= last.fixed.high,
                last.control.low <= level <= last.control.high,
            ]
    return told


def _metric_looks(rng: np.random.Generator, users: int, lift: float) -> list[dict[str, Difference | Refusal]]:
    return [
        {
            metric: compare(
                *metrics.figures(metric, shown, retention_days=RETENTION_DAYS, value_days=VALUE_DAYS),
                treated,
                interesting=LIFT,
                confidence=CONFIDENCE,
                cap=1.0,
            )
            for metric in METRICS
        }
        for treated, shown in metric_looks(rng, users, LOOKS, lift)
    ]


def true_metrics(lift: float) -> list[dict[str, tuple[float, float]]]:
    """Control's level and the difference at each look; none without a lift."""
    found = []
    for treated, shown in metric_looks(np.random.default_rng(99), 150_000, LOOKS, lift):
        levels = {}
        for metric in METRICS:
            y, x = metrics.figures(metric, shown, retention_days=RETENTION_DAYS, value_days=VALUE_DAYS)
            known = np.isfinite(y) & np.isfinite(x)
            old, new = (float(y[side & known].sum() / x[side & known].sum()) if (side & known).any() else 0.0
                        for side in (~treated, treated))  # fmt: skip
            levels[metric] = (old, new - old if lift else 0.0)
        found.append(levels)
    return found


def blocks(runs: int) -> Iterator[Row]:
    """Switchbacks of a fortnight of hours, read once and every evening; with what carries over washed out, and not."""
    for name, (lift, carry, plan) in BLOCK_WORLDS.items():
        times = runs if not lift else max(20, runs // 5)
        told = np.array([block_run(seed, lift, carry, plan) for seed in range(times)], float)
        table = "switchback" if plan is PLAN else "carry_over"
        yield table, {"world": name, "lift": lift, "runs": times, **_shares(BLOCK_RATES, told)}


BLOCK_WORLDS = {
    "no difference": (0.0, 0.0, PLAN),
    "a lift": (0.03, 0.05, PLAN),
    "a lift, nothing washed out": (0.03, 0.05, Switchback(PLAN.name, HOUR)),
}


def block_run(seed: int, lift: float, carry: float, plan: Switchback) -> list[bool]:
    """`BLOCK_RATES` of one switchback."""
    world = requests(np.random.default_rng(seed), 24 * DAYS, lift, carry)
    looked = [
        compare_blocks(plan, *world, now=day * 24 * HOUR, interesting=LIFT, confidence=CONFIDENCE)
        for day in range(3, DAYS + 1)
    ]
    told = [one for one in looked if isinstance(one, Difference)]
    last = told[-1].fixed
    return [
        not last.low <= 0 <= last.high,
        any(one.p_value < 1 - CONFIDENCE for one in told),
        not all(one.always[0] <= lift <= one.always[1] for one in told),
        last.low <= lift <= last.high,
    ]


def preferred(runs: int) -> Iterator[Row]:
    """Two rankers alike, 60 users with many pages each, read once and seven times: how often none is missed."""
    for method in get_args(Method):
        told = np.array([preference_run(seed, method) for seed in range(runs)], float)
        yield "preference", {"method": method, "runs": runs, **_shares(("missed", "always_daily"), told)}


@cache
def _pages(method: Method) -> list[Mixed]:
    rng = np.random.default_rng(7)
    return [mixed(method, [tuple("abcdef"), tuple("bcaefd")], 4, rng) for _ in range(300)]


def preference_run(seed: int, method: Method) -> list[bool]:
    """Whether the interval of the last look misses none, and that for any look ever does."""
    pages, rng = _pages(method), np.random.default_rng(seed)
    user = np.repeat(np.arange(60), rng.geometric(0.15, 60))
    keen = rng.beta(1, 2, 60)[user]
    drawn = zip(rng.integers(0, len(pages), len(user)), rng.choice([-1, 1], len(user)), keen, strict=True)
    # Read forwards or backwards alike, credits prefer nobody.
    credits = np.array([credit(pages[at], rng.random(len(pages[at].items)) < p)[::way] for at, way, p in drawn])
    when = rng.random(len(user))
    seen = [preferences(credits[when < day / 7], user[when < day / 7], CONFIDENCE)[0] for day in range(1, 8)]
    told = [one for one in seen if isinstance(one, Estimate)]
    always = any(abs(one.value) > half_width(one.stderr, SCALE, CONFIDENCE) for one in told)
    return [not told[-1].low <= 0 <= told[-1].high, always]


def uneven_tastes(runs: int) -> Iterator[Row]:
    """Two rankers alike of users who weigh unlike and have tastes of their own; beside the delta method's interval."""
    for name, world in TASTES.items():
        rng, told = np.random.default_rng(8), []
        for _ in range(runs):
            looks, (low, high) = read_preferences(rng, *world)
            told.append([*missed(looks), not low <= 0 <= high])
        shares = _shares(("missed", "always_daily", "delta_method"), np.array(told, float))
        yield "uneven_tastes", {"world": name, "users": world[0], "runs": runs, **shares}


def uneven_levels(runs: int) -> Iterator[Row]:
    """An arm's own level where figures have a long tail or a few users weigh most; beside the delta method's."""
    for name, (draw, true) in LEVELS.items():
        for users in (150, 500):
            rng, told = np.random.default_rng(9), []
            for _ in range(runs):
                figures = draw(rng, users)
                limits = of_level(*figures, CONFIDENCE), by_delta_method(*figures)
                told.append([not low <= true <= high for low, high in limits])
            shares = _shares(("missed", "delta_method"), np.array(told, float))
            yield "uneven_levels", {"world": name, "users": users, "runs": runs, **shares}
