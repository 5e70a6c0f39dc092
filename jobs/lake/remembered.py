"""What commits said of the partitions they published, kept beside a log that no longer has these commits' entries.

`<table>/_lineage/<digest>.json` is `{version: commit info}`. A file is never changed: another one with all there is to
say is put beside it, then it is deleted. So whoever reads while it is written, or writes at the same time, loses none.
Readers of Delta, and what vacuums a table for them, pass over folders with an underscore.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from jobs.errors import NotReady, Refused
from jobs.lake.swap import write_whole
from jobs.places import Place, listed

FOLDER = "_lineage"
TRIES = 5
Infos = dict[int, dict[str, Any]]
"""By version, what the commit said of itself."""


def read(table: Place) -> tuple[Infos, list[Place]]:
    """All that is remembered of a table, and the files it was read from; raises `Refused` naming one that is torn."""
    for _ in range(TRIES):
        paths = listed(table / FOLDER, "*.json")
        try:
            parts = [_parsed(path) for path in paths]
        except FileNotFoundError:
            continue  # another one says the same by now
        return {version: info for part in parts for version, info in part.items()}, paths
    raise NotReady(f"{table / FOLDER} needs to stay while it is read; it was replaced {TRIES} times: run again")


@lru_cache(64)
def _parsed(path: Place) -> Infos:
    try:
        return {int(version): dict(info) for version, info in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise Refused(f"{path} needs to be commits' lineage as `maintain` wrote it; found {error}") from error


def until(table: Place, version: int) -> Iterator[dict[str, Any]]:
    """What is remembered of the commits up to a version, newest first."""
    infos, _ = read(table)
    return (infos[found] for found in sorted(infos, reverse=True) if found <= version)


def write(table: Place, infos: Infos, instead_of: list[Place]) -> None:
    """Remember these, `instead_of` what the files said that they were read from."""
    text = json.dumps({str(version): infos[version] for version in sorted(infos)}, indent=0)
    path = table / FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    if path not in instead_of and infos:
        write_whole(path, text)
    for old in instead_of:
        if old != path:
            with suppress(FileNotFoundError):  # another maintenance was faster
                old.unlink()


def partition(info: Mapping[str, Any]) -> str | None:
    """Which partition a commit of Tidegate published, as its text; None of another engine's, or of none."""
    return info.get("tidegate.partition")
