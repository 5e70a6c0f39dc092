"""Any interleaving of {approved, loaded, passed, alarm, silence, rollback, kill, restart, a second release}.

The rules that decide, the client and the control plane are the real ones; in between there is no network, the ledger is
a list, and a model answers as it is told to. Each call may be the last of its process.
"""

import copy
import io
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import orjson
import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from infra.endpoint.control import BUSY, Control
from infra.endpoint.errors import Rejected
from infra.endpoint.state import Registry
from jobs.config import Config, ReleaseSettings
from jobs.deploy import traffic
from jobs.deployments import ledger
from jobs.deployments.ledger import APPROVED, LIVE
from jobs.deployments.release import Release
from jobs.deployments.steps import Found, Report, next_step, plan, rank, rank_of
from jobs.errors import Refused
from jobs.serving.answer import Answer, Placement
from jobs.serving.sagemaker import Endpoint
from tests.infra.endpoint.rig import write_bundle

SETTINGS = ReleaseSettings(shadow_percent=50, canary_percent=(5, 25), holdout_percent=2)
PATIENCE = 60.0
GOOD, SICK = ("first", "second"), "sick"


class Killed(BaseException):
    """The process ends here; what it had sent was sent."""


class Later(Executor):
    """Loads when told to, as a load may still be under way when whoever asked for it is gone."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], Any]] = []

    def submit(self, work: Any, /, *given: Any, **named: Any) -> "Future[Any]":
        self.waiting.append(lambda: work(*given, **named))
        return Future()

    def load(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


@dataclass
class Told:
    """What a `Run` is to a release."""

    known: Callable[[], list[dict[str, Any]]]
    config: Config = field(default_factory=lambda: Config(release=SETTINGS))
    inputs: dict[str, int] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """Nothing is watched here."""


def begun(judged: Any, instances: int) -> Any:
    """What answers for a bundle, as far as the control plane looks at it."""
    return SimpleNamespace(bundle=judged, close=lambda: None, instances=instances, scale=lambda _: None, up=1)


class Wire:
    """boto3's clients without a network; the n-th call from now may end the process before or after it is made."""

    def __init__(self, machine: "Releases") -> None:
        self.machine = machine

    def __getattr__(self, name: str) -> Callable[..., dict[str, Any]]:
        operation = "".join(word.title() for word in name.split("_"))
        return lambda **payload: self.machine.send(operation, payload)

    def get_waiter(self, _name: str) -> Any:
        return SimpleNamespace(wait=lambda **_: self.machine.loads.load())

    def describe_endpoint(self, **payload: str) -> dict[str, Any]:
        """What is under way has ended by the next time that somebody asks."""
        found = self.machine.send("DescribeEndpoint", payload)
        if found["EndpointStatus"] in BUSY:
            self.machine.loads.load()
        return found

    def invoke_endpoint(self, TargetVariant: str, **_: Any) -> dict[str, Any]:
        return self.machine.answered(TargetVariant)


class Releases(RuleBasedStateMachine):
    """One champion, two good candidates and one that falls back."""

    judged: dict[str, Any]
    client: Endpoint

    @initialize()
    def a_champion(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tidegate-machine-"))
        self.kill_at: int | None = None
        self.history: list[dict[str, Any]] = []
        self.start()
        self.endpoint = copy.copy(self.client)
        self.endpoint._delay = 0.0
        self.endpoint._control = self.endpoint._runtime = Wire(self)
        self.run: Any = Told(lambda: self.history)
        champion = self.release("champion")
        self.history = ledger.append(self.run, [], champion.step(APPROVED, None))
        self.move(lambda: self.take(champion, None))

    def teardown(self) -> None:
        if hasattr(self, "registry"):
            self.registry.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    # -- the model of the world -----------------------------------------------------------------------------------
    def start(self) -> None:
        self.registry, self.loads = Registry(self.folder), Later()
        self.control = Control(self.registry, "here", self.loads, begun, lambda: True)

    def release(self, name: str) -> Release:
        judged = self.judged[name]
        return Release(name, "2026-01-08", "full", str(judged.path), judged.sha256, "e", "alice", "")

    def send(self, operation: str, payload: dict[str, Any]) -> dict[str, Any]:
        if self.kill_at is not None:
            self.kill_at -= 1
            if self.kill_at == 0:
                raise Killed
        try:
            found = self.control.call(operation, payload)
        except Rejected as error:
            said = {"Error": {"Code": error.code, "Message": str(error)}, "ResponseMetadata": {"HTTPStatusCode": 400}}
            raise ClientError(said, operation) from error
        if self.kill_at is not None:
            self.kill_at -= 1
            if self.kill_at == 0:
                raise Killed
        return found

    def answered(self, variant: str) -> dict[str, Any]:
        of = self.control.serving["tidegate"].variants[variant].bundle
        slate = [Placement("i", 1, 0.1, 0.1, 0.0, 1.0)]
        answer = Answer("r", slate, of.candidate_id, of.sha256, variant, of.candidate_id == SICK, None)
        return {"Body": io.BytesIO(orjson.dumps(answer))}

    def take(self, wanted: Release, report: Report | None) -> None:
        """As `deploy` does."""
        step = next_step(self.history, plan(SETTINGS, ledger.last_live(self.history)), report, PATIENCE)
        if step is None:
            return
        if step.step == ledger.ROLLED_BACK:
            self.back(str(step.why))
            return
        try:
            self.history = traffic.take(self.run, self.endpoint, self.history, wanted, step)
        except Refused as error:
            assert wanted.candidate_id == SICK
            self.back(str(error))

    def back(self, why: str) -> None:
        self.history = traffic.go_back(self.run, self.endpoint, self.history, why)

    def move(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Killed:
            pass
        finally:
            self.kill_at = None

    # -- what may happen ------------------------------------------------------------------------------------------
    @rule(name=st.sampled_from([*GOOD, SICK]))
    def approved(self, name: str) -> None:
        """A second release waits for the first; one that serves already is none."""
        champion = ledger.last_live(self.history)
        assert champion is not None
        if ledger.under_way(self.history) is None and champion["candidate_id"] != name:
            self.history = ledger.append(self.run, self.history, self.release(name).step(APPROVED, champion["config"]))

    @rule(
        found=st.sampled_from([*Found, None, *[Found.PASSED] * 4]), seconds=st.sampled_from([1.0, 1.0, 1.0, PATIENCE])
    )
    def watched(self, found: Found | None, seconds: float) -> None:
        """None: a person goes back. Most pass, or few releases would come far."""
        if (begun := ledger.under_way(self.history)) is None:
            return
        if found is None:
            self.move(lambda: self.back("bob went back"))
        else:
            self.move(lambda: self.take(traffic.of_step(begun), Report(found, "because", seconds)))

    @rule(calls=st.integers(1, 24), found=st.sampled_from([*[Found.PASSED] * 3, Found.FAILED, None]))
    def killed(self, calls: int, found: Found | None) -> None:
        self.kill_at = calls
        self.watched(found, 1.0)

    @rule()
    def loaded(self) -> None:
        self.loads.load()

    @rule()
    def restarted(self) -> None:
        """The endpoint's own process, killed."""
        self.registry.close()
        self.start()
        self.control.resume()

    # -- what must hold -------------------------------------------------------------------------------------------
    def weighted(self) -> dict[str, tuple[Any, float]]:
        """By candidate: what answers people's requests, and its share in percent."""
        serving = self.control.serving["tidegate"]
        whole = sum(serving.weights.values())
        assert set(serving.weights) == set(serving.variants)
        return {
            serving.variants[name].bundle.candidate_id: (serving.variants[name].bundle.sha256, 100 * weight / whole)
            for name, weight in serving.weights.items()
            if weight > 0
        }

    @invariant()
    def every_weighted_variant_answers(self) -> None:
        """Always somebody, and never a model that has not answered."""
        if self.history:
            assert self.weighted()
            assert SICK not in self.weighted()

    @invariant()
    def what_serves_is_approved(self) -> None:
        """The champion, the release under way in no larger share than its next step's, and whoever was held out."""
        if not self.history:
            return
        champion, begun = ledger.last_live(self.history), ledger.under_way(self.history)
        assert champion is not None
        allowed = {champion["bundle_sha256"]: 100.0}
        if begun is not None:
            ahead = next(step for step in plan(SETTINGS, champion) if rank(step.name) > rank_of(begun))
            allowed[begun["bundle_sha256"]] = ahead.share
        if (stayed := ledger.before(self.history, champion)) is not None and 0 < champion["share"] < 100:
            allowed.setdefault(stayed["bundle_sha256"], 100 - champion["share"])
        for sha256, share in self.weighted().values():
            assert share <= allowed.get(sha256, 0.0)

    @invariant()
    def an_ended_release_has_left(self) -> None:
        """Nothing of it is on the endpoint once the ledger says so."""
        if self.history and ledger.under_way(self.history) is None and not self.loads.waiting:
            champion = ledger.last_live(self.history)
            assert champion is not None
            serving = self.control.serving["tidegate"]
            held = traffic.held_out(self.history)
            there = {champion["bundle_sha256"], *([] if held is None else [held[1]["bundle_sha256"]])}
            assert {v.bundle.sha256 for v in serving.variants.values()} == there
            assert serving.shadow is None
            assert champion["step"] == LIVE


def test_whatever_happens_in_whatever_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Releases.client = Endpoint(Config().endpoint)
    Releases.judged = {
        name: write_bundle(tmp_path / name, "popularity", name, seed)
        for seed, name in enumerate(["champion", *GOOD, SICK])
    }

    def append(_run: Any, known: Any, *new: Any) -> list[dict[str, Any]]:
        rows = [{**row, "number": len(known) + n, "at": datetime.now(UTC)} for n, row in enumerate(new, 1)]
        return [*known, *rows]

    monkeypatch.setattr(ledger, "append", append)
    monkeypatch.setattr(ledger, "steps", lambda run, name: run.known())
    for name in ("move_champion", "remove_champion", "champion"):
        monkeypatch.setattr(traffic.tracking, name, lambda *_: None)
    run_state_machine_as_test(
        Releases,
        settings=settings(
            max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
