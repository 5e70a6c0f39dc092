"""One decision: features, the ranker's probabilities, the policy's slate, and popularity when the ranker is late.

A request has `endpoint.timeout_ms` from its arrival, which sits below the latency promise. The whole path (feature
read, scores, slate) runs on the variant's thread; where it would not end in time (`lane`), or has not, the bundle's
fallback answers from memory, on the caller's thread, without I/O.
"""

import asyncio
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeVar
from weakref import WeakSet

import numpy as np

from infra.endpoint import metrics
from infra.endpoint.arrival import deadline
from infra.endpoint.catalogue import Catalogue, objects
from infra.endpoint.held import Held
from infra.endpoint.lane import WOKEN, Lane, Late, Pace, Steps, at_once, done_within
from infra.endpoint.popularity import (
    BUSY,
    EVERY_SURFACE,
    FAILED,
    LATE,
    NONE,
    RANKED,
    S,
    Slate,
    admitted,
    answered,
    by_popularity,
    placed,
    popular,
)
from infra.endpoint.ranking import halves, ranked
from infra.endpoint.request import Asked, AskedOnSurface, RankRequest
from infra.endpoint.retrieve import candidates
from infra.endpoint.variant import Newest, Offer, Scored, Variant
from jobs.bundle import Bundle
from jobs.config import EndpointSettings, ServedSurfaceSettings
from jobs.errors import NotReady
from jobs.features.online import Published
from jobs.serving.answer import Answer
from models.policies.score import score
from models.rankers.features import Encodings
from models.settings import TaskSettings

POPULAR = 100
"""So many of the catalogue's most popular items are held for whoever must be answered at once."""
PROBE = RankRequest(request_id="probe", surface="home", k=1)
REFRESH_SECONDS = 0.8
"""Sooner than a reader would look by itself, so that it never does so inside a request."""
UNSEEN = "unseen"
"""The candidate of a probe while no item is known: a ranker must be able to score an item it never saw."""
SAY_SECONDS = 60.0
"""A ranker that fails is said once in so long, not once a request."""
PRECOMPUTED_MIB = EndpointSettings().precomputed_mib
NOTHING = Published(None, {}, Encodings.unknown())
"""What is known before the first publication."""
Packed = tuple[Published, Catalogue]
T = TypeVar("T")


class Judged(NamedTuple):
    """What a ranker says of the candidates that reach it, before anything is drawn; the rest as in `Slate`."""

    scored: Scored
    retrieved_by: str | None
    candidates: Sequence[str] | None
    user_known: bool | None
    unknown_items: list[str] | None


_log = logging.getLogger(__name__)


class Features(Protocol):
    """What is known right now; `jobs.features.online.OnlineFeatures` reads it from the online store."""

    def refresh(self) -> bool:
        """Look for a newer publication and take it up; may take a while."""
        ...

    def user(self, user_id: str, day: date) -> Mapping[str, Any] | None:
        """One user's row of a day online, None where the user is unknown."""
        ...

    def published(self) -> Sequence[Published]:
        """Items and encodings of each day online, newest first; the same objects until others are taken up."""
        ...


class Decider:
    """Answers requests for any variant; holds the online features and keeps what variants offer up to date."""

    def __init__(
        self,
        features: Features,
        timeout_ms: int,
        tasks: TaskSettings,
        clock: Callable[[], float] = time.monotonic,
        surfaces: Mapping[str, ServedSurfaceSettings] = MappingProxyType({}),
        precomputed_mib: int = PRECOMPUTED_MIB,
    ) -> None:
        """Requests' arrivals are on `clock`, in seconds; `precomputed_mib`: see `EndpointSettings`."""
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """Answers by (candidate id, outcome) since the start."""
        self.retrieved: Counter[tuple[str, str]] = Counter()
        """Of these the requests without candidates, by (candidate id, who found them)."""
        self.stages = metrics.stages()
        """How long each step of a ranked answer took."""
        self.called: Counter[tuple[str, str]] = Counter()
        """Calls by (name, outcome), whatever was called."""
        self.call_seconds = metrics.call_seconds()
        self._took = cache(self.stages.labels)
        """Its child of each stage: looking one up takes its parent's lock."""
        self._features = features
        self._tasks = tasks
        self._timeout = timeout_ms / 1000
        self._clock = clock
        self._pace = Pace(clock)
        self._surfaces = surfaces
        self._precomputed_mib = precomputed_mib
        self._held = {name: Held[Judged](own.cached) for name, own in surfaces.items() if own.cached}
        self._packed: Sequence[Packed] = ()
        """Newest first; the last is `NOTHING`."""
        self._variants: WeakSet[Variant] = WeakSet()
        self._refreshing = threading.Lock()
        self._closing = threading.Event()
        self._said = float("-inf")
        self._blind = False
        """Nothing has been read since the start, for the store does not answer: popularity does."""
        self._begin()
        threading.Thread(target=self._keep_fresh, name="refresh", daemon=True).start()

    def deadline(self, arrived: float) -> float:
        """Until when the ranker may answer a request that arrived then and is looked at now."""
        return deadline(arrived, self._timeout, self._clock())

    async def answer(self, variant: Variant, name: str, request: RankRequest, deadline: float) -> Answer:
        """The response; `fallback` says that popularity made it, because the ranker was busy, late or raised.

        Raises `BadRequest` as `admitted` does.
        """
        request = self.admitted(variant.bundle, request)
        offer = variant.offer(request.at())
        made, outcome = await self.in_time(variant, request, deadline, self._by_ranker(variant.bundle, offer, request))
        if made is None:
            made = by_popularity(variant.bundle, offer, request)
        self.outcomes[variant.bundle.candidate_id, outcome] += 1
        if made.retrieved_by is not None:
            self.retrieved[variant.bundle.candidate_id, made.retrieved_by] += 1
        return answered(variant.bundle, name, request, offer, made, outcome)

    def on(self, surface: str) -> ServedSurfaceSettings:
        """What a surface is given."""
        return self._surfaces.get(surface, EVERY_SURFACE)

    def admitted(self, bundle: Bundle, request: S) -> S:
        """See `admitted`."""
        return admitted(self._surfaces, bundle, request)

    def ready(self, bundle: Bundle) -> Variant:
        """The bundle once it has answered by its ranker and by its fallback; raises what they raise."""
        self._begin()
        variant = Variant(bundle, Lane(self._timeout, self._clock), self._offers(bundle))
        offer = variant.offer(PROBE.at())
        asked = PROBE if offer.catalogue.ids else PROBE.model_copy(update={"candidates": [UNSEEN]})
        self.by_ranker(bundle, offer, asked)
        by_popularity(bundle, offer, asked)
        with self._refreshing:
            self._variants.add(variant)
            variant.offers = self._offers(bundle, variant.offers)
        return variant

    def _begin(self) -> None:
        """A store that does not answer now is no reason not to begin: it may be what the others died of."""
        try:
            self.refresh()
        except NotReady as error:
            _log.warning("popularity answers until online features can be read: %s", error)
            if not self._packed:
                self._blind = True
                self._packed = [(NOTHING, Catalogue(NOTHING.items, NOTHING.encodings, self._tasks))]

    def refresh(self) -> None:
        """Take up what was published since; requests are answered from what was there before until all of it is."""
        with self._refreshing:
            self._features.refresh()
            packed = {id(published): catalogue for published, catalogue in self._packed}
            self._packed = [
                (one, packed.get(id(one)) or Catalogue(one.items, one.encodings, self._tasks))
                for one in (*self._features.published(), NOTHING)
            ]
            for variant in self._variants:
                variant.offers = self._offers(variant.bundle, variant.offers)
            self._blind = False

    def _offers(self, bundle: Bundle, made: Sequence[Offer] = ()) -> Sequence[Offer]:
        """Those of every publication, what was `made` before as it is; raises what the fallback raises."""
        removed = _removed(bundle, self._packed)
        before = {id(offer.catalogue): offer for offer in made}
        found = []
        for one, catalogue in self._packed:
            there = before.get(id(catalogue))
            if there is None or there.removed != removed:
                known = halves(bundle, catalogue, self._precomputed_mib) if there is None else there.halves
                there = replace(_offer(bundle, one, catalogue, removed), halves=known)
            found.append(there)
        return found

    def features_age(self) -> float:
        """Seconds since the newest publication counted as known; NaN before the first."""
        newest = self._packed[0][0]
        return math.nan if newest.day is None else (datetime.now(UTC) - newest.available_at).total_seconds()

    def close(self) -> None:
        """Stop taking work."""
        self._closing.set()
        # Without the lock: a refresh that hangs must not keep the process from ending, and none is brought up any more.
        for variant in list(self._variants):
            variant.lane.close()

    # -- the ranker's way -------------------------------------------------------------------------
    async def in_time(
        self, variant: Variant, request: Asked, deadline: float, work: Callable[[], T] | Steps[T]
    ) -> tuple[T | None, str]:
        """What work on the variant's thread comes to, None where that is not in time or not at all; and what became
        of it. A surface may have less time.
        """
        if self._blind:
            return None, FAILED
        own = self.on(request.surface) if isinstance(request, AskedOnSurface) else EVERY_SURFACE
        budget = own.seconds(self._timeout)
        deadline -= self._timeout - budget
        taken = variant.lane.take(work, deadline, budget)
        if taken is None:
            wait = self._pace.wait(deadline, variant.lane.usual, WOKEN * budget)
            due = self._clock() + wait
            await asyncio.sleep(wait)
            self._pace.woke(due)
            return None, BUSY
        if not await done_within(taken, max(0.0, deadline - self._clock())):
            taken.cancel()
            return None, LATE
        try:
            return taken.result(), RANKED
        except Late:
            return None, LATE
        except Exception as error:  # noqa: BLE001 - whatever a ranker raises, the user gets the popular items
            self._say(variant.bundle, request, error)
            return None, FAILED

    def by_ranker(self, bundle: Bundle, offer: Offer, request: RankRequest) -> Slate:
        """What the variant's thread makes of it: may read the online store, may take long, may raise."""
        return at_once(self._by_ranker(bundle, offer, request))

    def _by_ranker(self, bundle: Bundle, offer: Offer, request: RankRequest) -> Steps[Slate]:
        held = self._held.get(request.surface) if request.drawn else None
        if held is None:
            judged = yield from self._judged(bundle, offer, request)
        else:
            words = frozenset(request.context.items())
            own = None if request.candidates is None else tuple(request.candidates)
            key = (bundle.sha256, request.user_id, request.surface, words, own)
            judged = yield from held.of(key, offer, lambda: self._judged(bundle, offer, request))
        yield
        with self._took("slate").time():
            return Slate(placed(judged.scored, request, bundle.policy), *judged[1:])

    def user(self, offer: Offer, user_id: str | None) -> Mapping[str, Any] | None:
        """What was known of a user, from the online store."""
        return None if user_id is None or offer.day is None else self._features.user(user_id, offer.day)

    def _judged(self, bundle: Bundle, offer: Offer, request: RankRequest) -> Steps[Judged]:
        took = self._took
        with took("features").time():
            user = self.user(offer, request.user_id)
        yield
        with took("retrieve").time():
            items, by, rows, ids = candidates(bundle, offer, user, request, self.on(request.surface).retrieve)
        told = None if by is None else items
        known = None if request.user_id is None else user is not None
        unknown = [items[at] for at in np.flatnonzero(rows < 0).tolist()] if by is None else None
        if not items:
            return Judged(NONE, by, told, known, unknown)
        yield
        found = yield from ranked(bundle, offer, ids, user, request, rows, lambda stage: took(stage).time())
        return Judged(found, by, told, known, unknown)

    def _say(self, bundle: Bundle, request: Asked, error: Exception) -> None:
        if self._clock() - self._said >= SAY_SECONDS:
            self._said = self._clock()
            failed = self.outcomes[bundle.candidate_id, FAILED] + 1
            _log.warning(
                "%s could not rank %s: %s: %s; popularity answers, %d requests so far",
                *(bundle.candidate_id, request.request_id, type(error).__name__, error, failed),
            )

    def _keep_fresh(self) -> None:
        """On a thread of its own, so that no request waits for a day's items to be read."""
        said = False
        while not self._closing.wait(REFRESH_SECONDS):
            try:
                self.refresh()
                said = False
            except Exception as error:  # noqa: BLE001 - the features at hand stay good, and the store may come back
                if not said:
                    _log.warning("online features could not be refreshed: %s: %s", type(error).__name__, error)
                said = True


def _removed(bundle: Bundle, packed: Sequence[Packed]) -> frozenset[str]:
    """What the newest publication says, at once and for every moment; before the first, what its training knew."""
    newest = packed[0][0]
    if newest.day is None and bundle.retrieval is not None:
        return bundle.retrieval.removed
    return newest.removed


def _offer(bundle: Bundle, published: Published, catalogue: Catalogue, removed: frozenset[str]) -> Offer:
    """The fallback is asked for items alone, which is all that popularity looks at."""
    first = bundle.retrieval
    barred = None if first is None else first.barred(removed | published.unlisted, catalogue.ids or None)
    if first is not None:
        catalogue.rows_of(first)
    ids = [item for item in catalogue.ids if item not in removed | published.unlisted]
    if not catalogue.ids and first is not None:
        ids = first.search((), barred).items
    words = {column: catalogue.words(column) for column in bundle.policy.columns}
    made = popular(bundle, published.day, published.available_at, ids, removed, words)
    best = np.argsort(-score(made.popular.predictions, bundle.policy), kind="stable")[:POPULAR]
    items = catalogue.newest(removed)
    codes = np.array([-1 if first is None else first.code(item) for item in items], dtype=np.int64)
    newest = Newest(objects(items), catalogue.rows(items), codes)
    return Offer(made.day, made.available_at, made.popular.only(best), removed, words, catalogue, barred, newest)
