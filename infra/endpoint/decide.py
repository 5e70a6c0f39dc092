"""One decision: features, the ranker's probabilities, the policy's slate, and popularity when the ranker is late.

A request has `endpoint.timeout_ms` from its arrival, which sits below the latency promise. The whole path (feature
read, scores, slate) runs on the variant's thread; where it would not end in time (`lane`), or has not, the bundle's
fallback answers from memory, on the caller's thread, without I/O.
"""

import asyncio
import hashlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any, Protocol
from weakref import WeakSet

import numpy as np

from infra.endpoint.catalogue import SOURCE_ITEM, Catalogue, objects
from infra.endpoint.lane import Lane, Late
from infra.endpoint.request import RankRequest
from infra.endpoint.variant import Offer, Scored, Variant
from jobs.bundle import Bundle
from jobs.features.online import Published
from jobs.serving.answer import Answer, Placement
from models.policies.choice import slate
from models.policies.score import score
from models.rankers.features import Encodings
from models.rankers.protocol import Columns, Predictions, Scorer
from models.settings import PolicySettings, TaskSettings

RETRIEVED = 100
PROBE = RankRequest(request_id="probe", surface="home", k=1)
REFRESH_SECONDS = 0.8
"""Sooner than a reader would look by itself, so that it never does so inside a request."""
UNSEEN = "unseen"
"""The candidate of a probe while no item is known: a ranker must be able to score an item it never saw."""
SAY_SECONDS = 60.0
"""A ranker that fails is said once in so long, not once a request."""
NOTHING = Published(None, {}, Encodings.unknown())
"""What is known before the first publication."""
Packed = tuple[Published, Catalogue]
RANKED, BUSY, LATE, FAILED = OUTCOMES = ("ranked", "busy", "late", "failed")
"""What became of a request: the ranker answered; or it could not have been in time, or was not, or raised."""
Items = list[Placement]
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
        self, features: Features, timeout_ms: int, tasks: TaskSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Requests' arrivals are on `clock`, in seconds."""
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """Answers by (candidate id, outcome) since the start."""
        self._features = features
        self._tasks = tasks
        self._timeout = timeout_ms / 1000
        self._clock = clock
        self._packed: Sequence[Packed] = ()
        """Newest first; the last is `NOTHING`."""
        self._variants: WeakSet[Variant] = WeakSet()
        self._refreshing = threading.Lock()
        self._closing = threading.Event()
        self._said = float("-inf")
        self.refresh()
        threading.Thread(target=self._keep_fresh, name="refresh", daemon=True).start()

    def deadline(self, arrived: float) -> float:
        """Until when the ranker may answer a request that arrived then and is looked at now.

        The server was so busy that the request waited until now; its answer will wait as long to be sent.
        """
        waited = self._clock() - arrived
        return arrived + self._timeout - waited

    async def answer(self, variant: Variant, name: str, request: RankRequest, deadline: float) -> Answer:
        """The response; `fallback` says that popularity made it, because the ranker was busy, late or raised."""
        offer = variant.offer(request.at())
        items, outcome = await self._ranked(variant, offer, request, deadline)
        if items is None:
            items = by_popularity(variant.bundle, offer, request)
        self.outcomes[variant.bundle.candidate_id, outcome] += 1
        return Answer(
            request_id=request.request_id,
            items=items,
            bundle_version=variant.bundle.candidate_id,
            bundle_sha256=variant.bundle.sha256,
            variant=name,
            fallback=outcome != RANKED,
            features_day=None if offer.day is None else offer.day.isoformat(),
        )

    def ready(self, bundle: Bundle) -> Variant:
        """The bundle once it has answered by its ranker and by its fallback; raises what they raise."""
        self.refresh()
        variant = Variant(bundle, Lane(self._timeout, self._clock), _offers(bundle, self._packed))
        offer = variant.offer(PROBE.at())
        asked = PROBE if offer.catalogue.ids else PROBE.model_copy(update={"candidates": [UNSEEN]})
        self.by_ranker(bundle, offer, asked)
        by_popularity(bundle, offer, asked)
        with self._refreshing:
            self._variants.add(variant)
            variant.offers = _offers(bundle, self._packed, variant.offers)
        return variant

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
                variant.offers = _offers(variant.bundle, self._packed, variant.offers)

    def close(self) -> None:
        """Stop taking work."""
        self._closing.set()
        # Without the lock: a refresh that hangs must not keep the process from ending, and none is brought up any more.
        for variant in list(self._variants):
            variant.lane.close()

    # -- the ranker's way -------------------------------------------------------------------------
    async def _ranked(
        self, variant: Variant, offer: Offer, request: RankRequest, deadline: float
    ) -> tuple[Items | None, str]:
        """The ranker's items, None where it did not answer in time or at all; and what became of it."""
        work = variant.lane.take(lambda: self.by_ranker(variant.bundle, offer, request), deadline)
        if work is None:
            return None, BUSY
        answer = asyncio.wrap_future(work)
        done, _ = await asyncio.wait([answer], timeout=max(0.0, deadline - self._clock()))
        if not done:
            answer.cancel()
            return None, LATE
        try:
            return answer.result(), RANKED
        except Late:
            return None, LATE
        except Exception as error:  # noqa: BLE001 - whatever a ranker raises, the user gets the popular items
            self._say(variant.bundle, request, error)
            return None, FAILED

    def by_ranker(self, bundle: Bundle, offer: Offer, request: RankRequest) -> Items:
        """On the variant's thread: may read the online store, may take long, may raise."""
        user = None
        if request.user_id is not None and offer.day is not None:
            user = self._features.user(request.user_id, offer.day)
        candidates = request.candidates or _retrieved(bundle, offer, user, request)
        columns = offer.catalogue.columns(candidates, user, request)
        return _placed(_scored(bundle.ranker, columns), request, bundle.policy)

    def _say(self, bundle: Bundle, request: RankRequest, error: Exception) -> None:
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


# -- popularity's way ---------------------------------------------------------------------------------------------
def by_popularity(bundle: Bundle, offer: Offer, request: RankRequest) -> Items:
    """From memory only, the user unknown; the slate is drawn by the bundle's policy, so propensities are true."""
    scored = offer.popular
    if request.candidates is not None:
        scored = _scored(bundle.fallback, {"item_id": objects(request.candidates)})
    return _placed(scored, request, bundle.policy)


def _offers(bundle: Bundle, packed: Sequence[Packed], made: Sequence[Offer] = ()) -> Sequence[Offer]:
    """Those of every publication, what was `made` before as it is; raises what the fallback raises."""
    there = {id(offer.catalogue): offer for offer in made}
    return [there.get(id(catalogue)) or _offer(bundle, published, catalogue) for published, catalogue in packed]


def _offer(bundle: Bundle, published: Published, catalogue: Catalogue) -> Offer:
    """The fallback is asked for items alone, which is all that popularity looks at."""
    ids: Sequence[str] = catalogue.ids
    if not ids and bundle.index is not None:
        ids = bundle.index.search([], RETRIEVED)
    found = _scored(bundle.fallback, {"item_id": objects(ids)})
    best = np.argsort(-score(found.predictions, bundle.policy), kind="stable")[:RETRIEVED]
    return Offer(published.day, published.available_at, catalogue, found.only(best))


# -- candidates -----------------------------------------------------------------------------------------------------
def _retrieved(bundle: Bundle, offer: Offer, user: Mapping[str, Any] | None, request: RankRequest) -> Sequence[str]:
    """What the index finds near the user's last items (and the source item, if any), plus the newest items."""
    recent = list((user or {}).get("last_items") or [])
    source = request.context.get(SOURCE_ITEM)
    if source is not None:
        recent.insert(0, source)
    found = offer.popular_ids if bundle.index is None else bundle.index.search(recent, RETRIEVED)
    return list(dict.fromkeys([*found, *offer.catalogue.newest]))


# -- from columns to a slate ----------------------------------------------------------------------------------------
def _scored(ranker: Scorer, columns: Columns) -> Scored:
    """No rows, no predictions: a ranker need not know what to do with none."""
    ids = columns["item_id"]
    return Scored(ids, ranker.predict(columns) if len(ids) else Predictions(np.zeros(0), np.zeros(0)))


def _placed(scored: Scored, request: RankRequest, policy: PolicySettings) -> Items:
    """The policy's slate over a ranker's scores; the draw depends on the request id alone. No rows, no items."""
    if not len(scored.item_ids):
        return []
    scores = score(scored.predictions, policy)
    chosen, propensities = slate(scores, request.k, policy, _rng(request.request_id))
    placed = scored.only(chosen)
    said = placed.predictions
    columns = (placed.item_ids, scores[chosen], said.p_click, said.p_conversion, propensities)
    return [
        Placement(item, place, ranked_by, p_click, p_conversion, propensity)
        for place, (item, ranked_by, p_click, p_conversion, propensity) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True), start=1
        )
    ]


def _rng(request_id: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:16], "big"))
