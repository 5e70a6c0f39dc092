"""A source is one file: the page's own, with its CSV, put into a tree, is found by its name; all else stays."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.config import ROOT
from jobs.config import environment as environment_of
from jobs.errors import Refused
from jobs.lake.tables import raw_tables

PAGE = (ROOT / "docs" / "own-logs.md").read_text()


def block(language: str) -> str:
    """The page's block of a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_pages_source_is_the_whole_of_it(tmp_path: Path) -> None:
    """From ten lines of CSV to labels; a name without a file is refused with those that have one."""
    tree, data = tmp_path / "tree", tmp_path / "data"
    shutil.copytree(ROOT / "jobs", tree / "jobs", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("models", "infra", "expectations"):
        (tree / name).symlink_to(ROOT / name)
    data.mkdir()
    (data / "shop.csv").write_text(block("csv"))
    (tree / "jobs" / "sources" / "shop.py").write_text(block("python"))
    places = {"lake.root": str(tmp_path / "lake"), "lake.raw": str(tmp_path / "raw"), "source.data": str(data)}

    def run(stage: str, source: str = "shop") -> "subprocess.CompletedProcess[str]":
        words = [sys.executable, "-m", "jobs", stage, "--day", "2026-03-05", "--since", "2026-03-01"]
        env = environment_of({**places, "source.name": source})
        return subprocess.run(words, cwd=tree, env=env, capture_output=True, text=True)

    done = run("ingest")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["rows"] == 23 + 5
    laid = (tmp_path / "raw" / "impressions").glob("date=*/hour=*/*.parquet")
    assert sum(pq.read_metadata(path).num_rows for path in laid) == 23
    for stage in ("validate", "attribute"):
        done = run(stage)
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["clicked"] == 5
    unknown = run("ingest", "ticket-office")
    assert unknown.returncode == 78
    assert "one of kafka, kuairand, mapped, open-bandit, parquet, shop, simulated" in unknown.stderr.splitlines()[-1]


def test_every_wrong_column_of_a_sources_rows_is_named() -> None:
    """Not the first of them."""
    with pytest.raises(Refused) as said:
        raw_tables(clicks=[{"click_id": 7, "event_time": "noon", "item_id": "i", "where": "x"}])
    assert all(f"clicks.{name}: " in str(said.value) for name in ("click_id", "event_time", "where"))
