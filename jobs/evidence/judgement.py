"""What is written beside an evidence: the gate's verdict on it, and what became of it once every label was in."""

from typing import Literal, Self

from jobs.evidence.figures import Part
from models.evaluation.gate import Verdict


class JudgedRule(Part):
    """`models.evaluation.gate.Rule`."""

    name: str
    figure: float | None
    bound: float | None
    outcome: Literal["pass", "hold", "refuse", "unknown"]
    reason: str


class Judgement(Part):
    """`verdict.json`: `models.evaluation.gate.Verdict`, written beside the evidence by `promote`."""

    evidence_sha256: str
    """Of the document it is on."""
    verdict: Literal["promote", "hold", "refuse"]
    reasons: list[str]
    rules: list[JudgedRule]

    @classmethod
    def of(cls, verdict: Verdict, evidence_sha256: str) -> Self:
        """The verdict with every rule."""
        rules = [
            JudgedRule(name=rule.name, figure=rule.figure, bound=rule.bound, outcome=rule.outcome, reason=rule.reason)
            for rule in verdict.rules
        ]
        return cls(evidence_sha256=evidence_sha256, verdict=verdict.verdict, reasons=verdict.reasons, rules=rules)


class LabelChange(Part):
    """So many test rows had one outcome when they were judged and have another since; None is unknown."""

    outcome: Literal["clicked", "converted"]
    before: bool | None
    after: bool | None
    rows: int


class Moved(Part):
    """A figure of the document by its path, first and matured, and matured minus first; None where there is none."""

    figure: str
    first: float | None
    first_low: float | None
    first_high: float | None
    matured: float | None
    matured_low: float | None
    matured_high: float | None
    difference: float | None


class Matured(Part):
    """`matured.json`: the same evidence once every label was in, written beside the first by `reevaluate`."""

    evidence_sha256: str
    """Of the document it is about."""
    day: str
    """At the end of this day the labels were in."""
    test_rows: int
    label_changes: list[LabelChange]
    figures: list[Moved]
    first_verdict: Literal["promote", "hold", "refuse"] | None
    """None: nobody had judged the evidence."""
    matured_verdict: Literal["promote", "hold", "refuse"] | None
    """None: it cannot be told, and `refused` says why."""
    changed: bool | None
    matured_reasons: list[str]
    refused: str | None
