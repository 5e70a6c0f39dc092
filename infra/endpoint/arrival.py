"""When a request arrived: not when its turn came, but when its bytes reached this machine.

A busy event loop reads its sockets late, and a caller has waited that long already. Linux knows how long ago a
connection last received data (`TCP_INFO`, tcp(7)), to some milliseconds; elsewhere the wait in the socket is not seen.
The platform hands the moment on to a variant's process: a machine has one `time.monotonic` (CLOCK_MONOTONIC).
"""

import math
import socket
import struct
import sys
import time
from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

ARRIVED = "arrived"
HANDED_ON = "x-tidegate-arrived"
"""The header in which the platform says when a request came to it."""
AS_VARIANT = "x-tidegate-variant"
"""The header with the name under which a process answers."""
TCP_INFO = socket.TCP_INFO if sys.platform == "linux" else None
LAST_RECEIVED = struct.Struct("=52xI")
"""`tcpi_last_data_recv` of `struct tcp_info` in linux/tcp.h: milliseconds."""


class Stamped(HttpToolsProtocol):  # type: ignore[misc]
    """uvicorn's HTTP/1.1, whose requests know when they arrived."""

    def on_message_begin(self) -> None:
        """At the first byte of a request."""
        super().on_message_begin()
        waited = seconds_in_socket(self.transport.get_extra_info("socket"))
        self.scope["state"][ARRIVED] = time.monotonic() - waited


def arrived(scope: Mapping[str, Any]) -> float:
    """The moment on `time.monotonic`; now, where the server does not say. `scope`: ASGI's."""
    return float(scope.get("state", {}).get(ARRIVED, time.monotonic()))


def first_arrived(scope: Mapping[str, Any]) -> float:
    """The moment at which it came to the platform, where that says so; nobody's time gets longer by what it says."""
    here = arrived(scope)
    try:
        there = float(header(scope, HANDED_ON) or here)
    except ValueError:
        return here
    return here if math.isnan(there) else min(here, there)


def header(scope: Mapping[str, Any], name: str) -> str | None:
    """The first of this name, which is in lower case; None where there is none."""
    wanted = name.encode("latin-1")
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == wanted), None)


def deadline(arrived: float, budget: float, now: float) -> float:
    """Until when a ranker may answer a request that arrived then and is looked at now, `budget` in seconds.

    The server was so busy that the request waited until now; its answer will wait as long to be sent.
    """
    return arrived + budget - (now - arrived)


def seconds_in_socket(connection: socket.socket | None) -> float:
    """How long ago the last data of a connection came; 0.0 where nobody knows."""
    if TCP_INFO is None or connection is None or connection.family == socket.AF_UNIX:
        return 0.0
    found = connection.getsockopt(socket.IPPROTO_TCP, TCP_INFO, LAST_RECEIVED.size)
    return LAST_RECEIVED.unpack(found)[0] / 1000 if len(found) == LAST_RECEIVED.size else 0.0
