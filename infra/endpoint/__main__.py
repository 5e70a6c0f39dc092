"""`python -m infra.endpoint [--port N]`: the local endpoint on 127.0.0.1 until SIGTERM. Settings as for `jobs`.

Exit codes are those of `jobs.errors`; a failure prints one sentence on stderr.
"""

import argparse
import logging
import os
import socket
import sys
from urllib.parse import urlparse

import uvicorn
from starlette.applications import Starlette

from jobs import config
from jobs.errors import EXIT_OK, Misconfigured, TidegateError

HOST = "127.0.0.1"
POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
SWITCH_SECONDS = 0.001
"""How long a busy ranker thread may keep the interpreter from the timer that would answer instead."""


def listen(port: int) -> socket.socket:
    """A listening socket on the loopback address only; raises `Misconfigured` where the port is taken."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((HOST, port))
    except (OSError, OverflowError) as error:
        found.close()
        raise Misconfigured(f"the endpoint needs a free port on {HOST}; found {port}: {error}") from error
    return found


def main(argv: list[str]) -> int:
    """Serve until told to stop; returns the exit code."""
    settings = config.load()
    default = urlparse(settings.endpoint.url).port
    parser = argparse.ArgumentParser(prog="python -m infra.endpoint", description="Serve the SageMaker contract.")
    parser.add_argument("--port", type=int, default=default, help="by default that of endpoint.url")
    port = parser.parse_args(argv).port
    if port is None:
        raise Misconfigured(f"the endpoint needs --port or a port in endpoint.url; found {settings.endpoint.url}")
    listener = listen(port)
    # One thread per request: pools of threads below it would fight for the cores. Read when numpy is first imported.
    for pool in POOLS:
        os.environ.setdefault(pool, "1")
    from jobs.featurize.online import OnlineFeatures

    from infra.endpoint.app import Server

    serve(Server(settings, OnlineFeatures(settings)).app, listener)
    return EXIT_OK


def serve(app: Starlette, listener: socket.socket) -> None:
    """Run the application on a bound socket until SIGTERM or SIGINT."""
    sys.setswitchinterval(SWITCH_SECONDS)
    port = listener.getsockname()[1]
    print(f"endpoint: http://{HOST}:{port}", file=sys.stderr, flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])


def entry() -> None:
    """Turn errors into exit codes."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        code = main(sys.argv[1:])
    except TidegateError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        code = error.exit_code
    sys.exit(code)


if __name__ == "__main__":
    entry()
