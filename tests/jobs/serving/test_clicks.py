"""Clicks of a release under way: of whole hours, of closed requests, of each user's first request."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.serving import clicks
from jobs.serving.answer import Answer, Placement
from jobs.serving.captured import Said
from jobs.serving.files import Folder

TEN = datetime(2026, 1, 8, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def said(request: str, minute: int, user: str | None = None) -> Said:
    """A request `minute` minutes after ten, answered by another clock, which counts for nothing."""
    slate = [Placement("i", 1, 0.1, 0.1, 0.0, 1.0), Placement("j", 2, 0.1, 0.1, 0.0, 1.0)]
    asked = {
        "request_id": request,
        "user_id": user or f"u-{request}",
        "event_time": (TEN + minute * MINUTE).isoformat(),
    }
    return Said(datetime(2026, 11, 8, tzinfo=UTC), 5.0, Answer(request, slate, "m", "s", "v", False, None), asked)


class Log:
    """A raw log of hours, a file each."""

    def __init__(self, raw: Path) -> None:
        self.raw = raw

    def hour(self, hour: int, shown: list[str] = (), clicked: list[tuple[str | None, int, str, str]] = ()) -> None:  # type: ignore[assignment]
        impressions = [
            {"impression_id": f"{r}-{item}", "request_id": r, "event_time": TEN} for r in shown for item in "ij"
        ]
        rows = [
            {"impression_id": impression, "event_time": TEN + minute * MINUTE, "user_id": user, "item_id": item}
            for impression, minute, user, item in clicked
        ]
        self.put("impressions", hour, impressions, ("impression_id", "request_id"))
        self.put("clicks", hour, rows, ("impression_id", "user_id", "item_id"))

    def put(self, table: str, hour: int, rows: list[dict[str, Any]], texts: tuple[str, ...]) -> None:
        schema = pa.schema([*((name, pa.string()) for name in texts), ("event_time", pa.timestamp("us", "UTC"))])
        folder = self.raw / table / "date=2026-01-08" / f"hour={hour:02d}"
        folder.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / "part-0.parquet")


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_only_closed_requests_of_whole_hours_count(log: Log) -> None:
    """A request of ten to eleven is closed at five past: only with the hour after that has its last minute come."""
    ours, theirs = [said("a", 1), said("late", 55)], [said("b", 2), said("c", 3)]
    log.hour(10, ["a", "b", "c", "late"], [("a-i", 2, "?", "?"), ("c-j", 19, "?", "?"), ("late-i", 56, "?", "?")])
    assert "10:00" in clicks.of(Folder(log.raw), ours, theirs, 15).none_read
    log.hour(11)
    found = clicks.of(Folder(log.raw), ours, theirs, 15)
    assert found.none_read == ""
    assert (found.treated.tolist(), found.clicked.tolist()) == ([True, False, False], [True, False, False])
    log.hour(12)
    found = clicks.of(Folder(log.raw), ours, theirs, 15)
    assert (found.treated.tolist(), found.clicked.tolist()) == ([True, False, False, True], [True, False, False, True])
    found = clicks.of(Folder(log.raw), ours, theirs, 17)
    assert found.clicked.tolist() == [True, False, True, True], "16 minutes after three"


def test_a_click_that_names_no_impression_is_the_users_and_the_items(log: Log) -> None:
    log.hour(10, ["a", "b"], [(None, 4, "u-a", "j"), (None, 4, "u-b", "elsewhere"), (None, 1, "u-b", "i")])
    log.hour(11)
    found = clicks.of(Folder(log.raw), [said("a", 2)], [said("b", 2)], 15)
    assert found.clicked.tolist() == [True, False], "another item, and before it was asked"


def test_a_user_counts_once(log: Log) -> None:
    """By the first request, whoever answered it."""
    log.hour(10, ["a", "b"], [("b-i", 6, "?", "?")])
    log.hour(11)
    found = clicks.of(Folder(log.raw), [said("b", 5, "u")], [said("a", 2, "u")], 15)
    assert (found.treated.tolist(), found.clicked.tolist()) == ([False], [False])


def test_what_cannot_be_read_is_said(log: Log, tmp_path: Path) -> None:
    """No log, a log of other requests, a file that is none, no request: none read, and never an error."""
    asked = [said("a", 1)]
    assert clicks.of(Folder(tmp_path / "nowhere"), asked, [], 15).none_read.startswith("raw impressions needs an hour")
    assert clicks.of(Folder(log.raw), [], [], 15).none_read == "no request was captured"
    log.hour(10, ["somebody else's"])
    log.hour(11)
    assert clicks.of(Folder(log.raw), asked, [], 15).none_read == "the raw log has no impression of these requests"
    (log.raw / "clicks" / "date=2026-01-08" / "hour=10" / "part-1.parquet").write_bytes(b"none")
    assert "needs to be Parquet" in clicks.of(Folder(log.raw), asked, [], 15).none_read
