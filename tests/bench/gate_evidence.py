"""What a world is, and its logs judged: evidence by the product's own functions, verdicts by the product's own gate."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from models.evaluation.calibration import calibration_error, calibration_ratio
from models.evaluation.choices import SIDES, Choices, Side
from models.evaluation.comparison import compare
from models.evaluation.estimate import Estimate, Finding
from models.evaluation.gate import Evidence, Verdict, judge
from models.evaluation.risk import spend
from models.evaluation.value import Value, value_of
from models.settings import GateSettings, Margins
from tests.bench.gate_draws import Floats, Log

METRICS = ("auc", "log_loss")
"""One placement a request: list metrics would be 1 or nothing."""
GATE = GateSettings(
    must_not_fall=Margins(ndcg_at_10=None),
    # What a log of decisions alone cannot show is not asked; every other rule is, at its default.
    max_conversion_drop=None,
    max_slice_drop=None,
    max_concentration_rise=None,
    max_skew=None,
    max_latency_ms=None,
    min_known_share=None,
)


def evidence_of(log: Log, value: Value, settings: GateSettings) -> Evidence:
    """What the product finds in a log: the value in what can be replayed, the metrics in all that was shown."""
    parts = [log.choices] + ([] if log.unreplayed is None else [log.unreplayed])
    clicked, users = (np.concatenate([getattr(part, name) for part in parts]) for name in ("reward", "users"))
    champion, challenger = (np.concatenate([_scores(part, side) for part in parts]) for side in SIDES)
    return Evidence(
        comparison=compare(clicked, champion, challenger, users, users, settings, metrics=METRICS),
        value=value.estimates[value.primary],
        estimators=value.estimates,
        logging=value.logging,
        against_logging=value.of("against_logging"),
        replayed_share=len(log.choices) / len(clicked),
        test_rows=len(clicked),
        held_out_hours=dict.fromkeys(SIDES, 1.0),  # rankers here know logits, and learn from no rows
        calibration_ratio=calibration_ratio(clicked, challenger, settings=settings, clusters=users),
        calibration=calibration_error(clicked, challenger, settings=settings, clusters=users),
        click_rate=float(clicked.mean()),
    )


def _scores(choices: Choices, side: Side) -> Floats:
    """(m,) what the side predicts for what was shown."""
    return choices.predicted[side][choices.shown]


def verdict(log: Log, settings: GateSettings = GATE) -> Verdict:
    """The gate's verdict on the evidence in the log."""
    return Judged.of(log, settings).verdict


@dataclass(frozen=True)
class Judged:
    """A log, what the product found in it, and what the gate made of that."""

    log: Log
    evidence: Evidence
    verdict: Verdict
    marginal: Mapping[str, Finding]

    @classmethod
    def of(cls, log: Log, settings: GateSettings) -> "Judged":
        """Evidence and verdict of a log."""
        value = value_of(log.choices, settings)
        evidence = evidence_of(log, value, settings)
        return cls(log, evidence, judge(evidence, settings), value.marginal)

    def outcome(self, rule: str) -> str | None:
        """What came of the rule of this name; None where it was not asked."""
        return next((r.outcome for r in self.verdict.rules if r.name == rule), None)


def promoted(found: Judged) -> bool:
    """The gate says promote."""
    return found.verdict.verdict == "promote"


def refused(found: Judged) -> bool:
    """The gate says the evidence cannot carry a verdict."""
    return found.verdict.verdict == "refuse"


def covered(found: Judged) -> bool | None:
    """The difference's interval holds the true difference; None without an interval."""
    estimate = found.evidence.value.get("difference")
    return estimate.low <= found.log.gain <= estimate.high if isinstance(estimate, Estimate) else None


def second_covered(found: Judged) -> bool | None:
    """The biased second opinion's interval holds the true difference; None without one."""
    estimate = found.marginal.get("difference")
    return estimate.low <= found.log.gain <= estimate.high if isinstance(estimate, Estimate) else None


def second_shows(found: Judged) -> bool:
    """The biased second opinion is sure of a gain."""
    estimate = found.marginal.get("difference")
    return isinstance(estimate, Estimate) and estimate.low > 0


FEW = 40
Figure = Callable[[Judged], bool | None]
FIGURES: Mapping[str, Figure] = {"promoted": promoted, "refused": refused, "covered": covered}
SECOND: Mapping[str, Figure] = {**FIGURES, "second_covered": second_covered, "second_shows": second_shows}
"""With what `models.evaluation.marginal` says."""


@dataclass(frozen=True)
class Goal:
    """A bound on how often something happens, at the true lifts named: by default at every one that is 0 or less."""

    figure: str
    at_most: float | None = None
    at_least: float | None = None
    lifts: tuple[float, ...] | None = None

    def asks(self, lift: float) -> bool:
        """Whether it is of this lift."""
        return lift <= 0 if self.lifts is None else lift in self.lifts

    def met(self, share: float) -> bool:
        """Whether the share is within the bound."""
        return (self.at_most is None or share <= self.at_most) and (self.at_least is None or share >= self.at_least)

    def __str__(self) -> str:
        bounds = [("at most", self.at_most), ("at least", self.at_least)]
        return f"{self.figure.replace('_', ' ')} " + " and ".join(f"{w} {b:.1%}" for w, b in bounds if b is not None)


@dataclass(frozen=True)
class World:
    """Where the gate could go wrong in one way, and what holds if it does not.

    `draw(seed, lift, decisions)`: the logs of one trial, one verdict each: of a trial with several, one promotion is
    enough to count. `says`: one sentence. `logs`: how many trials are counted at each of `lifts`; what a trial's lifts
    have in common need be drawn once (`functools.lru_cache`), they are drawn one after the other.
    """

    name: str
    says: str
    draw: Callable[[int, float, int], Iterable[Log]]
    goals: tuple[Goal, ...]
    lifts: tuple[float, ...] = (0.0,)
    decisions: int = 50_000
    logs: int = 200
    settings: GateSettings = GATE
    shared: bool = False
    """Whether the verdicts of a trial spend from one risk, as the ledger of looks does; else each has its own."""
    figures: Mapping[str, Figure] = field(default_factory=lambda: FIGURES)
    """Name to what is counted; of `promoted` trials with one, of all others verdicts."""
    few: tuple[float, ...] = ()
    """Lifts at which `FEW` trials are enough."""

    def lifts_of(self, seed: int) -> list[float]:
        """Those that the trial of this seed is counted at."""
        return [lift for lift in self.lifts if seed < FEW or lift not in self.few]

    def judged(self, seed: int, lift: float, decisions: int | None = None) -> list[Judged]:
        """The verdicts of one trial."""
        found, spent = [], list[float]()
        for log in self.draw(seed, lift, decisions or self.decisions):
            settings = self.settings
            if self.shared:
                spent.append(spend(spent, 1 - settings.confidence, settings.expected_looks))
                settings = settings.at(spent[-1])
            found.append(Judged.of(log, settings))
        return found
