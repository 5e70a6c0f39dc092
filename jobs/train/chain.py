"""Guards of a chain of warm starts: how long it is, how far one moved, whether it was worth it. No I/O."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.config import WarmStartSettings
from jobs.errors import Refused
from jobs.evidence.scored import CHOSEN_BY, MEASURED, Scored, compared
from jobs.train.choice import Worse
from jobs.train.origins import Origin
from jobs.train.progress import Fitted
from models.evaluation.estimate import Estimate, Finding, Refusal
from models.rankers.protocol import Floats, Scorer, TrainingData
from models.settings import GateSettings

Against = Mapping[str, Mapping[str, Finding]]
PARENT, FULL = "parent", "full"
"""What a warm start is compared with: what it continued, and the newest full training of its kind."""
ONCE = ("popularity", "single_task", "mmoe")
"""Kinds that count or memorise, whose warm start takes a row twice for two. The others gain by seeing the days around
the new one again, at their small rates: trees 0.0005 AUC in five warm starts, where the new day alone cost 0.0004."""
NEAREST = 1e-6
"""A probability's distance from 0 and 1, at least, before its logit is taken."""


@dataclass(frozen=True)
class Drift:
    """|change of logit(p_click)| against the parent over the frozen probe rows: the mean and the largest."""

    mean: float
    largest: float

    @classmethod
    def of(cls, before: Floats, after: Floats) -> "Drift":
        """Of two arrays (n,) of probabilities of the same rows, n above 0."""
        moved = np.abs(_logit(after) - _logit(before))
        return cls(round(float(moved.mean()), 6), round(float(moved.max()), 6))


@dataclass(frozen=True)
class Link:
    """One training of a kind as a link of its chain; a fit from scratch is the first, of depth 0."""

    depth: int
    taught_until: datetime
    """The newest row that anyone of the chain learned from."""
    lost_in_a_row: int = 0
    """Warm starts in a row, this the last of them, that were worse for sure than what they continued."""
    drift: Drift | None = None
    against: Against | None = None
    """This minus `PARENT` and minus `FULL`, by metric, on closed rows that neither learned from."""

    @property
    def lineage(self) -> dict[str, Any]:
        """What its bundle says of it, for the next link."""
        drift = None if self.drift is None else asdict(self.drift)
        return {
            "depth": self.depth,
            "taught_until": self.taught_until.isoformat(),
            "lost_in_a_row": self.lost_in_a_row,
            "drift": drift,
        }

    @property
    def report(self) -> dict[str, Any]:
        """The same with the comparisons, for the run's JSON."""
        against = {
            side: {metric: found.as_dict() for metric, found in metrics.items()}
            for side, metrics in (self.against or {}).items()
        }
        return {**self.lineage, "against": against}

    @property
    def figures(self) -> dict[str, float]:
        """For a table of many models: every key of every link, 0 where there is nothing to differ from."""
        found = {"chain.depth": float(self.depth), "chain.lost_in_a_row": float(self.lost_in_a_row)}
        found["chain.drift"] = 0.0 if self.drift is None else self.drift.mean
        for side in (PARENT, FULL):
            for metric in CHOSEN_BY:
                of = (self.against or {}).get(side, {}).get(metric)
                found[f"chain.{metric}_minus_{side}"] = of.value if isinstance(of, Estimate) else 0.0
        return found


def need_a_full_training(origins: Mapping[str, Origin], settings: WarmStartSettings) -> None:
    """Raises `Refused` where a chain is as long as it may be: weekly training has failed for longer than a week.

    A fit from scratch on the few days of a warm start would be worse than what it replaced, and whatever came after it
    would continue that. So the champion serves on, somebody is told, and the next full training ends it.
    """
    for kind, origin in origins.items():
        if origin.depth >= settings.max_depth:
            raise Refused(
                f"a warm start needs a full training at most warm.max_depth = {settings.max_depth} warm starts ago; "
                f"{origin.parent.candidate_id} is the {origin.depth}th since: run weekly_training "
                f"(train --mode full), then clear this ({kind})"
            )


def to_learn(data: TrainingData, kind: str, taught_until: datetime | None) -> TrainingData | None:
    """What a warm start learns from: all rows, of kinds of `ONCE` those of days that nobody of the chain has learned.

    All where `taught_until`, the chain's newest row, is not known. None where no row is new, or none that tell clicks
    from their absence: the parent then stays as it is.
    """
    if taught_until is None or data.days is None:
        return data
    last = (taught_until.date() - date(1970, 1, 1)).days
    rows: NDArray[np.int64] = np.flatnonzero(data.days > last)
    known = data.clicked[rows][np.isfinite(data.clicked[rows]) & (data.weight[rows] > 0)]
    if len(np.unique(known)) < 2:
        return None
    return data.where(rows) if kind in ONCE else data


def rivals(origins: Mapping[str, Origin]) -> tuple[dict[str, Scorer], dict[str, dict[str, str]]]:
    """What warm starts are compared with, by a name; and by kind the name of its `PARENT` and of its `FULL`."""
    rankers: dict[str, Scorer] = {}
    sides: dict[str, dict[str, str]] = {}
    for kind, origin in origins.items():
        sides[kind] = {}
        for side, of in ((PARENT, origin.parent), (FULL, origin.full)):
            if of is not None:
                sides[kind][side] = name = f"{kind} of {of.candidate_id}"
                rankers[name] = origin.part(of)
    return rankers, sides


def link(origin: Origin, fitted: Fitted, taught_until: datetime, drift: Drift, against: Against) -> Link:
    """What a warm start is in its chain; one that learned nothing neither lengthens it nor wins or loses.

    `taught_until` is of its own rows, `against` as `compare` finds it.
    """
    before = origin.taught_until
    if not fitted.learned:
        return Link(origin.depth, before or taught_until, origin.lost, drift, against)
    loses = lost(against[PARENT])
    until = taught_until if before is None else max(before, taught_until)
    return Link(origin.depth + 1, until, origin.lost + 1 if loses else 0, drift, against)


def compare(rows: Scored, kind: str, others: Mapping[str, str], gate: GateSettings) -> Against:
    """`kind` minus each of `others` (a side's name by the name of its scores in `rows`), by metric."""
    return {
        side: {metric: of["difference"] for metric, of in compared(rows, name, kind, gate, MEASURED).items()}
        for side, name in others.items()
    }


def lost(against: Mapping[str, Finding]) -> bool:
    """Whether it is worse for sure in anything candidates are chosen by; a figure that is refused tells nothing."""
    told = {m: f for m, f in against.items() if m in CHOSEN_BY and not isinstance(f, Refusal)}
    return any(Worse.of({"difference": found}, metric).at_least > 0 for metric, found in told.items())


def alarms(links: Mapping[str, Link], settings: WarmStartSettings) -> list[str]:
    """What somebody should hear of: a warm start that moved far, and a kind that is due for a full training."""
    far = {kind: moved_far(link, settings) for kind, link in links.items()}
    due = full_training_due(links, settings)
    return [
        *(f"{kind}: {found['said']}" for kind, found in far.items() if found is not None),
        *(f"{kind}: {why}" for kind, why in due.items()),
    ]


def moved_far(link: Link, settings: WarmStartSettings) -> dict[str, Any] | None:
    """What the evidence warns of, the mean and a sentence; None for a drift within its bound."""
    found = link.drift
    if found is None or found.mean <= settings.max_drift:
        return None
    said = (
        f"a warm start moved p_click by {found.mean:.3f} in logits on average, {found.largest:.3f} at most; "
        f"warm.max_drift is {settings.max_drift:g}"
    )
    return {"mean": found.mean, "said": said}


def full_training_due(links: Mapping[str, Link], settings: WarmStartSettings) -> dict[str, str]:
    """By kind why its chain should end now: its warm starts lose to what they continue."""
    return {
        kind: f"{link.lost_in_a_row} warm starts in a row lost to what they continued: a full training is due"
        for kind, link in links.items()
        if link.lost_in_a_row >= settings.max_losses
    }


def _logit(p: Floats) -> Floats:
    clipped = np.clip(p, NEAREST, 1 - NEAREST)
    found: Floats = np.log(clipped) - np.log1p(-clipped)
    return found
