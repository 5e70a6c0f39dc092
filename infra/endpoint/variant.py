"""A bundle in service: what it offers of each publication, and the thread its ranker runs on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from infra.endpoint.catalogue import Catalogue, objects
from infra.endpoint.lane import Lane
from infra.endpoint.names import Column, Named
from jobs.bundle import Bundle
from models.policies.heuristics import Words
from models.rankers.halves import Half
from models.rankers.protocol import Predictions
from models.retrieval.interactions import Bools


@dataclass(frozen=True)
class Scored:
    """n candidates, (n,) object, and what was predicted of each."""

    item_ids: Column | Named
    predictions: Predictions
    words: Words = field(default_factory=dict)
    """What the policy's heuristics look at."""

    def only(self, rows: NDArray[np.int64]) -> "Scored":
        """These rows, in this order."""
        words = {column: of[rows] for column, of in self.words.items()}
        return Scored(self.item_ids[rows], self.predictions.take(rows), words)


@dataclass(frozen=True)
class Popular:
    """What popularity must know of one publication for one bundle; nothing of it changes."""

    day: date | None
    """None before the first publication."""
    available_at: datetime
    """What is asked before it is answered with an older one."""
    popular: Scored
    """The best of the catalogue by the fallback's scores, best first."""
    removed: frozenset[str]
    """Items that are never offered: those of the newest publication, whatever is asked and for when."""
    words: Mapping[str, Mapping[str, str]]
    """Column to item to its word, where heuristics of the bundle's policy look at it; an item without one is left out.
    """

    @property
    def popular_ids(self) -> list[str]:
        return list(self.popular.item_ids)

    def columns(self, items: Sequence[str]) -> dict[str, Column]:
        """What is known here of n items: their ids, and the words that heuristics look at."""
        known = {column: objects([of.get(item) for item in items]) for column, of in self.words.items()}
        return {"item_id": objects(items), **known}


class Newest(NamedTuple):
    """The youngest items, which retrieval may not know."""

    items: Column
    """Ids."""
    rows: NDArray[np.int64]
    """Of the catalogue."""
    codes: NDArray[np.int64]
    """Of the bundle's retriever; -1 where it does not know an item."""


@dataclass(frozen=True)
class Offer(Popular):
    """One publication for one bundle; all of it is of the same day."""

    catalogue: Catalogue
    barred: Bools | None
    """What the bundle's retriever must not find: these, and what the catalogue does not list. None: no retriever."""
    newest: Newest
    halves: Half | None = None
    """What the bundle's ranker makes of each item of the catalogue, whoever asks; None: it looks at whole rows."""


P = TypeVar("P", bound=Popular)


def known_at(offers: Sequence[P], at: datetime) -> P:
    """The newest that counts as known at a moment: `jobs.asof.clock`, as in training. `offers`: newest first."""
    return next(offer for offer in offers if offer.available_at <= at)


class Variant:
    """A request takes one offer and keeps it; the refreshing thread replaces `offers` whole."""

    def __init__(self, bundle: Bundle, lane: Lane, offers: Sequence[Offer]) -> None:
        """`offers`: newest first, the last one available since ever."""
        self.bundle = bundle
        self.lane = lane
        self.offers = offers

    def offer(self, at: datetime) -> Offer:
        """See `known_at`."""
        return known_at(self.offers, at)
