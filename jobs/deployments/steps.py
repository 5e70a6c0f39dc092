"""What a release does next: a pure rule over an endpoint's steps and what was found while its last one was watched.

approved -> shadow -> canary n % -> ... -> live, as far as the settings plan them; an alarm ends it at once, and silence
ends it when patience does: nothing passes that was not seen to answer well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from jobs.config import ReleaseSettings
from jobs.deployments import ledger
from jobs.deployments.ledger import APPROVED, CANARY, LIVE, ROLLED_BACK, SHADOW, Row
from jobs.errors import UsageError

ALL = 100.0
"""Percent of the traffic."""


class Found(StrEnum):
    """Of a watch, in the words of Argo Rollouts' analysis."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    """It could not be measured; worth no more than silence."""
    INCONCLUSIVE = "inconclusive"
    """Too little was seen, or for too short a time."""


@dataclass(frozen=True)
class Report:
    """What a watch found of the step a release is at, and for how long it has been there."""

    found: Found
    why: str
    seconds: float


@dataclass(frozen=True)
class Step:
    """A step to take; `share` is of the requests that the candidate answers once it is taken, in percent.

    `why`: what the watch of the step before found; None where nothing was watched.
    """

    step: str
    share: float
    why: str | None = None

    @property
    def name(self) -> str:
        """As `--step` takes it: shadow, canary-5, live."""
        return f"{CANARY}-{self.share:g}" if self.step == CANARY else self.step


def plan(settings: ReleaseSettings, champion: Row | None) -> tuple[Step, ...]:
    """The steps after approval; where nothing serves there is no traffic to share, and the first model goes live.

    Of the live one's traffic the champion keeps what is held out.
    """
    between = () if champion is None else settings.steps
    share = ALL if champion is None else ALL - settings.holdout_percent
    return (*(Step(SHADOW if name == SHADOW else CANARY, rank(name)) for name in between), Step(LIVE, share))


def next_step(
    history: Sequence[Row], planned: Sequence[Step], report: Report | None, patience_seconds: float
) -> Step | None:
    """The step to take now; None where no release is under way, or it must wait.

    `report` is of the last step of `history`; an approval needs none, any other step without one waits.
    """
    begun = ledger.under_way(history)
    if begun is None:
        return None
    if begun["step"] != APPROVED:
        if report is None:
            return None
        if report.found is Found.FAILED:
            return Step(ROLLED_BACK, 0.0, report.why)
        if report.found is not Found.PASSED:
            late = report.seconds >= patience_seconds
            why = f"{report.found} after {report.seconds:.0f} s: {report.why}"
            return Step(ROLLED_BACK, 0.0, why) if late else None
    ahead = next(step for step in planned if rank(step.name) > rank_of(begun))
    return ahead if report is None else replace(ahead, why=report.why)


def rank(name: str) -> float:
    """The order of steps by their names, which rises with the share; raises `UsageError` for what is none."""
    if name in (SHADOW, LIVE):
        return ALL if name == LIVE else 0.0
    try:
        share = float(name.removeprefix(f"{CANARY}-"))
    except ValueError:
        share = -1.0
    if not name.startswith(f"{CANARY}-") or not 0 < share < ALL:
        raise UsageError(f"a step must be {SHADOW}, {CANARY}-PERCENT or {LIVE}; found {name!r}")
    return share


def name_of(row: Row) -> str:
    """Of a row of the ledger, as `Step.name`."""
    return Step(row["step"], row["share"]).name


def rank_of(row: Row) -> float:
    """Of a row of a release under way: an approval comes before all others."""
    return -1.0 if row["step"] == APPROVED else rank(name_of(row))
