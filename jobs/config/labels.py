"""Settings of what counts as a click and as a conversion, and until when a missing one is unknown."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jobs.config.base import Changes
from models.settings import SPAN, Settings, refuse_two, span_of, whole_days


class SurfaceLabelSettings(Settings):
    """What counts as a click and a conversion on one surface: what `clicked` and `converted` of its impressions mean
    to training, evidence and monitoring.
    """

    click: str | None = Field(
        None, description="a binary outcome of `outcomes` whose events count as clicks there; none: clicks"
    )
    click_window_days: int | None = Field(
        None, ge=1, description="impression to that event, at most the general window; not set: the general one"
    )
    window_days: int | None = Field(
        None, ge=1, description="click to purchase, at most the general window; not set: the general one"
    )

    @property
    def span(self) -> timedelta | None:
        """Impression to that event; None: as everywhere."""
        return None if self.click_window_days is None else timedelta(days=self.click_window_days)

    @property
    def to_purchase(self) -> timedelta | None:
        """Click to purchase; None: as everywhere."""
        return None if self.window_days is None else timedelta(days=self.window_days)


class AttributionSettings(Settings):
    """Which clicks get credit for a purchase, and until when a missing label is unknown."""

    model: Literal["last_click", "first_click", "linear", "time_decay"] = "last_click"
    half_life_days: int = Field(7, ge=1, description="time decay: a click this much older gets half the credit")
    window_days: int = Field(7, ge=1, description="click to purchase")
    window: str | None = Field(None, pattern=SPAN, description="the same in hours or minutes, used instead: 6h, 90m")
    click_window_days: Annotated[int, Changes("validate")] = Field(1, ge=1, description="impression to click")
    click_window: Annotated[str | None, Changes("validate")] = Field(
        None,
        pattern=SPAN,
        description="the same in hours or minutes, used instead; a dataset still waits for whole days of clicks",
    )
    late_days: Annotated[int, Changes("validate")] = Field(
        2, ge=0, description="how many days late an event may arrive, and how far apart two copies of one may be"
    )
    surfaces: dict[str, SurfaceLabelSettings] = Field(
        {}, description="label rules by surface: click, click_window_days, window_days; a mapping, given whole"
    )

    @model_validator(mode="after")
    def _no_surface_waits_longer(self) -> Self:
        """Or a dataset's embargo would not close its clicks, nor anything ask again for its conversions."""
        for name, own in self.surfaces.items():
            for setting, mine, most in (
                ("click_window_days", own.span, self.to_click),
                ("window_days", own.to_purchase, self.to_purchase),
            ):
                if mine is not None and mine > most:
                    raise ValueError(
                        f"surfaces: {name}.{setting} must be at most the window of all, {most}; found {mine.days}"
                    )
        return self

    @model_validator(mode="after")
    def _each_window_is_given_once(self) -> Self:
        refuse_two(self, "window", "click_window")
        return self

    @property
    def to_purchase(self) -> timedelta:
        """Click to purchase."""
        return span_of(self.window, self.window_days)

    @property
    def to_click(self) -> timedelta:
        """Impression to click."""
        return span_of(self.click_window, self.click_window_days)

    @property
    def purchase_days(self) -> int:
        """Whole days that hold `to_purchase`: days of the lake are looked at whole."""
        return whole_days(self.to_purchase)

    @property
    def click_days(self) -> int:
        """Whole days that hold `to_click`."""
        return whole_days(self.to_click)
