"""The raw lake's days on S3, where no folder can be swapped: a manifest says which objects a day of a table has.

    date=YYYY-MM-DD/_<digest>/hour=HH/part-0.parquet    put once, named by what it holds, seen by no reader
    date=YYYY-MM-DD/_manifest.json                      put last: {"files": ["_<digest>/hour=HH/part-0.parquet", …]}

One put of the manifest replaces a day of a table whole. It is put only over the one that was read: of two writers at a
time the slower one reads again, so neither loses the other's late events, and nobody holds a lock. A day without a
manifest is a team's own: all its files count.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.errors import NotReady, Refused
from jobs.places import S3Path

MANIFEST = "_manifest.json"
TRIES = 20
WRITERS = 8
"""At once: most of the time goes into waiting for S3."""
Named = Mapping[str, str]
"""Of a day's files: `hour=HH/<name>.parquet` to its key below the day's folder."""


def named(folder: S3Path) -> Named | None:
    """The files of a day, as its manifest names them; None where it has none."""
    return _read(folder)[0]


def _read(folder: S3Path) -> tuple[Named | None, str | None]:
    path = folder / MANIFEST
    try:
        content, tag = path.read_tagged()
        files: Sequence[str] = json.loads(content)["files"]
    except FileNotFoundError:
        return None, None
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"{path} needs to be a manifest that ingest wrote; found {error}") from error
    return {"/".join(PurePosixPath(key).parts[-2:]): key for key in files}, tag


def put(folder: S3Path, files: Mapping[str, pa.Table]) -> dict[str, str]:
    """Put files (`hour=HH/<name>.parquet` to rows) where nobody sees them; returns their keys below the folder."""

    def one(file: str) -> tuple[str, str]:
        sink = pa.BufferOutputStream()
        # Writing statistics of lists and strings nobody filters on costs a third of the time.
        pq.write_table(files[file], sink, write_statistics=False)
        return file, _stored(folder, file, sink.getvalue().to_pybytes())

    with ThreadPoolExecutor(WRITERS) as pool:
        return dict(pool.map(one, files))


def stored(folder: S3Path, contents: Mapping[str, bytes]) -> dict[str, str]:
    """As `put`, of files that are Parquet already."""
    return {file: _stored(folder, file, content) for file, content in contents.items()}


def _stored(folder: S3Path, file: str, content: bytes) -> str:
    key = f"_{digest(content)}/{file}"
    (folder / key).write_bytes(content)
    return key


def digest(content: bytes) -> str:
    """What an object is named by."""
    return hashlib.sha256(content).hexdigest()[:16]


def reveal(folder: S3Path, files: Named, instead_of: str | None = None) -> None:
    """A day has these files beside those it had, but for those whose names begin with what they are `instead_of`.

    Raises `NotReady` where other writers never stop.
    """
    for _ in range(TRIES):
        before, tag = _read(folder)
        stay = {
            file: key
            for file, key in (before or {}).items()
            if instead_of is None or not PurePosixPath(file).name.startswith(instead_of)
        }
        after = {**stay, **files}
        if before == after:
            return
        content = json.dumps({"files": sorted(after.values())}, indent=1)
        if (folder / MANIFEST).write_over(content.encode(), tag):
            return
    raise NotReady(f"{folder} is too busy: its manifest was replaced {TRIES} times meanwhile; run ingest again")


def leftovers(folder: S3Path, horizon: float) -> list[S3Path]:
    """Objects below a table's folder, older than the horizon, that a manifest beside them does not name."""
    objects = folder.objects()
    days = {path.parent for path in objects if path.name == MANIFEST}
    counted = {day / key for day in days for key in (named(day) or {}).values()}
    hidden = (path for path in objects if len(path.parts) > 2 and path.parts[-3].startswith("_"))
    return [path for path in hidden if path not in counted and objects[path].st_mtime < horizon]
