"""What a bundle has answered since a moment, as the watch of a release reads it."""

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from jobs.serving.answer import Answer
from jobs.serving.capture import Capture
from jobs.serving.captured import since


def answer(name: str, sha256: str) -> Answer:
    return Answer(name, [], "m", sha256, "v", False, None)


def test_only_this_bundles_answers_at_this_endpoint_since_then_in_their_order(tmp_path: Path) -> None:
    """Whichever day the requests were of; a line that a full disk tore, and one of an older server, are nobody's."""
    capture = Capture(tmp_path)
    capture.write(date(2026, 1, 9), "e", {}, answer("before", "mine"), 1.0)
    began = datetime.now(UTC)
    capture.write(date(2026, 1, 10), "e", {}, answer("first", "mine"), 12.344)
    capture.write(date(2026, 1, 9), "e", {}, answer("second", "mine"), 2.0)
    capture.write(date(2026, 1, 9), "e", {}, answer("mine, by name", "another"), 3.0)
    capture.write(date(2026, 1, 9), "other", {}, answer("elsewhere", "mine"), 3.0)
    capture.close()
    [path] = (tmp_path / "date=2026-01-10").iterdir()
    whole = path.read_text()
    path.write_text(whole + whole[: len(whole) // 2] + "\n" + whole.replace('"ms"', '"seconds"'))
    stale = tmp_path / "date=2026-01-08" / "0.jsonl"
    stale.parent.mkdir()
    stale.write_text(whole)
    yesterday = (began - timedelta(days=1)).timestamp()
    os.utime(stale, (yesterday, yesterday))
    found = since(tmp_path, "e", began, "mine")
    assert [(said.answer.request_id, said.ms) for said in found] == [("first", 12.34), ("second", 2.0)]
    assert since(tmp_path / "nothing", "e", began, "mine") == []


def test_a_file_that_looks_older_than_its_last_line_is_read(tmp_path: Path) -> None:
    """Linux stamps a file by the tick before: right after `began` that is a moment before it."""
    began = datetime.now(UTC)
    capture = Capture(tmp_path)
    capture.write(date(2026, 1, 9), "e", {}, answer("at once", "mine"), 2.5)
    capture.close()
    behind = began.timestamp() - 0.010
    os.utime(tmp_path / "date=2026-01-09" / "0.jsonl", (behind, behind))
    assert [said.answer.request_id for said in since(tmp_path, "e", began, "mine")] == ["at once"]
