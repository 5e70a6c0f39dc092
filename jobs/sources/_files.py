"""Reading a real log's own files, with errors that name the setting, what was needed and what was found."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from jobs.errors import Misconfigured


def folder_of(data: Path | None, source: str, layout: str) -> Path:
    """The folder `source.data` names; raises `Misconfigured` where it is unset or not there."""
    if data is None:
        raise Misconfigured(f"source.name={source} needs source.data, a folder with {layout}; found none set")
    if not data.is_dir():
        raise Misconfigured(f"source.data must be a folder with {layout}; found no folder at {data}")
    return data


def read_csv(content: pa.Buffer | Path, name: str, columns: Sequence[str], strings: Sequence[str] = ()) -> pa.Table:
    """The named columns of a CSV file, `strings` unparsed; raises `Misconfigured` where it is not what is needed."""
    types = dict.fromkeys(strings, pa.string())
    options = pa.csv.ConvertOptions(include_columns=list(columns), column_types=types, strings_can_be_null=True)
    try:
        return pa.csv.read_csv(
            pa.BufferReader(content) if isinstance(content, pa.Buffer) else content, convert_options=options
        )
    except FileNotFoundError as error:
        raise Misconfigured(f"source.data needs the file {name}; found none") from error
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        raise _wrong(name, columns, error) from error


def whole_numbers(rows: pa.Table, name: str) -> pa.Table:
    """The columns of file `name` as int64; raises `Misconfigured` naming all that are no whole numbers."""
    wrong, columns = [], {}
    for column in rows.column_names:
        try:
            columns[column] = rows.column(column).cast(pa.int64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            wrong.append(f"{column}: {str(error).splitlines()[0]}")
    if wrong:
        raise Misconfigured(f"source.data: {name} needs whole numbers in every column; found {'; '.join(wrong)}")
    return pa.table(columns)


def read_parquet(path: Path, columns: Sequence[str]) -> pa.Table:
    """The named columns of a Parquet file; raises `Misconfigured` where it is not what is needed."""
    try:
        file = pq.ParquetFile(path)
        missing = [c for c in columns if c not in file.schema_arrow.names]
        if missing:
            raise Misconfigured(f"source.data: {path.name} needs the columns {list(columns)}; missing {missing}")
        return file.read(columns=list(columns))
    except FileNotFoundError as error:
        raise Misconfigured(f"source.data needs the file {path.name}; found none in {path.parent}") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise _wrong(path.name, columns, error) from error


def _wrong(name: str, columns: Sequence[str], error: Exception) -> Misconfigured:
    found = str(error).splitlines()[0]
    return Misconfigured(f"source.data: {name} needs readable columns {list(columns)}; found: {found}")
