"""`python -m jobs vacuum`: what dead runs left behind goes, what may belong to a live one stays."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from jobs import config
from tests.exactly_once.small_world import SmallWorld


def test_the_command_clears_what_died_a_day_ago(tmp_path: Path) -> None:
    """Part files, drafts of raw days and of bundles; of each a dead one and one that may be in use."""
    world = SmallWorld(tmp_path)
    left = {
        "part_files": tmp_path / "lake" / "labels" / "parts" / "{}" / "part-0.parquet",
        "raw_drafts": tmp_path / "raw" / "clicks" / ".date=2026-01-01.{}" / "part-0.parquet",
        "bundle_drafts": tmp_path / "bundles" / ".drafts-{}" / "ranker.json",
    }
    for path in left.values():
        for name in ("dead", "live"):
            file = Path(str(path).format(name))
            file.parent.mkdir(parents=True)
            file.write_bytes(b"half")
            if name == "dead":
                for old in (file, file.parent):
                    os.utime(old, (time.time() - 2 * 86_400,) * 2)
    command = [sys.executable, "-m", "jobs", "vacuum"]
    done = subprocess.run(command, cwd=config.ROOT, env=world.env(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == dict.fromkeys(left, 1)
    for path in left.values():
        assert not Path(str(path).format("dead")).exists()
        assert Path(str(path).format("live")).exists()
