"""How often `monitor` cries wolf and how often it sleeps, counted on days of the simulated world.

Every seed is another world: ten days before, then 60 quiet days, judged by the product's own functions
(`models.monitoring.day`) at the default settings. Then, on some of those days, each incident of
`tests.bench.monitored_days` is planted alone, and the day is judged again with the quiet days before it. Rows:

    quiet      days, figures something is asked of in the mean, alarms, days with any, false alarms in 30 days, which
    incidents  of each: days planted on, share on which anything alarmed that day, Wilson's interval, and what

A stale model needs labels: its day is the one whose labels are in.
"""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from scipy.stats import binomtest

from models.settings import WatchSettings
from tests.bench.monitored_days import INCIDENTS, History, Watched, held, remember, world

SEEDS, DAYS, REQUESTS, PLANTED = 20, 60, 4_000, 2
SMALL_SEEDS, SMALL_DAYS, SMALL_REQUESTS = 1, 4, 1_000
FIRST = 45
"""The first judged day: a stale model knows the world as of its day 0, a month and a half before at least."""
BEFORE = 10
MOST_FALSE_A_MONTH, FOUND = 1.0, 0.95
Row = dict[str, Any]


def one_world(seed: int, requests: int, days: int, planted: int) -> tuple[Row, list[Row]]:
    """The quiet days of a seed, and its incidents."""
    watched, settings, history = Watched(world(seed, requests)), WatchSettings(), History()
    for index in range(FIRST - BEFORE, FIRST):
        remember(history, held(watched, index, watched.day(index), history, settings))
    alarms: Counter[str] = Counter()
    asked, alarmed_days, found = 0, 0, []
    chosen = set(np.linspace(FIRST + 1, FIRST + days - 1, planted).astype(int).tolist())
    for index in range(FIRST, FIRST + days):
        quiet = held(watched, index, watched.day(index), history, settings)
        for name, plant in INCIDENTS.items() if index in chosen else ():
            judged = held(watched, index, plant(watched, index), history, settings)
            found.append({"incident": name, "figures": [one.metric for one in judged if one.alarm]})
        remember(history, quiet)
        asked += sum(one.p_value is not None for one in quiet)
        alarms.update(f"{one.metric} {one.surface}".strip() for one in quiet if one.alarm)
        alarmed_days += any(one.alarm for one in quiet)
        watched.days.pop(index - 15, None)
    return {"days": days, "asked": asked, "alarms": alarms, "alarmed_days": alarmed_days}, found


def prove(small: bool) -> Iterator[tuple[str, Row]]:
    """The counts, then the goals."""
    size = (SMALL_REQUESTS, SMALL_DAYS, 1) if small else (REQUESTS, DAYS, PLANTED)
    seeds = range(1, 1 + (SMALL_SEEDS if small else SEEDS))
    with ProcessPoolExecutor(max_workers=1 if small else int(os.environ.get("BENCH_WORKERS", "2"))) as pool:
        worlds = list(pool.map(one_world, seeds, *([value] * len(seeds) for value in size)))
    days = sum(quiet["days"] for quiet, _ in worlds)
    alarms = sum((quiet["alarms"] for quiet, _ in worlds), Counter[str]())
    a_month = 30 * sum(alarms.values()) / days
    yield (
        "quiet",
        {
            "days": days,
            "asked_a_day": sum(quiet["asked"] for quiet, _ in worlds) / days,
            "alarms": sum(alarms.values()),
            "alarmed_days": sum(quiet["alarmed_days"] for quiet, _ in worlds),
            "a_month": a_month,
            "which": dict(alarms.most_common(8)),
        },
    )
    goals = [("false alarms a month", f"at most {MOST_FALSE_A_MONTH}", a_month, a_month <= MOST_FALSE_A_MONTH)]
    for name in INCIDENTS:
        of = [row["figures"] for _, rows in worlds for row in rows if row["incident"] == name]
        caught = sum(bool(figures) for figures in of)
        share, interval = caught / len(of), binomtest(caught, len(of)).proportion_ci(method="wilson")
        first = Counter(figure for figures in of for figure in set(figures))
        yield "incidents", {
            "incident": name, "planted": len(of), "found": share, "low": interval.low, "high": interval.high,
            "by": dict(first.most_common(4)),
        }  # fmt: skip
        goals.append((f"found: {name}", f"at least {FOUND}", share, share >= FOUND))
    for goal, needed, found, met in goals:
        yield "goals", {"goal": goal, "needed": needed, "found": round(found, 4), "met": bool(met)}
