"""The ledger of releases: appended, never changed, and one answer to who is champion."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st

from jobs.config import Config
from jobs.deployments import ledger
from jobs.deployments.ledger import APPROVED, CANARY, LIVE, NOTED, ROLLED_BACK
from jobs.errors import NotReady
from jobs.lake.store import Lake
from jobs.lake.tables import LAKE
from tests.jobs.small_lake import a_run, settings

NOON = datetime(2026, 1, 8, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Ledger:
    """Rows as a lake would read them."""

    def __init__(self, *steps: dict[str, Any]) -> None:
        self.rows = [{"number": n, "at": NOON + n * HOUR, **step} for n, step in enumerate(steps, 1)]

    def read(self, table: str) -> pa.Table:
        assert table == ledger.TABLE
        schema = pa.schema([*LAKE[table].schema, pa.field("endpoint", pa.string())])
        return pa.Table.from_pylist(self.rows, schema)


def step(name: str, kind: str = LIVE, day: str = "2026-01-08", **more: Any) -> dict[str, Any]:
    """A row about the model `name`, trained on `day`."""
    return {
        **{"candidate_id": name, "bundle": name, "bundle_sha256": f"sha-{name}", "config": name, "day": day},
        **{
            "mode": "full",
            "evidence_sha256": "e",
            "step": kind,
            "share": 0.0,
            "before": None,
            "by": "alice",
            "why": "",
        },
        **{"endpoint": "tidegate", **more},
    }


def named(row: dict[str, Any] | None) -> str | None:
    return None if row is None else str(row["candidate_id"])


def test_the_champion_is_what_went_live_last_whatever_its_day() -> None:
    """An older day's candidate put live later once left the newer day's champion: trained from, judged against."""
    source = Ledger(step("newer", day="2026-02-04"), step("older", day="2026-02-03", before="newer"))
    assert named(ledger.champion(source, "tidegate")) == "older"
    assert ledger.champion(Ledger(), "tidegate") is None
    assert ledger.champion(source, "another endpoint") is None


def test_after_a_way_back_the_one_before_is_champion_again() -> None:
    steps = [step("a"), step("b", APPROVED, before="a"), step("b", before="a")]
    steps += [step("b", ROLLED_BACK, before="a"), step("a")]
    source = Ledger(*steps)
    assert [named(ledger.champion(source, "tidegate", NOON + n * HOUR)) for n in range(6)] == [
        *(None, "a", "a", "b", "b", "a")
    ]


def test_a_release_that_did_not_go_live_is_no_champion_but_may_have_answered() -> None:
    source = Ledger(step("a"), step("b", APPROVED, before="a"), step("b", ROLLED_BACK, before="a"))
    assert named(ledger.champion(source, "tidegate")) == "a"
    assert [named(row) for row in ledger.deployed(source)] == ["a"]
    assert [named(row) for row in ledger.released(source)] == ["a", "b"]


def test_what_served_before_is_asked_of_the_line_not_of_the_list() -> None:
    """b was rolled back before c went live: whoever leaves c out finds a."""
    source = Ledger(
        step("a"), step("b", before="a"), step("b", ROLLED_BACK, before="a"), step("a"), step("c", before="a")
    )
    assert named(ledger.champion(source, "tidegate", where=lambda row: row["candidate_id"] != "c")) == "a"
    assert ledger.champion(source, "tidegate", where=lambda row: row["candidate_id"] not in "ac") is None


def test_a_model_that_serves_a_second_time_has_a_finite_past() -> None:
    source = Ledger(step("a"), step("b", before="a"), step("a", before="b"))
    steps = ledger.steps(source, "tidegate")
    line, row = [], ledger.last_live(steps)
    while row is not None:
        line.append(row["candidate_id"])
        row = ledger.before(steps, row)
    assert line == ["a", "b", "a"]


@tries(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([APPROVED, LIVE, ROLLED_BACK])), max_size=12))
def test_the_champion_at_any_time_is_the_last_live_row_by_then(steps: list[tuple[str, str]]) -> None:
    """Against an account that is nothing but the sentence itself."""
    source = Ledger(*(step(name, kind) for name, kind in steps))
    for n in range(len(steps) + 1):
        live = [name for name, kind in steps[:n] if kind == LIVE]
        assert named(ledger.champion(source, "tidegate", NOON + n * HOUR)) == (live[-1] if live else None)


KINDS = [APPROVED, CANARY, LIVE, ROLLED_BACK, *NOTED]


@tries(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(KINDS)), max_size=14))
def test_a_no_changes_nothing_whenever_it_is_said(said: list[tuple[str, str]]) -> None:
    """Who is champion, what served before, what is under way and what was released: as if nobody had said it."""
    whole, moved = [], []
    line: str | None = None
    for name, kind in said:
        whole.append(step(name, kind, before=line))
        if kind not in NOTED:
            moved.append(len(whole))
        line = name if kind == LIVE else line
    with_no = Ledger(*whole)
    without = Ledger()
    without.rows = [with_no.rows[n - 1] for n in moved]
    known, alone = (ledger.steps(source, "tidegate") for source in (with_no, without))
    assert ledger.moves(known) == alone
    assert ledger.last_live(known) == ledger.last_live(alone)
    assert ledger.under_way(known) == ledger.under_way(alone)
    for live in (row for row in alone if row["step"] == LIVE):
        assert ledger.before(known, live) == ledger.before(alone, live)
    assert ledger.released(with_no) == ledger.released(without)
    assert ledger.deployed(with_no) == ledger.deployed(without)
    for n in range(len(whole) + 1):
        at = NOON + n * HOUR
        assert ledger.champion(with_no, "tidegate", at) == ledger.champion(without, "tidegate", at)


@pytest.fixture
def config(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    return settings(tmp_path, tmp_path_factory.getbasetemp())


def without_clock(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("at", "number", "endpoint")}


def test_steps_are_appended_numbered_and_never_changed(config: Config) -> None:
    """Each endpoint has its own; a clock that was set back does not reorder them."""
    run = a_run("deploy", config)
    first = ledger.append(run, [], step("a", APPROVED))
    late = [{**first[0], "at": first[0]["at"] + timedelta(days=1)}]
    both = ledger.append(run, late, step("a"), step("b"))
    assert [row["number"] for row in both] == [1, 2, 3]
    assert both[0] == late[0]
    assert both[1]["at"] == both[2]["at"] == late[0]["at"]
    found = ledger.steps(Lake(config.lake.root), "tidegate")
    assert found == both
    other = config.model_copy(update={"endpoint": config.endpoint.model_copy(update={"name": "other"})})
    ledger.append(a_run("deploy", other), [], step("c"))
    assert ledger.steps(Lake(config.lake.root), "tidegate") == both
    assert named(ledger.champion(Lake(config.lake.root), "other")) == "c"


def test_a_no_in_the_same_words_is_one_row(config: Config) -> None:
    """A task that is cleared says it again; another reason, or another evidence, is another no."""
    no = step("a", NOTED[0], by="bob", why="no approver")
    once = ledger.note(a_run("deploy", config), [], no)
    assert ledger.note(a_run("deploy", config), once, no) == once
    for other in ({"why": "the bundle"}, {"evidence_sha256": "f"}):
        assert len(ledger.note(a_run("deploy", config), once, {**no, **other})) == 2


def test_of_two_releases_at_a_time_one_is_told_to_come_again(config: Config) -> None:
    """Both began before either wrote: what the first recorded stays, the second touches nothing."""
    one, two = a_run("deploy", config), a_run("deploy", config)
    kept = ledger.append(one, [], step("a", APPROVED))
    with pytest.raises(NotReady, match="another writer committed first"):
        ledger.append(two, [], step("b", APPROVED))
    assert ledger.steps(Lake(config.lake.root), "tidegate") == kept
