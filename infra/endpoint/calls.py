"""The container's calls over HTTP: one way from a body to an answer or a refusal, for each of them the same.

A call is what it is asked, what it answers and how; routes and the OpenAPI document are made of that, so that neither
can say what the other does not do.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.endpoint import generic
from infra.endpoint.arrival import AS_VARIANT, first_arrived, header
from infra.endpoint.decide import Decider
from infra.endpoint.errors import BadRequest, Conflict, Unavailable
from infra.endpoint.names import Named
from infra.endpoint.openapi import Described, document
from infra.endpoint.popularity import FAILED
from infra.endpoint.request import Asked, CandidatesRequest, EmbedRequest, RankRequest, ScoreRequest, body_of, parse
from infra.endpoint.variant import Variant
from jobs.serving.answer import Answer, Candidates, Embeddings

REFUSED = {BadRequest: 400, Conflict: 409, Unavailable: 503}
DOCUMENT = "/openapi.json"
ANSWERED = "answered"


@dataclass(frozen=True)
class Call(Described):
    """One of the calls; `answer` is given decider, variant, its name, what is asked, and until when."""

    asks: type[Asked]
    answer: Callable[[Decider, Variant, str, Any, float], Awaitable[Any]]


CALLS = (
    Call(
        "/invocations", RankRequest, Answer, "The slate of one request, drawn by the bundle's policy.", Decider.answer
    ),
    Call(
        "/rank",
        ScoreRequest,
        Answer,
        "Scores and probabilities of given candidates, best first; nothing is retrieved, nor drawn unless asked.",
        Decider.answer,
    ),
    Call("/candidates", CandidatesRequest, Candidates, "What retrieval finds for a user or for items.", generic.find),
    Call(
        "/embed",
        EmbedRequest,
        Embeddings,
        "Vectors of users and items, and which may be compared.",
        generic.embed,
        refusals={409: "The bundle in service has no vectors.", 503: "Not in time: ask again."},
    ),
)


DESCRIBED = orjson.dumps(document(CALLS))
"""Made on import, by one thread: what fields say of themselves is parsed from their source, and the parser of Python
before 3.11.8 fails where another thread parses too (python/cpython#106905)."""


class Answering:
    """ASGI: one of the calls. No framework is between the server and it: a middleware around a router around a stream
    would cost a request as much as its body.
    """

    def __init__(self, call: Call, decider: Decider, variant: Variant, name: str) -> None:
        self.path = call.path
        self._call, self._decider, self._variant, self._name = call, decider, variant, name
        self._label = call.path.strip("/")
        self._took = decider.call_seconds.labels(self._label, "whole")
        """Looked up once: that takes its parent's lock."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            status, body = await self._called(scope, receive)
        except ClientDisconnect:  # before the end of its body: nobody reads this
            await Response(status_code=400)(scope, receive, send)
        except Exception:
            # As the framework answers a bug; the server logs it.
            await PlainTextResponse("Internal Server Error", 500)(scope, receive, send)
            raise
        else:
            length = (b"content-length", str(len(body)).encode())
            headers = [length, (b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    async def _called(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        """Status and JSON."""
        began, decider = first_arrived(scope), self._decider
        deadline = decider.deadline(began)
        name = header(scope, AS_VARIANT) or self._name
        outcome = FAILED  # of a bug
        try:
            asked = parse(await body_of(receive), self._call.asks)
            answer = await self._call.answer(decider, self._variant, name, asked, deadline)
            outcome = getattr(answer, "fallback_reason", None) or ANSWERED
            return 200, said(answer)
        except tuple(REFUSED) as error:
            outcome = f"refused with {REFUSED[type(error)]}"
            return REFUSED[type(error)], said({"error": str(error)})
        except ClientDisconnect:
            outcome = "gone"
            raise
        finally:
            decider.called[self._label, outcome] += 1
            self._took.observe(time.monotonic() - began)


class Calls:
    """ASGI: calls as they are, everything else by a framework."""

    def __init__(self, calls: Sequence[Answering], otherwise: ASGIApp) -> None:
        self._by_path = {call.path: call for call in calls}
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = self._by_path.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        await (self._otherwise if call is None else call)(scope, receive, send)


def routes(calls: Sequence[Answering]) -> list[Route]:
    """Every call, for whoever asks otherwise than by POST, and the document that describes them."""

    async def openapi(_request: Request) -> Response:
        return Response(DESCRIBED, media_type="application/json")

    named = [Route(call.path, call, methods=["POST"]) for call in calls]
    return [*named, Route(DOCUMENT, openapi, methods=["GET"])]


def answering(decider: Decider, variant: Variant, name: str) -> list[Answering]:
    """Every call of a variant."""
    return [Answering(call, decider, variant, name) for call in CALLS]


def said(body: object) -> bytes:
    """As JSON."""
    return orjson.dumps(body, _written, orjson.OPT_SERIALIZE_NUMPY)


def _written(part: object) -> orjson.Fragment:
    """What is JSON already."""
    if isinstance(part, Named):
        return orjson.Fragment(part.json())
    raise TypeError(f"an answer needs to be JSON; found {type(part).__name__}")
