"""A declared A/B test over a lake of a week: the planted lift ships, a planted fault is named, nobody is no user."""

import json
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.config import Config
from jobs.errors import Misconfigured
from jobs.experiment import job, mixed, readout
from jobs.lake.store import Lake, midnight
from jobs.lake.tables import LAKE
from jobs.serving import captured
from jobs.serving.answer import answer_of
from models.experiments.settings import ExperimentSettings
from tests.jobs.small_lake import a_run, publish, settings

START, USERS, SHOWN = date(2026, 3, 2), 500, 3
TEST: dict[str, Any] = {
    "name": "bigger-pictures",
    "layer": "pictures",
    "arms": {"control": {}, "bigger": {}},
    "start": str(START),
    "days": 3,
    "before_days": 1,
    "retention_days": 1,
    "value_days": 2,
    "interesting_lift": 0.5,
    "margin": 0.6,
}
DESIGN = ExperimentSettings.model_validate(TEST).design


def publish_day(config: Config, day: date, lift: float, seed: int) -> None:
    """Half the users come, twice, an hour apart; the treated click more from the start on; every fourth click buys."""
    rng = np.random.default_rng([seed, day.toordinal()])
    users = [f"u{n}" for n in range(USERS) if rng.random() < 0.6] + ["null"] * 60
    impressions, labels = [], []
    for n, user in enumerate(users):
        treated = DESIGN.arm_of(user) == "bigger" and day >= START
        for visit, place in ((visit, place) for visit in (0, 1) for place in range(SHOWN)):
            at = midnight(day) + timedelta(hours=1 + 2 * visit, seconds=n)
            clicked = bool(rng.random() < (0.2 + 0.1 * (n % 3)) * (1 + lift * treated))
            bought = clicked and bool(rng.random() < 0.25)
            told = {"impression_id": f"{day}-{n}-{visit}-{place}", "request_id": f"{day}-{n}-{visit}", "event_time": at,
                    "user_id": user, "item_id": f"i{place}"}  # fmt: skip
            where = {"surface": "home", "position": place + 1, "policy": "logging", "device": "phone"}
            impressions.append({**told, **where, "ingested_at": at, "attributes": []})
            labels.append({**told, "known_at": at, "clicked": clicked, "click_known_at": at if clicked else None,
                           "click_matures_at": at + timedelta(days=1), "converted": bought,
                           "conversion_known_at": at + timedelta(minutes=5) if bought else None,
                           "conversion_credit": float(bought), "conversion_value": 9.0 * bought,
                           "matures_at": at + timedelta(days=8)})  # fmt: skip
    for table, rows in (("impressions", impressions), ("labels", labels)):
        publish(config, table, pa.Table.from_pylist(rows, LAKE[table].schema), day=str(day))


def lake(root: Path, session: Path, lift: float) -> Config:
    config = settings(root, session, experiments=json.dumps([TEST]))
    for n in range(-1, 3):
        publish_day(config, START + timedelta(days=n), lift, 2)
    # Without a curve a conversion counts once it is closed, and the first are after ten days: say how soon they come.
    curve = [{"group": "all", "age_days": age, "share": 1.0, "came": 9, "at_risk": 9, "outcomes": 9, "origin": "own"}
             for age in (0.25, 1.0, 8.0)]  # fmt: skip
    publish(
        config, "delay_curves", pa.Table.from_pylist(curve, LAKE["delay_curves"].schema), day=str(START), mode="full"
    )
    return config


@pytest.fixture(scope="module")
def lifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a lake in which the treated click 60 % more."""
    root = tmp_path_factory.mktemp("lifted")
    lake(root, tmp_path_factory.getbasetemp(), 0.6)
    return root


def readouts(config: Config, day: date) -> dict[str, dict[str, Any]]:
    job.run(a_run("experiment", config, day))
    return {row["metric"]: row for row in Lake(config.lake.root).read("readouts", [day]).to_pylist()}


def test_a_planted_lift_ships_and_every_figure_says_how_sure_it_is(lifted: Path, tmp_path_factory: Any) -> None:
    config = settings(lifted, tmp_path_factory.getbasetemp(), experiments=json.dumps([TEST]))
    before, last = (readouts(config, START + timedelta(days=n)) for n in (-1, 2))
    assert set(before) == {"clicks_per_user", "click_rate", "sessions_per_user", "revenue_per_user", "retention"}
    assert before["clicks_per_user"]["note"].startswith("plan: an A/A over 1 days before; detectable in 3.")
    assert before["clicks_per_user"]["low"] < 0 < before["clicks_per_user"]["high"]
    assert 0 < before["clicks_per_user"]["detectable"] < 1
    clicks = last["clicks_per_user"]
    level = last["clicks_per_user.control"]["value"]
    assert clicks["low"] < 0.6 * level * 1.1
    assert clicks["high"] > 0.6 * level * 0.9
    assert clicks["always_low"] < clicks["low"] < clicks["high"] < clicks["always_high"]
    assert 0 < clicks["variance_left"] < 1.05  # one day before tells little, and a regression on it costs a little
    assert clicks["detectable"] == pytest.approx(
        (clicks["value"] - clicks["always_low"] + 0.8416 * clicks["stderr"]) / level, rel=1e-3
    )
    assert last["revenue_per_user"]["closes_on"] == last["verdict"]["closes_on"] == "2026-03-14"
    assert last["retention"]["n"] < clicks["n"]  # who came on the last days is not known to come back
    assert last["verdict"]["verdict"].startswith("ship: ")
    assert last["sample_ratio"]["p_value"] > 1e-3
    assert "cannot be told yet" in (config.lake.results.parent / "funnel.html").read_text()
    assert "360 requests of nobody are in no figure" in last["sample_ratio"]["note"]


def test_no_lift_does_not_ship_and_names_the_day(tmp_path: Path, tmp_path_factory: Any) -> None:
    config = lake(tmp_path, tmp_path_factory.getbasetemp(), 0.0)
    first, last = (readouts(config, START + timedelta(days=n)) for n in (0, 2))
    assert first["verdict"]["verdict"].startswith("go on until 2026-03-0")
    assert last["verdict"]["verdict"].startswith("stop: ")
    assert first["retention"]["note"].startswith("refused: control: needs at least 100 users")


def test_an_endpoint_that_says_other_arms_than_ids_draw_is_found_out(
    lifted: Path, tmp_path: Path, tmp_path_factory: Any
) -> None:
    state = {"endpoint__state": str(tmp_path / "endpoint")}
    config = settings(lifted, tmp_path_factory.getbasetemp(), experiments=json.dumps([TEST]), **state)
    folder = config.endpoint.state / "capture" / f"date={START}"
    folder.mkdir(parents=True)
    lines = [line(f"r{n}", f"u{n}", "bigger") for n in range(0, USERS, 2)]
    (folder / "0.jsonl").write_text("".join(lines) + '{"torn')
    found = readouts(config, START + timedelta(days=2))
    assert found["verdict"]["verdict"].startswith("stop: arms are not as they were drawn: other assigner (assignment)")
    assert found["sample_ratio"]["always_p"] < 1e-3


def test_on_spark_every_figure_is_the_one_of_one_process(lifted: Path, tmp_path: Path, tmp_path_factory: Any) -> None:
    """By buckets of users, who were told of their arms and whose impressions were set aside."""
    state = {"endpoint__state": str(tmp_path / "endpoint"), "experiments": json.dumps([TEST])}
    folder = tmp_path / "endpoint" / "capture" / f"date={START}"
    folder.mkdir(parents=True)
    (folder / "0.jsonl").write_text(
        "".join(line(f"r{n}", f" u{n}", "bigger" if n % 9 == 0 else str(DESIGN.arm_of(f"u{n}"))) for n in range(USERS))
    )
    found = [
        readouts(settings(lifted, tmp_path_factory.getbasetemp(), **state, spark__from_rows=rows), START + timedelta(2))
        for rows in ("0", "1000000")
    ]
    assert repr(found[0]) == repr(found[1])
    assert found[0]["clicks_per_user"]["n"] > 400


def line(request: str, user: str, arm: str) -> str:
    answer = {"request_id": request, "items": [], "bundle_version": "b", "bundle_sha256": "s", "variant": "a",
              "fallback": False, "features_day": None,
              "exposures": [{"experiment": TEST["name"], "arm": arm, "unit": "user"}]}  # fmt: skip
    asked = {"request_id": request, "user_id": user, "surface": "home"}
    said = {
        "endpoint": "tidegate",
        "at": datetime(2026, 3, 2).isoformat(),
        "ms": 3.0,
        "request": asked,
        "response": answer,
    }
    return json.dumps(said) + "\n"


def test_exposures_are_read_back_as_they_were_captured() -> None:
    rows = captured.exposed([line("r", "u", "bigger"), '{"torn', "{}"]).to_pylist()
    at = midnight(START)
    assert rows == [
        {"request_id": "r", "user_id": "u", "experiment": TEST["name"], "arm": "bigger", "unit": "user", "ms": 3.0,
         "candidate_id": "b", "surface": "home", "device": None, "at": at}
    ]  # fmt: skip


def test_mixed_pages_tell_whose_items_are_clicked(lifted: Path, tmp_path: Path, tmp_path_factory: Any) -> None:
    """Every click of the first day is on a place that counts for one arm or the other: by which, the preference."""
    arms = {"control": {"variant": "a"}, "bigger": {"variant": "b"}}
    test = json.dumps([TEST | {"arms": arms, "interleave": "team_draft"}])
    state = {"endpoint__state": str(tmp_path / "endpoint")}
    config = settings(lifted, tmp_path_factory.getbasetemp(), experiments=test, **state)
    shown = Lake(config.lake.root).read("impressions", [START])
    clicked = Lake(config.lake.root).read("labels", [START])["clicked"].to_pylist()
    pages: dict[str, list[dict[str, Any]]] = {}
    for row, hit in zip(shown.to_pylist(), clicked, strict=True):
        pages.setdefault(row["request_id"], []).append({**row, "hit": hit})
    folder = config.endpoint.state / "capture" / f"date={START}"
    folder.mkdir(parents=True)
    lines, wins = [], np.zeros(2)
    for request, rows in pages.items():
        worth = [[0.0, 1.0] if row["hit"] and place else [1.0, 0.0] for place, row in enumerate(rows)]
        wins += sum(np.array(of) * row["hit"] for of, row in zip(worth, rows, strict=True))
        lines.append(mixed_line(request, rows, worth))
    (folder / "0.jsonl").write_text("".join([*lines, mixed_line("never-shown", [], []), '{"mix"']))
    found = readouts(config, START)
    preference = found["preference"]
    assert preference["value"] == pytest.approx((wins[1] - wins[0]) / wins.sum())
    assert preference["always_low"] < preference["low"] < preference["high"] < preference["always_high"]
    assert preference["n"] == len(pages)
    assert preference["note"] == "1 pages without a labelled impression are left out"
    assert "verdict" not in found
    assert len(captured.placements(lines).rows) == 0


def mixed_line(request: str, rows: list[dict[str, Any]], worth: list[list[float]]) -> str:
    said = json.loads(line(request, rows[0]["user_id"] if rows else "u", "bigger"))
    places = {"score": 0.0, "p_click": 0.1, "p_conversion": 0.0, "propensity": None}
    said["response"]["items"] = [{"item_id": row["item_id"], "position": row["position"], **places} for row in rows]
    said["response"]["mix"] = {"experiment": TEST["name"], "arms": ["control", "bigger"], "worth": worth}
    return json.dumps(said) + "\n"


def test_balanced_pages_are_credited_by_depth() -> None:
    """The lowest click is on what the second had first: down to there it has that one, and the first has it not."""
    answer = json.loads(mixed_line("r", [], []))["response"]
    places = {"score": 0.0, "p_click": 0.1, "p_conversion": 0.0, "propensity": None}
    answer["items"] = [{"item_id": item, "position": at, **places} for at, item in enumerate("ab", 1)]
    answer["mix"] |= {"worth": [[0.0, 0.0]] * 2, "ranks": [[0, None], [1, 0]], "bundles": ["old", "new"]}
    pages = [(f"u{n}", answer_of({**answer, "request_id": f"r{n}"})) for n in range(4)]
    arms = {"control": {"variant": "a"}, "bigger": {"variant": "b"}}
    test = ExperimentSettings.model_validate(TEST | {"arms": arms, "interleave": "balanced"})
    clicks = {(f"r{n}", "b") for n in range(4)} | {("r3", "a")}
    [row] = mixed.rows(test, pages, {f"r{n}" for n in range(4)}, clicks)
    assert row["value"] == pytest.approx((4 - 1) / (4 + 1))
    assert readout.answered(test, mixed.bundles(pages)) == {"control": "old", "bigger": "new"}


def test_a_holdout_and_a_switchback_are_read_beside_it_and_are_on_the_page(
    lifted: Path, tmp_path: Path, tmp_path_factory: Any
) -> None:
    """Nineteen of twenty users have what the last one is held from; of time, this lake has too few hours."""
    arms = {"held-out": {"weight": 5, "variant": "old"}, "everybody": {"weight": 95, "variant": "live"}}
    holdout = TEST | {"name": "holdout", "layer": "holdout", "arms": arms}
    hours = TEST | {"name": "hours", "layer": "time", "switchback": {"washout_minutes": 0}}
    state = {"endpoint__state": str(tmp_path / "endpoint")}
    config = settings(lifted, tmp_path_factory.getbasetemp(), experiments=json.dumps([holdout, hours]), **state)
    folder = config.endpoint.state / "capture" / f"date={START}"
    folder.mkdir(parents=True)
    design = ExperimentSettings.model_validate(holdout).design
    said = [(line("r", f"u{n}", str(design.arm_of(f"u{n}"))), design.arm_of(f"u{n}")) for n in range(USERS)]
    lines = [text.replace(TEST["name"], "holdout").replace('"b"', f'"model-{arm}"') for text, arm in said]
    (folder / "0.jsonl").write_text("".join(lines))
    day = START + timedelta(days=2)
    job.run(a_run("experiment", config, day))
    found = Lake(config.lake.root).read("readouts", [day]).to_pylist()
    [ratio] = [row for row in found if (row["experiment"], row["metric"]) == ("holdout", "sample_ratio")]
    assert ratio["note"].startswith("users are divided as they were drawn")
    [verdict] = [row for row in found if (row["experiment"], row["metric"]) == ("holdout", "verdict")]
    assert (verdict["candidate_id"], verdict["opponent_id"]) == ("model-everybody", "model-held-out")
    [clicks] = [row for row in found if (row["experiment"], row["metric"]) == ("hours", "clicks_per_request")]
    assert clicks["note"] == "refused: a switchback needs 30 pairs of blocks or more; found 6"
    page = (config.lake.results.parent / "funnel.html").read_text()
    assert page.index("<h3>hours <small>2026-03-04") < page.index("<h3>holdout <small>2026-03-04")
    assert "everybody over held-out" in page
    assert f"closes on {verdict['closes_on']}" in page


def test_experiments_that_meet_are_refused_by_name(tmp_path: Path, tmp_path_factory: Any) -> None:
    with pytest.raises(Misconfigured, match="bigger-pictures and other share 0-100 % of layer pictures"):
        settings(tmp_path, tmp_path_factory.getbasetemp(), experiments=json.dumps([TEST, TEST | {"name": "other"}]))
