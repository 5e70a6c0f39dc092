"""Calls for others to mix and match: what retrieval finds, and where it sees users and items.

They take their turn on the variant's thread and have its time, as a decision has. Popularity answers for retrieval that
is late; vectors have nothing that could stand in for them.
"""

from collections.abc import Iterable

from infra.endpoint.decide import Decider
from infra.endpoint.errors import Conflict, Unavailable
from infra.endpoint.request import CandidatesRequest, EmbedRequest
from infra.endpoint.retrieve import recent, search
from infra.endpoint.variant import Offer, Variant
from jobs.serving.answer import Candidate, Candidates, Embedding, Embeddings, Space
from models.retrieval import Found
from models.retrieval.first_stage import POPULARITY, Vector

NEWEST = "newest"
"""Who finds items for their age alone."""


async def find(
    decider: Decider, variant: Variant, name: str, request: CandidatesRequest, deadline: float
) -> Candidates:
    """Items worth ranking; raises `BadRequest` as `Decider.admitted` does."""
    bundle, request = variant.bundle, decider.admitted(variant.bundle, request)
    offer, took = variant.offer(request.at()), decider.call_seconds.labels

    def searched() -> tuple[Found, bool | None]:
        # Items that are given count instead of what is known of a user.
        with took("candidates", "features").time():
            user = None if request.items is not None else decider.user(offer, request.user_id)
        most = decider.on(request.surface).retrieve if request.k is None else request.k
        known = None if request.user_id is None or request.items is not None else user is not None
        with took("candidates", "retrieve").time():
            return search(bundle, offer, [*(request.items or ()), *recent(user, request.context)], most), known

    found, outcome = await decider.in_time(variant, request, deadline, searched)
    unknown = None
    if request.items is not None and bundle.retrieval is not None:
        unknown = [item for item in request.items if bundle.retrieval.code(item) < 0]
    return Candidates(
        request_id=request.request_id,
        candidates=_popular(offer, request) if found is None else _found(found[0], offer, request),
        bundle_version=bundle.candidate_id,
        bundle_sha256=bundle.sha256,
        variant=name,
        fallback=found is None,
        fallback_reason=None if found is not None else outcome,
        features_day=None if offer.day is None else offer.day.isoformat(),
        retrieved_by=POPULARITY if found is None else found[0].by,
        user_known=None if found is None else found[1],
        unknown_items=unknown,
    )


def _found(found: Found, offer: Offer, request: CandidatesRequest) -> list[Candidate]:
    """The newest items follow where there is room, none that was given."""
    placed = [Candidate(item, score, found.by) for item, score in zip(found.items, found.scores.tolist(), strict=True)]
    there = {*found.items, *(request.items or ())}
    newest = [Candidate(item, None, NEWEST) for item in offer.newest.items.tolist() if item not in there]
    return [*placed, *newest][: request.k]


def _popular(offer: Offer, request: CandidatesRequest) -> list[Candidate]:
    """From memory only."""
    given = {*(request.items or ())}
    said = zip(offer.popular_ids, offer.popular.predictions.p_click.tolist(), strict=True)
    return [Candidate(item, score, POPULARITY) for item, score in said if item not in given][: request.k]


async def embed(decider: Decider, variant: Variant, name: str, request: EmbedRequest, deadline: float) -> Embeddings:
    """Vectors; raises `Conflict` where the bundle has none, `Unavailable` where they would not be in time."""
    bundle, first = variant.bundle, variant.bundle.retrieval
    if first is None or not first.spaces:
        found = "no retrieval" if first is None else first.kind
        raise Conflict(f"vectors need a bundle whose retrieval has some; {bundle.candidate_id} has {found}")
    offer, took = variant.offer(request.at()), decider.call_seconds.labels

    def placed() -> tuple[list[Embedding], list[Embedding]]:
        with took("embed", "features").time():
            histories = [(user, recent(decider.user(offer, user), {})) for user in request.users]
        with took("embed", "vectors").time():
            users = _embedded((user, first.of_history(history)) for user, history in histories)
            return users, _embedded((item, first.of_item(item)) for item in request.items)

    there, outcome = await decider.in_time(variant, request, deadline, placed)
    if there is None:
        raise Unavailable(f"vectors of {bundle.candidate_id} were not in time or failed ({outcome}): ask again")
    users, items = there
    return Embeddings(
        request_id=request.request_id,
        users=users,
        items=items,
        spaces={kind: Space(version, dimensions) for kind, (version, dimensions) in first.spaces.items()},
        bundle_version=bundle.candidate_id,
        bundle_sha256=bundle.sha256,
        variant=name,
        features_day=None if offer.day is None else offer.day.isoformat(),
    )


def _embedded(placed: Iterable[tuple[str, Vector | None]]) -> list[Embedding]:
    return [
        Embedding(one, None, None) if of is None else Embedding(one, of.values.tolist(), of.space) for one, of in placed
    ]
