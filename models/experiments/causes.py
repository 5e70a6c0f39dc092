"""Why arms have not the units they were drawn to have: the likeliest cause, by its name, and how to see it oneself.

Where units went missing, and which, is looked at along their way (assigned, answered, logged, valid, joined, analysed:
the stages of Fabijan et al. 2019, *Diagnosing sample ratio mismatch*). Every cause says which units it has touched and
leaves all others as they were drawn. Each is scored by how much likelier it makes the arms of all units, less what its
freedom and the number of others like it cost (BIC); the best is named.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from models.experiments.srm import LEVEL, single_look

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Words = NDArray[np.object_]
STEPS = ("answered", "logged", "valid", "once", "joined", "human", "triggered")
"""What a unit passes after it was assigned; where it left is the first that it did not pass."""
LOSS = {
    "answered": ("answers lost", "one arm redirects, fails or is left before its answer", "execution"),
    "logged": ("telemetry lost", "one arm's pages do not log what was shown", "execution"),
    "valid": ("rows set aside", "rows of one arm break an expectation, and are not used", "log processing"),
    "once": ("duplicates dropped", "rows of one arm have ids of others, and are dropped as copies", "log processing"),
    "joined": ("lossy join", "impressions of one arm do not find their labels", "log processing"),
    "human": ("bot filter", "units of one arm look like bots, or bots know one arm", "log processing"),
    "triggered": ("trigger condition", "who is analysed depends on what the arm did", "analysis"),
}  # fmt: skip
WORTH = 3.0
"""A cause is named before a more general one if it is likelier by so many nats."""


@dataclass(frozen=True)
class Units:
    """n units that were assigned, as logs have them; all (n,)."""

    arm: Ints
    """Numbered in the order of the weights, as logged."""
    drawn: Ints
    """What assignment says today for the same id."""
    day: Ints
    """Of the first exposure, since the start."""
    left: Ints
    """How many of `STEPS` it passed: `len(STEPS)` for all of them."""
    nobody: Bools
    """An id that stands for many people, or for none."""
    both: Bools
    """Seen in more than one arm; `arm` is the first."""
    slow: Bools
    """Its first answer took longer than was promised."""
    segments: Mapping[str, Words]
    """Device, surface, client version ...: by name."""
    before: Mapping[str, Words]
    """Arms of experiments that ended before; None for none."""
    beside: Mapping[str, Words]
    """Arms of experiments that run at the same time; None for none."""

    @property
    def analysed(self) -> Bools:
        """Who is left at the end of the way."""
        passed: Bools = self.left == len(STEPS)
        return passed


def together(parts: Sequence[Units]) -> Units:
    """The units of all parts, of one experiment, as one."""
    whole = [
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("arm", "drawn", "day", "left", "nobody", "both", "slow")
    ]
    words = [
        {of: np.concatenate([getattr(part, name)[of] for part in parts]) for of in getattr(parts[0], name)}
        for name in ("segments", "before", "beside")
    ]
    return Units(*whole, *words)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Cause:
    """A name for what went wrong, in which stage of the way, what is seen of it, and how much likelier it is (nats)."""

    name: str
    stage: str
    why: str
    gain: float

    def __str__(self) -> str:
        return f"{self.name} ({self.stage}): {self.why}"


def diagnose(units: Units, weights: Floats) -> list[Cause]:
    """Causes of a mismatch among the units that were analysed, likeliest first; none where there is no mismatch.

    `weights` (k,) as for `srm.single_look`. Where those assigned are as drawn, units were lost on the way, and the step
    that lost most unevenly is named. More than one fault is told by the larger.
    """
    k = len(weights)
    if single_look(_counts(units.arm[units.analysed], k), weights) >= LEVEL:
        return []
    shares = np.asarray(weights, float) / np.sum(weights)
    if single_look(_counts(units.arm, k), weights) < LEVEL:
        found = list(_assigned(units, shares))
    else:
        found = list(_lost(units, k))
    return sorted(found, key=lambda cause: -cause.gain)


def _counts(arm: Ints, k: int) -> Ints:
    return np.bincount(arm, minlength=k)


def _assigned(units: Units, shares: Floats) -> Iterator[Cause]:
    """Faults of assignment: some units were not drawn with these shares."""
    k, stage = len(shares), "assignment"
    wrong = units.arm != units.drawn
    sound = single_look(_counts(units.drawn[units.drawn >= 0], k), shares) >= LEVEL
    everyone = _gain(units.arm, np.ones(len(units.arm), bool), shares)
    if wrong.mean() > 0.01 and sound:
        why = f"{wrong.mean():.1%} of units are not in the arm that their id draws; as drawn, shares fit"
        yield Cause("other assigner", stage, why, everyone + WORTH + math.log(len(units.arm)))
    found = _counts(units.arm, k) / len(units.arm)
    said = ", ".join(f"{share:.1%}" for share in found)
    yield Cause("other weights", stage, f"shares are {said} everywhere: not those of the settings", everyone + WORTH)
    for name, touched, why in (
        ("nobody's ids", units.nobody, "ids that stand for nobody, or for many, lie in one arm"),
        ("changing ids", units.both, "units seen in more than one arm lie in one arm first"),
    ):
        yield from _cause(name, stage, why, units.arm, touched, shares, 1)
    yield from _by_time(units, shares)
    for name, kind, families in (
        ("carry-over", "of {} of {}, which has ended, one arm stayed away or came more", units.before),
        ("crossed experiment", "of {} of {}, which runs too, units are drawn together with it", units.beside),
        ("one segment", "only {} of {} is off", units.segments),
    ):
        for family, words in families.items():
            values = [value for value in set(words.tolist()) if value is not None or name == "one segment"]
            for value in values:
                why = kind.format(value, family)
                of = stage if name != "one segment" else "execution"
                yield from _cause(name, of, why, units.arm, words == value, shares, len(values) * len(families))


def _by_time(units: Units, shares: Floats) -> Iterator[Cause]:
    """One arm began later, or ended sooner."""
    days = np.unique(units.day)
    for day in days[:-1].tolist():
        early = units.day <= day
        for name, touched, why in (
            ("late start", early, f"only up to day {day + 1} are shares off: one arm began later"),
            ("early end", ~early, f"only after day {day + 1} are shares off: one arm ended, or lost its users"),
        ):
            yield from _cause(name, "execution", why, units.arm, touched, shares, 2 * len(days))


def _cause(name: str, stage: str, why: str, arm: Ints, touched: Bools, shares: Floats, tried: int) -> Iterator[Cause]:
    if 0 < touched.sum() < len(arm):
        yield Cause(name, stage, why, _gain(arm, touched, shares) - math.log(tried))


def _gain(arm: Ints, touched: Bools, shares: Floats) -> float:
    """How much likelier arms are where those touched have shares of their own, less the cost of these."""
    n = _counts(arm[touched], len(shares)).astype(float)
    free = xlogy(n, n / n.sum()).sum() - xlogy(n, shares).sum()
    return float(free) - 0.5 * (len(shares) - 1) * math.log(len(arm))


def _lost(units: Units, k: int) -> Iterator[Cause]:
    """Faults further on: of a step, one arm loses more of its units than the others."""
    newest = units.day == units.day.max(initial=0)
    for number, step in enumerate(STEPS):
        there = units.left >= number
        arm, lost = units.arm[there], units.left[there] == number
        name, why, stage = LOSS[step]
        everywhere = _uneven(arm, lost, np.ones(len(arm), bool), k)
        yield Cause(name, stage, why, everywhere + WORTH)
        finer = [("slow answers", units.slow, "units of one arm leave before a slow answer comes", "execution")]
        finer.append(("late logs", newest, "of the newest day, one arm's logs are not all in yet", "log processing"))
        wanted = {"answered": finer[:1], "logged": finer[1:], "joined": finer[1:]}.get(step, [])
        for sub, touched, reason, of in wanted:
            yield Cause(sub, of, reason, _uneven(arm, lost, touched[there], k))
        for family, words in units.segments.items():
            values = set(words.tolist())
            for value in values if len(values) > 1 else ():
                gain = _uneven(arm, lost, (words == value)[there], k) - math.log(len(values) * len(units.segments))
                yield Cause(f"{name} in one segment", stage, f"only {value} of {family}: {why}", gain)


def _uneven(arm: Ints, lost: Bools, touched: Bools, k: int) -> float:
    """How much likelier the losses of those touched are where each arm has a rate of its own, less what rates cost.

    A fault that is everywhere gains most over all units; one of few units loses by being told of all.
    """
    if not touched.any() or not lost.any():
        return -math.inf
    apart = sum(_binomial(lost[touched & (arm == number)]) for number in range(k))
    return apart - _binomial(lost[touched]) - 0.5 * (k - 1) * math.log(len(arm))


def _binomial(lost: Bools) -> float:
    n, k = len(lost), int(lost.sum())
    return float(xlogy(k, k / n) + xlogy(n - k, 1 - k / n)) if n else 0.0
