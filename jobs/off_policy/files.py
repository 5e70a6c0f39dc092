"""The Parquet files that are asked about, their columns under our names, and their rows a batch at a time."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.errors import NotReady, Refused, UsageError
from jobs.lake.formats import table_format
from jobs.off_policy import columns
from jobs.off_policy.question import Question

BATCH = 65_536
OURS = (*columns.RULES, *columns.KEYS)


def files(path: Path) -> list[Path]:
    """The file, or the Parquet files below the folder, sorted; names that start with `.` or `_` are ignored.

    Raises `UsageError` where there is no such path, `NotReady` where a folder has none, `Refused` for one that belongs
    to a table with a log of its own.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UsageError(f"PATH must be a Parquet file or a folder of them; found nothing at {path}")
    below = (p.relative_to(path) for p in path.rglob("*.parquet") if p.is_file())
    found = sorted(path / p for p in below if not any(part.startswith((".", "_")) for part in p.parts))
    if not found:
        raise NotReady(f"{path} needs *.parquet files; found none")
    _refuse_tables(path, found)
    return found


def _refuse_tables(path: Path, found: Sequence[Path]) -> None:
    """Where a log says which files count, others beside them hold rows that were deleted or are there twice."""
    whole = path.absolute()
    below = {folder for file in found for folder in file.absolute().parents if folder.is_relative_to(whole)}
    for folder in (*sorted(below), *whole.parents):
        table = table_format(folder)
        if table is not None:
            raise Refused(
                f"{path} needs to be plain Parquet files; found a table at {folder} in the {table} format, whose "
                "own log says which of them count: export it first"
            )


def schemas_of(paths: Sequence[Path], names: Mapping[str, str]) -> dict[Path, pa.Schema]:
    """Each file's columns under our names.

    What `names` says is read instead of a column that is called so itself. Raises `UsageError` for a column that no
    file has, `Refused` where one has not, has one of ours twice, or is no Parquet file.
    """
    schemas = {path: _schema_of(path) for path in paths}
    for name, theirs in names.items():
        without = [path for path, schema in schemas.items() if theirs not in schema.names]
        if without:
            kind = UsageError if len(without) == len(paths) else Refused
            found = schemas[without[0]].names
            raise kind(f"--column {name}={theirs} needs {without[0]} to have the column {theirs}; found {found}")
    return {path: _as_ours(schema, names, path) for path, schema in schemas.items()}


def _schema_of(path: Path) -> pa.Schema:
    try:
        found = pq.read_schema(path)
        return pa.schema([found.field(i) for i in range(len(found.names))])
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise Refused(f"{path} needs to be a Parquet file; found: {_first_line(error)}") from error


def _as_ours(found: pa.Schema, names: Mapping[str, str], path: Path) -> pa.Schema:
    theirs = {name: names.get(name, name) for name in OURS}
    for name in theirs.values():
        if found.names.count(name) > 1:
            raise Refused(f"{path} needs each column once; found {name} {found.names.count(name)} times")
    ours = [found.field(column).with_name(name) for name, column in theirs.items() if column in found.names]
    return pa.schema([*ours, *(f for f in found if f.name not in {*theirs, *theirs.values()})])


def batches(path: Path, question: Question, names: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    """The question's columns of a file, a batch at a time; raises `Refused` where the file is broken."""
    wanted = [names.get(name, name) for name in question.columns]
    try:
        for batch in pq.ParquetFile(path).iter_batches(BATCH, columns=sorted(set(wanted))):
            yield batch.select(wanted).rename_columns(list(question.columns))
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise Refused(f"{path} needs to be readable; found: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
