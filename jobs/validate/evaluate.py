"""What one expectation finds in rows: counts that add up over parts of a table, and the positions of the rows.

Parts must share no key: then a copy and its original are in one part, and the outcome of the whole is the merged
outcomes of the parts. Verdicts are Great Expectations' own (`tests/jobs/validate/test_validate_parity.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.validate.kinds import ROW_KINDS, Arguments, Frame, Values

EXAMPLES = 20
"""So many unexpected values are quoted, as many as Great Expectations quotes."""
ROW_COUNT = "expect_table_row_count_to_be_between"
NOWHERE = np.array([], np.int64)


@dataclass(frozen=True)
class Outcome:
    """One expectation on some rows: how many there are, how many were not considered, how many were not expected.

    `rows` are the positions of the unexpected rows, ascending; `examples` the values of the first of them.
    """

    elements: int
    missing: int
    unexpected: int
    examples: tuple[Any, ...]
    rows: NDArray[np.int64]


def on_rows(type_: str, kwargs: Arguments, frame: Frame) -> Outcome:
    """The outcome of a type about rows on n rows; raises `Misconfigured` where it does not fit a column's type."""
    if type_ == ROW_COUNT:
        return Outcome(len(next(iter(frame.values()), ())), 0, 0, (), NOWHERE)
    masks = ROW_KINDS[type_].masks(frame, kwargs)
    rows = np.flatnonzero(masks.unexpected)
    n = len(masks.considered)
    return Outcome(n, n - int(masks.considered.sum()), len(rows), _examples(kwargs, frame, rows[:EXAMPLES]), rows)


def merged(parts: Sequence[Outcome]) -> Outcome:
    """The outcome of the parts together, without positions: those mean nothing outside their part."""
    examples = [value for part in parts for value in part.examples]
    return Outcome(
        elements=sum(part.elements for part in parts),
        missing=sum(part.missing for part in parts),
        unexpected=sum(part.unexpected for part in parts),
        examples=tuple(examples[:EXAMPLES]),
        rows=NOWHERE,
    )


def held(kwargs: Arguments, outcome: Outcome) -> bool:
    """Whether the share of expected rows among the considered ones reaches `mostly` (all of them by default)."""
    considered = outcome.elements - outcome.missing
    return not considered or (considered - outcome.unexpected) / considered >= kwargs.get("mostly", 1.0)


def in_range(kwargs: Arguments, n: int) -> bool:
    """Whether a number of rows lies between the bounds that are given."""
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if low is not None and (n <= low if kwargs.get("strict_min") else n < low):
        return False
    return high is None or (n < high if kwargs.get("strict_max") else n <= high)


def on_columns(type_: str, kwargs: Arguments, types: Mapping[str, str]) -> tuple[bool, dict[str, Any]]:
    """Whether a type about columns holds on column names and their types, and what Great Expectations reports of it."""
    if type_ == "expect_column_type_to_be":
        found = types.get(kwargs["column"])
        return found == kwargs["type_"], {} if found is None else {"observed_value": found}
    wanted, exact = set(kwargs["column_set"]), kwargs.get("exact_match", True)
    missing, unexpected = sorted(wanted - set(types)), sorted(set(types) - wanted)
    result: dict[str, Any] = {"observed_value": sorted(types)}
    if missing or unexpected:
        found_both = {"unexpected": unexpected, "missing": missing}
        result["details"] = {"mismatched": {name: names for name, names in found_both.items() if names}}
    return not missing and not (exact and unexpected), result


def of_outcome(type_: str, outcome: Outcome) -> dict[str, Any]:
    """The figures of an outcome as Great Expectations names them (result format SUMMARY)."""
    considered = outcome.elements - outcome.missing
    of_considered = _percent(outcome.unexpected, considered)
    result: dict[str, Any] = {
        "element_count": outcome.elements,
        "unexpected_count": outcome.unexpected,
        "unexpected_percent": of_considered,
        "partial_unexpected_list": list(outcome.examples),
    }
    if ROW_KINDS[type_].counts_missing:
        result |= {
            "missing_count": outcome.missing,
            "missing_percent": _percent(outcome.missing, outcome.elements),
            "unexpected_percent_total": _percent(outcome.unexpected, outcome.elements),
            "unexpected_percent_nonmissing": of_considered,
        }
    return result


def _percent(part: int, whole: int) -> float | None:
    return part / whole * 100 if whole else None


def _examples(kwargs: Arguments, frame: Frame, rows: NDArray[np.int64]) -> tuple[Any, ...]:
    """The values of some rows: single, as a pair, or by column, as Great Expectations shows them."""
    if "column" in kwargs:
        return tuple(_plain(frame[kwargs["column"]], rows))
    if "column_list" in kwargs:
        names = kwargs["column_list"]
        columns = [_plain(frame[name], rows) for name in names]
        return tuple(dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))
    pairs = zip(*(_plain(frame[kwargs[name]], rows) for name in ("column_A", "column_B")), strict=True)
    return tuple(list(pair) for pair in pairs)


def _plain(values: Values, rows: NDArray[np.int64]) -> list[Any]:
    """Python values, None for null."""
    if isinstance(values, np.ndarray):
        return [None if value != value else value for value in values[rows].tolist()]
    return list(values.take(pa.array(rows)).to_pylist())
