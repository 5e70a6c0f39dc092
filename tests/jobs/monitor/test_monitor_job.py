"""`monitor` on a small lake with a written capture: what was answered is recomputed, alarms are figures."""

import json
import shutil
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from mlflow import MlflowClient

from jobs import tracking
from jobs.backtest import job as backtest
from jobs.config import Config, TrackingSettings
from jobs.deployments import ledger
from jobs.flow import FEATURES
from jobs.lake.store import Lake, midnight
from jobs.monitor import job, link
from jobs.promote import job as promote
from jobs.serving import captured
from jobs.serving.answer import Answer, Placement
from tests import mlflow_server
from tests.jobs.small_candidates import linear, live, popularity, publish_candidates, publish_ledger
from tests.jobs.small_lake import (
    DAY,
    TEST_DAY,
    World,
    a_run,
    items,
    known_from,
    publish,
    publish_all,
    publish_features,
    publish_served,
    users,
)

LIVE_DAY = DAY + timedelta(days=1)
AGEING = 0.2
"""What the log of an item's age adds to the logit: the one feature of the small lake that tells days apart."""


RANKERS = {"popularity": popularity(), "logistic": linear(1.0, age=AGEING)}


def deployed(made: Config) -> None:
    """A promoted and deployed challenger, and the features of a live day that it serves."""
    world = World()
    publish_all(made, world, n=100)
    publish_candidates(made, RANKERS, "logistic")
    backtest.run(a_run("backtest", made))
    promote.run(a_run("promote", made))
    [row] = Lake(made.lake.root).read("promotions", [DAY]).to_pylist()
    publish_ledger(made, live(row))
    tracking.move_champion(made, row["candidate_id"])
    for day in (TEST_DAY, DAY):
        publish_features(made, world, day)
        publish(made, "items", items(world), day=str(day))
        publish(made, "users", users(world), day=str(day))


def in_time(at: datetime) -> str:
    """The feature day that an endpoint serves whose publications are never late."""
    return str(DAY if at >= known_from(DAY) else TEST_DAY)


def serve(
    config: Config,
    live: float = 0.4,
    off_by: float = 0.0,
    n: int = 200,
    features_day: Callable[[datetime], str] = in_time,
) -> None:
    """Publish the live day and write the capture the endpoint would have written."""
    [row] = Lake(config.lake.root).read("promotions", [DAY]).to_pylist()
    shown, _ = publish_served(config, World(), LIVE_DAY, n, row["candidate_id"], live)
    world, answers = World(), {}
    for place in shown.to_pylist():
        if place["policy"] == "logging":
            continue
        fallback = place["policy"].endswith("+fallback")
        user, item = int(place["user_id"][1:]), int(place["item_id"][1:])
        interest = 3.0 if world.taste[user] == world.category[item] else 1.0
        exact = popularity().predict({"item_id": np.array([place["item_id"]], dtype=object)}).p_click[0]
        seen = features_day(place["event_time"])
        logit = interest - 3.2 + AGEING * np.log1p((date.fromisoformat(seen) - date(2026, 1, 1)).days)
        p_click = float(exact if fallback else 1 / (1 + np.exp(-logit))) + off_by
        answer = answers.setdefault(
            place["request_id"],
            {
                "request_id": place["request_id"],
                "items": [],
                "bundle_version": row["candidate_id"],
                "bundle_sha256": row["bundle_sha256"],
                "variant": "live",
                "fallback": fallback,
                "features_day": seen,
            },
        )
        scores = dict.fromkeys(("score", "p_click"), p_click) | {"p_conversion": 0.0, "propensity": 0.5}
        answer["items"].append({"item_id": place["item_id"], "position": place["position"], **scores})
    folder = config.endpoint.state / "capture" / f"date={LIVE_DAY}"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"request": {}, "response": answer, "at": "x"}) for answer in answers.values()]
    (folder / "0.jsonl").write_text("\n".join(lines) + "\n")


def report(config: Config) -> dict[str, dict[str, Any]]:
    return {r["metric"]: r for r in Lake(config.lake.root).read("serving_reports", [LIVE_DAY]).to_pylist()}


def monitored(config: Config) -> dict[str, Any]:
    return job.run(a_run("monitor", config, LIVE_DAY))


def test_what_serves_as_judged_raises_no_alarm_of_skew(config: Config) -> None:
    """Round the clock: before six with the features of the day before the last, from then on with the last day's."""
    serve(config)
    counts = monitored(config)
    found = report(config)
    assert found["skew_max"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert found["skew_max"]["n"] == found["served_impressions"]["value"]
    assert found["stale_features_share"]["value"] == found["late_features_minutes"]["value"] == 0.0
    assert found["auc"]["value"] > 0.6
    assert found["auc_delta"]["low"] < 0 < found["auc_delta"]["high"]
    assert found["value_delta"]["low"] < found["value_delta"]["value"]
    assert found["fallback_share"]["alarm"]  # a tenth of the answers, the setting allows a twentieth
    assert counts["alarmed"] == {str(LIVE_DAY): ["fallback_share"]}


def test_an_alias_moved_by_hand_is_told(config: Config) -> None:
    """On a day without traffic too; it changes nothing, and an MLflow that is away costs the figure alone."""
    publish_served(config, World(), LIVE_DAY, 20, "another", 0.4)
    assert monitored(config)["alarmed"] == {str(LIVE_DAY): []}
    assert report(config)["alias_moved"]["value"] == 0.0
    tracking.remove_champion(config)
    assert monitored(config)["alarmed"] == {str(LIVE_DAY): ["alias_moved"]}
    [row] = Lake(config.lake.root).read("promotions", [DAY]).to_pylist()
    told = f"MLflow's alias names nothing, moved by hand: {row['candidate_id']} is champion, and serves"
    assert report(config)["alias_moved"]["note"] == told
    assert tracking.champion(config) is None, "who moved it may have a reason: a report puts nothing back"
    away = config.tracking.model_copy(update={"uri": "http://127.0.0.1:9"})
    assert monitored(config.model_copy(update={"tracking": away}))["alarmed"] == {str(LIVE_DAY): []}
    assert report(config)["alias_moved"]["value"] is None


def test_the_page_is_where_the_evidence_is_one_click_away(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the evidence at the model's MLflow run. Of a bare database, which no browser opens, its path is told, and
    of an MLflow that does not answer: that is no reason to have no report.
    """
    serve(config)
    path = Path(monitored(config)["page"])
    assert path.name == f"{LIVE_DAY}.html"
    [row] = ledger.released(a_run("monitor", config, LIVE_DAY))

    def told(tracking: TrackingSettings) -> str:
        of = config.model_copy(update={"tracking": tracking})
        return link.to(a_run("monitor", of, LIVE_DAY), LIVE_DAY, path, row)

    assert told(config.tracking.model_copy(update={"uri": "http://127.0.0.1:9"})) == str(path)
    with mlflow_server.serving(config.tracking, monkeypatch) as served:
        address, _, view = told(served).partition("?")
    base, _, artifact = address.partition("/artifacts/")
    assert view == "workflowType=machine_learning", "else MLflow shows traces"
    assert base.startswith(f"{served.uri}/#/experiments/")
    assert artifact == f"evidence/reports/{LIVE_DAY}.html"
    client, run_id = MlflowClient(config.tracking.uri), base.rsplit("/", 1)[1]
    content = client.download_artifacts(run_id, artifact, str(path.parent.parent))
    assert Path(content).read_text() == path.read_text()
    assert "evidence/evidence.html" in [file.path for file in client.list_artifacts(run_id, "evidence")]


def late_by(hours: float) -> Callable[[datetime], str]:
    """The feature day that an endpoint serves to which the newest publication comes so late, or so early."""
    return lambda at: in_time(at - timedelta(hours=hours))


@pytest.mark.parametrize(("hours", "late_minutes"), [(3, 3 * 60), (30, 18 * 60)])
def test_a_late_publication_is_an_alarm(config: Config, hours: float, late_minutes: int) -> None:
    """Answered with features a day older than training will see: how many answers, how far off, and for how long."""
    serve(config, features_day=late_by(hours))
    counts = monitored(config)
    found = report(config)
    assert found["stale_features_share"]["value"] == pytest.approx(late_minutes / 24 / 60, abs=0.08)
    assert found["late_features_minutes"]["value"] == pytest.approx(late_minutes, abs=60)  # at the last stale answer
    assert found["skew_max"]["value"] == pytest.approx(AGEING * np.log(8 / 7) / 4, rel=0.1)
    assert counts["alarmed"] == {str(LIVE_DAY): ["fallback_share", "skew_max", "stale_features_share"]}


def test_a_publication_that_never_came_is_late_too(config: Config) -> None:
    """The lake has no such day to compare with, and training sees what was served: still it was promised."""
    for table in FEATURES:
        shutil.rmtree(config.lake.root / table)
    for day in (TEST_DAY - timedelta(days=1), TEST_DAY):
        publish_features(config, World(), day)
    serve(config, features_day=lambda _: str(TEST_DAY))
    assert monitored(config)["alarmed"] == {str(LIVE_DAY): ["fallback_share", "stale_features_share"]}
    assert report(config)["late_features_minutes"]["value"] == pytest.approx(18 * 60, abs=60)


def test_features_served_before_their_time_are_an_alarm(config: Config) -> None:
    """Training does not know of them: a leak in the other direction, but nobody waited for anything."""
    serve(config, features_day=late_by(-6))
    counts = monitored(config)
    found = report(config)
    assert found["stale_features_share"]["value"] == pytest.approx(0.25, abs=0.08)
    assert found["late_features_minutes"]["value"] == 0.0
    assert counts["alarmed"] == {str(LIVE_DAY): ["fallback_share", "skew_max", "stale_features_share"]}


def test_other_probabilities_than_the_judged_bundles_are_an_alarm(config: Config) -> None:
    """Skew is counted, and the stage still ends well."""
    serve(config, off_by=0.01)
    counts = monitored(config)
    found = report(config)
    assert found["skew_max"]["value"] == pytest.approx(0.01, abs=1e-6)
    assert found["skew_max"]["alarm"]
    assert found["stale_features_share"]["value"] == 0.0
    assert counts["alarms"] == 2


def test_a_bundle_that_is_no_longer_the_judged_one_is_an_alarm(config: Config) -> None:
    serve(config)
    file = config.bundles / "logistic-full-2026-01-08" / "ranker" / "logistic.json"
    file.write_text(file.read_text().replace("1.0", "2.0"))
    monitored(config)
    assert report(config)["skew_max"]["alarm"]
    assert "unchanged" in report(config)["skew_max"]["note"]


def test_nothing_served_is_said_and_no_alarm(config: Config) -> None:
    serve(config, live=0.0)
    assert monitored(config)["alarms"] == 0
    found = report(config)
    assert found.keys() == {"served_impressions", "alias_moved"}, "who is champion is asked on such a day too"
    row = found["served_impressions"]
    assert (row["value"], row["alarm"]) == (0.0, False), "it went live today: on that day nothing could serve"
    assert "no impression" in row["note"]


def test_a_day_on_which_what_was_live_answered_nothing_is_an_alarm(config: Config) -> None:
    """It was "alarms: none": whoever reads that takes the endpoint for well."""
    serve(config, live=0.0)
    [row] = Lake(config.lake.root).read("promotions", [DAY]).to_pylist()
    publish_ledger(config, live(row, at=midnight(LIVE_DAY)))
    found = monitored(config)
    assert found["alarmed"] == {str(LIVE_DAY): ["served_impressions"]}
    [incident] = found["incidents"]
    assert "served_impressions is 0" in incident["text"]
    assert "was live when it began" in incident["text"]


def test_without_a_capture_the_skew_is_unknown_not_zero(config: Config) -> None:
    serve(config)
    (config.endpoint.state / "capture" / f"date={LIVE_DAY}" / "0.jsonl").unlink()
    monitored(config)
    found = report(config)
    assert found["skew_max"]["value"] is None
    assert "no served impression is in the endpoint's data capture" in found["skew_max"]["note"]
    assert found["value"]["value"] is not None


def test_a_torn_line_is_counted_and_a_repeated_answer_does_not_count(tmp_path: Path) -> None:
    """A killed endpoint may leave half a line, within a character even; a client that retried is answered twice."""

    def line(p: float, request: str = "r") -> bytes:
        answer = Answer(request, [Placement("ü", 1, p, p, 0.0, 0.5)], "m", "s", "live", False, None)
        return orjson.dumps({"response": answer}) + b"\n"

    torn = line(0.3)[: line(0.3).index("ü".encode()) + 1]
    (tmp_path / "9.jsonl").write_bytes(line(0.1) + line(0.2) + torn)
    (tmp_path / "10.jsonl").write_bytes(line(0.4) + torn + line(0.5, "swallowed") + line(0.6, "s"))
    found = captured.placements(captured.lines(tmp_path))
    assert found.rows["served_p_click"].to_pylist() == [0.1, 0.6]
    assert found.torn == 2


def test_torn_lines_are_a_figure_of_the_report(config: Config) -> None:
    """Whoever reads the report sees that answers are missing from it."""
    serve(config)
    path = config.endpoint.state / "capture" / f"date={LIVE_DAY}" / "0.jsonl"
    path.write_text(path.read_text() + '{"endpoint": "tid')
    monitored(config)
    assert report(config)["capture_torn_lines"]["value"] == 1.0
    assert report(config)["skew_max"]["value"] == pytest.approx(0.0, abs=1e-6)
