"""Variants are processes: whatever happens to one, every request is answered, and it comes back; none is left over."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self
from urllib.request import Request, urlopen

import psutil
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from infra.endpoint import wire
from infra.endpoint.decide import Decider
from infra.endpoint.loading import GRACE_SECONDS
from infra.endpoint.popularity import DOWN, HUNG, heard, told
from infra.endpoint.wire import listen_at, reachable
from infra.stack.processes import free_ports
from jobs.bundle import Bundle, Standby, standby
from jobs.config import ROOT
from models.settings import TaskSettings
from tests.infra.endpoint.rig import IDS, Awkward, Client, Memory, direct, running, settings, threads

USER = "u-of-whom-no-log-tells"
HUNG_SECONDS = 3.0


class Platform:
    """`python -m infra.endpoint` as a child, with two processes a variant."""

    def __init__(self, root: Path) -> None:
        self._root, [self._port] = root, free_ports(1)
        self.said = root / "stderr"
        self.client = Client(f"http://127.0.0.1:{self._port}")
        self.start()

    def start(self) -> None:
        """Until it answers /ping."""
        environ = {
            "TIDEGATE_ENV": "test",
            "TIDEGATE__ENDPOINT__STATE": str(self._root / "state"),
            "TIDEGATE__ENDPOINT__TIMEOUT_MS": "2000",
            "TIDEGATE__ENDPOINT__PROCESSES": "2",
            "TIDEGATE__ENDPOINT__HUNG_SECONDS": str(HUNG_SECONDS),
            "TIDEGATE__FEATURES__ONLINE_PATH": str(self._root / "online"),
        }
        command = [sys.executable, "-m", "infra.endpoint", "--port", str(self._port)]
        with self.said.open("ab") as log:
            self.child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environ}, stderr=log)
        until(lambda: self.child.poll() is not None or self._answers())
        assert self.child.poll() is None, self.said.read_text()

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.client.url}/ping", timeout=60) as found:
                return bool(found.status == 200)
        except OSError:
            return False

    def variants(self) -> list[psutil.Process]:
        """The processes of variants, the oldest first."""
        found = psutil.Process(self.child.pid).children()
        return sorted(found, key=lambda process: process.create_time())

    def metrics(self) -> dict[str, Metric]:
        """By name, as Prometheus reads them."""
        text = urlopen(f"{self.client.url}/metrics").read().decode()
        return {family.name: family for family in text_string_to_metric_families(text)}

    def total(self, name: str, **labels: str) -> float:
        """Of the samples with these labels."""
        samples = self.metrics()[name].samples
        return sum(s.value for s in samples if labels.items() <= s.labels.items())


def until(done: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Load:
    """Callers who ask all the time while a test does something; what failed is raised at the end."""

    def __init__(self, client: Client, callers: int = 3) -> None:
        self._client = client
        self._done = threading.Event()
        self._failures: list[Exception] = []
        self.answers: list[dict[str, Any]] = []
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(callers)]

    def _ask(self, caller: int) -> None:
        number = 0
        while not self._done.is_set():
            number += 1
            try:
                self.answers.append(self._client.invoke(f"r{caller}-{number}", user_id=USER, candidates=IDS[:9]))
            except Exception as error:  # noqa: BLE001 - a thread's failure is the test's
                self._failures.append(error)
            time.sleep(0.02)

    def more(self, fitting: Callable[[dict[str, Any]], bool] = lambda _: True) -> None:
        """Wait until five more such answers have come."""
        seen = len(self.answers)
        until(lambda: bool(self._failures) or sum(map(fitting, self.answers[seen:])) >= 5)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.more()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()
        assert self._failures == []
        assert all(len(answer["items"]) == 3 for answer in self.answers)

    @property
    def reasons(self) -> Counter[str | None]:
        return Counter(answer["fallback_reason"] for answer in self.answers)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, popular: Bundle) -> Iterator[Platform]:
    made = Platform(tmp_path_factory.mktemp("platform"))
    try:
        made.client.serve(popular)
        yield made
    finally:
        for process in made.variants():
            process.resume()
        made.child.terminate()
        assert made.child.wait(60) in (0, -signal.SIGTERM)


def test_killed_and_stopped_processes_cost_no_request(platform: Platform) -> None:
    """kill -9 of one, then SIGSTOP of one, then kill -9 of both, under load: the other one answers, else popularity."""
    assert len(platform.variants()) == 2
    with Load(platform.client) as load:
        first, second = platform.variants()
        first.kill()
        until(lambda: first.pid not in {p.pid for p in platform.variants()})
        until(lambda: platform.total("tidegate_processes") == 2)
        load.more()
        assert not load.reasons.keys() & {DOWN, HUNG}, "what was under way was asked of the other one"

        second.suspend()
        load.more(lambda answer: not answer["fallback"])
        until(lambda: not second.is_running())
        until(lambda: platform.total("tidegate_processes") == 2)
        assert DOWN not in load.reasons

        for process in platform.variants():
            process.kill()
        load.more(lambda answer: answer["fallback_reason"] == DOWN)
        until(lambda: platform.total("tidegate_processes") == 2)
        load.more(lambda answer: not answer["fallback"])
    assert platform.total("tidegate_restarts", why=HUNG) == 1
    assert platform.total("tidegate_restarts", why="ended") == 3
    for reason, number in load.reasons.items():
        assert platform.total("tidegate_answers", outcome=reason or "ranked") == number
    assert len(platform.variants()) == 2


def test_metrics_are_prometheus_own(platform: Platform, popular: Bundle) -> None:
    """Rates, a histogram of every stage and of the whole, the age of the features, what is loaded; by process."""
    for n in range(4):
        platform.client.invoke(f"m{n}", candidates=IDS[:9])
    found = platform.metrics()
    stages = [s for s in found["tidegate_stage_seconds"].samples if s.name.endswith("_count")]
    assert {s.labels["stage"] for s in stages} == {"features", "retrieve", "columns", "rank", "slate"}
    assert {s.labels["variant"] for s in stages} == {"a"}
    assert {s.labels["process"] for s in stages} <= {"0", "1"}
    [whole] = [s for s in found["tidegate_answer_seconds"].samples if s.name.endswith("_count")]
    assert whole.labels == {"endpoint": "tidegate", "variant": "a", "bundle": popular.candidate_id}
    assert whole.value == platform.total("tidegate_answers")
    assert {s.labels["sha256"] for s in found["tidegate_bundle_info"].samples} == {popular.sha256}
    assert len(found["tidegate_features_age_seconds"].samples) == 2
    assert platform.total("tidegate_captured", outcome="written") == whole.value


def test_logs_are_lines_of_json_without_people(platform: Platform) -> None:
    """What the tests above did was said, each in one line; of users only the capture tells."""
    lines = platform.said.read_text().splitlines()
    said = [json.loads(line) for line in lines if not line.startswith("endpoint: http")]
    assert any("is begun anew" in line["message"] for line in said)
    assert all(line.keys() >= {"at", "level", "logger", "process", "message"} for line in said)
    assert USER not in platform.said.read_text()


def test_the_way_back_needs_no_load(platform: Platform, popular: Bundle, boosted: Bundle) -> None:
    """The old variant's processes stay for a while after an update: going back asks the very same ones."""
    client, before = platform.client, {p.pid for p in platform.variants()}
    client.config(client.model(boosted, "b"), b=1.0)
    for config, sha256 in (("b", boosted.sha256), ("a", popular.sha256)):
        client.control.update_endpoint(EndpointName="tidegate", EndpointConfigName=config)
        assert client.settled()["EndpointConfigName"] == config
        assert client.invoke(candidates=IDS[:9])["bundle_sha256"] == sha256
    assert before <= {p.pid for p in platform.variants()}
    assert platform.total("tidegate_processes") == 2


def test_a_killed_platform_leaves_no_process_and_serves_on_when_it_is_back(platform: Platform, popular: Bundle) -> None:
    """SIGKILL: nothing of it can clean up. A variant that is stopped at that moment does not stay either."""
    children = platform.variants()
    children[0].suspend()
    platform.child.kill()
    platform.child.wait()
    _, left = psutil.wait_procs(children, 30)
    assert not left
    platform.start()
    answer = platform.client.invoke(candidates=IDS[:9])
    assert (answer["bundle_sha256"], answer["fallback"]) == (popular.sha256, False)
    assert len(platform.variants()) == 2


# -- in this process --------------------------------------------------------------------------------------------------
def test_who_leaves_answers_what_it_was_asked_and_then_ends(tmp_path: Path, awkward: Bundle, popular: Bundle) -> None:
    """An update in the middle of a request: the ranker that was asked still answers."""
    tree = settings(tmp_path, ENDPOINT__KEEP_LOADED_SECONDS="0")
    with running(tree) as client:
        client.serve(awkward)
        client.config(client.model(popular, "b"), b=1.0)
        Awkward.free.clear()
        asked, found = Awkward.asked, []
        caller = threading.Thread(target=lambda: found.append(client.invoke()))
        caller.start()
        until(lambda: Awkward.asked > asked)
        client.control.update_endpoint(EndpointName="tidegate", EndpointConfigName="b")
        client.settled()
        assert client.invoke("r2")["bundle_sha256"] == popular.sha256
        Awkward.free.set()
        caller.join()
    assert (found[0]["bundle_sha256"], found[0]["fallback"]) == (awkward.sha256, False)


def test_a_request_has_the_time_that_the_platform_left_it(tmp_path: Path, awkward: Bundle) -> None:
    """The ranker takes a second of five; who came to a busy platform two seconds ago has one left: popularity."""
    with direct(settings(tmp_path), awkward) as server:
        Awkward.seconds = 1.0
        assert not server.invoke("teaches the lane how long it takes")["fallback"]
        asked = Awkward.asked
        answer = server.invoke("late", arrived=time.monotonic() - 2.0)
        assert (answer["fallback_reason"], Awkward.asked) == ("busy", asked)
        assert not server.invoke("in time")["fallback"]


def test_overload_costs_relevance_and_not_the_time(tmp_path: Path, awkward: Bundle) -> None:
    """Sixty at once to a ranker that would take 12 s for all of them: who cannot be ranked in 2 s waits no longer."""
    with running(settings(tmp_path, ENDPOINT__TIMEOUT_MS="2000")) as client, ThreadPoolExecutor(60) as callers:
        client.serve(awkward)
        Awkward.seconds = 0.2
        client.invoke("teaches the lane how long it takes")

        def ask(number: int) -> tuple[float, str | None]:
            """Seconds, on a connection of its own, and why popularity answered."""
            body = json.dumps({"request_id": f"r{number}", "surface": "home", "k": 3}).encode()
            began = time.monotonic()
            with urlopen(Request(f"{client.url}/endpoints/tidegate/invocations", body), timeout=60) as found:
                return time.monotonic() - began, json.load(found)["fallback_reason"]

        took, reasons = zip(*callers.map(ask, range(60)), strict=True)
    assert max(took) < 6, "a busy machine is given its time, but nobody waits for the whole queue"
    assert {None, "busy"} <= set(reasons)


def test_health_fails_where_an_endpoint_cannot_be_answered_for(tmp_path: Path, awkward: Bundle) -> None:
    """Its only bundle cannot answer any more after a restart: no process, no popularity, no answer."""
    with direct(settings(tmp_path)) as server:
        assert server.get("/ping")[0] == 200
    with running(settings(tmp_path)) as client:
        client.serve(awkward)
    Awkward.error = RuntimeError("out of cheese")
    with direct(settings(tmp_path)) as server:
        assert server.get("/ping") == (503, b"not in service: tidegate")


def test_popularity_offers_the_same_on_both_sides(boosted: Bundle) -> None:
    """What a process offers, the platform offers while it is away: the same items, scored alike, of the same day."""
    features = Memory()
    decider = Decider(features, 5000, TaskSettings())
    offers = decider.ready(boosted).offers
    decider.close()
    found = heard(standby(boosted.path, boosted.sha256), told(offers))
    assert len(found) == len(offers) == 2
    for there, here in zip(offers, found, strict=True):
        assert (here.day, here.available_at, here.removed) == (there.day, there.available_at, there.removed)
        assert here.popular_ids == there.popular_ids
        assert (here.popular.predictions.p_click == there.popular.predictions.p_click).all()


def test_a_socket_below_a_long_path(tmp_path: Path) -> None:
    """The kernel takes 108 bytes of a path; a state folder may be deeper."""
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    assert len(reachable(folder)) <= wire.LONGEST_FOLDER
    for _ in range(2):  # in the place of one that was left there
        listen_at(f"{reachable(folder)}/0.sock", 1).close()
    assert (folder / "0.sock").is_socket()


def test_variants_of_a_config_begin_side_by_side(tmp_path: Path, popular: Bundle, boosted: Bundle, own: Bundle) -> None:
    """Three take as long as the slowest of them; each of them waits here until all three have begun."""
    together, began = asyncio.Barrier(3), threads(settings(tmp_path))

    async def meeting(of: Standby, listener: socket.socket) -> Any:
        async with asyncio.timeout(300):
            await together.wait()
        return await began(of, listener)

    with running(settings(tmp_path), spawn=meeting) as client:
        for name, judged in (("a", popular), ("b", boosted), ("c", own)):
            client.model(judged, name)
        client.config("three", a=1.0, b=1.0, c=1.0)
        client.control.create_endpoint(EndpointName="tidegate", EndpointConfigName="three")
        settled = client.settled()
        assert settled["EndpointStatus"] == "InService", settled.get("FailureReason")
        found = {client.invoke(f"r{n}", user_id=f"u{n}")["bundle_sha256"] for n in range(40)}
        assert found == {popular.sha256, boosted.sha256, own.sha256}


def test_one_variant_that_cannot_begin_takes_the_others_with_it(tmp_path: Path, popular: Bundle, own: Bundle) -> None:
    """The config is Failed with its reason, and nothing of it is left running."""
    launched: list[Any] = []
    began = threads(settings(tmp_path))

    async def watched(of: Standby, listener: socket.socket) -> Any:
        if of.sha256 == own.sha256:
            raise RuntimeError("out of cheese")
        launched.append(await began(of, listener))
        return launched[-1]

    with running(settings(tmp_path, ENDPOINT__KEEP_LOADED_SECONDS="0"), spawn=watched) as client:
        client.model(popular, "a")
        client.model(own, "b")
        client.config("two", a=1.0, b=1.0)
        client.control.create_endpoint(EndpointName="tidegate", EndpointConfigName="two")
        found = client.settled()
        assert found["EndpointStatus"] == "Failed"
        assert "out of cheese" in found["FailureReason"]
        until(lambda: all(not one._thread.is_alive() for one in launched))


def test_the_way_back_needs_no_load_at_once_after_an_update(tmp_path: Path, popular: Bundle, own: Bundle) -> None:
    """Within the two seconds in which the old config still ends its requests the way back once took a load."""
    begun: list[str] = []
    began = threads(settings(tmp_path))

    async def counted(of: Standby, listener: socket.socket) -> Any:
        begun.append(of.sha256)
        return await began(of, listener)

    with running(settings(tmp_path), spawn=counted) as client:
        client.serve(popular)
        client.config(client.model(own, "b"), b=1.0)
        for config in ("b", "a", "b", "a"):
            client.control.update_endpoint(EndpointName="tidegate", EndpointConfigName=config)
            assert client.settled()["EndpointConfigName"] == config
        time.sleep(GRACE_SECONDS + 1)
        assert client.invoke()["bundle_sha256"] == popular.sha256
    assert begun == [popular.sha256, own.sha256]


def test_instances_come_and_go_under_load(tmp_path: Path, popular: Bundle) -> None:
    """As many processes as instances ask for and the settings allow; SageMaker's counts say which; nobody waits."""
    with running(settings(tmp_path, ENDPOINT__MOST_PROCESSES="3", ENDPOINT__TIMEOUT_MS="60000")) as client:
        client.serve(popular)
        with Load(client) as load:
            for asked, found in ((3, 3), (1, 1), (9, 3), (2, 2)):
                said = scaled(client, asked)
                assert said == ("InService", asked, found), client.settled().get("FailureReason")
                load.more()
        assert load.reasons.keys() == {None}


def scaled(client: Client, instances: int) -> tuple[str, int, int]:
    """Status, instances that are to be and that are, once the endpoint has settled."""
    change = {"VariantName": "a", "DesiredInstanceCount": instances}
    client.control.update_endpoint_weights_and_capacities(EndpointName="tidegate", DesiredWeightsAndCapacities=[change])
    found = client.settled()
    [variant] = found["ProductionVariants"]
    return found["EndpointStatus"], variant["DesiredInstanceCount"], variant["CurrentInstanceCount"]


def test_an_instance_that_cannot_begin_changes_nothing_and_is_said(tmp_path: Path, popular: Bundle) -> None:
    """What answers goes on; the description says why there are fewer, and a restart tries again."""
    began, broken = threads(settings(tmp_path)), False

    async def failing(of: Standby, listener: socket.socket) -> Any:
        if broken:
            raise RuntimeError("out of cheese")
        return await began(of, listener)

    with running(settings(tmp_path), spawn=failing) as client:
        client.serve(popular)
        broken = True
        assert scaled(client, 2) == ("InService", 2, 1)
        assert "out of cheese" in client.settled()["FailureReason"]
        assert not client.invoke()["fallback"]
    with running(settings(tmp_path)) as client:
        found = client.settled()
        assert [v["CurrentInstanceCount"] for v in found["ProductionVariants"]] == [2], found
