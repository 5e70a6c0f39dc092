"""The evidence on a challenger as a typed value: computed, judged and shown as such, JSON only where it is stored.

An unknown key, a missing one and a figure that is not sound are errors: a document that validates can be judged and
shown. `SCHEMA_VERSION` rises whenever a reader of the version before would misread the document.
"""

import math
from datetime import date
from typing import Any, Literal

from pydantic import Field

from jobs.evidence.figures import (
    OR_ABSENT,
    Calibration,
    Conversions,
    ConversionsSoFar,
    Delays,
    Diagnostics,
    Finding,
    Logged,
    Marginal,
    OutcomeFindings,
    Pages,
    Part,
    Power,
    Sides,
    Slice,
    Slices,
    Spread,
    Truth,
)
from models.evaluation.choices import Side
from models.settings import GateSettings, PolicySettings

SCHEMA_VERSION: Literal[7] = 7


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
    marginal: Marginal | None = OR_ABSENT
    logging: Logged
    power: Power | None
    value_slices: list[Slice]
    """In clicks per request; their intervals hold together."""
    replay: Replay
    pages: Pages
    conversions: Conversions
    conversions_so_far: ConversionsSoFar | None = OR_ABSENT
    delays: Delays | None = OR_ABSENT
    outcomes: dict[str, OutcomeFindings] = Field({}, exclude_if=lambda found: not found)
    """By name, the further ones that were declared."""
    truth: Truth | None = OR_ABSENT
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
