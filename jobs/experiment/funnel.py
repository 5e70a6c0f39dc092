"""Every candidate's way from its evidence to its users: what each look at it would have decided, who agreed. No I/O.

Offline and online figures are both lifts over the logging policy in clicks per request, so that they may be compared;
the days differ, and so may what was logged. Those of an A/B test are lifts over the candidate that answered its control
arm, and so is the offline figure they are held against.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from jobs.deployments.ledger import CANARY, LIVE, ROLLED_BACK, SHADOW
from jobs.evidence.document import Document
from jobs.evidence.figures import Estimated, Finding
from jobs.experiment.core import EXPERIMENT
from jobs.experiment.mixed import PREFERENCE
from jobs.experiment.readout import VERDICT
from models.evaluation.estimate import Estimate, Refusal, upper_tail
from models.experiments.trust import Trust, trust
from models.experiments.verdict import MISDRAWN

Row = Mapping[str, Any]
Word = Literal["yes", "no", "unsure", "not run"]
LOOKS = ("gate", "estimate", "shadow", "interleaving", "canary", "a_b", "online")
"""In the order in which a candidate meets them."""
AB_LIFTS = ("clicks_per_request", "click_rate", "clicks_per_user")
"""Metrics whose lift is what clicks per request rise by, the nearest first; pages of both arms being equally long."""


@dataclass(frozen=True)
class Candidate:
    """What is known of one, by look."""

    candidate_id: str
    day: str
    said: Mapping[str, Word]
    why: Mapping[str, str]
    offline: Estimate | None
    online: Estimate | None
    against: tuple[Estimate, Estimate] | None
    """Offline and in its newest A/B test, both over the same opponent; None where either is not known."""

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
        document, online = _document(str(row["document"])), _online(name, readouts, confidence)
        offline = None if document is None else _lift(document.logging.difference, document.logging.value)
        tested = read_last([of for of in readouts if of["candidate_id"] == name != of["opponent_id"]])
        said: dict[str, Word] = dict.fromkeys(LOOKS, "not run")
        why = dict.fromkeys(LOOKS, "")
        if verdicts:
            last = verdicts[-1]
            said["gate"], why["gate"] = ("yes" if last["verdict"] == "promote" else "no"), last["verdict"]
        said["estimate"], why["estimate"] = _word(offline)
        said["online"], why["online"] = _word(online)
        for look, step in (("shadow", SHADOW), ("canary", CANARY)):
            said[look], why[look] = _step(step, mine)
        said["interleaving"], why["interleaving"] = _preferred(tested)
        said["a_b"], why["a_b"] = _tested(tested)
        found.append(Candidate(name, str(row["day"]), said, why, offline, online, _against(document, tested)))
    return sorted(found, key=lambda one: (one.day, one.candidate_id))


def read_last(readouts: Sequence[Row]) -> list[Row]:
    """Of each declared experiment the rows of the newest day on which it was read, experiments by that day."""
    days: dict[str, str] = {}
    for row in readouts:
        if row["experiment"] != EXPERIMENT:
            days[row["experiment"]] = max(days.get(row["experiment"], ""), str(row["day"]))
    found = [row for row in readouts if days.get(row["experiment"]) == str(row["day"])]
    return sorted(found, key=lambda row: (str(row["day"]), row["experiment"], row["variant"]))


def trusted(known: Sequence[Candidate], confidence: float) -> Trust | Refusal:
    """Over candidates with both figures over the logging policy, whether the offline one foretells the other."""
    both = [(one.offline, one.online) for one in known if one.offline is not None and one.online is not None]
    return _trust(both, confidence)


def trusted_ab(known: Sequence[Candidate], confidence: float) -> Trust | Refusal:
    """Over candidates that met the one they were judged against in an A/B test, whether it came as was estimated."""
    return _trust([one.against for one in known if one.against is not None], confidence)


def _trust(both: Sequence[tuple[Estimate, Estimate]], confidence: float) -> Trust | Refusal:
    columns = [(a.value, a.stderr, b.value, b.stderr) for a, b in both]
    offline, offline_error, online, online_error = np.array(columns, float).reshape(-1, 4).T
    return trust(offline, offline_error, online, online_error, confidence)


def _document(text: str) -> Document | None:
    """None where it is of another schema."""
    try:
        return Document.model_validate_json(text)
    except ValidationError:
        return None


def _lift(gap: Finding, level: Finding) -> Estimate | None:
    """A difference relative to a level; None where either was refused, or there is no level."""
    if not (isinstance(gap, Estimated) and isinstance(level, Estimated)) or level.value <= 0:
        return None
    return _times(gap.measured(), 1 / level.value)


def _against(document: Document | None, tested: Sequence[Row]) -> tuple[Estimate, Estimate] | None:
    """Both figures over the candidate that the evidence compares with, where it answered the control arm."""
    if document is None:
        return None
    offline = _lift(document.value.difference, document.value.champion)
    told = {row["metric"]: row for row in tested if row["opponent_id"] == document.champion.candidate_id}
    for metric in AB_LIFTS:
        gap, level = told.get(metric), told.get(f"{metric}.control")
        if offline is not None and gap and level and gap["stderr"] and level["value"]:
            names = ("value", "stderr", "low", "high", "n", "effective_n")
            return offline, _times(Estimate(*(gap[name] for name in names)), 1 / level["value"])
    return None


def _preferred(tested: Sequence[Row]) -> tuple[Word, str]:
    """What an interleaved page says alone, by the interval that may be read on any day."""
    row = next((row for row in reversed(tested) if row["metric"] == PREFERENCE), None)
    if row is None:
        return "not run", ""
    if row["always_low"] is None:
        return "unsure", str(row["note"])
    low, high = row["always_low"], row["always_high"]
    word: Word = "yes" if low > 0 else "no" if high < 0 else "unsure"
    return word, f"preference {row['value']:+.1%} ({low:+.1%} to {high:+.1%}) over {row['opponent_id']}"


def _tested(tested: Sequence[Row]) -> tuple[Word, str]:
    """The verdict of an A/B test; of arms that are not as they were drawn it says nothing of the candidate."""
    row = next((row for row in reversed(tested) if row["metric"] == VERDICT), None)
    if row is None:
        return "not run", ""
    said = str(row["verdict"])
    word: Word = "yes" if said.startswith("ship") else "no"
    if said.startswith("go on") or MISDRAWN in said:
        word = "unsure"
    return word, f"{row['experiment']}, over {row['opponent_id']}: {said}"


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
    """Of the newest time a release was at such a step: whether it went on, and what its watch found."""
    at = [number for number, step in enumerate(steps) if step["step"] == name]
    if not at:
        return "not run", ""
    after = next((step for step in steps[at[-1] + 1 :] if step["step"] in (LIVE, ROLLED_BACK, CANARY)), None)
    if after is None:
        return "unsure", "under way"
    found = f": {after['why']}" if after["why"] else ""
    return ("no", str(after["why"])) if after["step"] == ROLLED_BACK else ("yes", f"went on to {after['step']}{found}")
