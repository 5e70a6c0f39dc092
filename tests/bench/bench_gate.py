"""How often the gate is wrong, counted in the worlds of `tests/bench/worlds`, whose truth is known.

A world is a file there (`WORLDS`, see `gate_evidence.World`): what it draws are whole logs, whose evidence is computed
by the product's own functions and judged by the product's own gate. A team adds its own by adding a file. Of each
the table has what it `says`, and rows:

    lift        true lift asked for; `true_lift` is what was drawn, `over_logging` the challenger's over what users saw
    promoted    share of trials with a promotion, `low` and `high` Wilson's interval; false where the lift is 0 or less
    refused     share of verdicts that are refusals; so are a world's further figures
    covered     share of the difference's intervals that hold the true difference, where there is one
    possible    share of logs in which the best unbiased estimator there can be would show the gain, where it is known
    against     which rules stand in the way, and in how many verdicts
    goals       met, or those that are not

The last table, `policies`, holds estimates of policies of very different worth against their true values.

A goal is met when the share itself is within its bound: of 200 trials a true 2.5 % is often 3 %, the interval says so.
"""

import importlib
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest, norm
from threadpoolctl import threadpool_limits

from models.evaluation.estimate import Estimate, upper_tail
from models.evaluation.value import value_of
from tests.bench.gate_evidence import GATE, Goal, Judged, World
from tests.bench.worlds import laws

FOLDER = Path(__file__).parent / "worlds"
SMALL_TRIALS, SMALL_DECISIONS = 2, 2_000
POLICIES, POLICY_DECISIONS, NOISES = 40, 50_000, (0.1, 6.0)
POWER, LAWS_WITH_POWER, NONE_BETTER = 0.85, 4, 0.025
Row = dict[str, Any]
Task = tuple[World, int, int]
"""World, seed, decisions."""


@dataclass(frozen=True)
class Counted:
    """What is counted of one trial: each figure's answers, mean true lifts, and the rules that were not passed."""

    figures: Mapping[str, list[bool]]
    lift: float
    over_logging: float
    possible: float | None
    against: Counter[str]


def worlds() -> list[World]:
    """Those of every file, in the order of the files' names."""
    names = sorted(path.stem for path in FOLDER.glob("*.py"))
    return [world for name in names for world in importlib.import_module(f"tests.bench.worlds.{name}").WORLDS]


def trial(task: Task) -> dict[float, Counted]:
    """What is counted of one trial, by lift."""
    world, seed, decisions = task
    counted = {}
    for lift in world.lifts_of(seed):
        found = world.judged(seed, lift, decisions)
        answers = {name: [figure(one) for one in found] for name, figure in world.figures.items()}
        figures = {name: [bool(a) for a in every if a is not None] for name, every in answers.items()}
        figures["promoted"] = [any(figures["promoted"])]
        counted[lift] = Counted(
            figures,
            float(np.mean([one.log.lift for one in found])),
            float(np.mean([one.log.worth["challenger"] / one.log.worth["logging"] - 1 for one in found])),
            _possible(found, world.settings.confidence),
            Counter(rule.name for one in found for rule in one.verdict.rules if rule.outcome != "pass"),
        )
    return counted


def _possible(found: Sequence[Judged], confidence: float) -> float | None:
    """How likely an efficient estimator shows the gain, of logs with one verdict that know their bound."""
    bounds = [one.log.gain / one.log.least_stderr for one in found if one.log.least_stderr]
    return float(norm.sf(norm.ppf(upper_tail(confidence)) - bounds[0])) if len(bounds) == 1 else None


def rows_of(pool: ProcessPoolExecutor, world: World, trials: int, decisions: int) -> Iterator[Row]:
    """One row a lift; seconds are of all rows of the world, divided among them."""
    started = time.perf_counter()
    found = list(pool.map(trial, [(world, seed, decisions) for seed in range(trials)]))
    seconds = round((time.perf_counter() - started) / len(world.lifts), 1)
    for lift in world.lifts:
        counted = [of_trial[lift] for of_trial in found if lift in of_trial]
        every = {name: [answer for one in counted for answer in one.figures[name]] for name in world.figures}
        shares = {name: float(np.mean(answers)) if answers else None for name, answers in every.items()}
        interval = binomtest(sum(every["promoted"]), len(counted)).proportion_ci(method="wilson")
        against = sum((one.against for one in counted), Counter[str]())
        possible = [one.possible for one in counted if one.possible is not None]
        missed = [str(goal) for goal in world.goals if goal.asks(lift) and not _met(goal, shares)]
        yield {
            "lift": lift,
            "true_lift": float(np.mean([one.lift for one in counted])),
            "over_logging": float(np.mean([one.over_logging for one in counted])),
            "trials": len(counted),
            "decisions": decisions,
            "promoted": shares.pop("promoted"),
            "low": float(interval.low),
            "high": float(interval.high),
            "possible": float(np.mean(possible)) if possible else None,
            **shares,
            "against": ", ".join(f"{name} {n}" for name, n in against.most_common(3)),
            "goals": f"MISSED {'; '.join(missed)}" if missed else "met" if world.goals else "none",
            "seconds": seconds,
        }


def _met(goal: Goal, shares: Row) -> bool:
    """Whether the figure is within the goal's bound, or was never there to be out of it."""
    return shares[goal.figure] is None or goal.met(shares[goal.figure])


def policies(task: tuple[str, int, int]) -> Row:
    """Estimates of policies of a law, from nearly perfect to nearly blind, one log each, against their true values."""
    name, count, decisions = task
    found: list[tuple[float, float, Estimate]] = []
    for seed, noise in enumerate(np.geomspace(*NOISES, count)):
        log = laws.seen_through(float(noise), 7_000_000 + seed, decisions, name=name)
        estimate = value_of(log.choices, GATE).of("challenger")
        if isinstance(estimate, Estimate):
            found.append((log.worth["champion"], log.worth["challenger"], estimate))
    champion, true = (np.array([one[side] for one in found]) for side in (0, 1))
    values = np.array([estimate.value for _, _, estimate in found])
    return {
        "law": name,
        "policies": len(found),
        "refused": count - len(found),
        "correlation": float(np.corrcoef(true, values)[0, 1]),
        "sign_agreement": float(np.mean(np.sign(values - champion) == np.sign(true - champion))),
        "covered": float(np.mean([estimate.low <= value <= estimate.high for _, value, estimate in found])),
        "root_mean_square_error": float(np.sqrt(np.mean((true - values) ** 2))),
    }


def prove(small: bool) -> Iterator[tuple[str, Row]]:
    """(world, row) as they are found."""
    # Workers no more than the cores this process may use, a thread each: more of either wait for one another.
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), initializer=threadpool_limits, initargs=(1,)) as pool:
        for world in worlds():
            trials, decisions = (SMALL_TRIALS, SMALL_DECISIONS) if small else (world.logs, world.decisions)
            yield world.name, {"says": world.says}
            yield from ((world.name, row) for row in rows_of(pool, world, trials, decisions))
        names = list(laws.LAWS)[:1] if small else list(laws.LAWS)
        for row in pool.map(
            policies, [(name, POLICIES, SMALL_DECISIONS if small else POLICY_DECISIONS) for name in names]
        ):
            yield "policies", row


def goals(rows: list[Row]) -> list[Row]:
    """Every world's, and two of the laws together: a single look's 2.5 % promoted of no gain, and power at +1 %."""
    found = {(row["table"], row["lift"]): row for row in rows if "lift" in row}
    judged = []
    for world in worlds():
        for goal in world.goals:
            shares = {lift: found[world.name, lift] for lift in world.lifts if goal.asks(lift)}
            said = ", ".join(
                f"{row[goal.figure]:.1%} at {lift:+.2%}" for lift, row in shares.items() if row[goal.figure] is not None
            )
            met = all(_met(goal, row) for row in shares.values())
            judged.append({"goal": f"{world.name}: {goal}", "found": said or "nothing to judge", "met": met})
    honest = [row for row in rows if row["table"] in {f"law: {name}" for name in laws.LAWS} and "lift" in row]
    for lift in sorted({row["lift"] for row in honest if row["lift"] <= 0}):
        counted = [(row["promoted"] * row["trials"], row["trials"]) for row in honest if row["lift"] == lift]
        happened, trials = (round(sum(part)) for part in zip(*counted, strict=True))
        interval = binomtest(happened, trials).proportion_ci(method="wilson")
        judged.append({"goal": f"laws together at {lift:+.0%}: promoted not surely above {NONE_BETTER:.1%}",
                       "found": f"{happened / trials:.2%} [{interval.low:.2%}, {interval.high:.2%}] of {trials}",
                       "met": bool(interval.low <= NONE_BETTER)})  # fmt: skip
    power = {row["table"]: row["promoted"] for row in honest if row["lift"] == 0.01}
    enough = sum(share >= POWER for share in power.values())
    judged.append({"goal": f"+1 % promoted in {POWER:.0%} of logs in {LAWS_WITH_POWER} of {len(power)} laws",
                   "found": ", ".join(f"{name.removeprefix('law: ')} {share:.0%}" for name, share in power.items()),
                   "met": enough >= LAWS_WITH_POWER})  # fmt: skip
    return judged
