"""What is answered without a ranker: popularity, from memory and without I/O; and how any slate becomes an answer.

The platform needs this much of a bundle, and no more, to answer for a variant whose processes cannot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import NamedTuple, TypeVar

import numpy as np
import orjson

from infra.endpoint.catalogue import objects
from infra.endpoint.errors import BadRequest
from infra.endpoint.ranking import scored
from infra.endpoint.request import AskedOnSurface, RankRequest, shown
from infra.endpoint.retrieve import allowed
from infra.endpoint.variant import Popular, Scored
from jobs.bundle import Standby
from jobs.config import ServedSurfaceSettings
from jobs.serving.answer import Answer, Placement
from jobs.serving.slates import drawn
from models.rankers.protocol import Predictions
from models.retrieval.first_stage import POPULARITY
from models.settings import PolicySettings

EVERY_SURFACE = ServedSurfaceSettings()
NONE = Scored(objects([]), Predictions(np.zeros(0), np.zeros(0)))
RANKED, BUSY, LATE, FAILED = "ranked", "busy", "late", "failed"
"""What became of a request: the ranker answered; or it could not have been in time, or was not, or raised."""
DOWN, HUNG = "down", "hung"
"""No process of the variant was there to ask, or the one that was asked said nothing in time."""
OUTCOMES = (RANKED, BUSY, LATE, FAILED, DOWN, HUNG)
S = TypeVar("S", bound=AskedOnSurface)


class Slate(NamedTuple):
    """What is answered, and where the request brought no candidates who found them, and which."""

    items: list[Placement]
    retrieved_by: str | None = None
    candidates: Sequence[str] | None = None
    user_known: bool | None = None
    unknown_items: list[str] | None = None


def by_popularity(bundle: Standby, offer: Popular, request: RankRequest) -> Slate:
    """From memory only, the user unknown; the slate is drawn by the bundle's policy, so propensities are true."""
    if request.candidates is None:
        return Slate(placed(offer.popular, request, bundle.policy), POPULARITY, offer.popular_ids)
    found = scored(bundle.fallback, offer.columns(allowed(offer, request.candidates)), bundle.policy)
    return Slate(placed(found, request, bundle.policy))


def admitted(surfaces: Mapping[str, ServedSurfaceSettings], bundle: Standby, request: S) -> S:
    """The request, which says how many items it wants; raises `BadRequest` for more than its surface shows, and for a
    surface that neither the settings nor the bundle's training knows. A bundle may not say what it knows.
    """
    learned = bundle.manifest["lineage"].get("surfaces")
    if learned is not None and request.surface not in learned and request.surface not in surfaces:
        known = ", ".join(sorted({*learned, *surfaces}))
        raise BadRequest(f"surface must be one of {known}; found {shown(request.surface)}")
    if not isinstance(request, RankRequest) or not request.drawn:
        return request
    own = surfaces.get(request.surface, EVERY_SURFACE)
    if request.k is None:
        return request.model_copy(update={"k": own.k})
    if request.k > own.most_k:
        raise BadRequest(f"k must be at most {own.most_k} on surface {shown(request.surface)}; found {request.k}")
    return request


def answered(bundle: Standby, name: str, request: RankRequest, offer: Popular, made: Slate, outcome: str) -> Answer:
    """The slate as variant `name` of a bundle says it."""
    return Answer(
        request_id=request.request_id,
        items=made.items,
        bundle_version=bundle.candidate_id,
        bundle_sha256=bundle.sha256,
        variant=name,
        fallback=outcome != RANKED,
        features_day=None if offer.day is None else offer.day.isoformat(),
        retrieved_by=made.retrieved_by,
        candidates=made.candidates,
        fallback_reason=None if outcome == RANKED else outcome,
        user_known=made.user_known,
        unknown_items=made.unknown_items,
    )


def told(offers: Sequence[Popular]) -> bytes:
    """What popularity must know, for `heard` in another process."""
    said = [(offer.day, offer.available_at, offer.popular_ids, offer.words) for offer in offers]
    return orjson.dumps({"offers": said, "removed": sorted(offers[0].removed)})


def heard(bundle: Standby, content: bytes) -> Sequence[Popular]:
    """The same offers, as `bundle` scores them."""
    said = orjson.loads(content)
    removed = frozenset(said["removed"])
    return [
        popular(
            bundle,
            None if day is None else date.fromisoformat(day),
            datetime.fromisoformat(available_at),
            ids,
            removed,
            words,
        )
        for day, available_at, ids, words in said["offers"]
    ]


def popular(
    bundle: Standby,
    day: date | None,
    available_at: datetime,
    ids: Sequence[str],
    removed: frozenset[str],
    words: Mapping[str, Mapping[str, str]],
) -> Popular:
    """With these items, in this order, as the bundle's fallback scores them."""
    nobody = Popular(day, available_at, NONE, removed, words)
    return replace(nobody, popular=scored(bundle.fallback, nobody.columns(ids), bundle.policy))


def placed(found: Scored, request: RankRequest, policy: PolicySettings) -> list[Placement]:
    """As `drawn` says."""
    asked = (request.surface, request.request_id, request.k, request.drawn)
    return drawn(found.item_ids, found.predictions, policy, *asked, found.words)
