"""`python -m infra.endpoint.container [serve]`: SageMaker's container contract around one bundle.

`GET /ping` says 200 once the bundle is loaded and has answered, `POST /invocations` decides, beside the other calls of
`calls.CALLS`; `GET /openapi.json` describes them. SIGTERM ends it after the requests under way. The platform routes,
captures and weighs; this only ranks. The local platform begins it with `--fd`, a socket that listens already, and ends
it; `GET /offers` tells that one what popularity offers while this is away.
"""

import argparse
import hashlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from infra.endpoint import calls, metrics
from infra.endpoint.__main__ import HOST, entry, listen, one_thread_per_pool, serve
from infra.endpoint.child import end_with_the_platform
from infra.endpoint.decide import Decider, Features
from infra.endpoint.payload import SHA256_VARIABLE
from infra.endpoint.popularity import told
from infra.endpoint.processes import OFFERS
from infra.endpoint.variant import Offer, Variant
from jobs import bundle, config
from jobs.bundle import Bundle
from jobs.config import Config
from jobs.errors import EXIT_OK, Misconfigured

MODEL = Path("/opt/ml/model")
PORT = 8080
VARIANT = "container"


def application(judged: Bundle, features: Features, settings: Config) -> ASGIApp:
    """The calls of one bundle; raises what the bundle raises when it cannot answer."""
    own = settings.endpoint
    decider = Decider(
        *(features, own.timeout_ms, settings.tasks), surfaces=own.surfaces, precomputed_mib=own.precomputed_mib
    )
    variant = decider.ready(judged)

    offers = Offers(variant)

    async def ping(_request: Request) -> Response:
        return Response(status_code=200, headers={OFFERS: offers.told()[0]})

    async def popularity(_request: Request) -> Response:
        return Response(offers.told()[1], media_type="application/json")

    async def counters(_request: Request) -> Response:
        families: list[metrics.Family] = [
            *(metrics.answers(decider.outcomes), metrics.retrieved(decider.retrieved), decider.stages),
            *(metrics.called(decider.called), decider.call_seconds),
            *(metrics.feature_age(decider.features_age()), metrics.bundles([(judged.candidate_id, judged.sha256)])),
        ]
        return Response(metrics.text(families), media_type=metrics.CONTENT_TYPE)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        decider.close()

    answering = calls.answering(decider, variant, VARIANT)
    otherwise = Starlette(
        routes=[
            *calls.routes(answering),
            Route("/ping", ping, methods=["GET"]),
            Route("/offers", popularity, methods=["GET"]),
            Route("/metrics", counters, methods=["GET"]),
        ],
        lifespan=lifespan,
    )
    return calls.Calls(answering, otherwise)


class Offers:
    """What a variant's popularity offers, written out once for each publication."""

    def __init__(self, variant: Variant) -> None:
        self._variant = variant
        self._of: Sequence[Offer] = ()
        self._told = ("", b"")

    def told(self) -> tuple[str, bytes]:
        """Its version, and what it is."""
        now = self._variant.offers
        if now is not self._of:
            content = told(now)
            self._of, self._told = now, (hashlib.sha256(content).hexdigest()[:16], content)
        return self._told


def main(argv: Sequence[str]) -> int:
    """Load, answer once, then serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m infra.endpoint.container", description="Serve one bundle.")
    parser.add_argument("command", nargs="?", choices=["serve"], default="serve", help="SageMaker passes it")
    parser.add_argument("--model", type=Path, default=MODEL, help=f"the bundle's folder, by default {MODEL}")
    parser.add_argument("--host", default=HOST, help="address to bind; inside a container 0.0.0.0")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--fd", type=int, help="a listening socket; the process ends with its stdin then")
    # The platform hands the model's settings over as environment variables: this one is part of its contract.
    parser.add_argument("--sha256", default=os.environ.get(SHA256_VARIABLE), help=f"by default {SHA256_VARIABLE}")
    options = parser.parse_args(argv)
    if not options.sha256:
        raise Misconfigured(f"the container needs --sha256 or {SHA256_VARIABLE} of the judged bundle; found none")
    if options.fd is not None:
        end_with_the_platform()
    settings = config.load()
    listener = listen(options.port, options.host) if options.fd is None else socket.socket(fileno=options.fd)
    one_thread_per_pool()
    # Where xgboost finds scikit-learn it imports it, most of a second of each process; the image of serving has none.
    sys.modules.setdefault("sklearn", None)  # type: ignore[arg-type]
    from jobs.features.online import OnlineFeatures

    judged = bundle.load(options.model, options.sha256)
    serve(application(judged, OnlineFeatures(settings), settings), listener)
    return EXIT_OK


if __name__ == "__main__":
    entry(main)
