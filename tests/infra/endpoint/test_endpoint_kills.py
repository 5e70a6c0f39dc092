"""kill -9 of the real server in every phase of an update: it serves again at once, and goes on or back as it must.

CloudWatch is moto's, over HTTP; both clients are an unmodified boto3.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.stack.processes import free_ports
from jobs.bundle import Bundle
from jobs.config import ROOT
from tests import moto_server
from tests.infra.endpoint.rig import Client, write_bundle
from tests.infra.endpoint.test_endpoint_process import environment
from tests.infra.endpoint.test_shift import alarmed, blue_green, percent, rolling
from tests.moto_server import Moto

pytestmark = pytest.mark.timeout(300)
LINEAR = blue_green("LINEAR", 1, LinearStepSize=percent(10), TerminationWaitInSeconds=600)
SLOWLY_BACK = rolling(percent(50), 1, RollbackMaximumBatchSize=percent(1))
NAME = {"EndpointName": "tidegate"}


class Killable:
    """The server in a process of its own; started again on the same folder as often as it is killed."""

    def __init__(self, folder: Path, alarms: str) -> None:
        self.state = folder / "state" / "state.json"
        self.environ = {**os.environ, **environment(folder), "TIDEGATE__ENDPOINT__ALARMS_URL": alarms}
        self.log = folder / "log"
        self.start()

    def start(self) -> None:
        [port] = free_ports(1)
        with self.log.open("a") as log:
            command = [sys.executable, "-m", "infra.endpoint", "--port", str(port)]
            self.child = subprocess.Popen(command, cwd=ROOT, env=self.environ, stderr=log)
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=60):
                    break
            except OSError:
                assert self.child.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
        self.client = Client(f"http://127.0.0.1:{port}")

    def kill_in(self, phase: str) -> dict[str, Any]:
        """Killed once the file says so, and it is what the file still says."""
        deadline = time.monotonic() + 120
        while True:
            assert time.monotonic() < deadline, self.phase()
            if self.phase() == phase:
                self.child.send_signal(signal.SIGSTOP)
                if self.phase() == phase:
                    break
                self.child.send_signal(signal.SIGCONT)
            time.sleep(0.002)
        self.child.kill()
        self.child.wait(60)
        found: dict[str, Any] = json.loads(self.state.read_text())["endpoints"]["tidegate"]
        return found

    def phase(self) -> str | None:
        found = json.loads(self.state.read_text())["endpoints"]["tidegate"]
        if found["deployment"] is None:
            return "kept" if found["kept"] else None
        return str(found["deployment"]["phase"])

    def described(self) -> tuple[str, str]:
        found = self.client.control.describe_endpoint(**NAME)
        return found["EndpointStatus"], found["EndpointConfigName"]

    def answered(self, calls: int = 30) -> set[str]:
        """Which bundles answer; an error fails the test."""
        asked = (self.client.invoke(f"r{n}", user_id=f"u{n}", candidates=["i1", "i2"]) for n in range(calls))
        return {str(answer["bundle_sha256"]) for answer in asked}

    def until(self, status: tuple[str, str], allowed: set[str]) -> None:
        """Answered by these alone until the endpoint is so."""
        deadline = time.monotonic() + 120
        while self.described() != status:
            assert time.monotonic() < deadline, self.described()
            assert self.answered(5) <= allowed


@pytest.fixture(scope="module")
def moto() -> Iterator[Moto]:
    with moto_server.serving() as found:
        yield found


@pytest.fixture
def server(tmp_path: Path, popular: Bundle, moto: Moto) -> Iterator[Killable]:
    """Endpoint config a serves; b is a config of another bundle."""
    other = write_bundle(tmp_path / "other", "popularity", "other-full-2026-01-09", seed=5)
    moto.alarm("x", "OK")
    found = Killable(tmp_path, moto.url)
    try:
        found.client.serve(popular)
        found.client.config(found.client.model(other, "b"), b=1.0)
        yield found
    finally:
        found.child.kill()
        found.child.wait(60)


@pytest.fixture
def both(server: Killable, popular: Bundle) -> set[str]:
    """What either config answers with."""
    environment = server.client.control.describe_model(ModelName="b")["PrimaryContainer"]["Environment"]
    return {popular.sha256, environment["TIDEGATE_BUNDLE_SHA256"]}


def test_while_it_loads_it_is_taken_back(server: Killable, tmp_path: Path, popular: Bundle) -> None:
    """The load may be what ended the server: nobody has met the new config, so nobody misses it."""
    folder = tmp_path / "other" / "other-full-2026-01-09"
    path = next(p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "manifest.json")
    os.truncate(path, 2**30)  # whoever reads it takes a while
    server.client.control.update_endpoint(**NAME, EndpointConfigName="b", DeploymentConfig=LINEAR)
    assert server.described() == ("Updating", "a")
    assert server.answered(5) == {popular.sha256}
    server.kill_in("Creating")
    server.start()
    assert server.described() == ("InService", "a")
    assert server.answered() == {popular.sha256}
    reason = server.client.control.describe_endpoint(**NAME)["FailureReason"]
    assert reason == "the update to b was interrupted by a restart"


def test_while_the_traffic_moves_it_goes_on(server: Killable, both: set[str]) -> None:
    """From the step it was at: not from the first, and nobody is without an answer."""
    asked = {**LINEAR, **alarmed("x")}
    server.client.control.update_endpoint(**NAME, EndpointConfigName="b", DeploymentConfig=asked)
    for phase in ("ActivatingTraffic", "Baking"):
        killed = server.kill_in(phase)["deployment"]
        server.start()
        found = server.client.control.describe_endpoint(**NAME)
        started = found["PendingDeploymentSummary"]["StartTime"].timestamp()
        assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("Updating", "a")
        assert started == pytest.approx(killed["started"], abs=1)
        resumed = json.loads(server.state.read_text())["endpoints"]["tidegate"]["deployment"]
        assert resumed["share"] >= killed["share"] > 0
    server.until(("InService", "b"), both)
    assert server.answered() < both


def test_while_it_goes_back_it_is_back(server: Killable, both: set[str], moto: Moto, popular: Bundle) -> None:
    """An alarm in CloudWatch takes the update back; a restart does not forget that it rang."""
    asked = {**SLOWLY_BACK, **alarmed("x")}
    server.client.control.update_endpoint(**NAME, EndpointConfigName="b", DeploymentConfig=asked)
    deadline = time.monotonic() + 120
    while server.phase() != "Baking":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    moto.say("x", "ALARM")
    server.kill_in("RollingBack")
    moto.say("x", "OK")
    server.start()
    assert server.described() == ("InService", "a")
    assert server.answered() == {popular.sha256}
    assert "x is in ALARM" in server.client.control.describe_endpoint(**NAME)["FailureReason"]


def test_once_it_is_live_the_way_back_is_still_short(server: Killable, both: set[str], popular: Bundle) -> None:
    """What served before is loaded again beside what serves, from the server's own copy."""
    asked = blue_green("ALL_AT_ONCE", 0, TerminationWaitInSeconds=600)
    server.client.control.update_endpoint(**NAME, EndpointConfigName="b", DeploymentConfig=asked)
    server.kill_in("kept")
    server.start()
    assert server.described() == ("InService", "b")
    assert server.answered() == both - {popular.sha256}
    server.client.control.update_endpoint(**NAME, EndpointConfigName="a")
    server.until(("InService", "a"), both)
    assert server.answered() == {popular.sha256}
