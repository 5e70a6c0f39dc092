"""What a table's columns look like, in figures that add up: the profiles of seven days are the profile of the week.

Counts, bounds and means merge exactly. Distinct values are counted by a HyperLogLog sketch (Apache DataSketches): one
standard error is 1.6%. Quantiles come from weighted points, `POINTS` of a part at evenly spaced ranks, so the rank of a
quantile is off by at most `RANK_ERROR`. Merging keeps all points, so the bound stays: errors in rows add up as rows do
(Agarwal et al. 2012, "Mergeable summaries"). It is no KLL sketch, because that tosses coins which cannot be seeded, and
a stage that runs twice must publish the same rows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import datasketches
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.lake.tables import LAKE, STR, TIME
from jobs.validate import sketches
from jobs.validate.coded import CODED, ascending, codes, first_rows, in_one_piece
from jobs.validate.sketches import LOG_REGISTERS

POINTS = 256
RANK_ERROR = 0.5 / POINTS
"""Of the rank of any quantile, plus one row: half the distance of two points."""

Floats = NDArray[np.float64]
Row = dict[str, Any]
SCHEMA = LAKE["profiles"].schema


@dataclass(frozen=True)
class Points:
    """m values, ascending, and the number of rows each stands for."""

    values: Floats
    weights: Floats

    @classmethod
    def of(cls, values: Floats) -> "Points":
        """Of n values: all of them, or those at the middle of `POINTS` equal shares of the ranks."""
        ordered = np.sort(values)
        n = len(ordered)
        if n <= POINTS:
            return cls(ordered, np.ones(n))
        at = ((np.arange(POINTS) + 0.5) * n / POINTS).astype(np.int64)
        return cls(ordered[at], np.full(POINTS, n / POINTS))

    @classmethod
    def merged(cls, parts: Iterable["Points"]) -> "Points":
        """All points of the parts; the same whatever their order."""
        parts = list(parts)
        values = np.concatenate([part.values for part in parts]) if parts else np.array([])
        weights = np.concatenate([part.weights for part in parts]) if parts else np.array([])
        order = np.lexsort((weights, values))
        return cls(values[order], weights[order])

    def quantiles(self, ranks: Sequence[float] | Floats) -> Floats:
        """The values at ranks between 0 (smallest) and 1 (largest), NaN of nothing."""
        if not len(self.values):
            return np.full(len(ranks), np.nan)
        covered = np.cumsum(self.weights)
        at = np.searchsorted(covered, np.asarray(ranks) * covered[-1])
        return np.asarray(self.values[np.minimum(at, len(self.values) - 1)])


def profile(rows: pa.Table) -> pa.Table:
    """One row per column (`LAKE["profiles"]`): lists and maps are only counted, times are µs since 1970, true is 1."""
    return _table([_column(name, rows.column(name)) for name in rows.column_names])


def merged(parts: Sequence[pa.Table]) -> pa.Table:
    """The profile of all parts' rows together; a column that a part lacks counts no rows there."""
    by_column: dict[str, list[Row]] = {}
    for part in parts:
        for row in part.select(SCHEMA.names).to_pylist():
            by_column.setdefault(row["column"], []).append(row)
    return _table([_merged(found) for found in by_column.values()])


def quantiles(profiles: pa.Table, column: str, ranks: Sequence[float] | Floats) -> Floats:
    """Values of a number or time column at ranks between 0 and 1; NaN where it has none."""
    row = profiles.filter(pc.equal(profiles.column("column"), column)).to_pylist()[0]
    return _points(row).quantiles(ranks)


def _column(name: str, column: pa.ChunkedArray) -> Row:
    counts = {"column": name, "rows": len(column), "nulls": column.null_count}
    there = column.drop_null()
    if column.type in (STR, CODED):
        return {**counts, "kind": "text", "distinct_sketch": _of_texts(there)}
    if column.type == TIME:
        return {**counts, "kind": "time", **_of_numbers(there.cast(pa.int64()))}
    if pa.types.is_boolean(column.type):
        return {**counts, "kind": "number", **_of_numbers(there.cast(pa.int8()))}
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return {**counts, "kind": "number", **_of_numbers(there)}
    return {**counts, "kind": "nested"}


def _of_numbers(column: pa.ChunkedArray) -> Row:
    values = np.asarray(column.cast(pa.float64(), safe=False), dtype=np.float64)
    points = Points.of(values)
    with np.errstate(over="ignore", invalid="ignore"):  # of infinities the mean is infinite or NaN, and says so
        mean = values.mean() if len(values) else None
    bounds = {"minimum": values.min(), "maximum": values.max(), "mean": mean} if len(values) else {}
    return {
        **{name: float(value) for name, value in bounds.items()},
        "distinct_sketch": sketches.of_numbers(in_one_piece(column)),
        "quantile_values": points.values,
        "quantile_weights": points.weights,
    }


def _of_texts(column: pa.ChunkedArray) -> bytes:
    """The sketch of texts in order of their first rows: the same rows in the same order give equal bytes."""
    if column.type == STR:
        return sketches.of_texts(column.unique())
    coded = codes(column)
    first = first_rows(coded.of, len(coded.values))
    used = np.flatnonzero(first >= 0)
    return sketches.of_texts(coded.values, used[ascending(first[used])])


def _merged(rows: Sequence[Row]) -> Row:
    """One column's rows of several profiles as one."""
    kinds = sorted({row["kind"] for row in rows})
    whole = {"column": rows[0]["column"], "kind": kinds[0]}
    whole |= {name: sum(row[name] for row in rows) for name in ("rows", "nulls")}
    counted = [row for row in rows if row["mean"] is not None]
    if counted:
        weights = np.array([row["rows"] - row["nulls"] for row in counted], float)
        whole["minimum"] = min(row["minimum"] for row in counted)
        whole["maximum"] = max(row["maximum"] for row in counted)
        with np.errstate(over="ignore", invalid="ignore"):  # as in `_of_numbers`
            # Shares first: a sum of large means would overflow where their mean does not.
            whole["mean"] = float(weights / weights.sum() @ np.array([row["mean"] for row in counted], float))
    if kinds[0] in ("number", "time"):
        points = Points.merged(map(_points, rows))
        whole |= {"quantile_values": points.values, "quantile_weights": points.weights}
    if kinds[0] != "nested":
        union = datasketches.hll_union(LOG_REGISTERS)
        for sketch in sorted(row["distinct_sketch"] for row in rows):
            union.update(datasketches.hll_sketch.deserialize(sketch))
        whole["distinct_sketch"] = bytes(union.get_result().serialize_compact())
    return whole


def _points(row: Row) -> Points:
    return Points(*(np.array(row[name] or [], np.float64) for name in ("quantile_values", "quantile_weights")))


def _table(columns: Sequence[Row]) -> pa.Table:
    """Rows in the order of the columns' names, with the sketches' estimates."""
    rows = []
    for column in sorted(columns, key=lambda column: column["column"]):
        sketch = column.get("distinct_sketch")
        distinct = None if sketch is None else datasketches.hll_sketch.deserialize(sketch).get_estimate()
        rows.append({**column, "distinct": distinct})
    return pa.Table.from_pylist(rows, schema=SCHEMA)
