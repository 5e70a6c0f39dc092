"""A day's traffic against the reference in the bundle and the days before: real rows and real reports."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.backtest import job as backtest
from jobs.config import Config
from jobs.evidence.scored import scored
from jobs.lake.store import Lake
from jobs.lake.tables import LAKE
from jobs.moment.columns import attribute_keys, training_data
from jobs.moment.identity import IDENTITY
from jobs.monitor import job
from jobs.promote import job as promote
from jobs.train import reference
from tests.jobs.monitor.test_monitor_job import LIVE_DAY, RANKERS, serve
from tests.jobs.small_candidates import live, publish_candidates, publish_ledger
from tests.jobs.small_lake import (
    DAY,
    TEST_DAY,
    World,
    a_run,
    examples,
    items,
    publish,
    publish_all,
    publish_features,
    settings,
    users,
)

PAST = 8
Rows = dict[tuple[str, str], dict[str, Any]]


def learned(world: World) -> bytes:
    """The reference that training would have written, of items as old as they are on the live day."""
    rows = examples(world, TEST_DAY - timedelta(days=2), "train", 600)
    age = pa.array([float((DAY - date(2026, 1, 1)).days)] * len(rows), pa.float64())
    rows = rows.set_column(rows.schema.get_field_index("item_age_days"), rows.schema.field("item_age_days"), age)
    data = training_data(rows, attribute_keys(rows["attributes"]))
    of = scored(rows, {"logistic": RANKERS["logistic"]}, IDENTITY.empty_table())
    columns = ("position", "device", "item_price", "surface")
    return reference.reference(reference.learned(data, columns), columns, of, "logistic").to_json()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A live day of 300 requests served by a model with a reference, and a week of reports like its own before it."""
    root = tmp_path_factory.mktemp("watched")
    made = settings(root, tmp_path_factory.getbasetemp(), gate__bootstrap_replicates="50")
    world = World()
    publish_all(made, world, n=100)
    publish_candidates(made, RANKERS, "logistic", reference=learned(world))
    backtest.run(a_run("backtest", made))
    promote.run(a_run("promote", made))
    [row] = Lake(made.lake.root).read("promotions", [DAY]).to_pylist()
    publish_ledger(made, live(row))
    for day in (TEST_DAY, DAY):
        publish_features(made, world, day)
        publish(made, "items", items(world), day=str(day))
        publish(made, "users", users(world), day=str(day))
    serve(made, live=0.9, n=300)
    job.run(a_run("monitor", made, LIVE_DAY))
    week_before(made)
    return made


def week_before(config: Config) -> None:
    """The live day's report, as that of each of the days before it, quiet, a little up and down."""
    lake, rng = Lake(config.lake.root), np.random.default_rng(0)
    for back in range(1, PAST + 1):
        rows = lake.read("serving_reports", [LIVE_DAY]).to_pylist()
        for row in rows:
            del row["day"]
            row |= {"alarm": False, "state": "", "suspect": ""}
            if row["value"]:
                change = row["value"] * 0.01 * rng.normal()
                row |= {name: row[name] + change for name in ("value", "low", "high")}
        table = pa.Table.from_pylist(rows, LAKE["serving_reports"].schema)
        publish(config, "serving_reports", table, day=str(LIVE_DAY - timedelta(days=back)))


@pytest.fixture
def restored(config: Config) -> Iterator[Config]:
    """Whatever a test publishes of the live day and after is gone for the next one."""
    lake = Lake(config.lake.root)
    names = ("impressions", "labels")
    before = {name: lake.read(name, [LIVE_DAY]).drop(["day"]) for name in names}
    yield config
    for name, rows in before.items():
        publish(config, name, rows, day=str(LIVE_DAY))


def report(config: Config, day: date = LIVE_DAY) -> Rows:
    rows = Lake(config.lake.root).read("serving_reports", [day]).to_pylist()
    return {(row["metric"], row["surface"]): row for row in rows}


def changed(config: Config, table: str, **columns: Any) -> None:
    """The live day with other columns."""
    rows = Lake(config.lake.root).read(table, [LIVE_DAY]).drop(["day"])
    for name, make in columns.items():
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(name), pa.array(make(rows[name]), rows.schema.field(name).type))
    publish(config, table, rows, day=str(LIVE_DAY))


def test_a_day_like_its_training_and_its_week_raises_no_alarm(config: Config) -> None:
    """Every column of the reference is held against it, every rate against the days before."""
    found = job.run(a_run("monitor", config, LIVE_DAY))
    rows = report(config)
    assert set(found["alarmed"][str(LIVE_DAY)]) <= {"fallback_share", "alias_moved"}  # a tenth is its; no MLflow
    for name in ("position", "device", "item_price", "surface", "p_click"):
        assert rows[f"drift.{name}", ""]["p_value"] > 0.01, name
        assert rows[f"drift.{name}", ""]["bound_high"] == config.monitoring.max_drift
    clicks = rows["clicks_per_impression", ""]
    assert clicks["reference"] == f"{PAST} days before"
    assert clicks["bound_low"] < clicks["value"] < clicks["bound_high"]
    assert clicks["closes"] == str(LIVE_DAY + timedelta(days=config.attribution.click_window_days))
    assert rows["click_rate", ""]["closes"] == clicks["closes"]
    assert rows["skew_max", ""]["closes"] is None
    assert rows["model_age_days", ""]["value"] == pytest.approx(3.0, abs=0.01)
    assert rows["offline_online", ""]["note"].endswith("the logging policy")
    assert rows["items_behind_80", ""]["value"] < 0.8


def test_a_word_nobody_knew_opens_an_incident(restored: Config) -> None:
    """One message, with the figure, its bound, the first suspect and the next step; and a page that says so."""
    config = restored
    changed(config, "impressions", device=lambda column: ["fridge"] * len(column))
    found = job.run(a_run("monitor", config, LIVE_DAY))
    rows = report(config)
    assert rows["drift.device", ""]["state"] == rows["unseen.device", ""]["state"] == "opened"
    assert rows["unseen.device", ""]["value"] == 1.0
    assert "opened" not in {row["state"] for key, row in rows.items() if "position" in key[0]}
    [said] = [one for one in found["incidents"] if one["text"].startswith("features")]
    assert said["state"] == "opened"
    for part in ("device", "bound 0.", "First suspect: the newest change", "Next: one column"):
        assert part in said["text"], part
    page = Path(found["page"]).read_text()
    assert "Something is wrong" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_half_the_clicks_lost_is_found_against_the_days_before(restored: Config) -> None:
    changed(restored, "labels", clicked=lambda column: [c and n % 4 == 0 for n, c in enumerate(column.to_pylist())])
    found = job.run(a_run("monitor", restored, LIVE_DAY))
    assert "clicks_per_impression" in found["alarmed"][str(LIVE_DAY)]
    assert report(restored)["clicks_per_impression", ""]["state"] == "opened"


def test_a_day_that_came_twice_is_found(restored: Config) -> None:
    lake = Lake(restored.lake.root)
    for table in ("impressions", "labels"):
        rows = lake.read(table, [LIVE_DAY]).drop(["day"])
        other = rows
        for name in ("impression_id", "request_id"):
            again = pa.array([f"{value}-again" for value in rows[name].to_pylist()])
            other = other.set_column(rows.schema.get_field_index(name), rows.schema.field(name), again)
        publish(restored, table, pa.concat_tables([rows, other]), day=str(LIVE_DAY))
    found = job.run(a_run("monitor", restored, LIVE_DAY))
    assert {"repeated_share", "requests"} <= set(found["alarmed"][str(LIVE_DAY)])
    assert report(restored)["repeated_share", ""]["value"] == pytest.approx(0.5)


def test_a_model_that_nobody_replaced_is_an_alarm(config: Config) -> None:
    alarms = config.monitoring.model_copy(update={"max_model_age_days": 2})
    old = config.model_copy(update={"monitoring": alarms})
    assert "model_age_days" in job.run(a_run("monitor", old, LIVE_DAY))["alarmed"][str(LIVE_DAY)]


def test_a_figure_that_is_open_and_not_told_of_stays_open(restored: Config) -> None:
    """Whatever stops it from being measured does not close what it was open for."""
    lake = Lake(restored.lake.root)
    eve = LIVE_DAY - timedelta(days=1)
    rows = lake.read("serving_reports", [eve]).drop(["day"]).to_pylist()
    gone = {**rows[0], "metric": "drift.gone", "surface": "", "alarm": True, "state": "opened"}
    publish(
        restored, "serving_reports", pa.Table.from_pylist([*rows, gone], LAKE["serving_reports"].schema), day=str(eve)
    )
    job.run(a_run("monitor", restored, LIVE_DAY))
    found = report(restored)["drift.gone", ""]
    assert (found["value"], found["alarm"], found["state"]) == (None, False, "open")
    publish(restored, "serving_reports", pa.Table.from_pylist(rows, LAKE["serving_reports"].schema), day=str(eve))


def test_a_report_of_before_an_upgrade_does_not_count_and_stops_nothing(
    restored: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its columns were others; nobody has to run old days again before today can be watched."""
    eve, table = LIVE_DAY - timedelta(days=1), LAKE["serving_reports"]
    rows = Lake(restored.lake.root).read("serving_reports", [eve]).drop(["day"])
    older = replace(table, columns={name: of for name, of in table.columns.items() if name != "surface"})
    with monkeypatch.context() as before:
        before.setitem(LAKE, "serving_reports", older)
        publish(restored, "serving_reports", rows.drop(["surface"]), day=str(eve))
    job.run(a_run("monitor", restored, LIVE_DAY))
    assert report(restored)["clicks_per_impression", ""]["reference"] == f"{PAST - 1} days before"
    assert f"the report of {eve} does not count" in capsys.readouterr().err
    publish(restored, "serving_reports", rows, day=str(eve))
