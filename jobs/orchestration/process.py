"""A command run to its end in a process group of its own, line by line, killable whole.

Whoever runs it may be killed, and so may who runs that (Airflow's worker). The group goes with either: a stage that
nobody hears of must not write beside the one that is started in its place.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

GRACE_SECONDS = 10
"""Between a polite SIGTERM and SIGKILL."""
LOOK_SECONDS = 1
"""Between looks whether the process that started this one still lives."""
ENDS = 'read -r said || kill -s KILL -- "-$0"'
"""What a shell does that hears from this process alone: nothing said before the line closes, and the group is ended."""
DRAIN_SECONDS = 1
"""A grandchild that keeps a pipe open after the command ended is not waited for any longer than this."""


class Command:
    """One child process; `run` streams its lines and returns its exit code, `kill` ends its whole group.

    Whatever interrupts `run` ends the group too.
    """

    def __init__(self, argv: Sequence[str], cwd: Path, environ: Mapping[str, str] | None = None) -> None:
        self.argv = list(argv)
        self.cwd = cwd
        self.environ = environ
        self.killed = False
        self.last = {"stdout": "", "stderr": ""}
        """The last line that was not blank, per stream."""
        self._child: subprocess.Popen[str] | None = None

    def run(self, say: Callable[[str], None]) -> int:
        """Start, hand every line of both streams to `say`, wait; returns the exit code (negative: the signal)."""
        with subprocess.Popen(
            self.argv,
            cwd=self.cwd,
            env=None if self.environ is None else dict(self.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as child:
            self._child = child
            if self.killed:  # between the request and the start
                self.kill()
            readers = [
                threading.Thread(target=self._read, args=(name, pipe, say), daemon=True)
                for name, pipe in (("stdout", child.stdout), ("stderr", child.stderr))
            ]
            try:
                for reader in readers:
                    reader.start()
                with _ended_with_us(child.pid):
                    code = self._waited(child)
                for reader in readers:
                    reader.join(DRAIN_SECONDS)
            except BaseException:  # a task's timeout: leaving the block would wait for a child that hangs
                self.kill()
                child.wait()
                raise
            finally:
                # Whatever the command left behind (a JVM, a Python worker) goes with it and closes the pipes.
                self._signal(signal.SIGKILL)
            for reader in readers:
                reader.join()
        return code

    def _waited(self, child: subprocess.Popen[str]) -> int:
        """The exit code; a child that nobody above wants to hear of any more is ended."""
        above = os.getppid()
        while True:
            try:
                return child.wait(LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                if os.getppid() != above and not self.killed:
                    self.kill()

    def kill(self) -> None:
        """End the child and all it started: SIGTERM, and SIGKILL for what is left after `GRACE_SECONDS`."""
        self.killed = True
        child = self._child
        if child is None:
            return
        self._signal(signal.SIGTERM)
        # Only look: reaping is `run`'s business, and it holds the lock of `Popen.wait` while it waits.
        timer = threading.Timer(GRACE_SECONDS, self._signal, args=(signal.SIGKILL,))
        timer.daemon = True
        timer.start()

    def _signal(self, number: signal.Signals) -> None:
        """To the group, which outlives its leader as long as one member lives."""
        if self._child is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, number)

    def _read(self, name: str, pipe: IO[str] | None, say: Callable[[str], None]) -> None:
        if pipe is None:
            return
        for raw in pipe:
            line = raw.rstrip()
            if line:
                self.last[name] = line
                say(line)


@contextmanager
def _ended_with_us(group: int) -> Iterator[None]:
    """While inside, a process group is ended as soon as this process is, however that ends."""
    shell = ["/bin/sh", "-c", ENDS, str(group)]
    silent = subprocess.DEVNULL
    with subprocess.Popen(
        shell, stdin=subprocess.PIPE, stdout=silent, stderr=silent, text=True, start_new_session=True
    ) as guard:
        try:
            yield
        finally:
            with suppress(BrokenPipeError):
                guard.communicate("done\n")


def python() -> str:
    """The interpreter that runs this process: stages see the packages Airflow sees."""
    return sys.executable
