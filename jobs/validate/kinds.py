"""The expectation types Tidegate evaluates: each names the rows it considers and those it did not expect.

A mask over whole columns, of coded texts over each distinct one, where Great Expectations runs a query per expectation,
with the same meaning: values that are null (for numbers NaN is null) are not considered unless the type is about nulls.
Supported is what Great Expectations means on pandas and on Spark alike; what the two answer differently
(`ignore_row_if: neither`, null in a set) is refused when the suite is loaded, and so is any type or argument that is
not listed here.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.errors import Misconfigured
from jobs.validate import coded
from jobs.validate.patterns import found_in

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Values: TypeAlias = "Floats | pa.Array"
"""A column of n values: numbers as floats (NaN is null) or text, plain or `coded`."""
Frame = Mapping[str, Values]
Arguments = Mapping[str, Any]
TYPES = ("string", "datetime64[us, UTC]", "int32", "int64", "float64", "bool")
"""Column types by their pandas names, which is how Great Expectations names them on pandas."""


@dataclass(frozen=True)
class Masks:
    """Which of n rows an expectation considered, and which of those it did not expect."""

    considered: Bools
    unexpected: Bools


@dataclass(frozen=True)
class Check:
    """What an argument must be, in words and as a test."""

    needs: str
    fits: Callable[[Any], bool]


@dataclass(frozen=True)
class Kind:
    """One type about rows: its arguments (`mostly` goes without saying), what must hold between them, its masks."""

    masks: Callable[[Frame, Arguments], Masks]
    arguments: Mapping[str, Check]
    required: tuple[str, ...]
    together: Check | None = None
    counts_missing: bool = True
    """Whether rows that are not considered are reported as missing; only a type about nulls considers all."""


def present(values: Values) -> Bools:
    """Which values are there: not null, not NaN."""
    return ~np.isnan(values) if isinstance(values, np.ndarray) else np.asarray(values.is_valid())


def _text(values: Values, name: str) -> pa.Array:
    if isinstance(values, np.ndarray):
        raise Misconfigured(f"needs column {name} to be text; found numbers")
    return values


def _numbers(values: Values, name: str) -> Floats:
    if not isinstance(values, np.ndarray):
        raise Misconfigured(f"needs column {name} to be numbers; found text")
    return values


def _true(condition: pa.Array) -> Bools:
    """An Arrow condition where null is no."""
    return np.asarray(pc.fill_null(condition, False))


def _of_column(frame: Frame, kwargs: Arguments, good: Callable[[Values], Bools]) -> Masks:
    values = frame[kwargs["column"]]
    there = present(values)
    fine = good(values) if isinstance(values, np.ndarray) else coded.each(values, good)
    return Masks(there, there & ~fine)


# -- one column ---------------------------------------------------------------------------------------
def _not_null(frame: Frame, kwargs: Arguments) -> Masks:
    there = present(frame[kwargs["column"]])
    return Masks(np.ones(len(there), dtype=bool), ~there)


def _null(frame: Frame, kwargs: Arguments) -> Masks:
    there = present(frame[kwargs["column"]])
    return Masks(np.ones(len(there), dtype=bool), there)


def _between(frame: Frame, kwargs: Arguments) -> Masks:
    return _of_column(frame, kwargs, lambda values: _inside(_numbers(values, kwargs["column"]), kwargs))


def _inside(values: Floats, kwargs: Arguments) -> Bools:
    """Whether each value lies between the bounds that are given."""
    inside: Bools = np.ones(len(values), dtype=bool)
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if low is not None:
        inside &= values > low if kwargs.get("strict_min") else values >= low
    if high is not None:
        inside &= values < high if kwargs.get("strict_max") else values <= high
    return inside


def _within(values: Values, value_set: Sequence[Any]) -> Bools:
    """Whether each value is one of the set's; text is never a number."""
    if isinstance(values, np.ndarray):
        return np.isin(values, np.array([v for v in value_set if not isinstance(v, str)], np.float64))
    return _true(pc.is_in(values, pa.array([v for v in value_set if isinstance(v, str)], values.type)))


def _in_set(frame: Frame, kwargs: Arguments) -> Masks:
    return _of_column(frame, kwargs, lambda values: _within(values, kwargs["value_set"]))


def _not_in_set(frame: Frame, kwargs: Arguments) -> Masks:
    return _of_column(frame, kwargs, lambda values: ~_within(values, kwargs["value_set"]))


def _matches(values: Values, kwargs: Arguments) -> Bools:
    """Whether the pattern is found in each text."""
    return found_in(kwargs["regex"], _text(values, kwargs["column"]))


def _match_regex(frame: Frame, kwargs: Arguments) -> Masks:
    return _of_column(frame, kwargs, lambda values: _matches(values, kwargs))


def _not_match_regex(frame: Frame, kwargs: Arguments) -> Masks:
    return _of_column(frame, kwargs, lambda values: ~_matches(values, kwargs))


def _lengths(values: Values, kwargs: Arguments) -> Floats:
    """Code points of each text, NaN for null."""
    lengths = pc.utf8_length(_text(values, kwargs["column"])).cast(pa.float64())
    return np.asarray(pc.fill_null(lengths, float("nan")))


def _lengths_between(frame: Frame, kwargs: Arguments) -> Masks:
    return _of_column(frame, kwargs, lambda values: _inside(_lengths(values, kwargs), kwargs))


def _length_equal(frame: Frame, kwargs: Arguments) -> Masks:
    return _of_column(frame, kwargs, lambda values: _lengths(values, kwargs) == kwargs["value"])


def _unique(frame: Frame, kwargs: Arguments) -> Masks:
    there = present(frame[kwargs["column"]])
    return Masks(there, _repeated([frame[kwargs["column"]]], there))


# -- several columns ----------------------------------------------------------------------------------
def _codes(values: Values) -> NDArray[np.int64]:
    """A whole number per distinct value, null being one."""
    if not isinstance(values, np.ndarray):
        return coded.codes(values).of + 1
    if (values == values[:1]).all():
        return np.zeros(len(values), np.int64)
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _repeated(columns: Sequence[Values], among: Bools) -> Bools:
    """The rows of `among` whose values, taken together, another row of `among` has too."""
    whole = np.zeros(len(among), np.int64)
    for other in (codes for codes in map(_codes, columns) if codes.any()):
        pairs = whole * (int(other.max()) + 1) + other
        whole = np.unique(pairs, return_inverse=True)[1].astype(np.int64) if whole.any() else other
    counts = np.bincount(whole[among], minlength=int(whole.max(initial=0)) + 1)
    return among & (counts[whole] > 1)


def _compound_unique(frame: Frame, kwargs: Arguments) -> Masks:
    columns = [frame[name] for name in kwargs["column_list"]]
    there = [present(values) for values in columns]
    how = kwargs.get("ignore_row_if", "all_values_are_missing")
    if how == "never":
        considered = np.ones(len(there[0]), dtype=bool)
    else:
        considered = reduce(np.logical_and if how == "any_value_is_missing" else np.logical_or, there)
    return Masks(considered, _repeated(columns, considered))


def _pair(frame: Frame, kwargs: Arguments, how: str, good: Callable[[Values, Values], Any]) -> Masks:
    left, right = frame[kwargs["column_A"]], frame[kwargs["column_B"]]
    if isinstance(left, np.ndarray) != isinstance(right, np.ndarray):
        raise Misconfigured(f"needs {kwargs['column_A']} and {kwargs['column_B']} of one type; found text and numbers")
    left, right = _plain(left), _plain(right)
    there = present(left), present(right)
    considered = there[0] & there[1] if how == "either_value_is_missing" else there[0] | there[1]
    # Text is compared by code points, as Python and Spark do.
    compared = good(left, right) if isinstance(left, np.ndarray) else _true(good(left, right))
    return Masks(considered, considered & ~compared)


def _plain(values: Values) -> Values:
    return values if isinstance(values, np.ndarray) else values.cast(pa.string())


def _pair_equal(frame: Frame, kwargs: Arguments) -> Masks:
    equal = np.equal if isinstance(frame[kwargs["column_A"]], np.ndarray) else pc.equal
    return _pair(frame, kwargs, kwargs.get("ignore_row_if", "both_values_are_missing"), equal)


def _pair_greater(frame: Frame, kwargs: Arguments) -> Masks:
    of_numbers, of_text = (np.greater_equal, pc.greater_equal) if kwargs.get("or_equal") else (np.greater, pc.greater)
    greater = of_numbers if isinstance(frame[kwargs["column_A"]], np.ndarray) else of_text
    return _pair(frame, kwargs, kwargs["ignore_row_if"], greater)


# -- what the types are told --------------------------------------------------------------------------
def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_pattern(value: Any) -> bool:
    try:
        re.compile(value)
    except (re.error, TypeError):
        return False
    return True


def _one_of(*values: str) -> Check:
    return Check(f"one of {', '.join(values)}", lambda value: value in values)


NAME = Check("a column's name", lambda value: isinstance(value, str))
NAMES = Check(
    "a list of columns' names",
    lambda value: isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value),
)
SHARE = Check("a share between 0 and 1", lambda value: _is_number(value) and 0 <= value <= 1)
FLAG = Check("true or false", lambda value: isinstance(value, bool))
BOUND = Check("a number or null", lambda value: value is None or _is_number(value))
COUNT = Check("a whole number or null", lambda value: value is None or _is_whole(value))
VALUES = Check(
    "a list of numbers and texts without null",
    lambda value: isinstance(value, list) and all(isinstance(v, str) or _is_number(v) for v in value),
)
PATTERN = Check("a regular expression of Python's re", _is_pattern)
RANGE = Check(
    "at least one bound, and min_value <= max_value",
    lambda kwargs: _is_range(kwargs.get("min_value"), kwargs.get("max_value")),
)


def _is_range(low: float | None, high: float | None) -> bool:
    return low <= high if low is not None and high is not None else low is not high


_COLUMN = {"column": NAME}
_BOUNDS = {"min_value": BOUND, "max_value": BOUND, "strict_min": FLAG, "strict_max": FLAG}
_COUNTS = {"min_value": COUNT, "max_value": COUNT, "strict_min": FLAG, "strict_max": FLAG}
_SET = {**_COLUMN, "value_set": VALUES}
_REGEX = {**_COLUMN, "regex": PATTERN}
_PAIR = {"column_A": NAME, "column_B": NAME}

ROW_KINDS: dict[str, Kind] = {
    "expect_column_values_to_not_be_null": Kind(_not_null, _COLUMN, ("column",), counts_missing=False),
    "expect_column_values_to_be_null": Kind(_null, _COLUMN, ("column",), counts_missing=False),
    "expect_column_values_to_be_between": Kind(_between, {**_COLUMN, **_BOUNDS}, ("column",), RANGE),
    "expect_column_values_to_be_in_set": Kind(_in_set, _SET, tuple(_SET)),
    "expect_column_values_to_not_be_in_set": Kind(_not_in_set, _SET, tuple(_SET)),
    "expect_column_values_to_match_regex": Kind(_match_regex, _REGEX, tuple(_REGEX)),
    "expect_column_values_to_not_match_regex": Kind(_not_match_regex, _REGEX, tuple(_REGEX)),
    "expect_column_value_lengths_to_be_between": Kind(_lengths_between, {**_COLUMN, **_COUNTS}, ("column",), RANGE),
    "expect_column_value_lengths_to_equal": Kind(
        _length_equal, {**_COLUMN, "value": Check("a whole number", _is_whole)}, ("column", "value")
    ),
    "expect_column_values_to_be_unique": Kind(_unique, _COLUMN, ("column",)),
    "expect_compound_columns_to_be_unique": Kind(
        _compound_unique,
        {
            "column_list": NAMES,
            "ignore_row_if": _one_of("any_value_is_missing", "all_values_are_missing", "never"),
        },
        ("column_list",),
    ),
    "expect_column_pair_values_to_be_equal": Kind(
        _pair_equal,
        {**_PAIR, "ignore_row_if": _one_of("either_value_is_missing", "both_values_are_missing")},
        tuple(_PAIR),
    ),
    "expect_column_pair_values_a_to_be_greater_than_b": Kind(
        _pair_greater,
        {**_PAIR, "or_equal": FLAG, "ignore_row_if": _one_of("either_value_is_missing")},
        (*_PAIR, "ignore_row_if"),
    ),
}
TABLE_KINDS: dict[str, tuple[Mapping[str, Check], tuple[str, ...]]] = {
    "expect_table_row_count_to_be_between": (_COUNTS, ()),
    "expect_table_columns_to_match_set": ({"column_set": NAMES, "exact_match": FLAG}, ("column_set",)),
    "expect_column_type_to_be": ({**_COLUMN, "type_": _one_of(*TYPES)}, ("column", "type_")),
}
"""Types about the table as a whole: arguments, and which of them are required."""
COLUMN_TYPES = ("expect_table_columns_to_match_set", "expect_column_type_to_be")
"""Types about columns and not their values: scope `column`, and no other."""


def refuse_unsupported(type_: str, kwargs: Arguments) -> None:
    """Raises `Misconfigured` naming what is supported where a type or an argument is not."""
    arguments: Mapping[str, Check]
    if type_ in ROW_KINDS:
        kind = ROW_KINDS[type_]
        arguments, required, together = {**kind.arguments, "mostly": SHARE}, kind.required, kind.together
    elif type_ in TABLE_KINDS:
        (arguments, required), together = TABLE_KINDS[type_], None
    else:
        raise Misconfigured(f"needs one of the types {', '.join([*ROW_KINDS, *TABLE_KINDS])}; found {type_}")
    unknown = [name for name in kwargs if name not in arguments]
    missing = [name for name in required if name not in kwargs]
    if unknown or missing:
        raise Misconfigured(
            f"{type_} needs {', '.join(required) or 'nothing'} and may have "
            f"{', '.join(name for name in arguments if name not in required) or 'nothing'}; found {', '.join(kwargs)}"
        )
    for name, value in kwargs.items():
        if not arguments[name].fits(value):
            raise Misconfigured(f"{type_} needs {name} to be {arguments[name].needs}; found {value!r}")
    if together is not None and not together.fits(kwargs):
        raise Misconfigured(f"{type_} needs {together.needs}; found {dict(kwargs)}")
