"""The proof of `tests/bench/bench_monitor.py`, small: quiet days stay quiet, and every incident is found on its day."""

import pytest

from models.monitoring.day import Held
from models.settings import WatchSettings
from tests.bench.monitored_days import INCIDENTS, History, Watched, held, remember, world

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


@pytest.mark.parametrize("name", INCIDENTS)
def test_an_incident_is_found_on_its_day(watched: tuple[Watched, History, list[Held]], name: str) -> None:
    """By the figure that is about it, and by none that has nothing to do with it."""
    seen, history, _ = watched
    alarms = [one for one in held(seen, DAY, INCIDENTS[name](seen, DAY), history, WatchSettings()) if one.alarm]
    assert any(one.metric.startswith(BY[name]) for one in alarms)
    if name in ("mislogged_propensities", "doubled_delay", "stale_model"):
        beside = {"mean_propensity", "conversion_wait_seconds", "calibration"}
        assert {one.metric for one in alarms} <= {BY[name], *beside}
