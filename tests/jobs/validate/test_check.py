"""`python -m jobs check`: what a team reads of its own files before anything runs."""

from pathlib import Path

import pyarrow as pa
import pytest

from jobs.__main__ import main
from jobs.errors import NotReady
from tests.jobs.validate.raw_days import FIRST, N, put, retyped, tables_of, write


def page(capsys: pytest.CaptureFixture[str], raw: Path) -> tuple[int, dict[str, str]]:
    """The exit code, and the page's parts by name."""
    code = main(["check", "--raw", str(raw), "--day", FIRST.isoformat()])
    text = " ".join(capsys.readouterr().out.split())
    names = ["stops the day:", "missing:", "odd:", "fine:"]
    starts = [*(text.index(name) for name in names), len(text)]
    return code, {name[:-1]: text[a:b] for name, a, b in zip(names, starts[:-1], starts[1:], strict=True)}


def test_a_good_day_is_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing stops it, and what a ranker is told of the team's own columns is said."""
    tables = tables_of(FIRST)
    tables["users"] = tables["users"].append_column("feature_age", pa.array(range(N)))
    tables["users"] = tables["users"].append_column("feature_zip", pa.array(["01234"] * N))
    write(tmp_path, FIRST, tables)
    before = sorted(tmp_path.rglob("*"))
    code, said = page(capsys, tmp_path)
    assert (code, said["stops the day"]) == (0, "stops the day: nothing ")
    assert f"impressions: {N} rows" in said["fine"]
    assert "users: attributes that are numbers: age" in said["fine"]
    assert "users: attributes that are words: zip" in said["fine"]
    assert "days: a model takes at least 4" in said["missing"]
    assert sorted(tmp_path.rglob("*")) == before, "a look at a raw lake writes nothing"


def test_every_wrong_column_of_every_table_is_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever repairs a logger sees all of it, not the first of five."""
    tables = tables_of(FIRST)
    wrong = retyped(tables["impressions"], "event_time", pa.array(range(N)))
    tables["impressions"] = retyped(wrong, "position", pa.array(["one"] * N)).drop_columns(["policy"])
    tables["users"] = retyped(tables["users"], "user_id", pa.array(range(N)))
    write(tmp_path, FIRST, tables)
    code, said = page(capsys, tmp_path)
    assert code == 65
    for needed in (
        "column policy of type string; found no such column among",
        "column event_time of type timestamp[us, tz=UTC]; found type int64, which does not say seconds or milli",
        "column position of type int32; found type string",
        "raw users of 2026-01-01 needs column user_id of type string; found type int64",
    ):
        assert needed in said["stops the day"]


def test_what_is_missing_says_what_does_not_work_without_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Impressions alone are a log; each other table is named with its use, and so are propensities."""
    shown = tables_of(FIRST)["impressions"].drop_columns(["propensity"])
    write(tmp_path, FIRST, {"impressions": put(shown, "position", 0)})
    code, said = page(capsys, tmp_path)
    assert code == 0
    for name in ("clicks", "purchases", "feedback", "requests", "items", "users"):
        assert f"{name}: no rows; " in said["missing"]
    assert "TIDEGATE__GATE__PROFILE=metrics-only" in said["missing"]
    assert "impressions: 1 rows would be set aside" in said["odd"]
    with pytest.raises(NotReady, match=r"check needs .*found no such day"):
        main(["check", "--raw", str(tmp_path / "nowhere")])
