"""The queue in front of a ranker: it holds what can be done in time, and nothing late is begun."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.endpoint.lane import LONGEST, SPARE, TOGETHER, Lane, Late, Pace, Steps

BUDGET = 1.0


class Clock:
    """Seconds, as the test says."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Held:
    """Work that is under way until it is let go, and takes so many of the clock's seconds."""

    def __init__(self, clock: Clock, seconds: float = 0.0) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()
        self._clock, self._seconds = clock, seconds

    def __call__(self) -> float:
        self.begun.set()
        self.let_go.wait(30)
        self._clock.now += self._seconds
        return self._clock.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lane(clock: Clock) -> Iterator[Lane]:
    made = Lane(BUDGET, clock)
    yield made
    made.close()


def done(lane: Lane, clock: Clock, seconds: float) -> None:
    """A piece of work that took so long."""
    held = Held(clock, seconds)
    held.let_go.set()
    taken(lane.take(held, clock.now + BUDGET)).result(30)


def taken(work: Future[Any] | None) -> Future[Any]:
    assert work is not None
    return work


def nothing() -> None:
    """Work of no time at all."""


def test_work_that_would_be_done_too_late_is_not_taken(lane: Lane, clock: Clock) -> None:
    """Each piece takes a tenth of the budget and an eighth of it is spare: eight fit, the one under way included."""
    done(lane, clock, BUDGET / 10)
    held = Held(clock)
    taken(lane.take(held, clock.now + BUDGET))
    assert held.begun.wait(30)
    fitting = [lane.take(nothing, clock.now + BUDGET) for _ in range(20)]
    assert sum(work is not None for work in fitting) == int((1 - SPARE) * 10) - 1
    assert all(work is None for work in fitting[7:])
    held.let_go.set()


def test_time_that_is_over_or_nearly_over_takes_nothing(lane: Lane, clock: Clock) -> None:
    """A request that waited elsewhere has less left, though the lane is idle."""
    done(lane, clock, BUDGET / 10)
    assert lane.take(nothing, clock.now) is None
    assert lane.take(nothing, clock.now - 1) is None
    assert lane.take(nothing, clock.now + BUDGET / 10) is None
    taken(lane.take(nothing, clock.now + BUDGET / 10 + SPARE * BUDGET)).result(30)


def test_what_nobody_waits_for_any_more_makes_room(lane: Lane, clock: Clock) -> None:
    """A caller answered by popularity cancels its work: it is not run, and the next one has its place."""
    done(lane, clock, BUDGET / 4)
    held, ran = Held(clock), threading.Event()
    taken(lane.take(held, clock.now + BUDGET))
    assert held.begun.wait(30)
    left = [taken(lane.take(ran.set, clock.now + BUDGET)) for _ in range(2)]
    assert lane.take(ran.set, clock.now + BUDGET) is None
    assert all(work.cancel() for work in left)
    last = taken(lane.take(nothing, clock.now + BUDGET))
    held.let_go.set()
    last.result(30)
    assert not ran.is_set()


def test_work_whose_time_is_over_before_its_turn_is_not_begun(lane: Lane, clock: Clock) -> None:
    """The one before took longer than anybody knew; the worker goes on with who can still be served."""
    held, ran = Held(clock, BUDGET), threading.Event()
    taken(lane.take(held, clock.now + BUDGET))
    late = taken(lane.take(ran.set, clock.now + BUDGET))
    held.let_go.set()
    with pytest.raises(Late):
        late.result(30)
    assert not ran.is_set()
    taken(lane.take(nothing, clock.now + BUDGET)).result(30)


def test_a_ranker_that_hangs_is_not_waited_for_by_many(lane: Lane, clock: Clock) -> None:
    """Once the work under way has used up half the budget, whoever comes is sent away at once."""
    held = Held(clock)
    taken(lane.take(held, clock.now + BUDGET))
    assert held.begun.wait(30)
    clock.now += LONGEST * BUDGET
    assert lane.take(nothing, clock.now + BUDGET) is None
    held.let_go.set()


@pytest.mark.parametrize("seconds", [BUDGET, 100 * BUDGET])
def test_a_slow_ranker_is_asked_again_when_it_is_idle(lane: Lane, clock: Clock, seconds: float) -> None:
    """Otherwise nobody would ever notice that it is quick again."""
    for _ in range(20):
        done(lane, clock, seconds)
    held = Held(clock)
    taken(lane.take(held, clock.now + BUDGET))
    assert held.begun.wait(30)
    assert lane.take(nothing, clock.now + BUDGET) is None, "one at a time is enough to notice"
    held.let_go.set()


def test_a_failure_is_the_callers_and_the_lane_goes_on(lane: Lane, clock: Clock) -> None:
    """Whatever a ranker raises."""

    def fail() -> None:
        raise RuntimeError("out of cheese")

    with pytest.raises(RuntimeError, match="cheese"):
        taken(lane.take(fail, clock.now + BUDGET)).result(30)
    taken(lane.take(nothing, clock.now + BUDGET)).result(30)


PIECES = st.lists(
    st.tuples(st.floats(0, BUDGET), st.floats(-BUDGET / 4, 2 * BUDGET), st.floats(0, BUDGET)), max_size=30
)


@settings(deadline=None)
@given(PIECES)
def test_nothing_is_begun_late_or_out_of_turn(pieces: list[tuple[float, float, float]]) -> None:
    """Any work (seconds it takes, seconds left when it comes, pause after it) behind a piece that is under way."""
    clock = Clock()
    lane, held = Lane(BUDGET, clock), Held(clock)
    taken(lane.take(held, BUDGET))
    assert held.begun.wait(30)
    begun: list[tuple[int, float, float]] = []

    def piece(number: int, seconds: float, deadline: float) -> Callable[[], None]:
        def run() -> None:
            begun.append((number, clock.now, deadline))
            clock.now += seconds

        return run

    futures = []
    for number, (seconds, left, pause) in enumerate(pieces):
        deadline = clock.now + left
        futures.append(lane.take(piece(number, seconds, deadline), deadline))
        clock.now += pause
    held.let_go.set()
    ran = {n for n, future in enumerate(futures) if future is not None and future.exception(30) is None}
    lane.close()
    assert [number for number, _, _ in begun] == sorted(ran)
    assert all(at <= deadline for _, at, deadline in begun)


def test_a_lane_that_nobody_has_or_that_is_closed_leaves_no_thread(clock: Clock) -> None:
    """A variant that left is forgotten, closed or not; what was under way ends, and nothing more is taken."""
    before = set(threading.enumerate())
    forgotten, closed = Lane(BUDGET, clock), Lane(BUDGET, clock)
    done(forgotten, clock, 0.0)
    held = Held(clock)
    under_way = taken(closed.take(held, clock.now + BUDGET))
    assert held.begun.wait(30)
    closed.close()
    assert closed.take(held, clock.now + BUDGET) is None
    held.let_go.set()
    assert under_way.result(30) == clock.now
    threads = set(threading.enumerate()) - before
    del forgotten
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


def test_a_request_with_less_time_is_taken_by_its_own(lane: Lane, clock: Clock) -> None:
    """What is kept in reserve is a part of its time, not of the lane's; and an idle lane takes what has just come."""
    short = BUDGET / 20
    assert lane.take(lambda: 1, clock.now + short) is None, "a tenth of the lane's time is less than its reserve"
    assert taken(lane.take(lambda: 1, clock.now + short, short)).result(30) == 1
    done(lane, clock, BUDGET / 2)
    assert taken(lane.take(lambda: 1, clock.now + short, short)).result(30) == 1, (
        "or nobody would learn it is quick again"
    )
    held = Held(clock)
    work = taken(lane.take(held, clock.now + BUDGET))
    held.begun.wait(30)
    assert lane.take(lambda: 1, clock.now + short, short) is None, "another is ahead"
    held.let_go.set()
    work.result(30)


def test_a_few_that_are_turned_away_are_told_at_once(clock: Clock) -> None:
    pace, gap = Pace(clock), 0.005
    for n in range(1000):
        clock.now = n * gap
        assert pace.wait(clock.now + BUDGET, gap) == pytest.approx(0.0, abs=1e-9)


def test_many_wait_their_turn_and_none_longer_than_it_may(clock: Clock) -> None:
    pace, gap = Pace(clock), 0.005
    waits = [pace.wait(BUDGET, gap) for _ in range(1000)]
    assert waits == pytest.approx([min(n * gap, BUDGET) for n in range(1000)])
    assert pace.wait(clock.now - 1, gap) == 0.0  # whose time is over
    clock.now = BUDGET + gap
    assert pace.wait(clock.now + BUDGET, gap) == 0.0  # and with them gone, nobody waits for them


def test_what_wakes_late_is_due_sooner_until_it_is_in_time_again(clock: Clock) -> None:
    """A loop that wakes everybody 40 ms late: answers leave a quarter of the budget late at most, not 40 ms."""
    pace, budget, behind = Pace(clock), 0.06, 0.04
    pace.wait(clock.now + budget, 1e9)  # the last turn for long: all others wait as long as they may

    def late(by: float) -> float:
        """Seconds after its budget at which an answer leaves whose process wakes so late."""
        clock.now += 0.001
        arrived, wait = clock.now, pace.wait(clock.now + budget, budget, budget / 4)
        clock.now += wait + by
        pace.woke(arrived + wait)
        return clock.now - arrived - budget

    assert late(behind) == pytest.approx(behind)
    assert [late(behind) for _ in range(50)] == pytest.approx([budget / 4] * 50)
    assert late(0.0) < 0, "one that is in time does not make up for what was late"
    found = [late(0.0) for _ in range(50)]
    assert found == sorted(found)
    assert found[-1] == pytest.approx(0.0), "and then nobody is hurried"


@given(st.lists(st.tuples(st.floats(0, 0.02), st.floats(-1, 2)), max_size=200))
def test_whoever_asks_again_once_answered_asks_no_more_than_that(asked: list[tuple[float, float]]) -> None:
    """No answer is late, and those that are not as late as they may be are a gap apart."""
    clock = Clock()
    pace, sent = Pace(clock), []
    for after, left in asked:
        clock.now += after
        wait = pace.wait(clock.now + left, 0.005)
        assert 0 <= wait <= max(0.0, left) + 1e-9
        if wait < left - 1e-9:
            sent.append(clock.now + wait)
    assert all(b - a >= 0.005 - 1e-9 for a, b in pairwise(sent))


def test_work_takes_as_long_as_it_usually_does(lane: Lane, clock: Clock) -> None:
    assert lane.usual == 0.0
    for _ in range(50):
        done(lane, clock, 0.01)
    assert lane.usual == pytest.approx(0.01)


def steps(name: str, said: list[str], clock: Clock, seconds: float, fails: bool = False) -> Steps[str]:
    """Two steps, which say when they are done and take so long each."""
    for number in (1, 2):
        said.append(f"{name}{number}")
        clock.now += seconds
        if fails:
            raise RuntimeError("out of cheese")
        yield
    return name


def behind(lane: Lane, clock: Clock, *pieces: Steps[str]) -> tuple[Held, list[Future[Any]]]:
    """They wait behind a piece that is under way."""
    held = Held(clock)
    taken(lane.take(held, clock.now + BUDGET))
    assert held.begun.wait(30)
    return held, [taken(lane.take(piece, clock.now + BUDGET)) for piece in pieces]


def test_what_waits_in_steps_is_done_in_turns_and_costs_its_share(lane: Lane, clock: Clock) -> None:
    """Each its own outcome, a failure too; a third one begins when the two are done."""
    said: list[str] = []
    pieces = [steps(name, said, clock, 0.01, fails=name == "b") for name in "abc"]
    held, futures = behind(lane, clock, *pieces)
    held.let_go.set()
    a, b, *others = futures
    assert [a.result(30), *(of.result(30) for of in others)] == ["a", "c"]
    with pytest.raises(RuntimeError, match="cheese"):
        b.result(30)
    assert said == ["a1", "b1", "a2", "c1", "c2"]
    assert TOGETHER == 2
    for _ in range(50):
        done(lane, clock, 0.02)
    held, futures = behind(lane, clock, *(steps(name, said, clock, 0.01) for name in "abc"))
    held.let_go.set()
    for of in futures:
        of.result(30)
    taken(lane.take(nothing, clock.now + BUDGET)).result(30)
    assert lane.usual == pytest.approx(0.02, rel=0.3), "of each, not of all"


def test_whoever_would_be_late_with_others_goes_alone(lane: Lane, clock: Clock) -> None:
    """Two take a quarter of the budget each and less than half is left: together both would be late."""
    done(lane, clock, BUDGET / 4)
    said: list[str] = []
    held, (a, b) = behind(lane, clock, *(steps(name, said, clock, BUDGET / 8) for name in "ab"))
    clock.now += 0.55 * BUDGET
    held.let_go.set()
    assert a.result(30) == "a"
    assert said[:2] == ["a1", "a2"]
    with pytest.raises(Late):
        b.result(30)
