"""The simulated world."""

from datetime import date

from pydantic import Field

from models.settings.base import Settings


class WorldSettings(Settings):
    """The simulated world: sizes, taste, noise, delay. The same settings and seed give the same bytes."""

    seed: int = Field(20260101, description="seed of every random draw")
    first_day: date = Field(date(2026, 1, 1), description="the first day of its logs")
    days: int = Field(36, ge=3, description="days the world exists")
    users: int = Field(20_000, ge=50, description="number of users")
    items: int = Field(2_000, ge=50, description="items that exist on the first day")
    new_items_per_day: int = Field(20, ge=0, description="items made each day after the first")
    categories: int = Field(24, ge=2, description="categories of items; tastes are for categories and items")
    latent_dimensions: int = Field(8, ge=2, description="of a user's taste and an item's character")
    requests_per_day: int = Field(8_000, ge=20, description="pages requested per day")
    candidates: int = Field(20, ge=4, description="items that retrieval offers the logging policy per request")
    slate_size: int = Field(4, ge=1, description="items shown on a page")
    logging_temperature: float = Field(
        0.6,
        gt=0,
        description="of the logging policy: near 0 it shows what it likes best, at high values all items alike",
    )
    base_click_logit: float = Field(
        -2.4, description="log-odds of a click in first place, without any particular taste"
    )
    purchase_rate: float = Field(0.10, gt=0, lt=1, description="mean P(purchase | click)")
    drift_per_day: float = Field(0.01, ge=0, description="how far tastes move in a day, in latent units")
    late_share: float = Field(0.01, ge=0, lt=1, description="share of events that arrive one or two days late")
    duplicate_share: float = Field(0.002, ge=0, lt=1, description="share of events logged twice with the same id")
    live_share: float = Field(
        0.1, ge=0, le=1, description="share of requests answered by the live endpoint once one is in service"
    )
