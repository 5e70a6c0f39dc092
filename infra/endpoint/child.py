"""A variant's process as the platform begins it; it never outlives the platform, however that ends."""

import asyncio
import ctypes
import os
import signal
import socket
import sys
import threading
from contextlib import suppress

from infra.endpoint.payload import SHA256_VARIABLE
from jobs.bundle import Standby
from jobs.config import ROOT

PR_SET_PDEATHSIG = 1
"""Of linux/prctl.h."""
LAST = 4096
"""Bytes of stderr in which its last line is looked for."""


class Child:
    """`python -m infra.endpoint.container` in a session of its own: the terminal's signals are the platform's."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.pid = process.pid
        self._process = process
        self._end = b""
        self._passing_on = asyncio.create_task(self._pass_on())

    @property
    def said(self) -> str:
        """The last line on stderr."""
        lines = self._end.decode(errors="replace").splitlines()
        return lines[-1] if lines else f"exit status {self._process.returncode}"

    async def wait(self) -> int:
        """Its exit status, once all that it wrote is read."""
        await self._passing_on
        return await self._process.wait()

    def terminate(self) -> None:
        """SIGTERM: it ends after the requests under way."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL, which ends a stopped one too."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def _pass_on(self) -> None:
        """Its log is the platform's."""
        stream = self._process.stderr
        while stream is not None and (part := await stream.read(1 << 16)):
            self._end = (self._end + part)[-LAST:]
            with suppress(OSError):
                os.write(sys.stderr.fileno(), part)


async def spawned(bundle: Standby, listener: socket.socket) -> Child:
    """The process of a bundle, on a listening socket; from the thread whose end shall be its end."""
    command = [sys.executable, "-m", "infra.endpoint.container", "serve", "--model", str(bundle.path)]
    command += ["--sha256", bundle.sha256, "--fd", str(listener.fileno())]
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != SHA256_VARIABLE},
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=[listener.fileno()],
        start_new_session=True,
    )
    return Child(process)


def end_with_the_platform() -> None:
    """In the process: its stdin ends with the platform. Linux ends it even where it is stopped by then."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_end_at_end_of_stdin, name="leash", daemon=True).start()


def _end_at_end_of_stdin() -> None:
    with suppress(OSError):
        while os.read(0, 1):
            pass
    os._exit(0)
