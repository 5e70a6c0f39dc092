"""A table's Delta log: opened by delta-rs, its entries, and the files its rows are in, whoever wrote last.

Any Delta writer may change a table: delete a person's rows, compact, repair. What it leaves is read, or it is refused
by name: no reader of Tidegate may give back rows that somebody has deleted.
Source of the protocol: https://github.com/delta-io/delta/blob/master/PROTOCOL.md
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import deltalake
import pyarrow as pa
from deltalake.exceptions import DeltaError, TableNotFoundError

from jobs.errors import Refused, TidegateError, of_the_disk, one_line

FOLDER = "_delta_log"
MAPPING = "delta.columnMapping.mode"
Actions = list[dict[str, Any]]
File = tuple[str, dict[str, str]]
"""The absolute path of a part file, and the values of its partition columns."""


def opened(root: Path, table: str, version: int | None = None) -> deltalake.DeltaTable | None:
    """The table below `root` at a version (the newest by default); None where there is none yet.

    Raises `Refused` where the log cannot be read, or only with a loss: an entry without content, which a power cut
    leaves behind, would be skipped and its rows with it.
    """
    log = root / table / FOLDER
    if not log.is_dir():
        return None
    hollow = [entry.name for entry in os.scandir(log) if entry.name.endswith(".json") and _is_hollow(entry)]
    if hollow:
        raise Refused(f"table {table} needs a readable log; found nothing in {log}/{min(hollow)}")
    try:
        return deltalake.DeltaTable(str(root / table), version=version)
    except TableNotFoundError:
        return None
    except DeltaError as error:
        at = "" if version is None else f" at version {version}"
        raise blamed(f"table {table} needs a readable log{at} in {log}", error) from error


def _is_hollow(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.stat().st_size == 0
    except FileNotFoundError:
        return False  # another engine is cleaning the log up


def entries(root: Path, table: str, newest: int, base: int) -> Iterator[Actions]:
    """The actions of each entry after version `base`, newest first: what is asked for is mostly recent.

    Ends early where another engine has cleaned the log up. Raises `Refused` naming an entry that cannot be read.
    """
    for version in range(newest, base, -1):
        path = root / table / FOLDER / f"{version:020}.json"
        try:
            yield actions(path, table)
        except FileNotFoundError:
            return


def actions(path: Path, table: str) -> Actions:
    """What one entry of the log does; raises `Refused` naming it where it cannot be read."""
    try:
        found = [json.loads(line) for line in path.read_text().splitlines() if line]
    except (ValueError, IsADirectoryError) as error:
        raise Refused(f"table {table} needs a readable log; found in {path}: {error}") from error
    strange = [action for action in found if not isinstance(action, dict)]
    if strange:
        raise Refused(f"table {table} needs a readable log; found in {path}: {strange[0]!r}")
    return found


def info(actions: Actions) -> dict[str, Any]:
    """What a commit says of itself."""
    return next((action["commitInfo"] for action in actions if "commitInfo" in action), {})


def files(delta: deltalake.DeltaTable, root: Path, table: str) -> list[File]:
    """The part files of a version, sorted by partition.

    Raises `Refused` where the table's columns have other names in its files than in its schema.
    """
    mapping = delta.metadata().configuration.get(MAPPING, "none")
    if mapping != "none":
        raise Refused(f"table {table} needs columns that its files have by their names; found {MAPPING}={mapping}")
    batch = pa.table(delta.get_add_actions(flatten=False))
    rows = batch.select(["path", "partition"]).to_pylist() if batch.num_rows else []
    base = root / table
    found = [(str(base / unquote(row["path"])), {k: str(v) for k, v in row["partition"].items()}) for row in rows]
    return sorted(found, key=lambda add: (sorted(add[1].items()), add[0]))


def refuse_unreadable(delta: deltalake.DeltaTable, table: str, found: list[File]) -> None:
    """Raises `Refused` naming a part file that is gone, or that holds rows somebody deleted by a deletion vector.

    Such a vector lies beside the file: pyarrow and Spark, which read the files, would give the rows back.
    """
    paths = [path for path, _ in found]
    gone = next((path for path in paths if not os.path.exists(path)), None)
    if gone is not None:
        raise Refused(f"table {table} needs the part file {gone}, which its log names; found no such file")
    if "deletionVectors" not in (delta.protocol().reader_features or ()):
        return
    vectors = pa.table(delta.deletion_vectors()).column("filepath").to_pylist()
    marked = {unquote(urlsplit(uri).path) for uri in vectors} & set(paths)
    if marked:
        raise Refused(
            f"table {table} needs part files without deletion vectors: its readers would give the deleted rows back; "
            f"found {len(marked)} with one, such as {min(marked)}: rewrite them (REORG TABLE … APPLY (PURGE))"
        )


def blamed(needs: str, error: Exception) -> TidegateError:
    """What an error of a library comes to: a trouble of the disk, which may pass, else `Refused` in its own words."""
    return of_the_disk(error) or Refused(f"{needs}; found: {one_line(error, 300) or type(error).__name__}")
