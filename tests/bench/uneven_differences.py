"""How often the interval of a difference misses it where few users, or few blocks, weigh most: now, and as it was."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.stats import t as student

from models.evaluation.estimate import Estimate, Refusal
from models.experiments.compare import Difference, compare
from models.experiments.rates import difference_of_rates
from models.experiments.switchback import compare_blocks, treated
from tests.bench.difference_worlds import (
    ALIKE,
    BLOCKS,
    LOOKS,
    READ_DAILY,
    SHARED,
    UNEVEN,
    Arms,
    World,
    by_delta_method,
    pairs_of_blocks,
    shared_users,
)
from tests.bench.switchback_worlds import HOUR, PLAN

Row = tuple[str, dict[str, Any]]
NEEDS = {"interesting": 0.2, "confidence": 0.95}


def told(y: np.ndarray, x: np.ndarray, arm: np.ndarray, before: np.ndarray | None) -> Difference | Refusal:
    """As a readout asks it."""
    return compare(y, x, arm, before=before, **NEEDS)


def missed_once(world: World, seed: int, runs: int) -> tuple[dict[str, float], int]:
    """Shares of `runs` that miss: now, to either side, and as it was; how much wider; and how many were refused."""
    rng, found, refused = np.random.default_rng(seed), [], 0
    for _ in range(runs):
        [arms] = world.looks(rng)
        one, (least, most) = told(*arms), by_delta_method(*arms)
        if isinstance(one, Refusal):
            refused += 1
            continue
        low, high, true = one.fixed.low, one.fixed.high, world.truth
        misses = [not low <= true <= high, low > true, not least <= true <= most]
        found.append([*misses, (high - low) / (most - least), low > 0, least > 0])
    sums = np.array(found, float)
    shares = dict(zip(("missed", "above", "delta_method"), sums[:, :3].mean(axis=0).tolist(), strict=True))
    width = {"width": float(np.median(sums[:, 3]))}
    if world.lift:
        width |= {"found": float(sums[:, 4].mean()), "delta_method_found": float(sums[:, 5].mean())}
    return shares | width, refused


def differences(runs: int) -> Iterator[Row]:
    """Of every world, users alike and not, read once."""
    for table, worlds in (("alike_difference", ALIKE), ("uneven_difference", UNEVEN)):
        for name, world in worlds.items():
            shares, refused = missed_once(world, 10, runs)
            yield table, {"world": name, "users": world.users, "runs": runs, "refused": refused, **shares}


def read_daily(runs: int) -> Iterator[Row]:
    """How often the interval for any look misses the truth at any of seven, and how many times as wide it is."""
    for name in READ_DAILY:
        world, rng, found = (ALIKE | UNEVEN)[name], np.random.default_rng(12), []
        for _ in range(runs):
            seen = [one for arms in _looks(world, rng) if isinstance(one := told(*arms), Difference)]
            always = any(not one.always[0] <= world.truth <= one.always[1] for one in seen)
            if not seen:
                continue
            last = seen[-1]
            width = (last.always[1] - last.always[0]) / (last.fixed.high - last.fixed.low)
            once = not last.fixed.low <= world.truth <= last.fixed.high
            found.append([always, once, any(one.p_value < 0.05 for one in seen), width])
        names = ("always_daily", "fixed_once", "fixed_daily", "width")
        shares = dict(zip(names, np.array(found, float).mean(axis=0).tolist(), strict=True))
        yield "uneven_daily", {"world": name, "runs": runs, **shares}


def _looks(world: World, rng: np.random.Generator) -> Iterator[Arms]:
    return world.looks(rng, LOOKS)


def in_both_arms(runs: int) -> Iterator[Row]:
    """Of users who are in both arms, without a difference."""
    for name, both in SHARED.items():
        rng, missed = np.random.default_rng(13), 0
        for _ in range(runs):
            gap = difference_of_rates(**shared_users(rng, both), confidence=0.95)["difference"]
            missed += isinstance(gap, Estimate) and not gap.low <= 0 <= gap.high
        yield "in_both_arms", {"world": name, "runs": runs, "missed": missed / runs}


def uneven_blocks(runs: int) -> Iterator[Row]:
    """Switchbacks without a difference, a few of whose blocks have most of the requests; read once and four times."""
    for name, (pairs, heavy, within) in BLOCKS.items():
        rng, found, refused = np.random.default_rng(14), [], 0
        for _ in range(runs):
            rows = pairs_of_blocks(rng, pairs, heavy, within)
            ends = np.linspace(30, pairs, 4).astype(int) * 2 * HOUR
            looks = [compare_blocks(PLAN, *rows, now=now, **NEEDS) for now in ends]
            seen = [one for one in looks if isinstance(one, Difference)]
            if isinstance(looks[-1], Refusal):
                refused += 1
                continue
            last, (low, high) = seen[-1].fixed, blocks_by_delta_method(*rows)
            daily = any(not one.always[0] <= 0 <= one.always[1] for one in seen)
            found.append([not last.low <= 0 <= last.high, daily, not low <= 0 <= high])
        names = ("missed", "always_daily", "delta_method")
        shares = dict(zip(names, np.array(found, float).mean(axis=0).tolist(), strict=True))
        yield "uneven_blocks", {"world": name, "runs": runs, "refused": refused, **shares}


def blocks_by_delta_method(seconds: np.ndarray, clicks: np.ndarray, trials: np.ndarray) -> tuple[float, float]:
    """Student's limits of pairs' linearised errors at 95 %, as they were once told."""
    arm = treated(PLAN, (seconds // HOUR).astype(int))
    value, errors = 0.0, np.zeros(len(arm) // 2)
    for side, sign in ((~arm, -1), (arm, 1)):
        rate = clicks[side].sum() / trials[side].sum()
        value, errors = value + sign * rate, errors + sign * (clicks[side] - rate * trials[side]) / trials[side].sum()
    n = len(errors)
    reach = float(student.ppf(0.975, n - 1) * (float(errors @ errors) * n / (n - 1)) ** 0.5)
    return value - reach, value + reach
