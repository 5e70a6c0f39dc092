"""A small version of `tests/bench/bench_steady.py`: all that happens to an endpoint in one go, with real processes."""

import shutil
import subprocess
from pathlib import Path

import pytest

from jobs.bundle import Bundle
from tests.bench.bench_steady import BACK_SECONDS, COUNTED, Size, back, drawn, figures, goals, seen
from tests.infra.endpoint.rig import write_bundle

SIZE = Size(rate=20.0, hold=0.6, processes=1, hung=1.0, keys=60, timeout_ms=200, scales=False)
"""One process a variant: whatever happens to it, nobody else is there."""


def small(folder: Path, number: int) -> Bundle:
    return write_bundle(folder, "popularity", f"popularity-full-2026-01-0{number + 1}", seed=number, indexed=False)


def test_no_request_is_lost_whatever_happens() -> None:
    """Popularity answers where the ranker cannot, by its reason; the way back is short; then all is as before."""
    own = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    if shutil.which("redis-server") is None or subprocess.run(own, capture_output=True, check=False).returncode:
        pytest.skip("needs redis-server, and a kernel that lets users mount in a namespace")
    lines, begun, found = seen(SIZE, small)
    assert drawn(lines, begun).startswith(b"<?xml")
    rows = {row["phase"]: row for row in found}
    assert list(rows) == [*(name for name, _, _ in begun), "all"]
    assert all(row["requests"] > 0 for row in found)
    assert [line for line in lines if line[2] != 200] == []
    for name in ("rollback", "back on a full disk"):
        assert rows[name]["back_seconds"] < BACK_SECONDS, rows[name]
    assert rows["process killed"]["down"] > 0
    assert rows["process stopped"]["hung"] + rows["process stopped"]["down"] > 0
    assert rows["feature store stopped"]["late"] + rows["feature store stopped"]["busy"] > 0
    assert rows["feature store gone"]["failed"] > 0
    last = rows["steady again"]
    assert sum(last[reason] for reason in COUNTED) < last["requests"], "the ranker answers again"
    assert all(goal["met"] for goal in goals(found))


def test_a_phase_is_counted_by_what_was_said_and_by_whom() -> None:
    """By hand: one lost, one of popularity's; the old model is back when its first answer after the call has come."""
    lines = [[0.0, 0.01, 200, "", "old"], [1.0, 0.03, 200, "busy", "new"], [2.0, 0.5, 0, "OSError", ""]]
    assert {k: v for k, v in figures(lines).items() if v} == {
        "requests": 3, "lost": 1, "busy": 1, "p50_ms": 30.0, "p99_ms": pytest.approx(490.6)
    }  # fmt: skip
    later = [[4.9, 0.4, 200, "", "old"], [5.2, 0.4, 200, "", "old"], [5.1, 0.2, 200, "", "new"]]
    assert back([*lines, *later], 5.0, {"rollback": "old"}, "rollback") == pytest.approx(0.3)
    assert back(lines, 5.0, {"rollback": "old"}, "rollback") == float("inf")
    assert back(lines, None, {}, "steady") is None
