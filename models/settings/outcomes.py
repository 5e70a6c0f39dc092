"""What is asked on each surface, which outcomes there are, and how those that are late are read."""

from datetime import timedelta
from typing import Literal, Self

from pydantic import Field, model_validator

from models.settings.base import SPAN, Settings, refuse_two, span_of


class TaskSettings(Settings):
    """Which task each surface asks a ranker to do: one model serves them all and is told the task.

    A given mapping replaces this one whole. The tasks are part of what a ranker learned: retrain after changing them.
    """

    of_surface: dict[str, str] = Field(
        {"home": "recommend", "search": "search", "similar": "similar", "notification": "notify"},
        description="surface to task; a mapping, given whole",
    )
    otherwise: str = Field("recommend", description="task of a surface that is not named")


class OutcomeSettings(Settings):
    """A further outcome of an impression, given by the events of `feedback` that have its name.

    An event belongs to an impression as a click does, within `window_days`; until then the outcome is open.
    """

    kind: Literal["binary", "value"] = Field(
        "binary", description="whether it happened; or how much: the sum of its events' values, 0 without any"
    )
    window_days: int = Field(1, ge=1, description="impression to event; for test rows a click window is closed")
    window: str | None = Field(None, pattern=SPAN, description="the same in hours or minutes, used instead: 6h, 90m")
    through: Literal["clicked"] | None = Field(
        None, description="`clicked`: it counts only for clicked impressions, and is learned given the click"
    )
    unit: str = Field("", description="unit of a value, for people: seconds")
    quantiles_by: str = Field(
        "",
        description="for a value: learn its quantile among rows with the same value of this attribute instead, so "
        "that long items are not preferred for being long (`item.duration` for a watch time)",
    )

    @model_validator(mode="after")
    def _only_values_have_units(self) -> Self:
        if self.unit and self.kind == "binary":
            raise ValueError(f"a binary outcome needs no unit; found {self.unit!r}")
        if self.quantiles_by and self.kind == "binary":
            raise ValueError(f"a binary outcome has no quantiles; found quantiles_by = {self.quantiles_by!r}")
        refuse_two(self, "window")
        return self

    @property
    def span(self) -> timedelta:
        """Impression to event."""
        return span_of(self.window, self.window_days)


OUTCOME_METRICS = {"binary": ("auc", "log_loss"), "value": ("auc_upper_half", "normalised_squared_error")}
"""What a further outcome of a kind is judged by, see `models.evaluation.outcomes`; a gate names one `like.auc`."""


class DelaySettings(Settings):
    """How training interprets conversions that may still come. Clicks are closed in every dataset, by its embargo.

    `plug_in`: every click; "not yet" is interpreted with the delay curve (`models.delays`), learned by surface from the
    dataset's own days; a warm start, whose days are too young for that, uses its predecessor's.
    `em`: the same with an exponential law of delays that needs no closed label (Chapelle 2014).
    `censoring_weights`: closed ones and every early yes, weighted by the share of clicks old enough to show it (IPCW).
    `hazards`: one model per stage of the wait, of clicks past it, multiplied; not for mmoe.
    `fake_negatives`: every click as a no, and again as a yes when it converts (FNW); on a snapshot such as a dataset
    this learns what has been heard so far, which is too little; not for mmoe.
    `waited`: closed ones only.
    """

    conversion: Literal["waited", "em", "censoring_weights", "hazards", "fake_negatives", "plug_in"] = "plug_in"
