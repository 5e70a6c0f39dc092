"""Copies, columns, files and folders as broken loggers, uploads and exports leave them."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.lake.tables import EVENTS, RAW
from tests.jobs.validate.corruptions import (
    DAY,
    HARMLESS,
    ROW,
    Change,
    Corruptions,
    aside,
    file_of,
    not_ready,
    refused,
    warned,
)
from tests.jobs.validate.raw_days import FIRST, N, put, retyped, tables_of, write

FILES = Corruptions()


# -- copies -------------------------------------------------------------------------------------------
def _again(table: str, change: Change | None = None, hour: int = 10) -> Callable[[Path], None]:
    """One row once more, in a file of its own."""

    def apply(raw: Path) -> None:
        row = tables_of(FIRST)[table].slice(ROW, 1)
        write(raw, FIRST, {table: row if change is None else change(row)}, file="part-1.parquet", hour=hour)

    return apply


for table in RAW:
    FILES.rows_of(
        table,
        "a row twice in one file",
        lambda rows: pa.concat_tables([rows, rows.slice(ROW, 1)]),
        aside(f"{RAW[table].key[0]}_unique"),
    )
FILES.of_files(
    "impressions", "a row again in another hour's file", _again("impressions", hour=23), aside("impression_id_unique")
)
FILES.of_files(
    "purchases",
    "one id for two purchases",
    _again("purchases", lambda row: put(row, "value", 1.0, 0)),
    aside("purchase_id_unique"),
)
FILES.of_files(
    "clicks",
    "a file delivered twice",
    lambda raw: write(raw, FIRST, {"clicks": tables_of(FIRST)["clicks"]}, file="retry.parquet"),
    aside("click_id_unique", N),
)
FILES.rows_of(
    "clicks",
    "one id for all clicks",
    lambda rows: retyped(rows, "click_id", pa.array(["c"] * N)),
    refused("found 39 of 40 bad: click_id_unique"),
)
for table in EVENTS:
    key = RAW[table].key[0]
    FILES.one_value(table, "an id of the day before", key, f"{table[0]}31-07", aside(f"{key}_new"))


# -- columns ------------------------------------------------------------------------------------------
FILES.rows_of(
    "impressions",
    "a required column is missing",
    lambda rows: rows.drop_columns(["item_id"]),
    refused("needs column item_id of type string; found no such column"),
)
FILES.rows_of(
    "impressions",
    "the propensity column is missing",
    lambda rows: rows.drop_columns(["propensity"]),
    warned("propensity_share"),
)
FILES.rows_of(
    "impressions", "the user column is missing", lambda rows: rows.drop_columns(["user_id"]), warned("user_share")
)
FILES.rows_of(
    "clicks",
    "an extra column",
    lambda rows: rows.append_column("button", pa.array(["left"] * N)),
    warned("columns_known"),
)
FILES.rows_of(
    "clicks",
    "a required column in capitals",
    lambda rows: rows.rename_columns({"event_time": "EVENT_TIME"}),
    refused("needs column event_time .*; found no such column among .*EVENT_TIME"),
)
FILES.rows_of(
    "clicks",
    "an optional column in other words",
    lambda rows: rows.rename_columns({"ingested_at": "ingestedAt"}),
    warned("columns_known"),
)
FILES.rows_of(
    "users",
    "a column twice",
    lambda rows: pa.table([*rows.columns, rows.column(0)], names=[*rows.column_names, "user_id"]),
    refused("needs each column once; found user_id more than once"),
)
FILES.rows_of(
    "items",
    "no columns at all",
    lambda rows: rows.select([]),
    refused("needs column item_id of type string; found no such column"),
)
FILES.rows_of("impressions", "columns in another order", lambda rows: rows.select(rows.column_names[::-1]), HARMLESS)
FILES.rows_of(
    "users",
    "a feature that is a list",
    lambda rows: rows.append_column("feature_vector", pa.array([[1.0]] * N)),
    warned("columns_known"),
)


def _halves(table: str, change: Change) -> Callable[[Path], None]:
    """The day's second half in another hour's file, written by a logger of another version."""

    def apply(raw: Path) -> None:
        rows = tables_of(FIRST)[table]
        write(raw, FIRST, {table: rows.slice(0, N // 2)})
        write(raw, FIRST, {table: change(rows.slice(N // 2))}, hour=11)

    return apply


FILES.of_files(
    "impressions",
    "an hour's file lacks a required column",
    _halves("impressions", lambda rows: rows.drop_columns(["policy"])),
    refused(r"needs column policy .*hour=11"),
)
FILES.of_files(
    "impressions",
    "an hour's file lacks propensities",
    _halves("impressions", lambda rows: rows.drop_columns(["propensity"])),
    warned("propensity_share"),
)
FILES.of_files(
    "impressions",
    "an hour's file has ids of another type",
    _halves("impressions", lambda rows: retyped(rows, "user_id", pa.array(range(N // 2)))),
    refused(r"needs column user_id of type string; found type int64 .*hour=11"),
)
FILES.of_files(
    "clicks",
    "an hour's file has an extra column",
    _halves("clicks", lambda rows: rows.append_column("x", pa.array([1] * (N // 2)))),
    warned("columns_known"),
)
FILES.of_files(
    "clicks",
    "an hour's file has times of another unit and zone",
    _halves(
        "clicks",
        lambda rows: retyped(
            rows, "event_time", rows.column("event_time").cast(pa.timestamp("ms", "America/New_York"))
        ),
    ),
    HARMLESS,
)
FILES.of_files(
    "impressions",
    "nobody searched in an hour, of which pandas makes a double",
    _halves("impressions", lambda rows: retyped(rows, "query", pa.array([float("nan")] * len(rows)))),
    HARMLESS,
)
FILES.of_files(
    "clicks",
    "an hour without rows, of which pandas makes doubles",
    lambda raw: write(
        raw, FIRST, {"clicks": pa.table({name: pa.array([], pa.float64()) for name in RAW["clicks"].columns})}, hour=11
    ),
    HARMLESS,
)
for name in ("device", "surface", "source_item_id", "position", "user_id"):
    FILES.rows_of(
        "impressions",
        f"context of the name of the column {name}",
        lambda rows, name=name: rows.append_column(f"context_{name}", pa.array(["x"] * N)),
        warned("columns_known"),
    )
FILES.rows_of("clicks", "no rows", lambda rows: rows.slice(0, 0), warned("has_rows"))
FILES.rows_of("impressions", "no rows", lambda rows: rows.slice(0, 0), refused("needs at least one row; found rows 0"))


# -- files --------------------------------------------------------------------------------------------
def _without_footer(data: bytes) -> bytes:
    """Zeros where the first half of the footer was."""
    size = int.from_bytes(data[-8:-4], "little")
    return data[: -8 - size] + bytes(size // 2) + data[-8 - size + size // 2 :]


NOT_PARQUET = refused(r"raw file .*part-0\.parquet needs to be Parquet; found .+")
FILES.bytes_of("clicks", "truncated in the middle", lambda data: data[: len(data) // 2], NOT_PARQUET)
FILES.bytes_of("clicks", "truncated by one byte", lambda data: data[:-1], NOT_PARQUET)
FILES.bytes_of("clicks", "without its first bytes", lambda data: data[100:], NOT_PARQUET)
FILES.bytes_of("clicks", "of zero bytes", lambda _: b"", NOT_PARQUET)
FILES.bytes_of("clicks", "of zeros", lambda data: bytes(len(data)), NOT_PARQUET)
FILES.bytes_of("clicks", "CSV under another name", lambda _: b"click_id,event_time\nc1,2026-01-01\n", NOT_PARQUET)
FILES.bytes_of("clicks", "gzip around Parquet", gzip.compress, NOT_PARQUET)
FILES.bytes_of("clicks", "marked as encrypted", lambda data: data[:-4] + b"PARE", NOT_PARQUET)
FILES.bytes_of("clicks", "damaged footer", _without_footer, NOT_PARQUET)
FILES.bytes_of(
    "clicks",
    "footer longer than the file",
    lambda data: data[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1",
    NOT_PARQUET,
)
FILES.bytes_of(
    "impressions",
    "a column's statistics are wrong",
    lambda data: data[: data.rfind(b"home")] + b"hoax" + data[data.rfind(b"home") + 4 :],
    HARMLESS,
)


def _flipped(raw: Path) -> None:
    """A bit of a value flips on the way; the writer had added page checksums."""
    path = file_of(raw, "clicks")
    pq.write_table(tables_of(FIRST)["clicks"], path, compression="none", use_dictionary=False, write_page_checksum=True)
    data = bytearray(path.read_bytes())
    data[data.find(b"u07") + 2] ^= 1
    path.write_bytes(bytes(data))


FILES.of_files(
    "clicks",
    "a flipped bit under a checksum",
    _flipped,
    refused(r"part-0\.parquet needs to be Parquet; found .*checksum"),
)


def _not_utf8(raw: Path) -> None:
    """Text in Latin-1 that claims to be UTF-8."""
    path = file_of(raw, "items")
    pq.write_table(put(tables_of(FIRST)["items"], "title", "caf@", ROW), path, compression="none", use_dictionary=False)
    path.write_bytes(path.read_bytes().replace(b"caf@", b"caf\xe9"))


FILES.of_files(
    "items", "text that is not UTF-8", _not_utf8, refused("needs valid values in column title; found .*UTF8")
)
for codec in ("none", "gzip", "zstd", "brotli", "lz4"):
    FILES.of_files(
        "clicks",
        f"compressed by {codec}",
        lambda raw, codec=codec: pq.write_table(tables_of(FIRST)["clicks"], file_of(raw, "clicks"), compression=codec),
        HARMLESS,
    )
FILES.of_files(
    "clicks",
    "old timestamps (INT96)",
    lambda raw: pq.write_table(
        tables_of(FIRST)["clicks"], file_of(raw, "clicks"), use_deprecated_int96_timestamps=True
    ),
    HARMLESS,
)
FILES.of_files(
    "clicks",
    "a row group per row",
    lambda raw: pq.write_table(tables_of(FIRST)["clicks"], file_of(raw, "clicks"), row_group_size=1),
    HARMLESS,
)


# -- folders ------------------------------------------------------------------------------------------
def _touch(name: str, content: bytes = b"x") -> Callable[[Path], None]:
    def apply(raw: Path) -> None:
        path = raw / "clicks" / DAY / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return apply


def _moved(table: str, to: str) -> Callable[[Path], None]:
    def apply(raw: Path) -> None:
        path = raw / table / DAY / to
        path.parent.mkdir(parents=True, exist_ok=True)
        file_of(raw, table).rename(path)

    return apply


STRAY = r"raw clicks of 2026-01-01 needs nothing but files hour=HH/\*\.parquet below .*; found {}"
FILES.of_files(
    "clicks",
    "a file of another format beside",
    _touch("hour=10/part-1.csv"),
    refused(STRAY.format("hour=10/part-1.csv")),
)
FILES.of_files(
    "clicks",
    "a file still being written",
    _touch("hour=10/part-1.parquet.tmp"),
    not_ready(r"still written; found hour=10/part-1\.parquet\.tmp"),
)
FILES.of_files(
    "clicks", "a file outside its hour", _moved("clicks", "part-0.parquet"), refused(STRAY.format(r"part-0\.parquet"))
)
FILES.of_files(
    "clicks",
    "a file one folder too deep",
    _moved("clicks", "hour=10/more/part-0.parquet"),
    refused(STRAY.format("hour=10/more")),
)
FILES.of_files("clicks", "an hour by another name", _moved("clicks", "10/part-0.parquet"), refused(STRAY.format("10")))
FILES.of_files(
    "clicks",
    "another ending",
    _moved("clicks", "hour=10/part-0.PARQUET"),
    refused(STRAY.format(r"hour=10/part-0\.PARQUET")),
)
FILES.of_files(
    "clicks",
    "a folder where a file should be",
    lambda raw: file_of(raw, "clicks", name="part-1.parquet").mkdir(),
    refused(STRAY.format(r"hour=10/part-1\.parquet")),
)
FILES.of_files(
    "clicks",
    "a link to itself",
    lambda raw: file_of(raw, "clicks", name="part-1.parquet").symlink_to("part-1.parquet"),
    refused(STRAY.format(r"hour=10/part-1\.parquet")),
)
FILES.of_files(
    "clicks",
    "a link to nothing",
    lambda raw: file_of(raw, "clicks", name="part-1.parquet").symlink_to("gone"),
    refused(STRAY.format(r"hour=10/part-1\.parquet")),
)
FILES.of_files(
    "clicks",
    "a pipe nobody writes to",
    lambda raw: os.mkfifo(file_of(raw, "clicks", name="part-1.parquet")),
    refused(STRAY.format(r"hour=10/part-1\.parquet")),
)
FILES.of_files(
    "clicks",
    "the folder is a table of Delta that something else wrote",
    lambda raw: deltalake.write_deltalake(str(raw / "clicks"), pa.table({"click_id": ["c1"]})),
    refused(r"^folder .*/clicks needs to hold plain Parquet files, .*; found a table in the Delta format"),
)
FILES.of_files(
    "clicks",
    "the folder is a table of Delta whose log is torn",
    lambda raw: _touch("../_delta_log/00000000000000000000.json")(raw),
    refused("^table clicks needs a readable log in .*/clicks/_delta_log"),
)
for kind, mark in {
    "Iceberg": "metadata/v1.metadata.json",
    "Hudi": ".hoodie/hoodie.properties",
}.items():
    FILES.of_files(
        "clicks",
        f"the folder is a table of {kind}",
        lambda raw, mark=mark: _touch(f"../{mark}")(raw),
        refused(rf"^folder .*/clicks needs to hold plain Parquet files, .*; found a table in the {kind} format"),
    )
FILES.of_files("clicks", "a writer's own marks", _touch("_SUCCESS"), HARMLESS)
FILES.of_files("clicks", "a hidden checksum file", _touch("hour=10/.part-0.parquet.crc"), HARMLESS)
FILES.of_files(
    "clicks",
    "a name that is not UTF-8",
    _moved("clicks", os.fsdecode(b"hour=10/part-\xff.parquet")),
    refused(STRAY.format(r"hour=10/part-\\udcff\.parquet")),
)
FILES.of_files(
    "clicks",
    "a name with a line break",
    _moved("clicks", "hour=10/part\n.parquet"),
    refused(STRAY.format(r"hour=10/part\\n\.parquet")),
)
FILES.of_files("clicks", "filed under another hour", _moved("clicks", "hour=03/part-0.parquet"), HARMLESS)
FILES.of_files(
    "clicks",
    "no file in the hour",
    lambda raw: file_of(raw, "clicks").unlink(),
    warned("has_rows"),
)
FILES.of_files(
    "clicks",
    "no folder of the day",
    lambda raw: (raw / "clicks" / DAY).rename(raw / "clicks" / "date=2025-01-01"),
    warned("has_rows"),
)
FILES.of_files(
    "clicks",
    "a file where the day's folder should be",
    lambda raw: ((raw / "clicks" / DAY).rename(raw / "gone"), (raw / "clicks" / DAY).write_text("x")),
    refused("found a file of that name"),
)
FILES.of_files(
    "impressions",
    "no file in the hour",
    lambda raw: file_of(raw, "impressions").unlink(),
    not_ready("no Parquet file in it"),
)
FILES.of_files(
    "impressions",
    "no folder of the day",
    lambda raw: (raw / "impressions" / DAY).rename(raw / "impressions" / "date=2025-01-01"),
    not_ready("no such folder"),
)
