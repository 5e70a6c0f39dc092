"""The evidence on a challenger as a typed value: computed, judged and shown as such, JSON only where it is stored.

An unknown key, a missing one and a figure that is not sound are errors: a document that validates can be judged and
shown. `SCHEMA_VERSION` rises whenever a reader of the version before would misread the document.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.evaluation import estimate
from models.evaluation.choices import Side
from models.evaluation.estimate import Estimate, Refusal
from models.evaluation.gate import Verdict
from models.settings import GateSettings, PolicySettings

SCHEMA_VERSION: Literal[7] = 7
_OR_ABSENT: Any = Field(None, exclude_if=lambda value: value is None)


class Part(BaseModel):
    """A frozen part of the document."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Estimated(Part):
    """`models.evaluation.estimate.Estimate`, as sound as that."""

    value: float
    stderr: float
    low: float
    high: float
    n: int
    effective_n: float

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        self.measured()
        return self

    def measured(self) -> Estimate:
        """The estimate itself."""
        return Estimate(self.value, self.stderr, self.low, self.high, self.n, self.effective_n)


class Refused(Part):
    """`models.evaluation.estimate.Refusal`: no figure, and why."""

    refused: str
    n: int
    effective_n: float

    @classmethod
    def of(cls, found: Refusal) -> Self:
        """With its reason."""
        return cls(refused=found.reason, n=found.n, effective_n=found.effective_n)

    def measured(self) -> Refusal:
        """The refusal itself."""
        return Refusal(self.refused, self.n, self.effective_n)


Finding = Estimated | Refused


def stated(found: estimate.Finding) -> Finding:
    """What a document says of a finding; `measured` of that is the finding again."""
    if isinstance(found, Refusal):
        return Refused.of(found)
    return Estimated(**asdict(found))


class Sides(Part):
    """Both sides on the same rows, and challenger minus champion, paired."""

    champion: Finding
    challenger: Finding
    difference: Finding

    @classmethod
    def of(cls, found: Mapping[str, estimate.Finding]) -> Self:
        """By the fields' names."""
        return cls.model_validate({name: stated(found[name]) for name in cls.model_fields})

    @property
    def findings(self) -> dict[str, Finding]:
        """By side."""
        return {name: found for name, found in self if isinstance(found, Estimated | Refused)}

    def measured(self) -> dict[str, estimate.Finding]:
        """The findings themselves by side."""
        return {name: found.measured() for name, found in self.findings.items()}


class Marginal(Part):
    """A biased second opinion (`models.evaluation.marginal`), and how far it is from the estimate that is believed."""

    difference: Finding
    apart: Finding


class Power(Part):
    """What logs of this size can show: the smallest lift, a share of the champion's value, that 80 % of them would.

    `days`: how many of them there are; `days_for_one_percent`: how many would show a lift of 1 %.
    """

    detectable_lift: float
    days: int
    days_for_one_percent: float


class Earned(Sides):
    """Rewards per request or page of both sides, their difference, and what was really earned."""

    logging: Finding


class Candidate(Part):
    """Which bundle a side is and what its bytes depend on."""

    candidate_id: str
    ranker: str
    bundle_sha256: str
    policy: PolicySettings
    learned_until: str
    """No row it learned from, or was chosen on, is later, back through every warm start."""
    lineage: dict[str, Any]


class Champion(Candidate):
    """What serves, or would."""

    deployed: bool
    """False: nothing was ever deployed, and the fallback stands in."""


class Challenger(Candidate):
    """What may take its place."""

    run_id: str
    """Of the MLflow run that holds bundle and evidence."""
    day: str
    """Of its training; the evidence's own is later where it stands for several."""


class ReliabilityBin(Part):
    """Rows of like prediction: the mean prediction, the click rate and its interval; all in [0, 1]."""

    n: int
    predicted: float
    observed: float
    low: float
    high: float


class Calibration(Part):
    """Of one side. `ratio`: clicks predicted over clicks that came. `error` is debiased; the ECEs are plain, and
    `ece_by_chance` is what perfection would show.

    `predicted` is the mean p(click) at the positions shown, `predicted_conversion` the mean p(conversion).
    """

    rows: int
    predicted: float | None
    observed: float | None
    predicted_conversion: float | None = None
    ratio: Finding
    error: Finding
    ece_equal_mass: Finding | None = _OR_ABSENT
    ece_equal_width: Finding | None = _OR_ABSENT
    ece_by_chance: float | None = _OR_ABSENT
    reliability: list[ReliabilityBin]


class Slice(Part):
    """Challenger minus champion on the rows with one value of an attribute."""

    attribute: str
    value: str
    n: int
    share: float
    difference: Finding


class Reversal(Part):
    """An attribute whose large slices all say the opposite of the whole."""

    attribute: str
    overall: float
    slices: dict[str, float]


class Slices(Part):
    """All differences are in `metric`; their intervals hold together."""

    metric: str
    slices: list[Slice]
    reversals: list[Reversal]


class Curve(Part):
    """`items[i]`: the smallest share of the catalogue behind the share `recommendations[i]` of the first places."""

    recommendations: list[float]
    items: list[Finding]
    coverage: Finding


class Spread(Part):
    """How one side spreads its first places over the items."""

    curve: Curve | Refused
    statistical_parity: Finding
    preference_conditioned: Finding


class Histogram(Part):
    """`counts[i]` decisions have a weight in [edges[i], edges[i + 1]); the first starts at 0, the last has no end."""

    edges: list[float]
    counts: list[int]


class Weights(Part):
    """Of one side: `models.evaluation.diagnostics.Diagnostics` as far as a replay has it; weights counted by size."""

    n: int
    mean_weight: float
    mean_weight_stderr: float
    largest_weight: float
    largest_weight_share: float
    effective_n: float
    never_taken_share: float
    tail_shape: float | None
    smallest_logged: float
    inverse_propensity: float | None
    inverse_propensity_stderr: float | None
    unsupported_mass: float | None
    logging_drift: float | None
    histogram: Histogram


class Carried(Part):
    """What the difference rests on: `models.evaluation.value.Carried`."""

    decisions: int
    differing: float
    gained: float
    lost: float
    largest_share: float
    tail_shape: float | None


class Balanced(Part):
    """A group in which the weights are checked: `models.evaluation.balance.Balance`."""

    side: Side
    group: str
    expected: float
    found: float
    stderr: float
    off: bool


class Diagnostics(Part):
    """`skew`: share of the replayed decisions with any feature other than trained on, None without decisions;
    `differing_columns`: the same for each column that differs anywhere. `balance`: the groups whose weights are
    furthest from what they should be, of all `groups`.
    """

    weights: dict[Side, Weights]
    difference: Carried | None
    balance: list[Balanced]
    groups: int
    skew: float | None
    differing_columns: dict[str, float]


class Data(Part):
    """What the evidence rests on; `versions` are those of the tables read."""

    test_rows: int
    test_rows_known: int
    click_rate: float | None
    users: int
    items: int
    event_time: list[str]
    policies: dict[str, int]
    decisions: int
    candidates_per_decision: float | None
    left_out: dict[str, int]
    versions: dict[str, int | None]


class Judged(Part):
    """Test rows of the dataset of a `day` and mode, all shown on `days` that no dataset before it has."""

    day: str
    mode: Literal["full", "warm"]
    days: list[str]
    rows: int


class WarnedDay(Part):
    """`rows`: how many broke the rule; None where it is about the day, which `found` may then describe."""

    day: str
    rows: int | None
    found: float | None


class Warned(Part):
    """A rule of the suites that failed on days the examples come from, without stopping them."""

    table: str
    expectation: str
    needs: str
    notes: str
    days: list[WarnedDay]


class Logged(Part):
    """What the logging policy really earned, and the challenger minus that, paired."""

    value: Finding
    difference: Finding


class Pages(Part):
    """Whole pages, their placements weighed by all down to them (`models.evaluation.page_values`)."""

    pages: int
    places: int
    """Of the longest page."""
    left_out: dict[str, int]
    """How many of `decisions` are no whole page, by reason."""
    depths: dict[str, Earned]
    """By how many of the first places count, from "1" to the end or the first that is refused; none without a page."""


Kind = Literal["session_replay", "slate_re_ranking"]


class Replay(Part):
    """Which kind of replay the requests allow, how many each, and what the kind named can and cannot say.

    `share`: of the requests whose click is known, those in the session replay. `whole`: bounds of challenger minus
    champion on all of them, the others taken to earn as much now; None where there is no difference.
    """

    kind: Kind
    requests: dict[Literal["session_replay", "slate_re_ranking", "click_unknown"], int]
    share: float
    whole: tuple[float, float] | None
    can_say: str
    cannot_say: str


class Conversions(Earned):
    """Conversions per request, on the decisions whose conversion label is closed."""

    decisions: int
    closed: int
    closes_on: str
    """At the end of this day the last label of the test rows is closed."""


class OutcomeFindings(Part):
    """How both sides predict a further outcome on the `closed` ones of the test `rows`; `comparison` by metric.

    `observed` and `predicted` are means over those; `ratio` is what was predicted over what came. A side that does not
    predict it is refused.
    """

    kind: Literal["binary", "value"]
    through: Literal["clicked"] | None
    unit: str
    rows: int
    closed: int
    observed: float | None
    predicted: dict[Side, float | None]
    ratio: dict[Side, Finding]
    comparison: dict[str, Sides]


class Truth(Part):
    """Expected clicks per request in the simulated world; only for the eyes, the gate never sees it.

    `p_click` and `p_conversion` are the means over the rows of `calibration`, as they were shown; None: not known.
    """

    champion: float
    challenger: float
    difference: float
    logging: float
    p_click: float | None = None
    p_conversion: float | None = None


class Look(Part):
    """An evidence of this endpoint that was there to be judged; what a refused one could have spent was not."""

    number: int
    at: str
    day: str
    mode: Literal["full", "warm"]
    risk: float
    candidate_id: str | None
    verdict: Literal["promote", "hold", "refuse"] | None
    """As known when this evidence's look began; None: nobody had judged it, and it counts."""


class Risk(Part):
    """At which risk of a false promotion the value's difference is told, and why (`models.evaluation.risk`)."""

    look: int
    """The number of this evidence's own."""
    risk: float
    shared: float
    """By all looks of any `days` days."""
    days: int
    looks: list[Look]
    """Those of the `days` days before it, oldest first."""

    @property
    def confidence(self) -> float:
        """Of the intervals of the value's difference."""
        return 1 - self.risk

    @property
    def spent(self) -> float:
        """By the looks before."""
        return math.fsum(look.risk for look in self.looks if look.verdict != "refuse")


class Lineage(Part):
    """What made the document, beside the tables in `data.versions`."""

    code_version: str
    config_hash: str


class Document(Part):
    """The evidence on one challenger. Same inputs, same document: no clock, no run id but MLflow's."""

    schema_version: Literal[7]
    day: str
    mode: Literal["full", "warm"]
    challenger: Challenger
    champion: Champion
    same_candidate: bool
    judged_on: list[Judged]
    """The test rows, oldest dataset first: the challenger's own, and of each day since on which it stood."""
    test_rows: int
    comparison: dict[str, Sides]
    value: Sides
    """By the estimator that is believed, `primary` of `estimators`."""
    primary: str
    estimators: dict[str, Sides]
    marginal: Marginal | None = _OR_ABSENT
    logging: Logged
    power: Power | None
    value_slices: list[Slice]
    """In clicks per request; their intervals hold together."""
    replay: Replay
    pages: Pages
    conversions: Conversions
    outcomes: dict[str, OutcomeFindings] = Field({}, exclude_if=lambda found: not found)
    """By name, the further ones that were declared."""
    truth: Truth | None = _OR_ABSENT
    calibration: dict[Side, Calibration]
    slices: Slices
    popularity: dict[Side, Spread]
    concentration_rise: Finding
    parity: Finding | None
    data: Data
    dataset: dict[str, Any] | None
    """The data card of `jobs.assemble.card`, which has a version of its own."""
    warnings: list[Warned]
    diagnostics: Diagnostics
    gate: GateSettings
    risk: Risk
    lineage: Lineage
    limitations: list[str]

    @property
    def days(self) -> list[str]:
        """Those its test rows were shown on, in order."""
        return [day for judged in self.judged_on for day in judged.days]

    @property
    def number(self) -> int:
        """Which of the at most `gate.days` days the challenger stands this one is, from 1 on."""
        return (date.fromisoformat(self.day) - date.fromisoformat(self.challenger.day)).days + 1


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
