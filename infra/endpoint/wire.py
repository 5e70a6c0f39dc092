"""Kept-alive HTTP/1.1 to one process over its Unix socket: 30 µs of CPU a request, where aiohttp takes 260."""

import asyncio
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from httptools import HttpParserError, HttpResponseParser

IDLE_SECONDS = 30.0
"""Shorter than a server keeps a connection that nobody uses: it must not close one just as it is asked."""
LONGEST_FOLDER = 80
"""A socket's path has at most 108 bytes on Linux, 104 elsewhere, its own name included."""


class Reply:
    """What was answered; `headers` by lower-case name."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""


class Broken(OSError):
    """Nobody listens, or the connection ended before the answer did."""


class _Line(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self) -> None:
        self.since = 0.0
        """When it was last used."""
        self.transport: asyncio.Transport | None = None
        self._reply = Reply()
        self._answer: asyncio.Future[Reply] | None = None
        self._parser: Any = None

    def ask(self, content: bytes) -> "asyncio.Future[Reply]":
        if self.transport is None or self.transport.is_closing():
            raise Broken("the connection is closed")
        self._reply, self._parser = Reply(), HttpResponseParser(self)
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(content)
        return self._answer

    # -- asyncio's and httptools' calls ---------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Broken(f"the connection ended: {exc}"))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (HttpParserError, AttributeError) as error:  # no answer, or one to nothing that was asked
            self.close()
            self.connection_lost(error)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._reply.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._reply.body += body

    def on_message_complete(self) -> None:
        self._reply.status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(self._reply)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Wire:
    """Requests to one process; as many connections as there are requests at once, kept for the next ones."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._idle: list[_Line] = []

    async def ask(
        self, method: str, path: str, seconds: float, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Reply:
        """The reply; raises `Broken`, or TimeoutError where it takes longer. Neither line nor process is waited for."""
        line: _Line | None = None
        try:
            async with asyncio.timeout(seconds):
                line = self._kept() or await self._new()
                reply = await line.ask(_request(method, path, headers or {}, body))
        except BaseException:
            if line is not None:
                line.close()
            raise
        if line.transport is not None and not line.transport.is_closing():
            line.since = time.monotonic()
            self._idle.append(line)
        return reply

    def close(self) -> None:
        """End the connections that nobody uses."""
        while self._idle:
            self._idle.pop().close()

    def _kept(self) -> _Line | None:
        """The one that was used last."""
        while self._idle:
            line = self._idle.pop()
            fresh = time.monotonic() - line.since < IDLE_SECONDS
            if fresh and line.transport is not None and not line.transport.is_closing():
                return line
            line.close()
        return None

    async def _new(self) -> _Line:
        try:
            _, line = await asyncio.get_running_loop().create_unix_connection(_Line, self._address)
        except OSError as error:
            raise Broken(f"{self._address}: {error}") from error
        return line


def _request(method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: container", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def reachable(folder: Path) -> str:
    """The folder as sockets in it can be addressed from this process, however long its path is.

    Linux reaches a folder by a descriptor that stays open as well: `/proc/self/fd/<n>`.
    """
    path = str(folder.resolve())
    if len(os.fsencode(path)) <= LONGEST_FOLDER or sys.platform != "linux":
        return path
    return f"/proc/self/fd/{os.open(folder, os.O_PATH | os.O_DIRECTORY)}"


def listen_at(address: str, backlog: int) -> socket.socket:
    """A listening Unix socket in the place of one that was left there."""
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.lexists(address):
            os.unlink(address)
        found.bind(address)
        found.listen(backlog)
    except OSError:
        found.close()
        raise
    return found
