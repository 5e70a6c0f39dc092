"""The proof of `tests/bench/bench_monitor.py`, small: quiet days stay quiet, and every incident is found on its day."""

from dataclasses import replace

import numpy as np
import pytest

from models.monitoring.day import Held, Traffic
from models.settings import WatchSettings
from tests.bench.monitored_days import INCIDENTS, History, Plant, Watched, held, remember, world

DAY = 60
BY = {
    "broken_feature": "drift.",
    "drifted_population": "drift.region",
    "stale_model": "auc_shortfall",
    "halved_clicks": "clicks_per_impression",
    "bot_flood": "busiest_users_share",
    "mislogged_propensities": "mean_weight",
    "day_twice": "repeated_share",
    "doubled_delay": "click_wait_seconds",
}


@pytest.fixture(scope="module")
def watched() -> tuple[Watched, History, list[Held]]:
    """A world of 4,000 requests a day, and its quiet days up to `DAY`."""
    seen, history, quiet = Watched(world(7, 4_000)), History(), []
    for day in range(DAY - 8, DAY + 1):
        found = held(seen, day, seen.day(day), history, WatchSettings())
        quiet += found
        if day < DAY:
            remember(history, found)
    return seen, history, quiet


def test_quiet_days_raise_no_alarm(watched: tuple[Watched, History, list[Held]]) -> None:
    asked = [one for one in watched[2] if one.p_value is not None]
    assert len(asked) > 500
    assert [one.metric for one in asked if one.alarm] == []


def half_null(watched: Watched, day: int) -> Traffic:
    traffic = watched.day(day)
    values = np.where(np.arange(len(traffic)) % 10 == 0, np.nan, traffic.features["user_impressions"])
    return replace(traffic, features={**traffic.features, "user_impressions": values})


def unheard_of(watched: Watched, day: int) -> Traffic:
    traffic = watched.day(day)
    device = traffic.features["device"].copy()
    device[::10] = "fridge"
    return replace(traffic, features={**traffic.features, "device": device})


def renewed_catalogue(watched: Watched, day: int) -> Traffic:
    traffic = watched.day(day)
    return replace(traffic, age_days=np.where(np.arange(len(traffic)) % 4 == 0, 1.0, traffic.age_days))


@pytest.mark.parametrize(
    ("plant", "metric", "loose"),
    [
        (INCIDENTS["broken_feature"], "drift.", {"max_drift": 1e4}),
        (half_null, "nulls.user_impressions", {"max_null_rise": 0.5}),
        (unheard_of, "unseen.device", {"max_unseen": 0.5}),
        (INCIDENTS["halved_clicks"], "clicks_per_impression", {"max_rate_change": 5.0}),
        (INCIDENTS["halved_clicks"], "calibration", {"max_calibration": 5.0}),
        (INCIDENTS["bot_flood"], "busiest_users_share", {"max_traffic_change": 9.0}),
        (renewed_catalogue, "new_item_share", {"max_share_change": 0.5}),
        (INCIDENTS["day_twice"], "repeated_share", {"max_repeated": 0.9}),
        (INCIDENTS["mislogged_propensities"], "mean_weight", {"max_weight_change": 50.0}),
        (INCIDENTS["stale_model"], "auc_shortfall", {"max_auc_shortfall": 0.3}),
        (INCIDENTS["doubled_delay"], "click_wait_seconds", {"max_delay_change": 5.0}),
        (INCIDENTS["stale_model"], "auc_shortfall", {"false_alarms_a_month": 1e-9}),
    ],
)
def test_a_bound_is_what_fires(
    watched: tuple[Watched, History, list[Held]], plant: Plant, metric: str, loose: dict[str, float]
) -> None:
    """With the setting as it is the figure alarms, with a looser one it does not, on the very same day."""
    seen, history, _ = watched
    day = plant(seen, DAY)
    for settings, fires in ((WatchSettings(), True), (WatchSettings.model_validate(loose), False)):
        found = held(seen, DAY, day, history, settings)
        assert any(one.alarm and one.metric.startswith(metric) for one in found) is fires


@pytest.mark.parametrize("name", INCIDENTS)
def test_an_incident_is_found_on_its_day(watched: tuple[Watched, History, list[Held]], name: str) -> None:
    """By the figure that is about it, and by none that has nothing to do with it."""
    seen, history, _ = watched
    alarms = [one for one in held(seen, DAY, INCIDENTS[name](seen, DAY), history, WatchSettings()) if one.alarm]
    assert any(one.metric.startswith(BY[name]) for one in alarms)
    if name in ("mislogged_propensities", "doubled_delay", "stale_model"):
        beside = {"mean_propensity", "conversion_wait_seconds", "calibration"}
        assert {one.metric for one in alarms} <= {BY[name], *beside}


def test_a_column_that_is_gone_is_null_everywhere(watched: tuple[Watched, History, list[Held]]) -> None:
    seen, history, _ = watched
    day = seen.day(DAY)
    day = replace(day, features={name: of for name, of in day.features.items() if name != "item_price"})
    alarms = [one for one in held(seen, DAY, day, history, WatchSettings()) if one.alarm]
    assert {one.metric for one in alarms} == {"drift.item_price", "nulls.item_price"}
