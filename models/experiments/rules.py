"""What is decided about an experiment before it begins: metrics by goal, margins, risks. Names alone, no arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

Goal = Literal["engagement", "acquisition", "revenue"]
Correction = Literal["holm", "bh"]
Method = Literal["balanced", "team_draft", "probabilistic", "optimised"]
"""Of mixing one page of several rankers' lists."""


@dataclass(frozen=True)
class MetricSet:
    """What a goal wants to rise, and what may not fall meanwhile: its guardrails."""

    goals: tuple[str, ...]
    guardrails: tuple[str, ...]


SETS: Mapping[Goal, MetricSet] = {
    "engagement": MetricSet(("clicks_per_user", "click_rate", "sessions_per_user"), ("revenue_per_user", "retention")),
    "acquisition": MetricSet(("conversions_per_user", "conversion_rate", "retention"), ("click_rate", "first_value")),
    "revenue": MetricSet(("revenue_per_user", "first_value"), ("conversion_rate", "clicks_per_user", "retention")),
}
"""The first of the goals decides how long an experiment must run."""
METRICS = tuple(sorted({name for chosen in SETS.values() for name in (*chosen.goals, *chosen.guardrails)}))
BLOCK_SETS: Mapping[Goal, MetricSet] = {
    "engagement": MetricSet(("clicks_per_request", "click_rate"), ("revenue_per_request",)),
    "acquisition": MetricSet(("conversions_per_request", "conversion_rate"), ("click_rate",)),
    "revenue": MetricSet(("revenue_per_request",), ("conversion_rate", "clicks_per_request")),
}
"""Where time is divided instead of users: nobody is of one arm, so nothing is said of a user."""
BLOCK_METRICS = tuple(sorted({name for chosen in BLOCK_SETS.values() for name in (*chosen.goals, *chosen.guardrails)}))
LEAST_PAIRS = 30
"""Of blocks: below, no interval of their mean is normal enough to be read again and again."""
DELAYED = frozenset(
    {name for name in (*METRICS, *BLOCK_METRICS) if name.startswith(("conversion", "revenue"))} | {"first_value"}
)
"""Those that wait for conversions."""
HEAVY = frozenset({"revenue_per_user", "first_value"})
"""Those in which a few users weigh more than all others: they are winsorised."""


@dataclass(frozen=True)
class Rules:
    """How an experiment is judged."""

    goals: tuple[str, ...]
    guardrails: tuple[str, ...]
    interesting: float
    """The relative lift of a goal worth having, above 0."""
    margin: float
    """A guardrail may fall by so much, relative to control."""
    confidence: float
    correction: Correction
    start: date
    planned_days: int

    @property
    def ends(self) -> date:
        """The last day of the plan."""
        return self.start + timedelta(days=self.planned_days - 1)
