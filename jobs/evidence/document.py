"""The schema of `evidence.json`: what a backtest writes down, typed, so that readers need not guess.

An unknown key, a missing one and a figure that is not finite are errors: a document that validates can be judged and
shown. `SCHEMA_VERSION` rises whenever a reader of the version before would misread the document.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from models.settings import GateSettings, PolicySettings

SCHEMA_VERSION = 5


class Part(BaseModel):
    """A frozen part of the document."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Estimated(Part):
    """`models.evaluation.estimate.Estimate`."""

    value: float
    stderr: float
    low: float
    high: float
    n: int
    effective_n: float


class Refused(Part):
    """`models.evaluation.estimate.Refusal`: no figure, and why."""

    refused: str
    n: int
    effective_n: float


Finding = Estimated | Refused


class Sides(Part):
    """Both sides on the same rows, and challenger minus champion, paired."""

    champion: Finding
    challenger: Finding
    difference: Finding


class Champion(Part):
    """Which bundle a side is and what its bytes depend on."""

    candidate_id: str
    ranker: str
    bundle_sha256: str
    policy: PolicySettings
    lineage: dict[str, Any]
    deployed: bool
    """False: nothing was ever deployed, and the fallback stands in."""


class Challenger(Part):
    """As for the champion; `run_id` is the MLflow run that holds bundle and evidence."""

    candidate_id: str
    ranker: str
    bundle_sha256: str
    policy: PolicySettings
    lineage: dict[str, Any]
    run_id: str


class ReliabilityBin(Part):
    """Rows of like prediction: the mean prediction, the click rate and its interval; all in [0, 1]."""

    n: int
    predicted: float
    observed: float
    low: float
    high: float


class Calibration(Part):
    """Of one side. `error` is debiased; the ECEs are plain, and `ece_by_chance` is what perfection would show.

    `predicted` is the mean p(click) at the positions shown, `predicted_conversion` the mean p(conversion).
    """

    rows: int
    predicted: float | None
    observed: float | None
    predicted_conversion: float | None = None
    error: Finding
    ece_equal_mass: Finding | None = None
    ece_equal_width: Finding | None = None
    ece_by_chance: float | None = None
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
    """`models.evaluation.diagnostics.Diagnostics` of one side, with the weights counted by size."""

    n: int
    mean_weight: float
    mean_weight_stderr: float
    largest_weight: float
    largest_weight_share: float
    effective_n: float
    never_taken_share: float
    tail_shape: float | None
    smallest_logged: float
    certain_share: float
    inverse_propensity: float | None
    inverse_propensity_stderr: float | None
    unsupported_mass: float | None
    logging_drift: float | None
    histogram: Histogram


class Diagnostics(Part):
    """`skew`: share of the replayed decisions with any feature other than trained on, None without decisions;
    `differing_columns`: the same for each column that differs anywhere.
    """

    weights: dict[Literal["champion", "challenger"], Weights]
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
    """What the logging policy really earned."""

    value: Finding


class Depth(Part):
    """Clicks per page on its first places: of both sides, their difference, and what was really earned."""

    champion: Finding
    challenger: Finding
    difference: Finding
    logging: Finding


class Pages(Part):
    """Whole pages, their placements weighed by all down to them (`models.evaluation.page_values`)."""

    pages: int
    places: int
    """Of the longest page."""
    left_out: dict[str, int]
    """How many of `decisions` are no whole page, by reason."""
    depths: dict[str, Depth]
    """By how many of the first places count, from "1" to the end or the first that is refused; none without a page."""


class Replay(Part):
    """Which kind of replay the requests allow, how many each, and what the kind named can and cannot say."""

    kind: Literal["session_replay", "slate_re_ranking"]
    requests: dict[Literal["session_replay", "slate_re_ranking", "click_unknown"], int]
    can_say: str
    cannot_say: str


class Conversions(Part):
    """Conversions per request, on the decisions whose conversion label is closed."""

    decisions: int
    closed: int
    closes_on: str
    """At the end of this day the last label of the test rows is closed."""
    champion: Finding
    challenger: Finding
    difference: Finding
    logging: Finding


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


class Lineage(Part):
    """What made the document, beside the tables in `data.versions`."""

    code_version: str
    config_hash: str


class Document(Part):
    """The evidence on one challenger. Same inputs, same document: no clock, no run id but MLflow's."""

    schema_version: Literal[5]
    day: str
    mode: Literal["full", "warm"]
    challenger: Challenger
    champion: Champion
    bundle_sha256: str
    policy: PolicySettings
    same_candidate: bool
    test_rows: int
    comparison: dict[str, Sides]
    value: Sides
    estimators: dict[str, Sides]
    logging: Logged
    replay: Replay
    pages: Pages
    conversions: Conversions
    truth: Truth | None = None
    calibration: dict[Literal["champion", "challenger"], Calibration]
    slices: Slices
    popularity: dict[Literal["champion", "challenger"], Spread]
    concentration_rise: Finding
    parity: Finding | None
    data: Data
    dataset: dict[str, Any] | None
    """The data card of `jobs.assemble.card`, which has a version of its own."""
    warnings: list[Warned]
    diagnostics: Diagnostics
    gate: GateSettings
    lineage: Lineage
    limitations: list[str]


class JudgedRule(Part):
    """`models.evaluation.gate.Rule`."""

    name: str
    figure: float | None
    bound: float | None
    outcome: Literal["pass", "hold", "refuse"]
    reason: str


class Judgement(Part):
    """`verdict.json`: `models.evaluation.gate.Verdict`, written beside the evidence by `promote`."""

    verdict: Literal["promote", "hold", "refuse"]
    reasons: list[str]
    rules: list[JudgedRule]


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
