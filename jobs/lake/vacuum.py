"""What runs that died have left behind, and when it may go: never what any version names, never a live run's files."""

import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from jobs.config import Config
from jobs.lake import collected, raw_bucket, raw_quarantine, remembered
from jobs.lake.store import Lake
from jobs.lake.tables import LAKE, RAW
from jobs.places import Place, S3Path

DEAD_AFTER_HOURS = 24
"""Longer than any stage runs: what nothing has touched for so long belongs to no live run."""


def vacuum(config: Config) -> dict[str, int]:
    """Delete dead runs' part files, drafts of raw days and drafts of bundles; returns how many of each kind.

    Every version of every table stays readable. Safe while stages run, and safe to repeat.
    """
    lake = Lake(config.lake.root)
    return {
        "part_files": sum(vacuum_table(lake, table) for table in LAKE),
        "raw_drafts": sum(_vacuum_raw(config.lake.raw / name) for name in (*RAW, raw_quarantine.NAME)),
        "bundle_drafts": _vacuum_bundles(config.bundles),
    }


def vacuum_table(lake: Lake, table: str, now: float | None = None) -> int:
    """Delete part files that no version names, of runs that have written nothing for a day; returns how many."""
    folder, horizon = lake.root / table, _horizon(now)
    if isinstance(folder, S3Path):
        return _vacuum_objects(lake, table, folder, horizon)
    return _vacuum_files(lake, table, folder, horizon)


def _vacuum_objects(lake: Lake, table: str, folder: S3Path, horizon: float) -> int:
    # First who is dead, then what is named: a run that commits in between keeps its objects.
    dead = _dead(folder / "parts", horizon)
    named = lake.named(table) if dead else set()
    return _unlinked(path for path in dead if path not in named)


def _vacuum_files(lake: Lake, table: str, folder: Path, horizon: float) -> int:
    # First who is dead, then what is named: a run that commits in between keeps its files.
    dead = [run for run in (folder / "parts").glob("*") if _untouched(run, horizon)]
    named = lake.named(table) if dead else set()
    count = 0
    for run in dead:
        for path in sorted(run.rglob("*"), reverse=True):  # children come before their folder
            if path.is_dir():
                _drop_empty(path)
            elif path not in named:
                path.unlink()
                count += 1
        _drop_empty(run)
    # What a kill leaves of a log entry or a file of lineage before it has its name; readers skip it.
    for draft in (*(folder / "_delta_log").glob("*.json#*"), *(folder / remembered.FOLDER).glob(".*")):
        if draft.stat().st_mtime < horizon:
            draft.unlink()
    return count


def _vacuum_raw(folder: Place) -> int:
    if (gone := collected.vacuumed(folder.parent, folder.name, DEAD_AFTER_HOURS)) is not None:
        return gone
    if isinstance(folder, S3Path):
        return _unlinked(raw_bucket.leftovers(folder, _horizon()))
    return _clear(folder.glob(".date=*"), _horizon())


def _vacuum_bundles(folder: Place) -> int:
    if isinstance(folder, S3Path):
        drafts = {run for run in folder.iterdir() if run.name.startswith(".")}
        return sum(_unlinked(_dead(run.parent, _horizon(), run.name)) > 0 for run in drafts)
    return _clear(folder.glob(".*"), _horizon())


def _dead(folder: S3Path, horizon: float, run: str = "") -> list[S3Path]:
    """Objects below those folders in `folder` (or in that one) of which none was written after the horizon."""
    objects = (folder / run).objects() if run else folder.objects()
    depth = len(folder.parts)
    live = {path.parts[depth] for path, found in objects.items() if found.st_mtime >= horizon}
    return [path for path in objects if path.parts[depth] not in live]


def _unlinked(paths: Iterable[S3Path]) -> int:
    count = 0
    for path in paths:
        path.unlink()
        count += 1
    return count


def _horizon(now: float | None = None) -> float:
    return (time.time() if now is None else now) - DEAD_AFTER_HOURS * 3600


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
