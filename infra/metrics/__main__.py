"""`python -m infra.metrics --port N`: serve the page on loopback until ended; see the package's docstring."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from prometheus_client import CollectorRegistry, start_http_server

from infra.metrics.host import Host
from infra.metrics.lake import Pipeline
from jobs import config
from jobs.errors import EXIT_OK, Misconfigured, UsageError, run_as_command


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `python -m infra.metrics --help`")


def page(settings: config.Config) -> CollectorRegistry:
    """What a scrape finds."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Pipeline(settings))
    registry.register(Host([path for path in (settings.lake.root, settings.endpoint.state) if isinstance(path, Path)]))
    return registry


def main(argv: Sequence[str]) -> int:
    """Serve until the process ends; returns the exit code."""
    parser = _Parser(prog="python -m infra.metrics", description="Pipeline and host, as Prometheus reads them.")
    parser.add_argument("--port", type=int, required=True, help="on 127.0.0.1")
    options = parser.parse_args(argv)
    try:
        _, thread = start_http_server(options.port, "127.0.0.1", page(config.load()))
    except (OSError, OverflowError) as error:
        raise Misconfigured(f"--port needs to be free on 127.0.0.1; found {options.port}: {error}") from error
    thread.join()
    return EXIT_OK


if __name__ == "__main__":
    run_as_command(main)
