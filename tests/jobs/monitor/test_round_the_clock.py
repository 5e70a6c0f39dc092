"""The simulated world round the clock: its small hours are served too; figures ring only where features are late."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from jobs import bundle
from jobs.asof.clock import available_at
from jobs.config import AwsSettings, Config
from jobs.features.online import OnlineFeatures
from jobs.flow import STAGES
from jobs.lake.run import Run
from jobs.lake.store import Lake
from jobs.monitor import replay
from tests import moto_server
from tests.infra.endpoint.rig import Client, running
from tests.jobs.serving.test_on_s3 import as_sagemaker
from tests.jobs.small_candidates import linear, live, popularity, publish_candidates, publish_ledger
from tests.jobs.small_lake import settings

FIRST = date(2026, 1, 1)
EVE, LIVE_DAY = FIRST + timedelta(days=2), FIRST + timedelta(days=3)
SKEW = {"skew_max", "stale_features_share"}


def run(config: Config, day: date, *stages: str, since: date | None = None) -> dict[str, Any]:
    """The stages one after another, as `python -m jobs` would run them; the last one's report."""
    report: dict[str, Any] = {}
    for stage in stages:
        report = import_module(STAGES[stage].module).run(Run(STAGES[stage], config, day, since))
    return report


@contextmanager
def in_service(config: Config) -> Iterator[Config]:
    """A deployed candidate that answers from the online store; yields the settings that find it."""
    rankers = {"popularity": popularity(), "logistic": linear(1.0, age=0.2)}
    rows = publish_candidates(config, rankers, "logistic", day=str(EVE))
    [row] = [row for row in rows if row["ranker"] == "logistic"]
    publish_ledger(config, live(row))
    with running(config, OnlineFeatures(config)) as client:
        client.serve(bundle.load(Path(row["bundle"]), row["bundle_sha256"]))
        yield found_at(config, client)


def found_at(config: Config, client: Client) -> Config:
    return config.model_copy(update={"endpoint": config.endpoint.model_copy(update={"url": client.url})})


def replayed(config: Config) -> dict[str, Any]:
    settings = config.model_copy(update={"release": config.release.model_copy(update={"max_replay_share": 0.0})})
    return replay.run(Run(STAGES["monitor"], settings, LIVE_DAY))


def served_wrongly(config: Config) -> None:
    """Of the day's captured answers one says other items, one another number, one another propensity; of two more one
    saw features that nobody published, and one was asked something that is not known.
    """
    [path] = (config.endpoint.state / "capture" / f"date={LIVE_DAY}").glob("*.jsonl")
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    ranked = [line["response"] for line in lines if len(line["response"]["items"]) > 1]
    one, other, third, unknown, torn = ranked[:5]
    for place, item in zip(one["items"], reversed([place["item_id"] for place in one["items"]]), strict=True):
        place["item_id"] = item
    other["items"][0]["p_click"] += 0.25
    third["items"][1]["propensity"] += 0.5
    unknown["features_day"] = "2025-12-31"
    next(line for line in lines if line["response"] is torn)["request"].pop("surface")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@contextmanager
def captured_on_s3(config: Config) -> Iterator[Config]:
    """The day's capture as SageMaker would have left it on S3, and meanwhile none on this machine; yields settings that
    say so.

    Beside it, and before it in order of names, lie a shadow's answers to the same requests.
    """
    folder = config.endpoint.state / "capture" / f"date={LIVE_DAY}"
    lines = [json.loads(text) for path in folder.glob("*.jsonl") for text in path.read_text().splitlines()]
    by_hour: dict[str, list[str]] = {}
    for line in lines:
        when = datetime.fromisoformat(line["request"]["event_time"])
        shadow = {**line["response"], "bundle_version": "shadow", "bundle_sha256": "0" * 64}
        for variant, said in (("a-shadow", shadow), ("live", line["response"])):
            text = as_sagemaker(line["request"], said, when)
            by_hour.setdefault(f"{config.endpoint.name}/{variant}/{when:%Y/%m/%d/%H}", []).append(text)
    away = folder.rename(config.endpoint.state / "away")
    with moto_server.serving() as moto:
        moto.s3.create_bucket(Bucket="captured", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        for hour, texts in by_hour.items():
            moto.s3.put_object(
                Bucket="captured", Key=f"tidegate/capture/{hour}/x.jsonl", Body="\n".join(texts).encode()
            )
        aws = AwsSettings(bucket="captured", s3_url=moto.url)
        endpoint = config.endpoint.model_copy(update={"url": "aws", "aws": aws})
        yield config.model_copy(update={"endpoint": endpoint})
    away.rename(folder)


def report(config: Config) -> dict[str, dict[str, Any]]:
    return {row["metric"]: row for row in Lake(config.lake.root).read("serving_reports", [LIVE_DAY]).to_pylist()}


@pytest.fixture
def history(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Three days of the world as labels; features are each test's own."""
    overrides = {"source__name": "simulated", "world__live_share": "0.4", "endpoint__timeout_ms": "5000"}
    online_path = {"features__online": "true", "features__online_path": str(tmp_path / "online")}
    config = settings(tmp_path, tmp_path_factory.getbasetemp(), **overrides, **online_path)
    run(config, EVE, "ingest", "validate", "attribute", since=FIRST)
    return config


def test_a_day_that_is_served_round_the_clock_is_quiet(history: Config) -> None:
    """Two feature days a day, by the request's own time, as training will see them."""
    run(history, EVE, "featurize", since=FIRST)
    with in_service(history) as config:
        run(config, LIVE_DAY, "ingest", "validate", "attribute")
    alarmed = run(config, LIVE_DAY, "monitor")["alarmed"][str(LIVE_DAY)]
    served = Lake(config.lake.root).read("impressions", [LIVE_DAY], columns=["event_time", "policy"])
    served = served.filter(pc.starts_with(served["policy"], "logistic"))
    early = np.array(served["event_time"].to_pylist()) < available_at(EVE, config.features)
    assert 0.02 < early.mean() < 0.2, "the world does not sleep"
    found = report(config)
    assert found["skew_max"]["n"] == len(served)
    assert found["skew_max"]["value"] < 1e-9
    assert found["stale_features_share"]["value"] == found["late_features_minutes"]["value"] == 0.0
    assert not SKEW & set(alarmed)
    assert found["replay_differing_share"]["value"] == 0.0
    assert found["replay_differing_share"]["n"] > 0.9 * found["served_requests"]["value"]
    assert found["replay_max_difference"]["value"] < 1e-9
    again = replayed(config)
    assert again["alarms"] == 0
    [of] = again["replayed"].values()
    assert of["share"] == 0.0
    assert max(of["largest"].values()) < 1e-9
    assert set(of["largest"]) == {"score", "p_click", "p_conversion", "propensity"}
    with captured_on_s3(config) as there:
        run(there, LIVE_DAY, "monitor")
        assert report(there) == found, "wherever the capture lies, a shadow's answers beside it or not"
        assert replayed(there) == again

    served_wrongly(config)
    again = replayed(config)
    [of] = again["replayed"].values()
    assert again["alarms"] == 1
    assert "3 differ, 1 in their items, numbers by 0.5 at most" in of["why"]
    assert "1 not (the lake has no such features), 1 not (the request is not whole)" in of["why"]


def test_a_day_whose_features_came_late_is_not(history: Config) -> None:
    """Answered with the features of two days before until they were there, which was never: and the figures say so."""
    run(history, EVE - timedelta(days=1), "featurize", since=FIRST)
    with in_service(history) as config:
        run(config, LIVE_DAY, "ingest", "validate", "attribute")
    run(config, EVE, "featurize")
    alarmed = run(config, LIVE_DAY, "monitor")["alarmed"][str(LIVE_DAY)]
    found = report(config)
    assert 0.8 < found["stale_features_share"]["value"] < 0.98
    assert 17 * 60 < found["late_features_minutes"]["value"] < 18 * 60
    assert found["skew_max"]["value"] > config.monitoring.max_skew
    assert set(alarmed) >= SKEW
    again = replayed(config)
    [of] = again["replayed"].values()
    assert (again["alarms"], of["share"]) == (0, 0.0), "by the features it saw it served what was judged"
    assert max(of["largest"].values()) < 1e-9
