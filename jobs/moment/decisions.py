"""Logged decisions with everything the logging policy chose from, as the rankers would have seen it at that moment.

A decision is the first placement of a request: its propensity depends on nothing else on the page.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.asof.clock import instants, seen
from jobs.asof.core import ABSENT
from jobs.moment.assembler import Moments, assembled
from jobs.moment.columns import (
    Columns,
    attribute_columns,
    attribute_keys,
    encodings_of,
    item_arrays,
    numbers,
    outcome_words,
    ranker_columns,
    strings,
    user_arrays,
)
from models.features import OUTCOMES, Of
from models.rankers.features import ATTRIBUTE_PREFIX, EVERYTHING, VECTORS, Encodings, widened
from models.rankers.protocol import Floats, Inputs
from models.rankers.words import unpacked
from models.settings import TaskSettings

Ints = NDArray[np.int64]
Strings = NDArray[np.object_]
ITEM_PREFIX, USER_PREFIX = "item.", "user."
"""Attributes of the item and of the user; all others describe the request. Only the item's differ by candidate."""
FIRST_MISSING, FIRST_TWICE = "first_placement_missing", "first_placement_twice"
"""Why a request is incomplete: nobody can tell what its first decision was."""


@dataclass(frozen=True)
class Known:
    """One feature day, what its requests see from `available_at` on; and the snapshots that attributes come from."""

    day: date
    available_at: datetime
    user_features: pa.Table
    item_features: pa.Table
    encodings: pa.Table
    items: pa.Table
    users: pa.Table | None
    """Only where the rows' own attributes do not say what is known of the user: raw impressions, unlike examples."""
    tasks: TaskSettings

    @cached_property
    def rates(self) -> Encodings:
        """`encodings` as rankers look them up."""
        return encodings_of(self.encodings)


@dataclass(frozen=True)
class Decisions:
    """m decisions and their n candidates laid end to end: decision i has `offsets[i]:offsets[i + 1]`."""

    offsets: Ints
    clicked: Floats
    converted: Floats
    """(m,) NaN where it is not known, or open still."""
    propensity: Floats
    cluster: Ints
    """(m,) the user as an integer; an unknown user is its own cluster."""
    request_id: pa.ChunkedArray
    item_ids: Strings
    """(k,) the items that are a candidate anywhere."""
    item: Ints
    """(n,) which of them each candidate is."""
    taken: NDArray[np.bool_]
    """(n,) whether the candidate is the item that was shown first."""

    def __len__(self) -> int:
        return len(self.clicked)

    @property
    def row(self) -> Ints:
        """(n,) the decision each candidate belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @property
    def shown(self) -> Ints:
        """(m,) the candidate that is the item shown first; of a candidate listed twice the first."""
        taken = np.flatnonzero(self.taken)
        return taken[np.unique(self.row[taken], return_index=True)[1]]

    def of_taken(self, probability: Floats) -> Floats:
        """(m,) the probability of what was shown, from the probability of each candidate (n,)."""
        return np.bincount(self.row, weights=probability * self.taken, minlength=len(self)).astype(np.float64)

    def parts(self, first: int, last: int, candidates: int) -> Iterator[tuple[int, int]]:
        """The decisions from `first` to before `last` in parts of at most so many candidates, or of a single one."""
        while first < last:
            upto = int(np.searchsorted(self.offsets, self.offsets[first] + candidates, side="right")) - 1
            end = min(max(upto, first + 1), last)
            yield first, end
            first = end


@dataclass(frozen=True)
class Disagreement:
    """In how many of so many decisions any column differs from the one trained on, and each that does; parts add up."""

    decisions: int = 0
    differing: int = 0
    columns: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: "Disagreement") -> "Disagreement":
        """Of both sets of decisions."""
        names = sorted({*self.columns, *other.columns})
        columns = {name: self.columns.get(name, 0) + other.columns.get(name, 0) for name in names}
        return Disagreement(self.decisions + other.decisions, self.differing + other.differing, columns)

    @property
    def skew(self) -> float | None:
        """The share of decisions with other features than trained on; None without decisions."""
        return self.differing / self.decisions if self.decisions else None

    @property
    def shares(self) -> dict[str, float]:
        """The same per column that differs anywhere."""
        return {name: n / self.decisions for name, n in self.columns.items()}


def first_placements(examples: pa.Table, requests: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """The decisions that can be replayed, with the column `candidates`; and how many requests fail which condition.

    Left out, by the first reason that holds: no propensity; no candidates were logged; the first placement is missing
    or there twice; a choice that was certain (it says nothing of the alternatives); a click that is not
    known yet; a shown item that is not among the candidates. A propensity is given everything above it, so the second
    placement never stands in for the first.
    """
    top, position, places, twice = _highest(examples)
    placed = examples.take(pa.array(top))
    at = pc.index_in(placed["request_id"], requests["request_id"]).combine_chunks()
    candidates, slate_size = (requests[name].combine_chunks().take(at) for name in ("candidates", "slate_size"))
    placed = placed.append_column("candidates", candidates)
    conditions = {
        "no_propensity": _where(placed["propensity"].is_null()),
        "no_candidates": _where(pc.equal(pc.fill_null(pc.list_value_length(candidates), 0), 0)),
        # Where all places of a request are there none is missing, wherever on the screen they stood.
        FIRST_MISSING: (position != 1) & (places != pc.fill_null(slate_size, 0).to_numpy()),
        FIRST_TWICE: twice,
        "certain_choice": ~_where(_was_uncertain(placed)),
        "click_unknown": _where(placed["clicked"].is_null()),
        "shown_item_not_a_candidate": ~_shown_among_candidates(placed),
    }
    kept, left_out = np.ones(len(placed), bool), {"requests": len(placed)}
    for reason, fails in conditions.items():
        left_out[reason] = int((kept & fails).sum())
        kept &= ~fails
    return placed.filter(pa.array(kept)), left_out


def _highest(examples: pa.Table) -> tuple[Ints, Ints, Ints, NDArray[np.bool_]]:
    """Of each of m requests: the row of its highest placement, the position of that, how many of its places have a row,
    and whether the highest has several.
    """
    codes = examples["request_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    position = examples["position"].to_numpy()
    order = np.lexsort((position, codes))
    codes, position = codes[order], position[order]
    requests, first = np.unique(codes, return_index=True)
    again = np.zeros(len(order) + 1, bool)
    again[1:-1] = (codes[1:] == codes[:-1]) & (position[1:] == position[:-1])
    places = np.bincount(codes[~again[:-1]], minlength=len(requests))
    return order[first], position[first], places, again[first + 1]


def decisions(placed: pa.Table) -> Decisions:
    """The first placements with the candidates they were chosen from, each of which lists the item that was shown."""
    lists = placed["candidates"].combine_chunks()
    row, listed = pc.list_parent_indices(lists).to_numpy(), pc.list_flatten(lists).dictionary_encode()
    item = listed.indices.to_numpy().astype(np.int64)
    shown = pc.index_in(placed["item_id"], listed.dictionary).to_numpy()
    sizes = np.bincount(row, minlength=len(placed))
    return Decisions(
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        clicked=numbers(placed["clicked"]),
        converted=numbers(placed["converted"]),
        propensity=numbers(placed["propensity"]),
        cluster=clusters(placed),
        request_id=placed["request_id"],
        item_ids=strings(listed.dictionary),
        item=item,
        taken=item == shown[row],
    )


def clusters(rows: pa.Table) -> Ints:
    """One integer per user; a row without a user stands for itself, or for its request where there is one."""
    codes = pc.fill_null(rows["user_id"].combine_chunks().dictionary_encode().indices, -1)
    user = codes.to_numpy(zero_copy_only=False).astype(np.int64)
    alone = np.arange(len(rows), dtype=np.int64)
    if "request_id" in rows.column_names:
        alone = rows["request_id"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    named: Ints = np.where(user >= 0, user, user.max(initial=-1) + 1 + alone)
    return named


def disagreement(placed: pa.Table, columns: Columns, shown: Ints, inputs: Inputs = EVERYTHING) -> Disagreement:
    """Where the shown items have other `inputs` here than in `examples`, columns that only one side has included.

    `columns` of candidates, of which `shown` (m,) are those that were placed. Both sides follow the same point-in-time
    rule by different code: any difference is a bug or a table that changed in between. The position is left out: here
    it is always the serving one.
    """
    there = ranker_columns(placed, at_serving_position=True, inputs=inputs)
    logged = {name: unpacked(column) for name, column in there.items()}
    asked = {*logged, *(name for name in columns if name.startswith(ATTRIBUTE_PREFIX) and inputs.attributes)}
    asked |= {name for name in inputs.vectors if name in columns}
    unknown = np.full(len(placed), None, dtype=object)
    wrong = {}
    for name in sorted(asked):
        nothing = np.empty((len(placed), 0), np.float32) if name in VECTORS else unknown
        expected = logged.get(name, nothing)
        replayed = columns[name][shown] if name in columns else nothing
        if expected.dtype == object:
            differs = expected != replayed
            wrong[name] = differs if differs.ndim == 1 else differs.any(axis=1)
        elif name in VECTORS:
            expected, replayed = _alike(expected, replayed)
            wrong[name] = ~np.isclose(expected, replayed, rtol=1e-5, atol=1e-8, equal_nan=True).all(axis=1)
        else:
            wrong[name] = ~np.isclose(expected, replayed.astype(np.float64), rtol=1e-5, atol=1e-8, equal_nan=True)
    anywhere = np.logical_or.reduce(list(wrong.values()))
    columns_differing = {name: int(differs.sum()) for name, differs in wrong.items() if differs.any()}
    return Disagreement(len(placed), int(anywhere.sum()), columns_differing)


def _alike(one: NDArray[Any], other: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Given vectors of either, as wide as the wider ones."""
    width = max(one.shape[1], other.shape[1])
    return widened(one, width), widened(other, width)


def _where(condition: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
    """False where it is null."""
    return np.asarray(pc.fill_null(condition, False).to_numpy(zero_copy_only=False), dtype=bool)


def _was_uncertain(placed: pa.Table) -> pa.Array:
    """A propensity below 1, or a single candidate: then there was no alternative to learn about."""
    return pc.or_(pc.less(placed["propensity"], 1.0), pc.equal(pc.list_value_length(placed["candidates"]), 1))


def _shown_among_candidates(placed: pa.Table) -> NDArray[np.bool_]:
    lists = placed["candidates"].combine_chunks()
    row, listed = pc.list_parent_indices(lists).to_numpy(), pc.list_flatten(lists).dictionary_encode()
    shown = pc.fill_null(pc.index_in(placed["item_id"], listed.dictionary), -1).to_numpy()
    return np.bincount(row[listed.indices.to_numpy() == shown[row]], minlength=len(placed)) > 0


def seen_by(placed: pa.Table, known: Sequence[Known]) -> Ints:
    """Which of `known`, oldest first, each row sees by its event time; -1 where none counted as known yet."""
    return seen(instants([one.available_at for one in known]), placed["event_time"])


def candidate_columns(placed: pa.Table, row: Ints, items: Strings, known: Sequence[Known]) -> Columns:
    """The ranker columns of item `items[i]` for the user and context of `placed[row[i]]`, features as seen then.

    An item that those features lack has no attributes either: the endpoint did not have it in its catalogue.
    """
    which = seen_by(placed, known)[row]
    parts = []
    for number in np.unique(which).tolist() or [ABSENT]:
        mine = np.flatnonzero(which == number)
        seen_then = _nothing(known[0]) if number == ABSENT else known[number]
        parts.append((mine, _columns(placed, row[mine], items[mine], seen_then)))
    return parts[0][1] if len(parts) == 1 else _laid_out(parts, len(row))


def _nothing(known: Known) -> Known:
    """Before the first publication nobody knew anything."""
    tables = ("user_features", "item_features", "encodings", "items")
    users = None if known.users is None else known.users.slice(0, 0)
    return replace(known, users=users, **{name: getattr(known, name).slice(0, 0) for name in tables})


def _laid_out(parts: Sequence[tuple[Ints, Columns]], n: int) -> Columns:
    """n rows of columns from parts of them; what a part lacks is None there."""
    found: Columns = {}
    for rows, columns in parts:
        for name, column in columns.items():
            nothing = None if column.dtype == object else np.nan
            into = found.get(name, np.full((n, *column.shape[1:]), nothing, column.dtype))
            into, column = _alike(into, column) if name in VECTORS else (into, column)
            into[rows] = column
            found[name] = into
    return found


class Midnight:
    """What one publication says of items `items[i]` and of who and what was about in `placed[row[i]]`."""

    def __init__(self, known: Known, placed: pa.Table, row: Ints, items: Strings) -> None:
        self.encodings = known.rates
        self._known, self._placed, self._row = known, placed, row
        self._rows_of_item = _rows(known.item_features["item_id"])
        self._ids = pa.array(items, pa.string())
        self._at = self._rows_of_item(self._ids)

    def users(self) -> Columns:
        """See `Knowledge`."""
        features = self._known.user_features
        of_user, at = _asked(features, _rows(features["user_id"])(self._placed["user_id"]))
        return user_arrays(of_user, at[self._row])

    def items(self) -> Columns:
        """See `Knowledge`."""
        return item_arrays(*_asked(self._known.item_features, self._at))

    def source_category(self) -> Strings:
        """See `Knowledge`."""
        at = self._rows_of_item(self._placed["source_item_id"])
        of_source: Strings = item_arrays(*_asked(self._known.item_features, at))["category"]
        return of_source[self._row]

    def attributes(self) -> Columns:
        """See `Knowledge`; of the user only where there is a snapshot, else the rows' own say it."""
        listed = pc.if_else(pa.array(self._at != ABSENT), self._ids, None)
        found: Columns = {**_attributes(ITEM_PREFIX, listed, self._known.items, "item_id")}
        found |= _counts("item", self._known.item_features, self._at)
        if self._known.users is not None:
            features = self._known.user_features
            own = _attributes(USER_PREFIX, self._placed["user_id"], self._known.users, "user_id")
            own |= _counts("user", features, _rows(features["user_id"])(self._placed["user_id"]))
            found |= {name: column[self._row] for name, column in own.items()}
        return found


def _columns(placed: pa.Table, row: Ints, items: Strings, known: Known) -> Columns:
    """`candidate_columns` of rows that all see the same."""
    words = {name: strings(placed[name])[row] for name in ("user_id", "surface", "device", "region", "query")}
    keys = [key for key in attribute_keys(placed["attributes"]) if not key.startswith(ITEM_PREFIX)]
    words |= {name: column[row] for name, column in attribute_columns(placed["attributes"], keys).items()}
    return assembled(Moments(items, words), Midnight(known, placed, row, items), known.tasks)


def _attributes(
    prefix: str, wanted: pa.Array | pa.ChunkedArray, snapshot: pa.Table, key: str
) -> dict[str, NDArray[np.object_]]:
    """`attributes.<prefix><key>` of each wanted id, from a snapshot of items or users."""
    snapshot, at = _asked(snapshot, _rows(snapshot[key])(wanted))
    found = attribute_columns(snapshot["attributes"], attribute_keys(snapshot["attributes"]))
    return {
        ATTRIBUTE_PREFIX + prefix + name.removeprefix(ATTRIBUTE_PREFIX): _chosen(column, at)
        for name, column in found.items()
    }


def _counts(of: Of, features: pa.Table, at: Ints) -> dict[str, NDArray[np.object_]]:
    """`attributes.<of>.outcomes.<name>` of row `at[i]` of the features, what there is no row for (-1) None."""
    if features[OUTCOMES].null_count == len(features):
        return {}  # none is declared
    features, at = _asked(features.select([OUTCOMES]), at)
    words = pa.chunked_array([outcome_words(features[OUTCOMES], of)])
    return {name: _chosen(column, at) for name, column in attribute_columns(words, attribute_keys(words)).items()}


def _rows(keys: pa.ChunkedArray) -> Callable[[pa.Array | pa.ChunkedArray], Ints]:
    """A look-up: the row of each wanted key, -1 where it is null or unknown."""

    def rows(wanted: pa.Array | pa.ChunkedArray) -> Ints:
        at = pc.fill_null(pc.index_in(wanted, keys, skip_nulls=True), -1)
        whole = at.combine_chunks() if isinstance(at, pa.ChunkedArray) else at
        return np.asarray(whole.to_numpy(zero_copy_only=False), dtype=np.int64)

    return rows


def _asked(features: pa.Table, at: Ints) -> tuple[pa.Table, Ints]:
    """The rows that are asked for, and where each is then: few decisions must not cost as much as all users."""
    asked, place = np.unique(at[at >= 0]), np.full(len(features) + 1, -1)
    place[asked] = np.arange(len(asked))
    return features.take(pa.array(asked)), place[at]


def _chosen(values: Strings, at: Ints) -> Strings:
    """`values[at]`, None where `at` is -1."""
    return np.concatenate([values, np.array([None], dtype=object)])[at]
