"""HTTP in front of control plane and decisions: the shapes, headers and error bodies boto3 expects."""

import logging
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
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
from infra.endpoint.control import Control
from infra.endpoint.decide import Decider, Features
from infra.endpoint.errors import BadRequest, Rejected
from infra.endpoint.request import RankRequest, body_of, parse
from infra.endpoint.serving import Shadow
from infra.endpoint.state import Registry
from jobs.config import Config
from jobs.serving.capture import CAPTURE, SHADOWS, Capture

AMZ_JSON = "application/x-amz-json-1.1"
TARGET_VARIANT = "x-amzn-sagemaker-target-variant"
INVOKED_VARIANT = "x-Amzn-Invoked-Production-Variant"
_log = logging.getLogger(__name__)


class Server:
    """One process: registry, control plane, decisions, capture. Opens the state folder on construction."""

    def __init__(self, config: Config, features: Features) -> None:
        self._registry = Registry(config.endpoint.state)
        self._loads = ThreadPoolExecutor(1, "load")
        self._decider = Decider(features, config.endpoint.timeout_ms, config.tasks, surfaces=config.endpoint.surfaces)
        self._capture = Capture(config.endpoint.state / CAPTURE)
        self._shadows = Capture(config.endpoint.state / SHADOWS)
        self._control = Control(
            *(self._registry, config.endpoint.region, self._loads, self._decider.ready),
            lambda: not self._capture.losing,
            alarms_of(config.endpoint),
        )
        self.app = Starlette(
            routes=[
                Route("/endpoints/{name}/invocations", self._invoke, methods=["POST"]),
                Route("/", self._operate, methods=["POST"]),
                Route("/ping", self._ping, methods=["GET"]),
                Route("/metrics", self._metrics, methods=["GET"]),
            ],
            exception_handlers={ClientDisconnect: _gone, Exception: _internal_failure},
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """In service again before the first request is taken; files closed after the last one."""
        await run_in_threadpool(self._control.resume)
        yield
        self.close()

    def close(self) -> None:
        """Take no more work and let another server have the folder."""
        self._control.close()
        self._loads.shutdown(cancel_futures=True)
        self._decider.close()
        self._capture.close()
        self._shadows.close()
        self._registry.close()

    async def _ping(self, _request: Request) -> Response:
        return Response(status_code=200)

    async def _metrics(self, _request: Request) -> Response:
        text = metrics.answers(self._decider.outcomes) + metrics.retrieved(self._decider.retrieved)
        text += metrics.captured(self._capture.written, self._capture.lost)
        return Response(text, media_type=metrics.CONTENT_TYPE)

    async def _operate(self, request: Request) -> Response:
        service, _, operation = request.headers.get("x-amz-target", "").partition(".")
        try:
            if service != "SageMaker":
                raise Rejected(f"X-Amz-Target must be SageMaker.<Operation>; found {service!r}", "UnknownOperation")
            payload = _json_object(await body_of(request))
            found = await run_in_threadpool(self._control.call, operation, payload)
        except BadRequest as error:
            return _refused(Rejected(str(error)))
        except Rejected as error:
            return _refused(error)
        return _answer(found, 200, AMZ_JSON)

    async def _invoke(self, request: Request) -> Response:
        began = arrived(request.state)
        deadline = self._decider.deadline(began)
        name = request.path_params["name"]
        serving = self._control.serving.get(name)
        if serving is None:
            return _invalid(f"Endpoint {name} needs to exist and be in service; it does not")
        target = request.headers.get(TARGET_VARIANT)
        if target is not None and target not in serving.of("", target).variants:
            return _invalid(f"TargetVariant must be one of {', '.join(serving.variants)}; found {target!r}")
        try:
            body = await body_of(request)
        except BadRequest as error:
            return _invalid(str(error))
        try:
            asked = parse(body, RankRequest)
            key = asked.user_id or asked.request_id
            serving = serving.of(key, target)
            variant = target or serving.choose(key)
            asked = self._decider.admitted(serving.variants[variant].bundle, asked)
        except BadRequest as error:
            return _model_error(str(error))
        answer = await self._decider.answer(serving.variants[variant], variant, asked, deadline)
        if serving.captures(asked.request_id):
            asking = asked.model_dump(exclude_unset=True)
            self._capture.write(asked.day(), name, asking, answer, self._decider.milliseconds(began))
        response = _answer(answer, 200, "application/json", {INVOKED_VARIANT: variant})
        if serving.shadow is not None and target is None and serving.shadowed(asked.request_id):
            response.background = BackgroundTask(self._shadow, name, serving.shadow, asked)
        return response

    async def _shadow(self, endpoint: str, shadow: Shadow, asked: RankRequest) -> None:
        """Once the answer has left: what the shadow says, in as much time, is captured and shown to nobody."""
        began = time.monotonic()
        deadline = self._decider.deadline(began)
        answer = await self._decider.answer(shadow.variant, shadow.name, asked, deadline, shown=False)
        asking = asked.model_dump(exclude_unset=True)
        self._shadows.write(asked.day(), endpoint, asking, answer, self._decider.milliseconds(began))


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


def _invalid(message: str) -> Response:
    """The data plane's own refusal."""
    return _answer({"Message": message}, 400, "application/json", {"x-amzn-ErrorType": "ValidationError"})


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


async def _internal_failure(_request: Request, error: Exception) -> Response:
    _log.error("a bug of the endpoint", exc_info=error)
    body = {"__type": "InternalFailure", "Message": f"{type(error).__name__}: {error}"}
    return _answer(body, 500, AMZ_JSON, {"x-amzn-ErrorType": "InternalFailure"})
