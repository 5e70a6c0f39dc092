"""What answers for an endpoint config: begun side by side, taken over where it is there, closed once it has left."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from infra.endpoint.models import Source
from infra.endpoint.payload import sha256_of, shadow_share, shadows_of
from infra.endpoint.processes import Processes
from infra.endpoint.serving import Serving, Shadow
from infra.endpoint.state import Registry, Served
from jobs import bundle
from jobs.errors import TidegateError

Ready = Callable[[bundle.Standby, int], Processes]
"""Begins what answers for a bundle, so many instances of it; returns once all have answered."""
GRACE_SECONDS = 2.0
"""A request that took a config before it left is answered by then."""
_log = logging.getLogger(__name__)


class Loading:
    """The variants of all configs as they come and go."""

    def __init__(self, registry: Registry, ready: Ready, source: Source) -> None:
        self._registry = registry
        self._state = registry.state
        self._ready = ready
        self._source = source
        self._lock = threading.Lock()
        self._leaving: list[tuple[float, Processes]] = []

    @property
    def waits(self) -> bool:
        """Whether there is something to close."""
        return bool(self._leaving)

    def load(self, name: str, served: Served, loaded: Sequence[Serving]) -> Serving:
        """An endpoint's config; raises what a variant's processes raise, and those that were begun end again.

        `loaded` is there at the endpoint already, and taken where it is of the same bytes: a champion beside its
        canary. Its instances are as many as either config asks for, until one of them is gone.
        """
        body = self._state.configs[served.config]
        variants = (*body["ProductionVariants"], *shadows_of(body))
        models = {v["VariantName"]: self._state.models[v["ModelName"]] for v in variants}
        made = self._there(loaded, models)
        try:
            made |= self._begun(made, models, served.counts)
        except Exception:
            self.leave(made.values(), loaded)
            raise
        shadows = [Shadow(v["VariantName"], made.pop(v["VariantName"]), shadow_share(body)) for v in shadows_of(body)]
        shown = {variant: made[variant] for variant in served.weights}
        return Serving(name, shown, served.weights, served.capture, served.config, next(iter(shadows), None))

    def _there(self, loaded: Sequence[Serving], models: Mapping[str, Mapping[str, Any]]) -> dict[str, Processes]:
        """Of variants and their models, those that are loaded, or left a moment ago and are not closed yet."""
        by_sha256 = {v.bundle.sha256: v for serving in loaded for _, v in serving.named()}
        found = {}
        with self._lock:
            for variant, model in models.items():
                sha256 = sha256_of(model)
                left = next((v for _, v in self._leaving if v.bundle.sha256 == sha256 and v.up), None)
                if there := by_sha256.get(sha256) or left:
                    self._leaving = [(at, v) for at, v in self._leaving if v is not there]
                    found[variant] = there
        return found

    def _begun(
        self, there: Mapping[str, Processes], models: Mapping[str, Mapping[str, Any]], counts: Mapping[str, int]
    ) -> dict[str, Processes]:
        """What is not there yet, with its instances; what is there has as many at least."""
        new = {variant: model for variant, model in models.items() if variant not in there}
        by_sha256 = {sha256_of(model): model for model in new.values()}
        with ThreadPoolExecutor(len(models), "begin") as pool:
            bundles = dict(zip(by_sha256, pool.map(self._bundle, by_sha256.values()), strict=True))
            grown: list[Future[Any]] = [
                pool.submit(of.scale, counts[variant])
                for variant, of in there.items()
                if counts.get(variant, 1) > of.instances
            ]
            begun = {
                variant: pool.submit(self._ready, bundles[sha256_of(model)], counts.get(variant, 1))
                for variant, model in new.items()
            }
        failed = [error for one in (*grown, *begun.values()) if (error := one.exception()) is not None]
        if failed:
            for one in begun.values():
                if one.exception() is None:
                    one.result().close()
            raise failed[0]
        return {variant: one.result() for variant, one in begun.items()}

    def _bundle(self, model: Mapping[str, Any]) -> bundle.Standby:
        """The judged bundle: our own copy where it is whole, else what the model names, copied once verified."""
        sha256 = sha256_of(model)
        kept = self._registry.kept(sha256)
        if kept.is_dir():
            try:
                return bundle.standby(kept, sha256)
            except TidegateError:
                pass  # a damaged copy: the source may still be what was judged
        with self._source.folder(model["PrimaryContainer"]["ModelDataUrl"]) as folder:
            bundle.standby(folder, sha256)
            self._registry.keep(sha256, folder)
        return bundle.standby(kept, sha256)

    def leave(self, gone: Iterable[Processes], live: Sequence[Serving]) -> None:
        """What no config of the endpoint has any more is closed, once no request has it any more."""
        there = {id(variant) for serving in live for _, variant in serving.named()}
        leaving = {id(variant): variant for variant in gone if id(variant) not in there}
        with self._lock:
            at = time.monotonic() + GRACE_SECONDS
            self._leaving += [(at, variant) for variant in leaving.values()]

    def close_what_left(self) -> None:
        """What has had its time."""
        with self._lock:
            now = time.monotonic()
            due = [variant for at, variant in self._leaving if at <= now]
            self._leaving = [(at, variant) for at, variant in self._leaving if at > now]
        for variant in due:
            try:
                variant.close()
            except Exception as error:  # noqa: BLE001 - it has left already
                _log.error("a variant that left could not be closed: %s", error, exc_info=error)
