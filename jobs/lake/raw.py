"""A day of a raw table as its files hold it, with a fingerprint that changes when any of them does."""

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePath

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.errors import NotReady, Refused, if_never, of_the_disk, one_line
from jobs.flow import SNAPSHOTS
from jobs.lake import collected, raw_bucket
from jobs.lake.formats import table_format
from jobs.lake.tables import RAW, STR
from jobs.places import Place, S3Path, content, footer, parquet

REQUIRED = "impressions"
"""The one table every day has; of the others a day without a file is a day on which nothing happened, unless
`source.daily` promises one."""
HOUR = re.compile(r"hour=\d\d/[^/\x00-\x1f\ud800-\udfff]+\.parquet")
"""Names are UTF-8 without line breaks: they appear in sentences, and Arrow opens no others."""
HELD = re.compile(r"/_([0-9a-f]{16})/hour=")
"""In the key of an object that is named by what it holds (`jobs.lake.raw_bucket`)."""
HIDDEN = (".", "_")
UNFINISHED = (".tmp", ".part", ".partial", ".inprogress")
REPLACED = "raw file {} needs to stay while it is read; it was replaced: run again"
READERS = 4
"""Hour files are small: most of the time goes into opening them."""


@dataclass(frozen=True)
class Part:
    """All rows of a day's files that share one schema; `file` is the first of them, for messages.

    Texts that repeat in all of these files, and lists of such, are dictionaries.
    """

    file: Place
    rows: pa.Table


@dataclass(frozen=True)
class RawDay:
    """What lies in one `<raw>/<table>/date=…` folder."""

    parts: tuple[Part, ...]
    fingerprint: str


def files(raw: Place, table: str, day: date) -> list[Place]:
    """The Parquet files of a day, sorted: none where nothing happened, of a snapshot those of the newest day with any.

    Raises `NotReady` naming the folder where impressions have none: that day has not come yet. Names that begin with
    a dot or an underscore are the writer's own; anything else that is no `hour=HH/….parquet` raises `Refused`: the rows
    it may hold would be missed in silence. So does a folder that is a table of Delta, Iceberg or Hudi.
    """
    found = _files(raw, table, day)
    if not found and table == REQUIRED:
        raise NotReady(f"{_nothing(raw, table, day)}{if_never(day)}")
    if not found and table in SNAPSHOTS:
        earlier = (before for before in days(raw / table) if before < day)
        return next(filter(None, (_files(raw, table, before) for before in earlier)), [])
    return found


def refuse_missing(raw: Place, day: date, promised: Collection[str]) -> dict[str, list[Place]]:
    """The files of each table of a day; raises as `files` does, and `NotReady` for a table that is promised of every
    day and has no file of this one.
    """
    found = {}
    for table in RAW:
        found[table] = files(raw, table, day)
        if table in promised and not (found[table] and _files(raw, table, day)):
            raise NotReady(f"{_nothing(raw, table, day)}; {how_to_do_without([table])}")
    return found


def how_to_do_without(tables: Collection[str]) -> str:
    """What to do about promised tables that have no file of a day."""
    named = ", ".join(tables)
    absent = "declare a day without any by one file without rows"
    return f"source.daily promises {named}: {absent}, or no longer promise {named}"


def _nothing(raw: Place, table: str, day: date) -> str:
    folder = raw / table / f"date={day.isoformat()}"
    state = "no Parquet file in it" if folder.is_dir() else "no such folder"
    return f"raw {table} of {day} needs {folder}/hour=HH/*.parquet; found {state}"


def days(folder: Place) -> list[date]:
    """The days that have a folder, newest first."""
    found = []
    for path in folder.glob("date=????-??-??"):
        with suppress(ValueError):
            found.append(date.fromisoformat(path.name.removeprefix("date=")))
    return sorted(found, reverse=True)


def _files(raw: Place, table: str, day: date) -> list[Place]:
    """The files in a day's own folder."""
    folder = raw / table / f"date={day.isoformat()}"
    if isinstance(folder, S3Path) and (named := raw_bucket.named(folder)) is not None:
        return sorted((folder / key for key in named.values()), key=lambda path: path.parts[-2:])
    if (collected_files := _collected(raw, table, day)) is not None:
        return collected_files
    if isinstance(folder, Path) and folder.is_file():
        raise Refused(f"raw {table} of {day} needs a folder {folder}; found a file of that name")
    found: list[Place] = []
    strange: list[Place] = []
    for path in _below(folder):
        (found if HOUR.fullmatch(_within(path, folder).as_posix()) and _is_file(path) else strange).append(path)
    unfinished = [_within(path, folder).as_posix() for path in strange if path.suffix in UNFINISHED]
    if unfinished:
        raise NotReady(
            f"raw {table} of {day} needs files that are not still written; found {', '.join(unfinished[:3])}"
        )
    if strange:
        raise Refused(
            f"raw {table} of {day} needs nothing but files hour=HH/*.parquet below {folder}; found "
            f"{', '.join(_printable(_within(path, folder)) for path in strange[:3])}; nothing of {day} was published"
        )
    return found


def _collected(raw: Place, table: str, day: date) -> list[Place] | None:
    """The files of a day of a table that is collected here; None of plain files. Raises `Refused` for any other table
    of a format.
    """
    folder = raw / table
    found = table_format(folder)
    if found == "Delta" and (files := collected.files(raw, table, day)) is not None:
        return files
    if found is not None:
        raise Refused(
            f"folder {folder} needs to hold plain Parquet files, each of which counts; found a table in the {found} "
            "format, whose own log says which do: export it as plain files"
        )
    return None


def _is_file(path: Place) -> bool:
    """Of S3 only objects are listed."""
    return isinstance(path, S3Path) or path.is_file()


def _within(path: Place, folder: Place) -> PurePath:
    return path.relative_to(folder)  # type: ignore[arg-type]  # both are of one kind


def _printable(path: PurePath) -> str:
    """A name that may be any bytes, for a sentence."""
    return ascii(path.as_posix())[1:-1]


def _below(folder: Place) -> Iterator[Place]:
    """What lies in a day's folder and in its hours, sorted; folders that are no hour are not entered."""
    if isinstance(folder, S3Path):
        for path in folder.rglob("*"):
            if not any(name.startswith(HIDDEN) for name in path.relative_to(folder).parts):
                yield path
        return
    try:
        for entry in sorted(folder.iterdir()):
            if entry.name.startswith(HIDDEN):
                continue
            if entry.name.startswith("hour=") and entry.is_dir():
                yield from (path for path in sorted(entry.iterdir()) if not path.name.startswith(HIDDEN))
            else:
                yield entry
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise _passing(error) or Refused(f"raw folder {folder} needs to be readable; found {error.strerror}") from error


def arrived(raw: Place, day: date, promised: Collection[str]) -> bool:
    """Whether a day has impressions and all that is promised of it."""
    try:
        refuse_missing(raw, day, promised)
    except NotReady:
        return False
    return True


def fingerprint(raw: Place, table: str, day: date, instead: Mapping[Place, bytes] | None = None) -> str:
    """Sixteen hex digits over the names and contents of a day's files, none of which is held whole; of S3 none is read.

    `instead`: as it will be once some of them have these contents, each put in one request and not encrypted by a key.
    """
    return fingerprint_of(files(raw, table, day), instead)


def fingerprint_of(paths: Iterable[Place], instead: Mapping[Place, bytes] | None = None) -> str:
    """`fingerprint` of what `files` found."""
    paths, new = list(paths), {path: _mark_of(path, content) for path, content in (instead or {}).items()}
    marks = {**_marks([path for path in paths if path not in new]), **new}
    return _digest((path, marks[path]) for path in paths)


def _marks(paths: Iterable[Place]) -> dict[Place, str]:
    """What tells each file's content from any other: its sha256; of S3, where to read is to fetch, what is listed."""
    tagged = [path for path in paths if isinstance(path, S3Path) and not HELD.search(path.key)]
    there = {
        path: found for folder in {path.parent.parent for path in tagged} for path, found in folder.objects().items()
    }

    def mark(path: Place) -> str:
        if isinstance(path, Path):
            return _sha256(path)
        if held := HELD.search(path.key):
            return held[1]
        if path not in there:
            raise NotReady(REPLACED.format(path))
        return _of_object(there[path].st_size, there[path].tag)

    return {path: mark(path) for path in paths}


def _mark_of(path: Place, content: bytes) -> str:
    """What the mark of a file will be."""
    if isinstance(path, Path):
        return hashlib.sha256(content).hexdigest()
    if HELD.search(path.key):
        return raw_bucket.digest(content)
    return _of_object(len(content), f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"')


def _of_object(size: int, tag: str) -> str:
    return f"{size}:{tag}"


def read(raw: Place, table: str, day: date) -> RawDay:
    """A day of a table; raises `Refused` naming a file that is not Parquet, and as `files` does."""
    return read_files(files(raw, table, day))


def read_files(paths: Sequence[Place]) -> RawDay:
    """`read` of what `files` found."""
    with ThreadPoolExecutor(READERS) as pool:
        tables = list(pool.map(_coded, paths))
    by_schema: dict[str, tuple[Place, list[pa.Table]]] = {}
    for path, (schema, rows, _) in zip(paths, tables, strict=True):
        by_schema.setdefault(schema.to_string(), (path, []))[1].append(rows)
    parts = tuple(Part(path, _concat(rows)) for path, rows in by_schema.values())
    marks = (mark for _, _, mark in tables)
    return RawDay(parts, _digest(zip(paths, marks, strict=True)))


def _marked(path: Place) -> tuple[bytes, str]:
    """A file's content, and the mark of just that."""
    if isinstance(path, S3Path) and not HELD.search(path.key):
        with _readable(path):
            whole, tag = path.read_tagged()
        return whole, _of_object(len(whole), tag)
    whole = _bytes(path)
    return whole, _mark_of(path, whole)


def _bytes(path: Place) -> bytes:
    with _readable(path):
        return content(path)


def _sha256(path: Path) -> str:
    with _readable(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _readable(path: Place) -> Iterator[None]:
    """The system's errors about a file in words of what to do."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotReady(REPLACED.format(path)) from error
    except OSError as error:
        raise _passing(error) or Refused(f"raw file {path} needs to be readable; found {error.strerror}") from error


def parse(path: Place, at_hand: bytes | None = None) -> pa.Table:
    """The rows of one file, whose content is at hand or read; raises `Refused` naming it where it is not Parquet, or
    its values are not valid.
    """
    return _parse(path, _bytes(path) if at_hand is None else at_hand)


def schema(path: Place) -> pa.Schema:
    """The columns of one file; raises as `parse` does."""
    with _parquet(path):
        return parquet(path).schema_arrow.remove_metadata()


def columns(path: Place, names: Collection[str]) -> pa.Table:
    """Some columns of one file, those of the names that it has; raises as `parse` does."""
    with _parquet(path):
        file = parquet(path, page_checksum_verification=True)
        there = [name for name in file.schema_arrow.names if name in names]
        return file.read(there, use_threads=False).replace_schema_metadata(None)


def groups(path: Place, column: str) -> Iterator[pa.ChunkedArray]:
    """One column of a file, row group by row group; raises as `parse` does."""
    with _parquet(path):
        file = parquet(path)
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=[column]).column(column)


def rows(paths: Iterable[Place]) -> int:
    """How many rows files say they hold; one that is unreadable counts as none and is refused later."""
    total = 0
    for path in paths:
        with suppress(pa.ArrowException, OSError):
            total += int(footer(path).num_rows)
    return total


def _parse(path: Place, whole: bytes) -> pa.Table:
    rows = _rows(path, whole)
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            found = f"column {one_line(name, 60)}; found {one_line(error, 300)}"
            raise Refused(f"raw file {path} needs valid values in {found}") from error
    return rows


def _rows(path: Place, whole: bytes, as_codes: Sequence[str] = ()) -> pa.Table:
    with _parquet(path):
        # Through ParquetFile: a dataset reader would add the date and hour of the path as columns.
        file = pq.ParquetFile(pa.BufferReader(whole), page_checksum_verification=True, read_dictionary=as_codes)
        return file.read(use_threads=False).replace_schema_metadata(None)


def _coded(path: Place) -> tuple[pa.Schema, pa.Table, str]:
    """The schema of one file, its rows with texts that repeat as the file's own dictionaries, and its mark."""
    whole, mark = _marked(path)
    with _parquet(path):
        file = pq.ParquetFile(pa.BufferReader(whole))
        schema, as_codes = file.schema_arrow.remove_metadata(), _repeating(file)
    try:
        rows = _rows(path, whole, as_codes)
        for column in rows.columns:
            column.validate(full=True)
    except (Refused, pa.ArrowInvalid):
        # Arrow takes a dictionary for one without copies; and what is wrong is said of the values themselves.
        rows = _parse(path, whole)
    return schema, rows, mark


def _repeating(file: pq.ParquetFile) -> list[str]:
    """The paths of texts that take less than the four bytes of each one's own length: a dictionary holds them all."""
    metadata, types = file.metadata, {field.name: field.type for field in file.schema_arrow}
    groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    found = []
    for n in range(metadata.num_columns):
        path = metadata.schema.column(n).path
        if types.get(path.split(".")[0]) not in (STR, pa.list_(STR)):
            continue
        chunks = [group.column(n) for group in groups]
        if sum(one.total_uncompressed_size for one in chunks) < 4 * sum(one.num_values for one in chunks):
            found.append(path)
    return found


def _concat(tables: Sequence[pa.Table]) -> pa.Table:
    """Rows of files of one schema, of which some may hold texts as codes that others do not."""
    fields = []
    for n, field in enumerate(tables[0].schema):
        plain = pa.list_(STR) if pa.types.is_list(field.type) else STR
        same = all(table.schema.field(n).type == field.type for table in tables)
        fields.append(field if same else field.with_type(plain))
    return pa.concat_tables([table.cast(pa.schema(fields)) for table in tables])


@contextmanager
def _parquet(path: Place) -> Iterator[None]:
    """What Arrow says of bytes that are no Parquet, or of names in them that are no text."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotReady(REPLACED.format(path)) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        raise _passing(error) or Refused(
            f"raw file {path} needs to be Parquet; found {one_line(error, 300)}"
        ) from error


def _passing(error: Exception) -> NotReady | None:
    """A disk that does not answer is no fault of what lies on it."""
    found = of_the_disk(error)
    return found if isinstance(found, NotReady) else None


def _digest(found: Iterable[tuple[Place, str]]) -> str:
    whole = hashlib.sha256()
    for path, digest in found:
        name = "/".join(path.parts[-2:])
        whole.update(f"{name}:{digest}\n".encode())
    return whole.hexdigest()[:16]
