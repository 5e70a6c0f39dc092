"""`reevaluate` on a small lake: what late labels change is told to the digit, and nothing else changes a figure."""

import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from mlflow import MlflowClient

from jobs.backtest import job as backtest
from jobs.config import Config
from jobs.errors import NotReady
from jobs.evidence import pack
from jobs.flow import STAGES
from jobs.forget import tables as forget_tables
from jobs.lake.store import Lake
from jobs.lake.tables import LAKE
from jobs.promote import job as promote
from jobs.reevaluate import job
from tests.jobs.kept_lake import Kept
from tests.jobs.reevaluate.closing_lake import (
    CANDIDATE,
    CLOSING,
    LAST_CUT,
    RANKERS,
    N,
    judged,
    labels,
    publish_labels,
    rows_judged,
)
from tests.jobs.small_candidates import linear, live, popularity, publish_candidates, publish_ledger, publish_verdicts
from tests.jobs.small_lake import (
    CANDIDATES,
    DAY,
    SLATE,
    TEST_DAY,
    World,
    a_run,
    publish,
    publish_features,
    settings,
)

GATE = {"gate__bootstrap_replicates": "50", "gate__max_latency_ms": "10000"}
"""A busy machine is no reason to hold."""


def made(tmp: Path, session: Path, **overrides: str) -> Config:
    return settings(tmp, session, **{**GATE, **overrides})


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    home, session = tmp_path_factory.mktemp("judged"), tmp_path_factory.getbasetemp()
    return Kept.of(home, session, judged, **GATE)


@pytest.fixture
def config(kept: Kept, tmp_path: Path) -> Config:
    """A challenger that was found better, with its verdict; labels are for the tests to publish."""
    return kept.again(tmp_path)


def reevaluated(config: Config, day: Any = CLOSING) -> dict[str, Any]:
    return job.run(a_run("reevaluate", config, day))


def rows_of(config: Config, day: Any = CLOSING) -> list[dict[str, Any]]:
    return Lake(config.lake.root).read("reevaluations", [day]).to_pylist()


def only(config: Config) -> dict[str, Any]:
    [row] = rows_of(config)
    return row


def figures(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {figure["figure"]: figure for figure in row["figures"]}


def changes(row: dict[str, Any]) -> dict[tuple[str, Any, Any], int]:
    return {(c["outcome"], c["before"], c["after"]): c["rows"] for c in row["label_changes"]}


def first_of(config: Config, mode: str = "full") -> dict[str, Any]:
    [row] = Lake(config.lake.root).read("evidence", [DAY], where={"mode": mode}).to_pylist()
    return dict(json.loads(row["document"]))


def unclicked(rows: pa.Table, wanted: np.ndarray, every: int) -> set[int]:
    """Rows without a click, every so many of those wanted."""
    clicked = np.array(rows["clicked"].to_pylist(), dtype=bool)
    return set(np.flatnonzero(~clicked & wanted)[::every].tolist())


# -- what the figures become ---------------------------------------------------------------------------------------
def test_after_somebody_was_forgotten_the_others_are_evaluated_again(config: Config) -> None:
    """The rows that were judged are read as of then, without the person in older versions, and so are labels."""
    rows = rows_judged(config)
    publish_labels(config, labels(rows))
    users = rows["user_id"].to_pylist()
    user = max(sorted(set(users)), key=users.count)
    lake, done = Lake(config.lake.root), forget_tables.Forgotten()
    for table in forget_tables.HOLDERS:
        if (lake.root / table).is_dir():
            forget_tables.forget(lake, table, user, done)
    assert done.rows
    report = reevaluated(config)
    row = only(config)
    assert (row["refused"], row["test_rows"]) == (None, len(users) - users.count(user))
    assert changes(row) == {("converted", None, False): row["test_rows"]}
    assert report["alarms"] == 0


def test_labels_that_did_not_change_move_nothing(config: Config) -> None:
    """Every figure comes out again to the last digit, and so does the verdict: only labels can move it."""
    publish_labels(config, labels(rows_judged(config)))
    report = reevaluated(config)
    row = only(config)
    known = [figure for figure in row["figures"] if figure["first"] is not None]
    assert {"value.difference", "auc.difference", "log_loss.champion"} <= {figure["figure"] for figure in known}
    for figure in known:
        assert figure["difference"] == 0.0, figure
        for end in ("", "_low", "_high"):
            assert figure[f"matured{end}"] == figure[f"first{end}"], figure
    assert changes(row) == {("converted", None, False): 2 * N * SLATE}  # nobody bought, and now that is known
    assert (row["first_verdict"], row["matured_verdict"], row["changed"]) == ("promote", "promote", False)
    assert not row["alarm"]
    assert report == {
        "reevaluated": {str(CLOSING): 1},
        "changed": {str(CLOSING): []},
        "alarms": 0,
        "alarmed": {str(CLOSING): []},
    }


def replay(config: Config, clicked: np.ndarray) -> dict[str, float]:
    """Self-normalised IPS of both sides and the challenger's AUC, from the world's own numbers alone."""
    world = World()
    drawn = world.requests(TEST_DAY, 2 * N)
    user, candidates, shown = drawn["user"], drawn["candidates"], drawn["item"][:, 0]
    interest = np.where(world.taste[user][:, None] == world.category[candidates], 3.0, 1.0)
    wanted = (1 / (1 + np.exp(3.2 - interest))) ** (1 / config.policy.temperature)
    taken = candidates == shown[:, None]
    chosen = {
        "challenger": (wanted * taken).sum(1) / wanted.sum(1),
        "champion": np.full(len(user), 1 / CANDIDATES),
    }
    weights = {side: target / drawn["propensity"][:, 0] for side, target in chosen.items()}
    first = clicked.reshape(-1, SLATE)[:, 0]
    found = {side: float((weight * first).sum() / weight.sum()) for side, weight in weights.items()}
    liked = (world.taste[user][:, None] == world.category[drawn["item"]]).ravel()
    hit, miss = liked[clicked].astype(int), liked[~clicked].astype(int)
    above = np.sign(hit[:, None] - miss[None, :])
    return found | {"auc": float((above == 1).mean() + 0.5 * (above == 0).mean())}


def test_late_clicks_move_the_figures_by_what_they_add(config: Config) -> None:
    """Value and AUC, before and after, against an account of its own; some clicks turn out to be another's."""
    rows = rows_judged(config)
    before = np.array(rows["clicked"].to_pylist(), dtype=bool)
    late = unclicked(rows, np.ones(len(rows), bool), 11)
    gone = set(np.flatnonzero(before)[::7].tolist())
    bought = set(np.flatnonzero(before)[1::7].tolist())
    publish_labels(config, labels(rows, late, bought, gone))
    reevaluated(config)
    after = before.copy()
    after[list(late)] = True
    after[list(gone)] = False
    row = only(config)
    found = figures(row)
    was, now = replay(config, before), replay(config, after)
    for name, key in {"value.champion": "champion", "value.challenger": "challenger", "auc.challenger": "auc"}.items():
        assert found[name]["first"] == pytest.approx(was[key], abs=1e-12), name
        assert found[name]["matured"] == pytest.approx(now[key], abs=1e-12), name
        assert found[name]["difference"] == pytest.approx(now[key] - was[key], abs=1e-12), name
        assert abs(now[key] - was[key]) > 1e-3
    gained = now["challenger"] - now["champion"]
    assert found["value.difference"]["matured"] == pytest.approx(gained, abs=1e-12)
    assert found["value.difference"]["matured_low"] < gained < found["value.difference"]["matured_high"]
    assert changes(row) == {
        ("clicked", False, True): len(late),
        ("clicked", True, False): len(gone),
        ("converted", None, True): len(bought),
        ("converted", None, False): len(rows) - len(bought),
    }
    document = json.loads(row["document"])
    assert pack.text(pack.parsed(row["document"], "test")) == row["document"]
    assert document["data"]["click_rate"] == pytest.approx(after.mean())


def test_what_is_known_only_after_the_closing_day_does_not_exist_yet(config: Config) -> None:
    """A day evaluated long afterwards must say what it would have said then."""
    rows = rows_judged(config)
    late = unclicked(rows, np.ones(len(rows), bool), 5)
    publish_labels(config, labels(rows, late, known_at=LAST_CUT))
    reevaluated(config)
    assert changes(only(config)) == {("converted", None, False): len(rows)}
    publish_labels(config, labels(rows, late, known_at=LAST_CUT - timedelta(microseconds=1)))
    reevaluated(config)
    assert changes(only(config))["clicked", False, True] == len(late)


def test_tables_published_again_since_are_read_as_they_were(config: Config) -> None:
    """Examples assembled again, features computed again: the first evidence was made from others."""
    lake = Lake(config.lake.root)
    rows = lake.read("examples", [DAY]).drop_columns(["day", "mode"])
    publish_labels(config, labels(rows_judged(config)))
    publish(config, "examples", rows.slice(0, 900), day=str(DAY), mode="full")
    publish_features(config, World(seed=5), TEST_DAY - timedelta(days=1))
    publish(config, "requests", LAKE["requests"].schema.empty_table(), day=str(TEST_DAY))
    reevaluated(config)
    row = only(config)
    assert row["test_rows"] == 2 * N * SLATE
    assert all(figure["difference"] == 0.0 for figure in row["figures"] if figure["first"] is not None)


# -- what the verdict becomes --------------------------------------------------------------------------------------
def against(config: Config) -> set[int]:
    """Clicks that came late, all on items the challenger would not have shown first."""
    rows = rows_judged(config)
    disliked = np.array(rows["user_item_interest"].to_pylist()) == 1.0
    return unclicked(rows, disliked, 2)


@pytest.mark.parametrize("serves", [True, False])
def test_a_verdict_that_did_not_last_is_reported_and_an_alarm_where_the_model_serves(
    config: Config, serves: bool
) -> None:
    if serves:
        [row] = Lake(config.lake.root).read("promotions", [DAY]).to_pylist()
        publish_ledger(config, live(row))
    publish_labels(config, labels(rows_judged(config), against(config)))
    report = reevaluated(config)
    row = only(config)
    assert (row["first_verdict"], row["matured_verdict"], row["changed"]) == ("promote", "hold", True)
    assert any(reason.startswith("value:") for reason in row["matured_reasons"])
    assert (row["deployed"], row["alarm"]) == (serves, serves)
    assert report["changed"] == {str(CLOSING): [CANDIDATE]}
    assert report["alarmed"] == {str(CLOSING): [CANDIDATE] if serves else []}
    assert report["alarms"] == int(serves)


def test_a_loss_of_conversions_shows_once_they_are_known(config: Config) -> None:
    """The clicks rose and were all there was to judge; what was sold fell, which nobody could know then."""
    [promoted] = Lake(config.lake.root).read("promotions", [DAY]).to_pylist()
    publish_ledger(config, live(promoted))
    rows = rows_judged(config)
    disliked = np.flatnonzero(np.array(rows["user_item_interest"].to_pylist()) == 1.0)
    publish_labels(config, labels(rows, bought=set(disliked.tolist())))
    reevaluated(config)
    row = only(config)
    assert any(reason.startswith("conversions: conversions need at least 90%") for reason in promoted["reasons"])
    assert (row["first_verdict"], row["matured_verdict"], row["alarm"]) == ("promote", "hold", True)
    assert [reason.partition(":")[0] for reason in row["matured_reasons"]] == ["conversions"]
    assert figures(row)["conversions.difference"]["first"] is None
    assert figures(row)["value.difference"]["difference"] == 0.0


def test_the_settings_of_the_first_document_judge_again(config: Config) -> None:
    """Stricter settings since then would blame the labels for what somebody configured."""
    publish_labels(config, labels(rows_judged(config)))
    strict = config.model_copy(update={"gate": config.gate.model_copy(update={"min_lift": 10.0, "confidence": 0.6})})
    reevaluated(strict)
    row = only(config)
    assert row["matured_verdict"] == "promote"
    assert figures(row)["value.difference"]["difference"] == 0.0
    assert figures(row)["value.difference"]["matured_low"] == figures(row)["value.difference"]["first_low"]


def test_latency_is_not_measured_again(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A model that was too slow then must not pass because today's machine is idle, nor the reverse."""
    config = made(tmp_path, tmp_path_factory.getbasetemp(), gate__max_latency_ms="0.000001")
    judged(config)
    [ledger] = Lake(config.lake.root).read("promotions", [DAY]).to_pylist()
    publish_labels(config, labels(rows_judged(config)))
    reevaluated(config)
    row = only(config)
    assert row["first_verdict"] == row["matured_verdict"] == "hold"
    assert [r for r in row["matured_reasons"] if r.startswith("latency_ms")] == ledger["reasons"]


def test_without_the_latency_of_the_verdict_no_other_verdict_is_invented(config: Config) -> None:
    """The pack is gone: the figures are told all the same."""
    shutil.rmtree(config.bundles / f"{CANDIDATE}.evidence")
    publish_labels(config, labels(rows_judged(config)))
    reevaluated(config)
    row = only(config)
    assert (row["first_verdict"], row["matured_verdict"], row["changed"]) == ("promote", None, None)
    assert "verdict.json" in row["refused"]
    assert figures(row)["auc.difference"]["difference"] == 0.0


def test_evidence_that_nobody_judged_has_no_first_verdict(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = made(tmp_path, tmp_path_factory.getbasetemp())
    judged(config, verdict=False)
    publish_labels(config, labels(rows_judged(config)))
    reevaluated(config)
    row = only(config)
    assert (row["first_verdict"], row["matured_verdict"], row["changed"]) == (None, "promote", None)
    assert not any(reason.startswith("latency_ms") for reason in row["matured_reasons"])


def test_a_verdict_on_other_evidence_is_none_on_this(config: Config) -> None:
    [row] = Lake(config.lake.root).read("promotions", [DAY]).to_pylist()
    publish_verdicts(config, row | {"evidence_sha256": "of another"})
    publish_labels(config, labels(rows_judged(config)))
    reevaluated(config)
    assert only(config)["first_verdict"] is None


# -- what is taken up, and when ------------------------------------------------------------------------------------
@pytest.mark.parametrize("days", [-1, 1])
def test_evidence_closes_on_one_day_only(config: Config, days: int) -> None:
    """The day before its labels are open, the day after it was taken up: an empty day is published, and all is well."""
    day = CLOSING + timedelta(days=days)
    publish_labels(config, labels(rows_judged(config)))
    publish(config, "labels", LAKE["labels"].schema.empty_table(), day=str(day))
    report = reevaluated(config, day)
    assert report["reevaluated"] == {str(day): 0}
    assert rows_of(config, day) == []
    assert Lake(config.lake.root).days("reevaluations") == [day]


def test_nothing_was_ever_judged(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The first days of a new lake: no evidence yet, and no such table. But the day itself must have come."""
    config = made(tmp_path, tmp_path_factory.getbasetemp())
    with pytest.raises(NotReady, match=f"labels needs {CLOSING}"):
        reevaluated(config)
    publish(config, "labels", LAKE["labels"].schema.empty_table(), day=str(CLOSING))
    assert reevaluated(config)["reevaluated"] == {str(CLOSING): 0}
    assert rows_of(config) == []


def test_full_and_warm_of_one_day_are_two_rows(config: Config) -> None:
    judged(config, "warm")
    rows = rows_judged(config)
    publish_labels(config, labels(rows, unclicked(rows, np.ones(len(rows), bool), 11)))
    reevaluated(config)
    found = rows_of(config)
    assert [(row["mode"], row["candidate_id"]) for row in found] == [
        ("full", CANDIDATE),
        ("warm", CANDIDATE.replace("full", "warm")),
    ]
    assert figures(found[1])["parity"]["first"] == figures(found[1])["parity"]["matured"] == 0.0  # equal bundles
    for row in found:
        assert figures(row)["auc.difference"]["difference"] != 0.0
        assert json.loads(row["document"])["mode"] == row["mode"]


@pytest.mark.parametrize("missing", [CLOSING, DAY, TEST_DAY])
def test_labels_that_late_events_may_still_change_are_not_ready(config: Config, missing: Any) -> None:
    """Without a run of `attribute` for every day the last clicks and purchases would silently be zero."""
    if missing == TEST_DAY:
        publish(config, "labels", LAKE["labels"].schema.empty_table(), day=str(CLOSING))
    else:
        publish_labels(config, labels(rows_judged(config)), without=[missing])
    with pytest.raises(NotReady, match=f"labels needs .*{missing}"):
        reevaluated(config)
    assert Lake(config.lake.root).version("reevaluations") is None


def test_labels_that_are_still_open_are_a_row_that_says_so(config: Config) -> None:
    """Attribution's windows were made longer since: what is unknown now must not count as zero."""
    publish_labels(config, labels(rows_judged(config), window_days=30))
    reevaluated(config)
    row = only(config)
    assert "labels must be closed at the end of" in row["refused"]
    assert row["figures"] == []


@pytest.mark.parametrize("days", [1, 20])
def test_the_day_does_not_move_with_the_settings(config: Config, days: int) -> None:
    """Each evidence is taken up once, whatever somebody sets in between."""
    changed = config.attribution.model_copy(update={"window_days": days})
    publish_labels(config, labels(rows_judged(config)))
    assert reevaluated(config.model_copy(update={"attribution": changed}))["reevaluated"] == {str(CLOSING): 1}


def harmed(config: Config, side: str, harm: str) -> None:
    """A bundle of the full training is deleted, replaced by another of its name, or known to no table."""
    if harm == "gone":
        shutil.rmtree(config.bundles / f"{side}-full-2026-01-08")
    elif harm == "other bytes":
        publish_candidates(config, {**RANKERS, side: linear(0.7)}, "logistic")
    else:
        publish(config, "candidates", LAKE["candidates"].schema.empty_table(), day=str(DAY), mode="full")
    if harm != "gone":
        publish_verdicts(config)


@pytest.mark.parametrize("side", ["logistic", "popularity"])
@pytest.mark.parametrize(
    ("harm", "sentence"),
    [("gone", "found none in"), ("other bytes", "in none"), ("in no table", "found in none")],
)
def test_a_bundle_that_is_no_longer_there_is_a_row_that_says_so(
    config: Config, side: str, harm: str, sentence: str
) -> None:
    publish_labels(config, labels(rows_judged(config)))
    harmed(config, side, harm)
    assert reevaluated(config)["reevaluated"] == {str(CLOSING): 1}
    row = only(config)
    assert sentence in row["refused"]
    assert (row["matured_verdict"], row["changed"], row["figures"], row["document"]) == (None, None, [], None)


def test_a_deployed_model_that_cannot_be_judged_is_an_alarm_and_the_others_of_the_day_are_computed(
    config: Config,
) -> None:
    """Its champion's folder holds another model: nobody can say any more whether the verdict was right."""
    judged(config, "warm")
    publish_labels(config, labels(rows_judged(config)))
    ledger = Lake(config.lake.root).read("promotions", [DAY], where={"mode": "full"})
    [row] = ledger.to_pylist()
    publish_ledger(config, live(row))
    manifest = config.bundles / "popularity-full-2026-01-08" / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    report = reevaluated(config)
    full, warm = rows_of(config)
    assert "must be the one that was judged" in full["refused"]
    assert (full["first_verdict"], full["alarm"]) == ("promote", True)
    assert (warm["refused"], warm["changed"], warm["alarm"]) == (None, False, False)
    assert report["alarmed"] == {str(CLOSING): [CANDIDATE]}


def test_parity_is_held_against_the_full_training_of_then(config: Config) -> None:
    """Trained again since, and better: the warm start of then did not become worse by it."""
    judged(config, "warm")
    publish_labels(config, labels(rows_judged(config)))
    publish_candidates(config, {**RANKERS, "logistic": linear(0.9)}, "logistic", day="2026-01-07")
    publish_candidates(config, {"popularity": popularity()}, "popularity")
    reevaluated(config)
    parity = figures(rows_of(config)[1])["parity"]
    assert parity["difference"] == 0.0


def test_evidence_of_another_schema_is_a_row_that_says_so(config: Config) -> None:
    [row] = Lake(config.lake.root).read("evidence", [DAY]).drop_columns(["day", "mode"]).to_pylist()
    old = json.loads(row["document"]) | {"schema_version": 1}
    rows = pa.Table.from_pylist([row | {"document": json.dumps(old)}], LAKE["evidence"].schema)
    publish(config, "evidence", rows, day=str(DAY), mode="full")
    publish_labels(config, labels(rows_judged(config)))
    reevaluated(config)
    assert "found 1" in only(config)["refused"]
    del old["conversions"]  # nor does it say when it closes
    rows = pa.Table.from_pylist([row | {"document": json.dumps(old)}], LAKE["evidence"].schema)
    publish(config, "evidence", rows, day=str(DAY), mode="full")
    assert reevaluated(config)["reevaluated"] == {str(CLOSING): 0}


# -- what it leaves ------------------------------------------------------------------------------------------------
def contents(folder: Path, *names: str) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


def test_the_first_evidence_stays_as_it_was(config: Config) -> None:
    """Table, ledger and files: what was approved must remain what was read."""
    lake, folder = Lake(config.lake.root), config.bundles / f"{CANDIDATE}.evidence"
    before = {table: (lake.version(table), lake.read(table).to_pylist()) for table in ("evidence", "promotions")}
    files = contents(folder, "evidence.json", "verdict.json")
    publish_labels(config, labels(rows_judged(config), against(config)))
    reevaluated(config)
    assert {table: (lake.version(table), lake.read(table).to_pylist()) for table in before} == before
    assert contents(folder, "evidence.json", "verdict.json") == files
    assert sorted(path.name for path in folder.iterdir()) == [
        "evidence.html",
        "evidence.json",
        "matured.json",
        "verdict.json",
    ]


def test_a_rerun_gives_the_same_rows_pack_and_metrics(config: Config) -> None:
    publish_labels(config, labels(rows_judged(config), against(config)))
    client = MlflowClient(config.tracking.uri, config.tracking.uri)
    run_id = first_of(config)["challenger"]["run_id"]
    seen = []
    for _ in range(2):
        reevaluated(config)
        folder = config.bundles / f"{CANDIDATE}.evidence"
        artifacts = sorted(path.name for path in config.tracking.artifacts.rglob("evidence/*"))
        seen.append(
            (only(config), contents(folder, "matured.json", "evidence.html"), artifacts, metrics(client, run_id))
        )
    assert seen[0] == seen[1]
    found = figures(seen[0][0])
    named = {
        "value.difference": "value.difference",
        "auc.challenger": "test.auc",
        "log_loss.champion": "champion.test.log_loss",
    }
    for figure, name in named.items():
        assert seen[0][3][f"matured.{name}"] == found[figure]["matured"]
        assert seen[0][3][name] == found[figure]["first"]
    assert len(Lake(config.lake.root).history("reevaluations")) == 2  # one commit a run


def test_the_commit_names_every_table_that_was_read_at_the_version_it_was_read(config: Config) -> None:
    """Exactly those of the flow's page; what was judged on at the version of then."""
    publish_ledger(config, live(Lake(config.lake.root).read("promotions", [DAY]).to_pylist()[0]))
    publish_labels(config, labels(rows_judged(config)))
    then = first_of(config)["data"]["versions"]
    publish_features(config, World(seed=5), TEST_DAY - timedelta(days=1))
    reevaluated(config)
    lineage = Lake(config.lake.root).lineage("reevaluations", {"day": str(CLOSING)})
    assert lineage is not None
    inputs = json.loads(lineage["inputs"])
    assert set(inputs) - {"reevaluations"} == set(STAGES["reevaluate"].reads)
    assert {table: inputs[table] for table in then} == then


def metrics(client: MlflowClient, run_id: str) -> dict[str, float]:
    return dict(client.get_run(run_id).data.metrics)


def test_the_page_says_what_became_of_the_verdict_and_promote_keeps_it(config: Config) -> None:
    publish_labels(config, labels(rows_judged(config), against(config)))
    reevaluated(config)
    folder = config.bundles / f"{CANDIDATE}.evidence"
    page, matured = (folder / "evidence.html").read_text(), (folder / "matured.json").read_text()
    assert "When every label was in" in page
    assert "The verdict was Promote and is Hold now." in page
    for again in (promote, backtest):  # the same evidence
        again.run(a_run("promote" if again is promote else "backtest", config))
        assert (folder / "matured.json").read_text() == matured
        assert "The verdict was Promote and is Hold now." in (folder / "evidence.html").read_text()
    publish_candidates(config, {"popularity": popularity(), "logistic": linear(0.9)}, "logistic")
    backtest.run(a_run("backtest", config))  # other evidence
    assert not (folder / "matured.json").exists()
    assert "When every label was in" not in (folder / "evidence.html").read_text()


def test_every_day_of_a_range_is_published(config: Config) -> None:
    publish_labels(config, labels(rows_judged(config)))
    run = a_run("reevaluate", config, CLOSING)
    run.since = CLOSING - timedelta(days=2)
    report = job.run(run)
    assert list(report["reevaluated"].values()) == [0, 0, 1]
    assert Lake(config.lake.root).days("reevaluations") == run.days
