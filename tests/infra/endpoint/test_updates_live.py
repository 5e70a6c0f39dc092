"""Updates under requests that never pause, over HTTP, with CloudWatch at moto: none is lost, whatever is done."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from hypothesis import given
from hypothesis import strategies as st

from infra.endpoint.alarms import CloudWatch
from infra.endpoint.serving import Serving
from infra.endpoint.shift import Alarms, together
from jobs.bundle import Bundle
from tests import moto_server
from tests.infra.endpoint.rig import Client, running, settings
from tests.infra.endpoint.test_shift import alarmed, blue_green, percent
from tests.moto_server import Moto

NAME = {"EndpointName": "tidegate"}
CANARY = blue_green("CANARY", 4, CanarySize=percent(30), TerminationWaitInSeconds=600)


@pytest.fixture
def moto() -> Iterator[Moto]:
    with moto_server.serving() as found:
        yield found


class Callers:
    """Ask without a pause; `failures` are what they were answered other than an answer."""

    def __init__(self, client: Client) -> None:
        self.answers: list[tuple[float, dict[str, Any]]] = []
        self.failures: list[Exception] = []
        self._client = client
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(3)]

    def _ask(self, caller: int) -> None:
        number = 0
        while not self._done.is_set():
            number += 1
            try:
                answer = self._client.invoke(f"{caller}-{number}", user_id=f"u{caller}-{number % 40}")
            except (BotoCoreError, ClientError, AssertionError) as error:
                self.failures.append(error)
            else:
                self.answers.append((time.monotonic(), answer))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def since(self, at: float) -> set[str]:
        return {answer["bundle_sha256"] for then, answer in list(self.answers) if then >= at}

    def until(self, at: float, sha256: str) -> None:
        """Wait until this bundle has answered after `at`."""
        while sha256 not in self.since(at):
            assert time.monotonic() - at < 60, self.since(at)
            time.sleep(0.02)


@contextmanager
def asking(client: Client) -> Iterator[Callers]:
    callers = Callers(client)
    callers.start()
    try:
        yield callers
    finally:
        callers.stop()
    assert callers.failures == []


def phase(client: Client, *wanted: str | None) -> None:
    """Waited for: the status of the variants that come in; None: nothing is under way."""
    deadline = time.monotonic() + 60
    while True:
        pending = client.control.describe_endpoint(**NAME).get("PendingDeploymentSummary")
        now = pending and pending["ProductionVariants"][0]["VariantStatus"][0]["Status"]
        if now in wanted:
            return
        assert time.monotonic() < deadline, now
        time.sleep(0.05)


def test_no_request_is_lost_on_any_way(tmp_path: Path, moto: Moto, popular: Bundle, boosted: Bundle) -> None:
    """A canary that an alarm takes back, one that goes live, and the way back by hand.

    At each step the old config is asked for again, which SageMaker refuses in mid-update and which changes nothing;
    afterwards its first answer is there at once.
    """
    moto.alarm("x", "OK")
    guarded = {**CANARY, **alarmed("x")}
    with running(settings(tmp_path, ENDPOINT__ALARMS_URL=moto.url, ENDPOINT__TIMEOUT_MS="10000")) as client:
        client.serve(popular, "a")
        client.config(client.model(boosted, "b"), b=1.0)
        with asking(client) as callers:
            for ends_well in (False, True):
                at = time.monotonic()
                client.control.update_endpoint(**NAME, EndpointConfigName="b", DeploymentConfig=guarded)
                phase(client, "ActivatingTraffic", "Baking")
                with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
                    client.control.update_endpoint(**NAME, EndpointConfigName="a")
                callers.until(at, boosted.sha256)
                assert callers.since(at) == {popular.sha256, boosted.sha256}
                target = client.runtime.invoke_endpoint(
                    **NAME, TargetVariant="b", Body=b'{"request_id": "t", "surface": "home", "k": 1}'
                )
                assert target["InvokedProductionVariant"] == "b", "each config's variants are had by their names"
                if not ends_well:
                    moto.say("x", "ALARM")
                phase(client, None)
                found = client.control.describe_endpoint(**NAME)
                assert (found["EndpointStatus"], found["EndpointConfigName"]) == (
                    "InService",
                    "b" if ends_well else "a",
                )
                at, now = time.monotonic(), boosted if ends_well else popular
                callers.until(at + 1, now.sha256)
                assert callers.since(at + 1) == {now.sha256}
                moto.say("x", "OK")
                time.sleep(1.5)  # an alarm's state is asked for once a second
            at = time.monotonic()
            client.control.update_endpoint(**NAME, EndpointConfigName="a")
            callers.until(at, popular.sha256)
        assert {answer["fallback_reason"] for _, answer in callers.answers} == {None}


# -- CloudWatch -------------------------------------------------------------------------------------------------------
def test_an_alarm_that_cannot_be_asked_has_no_state(moto: Moto, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once a minute, holds the update, and is no error of it."""
    moto.alarm("x", "OK")
    assert CloudWatch(moto.url, "eu-central-1").states(["x", "none"]) == {"x": "OK"}
    caplog.set_level(logging.ERROR)
    gone = CloudWatch("http://127.0.0.1:9", "eu-central-1")
    for _ in range(3):
        gone._asked.clear()
        assert gone.states(["x"]) == {}
    assert together(["x"], gone.states(["x"])) is Alarms.SILENT
    assert len([r for r in caplog.records if "need CloudWatch to answer" in r.message]) == 1


def test_an_alarm_is_asked_once_a_second(moto: Moto) -> None:
    moto.alarm("x", "OK")
    found = CloudWatch(moto.url, "eu-central-1")
    assert found.states(["x"]) == {"x": "OK"}
    moto.say("x", "ALARM")
    assert found.states(["x"]) == {"x": "OK"}
    time.sleep(1.1)
    assert found.states(["x"]) == {"x": "ALARM"}


# -- weights ----------------------------------------------------------------------------------------------------------
@given(st.sampled_from([(1.0, 0.0), (0.0, 1.0), (1e-9, 1.0), (3.0, 1.0)]), st.text(min_size=1, max_size=8))
def test_a_weight_of_zero_is_zero(weights: tuple[float, float], key: str) -> None:
    """100:0 was once served 50:50, for 0 was taken as not set (Seldon #4067)."""
    variant: Any = SimpleNamespace()
    shares = dict(zip("ab", weights, strict=True))
    serving = Serving("e", {"a": variant, "b": variant}, shares, 0, "c")
    assert shares[serving.choose(key)] > 0
    assert serving.choose(key) == "b" or weights[0] != 1e-9
