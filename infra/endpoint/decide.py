"""One decision: features, the ranker's probabilities, the policy's slate, and popularity when the ranker is late.

The timer sits below the latency promise: the whole path (feature read, scores, slate) runs on a worker thread for
at most `endpoint.timeout_ms`; then the bundle's fallback answers from memory, on the caller's thread, without I/O.
"""

import asyncio
import hashlib
import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from infra.endpoint.catalogue import SOURCE_ITEM, Catalogue
from infra.endpoint.request import RankRequest
from jobs.bundle import Bundle
from jobs.features.online import Published
from models.policies.choice import slate
from models.rankers.features import Encodings
from models.rankers.protocol import Ranker
from models.settings import TaskSettings

RETRIEVED = 100
WORKERS = 4
"""A late ranker cannot be stopped and keeps its thread; with all of them taken, popularity answers meanwhile."""
PROBE = RankRequest(request_id="probe", surface="home", k=1)
REFRESH_SECONDS = 0.8
"""Sooner than a reader would look by itself, so that it never does so inside a request."""
NOTHING = Published(None, {}, Encodings.unknown())
"""What is known before the first publication."""
Packed = tuple[Published, Catalogue]
UNSEEN = "unseen"
"""The candidate of a probe while no item is known: a ranker must be able to score an item it never saw."""
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
    """Answers requests for any loaded bundle; holds the online features and the worker threads."""

    def __init__(self, features: Features, timeout_ms: int, tasks: TaskSettings) -> None:
        self._features = features
        self._tasks = tasks
        self._timeout = timeout_ms / 1000
        self._pool = ThreadPoolExecutor(WORKERS, "rank")
        self._packed: Sequence[Packed] = ()
        """Newest first, so that the first one available is what a request sees; the last is `NOTHING`."""
        self._popular: dict[tuple[str, date | None], list[str]] = {}
        # A ranker need not be safe to call from two threads at once (XGBoost's parameters are not).
        self._turns: dict[str, threading.Lock] = {}
        self._refreshing = threading.Lock()
        self._closing = threading.Event()
        self.refresh()
        threading.Thread(target=self._keep_fresh, name="refresh", daemon=True).start()

    async def answer(self, bundle: Bundle, request: RankRequest, variant: str) -> dict[str, Any]:
        """The response; `fallback` says that popularity made it, because the ranker was late or raised."""
        work = asyncio.get_running_loop().run_in_executor(self._pool, self._by_ranker, bundle, request)
        fallback = False
        try:
            items, day = await asyncio.wait_for(work, self._timeout)
        except Exception as error:  # noqa: BLE001 - whatever a ranker raises, the user gets the popular items
            if not isinstance(error, TimeoutError):
                _log.warning("%s could not rank %s: %s", bundle.candidate_id, request.request_id, error)
            items, day = self._by_popularity(bundle, request)
            fallback = True
        return {
            "request_id": request.request_id,
            "items": items,
            "bundle_version": bundle.candidate_id,
            "bundle_sha256": bundle.sha256,
            "variant": variant,
            "fallback": fallback,
            "features_day": None if day is None else day.isoformat(),
        }

    def warm(self, bundle: Bundle) -> None:
        """One slate by the ranker and one by the fallback; raises what they raise: such a bundle must not serve."""
        self.refresh()
        _, catalogue = self._seen_by(PROBE)
        asked = PROBE if catalogue.ids else PROBE.model_copy(update={"candidates": [UNSEEN]})
        self._by_ranker(bundle, asked)
        self._by_popularity(bundle, asked)

    def refresh(self) -> None:
        """Take up what was published since; requests meanwhile see what was there before."""
        with self._refreshing:
            self._features.refresh()
            packed = {id(published): catalogue for published, catalogue in self._packed}
            self._packed = [
                (one, packed.get(id(one)) or Catalogue(one.items, one.encodings, self._tasks))
                for one in (*self._features.published(), NOTHING)
            ]

    def close(self) -> None:
        """Stop taking work."""
        self._closing.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _seen_by(self, request: RankRequest) -> Packed:
        """The newest publication that counts as known when the request is made: `jobs.asof.clock`, as in training."""
        at = request.at()
        return next(packed for packed in self._packed if packed[0].available_at <= at)

    # -- the two ways to answer -------------------------------------------------------------------
    def _by_ranker(self, bundle: Bundle, request: RankRequest) -> tuple[list[dict[str, Any]], date | None]:
        """On a worker thread: may read the online store, may take long, may raise."""
        published, catalogue = self._seen_by(request)
        day = published.day
        user = None if request.user_id is None or day is None else self._features.user(request.user_id, day)
        candidates = request.candidates or self._retrieved(bundle, catalogue, day, user, request)
        columns = catalogue.columns(candidates, user, request)
        turn = self._turns.setdefault(bundle.sha256, threading.Lock())
        if not turn.acquire(timeout=self._timeout):
            raise TimeoutError(f"{bundle.candidate_id} is busy with another request")
        try:
            return _placed(bundle, bundle.ranker, columns, request), day
        finally:
            turn.release()

    def _by_popularity(self, bundle: Bundle, request: RankRequest) -> tuple[list[dict[str, Any]], date | None]:
        """From memory only, the user unknown; the slate is drawn by the bundle's policy, so propensities are true."""
        published, catalogue = self._seen_by(request)
        day = published.day
        candidates = request.candidates or self._most_popular(bundle, catalogue, day)
        return _placed(bundle, bundle.fallback, catalogue.columns(candidates, None, request), request), day

    # -- candidates -------------------------------------------------------------------------------
    def _retrieved(
        self,
        bundle: Bundle,
        catalogue: Catalogue,
        day: date | None,
        user: Mapping[str, Any] | None,
        request: RankRequest,
    ) -> Sequence[str]:
        """What the index finds near the user's last items (and the source item, if any), plus the newest items."""
        recent = list((user or {}).get("last_items") or [])
        source = request.context.get(SOURCE_ITEM)
        if source is not None:
            recent.insert(0, source)
        if bundle.index is None:
            found = self._most_popular(bundle, catalogue, day)
        else:
            found = bundle.index.search(recent, RETRIEVED)
        return list(dict.fromkeys([*found, *catalogue.newest]))

    def _most_popular(self, bundle: Bundle, catalogue: Catalogue, day: date | None) -> list[str]:
        """The catalogue's best by the fallback's click probability; once per bundle and feature day."""
        key = (bundle.sha256, day)
        if key not in self._popular:
            if not catalogue.ids:
                return [] if bundle.index is None else bundle.index.search([], RETRIEVED)
            p_click = bundle.fallback.predict(catalogue.columns(catalogue.ids, None, PROBE)).p_click
            order = np.argsort(-p_click, kind="stable")[:RETRIEVED]
            # Old days go: this is what serves now, not a history.
            days = {published.day for published, _ in self._packed}
            self._popular = {k: v for k, v in self._popular.items() if k[1] in days}
            self._popular[key] = [catalogue.ids[row] for row in order]
        return self._popular[key]

    def _keep_fresh(self) -> None:
        """On a thread of its own, so that no request waits for a day's items to be read."""
        while not self._closing.wait(REFRESH_SECONDS):
            try:
                self.refresh()
            except Exception as error:  # noqa: BLE001 - the features at hand stay good, and the store may come back
                _log.warning("online features could not be refreshed: %s", error)


def _placed(
    bundle: Bundle, ranker: Ranker, columns: Mapping[str, NDArray[Any]], request: RankRequest
) -> list[dict[str, Any]]:
    """The policy's slate over a ranker's probabilities; the draw depends on the request id alone. No rows, no items."""
    if not len(columns["item_id"]):
        return []
    scores = ranker.predict(columns)
    chosen, propensities = slate(scores.p_click, request.k, bundle.policy, _rng(request.request_id))
    ids = columns["item_id"]
    return [
        {
            "item_id": ids[row],
            "position": place,
            "score": float(scores.p_click[row]),
            "p_click": float(scores.p_click[row]),
            "p_conversion": float(scores.p_conversion[row]),
            "propensity": float(propensity),
        }
        for place, (row, propensity) in enumerate(zip(chosen.tolist(), propensities.tolist(), strict=True), start=1)
    ]


def _rng(request_id: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:16], "big"))
