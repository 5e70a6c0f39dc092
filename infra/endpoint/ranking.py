"""What a bundle's ranker says of candidates: whole rows, or the halves of them where the items' are known already.

Only what differs between items is made for each of them. What is made of a request and an item together differs by few
of the item's features (`models.features.Feature.sees`), so it is made once for all candidates that are alike in those.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.endpoint.catalogue import Catalogue, objects
from infra.endpoint.lane import Steps
from infra.endpoint.names import Column, Named
from infra.endpoint.request import RankRequest
from infra.endpoint.variant import Offer, Scored
from jobs.bundle import Bundle
from models.policies.heuristics import words_in
from models.rankers.halves import Half
from models.rankers.protocol import Columns, Predictions, Scorer
from models.rankers.served import Served
from models.settings import PolicySettings

MIB = 1 << 20
SINGLE = 4
"""Bytes of a number of a half."""


def ranked(
    bundle: Bundle,
    offer: Offer,
    items: Sequence[str] | Column | Named,
    user: Mapping[str, Any] | None,
    request: RankRequest,
    rows: NDArray[np.int64],
    took: Callable[[str], AbstractContextManager[Any]],
) -> Steps[Scored]:
    """The candidates that the light stage leaves; `rows`: of the catalogue, `took` measures each step."""
    catalogue, ids = offer.catalogue, items if isinstance(items, np.ndarray | Named) else objects(items)
    if offer.halves is None or not isinstance(bundle.ranker, Served):
        with took("columns"):
            columns = catalogue.columns(ids[:], user, request, rows)
        yield
        with took("rank"):
            left = bundle.kept(columns, np.array([0, len(ids)])) if request.drawn else None
            if left is not None:
                columns = {name: column[left] for name, column in columns.items()}
            return scored(bundle.ranker, columns, bundle.policy)
    with took("columns"):
        at, kind = catalogue.kinds(rows, user)
        # A half that is known needs no column of its item; that of an unknown one is made of its columns.
        columns = catalogue.columns(ids[at], user, request, rows[at], whole=bool((rows < 0).any()))
        other = bundle.ranker.other_half(columns)
    yield
    with took("rank"):
        said = bundle.ranker.predict_halves(offer.halves, rows, columns, kind, other)
        # Heuristics look at words of items, and an item that is unknown has none.
        words = {name: catalogue.known[name][rows] for name in bundle.policy.columns if name in catalogue.known}
        return Scored(ids, said, words_in({"item_id": rows, **words}, bundle.policy))


def scored(ranker: Scorer, columns: Columns, policy: PolicySettings) -> Scored:
    """No rows, no predictions: a ranker need not know what to do with none."""
    ids = columns["item_id"]
    said = ranker.predict(columns) if len(ids) else Predictions(np.zeros(0), np.zeros(0))
    return Scored(ids, said, words_in(columns, policy))


def halves(bundle: Bundle, catalogue: Catalogue, most_mib: int) -> Half | None:
    """Of each item of the catalogue; None where the ranker has none, a light stage looks at whole rows before it, or
    they would take more memory than `most_mib`.
    """
    made = bundle.ranker.halves if isinstance(bundle.ranker, Served) else None
    if made is None or bundle.light is not None:
        return None
    needed = (made.width + made.dimensions) * SINGLE * len(catalogue.ids)
    return made.items.of(catalogue.known) if needed <= most_mib * MIB else None
