"""A challenger that stands for several days: on which rows it is judged, how long, and what ends it."""

import json
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.config import Config
from jobs.errors import NotReady, Refused
from jobs.evidence import pack, page, wording
from jobs.evidence.document import Document
from jobs.evidence.held_out import datasets, held_out
from jobs.lake.store import Lake, midnight
from jobs.lake.tables import LAKE
from jobs.moment.decisions import clusters
from jobs.promote import job as promote
from tests.jobs.backtest.standing_lake import (
    CANDIDATE,
    N,
    after,
    dataset,
    document,
    judged,
    row_of,
    snips,
    trained,
    verdict,
    without_test_rows,
)
from tests.jobs.evidence.evidence_documents import Page
from tests.jobs.kept_lake import Kept
from tests.jobs.small_candidates import live, publish_candidates, publish_ledger
from tests.jobs.small_lake import DAY, LINEAGE, SLATE, TEST_DAY, World, a_run, examples, items, publish

LENIENT = {
    "gate__min_effective_n": "1",
    "gate__min_clicks_each_side": "0",
    "gate__max_weight_share": "1",
    "gate__max_tail_shape": "5",
    "gate__max_latency_ms": "10000",
    "gate__bootstrap_replicates": "50",
}
"""A day of so few requests would be refused."""
ROWS = 2 * N * SLATE
"""Of a test day."""


def gate(days: int) -> dict[str, str]:
    """A challenger may stand for `days`. No gain is enough, so the gate's own verdict is hold."""
    return {**LENIENT, "gate__days": str(days), "gate__min_lift": "10"}


def lay(config: Config) -> None:
    """A challenger trained on `DAY`, a dataset of each of the four days after it."""
    trained(config)
    for n in range(1, 5):
        dataset(config, after(n))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return Kept.of(tmp_path_factory.mktemp("standing"), tmp_path_factory.getbasetemp(), lay, **gate(3))


@pytest.fixture
def standing(kept: Kept, tmp_path: Path) -> Callable[[int], Config]:
    """All of it as it was laid, where a challenger may stand for so many days."""
    return lambda days: kept.again(tmp_path, **gate(days))


@pytest.fixture
def config(standing: Callable[[int], Config]) -> Config:
    return standing(3)


def shown_on(document: dict[str, Any]) -> list[str]:
    return [day for of in document["judged_on"] for day in of["days"]]


def on(*back: int) -> list[str]:
    """Test days by how many days after the first."""
    return [str(TEST_DAY + timedelta(days=n)) for n in back]


def looks(config: Config) -> list[tuple[int, str, str]]:
    rows = Lake(config.lake.root).read("looks").to_pylist()
    return sorted((row["number"], row["day"], row["mode"]) for row in rows)


def timeless(found: dict[str, Any]) -> dict[str, Any]:
    """A document without its look, the newest versions of tables, and the time of looks before."""
    data = {name: value for name, value in found["data"].items() if name != "versions"}
    return {name: value for name, value in found.items() if name != "risk"} | {"data": data}


# -- on which rows -------------------------------------------------------------------------------------------------
def test_the_test_rows_of_all_its_days_are_pooled(config: Config) -> None:
    """Day by day one more, each row once; the pooled value is that of an account of its own."""
    shown = [TEST_DAY + timedelta(days=n) for n in range(3)]
    for n in range(3):
        assert judged(config, after(n)) == CANDIDATE
        found = document(config, after(n))
        assert shown_on(found) == on(*range(n + 1))
        assert (found["challenger"]["day"], found["day"]) == (str(DAY), str(after(n)))
        assert found["test_rows"] == found["data"]["test_rows"] == sum(of["rows"] for of in found["judged_on"])
        assert found["test_rows"] == (n + 1) * ROWS
        by_hand = snips(config, shown[: n + 1])
        for side, value in by_hand.items():
            assert found["estimators"]["snips"][side]["value"] == pytest.approx(value, abs=1e-12), (n, side)
    assert [(of["day"], of["mode"]) for of in found["judged_on"]] == [
        (str(DAY), "full"),
        (str(after(1)), "warm"),
        (str(after(2)), "warm"),
    ], "a later day's dataset of whichever mode there is"
    narrow, wide = (document(config, after(n))["value"]["challenger"]["stderr"] for n in (2, 0))
    assert narrow < wide
    run = a_run("backtest", config, after(2))
    rows = held_out(run, datasets(run, DAY))
    ids = [name for day in shown for name in examples(World(), day, "test", 2 * N)["impression_id"].to_pylist()]
    assert rows["impression_id"].to_pylist() == ids


def test_no_row_is_there_twice_and_its_own_mode_is_preferred(config: Config) -> None:
    """Test windows of two days overlap, with rows of the first that came late, and an impression may come again on
    another day under its old id.
    """
    for mode in ("full", "warm"):
        two = pa.concat_tables([examples(World(), TEST_DAY + timedelta(days=n), "test", 2 * N) for n in (0, 1)])
        late = pa.array([f"late {n}" if n < 5 else name for n, name in enumerate(two["impression_id"].to_pylist())])
        two = two.set_column(two.column_names.index("impression_id"), "impression_id", late)
        publish(config, "examples", two, day=str(after(1)), mode=mode)
    again = examples(World(), TEST_DAY + timedelta(days=2), "test", 2 * N)
    old = examples(World(), TEST_DAY, "test", 2 * N)["impression_id"].to_pylist()
    mixed = [old[n] if n < 7 else name for n, name in enumerate(again["impression_id"].to_pylist())]
    again = again.set_column(again.column_names.index("impression_id"), "impression_id", pa.array(mixed))
    publish(config, "examples", again, day=str(after(2)), mode="warm")
    run = a_run("backtest", config, after(2))
    assert [mode for _, mode in datasets(run, DAY)] == ["full", "full", "warm"]
    rows = held_out(run, datasets(run, DAY))
    assert len(rows) == len(set(rows["impression_id"].to_pylist())) == 3 * ROWS - 7


def test_neither_side_has_learned_from_any_of_its_rows(config: Config) -> None:
    """The first row is what the rule is held against, however many days came since."""
    for n in range(3):
        judged(config, after(n))
    found = document(config, after(2))
    first = datetime.fromisoformat(found["data"]["event_time"][0])
    assert first == midnight(TEST_DAY)
    for side in ("champion", "challenger"):
        assert datetime.fromisoformat(found[side]["learned_until"]) < first


def test_a_warm_start_is_held_against_a_full_training_that_has_not_seen_its_rows(config: Config) -> None:
    """One trained while it stands has learned from the first of its test days."""
    trained(config, mode="warm", interest=0.2)
    trained(config, after(1), "full", interest=3.0)
    for n in range(2):
        judged(config, after(n), "warm")
    alone, pooled = (document(config, after(n), "warm")["parity"] for n in (0, 1))
    publish_candidates(config, {}, "logistic", "full", str(after(1)))
    assert judged(config, after(1), "warm") == f"logistic-warm-{DAY}"
    assert document(config, after(1), "warm")["parity"] == pooled
    assert pooled["n"] == 2 * alone["n"]


def test_attributes_are_those_of_the_dataset_a_row_is_of(config: Config) -> None:
    """The catalogue changed overnight: both days' rows are replayed with what their own dataset was told."""
    turned = {"basic": "plus", "plus": "basic"}

    def other(entries: list[tuple[str, str]], key: str) -> list[tuple[str, str]]:
        return [(name, turned[value] if name == key else value) for name, value in entries]

    def with_others(rows: pa.Table, key: str) -> pa.Table:
        at = rows.column_names.index("attributes")
        told = [other(entries, key) for entries in rows["attributes"].to_pylist()]
        return rows.set_column(at, "attributes", pa.array(told, rows.schema.field("attributes").type))

    publish(config, "items", with_others(items(World()), "tier"), day=str(after(1)))
    rows = Lake(config.lake.root).read("examples", [after(1)]).drop_columns(["day", "mode"])
    publish(config, "examples", with_others(rows, "item.tier"), day=str(after(1)), mode="warm")
    for n in range(2):
        judged(config, after(n))
    assert document(config, after(1))["diagnostics"]["skew"] == 0.0


def test_users_who_come_on_several_days_are_one_cluster_and_items_of_two_days_are_not(config: Config) -> None:
    """An error by user would be too small if Monday's and Tuesday's were two people."""
    for n in range(2):
        judged(config, after(n))
    run = a_run("backtest", config, after(1))
    rows = held_out(run, datasets(run, DAY))
    users = np.array(rows["user_id"].to_pylist())
    of = clusters(rows)
    pairs = {(user, int(cluster)) for user, cluster in zip(users, of, strict=True)}
    assert len(pairs) == len(set(users)) == len(set(of.tolist())) == document(config, after(1))["data"]["users"]
    days = np.array(rows["day"].to_pylist())
    assert set(users[days == str(DAY)]) & set(users[days == str(after(1))])
    assert document(config, after(1))["power"]["days"] == 2


def test_warnings_of_every_day_that_is_judged_are_told(config: Config) -> None:
    """Of the rows it learned from, and of the days that came since."""
    warning = {"expectation": "e", "rows": 3, "found": None, "needs": "n", "notes": "w"}
    later = TEST_DAY + timedelta(days=1)
    for day in (TEST_DAY - timedelta(days=1), later):
        lineage = LINEAGE.__class__("validate", "r", "c", "s", notes={"warnings": json.dumps([warning])})
        empty = Lake(config.lake.root).read("impressions")
        Lake(config.lake.root).publish("impressions", {"day": str(day)}, empty.drop_columns(["day"]), lineage)
    for n in range(2):
        judged(config, after(n))
    told = [[day["day"] for day in document(config, after(n))["warnings"][0]["days"]] for n in range(2)]
    assert told == [[str(TEST_DAY - timedelta(days=1))], [str(TEST_DAY - timedelta(days=1)), str(later)]]


# -- how long ------------------------------------------------------------------------------------------------------
def test_it_stands_for_so_many_days_and_then_the_next_is_judged(config: Config) -> None:
    trained(config, after(2), interest=0.5)
    trained(config, after(3), interest=0.5)
    assert [judged(config, after(n)) for n in range(4)] == [CANDIDATE] * 3 + [f"logistic-full-{after(3)}"]
    assert shown_on(document(config, after(3))) == on(3), "a trial of its own, which takes over no row"
    assert judged(config, after(4)) == f"logistic-full-{after(3)}"


def test_where_nobody_is_left_the_stage_ends_well_and_nothing_is_published(config: Config) -> None:
    for n in range(3):
        judged(config, after(n))
    before = looks(config)
    assert judged(config, after(3)) is None
    assert looks(config) == before == [(n + 1, str(after(n)), "full") for n in range(3)]
    assert after(3) not in Lake(config.lake.root).days("evidence")


@pytest.mark.parametrize(("said", "stands"), [("promote", False), ("hold", True), ("refuse", True), (None, True)])
def test_a_promotion_ends_it_and_no_other_verdict(config: Config, said: str | None, stands: bool) -> None:
    judged(config, DAY)
    if said is not None:
        verdict(config, DAY, said)
    assert judged(config, after(1)) == (CANDIDATE if stands else None)


def test_a_promotion_of_other_evidence_ends_nothing(config: Config) -> None:
    judged(config, DAY)
    verdict(config, DAY, "promote", sha256="of another")
    assert judged(config, after(1)) == CANDIDATE


def test_a_new_champion_ends_it(config: Config) -> None:
    """It was judged against what serves no more; so it is where something serves for the first time."""
    first = trained(config, after(-3), interest=0.3)[1] | {"day": str(after(-3))}
    second = trained(config, after(-2), interest=0.4)[1] | {"day": str(after(-2))}
    judged(config, DAY)
    publish_ledger(config, live(first))
    assert judged(config, after(1)) is None
    judged(config, DAY)
    assert judged(config, after(1)) == CANDIDATE
    publish_ledger(config, live(first), live(second, before=first["candidate_id"]))
    assert judged(config, after(2)) is None
    trained(config, after(2), interest=0.6)
    assert judged(config, after(2)) == f"logistic-full-{after(2)}", "whoever was trained today may follow"


def test_one_that_serves_meanwhile_is_still_held_against_what_it_replaced(config: Config) -> None:
    """A day run again after its challenger went live says what it said."""
    first = trained(config, after(-3), interest=0.3)[1] | {"day": str(after(-3))}
    publish_ledger(config, live(first))
    judged(config, DAY)
    judged(config, after(1))
    before = document(config, after(1))
    own = row_of(config, after(1)) | {"day": str(after(1)), "bundle": str(config.bundles / CANDIDATE)}
    publish_ledger(config, live(first), live(own, before=first["candidate_id"]))
    assert judged(config, after(1)) == CANDIDATE
    assert document(config, after(1)) == before


def test_one_that_was_trained_again_stands_no_longer(config: Config) -> None:
    judged(config, DAY)
    trained(config, interest=0.9)
    assert judged(config, after(1)) is None


def test_one_that_was_judged_before_an_upgrade_stands_no_longer(config: Config) -> None:
    """Its evidence is of another schema, which this code cannot read."""
    judged(config, DAY)
    old = row_of(config, DAY)
    told = json.loads(old["document"]) | {"schema_version": 6}
    rows = pa.Table.from_pylist([old | {"document": json.dumps(told)}]).select(list(LAKE["evidence"].columns))
    publish(config, "evidence", rows, day=str(DAY), mode="full")
    assert judged(config, after(1)) is None


def test_a_day_without_a_dataset_is_left_out_and_said(config: Config) -> None:
    """And one whose test day was lost: the days after it are judged without them."""
    judged(config, DAY)
    without_test_rows(config, after(1))
    assert judged(config, after(1)) is None, "nothing to add: no look is spent on the same rows"
    assert judged(config, after(2)) == CANDIDATE
    found = document(config, after(2))
    assert shown_on(found) == on(0, 2)
    assert looks(config) == [(1, str(DAY), "full"), (2, str(after(2)), "full")]
    seen = Document.model_validate(found)
    assert wording.judged_on(seen) == (
        f"Judged on 2 days, {TEST_DAY} to {TEST_DAY + timedelta(days=2)} without {TEST_DAY + timedelta(days=1)}."
        " This is day 3 of at most 3 that the challenger stands."
    )


def test_a_day_whose_dataset_is_not_there_yet_is_not_ready(config: Config) -> None:
    judged(config, DAY)
    dataset(config, after(6))
    longer = config.model_copy(update={"gate": config.gate.model_copy(update={"days": 7})})
    with pytest.raises(NotReady, match=f"a dataset of {after(5)}, full or warm; found none"):
        judged(longer, after(5))
    assert judged(longer, after(6)) == CANDIDATE
    assert shown_on(document(config, after(6))) == on(0, 1, 2, 3, 4, 6)


def test_a_challenger_whose_own_test_day_was_lost_is_refused_as_ever(config: Config) -> None:
    without_test_rows(config, DAY, "full")
    with pytest.raises(Refused, match=r"needs test rows in examples .*; found none: train a later day"):
        judged(config, DAY)


# -- one day a challenger ------------------------------------------------------------------------------------------
def test_with_one_day_the_days_before_change_nothing(standing: Callable[[int], Config]) -> None:
    """The default: whatever was judged yesterday, the evidence is that of a lake without a yesterday."""
    found = []
    for name in ("with", "without"):
        config = standing(1)
        if name == "with":
            judged(config, DAY)
        trained(config, after(1), interest=0.5)
        assert judged(config, after(1)) == f"logistic-full-{after(1)}"
        assert judged(config, after(2)) is None
        document_ = timeless(document(config, after(1)))
        document_["challenger"] |= {"run_id": ""}
        risk = document(config, after(1))["risk"]["risk"]
        if name == "with":
            assert risk == pytest.approx(document(config, DAY)["risk"]["risk"]), "both are of those that spend alike"
        found.append(document_)
        pages = (config.bundles / f"logistic-full-{after(1)}.evidence" / "evidence.html").read_text()
        assert "that the challenger stands" not in Page(pages).text
    assert found[0] == found[1]


def test_one_that_may_stand_begins_with_the_same_evidence(standing: Callable[[int], Config]) -> None:
    """Of the first day the setting changes nothing but itself."""
    found = []
    for days in (1, 3):
        config = standing(days)
        judged(config, DAY)
        first = timeless(document(config, DAY))
        first["challenger"] |= {"run_id": ""}
        first["gate"] |= {"days": 0}
        first["lineage"] |= {"config_hash": ""}
        found.append(first)
    assert found[0] == found[1]


# -- again ---------------------------------------------------------------------------------------------------------
def test_an_earlier_day_run_again_says_what_it_said(config: Config) -> None:
    """Evidence and verdicts of its own day and of later ones have no say in it."""
    for n in range(3):
        judged(config, after(n))
    before = [row_of(config, after(n)) for n in range(3)]
    verdict(config, after(1), "promote")
    verdict(config, after(2), "promote")
    for n in range(3):
        if n < 2:
            assert judged(config, after(n)) == CANDIDATE
            assert document(config, after(n)) == json.loads(before[n]["document"])
        else:
            assert judged(config, after(n)) is None, "yesterday's was promoted"
    assert looks(config) == [(n + 1, str(after(n)), "full") for n in range(3)]


def test_each_day_is_a_look_and_the_same_evidence_again_is_the_same_look(config: Config) -> None:
    for n in range(3):
        judged(config, after(n))
        assert promote.run(a_run("promote", config, after(n)))["verdict"] == "hold"
        assert judged(config, after(n)) == CANDIDATE
    assert looks(config) == [(n + 1, str(after(n)), "full") for n in range(3)]
    last = document(config, after(2))["risk"]
    assert [(look["day"], look["candidate_id"]) for look in last["looks"]] == [
        (str(DAY), CANDIDATE),
        (str(after(1)), CANDIDATE),
    ]


# -- what comes of it ----------------------------------------------------------------------------------------------
def test_a_candidate_of_an_earlier_day_is_judged_and_each_day_keeps_its_pack(config: Config) -> None:
    """The verdict of a day lies beside that day's evidence, here and in MLflow, and says how long it stands."""
    reports = []
    for n in range(2):
        judged(config, after(n))
        reports.append(promote.run(a_run("promote", config, after(n))))
    [row] = Lake(config.lake.root).read("promotions", [after(1)]).to_pylist()
    assert (row["candidate_id"], row["bundle"]) == (CANDIDATE, str(config.bundles / CANDIDATE))
    assert row["evidence_sha256"] == row_of(config, after(1))["document_sha256"]
    names = (f"{CANDIDATE}.evidence", f"{CANDIDATE}.{after(1)}.evidence")
    for n, name in enumerate(names):
        told = json.loads((config.bundles / name / "verdict.json").read_text())
        assert told["evidence_sha256"] == row_of(config, after(n))["document_sha256"]
        found = pack.judgement(a_run("reevaluate", config, after(n)), row_of(config, after(n)))
        assert found is not None
        assert found.reasons == reports[n]["reasons"]
        assert f"This is day {n + 1} of at most 3 that the challenger stands." in reports[n]["summary"]
        assert name in reports[n]["summary"]
    [run] = {row["run_id"] for row in Lake(config.lake.root).read("candidates").to_pylist() if row["chosen"]}
    logged = [str(path).partition("/evidence/")[2] for path in config.tracking.artifacts.rglob(f"{run}/**/*.html")]
    assert sorted(logged) == [f"{after(1)}/evidence.html", "evidence.html"]
    assert "daily_warm_start</code> for" in (config.bundles / names[1] / "evidence.html").read_text()


def test_the_page_says_which_days_were_judged(config: Config) -> None:
    for n in range(2):
        judged(config, after(n))
    first, second = (Document.model_validate(document(config, after(n))) for n in range(2))
    later = TEST_DAY + timedelta(days=1)
    assert f"Judged on one day, {TEST_DAY}. This is day 1 of at most 3" in Page(page.html(first)).text
    text = Page(page.html(second)).text
    assert f"Judged on 2 days, {TEST_DAY} to {later}. This is day 2 of at most 3 that the challenger stands." in text
    assert "2 days are judged; others may say otherwise." in text
    assert f"with this page under evidence/{after(1)}" in text
    assert f"A day has {2 * N} requests" in text


def test_labels_close_with_the_newest_day(config: Config) -> None:
    for n in range(2):
        judged(config, after(n))
    closing = [date.fromisoformat(document(config, after(n))["conversions"]["closes_on"]) for n in range(2)]
    assert closing[1] - closing[0] == timedelta(days=1)
