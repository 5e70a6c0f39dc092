"""What a bundle has answered since a moment, as the watch of a release reads it."""

import json
import os
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from jobs.config import EndpointSettings
from jobs.serving import answered, captured
from jobs.serving.answer import Answer, Placement
from jobs.serving.capture import CAPTURE, SHADOWS, Capture
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


def test_chunks_of_any_size_have_each_line_once_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line is of the piece that it begins in, however it ends: by a kill, or within a character; blanks are nobody's.

    What was placed is the same as of all lines at once: a request that was answered twice counts once, in whichever.
    """
    day, slate = date(2026, 1, 9), [Placement("ü", 1, 0.5, 0.1, 0.0, 1.0)]
    texts = [
        json.dumps(
            {
                "endpoint": "e",
                "request": {"user_id": None if n == 3 else f"u{n}"},
                "response": asdict(Answer(f"r{n % 7}", slate if n % 5 else [], "m", "s", "v", False, None)),
                "at": "2026-01-09T00:00:00+00:00",
                "ms": n,
            },
            ensure_ascii=False,
        ).encode()
        for n in range(20)
    ]
    for kind, some in ((CAPTURE, texts[:10]), (SHADOWS, texts[10:])):
        folder = tmp_path / kind / f"date={day}"
        folder.mkdir(parents=True)
        (folder / "9.jsonl").write_bytes(b"\n".join([*some[:4], b" " * 40, some[4], some[5][:-40]]))
        (folder / "10.jsonl").write_bytes(b"\n".join(some[6:]) + b"\n")
        (folder / "11.jsonl").write_bytes(b"")
    settings = EndpointSettings(name="e", state=tmp_path)

    def told() -> tuple[int, list[str], list[str], list[float], captured.Placements]:
        chunks = answered.chunks(settings, day, shadows=True)
        lines = [line for chunk in chunks for line in chunk.lines()]
        asking = [user for chunk in chunks for user in captured.asking(chunk.lines()).to_pylist()]
        said = [one.ms for chunk in chunks for one in chunk.said()]
        return len(chunks), lines, asking, said, captured.first_answers(captured.placed(c.lines()) for c in chunks)

    one, lines, asking, said, placed = told()
    assert (one, len(lines)) == (1, 20)
    assert (len(said), placed.torn) == (18, 2)
    assert asking == [f"u{n}" for n in range(20) if n not in (3, 5, 15)]
    assert placed == captured.placements(lines)
    for size in (1, 7, 64, 300, 1_000):
        monkeypatch.setattr(answered, "CHUNK_BYTES", size)
        many, *rest = told()
        assert many > 1
        assert rest == [lines, asking, said, placed]
    assert list(answered.lines(settings, day)) == lines[:10]
