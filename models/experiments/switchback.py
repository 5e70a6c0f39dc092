"""A switchback, read: what is independent is a pair of blocks, not a request (`assignment.Switchback` draws them)."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from models.evaluation.estimate import Estimate, Refusal
from models.experiments.assignment import Switchback
from models.experiments.compare import Difference
from models.experiments.rates import difference_of_rates
from models.experiments.rules import LEAST_PAIRS
from models.experiments.sequences import at_any_look, evidence

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def treated(plan: Switchback, block: Ints) -> Bools:
    """(n,) whether each of n blocks, counted from the start, is treated."""
    pairs = np.unique(block // 2)
    first = np.array([plan.treated(2 * pair) for pair in pairs.tolist()], bool)
    arm: Bools = first[np.searchsorted(pairs, block // 2)] == (block % 2 == 0)
    return arm


def kept(plan: Switchback, seconds: Floats, now: float) -> Bools:
    """(n,) which rows, by their seconds since the start, may be read at `now`.

    Not those of a washout, nor of a pair that is not over.
    """
    at = np.asarray(seconds, float)
    pair_seconds = 2 * plan.block_seconds
    read: Bools = (at >= 0) & (at < np.floor(now / pair_seconds) * pair_seconds)
    read &= at % plan.block_seconds >= plan.washout_seconds
    return read


def compare_blocks(
    plan: Switchback,
    seconds: Floats,
    successes: Floats,
    trials: Floats,
    *,
    now: float,
    interesting: float,
    confidence: float,
) -> Difference | Refusal:
    """sum(successes) / sum(trials) of treated blocks less that of the others, of n rows by their seconds since the
    start; `interesting` is the relative lift worth finding.

    The pair is the unit of the error, so whatever a pair's requests share (the hour, the weather) is in it; it
    assumes that nothing lasts longer than the washout. Refused for fewer than `LEAST_PAIRS` pairs, and as
    `rates.difference_of_rates`, which raises for bad arrays.
    """
    read = kept(plan, seconds, now)
    block = np.floor(np.asarray(seconds, float)[read] / plan.block_seconds).astype(np.int64)
    pairs, n = len(np.unique(block // 2)), int(read.sum())
    if pairs < LEAST_PAIRS:
        return Refusal(f"a switchback needs {LEAST_PAIRS} pairs of blocks or more; found {pairs}", n, float(pairs))
    found = difference_of_rates(
        successes=np.asarray(successes, float)[read],
        trials=np.asarray(trials, float)[read],
        variant=treated(plan, block),
        users=block // 2,
        confidence=confidence,
    )
    match found["control"], found["variant"], found["difference"]:
        case Estimate() as control, Estimate() as other, Estimate() as gap:
            return _told(control, other, gap, pairs, interesting, confidence)
        case _, _, Refusal() as refused:
            return refused
        case arms:
            raise ValueError(f"a difference of two rates needs both; found {arms}")


def _told(
    control: Estimate, other: Estimate, gap: Estimate, pairs: int, interesting: float, confidence: float
) -> Difference:
    """Every pair is in both arms, so the limits are already as many pairs' quantile times `stderr`."""
    fixed = replace(gap, effective_n=float(pairs))
    scale = interesting * (abs(control.value) or fixed.stderr)
    return Difference(
        control,
        other,
        fixed,
        at_any_look(fixed, scale, confidence),
        float(2 * stdtr(pairs - 1, -abs(fixed.value) / fixed.stderr)),
        min(1.0, 1 / evidence(fixed.value, fixed.stderr, scale)),
        1.0,
        0.0,
        None,
    )
