"""What the challenger gains against what is shown now and against the champion, in the figures a person asks for."""

from dataclasses import dataclass
from statistics import NormalDist

from jobs.evidence.document import Document
from jobs.evidence.figures import Estimated, Finding


@dataclass(frozen=True)
class Gain:
    """Challenger minus another in clicks per request; `difference` has an interval at `confidence`."""

    against: str
    other: Finding
    difference: Finding
    confidence: float
    requests_a_day: float

    @property
    def relative(self) -> tuple[float, float, float] | None:
        """Value, low and high as shares of what the other earns, taken as it is; None where that is nothing."""
        if not (isinstance(self.other, Estimated) and self.other.value > 0):
            return None
        return self._times(1 / self.other.value)

    @property
    def clicks_a_day(self) -> tuple[float, float, float] | None:
        """Value, low and high if every request gains like those replayed."""
        return self._times(self.requests_a_day)

    @property
    def chance_of_worse(self) -> float | None:
        """The one-sided p-value of the gain by a normal error; None where there is none to tell it by."""
        found = self.difference
        if not isinstance(found, Estimated) or found.stderr == 0:
            return None
        return NormalDist(found.value, found.stderr).cdf(0.0)

    def _times(self, factor: float) -> tuple[float, float, float] | None:
        found = self.difference
        if not isinstance(found, Estimated):
            return None
        return found.value * factor, found.low * factor, found.high * factor


def gains(document: Document) -> tuple[Gain, Gain]:
    """Against what is shown now, and against the champion."""
    logging, value, a_day = document.logging, document.value, requests_a_day(document)
    return (
        Gain("what is shown now", logging.value, logging.difference, document.gate.confidence, a_day),
        Gain("the champion", value.champion, value.difference, document.risk.confidence, a_day),
    )


def requests_a_day(document: Document) -> float:
    """Requests whose click is known, replayed or not, on each of the days with test rows."""
    requests = document.replay.requests
    return (requests["session_replay"] + requests["slate_re_ranking"]) / len(document.days)
