"""A change of publication under load: no request fails, waits for it, or sees half of two days."""

import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from jobs import config
from jobs.bundle import Bundle
from jobs.errors import NotReady
from jobs.features import online, publish
from tests.infra.endpoint.rig import DAY, IDS, Memory, Patient, Turning, deciding
from tests.jobs import small_lake

THREADS, DAYS, ANSWERS = 8, 40, 10


@contextmanager
def switched_everywhere() -> Iterator[Any]:
    """Yields a trace function that lets another thread run after every line of the endpoint's code."""

    def traced(frame: FrameType, event: str, _: Any) -> Any:
        if "infra/endpoint/" not in frame.f_code.co_filename or "tests" in frame.f_code.co_filename:
            return None
        if event == "line":
            time.sleep(0)
        return traced

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield traced
    finally:
        sys.setswitchinterval(interval)


def test_requests_at_the_change_of_day_see_one_day_whole(patient: Bundle) -> None:
    """Threads ask on both ways, by the ranker and by popularity, while day after day is published."""
    features, failures, answered = Turning(), [], []
    bundles = [replace(patient, sha256=f"{n}" * 64) for n in range(4)]
    done = threading.Event()
    with deciding(*bundles, features=features) as server, switched_everywhere() as traced:

        def ask(caller: int) -> None:
            sys.settrace(traced)
            number = 0
            while not done.is_set():
                number += 1
                try:
                    answer = server.invoke(f"r{caller}-{number}", left=60 * (number % 2))
                except Exception as error:  # noqa: BLE001 - a thread's failure is the test's
                    failures.append(error)
                    return
                start = "i" if answer.features_day == str(DAY) else str(answer.features_day)
                if not answer.items or not all(item.item_id.startswith(start) for item in answer.items):
                    failures.append(AssertionError(answer))
                answered.append(number)

        with ThreadPoolExecutor(THREADS) as pool:
            for caller in range(THREADS):
                pool.submit(ask, caller)
            for _ in range(DAYS):
                features.turn()
                server.decider.refresh()
                enough = len(answered) + ANSWERS
                while len(answered) < enough and not failures:
                    time.sleep(0.001)
            done.set()
        assert failures == []
        assert server.invoke().features_day == str(features.publication.day)


def test_a_table_is_built_aside_and_once(patient: Bundle) -> None:
    """While the new day's table is under way, everybody is answered from the old one, popularity's requests too."""
    features = Turning()
    with deciding(patient, features=features) as server, ThreadPoolExecutor(THREADS) as pool:
        Patient.free.clear()
        Patient.begun.clear()
        Patient.sizes.clear()
        features.turn()
        refreshing = [pool.submit(server.decider.refresh) for _ in range(2)]
        assert Patient.begun.wait(30)
        for n in range(20):
            ranked = server.invoke(f"r{n}")
            popular = server.invoke(f"p{n}", left=0)
            assert (ranked.fallback, popular.fallback) == (False, True)
            assert ranked.features_day == popular.features_day == str(DAY)
        Patient.free.set()
        for future in refreshing:
            future.result(30)
        answers = list(pool.map(lambda n: server.invoke(f"n{n}", left=0), range(50)))
        assert {answer.features_day for answer in answers} == {str(features.publication.day)}
        assert Patient.sizes == [len(IDS)], "one table for the day, and no request asked for another"


def test_a_bundle_brought_up_at_the_change_of_day_is_of_the_new_day(patient: Bundle) -> None:
    """What was made ready from the old publication is brought up to date before it serves."""
    features = Turning()
    with deciding(features=features) as server, ThreadPoolExecutor(2) as pool:
        decider = server.decider
        Patient.free.clear()
        Patient.begun.clear()
        ready = pool.submit(decider.ready, patient)
        assert Patient.begun.wait(30)
        features.turn()
        decider.refresh()
        Patient.free.set()
        assert ready.result(30).offer(datetime.now(UTC)).day == features.publication.day


def test_one_thread_packs_a_new_publication_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The online store's reader: when a look at the marker is due and slow, one request pays for it, not all."""
    tree = config.load({"TIDEGATE_ENV": "test", "TIDEGATE__FEATURES__ONLINE_PATH": str(tmp_path / "online")})
    world = small_lake.World()
    publish.publish(tree, small_lake.TEST_DAY, small_lake.feature_tables(world, small_lake.TEST_DAY))
    reader = online.OnlineFeatures(tree)
    reader.refresh()
    looking, go_on, looks = threading.Event(), threading.Event(), []
    really = online._marker

    def slowly(store: Any) -> Any:
        looks.append(threading.get_ident())
        looking.set()
        go_on.wait(30)
        return really(store)

    monkeypatch.setattr(online, "_marker", slowly)
    monkeypatch.setattr(online, "CHECK_SECONDS", 0.0)
    with ThreadPoolExecutor(THREADS) as pool:
        first = pool.submit(reader.published)
        assert looking.wait(30)
        others = [pool.submit(reader.user, "u000003", small_lake.TEST_DAY) for _ in range(THREADS - 1)]
        assert all(future.result(30) is not None for future in others)
        assert not first.done()
        assert len(looks) == 1
        go_on.set()
        assert [published.day for published in first.result(30)] == [small_lake.TEST_DAY]


def test_a_marker_is_read_once_for_each_publication(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names every item: what it says is compared as it lies in the store, and read where it is another."""
    tree = config.load({"TIDEGATE_ENV": "test", "TIDEGATE__FEATURES__ONLINE_PATH": str(tmp_path / "online")})
    tables = small_lake.feature_tables(small_lake.World(), small_lake.TEST_DAY)
    reader, read, really = online.OnlineFeatures(tree), [], online._publication

    def counted(marked: online.Row) -> online.Publication | None:
        read.append(marked)
        return really(marked)

    monkeypatch.setattr(online, "_publication", counted)
    publish.publish(tree, small_lake.TEST_DAY, tables)
    read.clear()
    assert reader.refresh()
    assert len(read) == len(online.SLOTS)
    assert not reader.refresh()
    assert len(read) == len(online.SLOTS)
    fewer = {**tables, "item_features": tables["item_features"].slice(1)}
    publish.publish(tree, small_lake.TEST_DAY, fewer)
    read.clear()
    assert reader.refresh()
    assert len(reader.published()[0].items["item_id"]) == len(fewer["item_features"])
    assert len(read) == 1


def test_a_store_that_is_away_at_the_start_costs_relevance_only(boosted: Bundle, tmp_path: Path) -> None:
    """A process that was begun anew while Redis was away once ended again and again; now popularity answers, marked,
    and the ranker does as soon as the store is back.
    """

    class Away(Memory):
        there = False

        def refresh(self) -> bool:
            if not self.there:
                raise NotReady("features.online_store needs Redis")
            return True

        def published(self) -> Any:
            return super().published() if self.there else []

    features = Away()
    with deciding(boosted, features=features) as server:
        answer = server.invoke()
        assert (answer.fallback_reason, len(answer.items), answer.features_day) == ("failed", 3, None)
        features.there = True
        deadline = time.monotonic() + 60
        while server.invoke().fallback:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert server.invoke().features_day == DAY.isoformat()


def test_a_redis_that_says_nothing_holds_nobody_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client asked a store that is gone again for ten seconds, and one that hangs for ever; a ranker's thread with
    it, until somebody ended the process.
    """
    monkeypatch.setattr(online, "READ_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        settings = config.load(
            {
                "TIDEGATE_ENV": "test",
                "TIDEGATE__FEATURES__ONLINE_PATH": str(tmp_path),
                "TIDEGATE__FEATURES__ONLINE_STORE": "redis",
                "TIDEGATE__FEATURES__REDIS_URL": address,
            }
        )
        online._apply(online.store_of(settings, online.SLOTS[0]), settings, online.SLOTS[0])
        reader = online.OnlineFeatures(settings)
        for listens in (False, True):
            if listens:
                silent.listen(8)
            took = []
            for _ in range(4):  # the first look opens the store, which takes longer
                began = time.monotonic()
                with pytest.raises(NotReady, match="needs Redis"):
                    reader.refresh()
                took.append(time.monotonic() - began)
            assert min(took) < 1.0 + 0.3
