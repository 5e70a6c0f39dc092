"""Bundles with a known truth, features in memory, and the real server on a free port for the endpoint's tests."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import uvicorn
from botocore.config import Config as ClientConfig

from infra.endpoint.__main__ import listen
from infra.endpoint.__main__ import web as served
from infra.endpoint.app import Server
from infra.endpoint.container import application
from infra.endpoint.decide import Decider
from infra.endpoint.processes import Spawn
from infra.endpoint.request import RankRequest
from infra.endpoint.serving import Serving
from infra.endpoint.variant import Variant
from jobs import bundle, config
from jobs.bundle import Bundle, Standby
from jobs.features.online import Published
from jobs.serving.answer import Answer
from models.experiments.assignment import unit_hash
from models.rankers import RANKERS
from models.rankers.features import CATEGORICAL, ITEM_NUMBERS, NUMERIC, Encodings
from models.rankers.popularity import PopularityRanker
from models.rankers.protocol import Columns, Inputs, Predictions, TrainingData
from models.retrieval import RETRIEVERS, FirstStage
from models.retrieval.interactions import Interactions
from models.settings import PolicySettings, RankerSettings, RetrievalSettings, XGBoostSettings
from tests.infra.endpoint import service_model

ITEMS = 60
IDS = [f"i{n:06d}" for n in range(ITEMS)]
DAY = date(2026, 1, 9)
ROLE = "arn:aws:iam::000000000000:role/tidegate"
POLICY = PolicySettings(kind="plackett_luce", temperature=0.5)
KEYS = {"region_name": "eu-central-1", "aws_access_key_id": "local", "aws_secret_access_key": "local"}


class Memory:
    """Features of one day, held in memory: what `OnlineFeatures` would read from the online store."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        items: dict[str, Any] = {
            "item_id": np.array(IDS, dtype=object),
            "category": np.array([f"category-{n % 4}" for n in range(ITEMS)], dtype=object),
            "interest_bucket": np.arange(ITEMS) % 4,
            "vector": np.empty((ITEMS, 0), np.float32),
            "attributes.item.tier": np.array(["basic", "plus"] * (ITEMS // 2), dtype=object),
            **{name: rng.random(ITEMS) for name in ITEM_NUMBERS},
            "age_days": np.arange(ITEMS)[::-1].astype(float),
        }
        rates = {"category": {"category-1": np.array([0.3])}}
        self.publication = Published(DAY, items, Encodings(rates, np.array([0])))

    def refresh(self) -> bool:
        return False

    def user(self, user_id: str, day: date) -> Mapping[str, Any] | None:
        if not user_id.startswith("u"):
            return None
        return {
            "impressions": 10.0,
            "click_rate": 0.1,
            "days_since_click": None,
            "interests": np.linspace(0, 3, 32),
            "last_items": IDS[:2],
            "attributes": {"segment": "a"},
        }

    def published(self) -> Sequence[Published]:
        return [self.publication]


def training_data(seed: int = 0, n: int = 1500) -> TrainingData:
    """Clicks follow the item's click rate and nothing else."""
    rng = np.random.default_rng(seed)
    features: dict[str, Any] = {name: rng.random(n) for name in NUMERIC}
    features["item_id"] = rng.choice(np.array(IDS, dtype=object), n)
    for name in CATEGORICAL:
        features[name] = rng.choice(np.array(["home", "phone", None], dtype=object), n)
    clicked = (rng.random(n) < features["item_click_rate"]).astype(float)
    return TrainingData(features, clicked, np.where(rng.random(n) < 0.2, clicked, 0.0), np.ones(n))


RETRIEVAL = RetrievalSettings(k=20, item_cf={"shrinkage": 1}, content={"dimensions": 4})


def first_stage(*kinds: str, seed: int = 0, removed: Sequence[str] = ()) -> FirstStage:
    """Retrievers of 40 users' clicks on all items but the last ten, whose words say one of four categories."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 40, 600), rng.integers(0, ITEMS - 10, 600)
    text = tuple(f"category{n % 4}" for n in range(ITEMS))
    data = Interactions(user, item, rng.random(600), np.ones(600), 40, ITEMS, text)
    retrievers = [RETRIEVERS[kind].fit(data, RETRIEVAL) for kind in kinds]
    return FirstStage.build(IDS, retrievers, data.matrix(), RETRIEVAL, np.isin(IDS, removed))


def write_bundle(
    folder: Path, kind: str, name: str | None = None, seed: int = 0, fallback: str = "popularity", indexed: bool = True
) -> Bundle:
    """A bundle of one kind of ranker, with retrieval and fallback."""
    data = training_data(seed)
    retrieval = first_stage("item_cf", "content", seed=seed) if indexed else None
    settings = RankerSettings(xgboost=XGBoostSettings(rounds=5))
    rankers = (
        RANKERS[of].fit(data, getattr(settings, of, settings.popularity), settings.seed) for of in (kind, fallback)
    )
    return bundle.write(folder, name or f"{kind}-full-{DAY}", *rankers, retrieval, POLICY, {"seed": seed})


class Turning(Memory):
    """A publication a day, each with items of its own, when the test says so."""

    def turn(self) -> None:
        """The next day is published."""
        of = self.publication
        assert of.day is not None
        day = of.day + timedelta(days=1)
        ids = np.array([f"{day}/{name}" for name in IDS], dtype=object)
        self.publication = Published(day, {**of.items, "item_id": ids}, of.encodings)


class Awkward:
    """A ranker that takes its time, waits or fails, as told; its bundle is a real one on disk."""

    kind = "awkward"
    inputs = Inputs(ids=("item_id",))
    seconds = 0.0
    error: Exception | None = None
    free: threading.Event
    """Predictions wait for it; a test that clears it sets it again."""
    asked = 0

    def predict(self, features: Columns) -> Predictions:
        type(self).asked += 1
        type(self).free.wait(60)
        time.sleep(type(self).seconds)
        if type(self).error is not None:
            raise type(self).error
        n = len(features["item_id"])
        return Predictions(np.full(n, 0.5), np.full(n, 0.1))

    @classmethod
    def fit(cls, data: TrainingData, settings: Any, seed: int, start_from: Any = None) -> "Awkward":
        return cls()

    def to_files(self) -> dict[str, bytes]:
        return {"awkward.json": b"{}"}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "Awkward":
        return cls()


class Patient(PopularityRanker):
    """Popularity that waits to be let go: as a fallback it holds up whoever computes it."""

    kind = "patient"
    free: threading.Event
    begun: threading.Event
    sizes: list[int]
    """How many items each prediction was asked for."""

    def predict(self, features: Columns) -> Predictions:
        type(self).sizes.append(len(features["item_id"]))
        type(self).begun.set()
        type(self).free.wait(60)
        return super().predict(features)


class Threaded:
    """A variant's process as a thread of the test's own: the container's application on the platform's socket, so that
    its ranker can be awkward.
    """

    _loads = threading.Lock()
    """One after another: to read an array's head numpy parses it as Python, which threads of Python before 3.11.8
    cannot do at once (python/cpython#106905), and processes can."""

    def __init__(self, of: Standby, listener: socket.socket, settings: config.Config, features: Any) -> None:
        self.said = ""
        self._of, self._settings, self._features = of, settings, features
        self._listener = listener.dup()  # the platform closes its own
        self._web: uvicorn.Server | None = None
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._loads:
                judged = self._of if isinstance(self._of, Bundle) else bundle.load(self._of.path, self._of.sha256)
            app = application(judged, self._features, self._settings)
        except Exception as error:  # noqa: BLE001 - as a process would end
            self.said = f"{type(error).__name__}: {error}"
            self._listener.close()
            return
        self._web = uvicorn.Server(served(app))
        if not self._over:
            self._web.run(sockets=[self._listener])

    async def wait(self) -> None:
        await asyncio.to_thread(self._thread.join)

    def terminate(self) -> None:
        self._over = True
        if self._web is not None:
            self._web.should_exit = True

    def kill(self) -> None:
        self.terminate()
        if self._web is not None:
            self._web.force_exit = True


def threads(settings: config.Config, features: Any = None) -> Spawn:
    """Begins variants as threads; all of them read the same features."""
    features = features or Memory()

    async def begun(of: Standby, listener: socket.socket) -> Threaded:
        return Threaded(of, listener, settings, features)

    return begun


@contextmanager
def looped() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Runs coroutines on an event loop of its own thread, for any thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(120)


@contextmanager
def deciding(*bundles: Bundle, features: Any) -> Iterator["Deciding"]:
    """What decides in a variant's process, called on the test's own threads."""
    decider = Decider(features, 5000, config.load({"TIDEGATE_ENV": "test"}).tasks)
    try:
        yield Deciding(decider, [decider.ready(judged) for judged in bundles])
    finally:
        decider.close()


class Deciding:
    """Several threads may ask; each request is some variant's, always the same one."""

    def __init__(self, decider: Decider, variants: Sequence[Variant]) -> None:
        self.decider, self._variants = decider, variants

    def invoke(self, request_id: str = "r1", left: float = 60.0) -> Answer:
        """The answer with so many seconds left."""
        asked = RankRequest(request_id=request_id, surface="home", k=3)
        variant = self._variants[int(unit_hash(request_id) * len(self._variants))]
        return asyncio.run(self.decider.answer(variant, "a", asked, time.monotonic() + left))


@contextmanager
def direct(settings: config.Config, *bundles: Bundle, features: Any = None) -> Iterator["Direct"]:
    """The application without a network, its endpoint `tidegate` serving the bundles alike as variants a, b, ..."""
    server = Server(settings, threads(settings, features))
    with looped() as run:
        lifespan = server.app.router.lifespan_context(server.app)
        run(lifespan.__aenter__())
        try:
            variants = {chr(ord("a") + n): server._launcher.ready(judged) for n, judged in enumerate(bundles)}
            if variants:
                server._control.serving["tidegate"] = Serving("tidegate", variants, dict.fromkeys(variants, 1.0), 100)
            yield Direct(server, run)
        finally:
            run(lifespan.__aexit__(None, None, None))


class Direct:
    """Calls the application as a server would; several threads may."""

    def __init__(self, server: Server, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self.server = server
        self._run = run
        self.unread = 0
        """Parts of the last body that were not asked for."""

    def ask(
        self,
        path: str,
        body: bytes | list[bytes] = b"",
        headers: Mapping[str, str] | None = None,
        arrived: float | None = None,
        method: str = "POST",
    ) -> tuple[int, bytes]:
        """Status and body; `arrived` is on `time.monotonic`."""
        parts = [body] if isinstance(body, bytes) else list(body)
        named = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http"}
        scope |= {"path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": named}
        scope |= {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}
        scope["state"] = {} if arrived is None else {"arrived": arrived}
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            part = parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(parts)}

        async def send(message: Any) -> None:
            sent.append(message)

        self._run(self.server.app(scope, receive, send))
        self.unread = len(parts)
        return sent[0]["status"], b"".join(message["body"] for message in sent[1:])

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        return self.ask(path, method="GET")

    def invoke(self, request_id: str = "r1", arrived: float | None = None, **fields: Any) -> dict[str, Any]:
        """The answer."""
        body = {"request_id": request_id, "surface": "home", "k": 3, **fields}
        status, found = self.ask("/endpoints/tidegate/invocations", json.dumps(body).encode(), arrived=arrived)
        assert status == 200, found
        answer: dict[str, Any] = json.loads(found)
        return answer


def settings(folder: Path, **overrides: str) -> config.Config:
    """Test settings with the endpoint's state below `folder` and a timer that a busy machine keeps."""
    environ = {"TIDEGATE__ENDPOINT__STATE": str(folder / "state"), "TIDEGATE__ENDPOINT__TIMEOUT_MS": "5000"}
    environ["TIDEGATE__ENDPOINT__HUNG_SECONDS"] = "60"
    return config.load({"TIDEGATE_ENV": "test", **environ, **{f"TIDEGATE__{k}": v for k, v in overrides.items()}})


class Client:
    """Unmodified boto3 clients for one URL, with the few calls the tests repeat."""

    def __init__(self, url: str) -> None:
        options: dict[str, Any] = {"endpoint_url": url, **KEYS}
        patience = ClientConfig(retries={"total_max_attempts": 1}, read_timeout=30, max_pool_connections=16)
        self.url = url
        self.control = boto3.client("sagemaker", config=patience, **options)
        self.runtime = boto3.client("sagemaker-runtime", config=patience, **options)
        self.answered: set[tuple[str, int]] = set()
        """Operations and statuses of the answers so far, each held against the service model."""
        for client in (self.control, self.runtime):
            client.meta.events.register("before-parse", self._conforms)

    def _conforms(self, operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
        service_model.conforms(operation_model, response_dict)
        self.answered.add((operation_model.name, response_dict["status_code"]))

    def model(self, judged: Bundle, name: str, sha256: str | None = None) -> str:
        container = {
            "Image": "tidegate-serving",
            "ModelDataUrl": judged.path.as_uri(),
            "Environment": {"TIDEGATE_BUNDLE_SHA256": sha256 or judged.sha256},
        }
        self.control.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
        return name

    def config(self, name: str, capture: int | None = 100, **weights: float) -> str:
        """Variants are named after their models."""
        variants = [
            {"VariantName": m, "ModelName": m, "InitialVariantWeight": w, "InitialInstanceCount": 1}
            for m, w in weights.items()
        ]
        extra: dict[str, Any] = {}
        if capture is not None:
            extra["DataCaptureConfig"] = {
                "EnableCapture": True,
                "InitialSamplingPercentage": capture,
                "DestinationS3Uri": "file:///capture",
                "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            }
        self.control.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants, **extra)
        return name

    def serve(self, judged: Bundle, name: str = "a", endpoint: str = "tidegate", capture: int | None = 100) -> None:
        """One model, one config, the endpoint created and in service."""
        self.config(self.model(judged, name), capture, **{name: 1.0})
        self.control.create_endpoint(EndpointName=endpoint, EndpointConfigName=name)
        self.settled(endpoint)

    def settled(self, endpoint: str = "tidegate") -> dict[str, Any]:
        """The description once nothing is under way."""
        while (found := self.control.describe_endpoint(EndpointName=endpoint))["EndpointStatus"] in (
            "Creating",
            "Updating",
        ):
            time.sleep(0.02)
        return dict(found)

    def invoke(self, request_id: str = "r1", endpoint: str = "tidegate", **fields: Any) -> dict[str, Any]:
        body = {"request_id": request_id, "surface": "home", "k": 3, **fields}
        found = self.runtime.invoke_endpoint(
            EndpointName=endpoint, ContentType="application/json", Body=json.dumps(body)
        )
        answer: dict[str, Any] = json.loads(found["Body"].read())
        assert found["InvokedProductionVariant"] == answer["variant"]
        return answer


@contextmanager
def running(settings: config.Config, features: Any = None, spawn: Spawn | None = None) -> Iterator[Client]:
    """The real application behind real HTTP on a free port, in a thread so that its rankers can be awkward."""
    server = Server(settings, spawn or threads(settings, features))
    listener = listen(0)
    web = uvicorn.Server(served(server.app))
    thread = threading.Thread(target=web.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield Client(f"http://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        web.should_exit = True
        thread.join(120)
        assert not thread.is_alive()
