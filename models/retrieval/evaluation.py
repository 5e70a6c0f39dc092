"""How much of what users took up next a retriever would have offered them, all items ranked, never a sample of them.

Metrics on sampled items order retrievers wrongly (Krichene & Rendle 2020). What is measured is what users took up among
what they were shown: a retriever that agrees with what showed it to them has an advantage, and no interval tells it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from models.evaluation.estimate import Estimate, Finding
from models.evaluation.linear import Linear
from models.retrieval.interactions import Bools, Floats, Interactions, Ints, Sparse
from models.retrieval.protocol import Retriever, candidates
from models.settings import RetrievalSettings

CELLS = 4_000_000
"""Scores held at once: users ranked together x items."""


@dataclass(frozen=True)
class HeldOut:
    """n users who took up something new to them: `history` (n, items) until then, `taken` (n, items) of it.

    `new` (items,): without interactions before. `removed` (items,): not to be offered, and not counted as taken.
    """

    history: Sparse
    taken: Sparse
    new: Bools
    removed: Bools

    @classmethod
    def of(
        cls, before: Interactions, after: Interactions, removed: Bools | None = None, newest: int | None = None
    ) -> Self:
        """From interactions learned from and held out, of the same users and items.

        What a user took up before is not counted again. A `history` has the `newest` so many items a user took up, as
        serving will know them; all of them by default. Raises ValueError for held-out interactions that are not all
        later, or when nothing is left.
        """
        if len(before.time) and len(after.time) and after.time.min() < before.time.max():
            raise ValueError(
                "held-out interactions need to be later than all that was learned from;"
                f" found {after.time.min():g} before {before.time.max():g}"
            )
        gone = np.zeros(before.items, dtype=bool) if removed is None else removed
        history = before.matrix()
        taken = (after.matrix() > 0).astype(np.float64)
        taken = taken - taken.multiply(history > 0)
        taken = (taken * (~gone).astype(np.float64)[None, :]).tocsr()
        taken.eliminate_zeros()
        users = np.flatnonzero(np.diff(taken.indptr))
        if not len(users):
            raise ValueError(f"an evaluation needs users who took up something new; found none in {len(after.time)}")
        new = np.asarray((history > 0).sum(axis=0)) == 0
        known = history if newest is None else before.newest(newest).matrix()
        return cls(known[users], taken[users], new, gone)


@dataclass(frozen=True)
class Quality:
    """A retriever's figures at one k, their influences by user, so that two retrievers' differences are paired.

    `recall`: the mean over users of the share of `taken` that is among the k. `new_item_recall`: the same of items
    without a history, over users who took up some. `coverage`: the share of items that may be offered which are among
    anyone's k; a count of this log, without an interval. `offered` (n, k): the items themselves, -1 where none.
    """

    kind: str
    recall: Linear
    new_item_recall: Linear
    coverage: float
    offered: Ints


def quality(retriever: Retriever, held_out: HeldOut, k: int) -> Quality:
    """Ranks all items for every user; raises ValueError for k < 1."""
    n, items = held_out.taken.shape
    batch = max(1, CELLS // items)
    offered = np.concatenate(
        [
            candidates(retriever, held_out.history[start : start + batch], k, held_out.removed)
            for start in range(0, n, batch)
        ]
    )
    new = held_out.taken * held_out.new.astype(np.float64)[None, :]
    some_new = np.flatnonzero(np.asarray(new.sum(axis=1)))
    seen = np.unique(offered[offered >= 0])
    return Quality(
        retriever.kind,
        Linear.mean(_recall(held_out.taken, offered)),
        Linear.mean(_recall(new.tocsr()[some_new], offered[some_new]), some_new, "no user took up a new item"),
        len(seen) / max(1, items - int(held_out.removed.sum())),
        offered,
    )


def _recall(taken: Sparse, offered: Ints) -> Floats:
    """(n,): the share of each row's items that is in the row of `offered`."""
    n, items = taken.shape
    row = np.repeat(np.arange(n), np.diff(taken.indptr))
    place = np.where(offered >= 0, np.arange(n)[:, None] * items + offered, -1)
    hit = taken.data * np.isin(row * items + taken.indices, place)
    total = np.bincount(row, weights=taken.data, minlength=n)
    found: Floats = np.bincount(row, weights=hit, minlength=n) / np.where(total > 0, total, 1.0)
    return found


@dataclass(frozen=True)
class Chosen:
    """Which kind is served, and of each challenger its recall less popularity's, with the interval it was judged by."""

    kind: str
    gains: dict[str, Finding]


def choose(baseline: Quality, challengers: Sequence[Quality], settings: RetrievalSettings) -> Chosen:
    """The challenger whose gain over the baseline is largest for sure, the first of equals; else the baseline.

    For sure: by the lower end of the paired interval, which must be above 0. Challengers share the risk (Bonferroni):
    that any is chosen which gains nothing has a chance of at most (1 - confidence) / 2.
    """
    confidence = 1 - (1 - settings.confidence) / max(1, len(challengers))
    gains = {
        challenger.kind: (challenger.recall - baseline.recall).estimate(confidence, bounds=(-1.0, 1.0))
        for challenger in challengers
    }
    sure = {kind: gain.low for kind, gain in gains.items() if isinstance(gain, Estimate) and gain.low > 0}
    return Chosen(max(sure, key=lambda kind: sure[kind]) if sure else baseline.kind, gains)
