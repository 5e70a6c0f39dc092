"""A caller's time runs from the arrival of its request: whoever has none left, or would have none, gets popularity."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.endpoint.arrival import TCP_INFO, seconds_in_socket
from infra.endpoint.decide import Decider
from infra.endpoint.popularity import OUTCOMES
from infra.endpoint.serving import Serving
from jobs.bundle import Bundle
from models.settings import TaskSettings
from tests.infra.endpoint.rig import IDS, Awkward, Client, Direct, Memory, Patient, direct, running, settings


def outcomes(client: Client) -> dict[str, float]:
    """The answers by outcome, as Prometheus reads them; not those of which there are none."""
    text = urlopen(f"{client.url}/metrics").read().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    found: dict[str, float] = {}
    for sample in families["tidegate_answers"].samples:
        found[sample.labels["outcome"]] = found.get(sample.labels["outcome"], 0.0) + sample.value
    return {outcome: number for outcome, number in found.items() if number}


def test_a_request_that_waited_too_long_is_answered_by_popularity_at_once(tmp_path: Path, awkward: Bundle) -> None:
    """Its time was over before anybody looked at it: the ranker is not even asked."""
    with direct(settings(tmp_path, ENDPOINT__TIMEOUT_MS="5000"), awkward) as server:
        before = Awkward.asked
        assert server.invoke(arrived=time.monotonic() - 6)["fallback"]
        assert Awkward.asked == before
        assert not server.invoke(arrived=time.monotonic())["fallback"]
        assert Awkward.asked == before + 1


def test_what_a_request_waited_it_will_wait_again_for_its_answer() -> None:
    """Budget 60 ms, waited 20: the ranker has 20, the answer's way back 20."""
    decider = Decider(Memory(), 60, TaskSettings(), clock=lambda: 100.0)
    decider.close()
    assert decider.deadline(100.0) == pytest.approx(100.060)
    assert decider.deadline(99.980) == pytest.approx(100.020)
    assert decider.deadline(99.960) < 100.0


def test_a_body_that_comes_slowly_uses_up_the_requests_time(tmp_path: Path, awkward: Bundle) -> None:
    """The time runs from the first byte, not from the moment the request can be read."""
    with running(settings(tmp_path, ENDPOINT__TIMEOUT_MS="200")) as client:
        client.serve(awkward)
        before = Awkward.asked
        body = b'{"request_id": "slow", "surface": "home", "k": 3}'
        parts = urlsplit(client.url)
        with socket.create_connection((parts.hostname, parts.port)) as connection:
            head = f"POST /endpoints/tidegate/invocations HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body[:10])
            time.sleep(0.5)
            connection.sendall(body[10:])
            answer = json.loads(connection.makefile("rb").read().split(b"\r\n\r\n")[1])
        assert answer["fallback"]
        assert len(answer["items"]) == 3
        assert Awkward.asked == before


@pytest.mark.skipif(TCP_INFO is None, reason="only Linux says when a connection last received data")
def test_the_wait_in_the_socket_is_part_of_it() -> None:
    """A server too busy to read has its callers waiting all the same."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as caller:
        reader, _ = listener.accept()
        with reader:
            caller.sendall(b"x")
            time.sleep(0.2)
            assert 0.15 <= seconds_in_socket(reader) < 60
            caller.sendall(b"x")
            deadline = time.monotonic() + 120
            while seconds_in_socket(reader) >= 0.15:
                assert time.monotonic() < deadline, "new data came"


@pytest.mark.skipif(TCP_INFO is None, reason="only Linux says when a connection last received data")
def test_a_request_behind_a_busy_server_has_waited(tmp_path: Path, patient: Bundle) -> None:
    """The event loop is held up by another answer; what lies in its sockets meanwhile has no time left for a ranker."""
    with running(settings(tmp_path, ENDPOINT__TIMEOUT_MS="1500")) as client, ThreadPoolExecutor(2) as callers:
        client.serve(patient)
        assert not client.invoke("connects")["fallback"]
        Awkward.error = RuntimeError("out of cheese")
        Patient.begun.clear()
        Patient.free.clear()
        first = callers.submit(client.invoke, "holds the loop", candidates=IDS[:5])
        assert Patient.begun.wait(30)
        Awkward.error, before = None, Awkward.asked
        behind = callers.submit(client.invoke, "behind")
        time.sleep(2.0)
        Patient.free.set()
        assert first.result(30)["fallback"]
        assert behind.result(30)["fallback"]
        assert Awkward.asked == before


def test_a_ranker_that_hangs_is_not_waited_for_and_others_are_not_held_up(
    tmp_path: Path, awkward: Bundle, boosted: Bundle
) -> None:
    """Its own variant is answered by popularity, its neighbour by its ranker; freed, it ranks again."""
    with running(settings(tmp_path, ENDPOINT__TIMEOUT_MS="3000")) as client, ThreadPoolExecutor(40) as callers:
        client.model(awkward, "a")
        client.model(boosted, "b")
        client.config("two", None, a=1.0, b=1.0)
        client.control.create_endpoint(EndpointName="tidegate", EndpointConfigName="two")
        client.settled()

        def ask(variant: str, number: int) -> bool:
            """Whether popularity answered; on a connection of its own."""
            body = json.dumps({"request_id": f"{variant}{number}", "surface": "home", "k": 3}).encode()
            headers = {"X-Amzn-SageMaker-Target-Variant": variant}
            with urlopen(Request(f"{client.url}/endpoints/tidegate/invocations", body, headers), timeout=60) as found:
                return bool(json.load(found)["fallback"])

        assert not ask("a", 0)
        Awkward.free.clear()
        before = Awkward.asked
        hung = [callers.submit(ask, "a", n) for n in range(1, 31)]
        assert all(future.result(60) for future in hung)
        assert Awkward.asked <= before + 1, "what waited behind it was not begun"
        assert not any(ask("b", n) for n in range(5)), "a thread of its own"
        counted = outcomes(client)
        assert counted.get("busy", 0) + counted.get("late", 0) == 30
        Awkward.free.set()
        deadline = time.monotonic() + 60
        while ask("a", 99):
            assert time.monotonic() < deadline, "the ranker is quick again and must be asked again"


def test_failures_of_a_ranker_are_counted_and_said_once(
    tmp_path: Path, awkward: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    """Not a line per request: the log of an endpoint under load is what somebody must read at night."""
    with running(settings(tmp_path)) as client:
        client.serve(awkward)
        client.invoke()
        Awkward.error = RuntimeError("out of cheese")
        assert all(client.invoke(f"r{n}")["fallback"] for n in range(20))
        assert outcomes(client) == {"ranked": 1.0, "failed": 20.0}
    said = [record.getMessage() for record in caplog.records if "could not rank" in record.getMessage()]
    assert len(said) == 1
    assert "RuntimeError: out of cheese; popularity answers" in said[0]


def test_what_never_happened_is_0_and_a_bug_is_counted(
    tmp_path: Path, popular: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rate needs the 0 before the first; an alarm of bugs needs the bugs."""

    def figures(server: Direct) -> dict[str, float]:
        families = text_string_to_metric_families(server.get("/metrics")[1].decode())
        names = ("tidegate_answers_total", "tidegate_refused_total")
        samples = [sample for family in families for sample in family.samples if sample.name in names]
        return {sample.labels.get("outcome") or sample.labels["code"]: sample.value for sample in samples}

    with direct(settings(tmp_path), popular) as server:
        assert figures(server) == {**dict.fromkeys(OUTCOMES, 0), "InternalFailure": 0}
        server.invoke()
        monkeypatch.setattr(Serving, "choose", lambda *_: {}["no such variant"])
        with pytest.raises(KeyError):
            server.invoke("r2")
        assert figures(server) == {**dict.fromkeys(OUTCOMES, 0), "ranked": 1, "InternalFailure": 1}
