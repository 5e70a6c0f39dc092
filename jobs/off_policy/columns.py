"""What a file of logged decisions must hold: its columns, their types, the values that are possible.

A row is a decision, or a placement where `slate` is asked for. `reward`, `logged`, `target`, `predicted_logged` and
`predicted_target` mean what they mean in `models.evaluation.off_policy` (for pages: in `models.evaluation.slates`).
`logged` may be null or NaN: there is no propensity then. `cluster` is usually the user's id and `slate` the page's,
text or whole numbers. `position` 1 is the top of a page.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import types

from jobs.errors import Refused
from models.evaluation import weighting
from models.evaluation.estimate import exactly
from models.evaluation.weighting import Rule

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

KEYS = ("cluster", "slate")


DEEPEST = 2**53
"""Beyond it a float does not count places."""
PROPENSITY = weighting.RULES["logged"]
RULES: Mapping[str, Rule] = {
    **weighting.RULES,
    "logged": Rule(PROPENSITY.needs, lambda p: np.isnan(p) | PROPENSITY.good(p)),
    "position": Rule("whole numbers from 1", lambda k: (k >= 1) & (k <= DEEPEST) & (k == np.floor(k))),
}


@dataclass(frozen=True)
class Fault:
    """Values of a column that cannot be: how many, and the first of them."""

    needs: str
    found: str
    count: int

    def __add__(self, other: Self) -> Self:
        """Of rows before and rows after."""
        return replace(self, count=self.count + other.count)


Faults = Mapping[str, Fault]
"""By column."""
Broken = Mapping[str, tuple[str, Bools]]
"""By column: what its values need to be, and which rows (n,) are not."""


def refuse_columns(schema: pa.Schema, needed: Sequence[str], where: str) -> None:
    """Raises `Refused` unless the schema has these columns, each of a type that can be read as what it should be."""
    missing = [name for name in needed if name not in schema.names]
    if missing:
        raise Refused(
            f"{where} needs the columns {', '.join(needed)}; missing {', '.join(missing)}, found {schema.names}"
        )
    for name in needed:
        found = schema.field(name).type
        if name in KEYS and not (types.is_integer(found) or _is_text(found)):
            raise Refused(f"{where}: {name} needs text or whole numbers; found {found}")
        if name not in KEYS and not _is_number(found):
            raise Refused(f"{where}: {name} needs numbers; found {found}")


def refuse_mixed(schemas: Iterable[pa.Schema], names: Iterable[str]) -> None:
    """Raises `Refused` where a column is of one type in one file and of another in the next."""
    kept = list(schemas)
    for name in names:
        found = sorted({str(schema.field(name).type) for schema in kept})
        if len(found) > 1:
            raise Refused(f"{name} needs one type in all files; found {' and '.join(found)}")


def numbers(rows: pa.Table, name: str) -> Floats:
    """(n,) a column as float64, NaN where it is null."""
    column = rows.column(name)
    if types.is_boolean(column.type):
        column = column.cast(pa.int8())
    found: Floats = column.cast(pa.float64(), safe=False).to_numpy()
    return found


def identities(column: pa.ChunkedArray) -> Ints:
    """(n,) whole numbers as they are, text as a 64-bit SipHash of it: the same in every process, -1 where it is null.

    Two users whose hashes collide count as one: no value changes, and the standard error as if they were dependent.
    Among n users the chance of any collision is about n² / 2^65: 3e-6 for ten million.
    """
    if types.is_integer(column.type):
        return np.asarray(pc.fill_null(column.cast(pa.int64(), safe=False), -1).to_numpy())
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    # As bytes: text that is not UTF-8 is a name too, and the hash of UTF-8 is of its bytes.
    coded = column.cast(pa.large_binary()).combine_chunks().dictionary_encode()
    text = np.append(coded.dictionary.to_numpy(zero_copy_only=False).astype(object), b"")
    hashed = pd.util.hash_array(text, categorize=False).view(np.int64)
    hashed[-1] = -1
    return np.asarray(hashed[pc.fill_null(coded.indices, len(text) - 1).to_numpy(zero_copy_only=False)])


def impossible(arrays: Mapping[str, Floats]) -> Broken:
    """The numbers (n,) that break their column's rule."""
    return {name: (RULES[name].needs, ~RULES[name].good(values)) for name, values in arrays.items()}


def nameless(rows: pa.Table, names: Iterable[str]) -> Broken:
    """The rows where one of these columns is null."""
    return {name: ("a value in every row", np.asarray(rows.column(name).is_null().to_numpy())) for name in names}


def faults(rows: pa.Table, broken: Broken, first_row: int, where: str) -> dict[str, Fault]:
    """What is wrong with these rows, the first of which is row `first_row` of a file or partition."""
    found = {}
    for name, (needs, bad) in broken.items():
        if bad.any():
            row = int(np.argmax(bad))
            shown = _shown(rows.column(name)[row])
            found[name] = Fault(needs, f"{shown} in row {first_row + row} of {where}", int(bad.sum()))
    return found


def _shown(value: pa.Scalar) -> str:
    try:
        found = value.as_py()
    except UnicodeDecodeError as error:
        found = error.object
    return "none" if found is None else exactly(found) if isinstance(found, float) else repr(found)


def added(first: Faults, second: Faults) -> Faults:
    """Both, counts added up."""
    both = {name: first[name] + second[name] for name in first if name in second}
    return {**first, **second, **both}


def refuse(faults: Faults) -> None:
    """Raises `Refused` with every column's fault, if there is any."""
    if faults:
        said = [f"{name} needs {f.needs}; found {f.found}, {f.count} such in all" for name, f in faults.items()]
        raise Refused(". ".join(said))


def _is_text(found: pa.DataType) -> bool:
    inner = found.value_type if types.is_dictionary(found) else found
    return bool(types.is_string(inner) or types.is_large_string(inner) or types.is_string_view(inner))


def _is_number(found: pa.DataType) -> bool:
    return bool(
        types.is_integer(found) or types.is_floating(found) or types.is_boolean(found) or types.is_decimal(found)
    )
