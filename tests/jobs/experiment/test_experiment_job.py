"""`experiment` on a small lake: the right arms, the right requests, and a day without live traffic."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.config import Config
from jobs.experiment import job
from jobs.experiment.core import EXPERIMENT
from jobs.lake.store import Lake, midnight
from jobs.lake.tables import LAKE
from jobs.outcomes import with_clicks
from tests.jobs.small_candidates import live, publish_ledger
from tests.jobs.small_lake import DAY, World, a_run, publish_served, settings

CANDIDATE = {"candidate_id": "logistic-full-2026-01-08", "bundle": "b", "bundle_sha256": "s"}


@pytest.fixture
def config(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    return settings(tmp_path, tmp_path_factory.getbasetemp())


def readouts(config: Config, day: Any = DAY) -> dict[str, dict[str, Any]]:
    return {row["metric"]: row for row in Lake(config.lake.root).read("readouts", [day]).to_pylist()}


def test_arms_are_who_decided_and_rates_are_per_request(config: Config) -> None:
    """Fallback answers belong to the variant: the endpoint gave them. A look-alike policy does not."""
    shown, labels = publish_served(config, World(), DAY, 200, CANDIDATE["candidate_id"], live=0.4)
    publish_ledger(config, live(CANDIDATE))
    report = job.run(a_run("experiment", config))
    policy = np.array(shown["policy"].to_pylist())
    clicked = np.array(labels["clicked"].to_pylist(), float)
    served = np.char.startswith(policy, CANDIDATE["candidate_id"])
    requests = np.array(shown["request_id"].to_pylist())
    found = readouts(config)
    for side, rows in (("variant", served), ("control", ~served)):
        rate = clicked[rows].sum() / len(np.unique(requests[rows]))
        assert found[f"clicks_per_request.{side}"]["value"] == pytest.approx(rate)
    difference = found["clicks_per_request"]
    assert difference["low"] < difference["value"] < difference["high"]
    assert difference["n"] == 200
    assert (difference["control"], difference["experiment"]) == ("logging", EXPERIMENT)
    assert CANDIDATE["candidate_id"] + "+fallback" in difference["variant"]
    assert "clicks so far: 100%" in difference["note"]  # the day's click windows are all still open
    assert report["served_requests"] == {str(DAY): len(np.unique(requests[served]))}


def test_a_day_without_live_traffic_is_published_empty_with_a_note(config: Config) -> None:
    publish_served(config, World(), DAY, 50, "never-deployed", live=0.5)
    publish_ledger(config, live(CANDIDATE))
    job.run(a_run("experiment", config))
    assert readouts(config) == {}
    lineage = Lake(config.lake.root).lineage("readouts", {"day": str(DAY)})
    assert lineage is not None
    assert "the endpoint decided nothing" in lineage["notes"]


def test_before_the_first_deployment_there_is_no_ledger_and_no_error(config: Config) -> None:
    publish_served(config, World(), DAY, 20, "x", live=0.0)
    assert job.run(a_run("experiment", config))["served_requests"] == {str(DAY): 0}


def test_everything_served_leaves_no_control_and_says_so(config: Config) -> None:
    publish_served(config, World(), DAY, 50, CANDIDATE["candidate_id"], live=1.0)
    publish_ledger(config, live(CANDIDATE, day=str(DAY - timedelta(days=1))))
    job.run(a_run("experiment", config))
    row = readouts(config)["clicks_per_request"]
    assert row["value"] is None
    assert "control: a rate needs trials" in row["note"]


def test_impressions_without_a_label_are_left_out_not_counted_as_no() -> None:
    shown = pa.table({"impression_id": ["a", "b"]})
    label = {"impression_id": "b", "clicked": True, "click_known_at": midnight(DAY), "click_matures_at": midnight(DAY)}
    labels = pa.Table.from_pylist([label], LAKE["labels"].schema)
    found = with_clicks(shown, labels, midnight(DAY + timedelta(days=1)))
    assert found["impression_id"].to_pylist() == ["b"]
