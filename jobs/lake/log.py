"""A table's Delta log: opened by delta-rs, its entries, and the files its rows are in, whoever wrote last.

Any Delta writer may change a table: delete a person's rows, compact, repair. What it leaves is read, or it is refused
by name: no reader of Tidegate may give back rows that somebody has deleted.
Source of the protocol: https://github.com/delta-io/delta/blob/master/PROTOCOL.md
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import deltalake
import pyarrow as pa
from deltalake.exceptions import DeltaError, TableNotFoundError

from jobs.errors import Misconfigured, NotReady, Refused, TidegateError, of_the_disk, one_line
from jobs.places import Place, S3Path
from jobs.s3 import storage_options

FOLDER = "_delta_log"
MAPPING = "delta.columnMapping.mode"
Actions = list[dict[str, Any]]
ENTRY = "{:020}.json"
CHECKPOINT = re.compile(r"\d{20}\.checkpoint\..*")
INTERVAL = "delta.checkpointInterval"
CHECKPOINTS = {INTERVAL: "10"}
"""Of tables on S3: to open one asks for each entry since the last checkpoint; a disk reads a hundred at once."""
CLOSED = ("403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "NoSuchBucket")
"""What delta-rs says of a bucket that another try does not change."""
GAPS = ("not the same as the specified end version", "Gap between checkpoint version")
"""What delta-rs says of a version whose entries were cut off."""
EXPIRED = "table {table} needs a log that reaches back to version {version}; `maintain` keeps lake.retain_days of it"
File = tuple[str, dict[str, str]]
"""The absolute path of a part file, and the values of its partition columns."""


def opened(root: Place, table: str, version: int | None = None) -> deltalake.DeltaTable | None:
    """The table below `root` at a version (the newest by default); None where there is none yet.

    Raises `Refused` where the log cannot be read, or only with a loss: an entry without content, which a power cut
    leaves behind, would be skipped and its rows with it.
    """
    log = root / table / FOLDER
    if isinstance(log, Path):
        if not log.is_dir():
            return None
        hollow = [entry.name for entry in os.scandir(log) if entry.name.endswith(".json") and _is_hollow(entry)]
        if hollow:
            raise Refused(f"table {table} needs a readable log; found nothing in {log}/{min(hollow)}")
    try:
        return _at(root, table, version)
    except TableNotFoundError as error:
        if version is None or opened(root, table) is None:
            return None
        raise Refused(f"{EXPIRED.format(table=table, version=version)}; found no entry of it in {log}") from error
    except (DeltaError, OSError) as error:
        if version is not None and any(words in str(error) for words in GAPS):
            raise Refused(f"{EXPIRED.format(table=table, version=version)}; found: {one_line(error, 200)}") from error
        at = "" if version is None else f" at version {version}"
        raise blamed(f"table {table} needs a readable log{at} in {log}", error) from error


def _at(root: Place, table: str, version: int | None) -> deltalake.DeltaTable:
    def once() -> deltalake.DeltaTable:
        return deltalake.DeltaTable(str(root / table), version=version, storage_options=options(root))

    try:
        return once()
    except TableNotFoundError:
        raise
    except DeltaError:
        # Between a look at the log and its reading, maintenance may have put another checkpoint for an older one.
        return once()


def checkpoint(root: Place, table: str, version: int | None = None) -> None:
    """A version (the newest by default) can be read without the entries before it; raises as `opened` does."""
    delta = opened(root, table, version)
    try:
        if delta is not None:
            delta.create_checkpoint()
    except (DeltaError, OSError) as error:
        raise blamed(f"table {table} needs a log that takes checkpoints", error) from error


def move_on(delta: deltalake.DeltaTable, table: str) -> None:
    """Bring an open table to its newest version; raises as `opened` does."""
    try:
        delta.update_incremental()
    except (DeltaError, OSError) as error:
        raise blamed(f"table {table} needs a readable log", error) from error


def options(root: Place) -> dict[str, str] | None:
    """What delta-rs needs to know of a place."""
    return None if isinstance(root, Path) else storage_options()


def newest(folder: S3Path, known: int) -> int:
    """The newest version of a table on S3, no older than one that is known, in one request."""
    names = (path.stem for path in (folder / FOLDER).after(ENTRY.format(known)) if path.suffix == ".json")
    return max((int(name) for name in names if name.isdigit()), default=known)


def contents(folder: Place) -> dict[str, float]:
    """What lies in the log of the table in `folder`, by name, and when it was written, seconds since 1970."""
    log = folder / FOLDER
    if isinstance(log, S3Path):
        return {path.name: found.st_mtime for path, found in log.objects().items() if path.parent == log}
    found = {}
    for entry in os.scandir(log) if log.is_dir() else ():
        with suppress(FileNotFoundError):  # another engine is cleaning the log up
            found[entry.name] = entry.stat().st_mtime
    return found


def version_of(name: str) -> int:
    """The version that something in a log is named after; -1 where it has another kind of name."""
    return int(name[:20]) if name[:20].isdigit() else -1


def checkpoints(names: Iterable[str]) -> set[int]:
    """Of the names in a log, the versions that can be read without any entry before them."""
    return {int(name[:20]) for name in names if CHECKPOINT.match(name)}


def _is_hollow(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.stat().st_size == 0
    except FileNotFoundError:
        return False  # another engine is cleaning the log up


def entries(newest: int, base: int, read: Callable[[int], Actions]) -> Iterator[Actions]:
    """The actions of each entry after version `base`, newest first: what is asked for is mostly recent.

    Ends early where the log has been cleaned up. `read` raises as `actions` does, of a version's entry.
    """
    for version in range(newest, base, -1):
        try:
            yield read(version)
        except FileNotFoundError:
            return


def actions(path: Place, table: str) -> Actions:
    """What one entry of the log does; raises `Refused` naming it where it cannot be read.

    Raises FileNotFoundError where there is none.
    """
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


def files(delta: deltalake.DeltaTable, root: Place, table: str) -> list[File]:
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


def refuse_unreadable(delta: deltalake.DeltaTable, root: Place, table: str, found: list[File]) -> None:
    """Raises `Refused` naming a part file that is gone, or that holds rows somebody deleted by a deletion vector.

    Such a vector lies beside the file: pyarrow and Spark, which read the files, would give the rows back. On S3 nobody
    asks for each file whether it is there: whoever reads it is told.
    """
    paths = [path for path, _ in found]
    here = paths if isinstance(root, Path) else []
    gone = next((path for path in here if not os.path.exists(path)), None)
    if gone is not None:
        raise Refused(f"table {table} needs the part file {gone}, which its log names; found no such file")
    if "deletionVectors" not in (delta.protocol().reader_features or ()):
        return
    vectors = pa.table(delta.deletion_vectors()).column("filepath").to_pylist()
    # A folder's files are URIs of their own there.
    marked = {unquote(urlsplit(uri).path if isinstance(root, Path) else uri) for uri in vectors} & set(paths)
    if marked:
        raise Refused(
            f"table {table} needs part files without deletion vectors: its readers would give the deleted rows back; "
            f"found {len(marked)} with one, such as {min(marked)}: rewrite them (REORG TABLE … APPLY (PURGE))"
        )


def blamed(needs: str, error: Exception) -> TidegateError:
    """What an error of a library comes to: a trouble of the disk, which may pass, else `Refused` in its own words."""
    said = str(error)
    if "Generic S3 error" in said or "error sending request" in said:
        kind = Misconfigured if any(word in said for word in CLOSED) else NotReady
        return kind(f"{needs}, which S3 must give; found: {one_line(error, 300)}")
    return of_the_disk(error) or Refused(f"{needs}; found: {one_line(error, 300) or type(error).__name__}")
