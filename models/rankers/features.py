"""Which columns a ranker sees, and how a user's and an item's feature rows become them.

One definition for training, backtest, serving and monitoring: all of them call `decision_columns`, by
`jobs.moment.assembler`, and use these names, so what is trained on is what is served. One model answers every surface
(a unified contextual ranker, e.g. Bhattacharya et al. 2024, "Joint Modeling of Search and Recommendations Via an
Unified Contextual Recommender (UniCoRn)"): tasks are told apart by `task_type`, and context that only one surface has
is imputed with a default elsewhere.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.features import ENCODINGS, FEATURES, NUMBER, Feature, Of, read
from models.rankers.protocol import Column, Columns, Floats, Inputs
from models.rankers.words import Words, repeated, said_once
from models.settings import TaskSettings

Ints = NDArray[np.int64]
Strings = NDArray[np.object_]


def _numbers(of: Of) -> tuple[str, ...]:
    return tuple(feature.name for feature in read(of) if feature.kind == "number")


USER_NUMBERS, ITEM_NUMBERS = _numbers("user"), _numbers("item")
"""The numbers of a user's and an item's feature row that `decision_columns` takes, in training and in serving."""
SEPARATOR = "\x1f"
"""Between the parts of a joint value."""
_SHOWN = tuple(feature for feature in FEATURES if feature.seen == "itself")
_OF_USER, _OF_ITEM = (tuple(feature for feature in _SHOWN if feature.of == of) for of in ("user", "item"))
NUMERIC = tuple(feature.column for feature in _SHOWN if feature.kind == "number")
CATEGORICAL = tuple(feature.column for feature in _SHOWN if feature.kind == "word")
OF_REQUEST = tuple(
    feature.column
    for feature in _SHOWN
    if (feature.of == "user" and feature.kind == "number") or (feature.of == "decision" and feature.kind == "word")
)
"""Those of `NUMERIC` and `CATEGORICAL` that all items of a request have in common: its user's, and what it says."""
SEEN_OF_ITEM = tuple(dict.fromkeys(name for feature in _SHOWN for name in feature.sees if name != "item_id"))
"""By which of an item's features what is made of it and a request may differ; and by whether it is of the user's."""
HEAVY_TAILED = frozenset(feature.column for feature in _SHOWN if feature.heavy_tailed)
"""Those of `NUMERIC` to be looked at as log(1 + x)."""
ATTRIBUTE_PREFIX = "attributes."
"""Every key of the `attributes` map becomes one more column `attributes.<key>`, of words, or of numbers (`NUMBER`)."""
COUNT_PREFIX = "outcomes."
"""Of the attributes of a user or an item that say how many events of a further outcome there were, see `steps`."""
IDS = ("user_id", "item_id")
"""Who looks at what, for rankers that remember users or items; never a number or one of few categories."""
WIDTHS = {feature.column: feature.width for feature in _SHOWN if feature.kind == "items"}
LISTS = tuple(WIDTHS)
"""Ids of one user, (n, `WIDTHS[name]`), newest first."""
TABLE = Inputs(numbers=NUMERIC, categories=CATEGORICAL, attributes=True)
"""What a ranker of numbers and categories needs."""
VECTORS = tuple(feature.column for feature in _SHOWN if feature.kind == "given")
"""What the catalogue gives of an item, (n, the longest), each as long as it was given."""
EVERYTHING = TABLE | Inputs(ids=IDS, lists=LISTS, vectors=VECTORS)

ITEM_ATTRIBUTES = f"{ATTRIBUTE_PREFIX}item."
"""What begins the columns that an item's own attributes become."""
SERVING_POSITION = 1
"""Position is a feature when learning (people look at the top) and fixed to this when scores are compared."""
NO_BUCKET = -1
"""In an array of interest buckets: no category, or no item at all."""


def packed(feature: Feature, values: Sequence[Any]) -> NDArray[Any]:
    """A feature of m users or items as an array: (m,), or (m, width) of lists and vectors, which begin at the left;
    of given vectors (m, the longest).

    Where a value is None, and to the right of what a list has: NaN of numbers and vectors, `NO_BUCKET` of buckets, None
    of words and items.
    """
    shape: tuple[int, ...] = (len(values),)
    if feature.kind in ("vector", "items", "buckets"):
        shape = (len(values), feature.width)
    elif feature.kind == "given":
        shape = (len(values), max((len(value) for value in values if value is not None), default=0))
    if feature.kind == "given":
        column: NDArray[Any] = np.full(shape, np.nan, np.float32)
    elif feature.kind in ("number", "vector"):
        column = np.full(shape, np.nan)
    elif feature.kind in ("bucket", "buckets"):
        column = np.full(shape, NO_BUCKET, np.int64 if feature.kind == "bucket" else np.int8)
    else:
        column = np.full(shape, None, dtype=object)
    for row, value in enumerate(values):
        if value is not None and len(shape) > 1:
            column[row, : len(value)] = value[: shape[1]]
        elif value is not None:
            column[row] = value
    return column


def widened(vectors: NDArray[Any], width: int) -> NDArray[Any]:
    """Given vectors (n, k) as (n, `width` or more): NaN to their right."""
    return np.pad(vectors, ((0, 0), (0, max(0, width - vectors.shape[1]))), constant_values=np.nan)


def there(vectors: Columns) -> dict[str, NDArray[Any]]:
    """Columns of given vectors without what is to the right of the longest; none of those that nobody has."""
    some = {name: of for name, of in vectors.items() if of.shape[1]}
    longest = {name: np.flatnonzero(~np.isnan(of).all(axis=0)).max(initial=-1) + 1 for name, of in some.items()}
    return {name: vectors[name][:, :width] for name, width in longest.items() if width}


def steps(numbers: Floats) -> Strings:
    """(n,) each number as a word, the power of two at or below it: "0", "0.5", "1", "2", "4", ...; "0" below 0 too.

    Any outcome that settings declare becomes one more category so; steps that double tell few from many, in any unit.
    """
    exponent = np.frexp(np.maximum(numbers, 0.0))[1]
    found, code = np.unique(np.where(numbers > 0, exponent, np.iinfo(np.int32).min), return_inverse=True)
    words = [f"{2.0 ** (int(e) - 1):.15g}" if e > np.iinfo(np.int32).min else "0" for e in found]
    return np.array(words, dtype=object)[code]


@dataclass(frozen=True)
class Encodings:
    """Click rates by encoding and value as known at m midnights, and which of them each of n rows sees."""

    rates: Mapping[str, Mapping[str, Floats]]
    """Encoding, then value, to (m,); NaN where a midnight does not know the value."""
    midnight: Ints
    """(n,) in [0, m), -1 where none may be seen; or (1,) for all rows alike."""

    @classmethod
    def unknown(cls) -> Self:
        """Nothing is known of any value."""
        return cls({}, np.array([-1]))

    def of(self, name: str, parts: Sequence[Words]) -> Floats:
        """(n,) the rate of each row's joint value of `parts`; NaN where a part or the rate is unknown."""
        known = self.rates.get(name)
        if not known:
            return np.full(len(parts[0]), np.nan)
        both = joint(parts)
        if not len(both.values):  # off the surface that has the context
            return np.full(len(both), np.nan)
        nothing = np.full(len(next(iter(known.values()))), np.nan)
        table = np.full((len(both.values) + 1, len(nothing) + 1), np.nan)  # index -1 finds what nobody knows
        rates = np.concatenate(
            [known.get(value, nothing) for value in both.values]
        )  # a list of arrays takes thrice that
        table[:-1, :-1] = rates.reshape(-1, len(nothing))
        found: Floats = table[both.at, self.midnight]
        return found


def joint(parts: Sequence[Words]) -> Words:
    """The values of several columns as one, unknown where a part is; one string per value, not per row."""
    *before, last = parts
    if not before:
        return last
    if all(map(said_once, before)):  # as of one request's candidates
        said = [part.values[part.at[0]] for part in before if part.at[0] >= 0]
        if len(said) < len(before):
            return Words.unknown(len(last))
        return Words([SEPARATOR.join([*said, value]) for value in last.values], last.at)
    codes, values = parts[0].at.astype(np.int64), parts[0].values
    for part in parts[1:]:
        more, words = part.at, part.values
        pairs = np.where((codes >= 0) & (more >= 0), codes * max(len(words), 1) + more, -1)
        distinct, inverse = np.unique(pairs, return_inverse=True)
        missing = int(len(distinct) > 0 and distinct[0] < 0)
        codes = inverse.astype(np.int64) - missing
        left, right = np.divmod(distinct[missing:], max(len(words), 1))
        values = [values[a] + SEPARATOR + words[b] for a, b in zip(left.tolist(), right.tolist(), strict=True)]
    return Words(values, codes.astype(np.int32))


def attribute(name: str, column: Column) -> Any:
    """The texts (n,) of an attribute as they are, or as floats where it is one of numbers: NaN where unknown."""
    if not name.endswith(NUMBER) or not (isinstance(column, Words) or column.dtype == object):
        return column
    words = Words.of(column)
    found: Floats = np.array([*map(_read, words.values), np.nan])[words.at]
    return found


def _read(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def attributes_of(features: Columns) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns of attributes there are, sorted: those of words, and those of numbers."""
    every = sorted(name for name in features if name.startswith(ATTRIBUTE_PREFIX))
    return tuple(n for n in every if not n.endswith(NUMBER)), tuple(n for n in every if n.endswith(NUMBER))


def interest_of(interests: NDArray[np.float64], bucket: Ints) -> Floats:
    """Each row's interest in its item's category bucket: (n, buckets) and (n,) give (n,).

    NaN where the user is unknown (a row of NaN) or the item has no category (bucket < 0).
    """
    known = bucket >= 0
    found = np.full(len(bucket), np.nan)
    rows = np.flatnonzero(known)
    found[rows] = interests[rows, bucket[rows]]
    return found


def share_of(buckets: NDArray[np.int8], bucket: Ints) -> Floats:
    """(n,) which part of each row's `buckets` (n, k) is the item's: 0 to 1; entries of `NO_BUCKET` do not count.

    NaN where there is nothing to be a part of, or the item has no category.
    """
    there = (buckets != NO_BUCKET).sum(axis=1)
    same = (buckets == bucket[:, None].astype(np.int8)).sum(axis=1)
    found = np.full(len(bucket), np.nan)
    np.divide(same, there, out=found, where=(there > 0) & (bucket >= 0))
    return found


def decision_columns(
    users: Columns, items: Columns, context: Columns, encodings: Encodings, tasks: TaskSettings, whole: bool = True
) -> dict[str, NDArray[Any]]:
    """Row-aligned user features, item features and context become a ranker's columns; n rows in, n rows out.

    Not `whole`: without those that are the items' own, `is_of_item`; of their features `SEEN_OF_ITEM` is enough.

    `users`, `items`: the features that `models.features.read` names: numbers and words (n,), vectors, items and buckets
    (n, width) from the left; unknown is NaN, None or `NO_BUCKET`. `items` has item_id beside them. Given vectors that
    no row has are no column.
    `context`: user_id, surface, device, region, query, source_category (None off the surfaces that have them) and any
    `attributes.<key>`; `position` where it is known, else the serving one.
    """
    n, bucket = len(items["item_id"]), items["interest_bucket"]
    clicked = (users["last_items"] == items["item_id"][:, None]).any(axis=1)
    columns: dict[str, NDArray[Any]] = {
        "user_id": context["user_id"],
        "position": context.get("position", np.full(n, float(SERVING_POSITION))),
        **{feature.column: users[feature.name] for feature in _OF_USER},
        "user_item_interest": interest_of(users["interests"], bucket),
        "user_last5_share": share_of(users["last_buckets"][:, :5], bucket),
        "user_last10_share": share_of(users["last_buckets"], bucket),
        "user_session_share": share_of(users["session_buckets"], bucket),
        "user_clicked_item": np.where(np.isnan(users["impressions"]), np.nan, clicked),
        **(item_columns(items) if whole else {}),
        "task_type": task_types(context["surface"], tasks),
    }
    for name, column in context.items():
        if name in CATEGORICAL or name.startswith(ATTRIBUTE_PREFIX):
            columns[name] = attribute(name, column)
    return columns | _of_surfaces(context, items["category"], encodings)


def item_columns(items: Columns) -> dict[str, NDArray[Any]]:
    """Of `decision_columns` those that are the item's, whoever asks: all that `is_of_item` says, but for attributes."""
    numbers_and_words = {feature.column: items[feature.name] for feature in _OF_ITEM if feature.column not in VECTORS}
    vectors = there({feature.column: items[feature.name] for feature in _OF_ITEM if feature.column in VECTORS})
    return {"item_id": items["item_id"], **numbers_and_words, **vectors}


_ITEM_COLUMNS = frozenset({"item_id", *(feature.column for feature in _OF_ITEM)})


def is_of_item(column: str) -> bool:
    """Whether it says of an item what it says of it in any request."""
    return column in _ITEM_COLUMNS or column.startswith(ITEM_ATTRIBUTES)


def alike(items: Columns) -> Ints:
    """(n,) one number for all items that are alike in `SEEN_OF_ITEM`, as `decision_columns` is given them."""
    found = np.zeros(len(items["item_id"]), dtype=np.int64)
    for name in SEEN_OF_ITEM:
        column = items[name]
        if isinstance(column, Words) or column.dtype == object:
            codes = Words.of(column).at.astype(np.int64) + 1
        else:
            codes = np.unique(column, return_inverse=True)[1]
        found = np.unique(found * (codes.max(initial=0) + 1) + codes, return_inverse=True)[1]
    return found


def _of_surfaces(context: Columns, category: Strings, encodings: Encodings) -> dict[str, Floats]:
    """The encodings, and whether an item is of its source item's category.

    Elsewhere than on the surface that has the context, and for values nobody has seen, the rate of the item's category
    alone stands in for a joint one, and `source_same_category` is 0.
    """
    columns = {"item_category": category, **{name: context[name] for name in ("surface", "source_category", "query")}}
    parts = {name: Words.of(column) for name, column in columns.items()}
    found: dict[str, Floats] = {}
    for name, of in ENCODINGS.items():
        rate = encodings.of(name, [parts[part] for part in of])
        found[f"encoded_{name}"] = np.where(np.isnan(rate), found.get("encoded_category", rate), rate)
    source = context["source_category"]
    same = (source == category) & np.array([value is not None for value in source.tolist()], dtype=bool)
    return {**found, "source_same_category": same.astype(np.float64)}


def task_types(surface: Strings, tasks: TaskSettings) -> Strings:
    """(n,) what each surface's task is; one that `tasks` does not name has `tasks.otherwise`."""
    words = Words.of(surface)
    named = [tasks.of_surface.get(value, tasks.otherwise) for value in words.values]
    of = np.array([*named, tasks.otherwise], dtype=object)
    if said_once(words):
        at = int(words.at[0])
        return repeated(of[at:][:1].reshape(()), len(words))
    return of[words.at]
