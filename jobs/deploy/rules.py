"""What a watch asks of a step's answers: limits of its own, limits against the champion, a shadow's agreement, clicks.

Each rule is a test at its part of the step's risk (`models.evaluation.sequential`): the absolute ones share nine tenths
of it, since most of what is wrong they find first, and what compares the rest. The absolute ones pass, fail or
wait; all others can only fail: no hour shows that a canary's clicks are no fewer, and that nobody could read any is no
answer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.config import ReleaseSettings
from jobs.deployments.steps import Found
from jobs.serving.captured import Said
from jobs.serving.clicks import Clicks
from models.evaluation.agreement import Agreement, agreement
from models.evaluation.sequential import rises, share_verdict, two_arms

FAILED = "failed"
"""Of `Answer.fallback_reason`: the ranker raised."""
SLOW = "slow"
SHARES = ("failed", "fallback", SLOW)
OWN = 0.9
"""Of a step's risk, for the absolute limits."""
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rules:
    """What was found of each rule, in words, and of all of them."""

    found: Found
    why: str


def of_shadow(shadow: Sequence[Said], champion: Sequence[Said], settings: ReleaseSettings, risk: float) -> Rules:
    """Of what a shadow said to nobody, and what the champion said to the same requests."""
    pairs = _pairs(shadow, champion)
    agrees = agreement(
        [([place.item_id for place in one.answer.items], [place.item_id for place in other.answer.items])
         for one, other in pairs],
        [(_p_click(one), _p_click(other)) for one, other in pairs],
    )  # fmt: skip
    slower = np.array([other.ms / max(one.ms, 0.01) for one, other in pairs if not math.isnan(one.ms + other.ms)])
    limits = _agreement_limits(agrees, slower, settings)
    absolute = _absolute(shadow, settings, OWN * risk / len(SHARES))
    each = (1 - OWN) * risk / max(1, len(limits))
    broken = [words for words, values, least in limits if rises(values, least, each)]
    return _together(absolute, broken, _agreement_words(agrees, slower))


def of_canary(
    canary: Sequence[Said], champion: Sequence[Said], clicks: Clicks, settings: ReleaseSettings, risk: float
) -> Rules:
    """Of what a canary said, and the champion in the same time to others; and of who clicked."""
    absolute, each = _absolute(canary, settings, OWN * risk / len(SHARES)), (1 - OWN) * risk / (len(SHARES) + 1)
    both = sorted([*((one, True) for one in canary), *((one, False) for one in champion)], key=lambda of: of[0].at)
    treated = np.array([is_canary for _, is_canary in both], dtype=bool)
    bad = _bad([one for one, _ in both], settings)
    worse, times = [], settings.max_times
    for name, rows in bad.items():
        ours, theirs = two_arms(treated, rows.astype(np.float64))
        if rises(ours - times * theirs, times, each):
            worse.append(f"{name} more than {times:g} times as often as the champion's in the same time")
    if _clicks_fell(clicks, settings, each):
        worse.append(f"clicks fell by more than {settings.tolerated_clicks_drop:.0%}")
    shares = ", ".join(f"{rows[~treated].mean():.2%} {name}" for name, rows in bad.items()) if champion else "no answer"
    return _together(absolute, worse, f"the champion's {len(champion)}: {shares}; {clicks_words(clicks)}")


def clicks_words(clicks: Clicks) -> str:
    """How many requests of either arm had a click; or why nobody knows."""
    if clicks.none_read:
        return f"clicks: none read ({clicks.none_read})"
    ours, theirs = clicks.clicked[clicks.treated], clicks.clicked[~clicks.treated]
    of = [f"{int(arm.sum())} of {len(arm)}" for arm in (ours, theirs)]
    return f"clicks: {of[0]} users' first requests, the champion's {of[1]}"


def _absolute(said: Sequence[Said], settings: ReleaseSettings, risk: float) -> Rules:
    bad = _bad(said, settings)
    limits = {name: (getattr(settings, f"tolerated_{name}"), getattr(settings, f"alarming_{name}")) for name in bad}
    verdicts = {name: Found(share_verdict(rows, *limits[name], risk)) for name, rows in bad.items()}
    why = f"of {len(said)} answers " + ", ".join(
        f"{int(bad[name].sum())} {name} ({limits[name][0]:.1%} tolerated, {limits[name][1]:.1%} alarming: {verdict})"
        for name, verdict in verdicts.items()
    )
    if SLOW not in bad:
        why += "; nobody knows how long they took: that is for the alarms of their config"
    if Found.FAILED in verdicts.values():
        return Rules(Found.FAILED, why)
    return Rules(Found.PASSED if set(verdicts.values()) == {Found.PASSED} else Found.INCONCLUSIVE, why)


def _together(absolute: Rules, broken: Sequence[str], told: str) -> Rules:
    why = "; ".join([*broken, absolute.why, told])
    return Rules(Found.FAILED if broken else absolute.found, why)


def _bad(said: Sequence[Said], settings: ReleaseSettings) -> dict[str, Bools]:
    """Which answers were so; without the slow ones where their times are not known, as SageMaker's are not."""
    found = {
        "failed": np.array([one.answer.fallback_reason == FAILED for one in said], dtype=bool),
        "fallback": np.array([one.answer.fallback for one in said], dtype=bool),
        SLOW: np.array([one.ms > settings.slow_ms for one in said], dtype=bool),
    }
    return {name: rows for name, rows in found.items() if name != SLOW or not any(math.isnan(one.ms) for one in said)}


def _pairs(shadow: Sequence[Said], champion: Sequence[Said]) -> list[tuple[Said, Said]]:
    """The champion's answer and the shadow's to each request that both rankers answered with items, in their order."""
    shown = {one.answer.request_id: one for one in champion if one.answer.items and not one.answer.fallback}
    return [
        (shown[one.answer.request_id], one)
        for one in shadow
        if one.answer.items and not one.answer.fallback and one.answer.request_id in shown
    ]


def _p_click(said: Said) -> Floats:
    return np.array([place.p_click for place in said.answer.items])


def _agreement_limits(of: Agreement, slower: Floats, settings: ReleaseSettings) -> list[tuple[str, Floats, float]]:
    """Of each limit that is on: what is wrong where it is crossed, values whose mean is then above 0, and their least.

    Of times the median is meant: oftener than not above the limit.
    """
    found: list[tuple[str, Floats, float]] = []
    correlated = of.rank_correlation[~np.isnan(of.rank_correlation)]
    floors = (
        ("same top item", of.same_top, settings.min_same_top, 1.0),
        ("overlap", of.overlap, settings.min_overlap, 1.0),
        ("rank correlation", correlated, settings.min_rank_correlation, 2.0),
    )
    for name, values, limit, width in floors:
        if limit > 1.0 - width:
            found.append((f"{name} with the champion below {limit:g}", limit - values, width))
    times, (theirs, ours) = settings.max_level_ratio, of.levels
    if times > 0:
        found.append((f"p_click more than {times:g} times the champion's", ours - times * theirs, times))
        found.append((f"p_click less than 1/{times:g} of the champion's", theirs - times * ours, times))
    if settings.max_latency_ratio > 0:
        above = (slower > settings.max_latency_ratio).astype(np.float64) - 0.5
        found.append((f"takes more than {settings.max_latency_ratio:g} times as long as the champion", above, 0.5))
    return found


def _agreement_words(of: Agreement, slower: Floats) -> str:
    if not len(of):
        return "no request that champion and shadow both ranked"
    theirs, ours = (level.mean() for level in of.levels)
    there = of.rank_correlation[~np.isnan(of.rank_correlation)]
    correlation = f"{there.mean():.2f}" if len(there) else "none"
    level = f"{ours / theirs:.2f} times" if theirs > 0 else f"{ours:.3g} against 0 at"
    return (
        f"against the champion on {len(of)} requests: same top {of.same_top.mean():.0%}, overlap "
        f"{of.overlap.mean():.2f}, rank correlation {correlation}, {level} its p_click (shift {of.shift:.2f}), "
        + (f"{np.median(slower):.1f} times its time" if len(slower) else "in a time that nobody knows")
    )


def _clicks_fell(clicks: Clicks, settings: ReleaseSettings, risk: float) -> bool:
    ours, theirs = two_arms(clicks.treated, clicks.clicked.astype(np.float64))
    return rises((1 - settings.tolerated_clicks_drop) * theirs - ours, 1.0, risk)
