"""Data capture on a disk that takes no writes: answers go out, losses are counted and said, no line is torn."""

import json
import logging
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.bundle import Bundle
from jobs.config import ROOT
from jobs.serving.capture import SAY_SECONDS, Capture
from tests.infra.endpoint import rig

DAY = date(2026, 1, 10)


class Clock:
    """Seconds, as the test says."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel cuts every write off where a file would become longer: what a full disk does, for any user."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def write(capture: Capture, name: str, padding: int = 0) -> None:
    """One line."""
    capture.write(DAY, "e", {"request_id": name}, {"request_id": name, "items": ["ü" * padding]}, 1.0)


def texts(folder: Path) -> dict[str, str]:
    """Every file of the day."""
    return {path.name: path.read_text() for path in sorted(folder.glob("date=*/*.jsonl"))}


def names(text: str) -> list[str]:
    """The requests of whole lines; fails where one is torn."""
    assert text.endswith("\n") or not text
    return [json.loads(line)["request"]["request_id"] for line in text.splitlines()]


def test_what_a_full_disk_took_of_a_line_is_taken_back(tmp_path: Path) -> None:
    """A line cut short would swallow the next one; with room again, lines go on in the same file."""
    capture = Capture(tmp_path)
    write(capture, "whole")
    size = len(texts(tmp_path)["0.jsonl"].encode())
    for room in (0, 1, 40, size // 2):
        with files_of_at_most(size + room):
            write(capture, "lost", padding=100)
    assert capture.losing
    write(capture, "again")
    capture.close()
    assert {file: names(text) for file, text in texts(tmp_path).items()} == {"0.jsonl": ["whole", "again"]}
    assert (capture.written, capture.lost) == (2, 4)


def test_where_a_torn_line_cannot_be_taken_back_the_next_begins_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that only the last line of a file can be torn: readers leave that one out."""
    capture = Capture(tmp_path)
    write(capture, "whole")
    size = len(texts(tmp_path)["0.jsonl"].encode())

    def read_only(*_: Any) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch, files_of_at_most(size + 30):
        patch.setattr("os.ftruncate", read_only)
        write(capture, "torn")
    write(capture, "next")
    capture.close()
    found = texts(tmp_path)
    assert [len(text.splitlines()) for text in found.values()] == [2, 1]
    assert names(found["0.jsonl"].splitlines(keepends=True)[0]) == ["whole"]
    assert names(found["1.jsonl"]) == ["next"]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 200), st.one_of(st.none(), st.integers(0, 400))), max_size=12))
def test_every_line_is_whole_whatever_the_disk_does(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[int, int | None]]
) -> None:
    """Lines of any length with any room for them: what is counted as written is there, in order, and nothing else."""
    folder = tmp_path_factory.mktemp("capture")
    capture, kept = Capture(folder), []
    for number, (padding, room) in enumerate(lines):
        file = folder / f"date={DAY}" / "0.jsonl"
        size, before = file.stat().st_size if file.exists() else 0, capture.written
        with files_of_at_most(resource.RLIM_INFINITY if room is None else size + room):
            write(capture, f"r{number}", padding)
        kept += [f"r{number}"] * (capture.written - before)
    capture.close()
    assert [name for text in texts(folder).values() for name in names(text)] == kept
    assert (capture.written, capture.lost) == (len(kept), len(lines) - len(kept))


def test_losses_are_said_once_a_minute_and_so_is_their_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A thousand lost lines are one line in the log, a disk at its edge that takes every other one is no more."""
    caplog.set_level(logging.WARNING)
    clock = Clock()
    capture = Capture(tmp_path / "capture", clock)
    (tmp_path / "capture").write_text("a file where the folder should be")
    for _ in range(1000):
        write(capture, "lost")
    assert len(caplog.records) == 1
    assert "Not a directory" in caplog.text
    assert "uncaptured: 1 more, 1 in all" in caplog.text
    clock.now += SAY_SECONDS
    write(capture, "lost")
    assert "1000 more, 1001 in all" in caplog.text
    (tmp_path / "capture").unlink()
    for _ in range(5):
        write(capture, "kept")
    assert capture.losing, "not yet: a disk at its edge takes a line now and then"
    clock.now += SAY_SECONDS
    write(capture, "kept")
    assert not capture.losing
    assert "written again; 1001 answers were lost, 6 written" in caplog.text
    assert len(caplog.records) == 3
    capture.close()
    assert "ends; 1001 answers were lost, 6 written" in caplog.text


def test_the_last_of_a_disk_is_left_to_the_registry(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A capture that filled the disk once kept everybody from the way back, which must be written down beside it."""
    free = shutil.disk_usage(tmp_path).free
    for spared, lost in ((free + 2**34, 3), (0, 0)):
        capture = Capture(tmp_path / str(lost), spared_bytes=spared)
        for _ in range(3):
            write(capture, "r")
        capture.close()
        assert (capture.lost, capture.written, capture.losing) == (lost, 3 - lost, lost > 0)
    assert f"the last {(free + 2**34) >> 20} MiB of the disk are no capture's" in caplog.text


def test_the_endpoint_answers_and_says_what_it_could_not_capture(tmp_path: Path, popular: Bundle) -> None:
    """SageMaker's own word for it is CaptureStatus; /metrics has the numbers."""
    with rig.running(rig.settings(tmp_path)) as client:
        client.serve(popular)
        assert client.invoke("kept")["items"]
        assert client.settled()["DataCaptureConfig"]["CaptureStatus"] == "Started"
        (tmp_path / "state" / "capture" / "date=2026-01-10").write_text("no folder")
        lost = client.invoke("lost", event_time="2026-01-10T12:00:00Z")
        assert len(lost["items"]) == 3
        assert client.settled()["DataCaptureConfig"]["CaptureStatus"] == "Stopped"
        with urlopen(f"{client.url}/metrics") as found:
            assert found.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            text = found.read().decode()
        assert 'tidegate_captured_total{outcome="lost"} 1.0\n' in text
        assert 'tidegate_captured_total{outcome="written"} 1.0\n' in text
        with urlopen(f"{client.url}/ping") as found:
            assert found.status == 200, "the platform would take the endpoint away for it"


FULL = """
import sys
from pathlib import Path
from datetime import date
from jobs.serving.capture import Capture

folder, filler = Path(sys.argv[1]), Path(sys.argv[1]) / "filler"
capture = Capture(folder / "capture", spared_bytes=0)
answer = {"items": ["x" * 500]}
capture.write(date(2026, 1, 10), "e", {"request_id": "before"}, answer, 1.0)
filler.write_bytes(bytes(1 << 12))
with filler.open("ab", buffering=0) as file:
    try:
        while True:
            file.write(bytes(1 << 10))
    except OSError:
        pass
for n in range(20):
    capture.write(date(2026, 1, 10), "e", {"request_id": f"full{n}"}, answer, 1.0)
filler.unlink()
capture.write(date(2026, 1, 10), "e", {"request_id": "after"}, answer, 1.0)
capture.close()
print(capture.lost, capture.written, (folder / "capture/date=2026-01-10/0.jsonl").read_text().count("\\n"))
"""


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """ENOSPC from a file system of 256 KiB; needs a kernel that lets users mount in a namespace."""
    own = ["unshare", "--user", "--map-root-user", "--mount"]
    shell = f"mount -t tmpfs -o size=256k none {tmp_path} && exec {sys.executable} -c '{FULL}' {tmp_path}"
    try:
        subprocess.run([*own, "mount", "-t", "tmpfs", "none", "/mnt"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no mount namespaces here: {error}")
    done = subprocess.run([*own, "sh", "-c", shell], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    lost, written, lines = map(int, done.stdout.split())
    assert lost > 0
    assert lost + written == 22
    assert lines == written
    assert done.stderr.count("No space left on device") == 1, done.stderr
