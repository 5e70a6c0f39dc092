"""Every candidate's way from its evidence to its users: what each look at it would have decided, who agreed. No I/O.

Offline and online figures are both lifts over the logging policy in clicks per request, so that they may be compared;
the days differ, and so may what was logged.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from jobs.deployments.ledger import CANARY, LIVE, ROLLED_BACK, SHADOW
from jobs.evidence.document import Document, Estimated
from jobs.experiment.core import EXPERIMENT
from models.evaluation.estimate import Estimate, Refusal, upper_tail
from models.experiments.trust import Trust, trust

Row = Mapping[str, Any]
Word = Literal["yes", "no", "unsure", "not run"]
LOOKS = ("gate", "estimate", "shadow", "interleaving", "canary", "online")
"""In the order in which a candidate meets them."""


@dataclass(frozen=True)
class Candidate:
    """What is known of one, by look."""

    candidate_id: str
    day: str
    said: Mapping[str, Word]
    why: Mapping[str, str]
    offline: Estimate | None
    online: Estimate | None

    @property
    def agreed(self) -> bool | None:
        """Whether all that told yes or no told the same; None where fewer than two did."""
        told = [word for word in self.said.values() if word in ("yes", "no")]
        return len(set(told)) == 1 if len(told) > 1 else None


def candidates(
    evidence: Sequence[Row], promotions: Sequence[Row], steps: Sequence[Row], readouts: Sequence[Row], confidence: float
) -> list[Candidate]:
    """One per candidate with evidence, the newest of it, oldest candidate first."""
    newest = {row["candidate_id"]: row for row in sorted(evidence, key=lambda row: str(row["day"]))}
    found = []
    for name, row in newest.items():
        verdicts = sorted((p for p in promotions if p["candidate_id"] == name), key=lambda p: p["decided_at"])
        mine = sorted((step for step in steps if step["candidate_id"] == name), key=lambda step: step["number"])
        offline, online = _offline(str(row["document"])), _online(name, readouts, confidence)
        said: dict[str, Word] = dict.fromkeys(LOOKS, "not run")
        why = dict.fromkeys(LOOKS, "")
        if verdicts:
            last = verdicts[-1]
            said["gate"], why["gate"] = ("yes" if last["verdict"] == "promote" else "no"), last["verdict"]
        said["estimate"], why["estimate"] = _word(offline)
        said["online"], why["online"] = _word(online)
        for look, step in (("shadow", SHADOW), ("canary", CANARY)):
            said[look], why[look] = _step(step, mine)
        found.append(Candidate(name, str(row["day"]), said, why, offline, online))
    return sorted(found, key=lambda one: (one.day, one.candidate_id))


def trusted(known: Sequence[Candidate], confidence: float) -> Trust | Refusal:
    """Over candidates with both figures, whether the offline one foretells the other."""
    both = [(one.offline, one.online) for one in known if one.offline is not None and one.online is not None]
    columns = [(a.value, a.stderr, b.value, b.stderr) for a, b in both]
    offline, offline_error, online, online_error = np.array(columns, float).reshape(-1, 4).T
    return trust(offline, offline_error, online, online_error, confidence)


def _offline(document: str) -> Estimate | None:
    """The counterfactual lift over logging; None where it was refused, or the document is of another schema."""
    try:
        found = Document.model_validate_json(document).logging
    except ValidationError:
        return None
    if not (isinstance(found.difference, Estimated) and isinstance(found.value, Estimated)) or found.value.value <= 0:
        return None
    return _times(found.difference.measured(), 1 / found.value.value)


def _times(found: Estimate, factor: float) -> Estimate:
    value, stderr, low, high = (factor * of for of in (found.value, found.stderr, found.low, found.high))
    return Estimate(value, stderr, low, high, found.n, found.effective_n)


def _online(name: str, readouts: Sequence[Row], confidence: float) -> Estimate | None:
    """Days of `endpoint-vs-logging` that it answered alone, pooled by what each is worth; None without such a day."""
    days: dict[str, dict[str, Row]] = {}
    for row in readouts:
        variants = {of.partition("+")[0] for of in row["variant"].split(", ")}
        if row["experiment"] == EXPERIMENT and variants == {name}:
            days.setdefault(str(row["day"]), {})[row["metric"]] = row
    weights, total, rows, users = 0.0, 0.0, 0, 0.0
    for told in days.values():
        gap, level = told.get("clicks_per_request"), told.get("clicks_per_request.control")
        if gap is None or level is None or not gap["stderr"] or not level["value"]:
            continue
        weight = (level["value"] / gap["stderr"]) ** 2
        weights, total = weights + weight, total + weight * gap["value"] / level["value"]
        rows, users = rows + gap["n"], users + (gap["effective_n"] or 0.0)
    if not weights:
        return None
    value, stderr = total / weights, 1 / math.sqrt(weights)
    reach = NormalDist().inv_cdf(upper_tail(confidence)) * stderr
    return Estimate(value, stderr, value - reach, value + reach, rows, users)


def _word(found: Estimate | None) -> tuple[Word, str]:
    if found is None:
        return "not run", ""
    word: Word = "yes" if found.low > 0 else "no" if found.high < 0 else "unsure"
    return word, f"{found.value:+.1%} ({found.low:+.1%} to {found.high:+.1%})"


def _step(name: str, steps: Sequence[Row]) -> tuple[Word, str]:
    """Of the newest time a release was at such a step: whether it went on from there."""
    at = [number for number, step in enumerate(steps) if step["step"] == name]
    if not at:
        return "not run", ""
    after = next((step for step in steps[at[-1] + 1 :] if step["step"] in (LIVE, ROLLED_BACK, CANARY)), None)
    if after is None:
        return "unsure", "under way"
    return ("no", str(after["why"])) if after["step"] == ROLLED_BACK else ("yes", f"went on to {after['step']}")
