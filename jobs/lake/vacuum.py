"""What runs that died have left behind, and when it may go: never what any version names, never a live run's files."""

import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from jobs.config import Config
from jobs.lake.store import Lake
from jobs.lake.tables import LAKE, RAW

DEAD_AFTER_HOURS = 24
"""Longer than any stage runs: what nothing has touched for so long belongs to no live run."""


def vacuum(config: Config) -> dict[str, int]:
    """Delete dead runs' part files, drafts of raw days and drafts of bundles; returns how many of each kind.

    Every version of every table stays readable. Safe while stages run, and safe to repeat.
    """
    lake = Lake(config.lake.root)
    drafts = [path for name in RAW for path in (config.lake.raw / name).glob(".date=*")]
    return {
        "part_files": sum(vacuum_table(lake, table) for table in LAKE),
        "raw_drafts": _clear(drafts, _horizon()),
        "bundle_drafts": _clear(config.bundles.glob(".*"), _horizon()),
    }


def vacuum_table(lake: Lake, table: str) -> int:
    """Delete part files that no version names, of runs that have written nothing for a day; returns how many."""
    horizon = _horizon()
    # First who is dead, then what is named: a run that commits in between keeps its files.
    dead = [folder for folder in (lake.root / table / "parts").glob("*") if _untouched(folder, horizon)]
    named = lake.named(table) if dead else set()
    count = 0
    for folder in dead:
        for path in sorted(folder.rglob("*"), reverse=True):  # children come before their folder
            if path.is_dir():
                _drop_empty(path)
            elif path not in named:
                path.unlink()
                count += 1
        _drop_empty(folder)
    # What a kill between delta-rs's draft of a log entry and its link leaves; readers skip the name.
    for draft in (lake.root / table / "_delta_log").glob("*.json#*"):
        if draft.stat().st_mtime < horizon:
            draft.unlink()
    return count


def _horizon() -> float:
    return time.time() - DEAD_AFTER_HOURS * 3600


def _untouched(folder: Path, horizon: float) -> bool:
    """Whether nothing in the folder changed after the horizon; a folder that vanishes meanwhile is somebody else's."""
    try:
        return all(path.stat().st_mtime < horizon for path in (folder, *folder.rglob("*")))
    except FileNotFoundError:
        return False


def _drop_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()


def _clear(folders: Iterable[Path], horizon: float) -> int:
    dead = [folder for folder in folders if _untouched(folder, horizon)]
    for folder in dead:
        shutil.rmtree(folder)
    return len(dead)
