"""A range of days as a person types it: a day that fails stops none of the others, and each is named."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.__main__ import main
from jobs.config import Config
from jobs.errors import Misconfigured, NotReady, Refused
from jobs.flow import STAGES
from jobs.lake import ranges
from jobs.lake.run import Run
from jobs.lake.store import Lake
from tests.jobs.validate.raw_days import FIRST, N, put, tables_of, write

DAYS = [FIRST + timedelta(days=n) for n in range(4)]


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four days; of the second every purchase is worth less than nothing."""
    for key, value in {"LAKE__ROOT": "lake", "LAKE__RAW": "raw", "FEATURES__ONLINE_PATH": "online"}.items():
        monkeypatch.setenv(f"TIDEGATE__{key}", str(tmp_path / value))
    monkeypatch.setenv("TIDEGATE__FEATURES__ONLINE", "false")
    for day in DAYS:
        tables = tables_of(day)
        if day == DAYS[1]:
            for row in range(N):
                tables["purchases"] = put(tables["purchases"], "value", -1.0, row)
        write(tmp_path / "raw", day, tables)
    return tmp_path / "raw"


def typed(capsys: pytest.CaptureFixture[str], stage: str, since: int = 0) -> tuple[Exception | None, dict[str, Any]]:
    """How the command for the last day and `since` ended, and its last line on stdout."""
    error: Exception | None = None
    try:
        main([stage, "--day", str(DAYS[-1]), "--since", str(DAYS[since])])
    except (Refused, NotReady) as ended:
        error = ended
    return error, json.loads(capsys.readouterr().out.splitlines()[-1])


def test_one_refused_day_stops_no_other(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Validated and labelled are the three others; features need the day before, and say so of each day after it."""
    lake, others = Lake(tmp_path / "lake"), [DAYS[0], *DAYS[2:]]
    error, report = typed(capsys, "validate")
    assert isinstance(error, Refused)
    assert f"validate needs every day of {DAYS[0]}..{DAYS[-1]}; found 3 published; {DAYS[1]} Refused: raw purch" in str(
        error
    )
    assert lake.days("impressions") == others
    by_day = report["by_day"]
    assert [by_day[str(day)] for day in others] == ["published"] * 3
    assert by_day[str(DAYS[1])].startswith("Refused: raw purchases of 2026-01-02 needs at least")
    error, report = typed(capsys, "attribute")
    assert isinstance(error, NotReady)
    assert lake.days("labels") == others
    assert report["rows"] >= 3 * N
    error, report = typed(capsys, "featurize")
    assert isinstance(error, NotReady)
    assert lake.days("user_features") == DAYS[:1]
    assert [said.split(":")[0] for said in report["by_day"].values()] == ["published", *["NotReady"] * 3]
    write(raw, DAYS[1], {"purchases": tables_of(DAYS[1])["purchases"]})
    for stage in ("validate", "attribute", "featurize"):
        error, report = typed(capsys, stage, since=1)
        assert error is None
        assert "by_day" not in report
    assert lake.days("user_features") == DAYS


class Doing:
    """A stage of a day each that refuses some days, and is not ready for others."""

    def __init__(self, refused: list[int], late: list[int]) -> None:
        self.refused, self.late, self.done = refused, late, set[int]()

    def __call__(self, run: Run) -> dict[str, Any]:
        for day in run.days:
            if day.day in self.refused:
                raise Refused(f"{day} is bad")
            if day.day in self.late:
                raise NotReady(f"{day} is late")
            if day.day == 31:
                raise Misconfigured("nothing is set")
            self.done.add(day.day)
            run.rows += 1
        return {"days": len(run.days)}


def range_of(days: int) -> Run:
    """January from its first day on."""
    return Run(STAGES["ingest"], Config(), FIRST + timedelta(days=days - 1), FIRST)


def test_a_range_that_goes_well_is_one_run() -> None:
    """What days share is read once, and its counts are its own."""
    run = range_of(9)
    assert ranges.published(run, Doing([], [])) == ({"days": 9}, {})
    assert run.rows == 9


def test_the_worst_day_names_the_range() -> None:
    """Refused before not ready, however many are late; the sentence has three days' own words, the JSON has all."""
    run, do = range_of(9), Doing([7], [2, 4, 5])
    counts, failed = ranges.published(run, do)
    assert (counts, sorted(day.day for day in failed), do.done) == ({}, [2, 4, 5, 7], {1, 3, 6, 8, 9})
    assert run.rows == 5
    worst = ranges.worst(run, failed)
    assert isinstance(worst, Refused)
    assert "found 5 published; 2026-01-07 Refused: 2026-01-07 is bad; 2026-01-02 NotReady" in str(worst)
    assert str(worst).endswith("; and not 2026-01-05")
    assert ranges.summary(run, failed)["2026-01-05"] == "NotReady: 2026-01-05 is late"
    assert isinstance(ranges.worst(run, {d: e for d, e in failed.items() if d.day != 7}), NotReady)


def test_what_is_no_days_own_ends_the_range() -> None:
    """A setting that is wrong is as wrong for every other day."""
    with pytest.raises(Misconfigured, match="nothing is set"):
        ranges.published(range_of(31), Doing([2], []))
