"""The processes that answer for a bundle: begun, watched, asked and ended here; popularity where none of them answers.

A process may be asked once it has said /ping, which it does after it verified every file of its bundle. From then on it
is pinged; one that ends is begun anew at once, then with longer and longer pauses; one that says nothing for
`endpoint.hung_seconds` is killed and begun anew. Meanwhile a request goes to another process of the bundle, else to the
platform's own popularity, from memory: of each bundle it holds the fallback and what that offers, no more.
"""

import asyncio
import itertools
import logging
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import closing, suppress
from typing import Any, Protocol, TypeVar

import orjson

from infra.endpoint.arrival import AS_VARIANT, HANDED_ON, deadline
from infra.endpoint.errors import BadRequest
from infra.endpoint.popularity import BUSY, DOWN, EVERY_SURFACE, FAILED, HUNG, answered, by_popularity, heard
from infra.endpoint.request import RankRequest
from infra.endpoint.variant import Popular, known_at
from infra.endpoint.wire import Reply, Wire, listen_at, reachable
from jobs.bundle import Standby
from jobs.config import EndpointSettings
from jobs.errors import NotReady
from jobs.serving.answer import Answer, answer_of

BACKLOG = 256
UNDER_WAY = 128
"""Requests that one process may have at once: more of them would only be told `busy` by it, later."""
PING_SECONDS, AGAIN_SECONDS = 1.0, 0.1
"""Between two pings, and after one that was not answered or a request that was not."""
START_SECONDS = 600.0
"""A large bundle takes long to verify and to load."""
STEADY_SECONDS = 60.0
"""A process that lived so long is begun anew at once."""
PAUSES = (0.05, 30.0)
"""The first pause before a process is begun anew, and the longest; each is twice the one before."""
DRAIN_SECONDS = 30.0
"""For the requests under way of a process that was told to end."""
GRACE = 1 / 4
"""Of the budget: so much later than a process's own timer the platform's own says that it did not answer."""
OFFERS = "x-tidegate-offers"
"""The header in which a ping says which offers of popularity a process has."""
ENDED = "ended"
T = TypeVar("T")
_log = logging.getLogger(__name__)


class Instance(Protocol):
    """A process that was begun."""

    @property
    def said(self) -> str:
        """The last line that it wrote on stderr."""
        ...

    async def wait(self) -> int | None:
        """Until it has ended; its exit status."""
        ...

    def terminate(self) -> None:
        """Let it end after the requests under way."""
        ...

    def kill(self) -> None:
        """End it now, even if it hangs."""
        ...


Spawn = Callable[[Standby, socket.socket], Awaitable[Instance]]
"""Begins a process that serves a bundle on a listening socket, its own copy of which the caller closes."""


class Process:
    """One place among those of a bundle, and the instances that fill it one after another."""

    def __init__(self, of: "Processes", address: str, spawn: Spawn, hung_seconds: float) -> None:
        self.up = False
        """Whether it may be asked: it has answered, and nothing since says that it would not."""
        self.under_way = 0
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the first instance has answered; raises `NotReady` where that could not."""
        self._of = of
        self._address = address
        self._spawn = spawn
        self._hung_seconds = hung_seconds
        self._wire = Wire(address)
        self._stirred = asyncio.Event()
        self._ending = False
        self._instance: Instance | None = None
        self._kept_up = asyncio.create_task(self._keep_up())

    async def ask(self, body: bytes, headers: dict[str, str], seconds: float) -> Reply:
        """What it says to an invocation; raises OSError where it is gone, TimeoutError where it is late."""
        self.under_way += 1
        try:
            return await self._wire.ask("POST", "/invocations", seconds, headers, body)
        except (OSError, TimeoutError):
            self.up = False
            self._stirred.set()
            raise
        finally:
            self.under_way -= 1
            if self._ending:
                self._stirred.set()

    async def page(self) -> str:
        """Its metrics; nothing where it does not say."""
        try:
            return (await self._wire.ask("GET", "/metrics", PING_SECONDS)).body.decode() if self.up else ""
        except (OSError, TimeoutError):
            return ""

    async def end(self) -> None:
        """After the requests under way."""
        self._ending = True
        self._stirred.set()
        if not self.started.done():
            self.started.set_exception(NotReady("a process needs to be let start; it was ended instead"))
        if not self.up and self._instance is not None:
            self._instance.kill()
        await self._kept_up

    async def _keep_up(self) -> None:
        """As long as one is wanted, an instance after another."""
        pause, longest = PAUSES
        while not self._ending:
            began = time.monotonic()
            why, said = await self._life()
            if self._ending:
                return
            if not self.started.done():
                self.started.set_exception(
                    NotReady(f"a process of {self._of.bundle.candidate_id} needs to answer before it serves: {said}")
                )
                return
            self._of.restarts[self._of.bundle.candidate_id, why] += 1
            if time.monotonic() - began > STEADY_SECONDS:
                pause = PAUSES[0]
            _log.warning(
                "a process of %s %s and is begun anew in %g s: %s", self._of.bundle.candidate_id, why, pause, said
            )
            await self._stirred_within(pause, lambda: self._ending)
            pause = min(2 * pause, longest)

    async def _life(self) -> tuple[str, str]:
        """One instance from its start to its end: why it ended, and what it said last."""
        try:
            with closing(listen_at(self._address, BACKLOG)) as listener:
                self._instance = instance = await self._spawn(self._of.bundle, listener)
        except Exception as error:  # noqa: BLE001 - whatever is in the way may go away: it is tried again
            return ENDED, f"it could not be begun: {type(error).__name__}: {error}"
        ended = asyncio.ensure_future(instance.wait())
        ended.add_done_callback(lambda _: self._stirred.set())
        try:
            why = await self._watched(ended)
        finally:
            self.up = False
            # Whoever is being answered still is; nobody else comes to what ends.
            if self._ending and not ended.done():
                await self._stirred_within(DRAIN_SECONDS, lambda: self.under_way == 0)
                instance.terminate()
                await asyncio.wait([ended], timeout=DRAIN_SECONDS)
            instance.kill()
            await ended
            self._wire.close()
        return why, instance.said

    async def _watched(self, ended: "asyncio.Future[int | None]") -> str:
        """Until the instance has ended, hangs, or is not wanted any more; says which."""
        heard, patience = time.monotonic(), START_SECONDS
        while not (ended.done() or self._ending):
            self._stirred.clear()
            ping = asyncio.ensure_future(self._ping(patience))
            await asyncio.wait((ping, ended), return_when=asyncio.FIRST_COMPLETED)
            if not ping.done():
                ping.cancel()
            elif ping.exception() is None:
                self.up, heard, patience = True, time.monotonic(), self._hung_seconds
                if not self.started.done():
                    self.started.set_result(None)
                await self._stirred_within(PING_SECONDS, lambda: ended.done() or self._ending or not self.up)
            elif time.monotonic() - heard >= patience:
                return HUNG
            else:
                await self._stirred_within(AGAIN_SECONDS, lambda: ended.done() or self._ending)
        return ENDED

    async def _ping(self, seconds: float) -> None:
        reply = await self._wire.ask("GET", "/ping", seconds)
        version = reply.headers.get(OFFERS, "")
        if version != self._of.version:
            self._of.take_up(version, (await self._wire.ask("GET", "/offers", seconds)).body)

    async def _stirred_within(self, seconds: float, enough: Callable[[], bool]) -> None:
        """Until it is enough, or the time is over."""
        until = time.monotonic() + seconds
        while not enough() and (left := until - time.monotonic()) > 0:
            self._stirred.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stirred.wait(), left)


class Processes:
    """What a variant of a config is to the platform: `endpoint.processes` for each of its instances.

    Its methods are for the thread of the event loop, but `close` and `scale`.
    """

    def __init__(self, bundle: Standby, settings: EndpointSettings, launcher: "Launcher") -> None:
        self.bundle = bundle
        self.places: list[Process] = []
        self.version = ""
        """Which offers these are."""
        self.offers: Sequence[Popular] = ()
        self.restarts = launcher.restarts
        self._settings = settings
        self._launcher = launcher

    @property
    def up(self) -> int:
        """Processes that may be asked."""
        return sum(process.up for process in self.places)

    @property
    def instances(self) -> int:
        """That there are, whatever was asked for."""
        return len(self.places) // self._settings.processes

    def scale(self, instances: int) -> None:
        """So many instances from now on, as far as `endpoint.most_processes` lets; from any thread but the loop's.

        Raises `NotReady` where a new process could not answer; then there are as many as before.
        """
        self._launcher.on_loop(self.resize(instances))

    async def resize(self, instances: int) -> None:
        """See `scale`. New ones are asked once they have answered; who goes answers what it was asked before."""
        each = self._settings.processes
        number = min(max(1, instances) * each, max(each, self._settings.most_processes))
        new = [self._launcher.place(self) for _ in range(number - len(self.places))]
        self.places += new
        try:
            await asyncio.gather(*(process.started for process in new))
        except NotReady:
            self._dismiss(new)
            raise
        self._dismiss(sorted(self.places, key=lambda process: process.up)[: len(self.places) - number])

    def _dismiss(self, gone: Sequence[Process]) -> None:
        self.places = [process for process in self.places if process not in gone]
        for process in gone:
            self._launcher.later(process.end())

    def take_up(self, version: str, content: bytes) -> None:
        """What popularity offers from now on."""
        self.version, self.offers = version, heard(self.bundle, content)

    async def answer(self, name: str, request: RankRequest, body: bytes, arrived: float) -> Answer:
        """The response as variant `name`, in time in any case; raises `BadRequest` where a process says so."""
        own = self._settings.surfaces.get(request.surface, EVERY_SURFACE)
        budget = own.seconds(self._settings.timeout_ms / 1000)
        until, reason = deadline(arrived, budget, time.monotonic()), BUSY
        if time.monotonic() < until:
            found = await self._asked(name, request, body, arrived, until + GRACE * budget)
            if isinstance(found, Answer):
                return found
            reason = found
        offer = known_at(self.offers, request.at())
        return answered(self.bundle, name, request, offer, by_popularity(self.bundle, offer, request), reason)

    def close(self) -> None:
        """No config names it any more: it ends after the requests under way, or a while later. From any thread."""
        self._launcher.leave(self)

    async def end(self) -> None:
        """Now, after the requests under way."""
        await asyncio.gather(*(process.end() for process in self.places))

    async def _asked(self, name: str, request: RankRequest, body: bytes, arrived: float, until: float) -> Answer | str:
        """A process's answer, or why there is none. A decision may be made twice: who dies is followed by another."""
        headers = {HANDED_ON: repr(arrived), AS_VARIANT: name}
        while (left := until - time.monotonic()) > 0:
            process = min((one for one in self.places if one.up), key=lambda one: one.under_way, default=None)
            if process is None:
                return DOWN
            if process.under_way >= UNDER_WAY:
                return BUSY
            try:
                reply = await process.ask(body, headers, left)
            except TimeoutError:
                return HUNG
            except OSError:
                continue
            return self._said(reply, request)
        return HUNG

    def _said(self, reply: Reply, request: RankRequest) -> Answer | str:
        try:
            said = orjson.loads(reply.body)
            if reply.status == 400:
                raise BadRequest(str(said["error"]))
            answer = answer_of(said)
            if (answer.bundle_sha256, answer.request_id) == (self.bundle.sha256, request.request_id):
                return answer
        except (ValueError, LookupError, TypeError):
            pass
        _log.error("a process of %s says %d, and nothing that answers", self.bundle.candidate_id, reply.status)
        return FAILED


class Launcher:
    """All processes of a platform; of the bundle that left last they stay a while, for a way back without a load."""

    def __init__(self, settings: EndpointSettings, spawn: Spawn) -> None:
        self.restarts: Counter[tuple[str, str]] = Counter()
        """By (candidate id, why)."""
        self.all: set[Processes] = set()
        self._settings = settings
        self._spawn = spawn
        self._folder = settings.state / "processes"
        self._sockets = ""
        self._numbers = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._left: tuple[Processes, asyncio.TimerHandle] | None = None
        self._ends: set[asyncio.Task[None]] = set()
        self._closed = False

    def open(self) -> None:
        """On the event loop that all of them will live on."""
        self._loop = asyncio.get_running_loop()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._folder.glob("*.sock"):
            left.unlink()
        self._sockets = reachable(self._folder)

    def ready(self, bundle: Standby, instances: int = 1) -> Processes:
        """Those of a bundle, once all have answered; from any thread but the loop's. Raises `NotReady` else."""
        return self.on_loop(self._ready(bundle, instances))

    def place(self, of: Processes) -> Process:
        """One more of a bundle's, which begins."""
        address = f"{self._sockets}/{of.bundle.sha256[:8]}-{next(self._numbers)}.sock"
        return Process(of, address, self._spawn, self._settings.hung_seconds)

    async def close(self) -> None:
        """End every process."""
        self._closed = True
        if self._left is not None:
            self._left[1].cancel()
        await asyncio.gather(*(these.end() for these in self.all), *self._ends)

    def on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """What work on the loop comes to; raises `NotReady` where nothing runs."""
        if self._loop is None or self._closed:
            work.close()
            raise NotReady("processes need an endpoint that is running")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def leave(self, these: Processes) -> None:
        """Nobody has them any more; from any thread."""
        if self._loop is not None and not self._closed:
            self._loop.call_soon_threadsafe(self._stay, these)

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Done while other things are; the platform's end waits for it."""
        task = asyncio.ensure_future(work)
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)

    async def _ready(self, bundle: Standby, instances: int) -> Processes:
        if self._left is not None and self._left[0].bundle.sha256 == bundle.sha256 and self._left[0].up:
            these, timer = self._left
            timer.cancel()
            self._left = None
        else:
            these = Processes(bundle, self._settings, self)
            self.all.add(these)
        try:
            await these.resize(instances)
        except NotReady:
            self._end(these)
            raise
        return these

    def _stay(self, these: Processes) -> None:
        if self._left is not None:
            self._left[1].cancel()
            self._end(self._left[0])
        timer = asyncio.get_running_loop().call_later(self._settings.keep_loaded_seconds, self._over, these)
        self._left = these, timer

    def _over(self, these: Processes) -> None:
        self._left = None
        self._end(these)

    def _end(self, these: Processes) -> None:
        self.all.discard(these)
        self.later(these.end())
