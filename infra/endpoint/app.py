"""HTTP in front of control plane and variants: the shapes, headers and error bodies boto3 expects."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import product
from typing import Any
from uuid import uuid4

import orjson
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from infra.endpoint import metrics
from infra.endpoint.alarms import alarms_of
from infra.endpoint.arrival import arrived
from infra.endpoint.control import BUSY, Control
from infra.endpoint.errors import BadRequest, Rejected
from infra.endpoint.exposed import Exposed, saying
from infra.endpoint.mixing import mix
from infra.endpoint.models import source_of
from infra.endpoint.popularity import OUTCOMES, RANKED, admitted
from infra.endpoint.processes import Launcher, Spawn
from infra.endpoint.request import RankRequest, body_of, parse
from infra.endpoint.serving import Serving, Shadow
from infra.endpoint.state import Registry
from jobs.config import Config
from jobs.serving.answer import Answer
from jobs.serving.capture import CAPTURE, SHADOWS, Capture
from models.experiments.settings import ExperimentSettings

AMZ_JSON = "application/x-amz-json-1.1"
TARGET_VARIANT = "x-amzn-sagemaker-target-variant"
INVOKED_VARIANT = "x-Amzn-Invoked-Production-Variant"
BUG = ("", "InternalFailure")
"""How what is nobody's request's fault is counted."""
_log = logging.getLogger(__name__)


class Server:
    """The platform: registry, control plane, router, capture, and the processes of every variant, which are its own.

    Opens the state folder on construction; serves once the lifespan of `app` has begun.
    """

    def __init__(self, config: Config, spawn: Spawn) -> None:
        """`spawn` begins a process of a variant."""
        self._registry = Registry(config.endpoint.state)
        self._loads = ThreadPoolExecutor(1, "load")
        self._surfaces = config.endpoint.surfaces
        self._exposed = Exposed(config.experiments)
        self._launcher = Launcher(config.endpoint, spawn)
        self._capture = Capture(config.endpoint.state / CAPTURE)
        self._shadows = Capture(config.endpoint.state / SHADOWS)
        self._control = Control(
            *(self._registry, config.endpoint.region, self._loads, self._launcher.ready),
            lambda: not self._capture.losing,
            alarms_of(config.endpoint),
            source=source_of(config.endpoint),
        )
        self._answers: Counter[tuple[str, str]] = Counter()
        self._retrieved: Counter[tuple[str, str]] = Counter()
        # A rate needs the 0 that was before the first.
        self._refusals: Counter[tuple[str, str]] = Counter({BUG: 0})
        self._seconds = metrics.whole()
        self.app = Starlette(
            routes=[
                Route("/endpoints/{name}/invocations", self._invoke, methods=["POST"]),
                Route("/", self._operate, methods=["POST"]),
                Route("/ping", self._ping, methods=["GET"]),
                Route("/metrics", self._metrics, methods=["GET"]),
            ],
            exception_handlers={ClientDisconnect: _gone, Exception: self._bug},
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """In service again before the first request is taken; processes ended and files closed after the last one."""
        self._launcher.open()
        try:
            await run_in_threadpool(self._control.resume)
            yield
        finally:
            await self._close()

    async def _close(self) -> None:
        """Take no more work and let another server have the folder."""
        self._control.close()
        await self._launcher.close()
        await run_in_threadpool(self._loads.shutdown, cancel_futures=True)
        self._capture.close()
        self._shadows.close()
        self._registry.close()

    async def _ping(self, _request: Request) -> Response:
        """200 where every endpoint there is can be answered for, if by popularity."""
        there, serving = list(self._registry.state.endpoints.items()), self._control.serving
        dead = [name for name, endpoint in there if name not in serving and endpoint.status not in BUSY]
        return Response(f"not in service: {', '.join(dead)}" if dead else "", 503 if dead else 200)

    async def _metrics(self, _request: Request) -> Response:
        serving = list(self._control.serving.values())
        both = [one for s in serving for one in (s, *(() if s.incoming is None else (s.incoming.serving,)))]
        there = {(s.endpoint, name, of.bundle.candidate_id): of for s in both for name, of in s.named()}
        asked = [(*labels, str(n), place) for labels, of in there.items() for n, place in enumerate(of.places)]
        pages = await asyncio.gather(*(place.page() for *_, place in asked))
        labels = [dict(zip((*metrics.OF_BUNDLE, "process"), of, strict=True)) for *of, _ in asked]
        theirs = metrics.joined(zip(labels, pages, strict=True))
        # What nobody was told by a bundle in service is 0, not missing.
        asking = [of.bundle.candidate_id for s in both for of in s.variants.values()]
        never = dict.fromkeys(product(asking, OUTCOMES), 0)
        ours: list[metrics.Family] = [
            *(metrics.answers({**never, **self._answers}), metrics.retrieved(self._retrieved)),
            metrics.refused(self._refusals),
            *(metrics.captured(self._capture.written, self._capture.lost), metrics.restarted(self._launcher.restarts)),
            *(metrics.processes({of: processes.up for of, processes in there.items()}), self._seconds),
        ]
        # What was answered is counted here: it may have been popularity, and nobody may have been shown it.
        mine = {"tidegate_answers", "tidegate_retrieved"}
        families = [*ours, *(family for family in theirs if family.name not in mine)]
        return Response(metrics.text(families), media_type=metrics.CONTENT_TYPE)

    async def _operate(self, request: Request) -> Response:
        service, _, operation = request.headers.get("x-amz-target", "").partition(".")
        try:
            if service != "SageMaker":
                said = f"X-Amz-Target must be SageMaker.<Operation>; found {service!r}"
                raise Rejected(said, "UnknownOperationException", 404)
            payload = _json_object(await body_of(request.receive))
            found = await run_in_threadpool(self._control.call, operation, payload)
        except BadRequest as error:
            return _refused(Rejected(str(error)))
        except Rejected as error:
            return _refused(error)
        return _answer(found, 200, AMZ_JSON)

    async def _invoke(self, request: Request) -> Response:
        began, name = arrived(request.scope), request.path_params["name"]
        try:
            body = await body_of(request.receive)
        except BadRequest as error:
            return self._invalid(name, str(error))
        # From here to the variant's own count of requests nothing is waited for: what leaves is not asked any more.
        serving = self._control.serving.get(name)
        if serving is None:
            return self._invalid("", f"Endpoint {name} needs to exist and be in service; it does not")
        target = request.headers.get(TARGET_VARIANT)
        if target is not None and target not in serving.of("", target).variants:
            return self._invalid(name, f"TargetVariant must be one of {', '.join(serving.variants)}; found {target!r}")
        try:
            asked = parse(body, RankRequest)
            key = asked.user_id or asked.request_id
            serving = serving.of(key, target)
            seen = self._exposed.of(asked)
            mixing = None if target is not None else self._exposed.mixing(asked, serving.variants)
            named = self._exposed.variant(seen, serving.variants) if mixing is None else mixing.variants[0]
            variant = target or named or serving.choose(key)
            processes = serving.variants[variant]
            asked = admitted(self._surfaces, processes.bundle, asked)
            if mixing is None:
                answer = await processes.answer(variant, asked, body, began)
            else:
                answer = await _mixed(mixing, serving, asked, body, began)
            answer = saying(answer, seen)
        except BadRequest as error:
            self._refusals[name, "ModelError"] += 1
            return _model_error(str(error))
        self._count(name, answer, began)
        if serving.captures(asked.request_id):
            asking = asked.model_dump(exclude_unset=True)
            self._capture.write(asked.day(), name, asking, answer, _milliseconds(began))
        response = _answer(answer, 200, "application/json", {INVOKED_VARIANT: variant})
        if serving.shadow is not None and target is None and serving.shadowed(asked.request_id):
            response.background = BackgroundTask(self._shadow, name, serving.shadow, asked, body)
        return response

    def _count(self, endpoint: str, answer: Answer, began: float) -> None:
        self._answers[answer.bundle_version, answer.fallback_reason or RANKED] += 1
        if answer.retrieved_by is not None:
            self._retrieved[answer.bundle_version, answer.retrieved_by] += 1
        self._seconds.labels(endpoint, answer.variant, answer.bundle_version).observe(time.monotonic() - began)

    def _invalid(self, endpoint: str, message: str) -> Response:
        """The data plane's own refusal."""
        self._refusals[endpoint if endpoint in self._control.serving else "", "ValidationError"] += 1
        return _answer({"Message": message}, 400, "application/json", {"x-amzn-ErrorType": "ValidationError"})

    async def _bug(self, _request: Request, error: Exception) -> Response:
        self._refusals[BUG] += 1
        _log.error("a bug of the endpoint", exc_info=error)
        body = {"__type": "InternalFailure", "Message": f"{type(error).__name__}: {error}"}
        return _answer(body, 500, AMZ_JSON, {"x-amzn-ErrorType": "InternalFailure"})

    async def _shadow(self, endpoint: str, shadow: Shadow, asked: RankRequest, body: bytes) -> None:
        """Once the answer has left: what the shadow says, in as much time, is captured and shown to nobody."""
        began = time.monotonic()
        try:
            answer = await shadow.variant.answer(shadow.name, asked, body, began)
        except BadRequest as error:
            _log.error("%s must read what the endpoint reads; found %s", shadow.name, error)
            return
        asking = asked.model_dump(exclude_unset=True)
        self._shadows.write(asked.day(), endpoint, asking, answer, _milliseconds(began))


async def _mixed(mixing: ExperimentSettings, serving: Serving, asked: RankRequest, body: bytes, began: float) -> Answer:
    """One page of all its arms' variants, asked at once: it takes as long as the slowest."""
    asking = (serving.variants[name].answer(name, asked, body, began) for name in mixing.variants)
    return mix(mixing, await asyncio.gather(*asking))


def _milliseconds(since: float) -> float:
    return (time.monotonic() - since) * 1000


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Rejected(f"the body must be a JSON object: {error}", "SerializationException") from error
    if not isinstance(payload, dict):
        raise Rejected("the body must be a JSON object; found another value", "SerializationException")
    return payload


def _answer(body: Any, status: int, content_type: str, headers: dict[str, str] | None = None) -> Response:
    headers = {"x-amzn-RequestId": str(uuid4()), **(headers or {})}
    return Response(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), status, headers, content_type)


def _refused(error: Rejected) -> Response:
    """The control plane's refusal."""
    return _answer(error.body(), error.status, AMZ_JSON, {"x-amzn-ErrorType": error.code})


def _model_error(message: str) -> Response:
    """The container answered 400; the platform passes that on as 424."""
    body = {
        "Message": f"Received client error (400) from the model with message: {message}",
        "OriginalStatusCode": 400,
        "OriginalMessage": message,
        "ErrorCode": "CLIENT_ERROR_FROM_MODEL",
    }
    return _answer(body, 424, "application/json", {"x-amzn-ErrorType": "ModelError"})


async def _gone(_request: Request, _error: Exception) -> Response:
    """The caller hung up before the end of its body: nobody reads this."""
    return Response(status_code=400)
