"""The container's calls over HTTP: one way from a body to an answer or a refusal, for each of them the same.

A call is what it is asked, what it answers and how; routes and the OpenAPI document are made of that, so that neither
can say what the other does not do.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from infra.endpoint import generic
from infra.endpoint.arrival import AS_VARIANT, first_arrived
from infra.endpoint.decide import FAILED, Decider
from infra.endpoint.errors import BadRequest, Conflict, Unavailable
from infra.endpoint.openapi import Described, document
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


def routes(decider: Decider, variant: Variant, name: str) -> list[Route]:
    """Every call, and the document that describes them."""

    async def openapi(_request: Request) -> Response:
        return Response(DESCRIBED, media_type="application/json")

    calls = [Route(call.path, partial(_called, call, decider, variant, name), methods=["POST"]) for call in CALLS]
    return [*calls, Route(DOCUMENT, openapi, methods=["GET"])]


async def _called(call: Call, decider: Decider, variant: Variant, name: str, request: Request) -> Response:
    began, path = first_arrived(request), call.path.strip("/")
    deadline = decider.deadline(began)
    name = request.headers.get(AS_VARIANT, name)
    outcome = FAILED  # of a bug, which the framework answers
    try:
        asked = parse(await body_of(request), call.asks)
        answer = await call.answer(decider, variant, name, asked, deadline)
        outcome = getattr(answer, "fallback_reason", None) or ANSWERED
        return said(answer, 200)
    except tuple(REFUSED) as error:
        outcome = f"refused with {REFUSED[type(error)]}"
        return said({"error": str(error)}, REFUSED[type(error)])
    except ClientDisconnect:
        outcome = "gone"
        raise
    finally:
        decider.called[path, outcome] += 1
        decider.call_seconds.labels(path, "whole").observe(time.monotonic() - began)


async def gone(_request: Request, _error: Exception) -> Response:
    """The caller hung up before the end of its body: nobody reads this."""
    return Response(status_code=400)


HANDLERS: Mapping[Any, Any] = {ClientDisconnect: gone}


def said(body: object, status: int) -> Response:
    """As JSON."""
    return Response(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), status, media_type="application/json")
