"""What is loaded of every endpoint, and how an update's traffic moves between two configs that both are.

An update loads its config beside the serving one, and every request is answered by one of the two, never by neither.
`shift` says where the traffic is to be; here it is written down first and then done, so that a restart finds the state
file at most a step behind. On the way back it is done first: a full disk keeps nobody with a bad model.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace

from infra.endpoint.deployment import plan_of
from infra.endpoint.errors import Rejected
from infra.endpoint.experiments import Experiments
from infra.endpoint.loading import Loading, Ready
from infra.endpoint.models import Source
from infra.endpoint.processes import Processes
from infra.endpoint.serving import Incoming, Serving
from infra.endpoint.shift import Alarms, Phase, Plan, Shift, moved, together
from infra.endpoint.state import Deployment, Endpoint, Kept, Registry, Served

Ask = Callable[[Sequence[str]], Mapping[str, str]]
"""States of CloudWatch's alarms by name."""
LOOK_SECONDS = 0.25
AGAIN_SECONDS = 10.0
"""Between two tries to load what served before a restart."""
MOST_RESTARTS = 2
"""An update during which the server was restarted more often is taken for the reason."""
SETTLED = ("InService", "UpdateRollbackFailed")
_log = logging.getLogger(__name__)


class Updates:
    """`serving` maps an endpoint's name to what answers its requests; reading it needs no lock."""

    def __init__(
        self,
        registry: Registry,
        lock: threading.RLock,
        loads: Executor,
        ready: Ready,
        alarms: Ask | None,
        clock: Callable[[], float],
        looks: bool,
        source: Source,
    ) -> None:
        """`lock` is held by whoever changes the registry; `looks`: a thread looks at updates while there are any."""
        self.serving: dict[str, Serving] = {}
        self._registry = registry
        self._state = registry.state
        self._lock = lock
        self._loads = loads
        self._alarms = alarms
        self._clock = clock
        self._looks = looks
        self._loading = Loading(registry, ready, source)
        self._incoming: dict[str, Serving] = {}
        self._kept: dict[str, Serving] = {}
        self._again: dict[str, float] = {}
        """When to try again to load what served before a restart."""
        self._watcher: threading.Thread | None = None
        self._closing = threading.Event()
        self._experiments: Experiments | None = None

    def beside(self, experiments: Experiments) -> None:
        """They are looked at in turn with the updates, which they ask for."""
        self._experiments = experiments

    def create(self, name: str) -> None:
        """Load a new endpoint's config on the loading thread; InService once it answers, Failed otherwise."""
        self._loads.submit(self._bring_up, name)

    def update(self, name: str) -> None:
        """Load what an endpoint's deployment brings in on the loading thread, and let it begin."""
        self._loads.submit(self._bring_in, name)

    def scale(self, name: str) -> None:
        """As many instances as the endpoint's variants are to have, and InService then; on the loading thread."""
        self._loads.submit(self._scale, name)

    def drop(self, name: str) -> None:
        """An endpoint is gone."""
        self._again.pop(name, None)
        gone = [found for of in (self.serving, self._incoming, self._kept) if (found := of.pop(name, None))]
        self._retire(name, *gone)

    def close(self) -> None:
        """Look at nothing any more."""
        self._closing.set()

    # -- loading ----------------------------------------------------------------------------------
    def _bring_up(self, name: str) -> None:
        endpoint, loaded = self._state.endpoints[name], None
        try:
            loaded = self._load(name, endpoint.served)
            with self._lock, self._registry.unchanged_on_error():
                endpoint = self._state.endpoints[name]
                endpoint.status, endpoint.failure, endpoint.modified = "InService", None, self._clock()
                self._registry.save()
                self.serving[name] = loaded
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the status must say so instead of hanging
            with self._lock:
                endpoint = self._state.endpoints[name]
                endpoint.status, endpoint.modified = "Failed", self._clock()
                endpoint.failure = f"{type(error).__name__}: {error}"
                self._save_or_say()
            if loaded is not None:
                self._retire(name, loaded)

    def _bring_in(self, name: str) -> None:
        deployment = self._state.endpoints[name].deployment
        if deployment is None:
            return
        try:
            loaded = self._load(name, deployment.served)
        except Exception as error:  # noqa: BLE001 - as above
            self._give_up(name, deployment.started, f"{type(error).__name__}: {error}")
            return
        with self._lock:
            if self._is_under_way(name, deployment.started):
                self._incoming[name] = loaded
            else:  # it took longer than it may, and was taken back meanwhile
                self._retire(name, loaded)
        self._look_at(name)
        self.watch()

    def _scale(self, name: str) -> None:
        failure = self._fit(name)
        with self._lock:
            endpoint = self._state.endpoints.get(name)
            if endpoint is not None and endpoint.status == "Updating" and endpoint.deployment is None:
                endpoint.status, endpoint.failure = "InService", failure
                self._save_or_say()

    def _fit(self, name: str) -> str | None:
        """Variants that serve have the instances that were asked for, no more; why where they have not."""
        with self._lock:
            endpoint, serving = self._state.endpoints.get(name), self.serving.get(name)
            if endpoint is None or serving is None or endpoint.deployment is not None:
                return None
            # Two variants of the same bytes may be the same processes.
            wanted: dict[int, tuple[int, Processes]] = {}
            for variant, of in serving.variants.items():
                least, _ = wanted.get(id(of), (0, of))
                wanted[id(of)] = max(least, endpoint.served.counts[variant]), of
        try:
            for count, of in wanted.values():
                of.scale(count)
        except Exception as error:  # noqa: BLE001 - the endpoint must not stay Updating for it
            return f"{type(error).__name__}: {error}"
        return None

    def _give_up(self, name: str, started: float, failure: str) -> None:
        """What could not be loaded leaves the old config in service, or what there was of it."""
        with self._lock:
            if self._is_under_way(name, started):
                self._end_back(name, self._state.endpoints[name], failure)

    def _is_under_way(self, name: str, started: float) -> bool:
        endpoint = self._state.endpoints.get(name)
        return endpoint is not None and endpoint.deployment is not None and endpoint.deployment.started == started

    def _load(self, name: str, served: Served) -> Serving:
        return self._loading.load(name, served, self._loaded(name))

    def _loaded(self, name: str) -> list[Serving]:
        return [of[name] for of in (self._kept, self._incoming, self.serving) if name in of]

    # -- moving the traffic -----------------------------------------------------------------------
    def look(self) -> None:
        """Take every update a step further that may be taken further now, and let go of what has had its time."""
        for name in list(self._state.endpoints):
            try:
                self._look_at(name)
                self._let_go(name)
            except Exception as error:  # noqa: BLE001 - one endpoint's trouble must not stop the looks at the others
                _log.error("an update of endpoint %s could not be looked at: %s", name, error, exc_info=error)
        try:
            if self._experiments is not None:
                self._experiments.look()
        except Rejected as error:  # it cannot be written down now; the next look tries again
            _log.error("inference experiments cannot go on: %s", error)
        self._loading.close_what_left()
        self._try_again()

    def _look_at(self, name: str) -> None:
        endpoint = self._state.endpoints.get(name)
        deployment = None if endpoint is None else endpoint.deployment
        if deployment is None:
            return
        plan = plan_of(deployment.asked, deployment.served.counts)
        # CloudWatch may take its time to answer: nobody waits for it but this update.
        states = self._alarms(plan.alarms) if self._alarms and plan.alarms else {}
        with self._lock:
            if self._is_under_way(name, deployment.started):
                self._move(name, plan, together(plan.alarms, states))

    def _move(self, name: str, plan: Plan, alarms: Alarms) -> None:
        endpoint, deployment = self._state.endpoints[name], self._deployment(name)
        at = Shift(Phase(deployment.phase), deployment.share, deployment.since, deployment.why)
        seconds = self._clock() - deployment.started
        if name not in self._incoming and at.phase is Phase.CREATING and seconds < plan.limit_seconds:
            return
        if name not in self.serving and name in self._incoming:
            to = Shift(Phase.DONE, 1.0, seconds)  # nothing answers: there is no traffic to move
        else:
            to = moved(plan, at, seconds, alarms)
        if to == at:
            return
        if to.phase is Phase.ROLLING_BACK:
            self._go_back(name, endpoint, to)
        elif to.phase is Phase.BACK:
            self._end_back(name, endpoint, str(to.why))
        else:
            self._go_on(name, to, plan)

    def _go_on(self, name: str, to: Shift, plan: Plan) -> None:
        """A step that cannot be written down is not taken, and is tried again at the next look."""
        try:
            with self._registry.unchanged_on_error():
                if to.phase is Phase.DONE:
                    self._write_end(name, plan)
                else:
                    self._note(name, to)
                self._registry.save()
        except Rejected as error:
            if plan.at_once:
                self._end_back(name, self._state.endpoints[name], f"{type(error).__name__}: {error}")
            else:
                _log.error("the update of %s cannot go on: %s", name, error)
            return
        if to.phase is Phase.DONE:
            self._end(name)
        else:
            self._send(name, to.share)

    def _write_end(self, name: str, plan: Plan) -> None:
        endpoint, now = self._state.endpoints[name], self._clock()
        served = self._deployment(name).served
        endpoint.kept = Kept(endpoint.served, now + plan.kept_seconds) if plan.kept_seconds else None
        endpoint.served, endpoint.deployment = served, None
        endpoint.status, endpoint.failure, endpoint.modified = "InService", None, now

    def _end(self, name: str) -> None:
        before, earlier = self.serving.get(name), self._kept.pop(name, None)
        self.serving[name] = self._incoming.pop(name)
        if before is not None and self._state.endpoints[name].kept is not None:
            self._kept[name] = replace(before, incoming=None)
        self._retire(name, *(one for one in (before, earlier) if one is not None))
        self._loads.submit(self._fit, name)
        self.watch()

    def _go_back(self, name: str, endpoint: Endpoint, to: Shift) -> None:
        if name in self.serving:
            self._send(name, to.share)
        endpoint.status = "RollingBack"
        self._note(name, to)
        self._save_or_say()

    def _end_back(self, name: str, endpoint: Endpoint, why: str) -> None:
        gone = self._incoming.pop(name, None)
        if name in self.serving:
            self.serving[name] = replace(self.serving[name], incoming=None)
        endpoint.status = "InService" if name in self.serving else "Failed"
        endpoint.failure, endpoint.deployment, endpoint.modified = why, None, self._clock()
        self._save_or_say()
        if gone is not None:
            self._retire(name, gone)
            self._loads.submit(self._fit, name)

    def _send(self, name: str, share: float) -> None:
        """So much of the traffic to what comes in."""
        deployment = self._deployment(name)
        salt = f"{deployment.served.config}@{deployment.started}"
        incoming = Incoming(self._incoming[name], share, salt) if share > 0 else None
        self.serving[name] = replace(self.serving[name], incoming=incoming)

    def _note(self, name: str, to: Shift) -> None:
        deployment = self._deployment(name)
        deployment.phase, deployment.share, deployment.since, deployment.why = str(to.phase), to.share, to.since, to.why

    def _deployment(self, name: str) -> Deployment:
        """The one under way; raises `LookupError` where there is none."""
        found = self._state.endpoints[name].deployment
        if found is None:
            raise LookupError(f"endpoint {name} must have an update under way")
        return found

    def _let_go(self, name: str) -> None:
        """Of the config that served before, once it has been kept so long."""
        with self._lock:
            endpoint = self._state.endpoints.get(name)
            if endpoint is None or endpoint.kept is None or self._clock() < endpoint.kept.until:
                return
            endpoint.kept = None
            self._save_or_say()
            if (gone := self._kept.pop(name, None)) is not None:
                self._retire(name, gone)

    # -- variants that leave ----------------------------------------------------------------------
    def _retire(self, name: str, *gone: Serving) -> None:
        self._leave(name, [variant for serving in gone for _, variant in serving.named()])

    def _leave(self, name: str, gone: Sequence[Processes]) -> None:
        self._loading.leave(gone, self._loaded(name))
        self.watch()

    # -- the watcher ------------------------------------------------------------------------------
    def watch(self) -> None:
        """A thread that looks while there is anything to look at."""
        with self._lock:
            if self._looks and self._watcher is None and self._waits() and not self._closing.is_set():
                self._watcher = threading.Thread(target=self._keep_looking, name="updates", daemon=True)
                self._watcher.start()

    def _waits(self) -> bool:
        found = self._state.endpoints.values()
        running = self._experiments is not None and self._experiments.waits()
        return (
            running
            or self._loading.waits
            or bool(self._again)
            or any(one.deployment is not None or one.kept is not None for one in found)
        )

    def _keep_looking(self) -> None:
        while not self._closing.wait(LOOK_SECONDS):
            self.look()
            with self._lock:
                if not self._waits():
                    self._watcher = None
                    return

    # -- after a restart --------------------------------------------------------------------------
    def resume(self) -> None:
        """Load what the registry says is in service; what cannot be loaded is Failed, with the reason.

        A disk that takes no writes is no reason not to serve: it is said in the log.
        """
        for endpoint in self._state.endpoints.values():
            if endpoint.deployment is not None:
                endpoint.deployment.restarts += 1
        self._save_or_say()
        for name, endpoint in self._state.endpoints.items():
            self._resume(name, endpoint)
            if endpoint.kept is not None:
                self._loads.submit(self._keep_again, name)
        self._save_or_say()
        self.watch()

    def _resume(self, name: str, endpoint: Endpoint) -> None:
        deployment, endpoint.deployment = endpoint.deployment, None
        old, failure = self._try(name, endpoint.served)
        if old is not None:
            self.serving[name] = old
            if endpoint.status not in SETTLED:
                endpoint.status = "InService"
        if deployment is not None and deployment.phase != Phase.CREATING:
            self._resume_shift(name, endpoint, deployment, failure)
        elif deployment is not None:
            # The load may be what ended the server: nobody has met this config, so nobody misses it.
            endpoint.failure = f"the update to {deployment.served.config} was interrupted by a restart"
        if name not in self.serving:
            endpoint.status, endpoint.failure = "Failed", failure
            self._again[name] = time.monotonic() + AGAIN_SECONDS

    def _try_again(self) -> None:
        """What served before the restart and could not be loaded after it, which may have been the machine's fault."""
        for name, at in list(self._again.items()):
            if time.monotonic() >= at:
                self._again[name] = float("inf")
                self._loads.submit(self._bring_back, name)

    def _bring_back(self, name: str) -> None:
        endpoint = self._state.endpoints.get(name)
        if not self._is_lost(endpoint) or endpoint is None:
            self._again.pop(name, None)
            return
        found, failure = self._try(name, endpoint.served)
        with self._lock:
            if found is None:
                endpoint.failure, self._again[name] = failure, time.monotonic() + AGAIN_SECONDS
            elif self._state.endpoints.get(name) is endpoint and self._is_lost(endpoint):
                self._again.pop(name, None)
                self.serving[name], endpoint.status, endpoint.failure = found, "InService", None
                self._save_or_say()
            else:  # the next look finds out what is wanted now
                self._retire(name, found)
                if name in self._again:
                    self._again[name] = time.monotonic() + AGAIN_SECONDS

    @staticmethod
    def _is_lost(endpoint: Endpoint | None) -> bool:
        """Failed, and nobody has asked for anything else since."""
        return endpoint is not None and endpoint.status == "Failed" and endpoint.deployment is None

    def _resume_shift(self, name: str, endpoint: Endpoint, deployment: Deployment, failure: str | None) -> None:
        """Both configs had requests: the update goes on, or back, or the new one stays where the old cannot be had."""
        goes_on = deployment.phase != Phase.ROLLING_BACK and deployment.restarts <= MOST_RESTARTS
        config = deployment.served.config
        if not goes_on and failure is None:
            why = deployment.why or f"the server was restarted {deployment.restarts} times during it"
            endpoint.failure = f"the update to {config} was rolled back: {why}"
            return
        new, second = self._try(name, deployment.served)
        if failure is None and new is not None:
            endpoint.deployment, endpoint.status = deployment, "Updating"
            # Nobody watched while nobody answered: the step is baked anew, the limit counts as before.
            deployment.phase, deployment.since = str(Phase.BAKING), self._clock() - deployment.started
            self._incoming[name] = new
            self._send(name, deployment.share)
        elif failure is None:
            endpoint.failure = f"the update to {config} was rolled back: {second}"
        elif new is not None:
            endpoint.served, endpoint.status = deployment.served, "UpdateRollbackFailed"
            endpoint.failure = f"{config} serves, since the config before it cannot be had back: {failure}"
            self.serving[name] = new

    def _keep_again(self, name: str) -> None:
        """The way back is as short as before the restart."""
        endpoint = self._state.endpoints.get(name)
        if endpoint is None or endpoint.kept is None:
            return
        found, failure = self._try(name, endpoint.kept.served)
        with self._lock:
            if found is not None and name in self._state.endpoints and endpoint.kept is not None:
                self._kept[name] = found
            elif found is not None:
                self._retire(name, found)
            elif failure is not None:
                _log.error("%s is not kept for endpoint %s: %s", endpoint.kept, name, failure)

    def _try(self, name: str, served: Served) -> tuple[Serving | None, str | None]:
        try:
            return self._load(name, served), None
        except Exception as error:  # noqa: BLE001 - one bundle's trouble must not keep the others from serving
            return None, str(error)

    def _save_or_say(self) -> None:
        """What is true is described in any case; a restart would begin from the file."""
        try:
            self._registry.save()
        except OSError as error:
            _log.error("the registry needs to be written, or a restart begins from an older one; found: %s", error)
