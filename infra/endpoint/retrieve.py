"""Which items a request may be answered with: its own, or what the bundle finds; never one that is removed."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infra.endpoint.catalogue import SOURCE_ITEM, objects
from infra.endpoint.names import Column, Named
from infra.endpoint.request import RankRequest
from infra.endpoint.variant import Offer, Popular
from jobs.bundle import Bundle
from models.retrieval import Found
from models.retrieval.first_stage import POPULARITY


class Choice(NamedTuple):
    """What there is to choose from."""

    items: Sequence[str]
    by: str | None
    """Who found them; None where the request brought them."""
    rows: NDArray[np.int64]
    """Of the catalogue, -1 where it does not know an item."""
    ids: Column | Named
    """The items, to be looked up by place."""


def candidates(
    bundle: Bundle, offer: Offer, user: Mapping[str, Any] | None, request: RankRequest, most: int | None = None
) -> Choice:
    """The request's own; else what the bundle's retriever finds for the user's last items (and the source item, if
    any), with the newest items, which it cannot know. None that is removed.

    `most`: so many are looked for; None: as many as the bundle says.
    """
    if request.candidates is not None:
        own = allowed(offer, request.candidates)
        return Choice(own, None, offer.catalogue.rows(own), objects(own))
    found = search(bundle, offer, recent(user, request.context), most)
    newest, first = offer.newest, bundle.retrieval
    if found.codes is None or first is None:
        there = set(found.items)
        new = np.array([item not in there for item in newest.items.tolist()], dtype=bool)
        known = offer.catalogue.rows(found.items)
    else:
        new = ~(newest.codes[:, None] == found.codes).any(axis=1)
        known = offer.catalogue.rows_of(first)[found.codes]
    rows = np.concatenate([known, newest.rows[new]])
    named = offer.catalogue.names.of(rows)
    if named is not None:
        return Choice(named, found.by, rows, named)
    ids = np.concatenate([found.ids, newest.items[new]])
    return Choice(ids.tolist(), found.by, rows, ids)


def recent(user: Mapping[str, Any] | None, context: Mapping[str, str | None]) -> list[str]:
    """The user's last items, and the item whose page it is."""
    last = [item for item in (user or {}).get("last_items", ()) if item is not None]
    source = context.get(SOURCE_ITEM)
    return last if source is None else [*last, source]


def search(bundle: Bundle, offer: Offer, items: Sequence[str], most: int | None) -> Found:
    """For items that were taken up: what the bundle's retriever finds, or the popular ones where it has none."""
    if bundle.retrieval is not None:
        return bundle.retrieval.search(items, offer.barred, most)
    return Found(offer.popular.item_ids[:most], POPULARITY, offer.popular.predictions.p_click[:most])


def allowed(offer: Popular, items: Sequence[str]) -> list[str]:
    """Those that are not removed."""
    return [item for item in items if item not in offer.removed]
