"""A source is one file: a tree with one more file in `jobs/sources` ingests from it, and nothing else was touched."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

from jobs.config import ROOT
from jobs.config import environment as environment_of

TICKETS = '''
"""Ten lines of a box office's log."""

from datetime import UTC, date, datetime

import pyarrow as pa

from jobs.config import Config
from jobs.lake.tables import Tables
from jobs.sources import Source, within

DAY = date(2026, 3, 1)


def source(config: Config) -> Source:
    """The log is the file."""
    return Tickets()


class Tickets:
    """One day."""

    def span(self) -> tuple[date, date]:
        """Its only day, twice."""
        return DAY, DAY

    def day(self, day: date) -> Tables:
        """Ten impressions, nothing else."""
        within(day, self.span(), "box-office")
        at = [datetime(2026, 3, 1, hour, tzinfo=UTC) for hour in range(10)]
        shown = {"impression_id": [f"i{n}" for n in range(10)], "request_id": [f"r{n}" for n in range(10)]}
        shown |= {"event_time": pa.array(at, pa.timestamp("us", tz="UTC")), "item_id": ["seat"] * 10}
        shown |= {"surface": ["home"] * 10, "position": pa.array([1] * 10, pa.int32()), "policy": ["till"] * 10}
        return {"impressions": pa.table(shown)}

    def go_live(self, day: date) -> int:
        """Nothing."""
        return 0

    def late(self, day: date, arrived: date) -> Tables:
        """Nothing."""
        return {}
'''


def test_adding_a_source_touches_its_file_alone(tmp_path: Path) -> None:
    """No literal, no ladder, no list of names elsewhere; a name without a file is refused with those that have one."""
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "jobs", tree / "jobs", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("models", "infra"):
        (tree / name).symlink_to(ROOT / name)
    (tree / "jobs" / "sources" / "box_office.py").write_text(TICKETS)
    places = {"lake.root": str(tmp_path / "lake"), "lake.raw": str(tmp_path / "raw")}

    def ingest(source: str) -> "subprocess.CompletedProcess[str]":
        words = [sys.executable, "-m", "jobs", "ingest", "--day", "2026-03-01"]
        env = environment_of({**places, "source.name": source})
        return subprocess.run(words, cwd=tree, env=env, capture_output=True, text=True)

    done = ingest("box-office")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["rows"] == 10
    laid = (tmp_path / "raw" / "impressions" / "date=2026-03-01").glob("hour=*/*.parquet")
    assert sum(pq.read_metadata(path).num_rows for path in laid) == 10
    unknown = ingest("ticket-office")
    assert unknown.returncode == 78
    assert "one of box-office, kuairand, open-bandit, parquet, simulated" in unknown.stderr.splitlines()[-1]
