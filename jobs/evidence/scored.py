"""The test rows whose click is known, and what champion and challenger say of them: scored once for every part."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.bundle import Bundle
from jobs.evidence.document import Side
from jobs.moment.columns import attribute_keys, numbers, ranker_columns
from jobs.moment.decisions import clusters
from models.rankers.features import ATTRIBUTE_PREFIX, SERVING_POSITION
from models.rankers.protocol import Floats

Ints = NDArray[np.int64]
SIDES: tuple[Side, Side] = ("champion", "challenger")
Pair = tuple[Bundle, Bundle]
"""Champion, challenger."""
AT_ONCE = 1 << 16
"""Rows (or candidates) whose columns are held together: about 70 MiB. No figure depends on it."""
NEW_ITEM_DAYS = 7.0
SLICED = ("surface", "device", "region", "item_category", "position")
"""Columns that are attributes as they are; `attributes.*` of users, items and requests join them."""


@dataclass(frozen=True)
class Scored:
    """n test rows; every array is (n,)."""

    clicked: Floats
    users: Ints
    requests: Ints
    as_shown: Mapping[str, Floats]
    """Side to p_click at the position that was shown."""
    as_first: Mapping[str, Floats]
    """Side to p_click as if every item were shown first: that is how items compare."""
    attributes: Mapping[str, NDArray[Any]]
    """What rows can be told apart by."""

    def __len__(self) -> int:
        return len(self.clicked)


def scored(test: pa.Table, pair: Pair, identity: pa.Table, at_once: int = AT_ONCE) -> Scored:
    """Both rankers on the rows of `test` with a known click; the others say nothing yet.

    `identity`: the catalogue's `jobs.moment.identity.IDENTITY`, which tells items that are there under several ids.
    """
    rows = with_known_click(test)
    keys = attribute_keys(rows["attributes"])
    parts = [_part(rows.slice(start, at_once), pair, keys) for start in range(0, max(len(rows), 1), at_once)]

    def whole(of: Callable[[_Part], Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        return {name: np.concatenate([of(part)[name] for part in parts]) for name in of(parts[0])}

    return Scored(
        clicked=numbers(rows["clicked"]),
        users=clusters(rows),
        requests=rows["request_id"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64),
        as_shown=whole(lambda part: part.as_shown),
        as_first=whole(lambda part: part.as_first),
        attributes=whole(lambda part: part.attributes) | _of_rows(rows, identity),
    )


def as_shown(rows: pa.Table, side: Bundle, at_once: int) -> Floats:
    """(n,) the bundle's p_click of rows at the position that was shown."""
    parts = (rows.slice(start, at_once) for start in range(0, max(len(rows), 1), at_once))
    return np.concatenate([side.ranker.predict(ranker_columns(part)).p_click for part in parts])


def with_known_click(test: pa.Table) -> pa.Table:
    """The rows whose click is known."""
    return test.filter(test["clicked"].is_valid()) if test["clicked"].null_count else test


@dataclass(frozen=True)
class _Part:
    """As `Scored`, of some rows."""

    as_shown: Mapping[str, Floats]
    as_first: Mapping[str, Floats]
    attributes: Mapping[str, NDArray[Any]]


def _part(rows: pa.Table, pair: Pair, keys: list[str]) -> _Part:
    shown = ranker_columns(rows, keys)
    first = {**shown, "position": np.full(len(rows), float(SERVING_POSITION))}
    both = dict(zip(SIDES, pair, strict=True))
    found = {name: shown[name] for name in shown if name in SLICED or name.startswith(ATTRIBUTE_PREFIX)}
    age = shown["item_age_days"]
    known = np.where(np.isnan(age), "unknown", np.where(age < NEW_ITEM_DAYS, "new", "older"))
    found["item_age"] = known.astype(object)
    found["user_known"] = np.where(np.isnan(shown["user_impressions"]), "unknown", "known").astype(object)
    return _Part(
        as_shown={name: side.ranker.predict(shown).p_click for name, side in both.items()},
        as_first={name: side.ranker.predict(first).p_click for name, side in both.items()},
        attributes=found,
    )


def _of_rows(rows: pa.Table, identity: pa.Table) -> dict[str, NDArray[Any]]:
    """The attributes that other rows, or the catalogue, have a part in."""
    found: dict[str, NDArray[Any]] = {"seen_before": _seen_before(rows)}
    if len(identity):
        several = pa.chunked_array([*identity["item_id"].chunks, *identity["identity"].chunks], pa.string())
        copied = pc.is_in(rows["item_id"], pc.unique(several)).to_numpy()
        found["item_ids"] = np.where(copied, "several", "one").astype(object)
    return found


def _seen_before(rows: pa.Table) -> NDArray[np.object_]:
    """Whether the user was shown the very item before, among these rows; `unknown` without a user."""
    user, item = (rows[name].combine_chunks().dictionary_encode().indices for name in ("user_id", "item_id"))
    known = np.asarray(user.is_valid())
    pair = user.fill_null(0).to_numpy().astype(np.int64) * (len(rows) + 1) + item.to_numpy()
    order = np.lexsort((rows["event_time"].cast(pa.int64()).to_numpy(), pair))
    again = np.zeros(len(rows), bool)
    again[order[1:]] = pair[order[1:]] == pair[order[:-1]]
    return np.where(~known, "unknown", np.where(again, "again", "first")).astype(object)
