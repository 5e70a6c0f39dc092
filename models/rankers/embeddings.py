"""Vectors of words: one row per kept value of a field, found by the value, so that a table can grow and lose rows.

Every field (a category, an attribute, the user's or the item's id) has a row for what is unknown, one for what is
known but not kept, and one per kept value. All fields share one table of one width.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.rankers.encoding import FIRST_KEPT_CODE, REST_CODE, UNKNOWN_CODE, codes_of
from models.rankers.protocol import Column, Room, parts
from models.rankers.tensors import from_bytes, to_bytes
from models.rankers.words import Words, repeated, said_once

Ints = NDArray[np.int64]
SPREAD = 0.03
"""Standard deviation of the numbers a row of a cold start begins with."""
TABLE_FILE, VALUES_FILE = "embeddings.safetensors", "vocabulary.json"
ROWS = "rows"
"""The name of the vectors in the first."""


@dataclass(frozen=True)
class Admission:
    """Which values get a row of their own, and for how long; the fields are those of `NetworkSettings`.

    `first_sum`: what AdaGrad's sum of a new row begins with.
    """

    admit_after: int
    expire_after_days: int
    max_values: int
    first_sum: float = 0.0


@dataclass(frozen=True)
class Sightings:
    """The distinct values of a field in the rows learned from: how often, on which day last, and their parent's value.

    `parents`: of the field that `PARENTS` names, None where unknown or where the field has no parent.
    """

    values: list[str]
    count: Ints
    last_day: Ints
    parents: list[str | None]


@dataclass(frozen=True)
class Embeddings:
    """N rows of d numbers: field by field the unknown, the rest, then `values` of the field in order.

    `rows` is (N, d), float16 at rest and float32 while learning; `accumulators` (N,) float32 are row-wise AdaGrad's
    sums; `last_seen` (N,) int32 is the last day a row was looked up in learning, days since 1970-01-01.
    """

    values: Mapping[str, tuple[str, ...]]
    rows: NDArray[Any]
    accumulators: NDArray[np.float32]
    last_seen: NDArray[np.int32]

    @cached_property
    def first(self) -> dict[str, int]:
        """Where each field's rows begin."""
        sizes = [FIRST_KEPT_CODE + len(kept) for kept in self.values.values()]
        return dict(zip(self.values, np.cumsum([0, *sizes])[:-1].tolist(), strict=True))

    @cached_property
    def row_of(self) -> dict[str, dict[str, int]]:
        """Field, then value, to its row."""
        return {
            field: {value: at for at, value in enumerate(kept, start=self.first[field] + FIRST_KEPT_CODE)}
            for field, kept in self.values.items()
        }

    def unknown(self, field: str) -> int:
        """The row of a field's unknown value."""
        return self.first[field] + UNKNOWN_CODE

    def rest(self, field: str) -> int:
        """The row of a field's values that have none of their own."""
        return self.first[field] + REST_CODE

    def row(self, field: str, value: str) -> int:
        """Where a value's is."""
        return self.row_of[field].get(value, self.rest(field))

    def codes(self, field: str, column: Column) -> Ints:
        """(n,) or (n, k) strings become rows of the same shape; raises ValueError for what is no string nor unknown."""
        rest, unknown = self.rest(field), self.unknown(field)
        if said_once(column):
            one = self.codes(field, column[:1])
            return repeated(one.reshape(one.shape[1:]), len(column))
        if isinstance(column, Words):
            found: Ints = column.looked_up(self.row_of[field], otherwise=rest, unknown=unknown)[column.at]
            return found
        return codes_of(column.ravel(), self.row_of[field], otherwise=rest, unknown=unknown).reshape(column.shape)

    def grown(
        self, seen: Mapping[str, Sightings], admission: Admission, parents: Mapping[str, str], today: int
    ) -> "Embeddings":
        """The same table, float32, for the values of `seen`: rows are copied by value, bit for bit.

        A value not seen for more than `expire_after_days` before `today` loses its row. One seen `admit_after` times
        gets one while the field has fewer than `max_values`, the most frequent first, ties to the smaller. It begins
        as the mean of the rows that its parent's value has in `seen` (of `parents`, field to its parent field), else as
        the field's rest, with a fresh accumulator.
        """
        values: dict[str, tuple[str, ...]] = {}
        sources, starts = [], []
        for field, before in self.values.items():
            now, first = seen[field], self.first[field]
            last = dict(zip(before, self.last_seen[first + FIRST_KEPT_CODE :].tolist(), strict=False))
            last.update((v, d) for v, d in zip(now.values, now.last_day.tolist(), strict=True) if v in last)
            kept = [value for value in before if today - last[value] <= admission.expire_after_days]
            new = admitted(now, admission, len(kept), set(before))
            values[field] = (*kept, *new)
            own = [self.row_of[field][value] for value in kept]
            sources.append(np.array([self.unknown(field), self.rest(field), *own], dtype=np.int64))
            starts.append(self._starts(field, now, new) if field in parents else self._rests(field, len(new)))
        table = _laid(self, values, sources, starts, admission.first_sum)
        return _seen_again(table, seen)

    def _rests(self, field: str, n: int) -> NDArray[np.float32]:
        return np.repeat(self.rows[[self.rest(field)]].astype(np.float32), n, axis=0)

    def _starts(self, field: str, now: Sightings, new: list[str]) -> NDArray[np.float32]:
        """Where new values begin: at the mean of the known values of `now` with the same parent."""
        starts = self._rests(field, len(new))
        known: dict[str | None, list[int]] = {}
        for value, parent in zip(now.values, now.parents, strict=True):
            if value in self.row_of[field]:
                known.setdefault(parent, []).append(self.row_of[field][value])
        means = {parent: self.rows[at].astype(np.float32).mean(axis=0) for parent, at in known.items() if parent}
        parent_of = dict(zip(now.values, now.parents, strict=True))
        for at, value in enumerate(new):
            if parent_of[value] in means:
                starts[at] = means[parent_of[value]]  # type: ignore[index]
        return starts

    def at_rest(self) -> "Embeddings":
        """The same with rows as float16: what a bundle holds, and what is judged."""
        return Embeddings(self.values, self.rows.astype(np.float16), self.accumulators, self.last_seen)

    def to_files(self) -> dict[str, bytes]:
        """A safetensors file and the values as JSON."""
        tensors = {ROWS: self.rows, "accumulators": self.accumulators, "last_seen": self.last_seen}
        return {
            TABLE_FILE: to_bytes(tensors),
            VALUES_FILE: json.dumps(list(self.values.items()), ensure_ascii=False, separators=(",", ":")).encode(),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very table `to_files` wrote."""
        tensors = from_bytes(files[TABLE_FILE])
        values = {field: tuple(kept) for field, kept in json.loads(files[VALUES_FILE])}
        return cls(values, tensors[ROWS], tensors["accumulators"], tensors["last_seen"])


def cold(seen: Mapping[str, Sightings], admission: Admission, dimensions: int, rng: np.random.Generator) -> Embeddings:
    """A first table of small random float32 rows; who gets one is as in `Embeddings.grown`."""
    values = {field: tuple(admitted(now, admission, 0, set())) for field, now in seen.items()}
    n = sum(FIRST_KEPT_CODE + len(kept) for kept in values.values())
    rows = rng.standard_normal((n, dimensions), dtype=np.float32)
    rows *= np.float32(SPREAD)
    sums = np.full(n, admission.first_sum, np.float32)
    return _seen_again(Embeddings(values, rows, sums, np.zeros(n, np.int32)), seen)


def admitted(now: Sightings, admission: Admission, held: int, known: set[str]) -> list[str]:
    """The values of `now` that get a row beside `held` others: often enough seen and not `known`, in order."""
    new = np.flatnonzero(now.count >= admission.admit_after).tolist()
    often = sorted((-int(now.count[at]), now.values[at]) for at in new if now.values[at] not in known)
    return sorted(value for _, value in often[: max(0, admission.max_values - held)])


def sightings(columns: Iterable[tuple[Column, Ints]], parent: tuple[Column, Column] | None = None) -> Sightings:
    """Of one field in one or more columns, each (n,) or (n, k) with the day of each of its n rows.

    `parent`: a column of the field and that of its parent, row by row; a value's last row that knows says which.
    Raises ValueError for what is neither a string nor unknown.
    """
    found: dict[str, tuple[int, int]] = {}
    for column, days in columns:
        words = Words.of(column)
        counts, last, order = words.counts(), _last_days(words, days), words.order()
        for at, n, day in zip(order.tolist(), counts[order].tolist(), last[order].tolist(), strict=True):
            before = found.get(words.values[at], (0, 0))
            found[words.values[at]] = (before[0] + n, max(before[1], day))
    of = {} if parent is None else _parents(*map(Words.of, parent))
    both = np.array(list(found.values()), dtype=np.int64).reshape(-1, 2)
    return Sightings(list(found), both[:, 0], both[:, 1], [of.get(value) for value in found])


def _last_days(words: Words, days: Ints) -> Ints:
    """(values,) the newest day on which each occurs, 0 where none does."""
    last = np.zeros(len(words.values) + 1, dtype=np.int64)  # index -1 finds what nobody knows
    for day in np.unique(days).tolist():  # ascending, and few: the last one to say so stays
        last[words.at[days == day]] = max(day, 0)
    return last[:-1]


def _parents(words: Words, of: Words) -> dict[str, str]:
    """What stands beside a value in its last row where anything does."""
    known = np.flatnonzero((of.at >= 0) & (words.at >= 0))
    beside = np.full(len(words.values), -1)
    beside[words.at[known]] = of.at[known]
    return {value: of.values[at] for value, at in zip(words.values, beside.tolist(), strict=True) if at >= 0}


def _laid(
    before: Embeddings,
    values: Mapping[str, tuple[str, ...]],
    sources: list[Ints],
    starts: list[NDArray[np.float32]],
    first_sum: float,
) -> Embeddings:
    """A table of each field's copied rows and then its new ones."""
    rows, accumulators, last_seen = [], [], []
    for source, start in zip(sources, starts, strict=True):
        rows += [before.rows[source].astype(np.float32), start]
        accumulators += [before.accumulators[source], np.full(len(start), first_sum, np.float32)]
        last_seen += [before.last_seen[source], np.zeros(len(start), np.int32)]
    return Embeddings(values, np.concatenate(rows), np.concatenate(accumulators), np.concatenate(last_seen))


def _seen_again(table: Embeddings, seen: Mapping[str, Sightings]) -> Embeddings:
    last_seen = table.last_seen.copy()
    for field, now in seen.items():
        rows = np.array([table.row_of[field].get(value, -1) for value in now.values], dtype=np.int64)
        there = rows >= 0
        np.maximum.at(last_seen, rows[there], now.last_day[there].astype(np.int32))
    return Embeddings(table.values, table.rows, table.accumulators, last_seen)


def of_columns(
    table: Embeddings, features: Mapping[str, Column], sources: Mapping[str, str], n: int, room: Room = np.empty
) -> NDArray[np.int32]:
    """(n, width) rows of the columns that `sources` names, column to field; an absent one is unknown throughout."""
    columns = {name: features[name] for name in sources if name in features}
    widths = {name: (*columns[name].shape, 1)[1] if name in columns else 1 for name in sources}
    found: NDArray[np.int32] = room((n, sum(widths.values())), np.int32)
    first = 0
    for name, field in sources.items():
        into = found[:, first : first + widths[name]]
        if name in columns:
            _put(into, table, field, columns[name])
        else:
            into[:] = table.unknown(field)
        first += widths[name]
    return found


def _put(into: NDArray[np.int32], table: Embeddings, field: str, column: Column) -> None:
    """The codes of a column, some rows at once; of one row that all are, once."""
    if said_once(column):
        one = column[0] if isinstance(column, np.ndarray) else None
        into[:] = table.row(field, one) if isinstance(one, str) else table.codes(field, column[:1]).reshape(1, -1)
        return
    if not isinstance(column, Words):
        into[:] = table.codes(field, column).reshape(into.shape)
        return
    rows = column.looked_up(table.row_of[field], otherwise=table.rest(field), unknown=table.unknown(field))
    for part in parts(len(into)):
        into[part] = rows[column.at[part]].reshape(-1, into.shape[1])
