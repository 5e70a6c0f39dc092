"""An experiment as data: who is in it, for how long, and what was decided about it before it began."""

from datetime import date
from typing import Self

from pydantic import Field, field_validator, model_validator

from models.experiments.assignment import Experiment, Switchback
from models.experiments.rules import BLOCK_SETS, LEAST_PAIRS, SETS, Correction, Goal, Method, MetricSet, Rules
from models.settings import Settings


class ArmSettings(Settings):
    """One arm; the first of an experiment is its control."""

    weight: float = Field(1.0, gt=0, description="of the experiment's users, in proportion")
    variant: str | None = Field(
        None, description="production variant of the endpoint that answers them; not set: as for everybody else"
    )


class SwitchbackSettings(Settings):
    """How time is divided."""

    block_minutes: int = Field(60, ge=1, le=7 * 24 * 60, description="of one arm, before the next is drawn")
    washout_minutes: int = Field(10, ge=0, description="at the start of a block, in which the last one still works")


class ExperimentSettings(Settings):
    """An A/B test; shares of one layer never meet, layers know nothing of each other."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    layer: str = Field("default", min_length=1, max_length=64, description="experiments of different ones are crossed")
    percent: tuple[float, float] = Field((0.0, 100.0), description="of the layer, from and to")
    arms: dict[str, ArmSettings] = Field(description="by name, control first")
    start: date
    days: int = Field(28, ge=1, le=366, description="the plan; whole weeks, so that each weekday counts alike")
    surface: str | None = Field(None, description="not set: all of them")
    goal: Goal = Field("engagement", description="chooses the metrics that should rise and those that may not fall")
    interesting_lift: float = Field(0.02, gt=0, lt=10, description="of a goal, relative: less is not worth having")
    margin: float = Field(0.02, gt=0, lt=1, description="by how much a guardrail may fall, relative")
    confidence: float = Field(0.95, gt=0.5, lt=1)
    correction: Correction = Field("holm", description="over the goals: of any false finding, or of their share")
    cap_quantile: float = Field(0.999, gt=0.5, le=1, description="of users with revenue, where it is cut; 1: nowhere")
    before_days: int = Field(14, ge=0, le=90, description="of users' own past, which takes noise away; 0: none")
    retention_days: int = Field(7, ge=1, le=60, description="within which a user must come back")
    value_days: int = Field(14, ge=1, le=180, description="of a user's revenue, the proxy of lifetime value")
    interleave: Method | None = Field(
        None,
        description="every user of the share meets pages mixed of the arms' variants; read as preferences. balanced is"
        " biased where one list is the other, shifted",
    )
    switchback: SwitchbackSettings | None = Field(
        None, description="divide time instead of users, where these meet each other's arms (a price, a stock)"
    )
    shared_ids: tuple[str, ...] = Field((), description="user ids that stand for many people, a shop's till say")

    @field_validator("arms")
    @classmethod
    def _are_two(cls, arms: dict[str, ArmSettings]) -> dict[str, ArmSettings]:
        if len(arms) < 2:
            raise ValueError(f"an experiment needs at least two arms, control first; found {', '.join(arms) or 'none'}")
        return arms

    @field_validator("percent")
    @classmethod
    def _is_a_share(cls, percent: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= percent[0] < percent[1] <= 100:
            raise ValueError(f"percent must be from and to, 0 <= from < to <= 100; found {percent}")
        return percent

    @model_validator(mode="after")
    def _mixes_variants(self) -> Self:
        if self.interleave and not all(arm.variant for arm in self.arms.values()):
            raise ValueError("interleave needs the variant of every arm; found an arm without one")
        if self.interleave not in (None, "team_draft") and len(self.arms) > 2:
            raise ValueError(f"interleave {self.interleave} needs two arms; found {len(self.arms)}")
        return self

    @model_validator(mode="after")
    def _divides_time_evenly(self) -> Self:
        if self.switchback is None:
            return self
        if self.interleave or len(self.arms) != 2 or len({arm.weight for arm in self.arms.values()}) > 1:
            raise ValueError("switchback needs two arms of one weight and no interleave; found otherwise")
        if self.switchback.washout_minutes >= self.switchback.block_minutes:
            raise ValueError(
                f"switchback needs a washout shorter than its block of {self.switchback.block_minutes} minutes;"
                f" found {self.switchback.washout_minutes}"
            )
        pairs = self.days * 24 * 60 // (2 * self.switchback.block_minutes)
        if pairs < LEAST_PAIRS:
            raise ValueError(f"switchback needs a plan of {LEAST_PAIRS} pairs of blocks or more; found {pairs}")
        return self

    @model_validator(mode="after")
    def _lasts_long_enough(self) -> Self:
        if self.days <= self.retention_days and "retention" in self.metrics:
            raise ValueError(
                f"days must be more than retention_days, {self.retention_days}, or nobody's return is known;"
                f" found {self.days}"
            )
        return self

    @property
    def _chosen(self) -> MetricSet:
        return (BLOCK_SETS if self.switchback else SETS)[self.goal]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Goals, then guardrails."""
        chosen = self._chosen
        return (*chosen.goals, *chosen.guardrails)

    @property
    def control(self) -> str:
        """The arm that all others are compared with."""
        return next(iter(self.arms))

    @property
    def variants(self) -> list[str]:
        """Of the arms that name one, control's first."""
        return [arm.variant for arm in self.arms.values() if arm.variant is not None]

    @property
    def design(self) -> Experiment:
        """As assignment reads it."""
        low, high = self.percent
        weights = {name: arm.weight for name, arm in self.arms.items()}
        plan = None
        if self.switchback is not None:
            plan = Switchback(self.name, 60.0 * self.switchback.block_minutes, 60.0 * self.switchback.washout_minutes)
        share = low / 100, high / 100
        return Experiment(self.name, self.layer, share, weights, self.start, self.days, self.surface, plan)

    @property
    def rules(self) -> Rules:
        """As the verdict reads it."""
        chosen = self._chosen
        return Rules(
            chosen.goals,
            chosen.guardrails,
            self.interesting_lift,
            self.margin,
            self.confidence,
            self.correction,
            self.start,
            self.days,
        )
