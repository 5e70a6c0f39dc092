"""A day declared lost: what waits for it goes on, everybody can see it, and the day itself may still come."""

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs import config
from jobs.__main__ import main
from jobs.errors import NotReady, UsageError
from jobs.evidence import data_warnings, dataset
from jobs.lake import lost
from jobs.lake.store import Lake
from tests.jobs.validate.raw_days import FIRST, N, tables_of, write

LOST = FIRST + timedelta(days=2)
LAST = FIRST + timedelta(days=5)
WHY = "the loggers' disk burnt"

Say = Callable[..., dict[str, Any]]


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """`python -m jobs …` on a lake whose raw days are all there but one; the report."""
    settings = {
        "lake__root": str(tmp_path / "lake"),
        "lake__raw": str(tmp_path / "raw"),
        "source__name": "parquet",
        "features__online": "false",
        "dataset": '{"train_days": 4, "validate_days": 1, "test_days": 1}',
    }
    monkeypatch.setenv("TIDEGATE_ENV", "test")
    for name, text in settings.items():
        monkeypatch.setenv(f"TIDEGATE__{name.upper()}", text)
    for day in days():
        if day != LOST:
            write(tmp_path / "raw", day, tables_of(day))

    def said(*words: object) -> dict[str, Any]:
        capsys.readouterr()
        main([str(word) for word in words])
        report: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return report

    return said


def days() -> list[date]:
    return [FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)]


def chain(say: Say, *chosen: date) -> None:
    """What `daily_data` runs."""
    for day in chosen:
        for stage in ("validate", "attribute", "featurize"):
            say(stage, "--day", day)


def lake() -> Lake:
    return Lake(config.load().lake.root)


def test_a_lost_day_lets_the_days_after_it_go_on_and_says_so(say: Say) -> None:
    """Nothing used to help but an empty file by hand: `assemble` waited for the day for as long as the window is."""
    chain(say, *days()[:2])
    with pytest.raises(NotReady, match=f"python -m jobs lose --day {LOST} --why"):
        say("validate", "--day", LOST)
    report = say("lose", "--day", LOST, "--why", WHY, "--by", "ann")
    assert (report["lost"], report["lost_by"], report["ran"]) == (WHY, "ann", ["attribute", "featurize"])
    chain(say, *days()[3:])
    say("assemble", "--day", LAST)

    found = lake()
    assert LOST in found.days("labels")
    assert found.read("impressions", [LOST]).num_rows == found.read("labels", [LOST]).num_rows == 0
    assert found.read("item_features", [LOST]).num_rows
    before, stands_in = (found.read("items", [day]).drop_columns(["day"]) for day in (days()[1], LOST))
    assert stands_in.equals(before), "no item is forgotten"
    examples = found.read("examples", [LAST])
    shown_on = {moment.date() for moment in examples["event_time"].to_pylist()}
    assert shown_on == set(days()[:-1]) - {LOST}

    card = dataset.published(found.lineage("examples", {"day": str(LAST), "mode": "full"}))
    assert card is not None
    assert card["lost_days"] == [str(LOST)]
    assert f"Days declared lost: {LOST}" in dataset.html(card)
    (warning,) = data_warnings.by_rule({"impressions": found.lineages("impressions", data_warnings.span(shown_on))})
    assert (warning.expectation, [day.day for day in warning.days]) == ("day_is_not_lost", [str(LOST)])
    page = data_warnings.html([warning])
    assert "Declared lost by ann at 20" in page
    assert "the loggers&#x27; disk burnt" in page
    (entry,) = say("lose")["lost"]
    assert (entry["day"], entry["lost"], entry["lost_by"]) == (str(LOST), WHY, "ann")


def test_a_lost_day_that_comes_after_all_replaces_it(say: Say, tmp_path: Path) -> None:
    """Late, the next day's run takes it by itself; later, a person runs its chain again."""
    chain(say, *days()[:2])
    say("lose", "--day", LOST, "--why", WHY)
    write(tmp_path / "raw", LOST, tables_of(LOST))
    assert say("validate", "--day", days()[3])["revisited"] == [str(LOST)]
    assert lake().read("impressions", [LOST]).num_rows == N
    assert say("lose") == {"lost": []}
    chain(say, LOST)
    assert lake().read("labels", [LOST]).num_rows == N


def test_a_day_that_was_refused_can_be_lost_and_is_not_taken_again(say: Say, tmp_path: Path) -> None:
    """Its files are there, and broken for good: the runs of the days after it must not stumble over them each day."""
    chain(say, *days()[:2])
    tables = tables_of(LOST)
    write(tmp_path / "raw", LOST, {**tables, "clicks": tables["clicks"].drop_columns(["item_id"])})
    say("lose", "--day", LOST, "--why", "no item was logged with a click")
    assert say("validate", "--day", days()[3])["revisited"] == []
    assert [entry["day"] for entry in say("lose")["lost"]] == [str(LOST)]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--day", FIRST + timedelta(days=1), "--why", WHY], f"found {N} impressions of 2026-01-02"),
        (["--day", LOST + timedelta(days=1), "--why", WHY], f"the day before it, {LOST}; found none"),
        (["--day", FIRST - timedelta(days=1), "--why", WHY], "the day before it, 2025-12-30; found none"),
        (["--day", LOST], "lose needs --day YYYY-MM-DD and --why"),
        (["--day", LOST, "--why", "  "], "lose needs --day YYYY-MM-DD and --why"),
        (["--why", WHY], "lose needs --day YYYY-MM-DD and --why"),
    ],
)
def test_only_a_day_without_rows_that_history_reaches_can_be_lost(say: Say, words: list[Any], sentence: str) -> None:
    """A slip of the keyboard must neither throw a day away nor leave one in the middle of nowhere."""
    chain(say, *days()[:2])
    versions = {table: lake().version(table) for table in lost.TABLES}
    with pytest.raises(UsageError, match=sentence):
        say("lose", *words)
    assert {table: lake().version(table) for table in lost.TABLES} == versions


def test_days_in_a_row_are_lost_one_after_another_and_one_may_be_lost_again(say: Say) -> None:
    """Each with its own reason; the last word on a day counts."""
    chain(say, *days()[:2])
    say("lose", "--day", LOST, "--why", WHY)
    say("lose", "--day", LOST, "--why", "better known now")
    say("lose", "--day", LOST + timedelta(days=1), "--why", WHY)
    assert [entry["lost"] for entry in say("lose")["lost"]] == ["better known now", WHY]
