"""The control plane alone, with variants that load at once or when told: a test turns the clock and sets the alarms."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.endpoint import loading
from infra.endpoint.control import Control
from infra.endpoint.serving import Serving
from infra.endpoint.state import Registry
from jobs.bundle import Bundle
from tests.infra.endpoint.test_shift import blue_green, percent

CANARY = blue_green("CANARY", 60, CanarySize=percent(25), TerminationWaitInSeconds=300)
NAME = {"EndpointName": "tidegate"}


class Now(Executor):
    """Loads at once, or when told to."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], Any]] | None = None

    def submit(self, work: Any, /, *given: Any, **named: Any) -> "Future[Any]":
        if self.waiting is None:
            work(*given, **named)
        else:
            self.waiting.append(lambda: work(*given, **named))
        return Future()

    def load(self) -> None:
        waiting, self.waiting = self.waiting or [], None
        for work in waiting:
            work()


class Plane:
    """A control plane in a folder, with variants that can be closed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1_000_000.0
        self.says: dict[str, str] = {}
        self.broken: set[str] = set()
        self.closed: list[str] = []
        self.start()

    def start(self) -> None:
        self.registry, self.loads = Registry(self.folder), Now()
        self.control = Control(
            *(self.registry, "here", self.loads, self.ready, lambda: True),
            alarms=self.states,
            clock=lambda: self.now,
            looks=False,
        )

    def restart(self) -> None:
        """As after kill -9: nothing but the file is left."""
        self.registry.close()
        self.start()
        self.control.resume()

    def ready(self, judged: Bundle, instances: int) -> Any:
        if judged.sha256 in self.broken:
            raise RuntimeError("it does not answer")
        close, found = lambda: self.closed.append(judged.sha256), SimpleNamespace(bundle=judged, up=1)
        found.close, found.instances, found.scale = close, instances, lambda to: setattr(found, "instances", to)
        return found

    def states(self, names: Sequence[str]) -> Mapping[str, str]:
        return {name: self.says[name] for name in names if name in self.says}

    def call(self, operation: str, **payload: Any) -> dict[str, Any]:
        return self.control.call(operation, payload)

    def model(self, name: str, judged: Bundle) -> None:
        environment = {"TIDEGATE_BUNDLE_SHA256": judged.sha256}
        container = {"Image": "x", "ModelDataUrl": judged.path.as_uri(), "Environment": environment}
        self.call("CreateModel", ModelName=name, PrimaryContainer=container)

    def config(self, name: str, variants: Mapping[str, Mapping[str, Any]], capture: int | None = None) -> None:
        shown = [
            {"VariantName": variant, "ModelName": name, "InitialInstanceCount": 4, **more}
            for variant, more in variants.items()
        ]
        extra: dict[str, Any] = {}
        if capture is not None:
            extra["DataCaptureConfig"] = {
                "EnableCapture": True,
                "InitialSamplingPercentage": capture,
                "DestinationS3Uri": "s3://b/c",
                "CaptureOptions": [{"CaptureMode": "Output"}],
            }
        self.call("CreateEndpointConfig", EndpointConfigName=name, ProductionVariants=shown, **extra)

    def update(self, config: str, **more: Any) -> None:
        self.call("UpdateEndpoint", **NAME, EndpointConfigName=config, **more)

    def described(self) -> dict[str, Any]:
        return self.call("DescribeEndpoint", **NAME)

    def status(self) -> tuple[str, str]:
        found = self.described()
        return found["EndpointStatus"], found["EndpointConfigName"]

    def phase(self) -> str | None:
        """Of the variants that come in."""
        pending = self.described().get("PendingDeploymentSummary")
        return None if pending is None else str(pending["ProductionVariants"][0]["VariantStatus"][0]["Status"])

    def after(self, seconds: float) -> None:
        self.now += seconds
        self.control.look()

    def share(self, config: str = "b", callers: int = 2000) -> float:
        """Of the callers, whom this config answers."""
        serving = self.control.serving["tidegate"]
        return sum(serving.of(f"u{n}").config == config for n in range(callers)) / callers


@pytest.fixture
def plane(tmp_path: Path, popular: Bundle, boosted: Bundle, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plane]:
    """The endpoint serves config a (model a, one variant v); config b has model b under the same variant's name."""
    monkeypatch.setattr(loading, "GRACE_SECONDS", 0.0)
    made = Plane(tmp_path / "state")
    for name, judged in (("a", popular), ("b", boosted)):
        made.model(name, judged)
        made.config(name, {"v": {}})
    made.call("CreateEndpoint", **NAME, EndpointConfigName="a")
    yield made
    made.registry.close()


def moved(before: Serving, after: Serving, callers: int = 500) -> set[str]:
    return {u for u in (f"u{n}" for n in range(callers)) if before.of(u).config != after.of(u).config}
