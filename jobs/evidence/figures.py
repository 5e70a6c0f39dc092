"""The figures of an evidence as typed values: findings, what is compared, earned and diagnosed by them."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.evaluation import estimate
from models.evaluation.choices import Side
from models.evaluation.estimate import Estimate, Refusal

OR_ABSENT: Any = Field(None, exclude_if=lambda value: value is None)


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
    ece_equal_mass: Finding | None = OR_ABSENT
    ece_equal_width: Finding | None = OR_ABSENT
    ece_by_chance: float | None = OR_ABSENT
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


class Conversions(Earned):
    """Conversions per request, on the decisions whose conversion label is closed."""

    decisions: int
    closed: int
    closes_on: str
    """At the end of this day the last label of the test rows is closed."""


class ConversionsSoFar(Earned):
    """Conversions per request by the delay curve, before their labels are closed (`models.delays.so_far`).

    `counted`: of the `decisions` those old enough, closed ones among them, `heard` of which a conversion has come so
    far; `seen`: the mean share of theirs that was to be heard of by then. `drifted`: delays have moved for sure.
    """

    against_logging: Finding
    decisions: int
    counted: int
    heard: int
    seen: float | None
    drifted: bool


class Delayed(Part):
    """How long conversions of a group of clicks took until they were heard of, as the challenger's training saw it.

    `share`: of those that come within the horizon, by each age; 1 at the last. `before`: the same by the curve
    published before, None where it has no such group. `drift`: the log ratio of the last days' reverse hazards with its
    interval, above 0 where they wait longer; None where it cannot be told.
    """

    group: str
    outcomes: int
    age_days: list[float]
    share: list[float]
    stderr: list[float | None]
    before: list[float] | None
    drift: tuple[float, float, float] | None
    drift_p_value: float | None


class Delays(Part):
    """The delay curves of a training (table `delay_curves`). `origin`: own, parent, both; `before`: of which day."""

    day: str
    mode: Literal["full", "warm"]
    origin: str
    before: str | None
    groups: list[Delayed]


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
