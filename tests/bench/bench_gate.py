"""How often the gate is wrong, counted in worlds whose true lift is known; and offline estimates against true values.

A row of `errors` is one true lift: verdicts over `WORLDS` independent worlds, laws mixed (`gate_worlds.LAWS`). A world
is a whole log, its evidence computed by the product's own functions and judged by the product's own gate. Promotions at
a lift of 0 or below are false; the interval beside each share is Wilson's. A row of `policies` is one law: estimates of
policies of very different worth from one log each against their true values.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from scipy.stats import norm

from models.evaluation.estimate import Estimate
from models.evaluation.off_policy import snips
from tests.bench.gate_worlds import GATE, LAWS, challenger_noise, drawn, verdict

WORLDS = 200
LIFTS = (-0.05, -0.02, -0.01, 0.0, 0.01, 0.02, 0.05)
SIZES = (10_000, 20_000, 50_000, 100_000)
"""Decisions a log has; the whole table of lifts at `MAIN`, the others at +1 % for the log size that reaches 80 %."""
MAIN = 50_000
POLICIES = 40
Task = tuple[int, float, int, int]
"""Law, challenger's noise, decisions, seed."""


def judged(task: Task) -> tuple[str, list[str]]:
    """The verdict on one world and the rules that stood in the way."""
    law, noise, decisions, seed = task
    found = verdict(drawn(LAWS[law], noise, decisions, seed))
    return found.verdict, [rule.name for rule in found.rules if rule.outcome != "pass"]


def noise_of(task: tuple[int, float]) -> float:
    """The challenger's noise that makes a law's lift."""
    law, lift = task
    return challenger_noise(LAWS[law], lift)


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a share (Wilson 1927)."""
    z = norm.ppf(0.5 + confidence / 2)
    share = successes / n
    centre, reach = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return float((centre - reach) / (1 + z**2 / n)), float((centre + reach) / (1 + z**2 / n))


def error_rates(pool: ProcessPoolExecutor, lift: float, decisions: int, worlds: int) -> dict[str, Any]:
    """How often the gate promotes, holds and refuses at one true lift."""
    noises = list(pool.map(noise_of, [(law, lift) for law in range(len(LAWS))]))
    laws = [seed % len(LAWS) for seed in range(worlds)]
    tasks = [(law, noises[law], decisions, 1_000_000 + seed) for seed, law in enumerate(laws)]
    found = list(pool.map(judged, tasks, chunksize=4))
    promoted = np.array([verdict == "promote" for verdict, _ in found])
    low, high = wilson(int(promoted.sum()), worlds)
    return {
        "true_lift": lift,
        "decisions": decisions,
        "worlds": worlds,
        "promote": float(promoted.mean()),
        "low": low,
        "high": high,
        "refuse": float(np.mean([verdict == "refuse" for verdict, _ in found])),
        **{f"promote_law_{n}": float(promoted[np.array(laws) == n].mean()) for n in range(len(LAWS))},
    }


def policies(law: int) -> dict[str, Any]:
    """Estimates of `POLICIES` policies, from nearly blind to nearly perfect, against their true values."""
    true, found = [], []
    for seed, noise in enumerate(np.geomspace(0.1, 6.0, POLICIES)):
        log = drawn(LAWS[law], float(noise), MAIN, 7_000_000 + seed)
        estimate = snips(
            reward=log.clicked, logged=log.logged, target=log.challenger, clusters=log.users, settings=GATE
        )
        if isinstance(estimate, Estimate):
            true.append((log.value[1], log.value[0]))
            found.append((estimate, float(np.mean(log.clicked))))
    values = np.array([challenger for challenger, _ in true])
    estimates = np.array([estimate.value for estimate, _ in found])
    champion = np.array([value for _, value in true])
    covered = [e.low <= v <= e.high for (e, _), v in zip(found, values, strict=True)]
    return {
        "law": law,
        "policies": len(values),
        "correlation": float(np.corrcoef(values, estimates)[0, 1]),
        "sign_agreement": float(np.mean(np.sign(estimates - champion) == np.sign(values - champion))),
        "covered": float(np.mean(covered)),
        "root_mean_square_error": float(np.sqrt(np.mean((values - estimates) ** 2))),
    }


def prove(small: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """(table, row) as they are found."""
    worlds, main, lifts = (10, 5_000, (0.0, 0.05)) if small else (WORLDS, MAIN, LIFTS)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for lift in lifts:
            yield "errors", error_rates(pool, lift, main, worlds)
        for decisions in () if small else SIZES:
            if decisions != MAIN:
                yield "power", error_rates(pool, 0.01, decisions, worlds)
        for row in pool.map(policies, range(1 if small else len(LAWS))):
            yield "policies", row


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """False promotions below 5 %, and the log size that promotes a true +1 % in 80 % of worlds."""
    errors = {row["true_lift"]: row for row in rows if row["table"] == "errors"}
    reached = {
        row["decisions"]: row["promote"] for row in rows if row["table"] != "policies" and row["true_lift"] == 0.01
    }
    enough = min((n for n, share in reached.items() if share >= 0.8), default=None)
    false = [
        {"goal": f"promotions at a true lift of {lift:+.0%} below 5 %", "found": f"{errors[lift]['promote']:.1%}",
         "met": errors[lift]["promote"] < 0.05}
        for lift in (0.0, -0.01)
    ]  # fmt: skip
    found = ", ".join(f"{share:.0%} of {n:,}" for n, share in sorted(reached.items()))
    return [*false, {"goal": "a true +1 % promoted in 80 % of worlds", "found": found, "met": enough is not None}]
