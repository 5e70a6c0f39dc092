"""Whatever Parquet a logger writes, validate publishes, sets aside or refuses in one sentence: it never falls over."""

import tempfile
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.errors import TidegateError
from jobs.lake import raw
from jobs.lake.tables import RAW
from jobs.validate.batch import NOTHING, Rules, verdicts
from jobs.validate.columns import holds_nothing, shape, shaped
from jobs.validate.suites import Suites
from tests.jobs.validate.raw_days import FIRST, N, tables_of, write

WHOLE = [None, 0, 1, -1, 7, 100]
MOMENTS = [None, 0, 1, -1, 1_767_261_600_000_000, 2**31 - 1]
EXTREMES = [*MOMENTS, 2**63 - 1, -(2**63)]
TEXTS = [None, "", "a", "é😀", "null", "a\nb", "x" * 300, "7"]
KINDS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "null": (pa.null(), [None]),
    "bool": (pa.bool_(), [None, True, False]),
    "int8": (pa.int8(), WHOLE),
    "int64": (pa.int64(), EXTREMES),
    "uint64": (pa.uint64(), [None, 0, 2**64 - 1]),
    "float16": (pa.float16(), [None, 0.5, float("nan")]),
    "float32": (pa.float32(), [None, 0.5, float("inf"), float("nan")]),
    "float64": (pa.float64(), [None, 0.5, 1.0, -0.0, float("nan"), 1e308]),
    "decimal128": (pa.decimal128(10, 2), [None, Decimal("9.50")]),
    "decimal256": (pa.decimal256(60, 2), [None, Decimal("9.50")]),
    "date32": (pa.date32(), [None, 0, 20454, 2**31 - 1]),
    "date64": (pa.date64(), [None, 0, 1_767_225_600_000]),
    "time32": (pa.time32("ms"), [None, 0, 86_399_999]),
    "time64": (pa.time64("ns"), [None, 0]),
    "timestamp[ms]": (pa.timestamp("ms"), EXTREMES),
    "timestamp[us]": (pa.timestamp("us"), EXTREMES),
    "timestamp[us, UTC]": (pa.timestamp("us", "UTC"), EXTREMES),
    "timestamp[ns, Tokyo]": (pa.timestamp("ns", "Asia/Tokyo"), EXTREMES),
    "timestamp[us, nowhere]": (pa.timestamp("us", "GMT+1"), EXTREMES),
    "duration": (pa.duration("us"), EXTREMES),
    "string": (pa.string(), TEXTS),
    "large_string": (pa.large_string(), TEXTS),
    "string_view": (pa.string_view(), TEXTS),
    "binary": (pa.binary(), [None, b"", b"\xff\x00", b"text"]),
    "binary[16]": (pa.binary(16), [None, bytes(16), b"\xff" * 16]),
    "binary_view": (pa.binary_view(), [None, b"\xff\x00"]),
    "uuid": (pa.uuid(), [None, bytes(16), b"\xff" * 16]),
    "json": (pa.json_(), [None, "{}", '{"a": 1}']),
    "bool8": (pa.bool8(), [None, 1, 0]),
    "list of strings": (pa.list_(pa.string()), [None, [], ["i00"], [None], ["a", "a"]]),
    "large list of large strings": (pa.large_list(pa.large_string()), [None, [], ["i00", "i01"]]),
    "list of views": (pa.list_(pa.string_view()), [None, [], ["i00", None]]),
    "two strings": (pa.list_(pa.string(), 2), [None, ["i00", "i01"]]),
    "view of a list": (pa.list_view(pa.string()), [None, [], ["i00"]]),
    "list of numbers": (pa.list_(pa.float64()), [None, [], [float("nan")], [1.5]]),
    "list of nothing": (pa.list_(pa.null()), [None, [], [None]]),
    "list of lists": (pa.list_(pa.list_(pa.string())), [None, [], [["a"]]]),
    "struct": (pa.struct([("a", pa.string()), ("b", pa.int32())]), [None, {"a": "x", "b": 1}]),
    "map": (pa.map_(pa.string(), pa.string()), [None, [], [("a", "b")]]),
}
NAMES = ["", "x", "context_", "context_a", "context_device", "feature_", "feature_a", "feature_x.y", "a\nb", "größe"]
WRITERS: list[dict[str, Any]] = [
    {},
    {"store_schema": False},
    {"row_group_size": 7},
    {"version": "1.0"},
    {"use_dictionary": False, "data_page_version": "2.0"},
]


def of_kind(kind: str, values: list[Any]) -> pa.Array:
    """Values of one of `KINDS`; times and durations are given as the numbers they are stored as."""
    type_ = KINDS[kind][0]
    storage = type_.storage_type if isinstance(type_, pa.BaseExtensionType) else type_
    if pa.types.is_temporal(storage):
        return pa.array(values, pa.int32() if storage.bit_width == 32 else pa.int64()).view(storage)
    array = pa.array(values, storage)
    return type_.wrap_array(array) if isinstance(type_, pa.BaseExtensionType) else array


@st.composite
def columns(draw: st.DrawFn, n: int) -> pa.Array:
    """n values of any type, few of them different; in codes of a dictionary where Parquet has such."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    chosen = draw(st.lists(st.sampled_from(KINDS[kind][1]), min_size=1, max_size=3))
    array = of_kind(kind, [chosen[k % len(chosen)] for k in range(n)])
    coded = kind in ("string", "binary", "int64", "float64") and draw(st.booleans())
    return array.dictionary_encode() if coded else array


@st.composite
def logged(draw: st.DrawFn) -> tuple[str, pa.Table, dict[str, Any]]:
    """A flawless table with up to three columns of something else: in their place, beside them, twice, or gone."""
    table = draw(st.sampled_from(sorted(RAW)))
    rows = tables_of(FIRST)[table].slice(0, draw(st.sampled_from([N, N, 1, 0])))
    for _ in range(draw(st.integers(1, 3))):
        how = draw(st.sampled_from(["other", "other", "new", "new", "gone"]))
        name = draw(st.sampled_from(rows.column_names if how != "new" and rows.column_names else NAMES))
        if how == "gone":
            rows = rows.drop_columns([name]) if rows.column_names.count(name) == 1 else rows
        elif how == "other" and rows.column_names.count(name) == 1:
            rows = rows.set_column(rows.column_names.index(name), name, draw(columns(len(rows))))
        else:
            rows = rows.append_column(name, draw(columns(len(rows))))
    return table, rows, draw(st.sampled_from(WRITERS))


def ends_well(suites: Suites, folder: Path, table: str, rows: pa.Table) -> None:
    """Every row is published, set aside or a copy; or nothing is, and one sentence says what was needed and found."""
    write(folder, FIRST, {name: other for name, other in tables_of(FIRST).items() if name != table})

    def read(name: str, day: date) -> raw.RawDay:
        return raw.read(folder, name, day)

    sentence = "needs nothing: found all"
    try:
        ((_, found),) = verdicts(Rules(suites, 1.0, 1), [FIRST], read, NOTHING)
        judged = found[table].judged
        assert judged.raw == len(rows) == judged.good_rows + judged.broken + judged.copies
    except TidegateError as error:
        sentence = str(error)
    assert "needs " in sentence
    assert "found " in sentence
    assert sentence.isprintable()
    assert len(sentence) < 4_000


def lay(folder: Path, table: str, rows: pa.Table, options: dict[str, Any]) -> Path | None:
    """The rows as a file; None where Parquet has no such type under these options."""
    path = folder / table / f"date={FIRST.isoformat()}" / "hour=10" / "part-0.parquet"
    path.parent.mkdir(parents=True)
    try:
        pq.write_table(rows, path, **options)
    except (pa.ArrowException, ValueError, OverflowError):
        return None
    return path


ANYTHING = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@ANYTHING
@given(logged())
def test_any_file_ends_in_a_verdict_or_in_one_sentence(
    suites: Suites, written: tuple[str, pa.Table, dict[str, Any]]
) -> None:
    """Every row is published, set aside or a copy; or nothing is, and the sentence says what was needed and found."""
    table, rows, options = written
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if lay(folder, table, rows, options) is None:
            return
        ends_well(suites, folder, table, rows)


@ANYTHING
@given(logged())
def test_a_footer_refuses_no_column_that_its_rows_would_pass(written: tuple[str, pa.Table, dict[str, Any]]) -> None:
    """On Spark the driver sees types, and values only of columns whose type does not fit; workers see all values."""
    table, rows, options = written
    contract = {name: column.type for name, column in RAW[table].columns.items()}
    with tempfile.TemporaryDirectory() as name:
        path = lay(Path(name), table, rows, options)
        if path is None:
            return
        try:
            read = shaped(raw.parse(path), RAW[table])
        except TidegateError:
            return

        def is_empty(column: str) -> bool:
            return all(holds_nothing(group, contract[column]) for group in raw.groups(path, column))

        told = shape(raw.schema(path), RAW[table], is_empty)
    assert told.unknown == read.unknown
    assert told.rows.column_names == read.rows.column_names
    for name, kind in contract.items():
        if name in read.rows.column_names and read.rows.schema.field(name).type == kind:
            assert told.rows.schema.field(name).type == kind, name


OF_IMPRESSIONS = ("impression_id", "event_time", "position", "propensity", "query", "context_x")
PLACES = [*(("impressions", name) for name in OF_IMPRESSIONS), ("requests", "candidates"), ("items", "price")]


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_is_tried_in_place_of_every_type(suites: Suites, kind: str, tmp_path: Path) -> None:
    """And as an attribute; with all its values at once, and with none."""
    for table, name in PLACES:
        for filled in (True, False):
            rows, values = tables_of(FIRST)[table], KINDS[kind][1] if filled else [None]
            column = of_kind(kind, [values[k % len(values)] for k in range(N)])
            if name in rows.column_names:
                rows = rows.drop_columns([name])
            rows = rows.append_column(name, column)
            folder = tmp_path / f"{table}-{name}-{filled}"
            if lay(folder, table, rows, {}) is not None:
                ends_well(suites, folder, table, rows)
