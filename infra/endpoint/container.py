"""`python -m infra.endpoint.container [serve]`: SageMaker's container contract around one bundle.

`GET /ping` says 200 once the bundle is loaded and has answered, `POST /invocations` decides with the same code as the
local endpoint, beside the other calls of `calls.CALLS`; `GET /openapi.json` describes them. SIGTERM ends it after the
requests under way. The platform routes, captures and weighs; this only ranks.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.endpoint import calls, metrics
from infra.endpoint.__main__ import HOST, entry, listen, serve
from infra.endpoint.decide import Decider, Features
from infra.endpoint.payload import SHA256_VARIABLE
from jobs import bundle, config
from jobs.bundle import Bundle
from jobs.config import Config
from jobs.errors import EXIT_OK, Misconfigured

MODEL = Path("/opt/ml/model")
PORT = 8080
VARIANT = "container"


def application(judged: Bundle, features: Features, settings: Config) -> Starlette:
    """The calls of one bundle; raises what the bundle raises when it cannot answer."""
    decider = Decider(features, settings.endpoint.timeout_ms, settings.tasks, surfaces=settings.endpoint.surfaces)
    variant = decider.ready(judged)

    async def ping(_request: Request) -> Response:
        return Response(status_code=200)

    async def counters(_request: Request) -> Response:
        text = metrics.answers(decider.outcomes) + metrics.retrieved(decider.retrieved)
        return Response(text, media_type=metrics.CONTENT_TYPE)

    return Starlette(
        routes=[
            *calls.routes(decider, variant, VARIANT),
            Route("/ping", ping, methods=["GET"]),
            Route("/metrics", counters, methods=["GET"]),
        ],
        exception_handlers=calls.HANDLERS,
    )


def main(argv: Sequence[str]) -> int:
    """Load, answer once, then serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m infra.endpoint.container", description="Serve one bundle.")
    parser.add_argument("command", nargs="?", choices=["serve"], default="serve", help="SageMaker passes it")
    parser.add_argument("--model", type=Path, default=MODEL, help=f"the bundle's folder, by default {MODEL}")
    parser.add_argument("--host", default=HOST, help="address to bind; inside a container 0.0.0.0")
    parser.add_argument("--port", type=int, default=PORT)
    # The platform hands the model's settings over as environment variables: this one is part of its contract.
    parser.add_argument("--sha256", default=os.environ.get(SHA256_VARIABLE), help=f"by default {SHA256_VARIABLE}")
    options = parser.parse_args(argv)
    if not options.sha256:
        raise Misconfigured(f"the container needs --sha256 or {SHA256_VARIABLE} of the judged bundle; found none")
    settings = config.load()
    listener = listen(options.port, options.host)
    from jobs.features.online import OnlineFeatures

    judged = bundle.load(options.model, options.sha256)
    serve(application(judged, OnlineFeatures(settings), settings), listener)
    return EXIT_OK


if __name__ == "__main__":
    entry(main)
