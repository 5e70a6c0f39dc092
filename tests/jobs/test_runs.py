"""What became of a stage's last run is known to whoever asks, also of one that published nothing or was killed."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from jobs import runs
from jobs.__main__ import main
from jobs.config import ROOT
from jobs.errors import NotReady, Refused

DAY = date(2026, 1, 8)


def told(folder: Path, **labels: str) -> dict[str, float]:
    """Figures by name, counts by ending, of the samples with these labels."""
    found = [sample for family in runs.read(folder) for sample in family.samples]
    return {
        s.labels.get("ended") or s.name.removeprefix(runs.PREFIX): s.value
        for s in found
        if labels.items() <= s.labels.items()
    }


def fail(folder: Path, error: Exception) -> None:
    with pytest.raises(type(error)), runs.recorded(folder, "train", "warm", DAY):
        raise error


def test_a_run_leaves_when_it_was_how_long_it_took_and_what_it_published(tmp_path: Path) -> None:
    before = time.time()
    with runs.recorded(tmp_path, "train", "warm", DAY) as ran:
        time.sleep(0.05)
        ran.rows = 7
    found = told(tmp_path, stage="train", mode="warm")
    assert before <= found["started_timestamp_seconds"] < found["ended_timestamp_seconds"] <= time.time()
    assert found["succeeded_timestamp_seconds"] == found["ended_timestamp_seconds"]
    assert 0.05 <= found["seconds"] < 5
    assert (found["rows"], found["exit_code"], found[runs.SUCCEEDED]) == (7, 0, 1)
    assert datetime.fromtimestamp(found["day_timestamp_seconds"], UTC).date() == DAY


def test_failures_are_counted_by_kind_and_keep_when_it_last_went_well(tmp_path: Path) -> None:
    with runs.recorded(tmp_path, "train", "warm", DAY):
        pass
    well = told(tmp_path)["succeeded_timestamp_seconds"]
    fail(tmp_path, Refused("the data"))
    fail(tmp_path, Refused("the data"))
    fail(tmp_path, ZeroDivisionError("a bug"))
    found = told(tmp_path)
    assert (found["exit_code"], found["succeeded_timestamp_seconds"]) == (70, well)
    assert {ending: found[ending] for ending in runs.ENDINGS} == {
        **dict.fromkeys(runs.ENDINGS, 0),
        **{"succeeded": 1, "Refused": 2, "Crashed": 1},
    }
    fail(tmp_path, NotReady("not yet"))
    assert told(tmp_path)["exit_code"] == NotReady.exit_code


def test_a_killed_run_has_a_start_later_than_any_end(tmp_path: Path) -> None:
    """SIGKILL, as for memory: nobody was left to say anything."""
    with runs.recorded(tmp_path, "train", "warm", DAY):
        pass
    code = (
        "import sys, time; from datetime import date; from pathlib import Path; from jobs import runs\n"
        "with runs.recorded(Path(sys.argv[1]), 'train', 'warm', date(2026, 1, 9)): print('in', flush=True); "
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"in\n"
        os.kill(child.pid, signal.SIGKILL)
    found = told(tmp_path)
    assert found["started_timestamp_seconds"] > found["ended_timestamp_seconds"]
    assert (found["exit_code"], found["succeeded"]) == (0, 1), "of the run before, which ended"


def test_modes_are_told_apart_and_families_are_whole(tmp_path: Path) -> None:
    """Prometheus refuses a page that has a family twice."""
    for mode in ("full", "warm"):
        with runs.recorded(tmp_path, "train", mode, DAY) as ran:
            ran.rows = len(mode + "x" * (mode == "full"))
    families = runs.read(tmp_path)
    assert len({family.name for family in families}) == len(families)
    assert (told(tmp_path, mode="full")["rows"], told(tmp_path, mode="warm")["rows"]) == (5, 4)


def test_no_figure_is_worth_a_days_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder that is none, a file cut short by a power cut: a warning, and the stage runs."""
    (tmp_path / "file").write_text("")
    with runs.recorded(tmp_path / "file", "train", "full", DAY) as ran:
        ran.rows = 1
    assert "must be writable" in caplog.text
    (tmp_path / "train-full.prom").write_text("tidegate_run_rows{stage=")
    assert runs.read(tmp_path) == []
    with runs.recorded(tmp_path, "train", "full", DAY) as ran:
        ran.rows = 3
    assert told(tmp_path)["rows"] == 3


def test_the_command_records_every_stage_that_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Airflow calls it: `attribute` finds no lake and waits, which is known afterwards."""
    monkeypatch.setenv("TIDEGATE_ENV", "test")
    monkeypatch.setenv("TIDEGATE__LAKE__ROOT", str(tmp_path / "lake"))
    with pytest.raises(NotReady):
        main(["attribute", "--day", "2026-01-08"])
    found = told(tmp_path / "runs", stage="attribute", mode="")
    assert (found["exit_code"], found["NotReady"], found["rows"]) == (NotReady.exit_code, 1, 0)
