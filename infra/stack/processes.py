"""Child processes that can be ended exactly: each is recorded with its start time and marked in its environment."""

import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from jobs.config import ROOT
from jobs.errors import TidegateError
from jobs.lake.swap import write_whole

MARK = "TIDEGATE_STACK"
"""Environment variable every process of a stack carries, its own children included, whoever their parent is by now."""
SUPERVISOR = "supervisor"
"""What starts services again that die (`infra.stack.supervisor`)."""
LAUNCHER = "launcher"
"""The process that starts the others; what else it may have started is not the stack's."""
SERVICES = "services"
"""The folder of a stack in which supervised services write down who they are."""
MOST_STARTS = 3
"""A service that is down after so many is not about to come up."""
GRACE_SECONDS = 6.0
START_TIME_SLACK = 1.0
"""psutil's start times of one process differ by rounding; another process with its id would differ by far more."""


class StackError(TidegateError):
    """The stack cannot do what was asked; the sentence says what was needed and what was found."""

    exit_code = 69


@dataclass(frozen=True)
class Component:
    """A service of the stack: its command, its environment and how to see that it is ready."""

    name: str
    argv: Sequence[str]
    environ: Mapping[str, str]
    healthy: Callable[[], bool]


@dataclass
class Stack:
    """The running processes of one folder, as `stack.json` records them."""

    folder: Path
    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    processes: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    """Addresses and whatever else `up` and `demo` print again later."""
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def record(self) -> Path:
        """Where the processes are written down."""
        return self.folder / "stack.json"

    @classmethod
    def claim(cls, folder: Path) -> "Stack":
        """A new stack in `folder`; raises `StackError` where one is running already."""
        folder.mkdir(parents=True, exist_ok=True)
        old = cls.find(folder)
        if old is not None:
            if list(old.alive()):
                where = ", ".join(f"{k} {v}" for k, v in old.facts.get("urls", {}).items()) or "still starting"
                raise StackError(
                    f"a stack must not be started twice in {folder}; one is already running ({where}): "
                    f"`python -m infra.stack down --name {folder.name}` stops it"
                )
            old.record.unlink()
        stack = cls(folder)
        me = psutil.Process()
        stack.processes.append({"name": LAUNCHER, "pid": me.pid, "started": me.create_time(), "log": None})
        try:
            with stack.record.open("x") as file:
                file.write(stack._json())
        except FileExistsError as error:
            raise StackError(f"a stack must not be started twice in {folder}; another is just starting") from error
        return stack

    @classmethod
    def find(cls, folder: Path) -> "Stack | None":
        """What `folder` records, alive or not; None where nothing was started."""
        try:
            found = json.loads((folder / "stack.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return cls(folder, found["mark"], found["processes"], found["facts"])

    def start(self, component: Component) -> None:
        """Start a component in the background, its output in `logs/<name>.log`; recorded before anything else."""
        log = self.log(component.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            child = subprocess.Popen(
                list(component.argv),
                cwd=ROOT,
                env={**component.environ, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started = psutil.Process(child.pid).create_time()
        self.processes.append({"name": component.name, "pid": child.pid, "started": started, "log": str(log)})
        self._children[component.name] = child
        self.save()

    def run(self, component: Component, timeout_s: float) -> None:
        """Run a component to its end; raises `StackError` naming its log when it fails."""
        self.start(component)
        try:
            code = self._children[component.name].wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise StackError(f"{component.name} must end within {timeout_s:.0f} s; {self._look(component)}") from error
        if code != 0:
            raise StackError(f"{component.name} must succeed; it ended with {code}; {self._look(component)}")

    def wait_healthy(self, components: Sequence[Component], timeout_s: float) -> None:
        """Return once all are ready; raises `StackError` naming the one that died or is not ready, and its log."""
        deadline = time.monotonic() + timeout_s
        waiting = list(components)
        while waiting:
            self.check()
            ready = {check: check() for check in {c.healthy for c in waiting}}  # one look where several share one
            waiting = [c for c in waiting if not ready[c.healthy]]
            if waiting and time.monotonic() > deadline:
                raise StackError(f"{waiting[0].name} must be ready in {timeout_s:.0f} s; {self._look(waiting[0])}")
            if waiting:
                time.sleep(0.5)

    def check(self) -> None:
        """Raises `StackError` when a component this launcher started has died, a service again and again."""
        for name, child in self._children.items():
            code = child.poll()
            if code not in (None, 0):
                raise StackError(f"{name} must keep running; it ended with {code}; its log: {self.log(name)}")
        for record in records(self.folder):
            if record.starts > MOST_STARTS and not record.alive:
                tried = f"it was started {record.starts} times"
                raise StackError(f"{record.name} must keep running; {tried}; its log: {self.log(record.name)}")

    def alive(self) -> Iterator[psutil.Process]:
        """The recorded processes that still run."""
        found = (lives(entry["pid"], entry["started"]) for entry in self.processes)
        return (process for process in found if process is not None)

    def tree(self) -> list[psutil.Process]:
        """Every live process of this stack: the recorded ones, all below them, and orphans that carry its mark.

        A process that gave itself a title has written over its environment, as Airflow's workers do: those are known by
        the session of the component that began them.
        """
        found: dict[int, psutil.Process] = {}
        launchers = {entry["pid"] for entry in self.processes if entry["name"] == LAUNCHER}
        began = {entry["pid"]: entry["started"] for entry in self.processes if entry["pid"] not in launchers}
        for process in self.alive():
            with suppress(psutil.NoSuchProcess):
                below = [] if process.pid in launchers else process.children(recursive=True)
                found.update({p.pid: p for p in (process, *below)})
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                since = began.get(os.getsid(process.pid), float("inf"))
                if process.environ().get(MARK) == self.mark or process.create_time() >= since - START_TIME_SLACK:
                    found.setdefault(process.pid, process)
        return [p for p in found.values() if _runs(p)]

    def end(self) -> int:
        """End every process of the stack but this one: politely, then not; returns how many there were.

        The supervisor first: it would start again what is ended.
        """
        ended = len(self.tree())
        supervisors = [lives(entry["pid"], entry["started"]) for entry in self.processes if entry["name"] == SUPERVISOR]
        for process in filter(None, supervisors):
            with suppress(psutil.NoSuchProcess):
                process.terminate()
                psutil.wait_procs([process], timeout=2 * GRACE_SECONDS)
        for grace, polite in ((GRACE_SECONDS, True), (3.0, False), (3.0, False)):
            others = [p for p in self.tree() if p.pid != os.getpid()]
            if not others:
                break
            ended = max(ended, len(others))
            for process in others:
                with suppress(psutil.NoSuchProcess):
                    process.terminate() if polite else process.kill()
            psutil.wait_procs(others, timeout=grace)
        self.record.unlink(missing_ok=True)
        return ended

    def save(self) -> None:
        """Write the record whole."""
        write_whole(self.record, self._json())

    def log(self, name: str) -> Path:
        """The log of a component."""
        return self.folder / "logs" / f"{name}.log"

    def disown(self) -> None:
        """Forget the launcher: the components stay when it ends."""
        self.processes = [p for p in self.processes if p["name"] != LAUNCHER]
        self.save()

    def _look(self, component: Component) -> str:
        log = self.log(component.name)
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        return f"its last words: {lines[-1] if lines else 'none'}; its log: {log}"

    def _json(self) -> str:
        return json.dumps({"mark": self.mark, "processes": self.processes, "facts": self.facts}, indent=1)


@dataclass(frozen=True)
class Record:
    """A supervised service as it was last started, and how often it was (`infra.stack.service`)."""

    name: str
    pid: int
    started: float
    starts: int

    @property
    def alive(self) -> bool:
        """Whether that very process lives."""
        return lives(self.pid, self.started) is not None


def records(folder: Path) -> list[Record]:
    """Of every supervised service of a stack, by name."""
    return [Record(**json.loads(path.read_text())) for path in sorted((folder / SERVICES).glob("*.json"))]


def lives(pid: int, started: float) -> psutil.Process | None:
    """The process of this id that was started then, where it still runs: a reused id is somebody else."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if abs(process.create_time() - started) < START_TIME_SLACK and _runs(process):
            return process
    return None


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def free_ports(count: int) -> list[int]:
    """Different loopback ports nobody listens on; all are held at once while they are chosen."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [int(s.getsockname()[1]) for s in sockets]


def are_free(ports: Sequence[int]) -> bool:
    """Whether nobody listens on any of these loopback ports."""
    for port in ports:
        with socket.socket() as probe:
            # As servers do: a connection that is still closing does not hold the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True
