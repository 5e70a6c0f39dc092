"""One ranker's thread, with no more work in front of it than can be done in time.

A caller's time runs from the arrival of its request, so work that would be done too late is not taken at all: its
request is better answered by popularity at once than after a wait. Work that was taken and whose time is over before
its turn comes is not begun. A ranker that hangs holds up its own lane and nobody else's.
"""

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")
WEIGHT = 1 / 8
"""Of the newest piece of work in the mean of what they take: about the last dozen count."""
SPARE = 1 / 8
"""Of the budget, not given away when work is taken: some work takes longer than the mean, and answers must be sent."""
LONGEST = 1 / 2
"""Of the budget: a piece of work is never thought to take longer, or nobody would notice that a slow ranker is quick
again. With SPARE below 1, so that an idle lane takes whatever has just arrived."""
TOGETHER = 2
"""Pieces that are done in turns, at most: the first waits for the last, and of four the slowest answers were later."""
FORGOTTEN = 1 / 32
"""Of how late answers woke, with each that wakes."""
WOKEN = 1 / 4
"""Of the budget: an answer of popularity may wake so late, as a process may answer the platform so late."""


class Late(Exception):
    """The work's time was over, or would have been before its end; nothing of it was done."""


Steps = Generator[None, None, T]
"""Work in steps: it pauses where another's same step had better come first, and returns what it comes to."""


def at_once(steps: Steps[T]) -> T:
    """What the steps come to, one after another."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: T = end.value
            return found


def _one_step(work: Callable[[], T]) -> Steps[T]:
    """Work that is done at once."""
    yield from ()
    return work()


@dataclass(eq=False)
class Piece(Generic[T]):
    """Work that was taken; what is `alone` takes no turns with others."""

    steps: Steps[T]
    alone: bool
    deadline: float
    budget: float
    future: Future[T] = field(default_factory=Future)
    tell: Callable[[], None] = lambda: None
    """Tells the future what it came to, once it has."""

    def step(self) -> bool:
        """Whether there is more after one more step."""
        try:
            next(self.steps)
        except StopIteration as end:
            self.tell = partial(self.future.set_result, end.value)
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            self.tell = partial(self.future.set_exception, error)
        else:
            return True
        return False


class Lane:
    """Runs work in the order it came, on one thread: a ranker need not be safe to call from two.

    What is in steps and waits together is done together, step by step: each step of a ranker drives what the others
    need out of the processor's caches.
    """

    def __init__(self, budget: float, clock: Callable[[], float]) -> None:
        """`budget`: seconds that a request has from its arrival; deadlines are on `clock`, in seconds."""
        self._budget = budget
        self._clock = clock
        self._lock = threading.Lock()
        # Not an executor: that makes a future, an item of work and a turn of a semaphore of each.
        self._turns: SimpleQueue[bool] = SimpleQueue()
        weakref.finalize(self, self._turns.put, False)
        threading.Thread(target=_turning, args=(weakref.ref(self), self._turns), name="rank", daemon=True).start()
        self._waiting: deque[Piece[Any]] = deque()
        self._ahead = 0
        self._closed = False
        self._began: float | None = None
        self._together = 1
        """How many are under way."""
        self._seconds: float | None = None

    def take(self, work: Callable[[], T] | Steps[T], deadline: float, budget: float | None = None) -> Future[T] | None:
        """The work's outcome, or None where it would not be done by the deadline. A cancelled one makes room.

        `budget`: that of a request that has less than the others.
        """
        budget = self._budget if budget is None else budget
        alone = not isinstance(work, Generator)
        piece: Piece[T] = Piece(_one_step(work) if callable(work) else work, alone, deadline, budget)
        with self._lock:
            now = self._clock()
            if self._closed or now + (self._ahead + 1) * self._each(now, budget) > deadline - SPARE * budget:
                return None
            self._ahead += 1
            self._waiting.append(piece)
        piece.future.add_done_callback(self._done)
        self._turns.put(True)
        return piece.future

    @property
    def usual(self) -> float:
        """Seconds that a piece of work takes, the mean; 0 before the first."""
        return self._seconds or 0.0

    def close(self) -> None:
        """Begin nothing more; what is under way ends by itself."""
        self._turns.put(False)
        with self._lock:
            self._closed = True
            left, self._waiting = list(self._waiting), deque()
        for piece in left:
            piece.future.cancel()

    def turn(self) -> None:
        """One for each piece that was taken: those that find theirs done with others do nothing."""
        with self._lock:
            pieces, late = self._next()
        for piece in late:
            piece.future.set_exception(Late())
        if not pieces:
            return
        under_way = pieces
        while under_way:
            under_way = [piece for piece in under_way if piece.step()]
        with self._lock:
            took = (self._clock() - (self._began or 0.0)) / len(pieces)
            self._seconds = took if self._seconds is None else self._seconds + WEIGHT * (took - self._seconds)
            self._began = None
        for piece in pieces:
            piece.tell()

    def _next(self) -> tuple[list[Piece[Any]], list[Piece[Any]]]:
        """The first that waits and is not late, with those behind it that leave all of them in time; and the late."""
        pieces: list[Piece[Any]] = []
        late: list[Piece[Any]] = []
        now = self._clock()
        while self._waiting and len(pieces) < TOGETHER:
            piece = self._waiting[0]
            every, each = [*pieces, piece], self._each(now, piece.budget)
            if pieces and not all(not of.alone and now + len(every) * each <= of.deadline for of in every):
                break
            self._waiting.popleft()
            if not piece.future.set_running_or_notify_cancel():
                continue
            (late if now + each > piece.deadline else pieces).append(piece)
        if pieces:
            self._began, self._together = now, len(pieces)
        return pieces, late

    def _each(self, now: float, budget: float) -> float:
        """Seconds that a piece of work takes, as far as is known: the mean, or longer if those under way have."""
        under_way = 0.0 if self._began is None else (now - self._began) / self._together
        return min(max(self.usual, under_way), LONGEST * budget)

    def _done(self, _: Future[T]) -> None:
        with self._lock:
            self._ahead -= 1


def _turning(lane: "weakref.ref[Lane]", turns: "SimpleQueue[bool]") -> None:
    """A lane's thread, until that is closed or nobody has it any more."""
    while turns.get():
        own = lane()
        if own is not None:
            own.turn()
        del own


class Pace:
    """When an answer may be sent that is no ranker's: at once, but while there are too many as late as it may be.

    Whoever is answered asks again. If a caller that is turned away is told so at once, and asks at once, telling it is
    all that the process does: the fewer are ranked the more are asked. One that waits asks less often. Its answer comes
    in time, and the ranker has the processor. What wakes late on a busy machine is sent late: the next ones are due so
    much sooner, as far as the lateness is more than a busy machine's usual.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._next = float("-inf")
        self._late = 0.0

    def wait(self, latest: float, gap: float, spared: float = float("inf")) -> float:
        """Seconds for the next answer to wait, until `latest` on the clock at most; 0 where that is over.

        `gap`: seconds between two that wait their turn: what a ranked one takes, so that popularity, which takes a
        tenth of that, is no more than a tenth of the work. `spared`: how late an answer may wake.
        """
        now = self._clock()
        latest -= max(0.0, self._late - spared)
        at = max(now, self._next)
        if at >= latest:
            return max(0.0, latest - now)
        self._next = at + gap
        return at - now

    def woke(self, due: float) -> None:
        """What was to wake at `due` on the clock is awake: the latest of a few dozen counts, and is forgotten."""
        self._late = max(self._clock() - due, (1 - FORGOTTEN) * self._late)


async def done_within(work: Future[Any], seconds: float) -> bool:
    """Whether it is done by then: `asyncio.wait` of `asyncio.wrap_future`, with one future and one callback fewer."""
    loop = asyncio.get_running_loop()
    woken = loop.create_future()

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    def tell(_: Future[Any]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(wake)

    timer = loop.call_later(seconds, wake)
    work.add_done_callback(tell)
    await woken
    timer.cancel()
    return work.done()
