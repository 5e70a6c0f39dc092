"""`python -m infra.endpoint [--port N]`: the local endpoint on 127.0.0.1 until SIGTERM. Settings as for `jobs`.

Exit codes and the last line on stderr are those of `jobs.errors`.
"""

import argparse
import gc
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn
from urllib.parse import urlparse

import uvicorn
from starlette.types import ASGIApp
from threadpoolctl import threadpool_limits

from infra.endpoint.arrival import Stamped
from infra.endpoint.logs import say_in_lines
from jobs import config
from jobs.errors import EXIT_OK, Misconfigured, run_as_command

HOST = "127.0.0.1"
BACKLOG = 256
KEEP_ALIVE_SECONDS = 75
"""Longer than a caller's pause: a connection closed under a request is a request lost."""
POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
SWITCH_SECONDS = 0.001
"""How long a busy ranker thread may keep the interpreter from the timer that would answer instead."""


def listen(port: int, host: str = HOST) -> socket.socket:
    """A listening socket, on the loopback address by default; raises `Misconfigured` where the port is taken."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen(BACKLOG)  # from here on a client waits for the start instead of being turned away
    except (OSError, OverflowError) as error:
        found.close()
        raise Misconfigured(f"the endpoint needs a free port on {host}; found {port}: {error}") from error
    return found


def main(argv: Sequence[str]) -> int:
    """Serve until told to stop; returns the exit code."""
    settings = config.load()
    default = urlparse(settings.endpoint.url).port
    parser = argparse.ArgumentParser(prog="python -m infra.endpoint", description="Serve the SageMaker contract.")
    parser.add_argument("--port", type=int, default=default, help="by default that of endpoint.url")
    port = parser.parse_args(argv).port
    if port is None:
        raise Misconfigured(f"the endpoint needs --port or a port in endpoint.url; found {settings.endpoint.url}")
    listener = listen(port)
    one_thread_per_pool()
    from infra.endpoint.app import Server
    from infra.endpoint.child import spawned

    serve(Server(settings, spawned).app, listener)
    return EXIT_OK


def one_thread_per_pool() -> None:
    """Requests are the parallelism: threads below one would fight for the cores. In libraries that are to come, in
    those that are loaded (an environment is heard while one loads), and in processes that begin from here.
    """
    for pool in POOLS:
        os.environ.setdefault(pool, "1")
    threadpool_limits(limits=1)


def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Run the application on a bound socket until SIGTERM or SIGINT."""
    sys.setswitchinterval(SWITCH_SECONDS)
    if listener.family == socket.AF_INET:
        host, port = listener.getsockname()
        print(f"endpoint: http://{host}:{port}", file=sys.stderr, flush=True)
    settle()
    uvicorn.Server(web(app)).run(sockets=[listener])


def settle() -> None:
    """Keep what is loaded out of the garbage collector's way: a full collection would cost a request its promise."""
    gc.collect()
    gc.freeze()


def web(app: ASGIApp) -> uvicorn.Config:
    """How the application is served: requests know when they arrived."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=Stamped,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nobody asks who called
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )


def entry(run: Callable[[Sequence[str]], int]) -> NoReturn:
    """End the process as every command does; a ranker that never came back is not waited for."""
    say_in_lines()
    run_as_command(run)


if __name__ == "__main__":
    entry(main)
