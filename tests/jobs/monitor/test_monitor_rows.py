"""The figures of a day do not depend on how many of its rows are in memory at once."""

from collections import Counter

import pyarrow.compute as pc
import pytest

from jobs.config import Config
from jobs.lake import parts
from jobs.lake.store import Lake
from jobs.moment import replay as again
from jobs.monitor import job, observed, replay, rows
from jobs.serving import captured
from models.monitoring.profile import drawn
from tests.jobs.monitor.test_monitor_job import LIVE_DAY, monitored, report, serve
from tests.jobs.small_lake import a_run


def test_any_split_of_a_day_gives_the_same_report(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows by sevens, captured placements by fives, users' features for twenty rows, answers by ten candidates."""
    serve(config)
    monitored(config)
    whole = report(config)
    for module, name, few in (
        (parts, "BATCH_ROWS", 7),
        (captured, "AT_ONCE", 5),
        (rows, "MOST_ROWS", 20),
        (rows, "MOST_HASHES", 16),
        (job, "AT_ONCE", 3),
        (again, "AT_ONCE", 4),
        (replay, "AT_ONCE", 10),
    ):
        monkeypatch.setattr(module, name, few)
    monitored(config)
    split = report(config)
    assert set(split) == set(whole)
    for metric, row in whole.items():
        floats = {name: of for name, of in row.items() if isinstance(of, float)}
        assert {name: split[metric][name] for name in floats} == pytest.approx(floats, rel=1e-12, abs=0), metric
        rest = {name: of for name, of in row.items() if name not in floats}
        assert {name: split[metric][name] for name in rest} == rest, metric


def test_of_a_large_day_some_users_are_taken_and_all_is_counted(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole users, by their ids alone; what is only counted is counted of all rows."""
    serve(config)
    monitored(config)
    whole, run = report(config), a_run("monitor", config, LIVE_DAY)
    shown = Lake(config.lake.root).read("impressions", [LIVE_DAY], columns=["user_id", "policy", "request_id"])
    most = len(shown) // 3
    found = rows.of_some_users(run, "impressions", LIVE_DAY, ["user_id", "policy"], most)
    users = pc.unique(shown["user_id"]).to_pylist()
    taken = {user for user, is_in in zip(users, drawn(users, most / len(shown)), strict=True) if is_in}
    assert Counter(found["user_id"].to_pylist()) == Counter(u for u in shown["user_id"].to_pylist() if u in taken)
    for module in (job.rows, observed):
        monkeypatch.setattr(module, "MOST_JUDGED", most // 4)
    monitored(config)
    some = report(config)
    counted = ("served_impressions", "served_requests", "fallback_share", "capture_torn_lines")
    assert {name: some[name]["value"] for name in counted} == {name: whole[name]["value"] for name in counted}
    assert 0 < some["auc"]["n"] < whole["auc"]["n"]
