"""`python -m infra.stack demo | up | status | down | airflow …`: see the package's docstring."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from rich.console import Console

from infra.stack import report
from infra.stack.airflow_api import Airflow, answers
from infra.stack.chain import Chain
from infra.stack.components import (
    MIGRATE_TIMEOUT_S,
    PARSE_TIMEOUT_S,
    START_TIMEOUT_S,
    USER,
    Layout,
    components,
    environment,
    migration,
)
from infra.stack.demo import Days, history, new_day, overrides
from infra.stack.memory import Peak
from infra.stack.processes import Component, Stack, StackError
from infra.stack.status import services, table
from infra.stack.supervisor import Supervisor
from infra.stack.watching import missing, watchers
from jobs import config, tracking
from jobs.config import ROOT
from jobs.errors import EXIT_OK, UsageError, run_as_command

VAR = ROOT / "var"
TABLE_WIDTH = 116
"""Three figures with intervals side by side; a log file has no width of its own."""


def _say(text: str) -> None:
    print(text, flush=True)


class Standing:
    """A started stack and the session through which it is told what to do."""

    def __init__(self, stack: Stack, layout: Layout, overrides: dict[str, str], days: Days) -> None:
        self.stack = stack
        self.layout = layout
        self.days = days
        self.environ = environment(layout, overrides)
        self.settings = config.load(self.environ)
        self.airflow = Airflow(layout.airflow, USER, layout.password)

    def start(self, watched: bool) -> None:
        """All components, ready, `watched` or not; what is not Airflow comes up while Airflow's database is made."""
        urls = self.layout.watched() if watched else self.layout.urls()
        services = components(self.layout, self.environ)
        services += watchers(self.layout.folder, urls, self.environ) if watched else []
        airflow = [c for c in services if c.name.startswith("airflow")]
        others = [c for c in services if c not in airflow]
        self.stack.facts = {"urls": urls, "user": USER}
        supervisor = Supervisor(self.layout.folder, self.stack.mark)
        watchful = supervisor.component(others, airflow, self.environ)
        self.stack.start(watchful)
        self.stack.run(migration(self.environ), MIGRATE_TIMEOUT_S)
        self.stack.wait_healthy([watchful], START_TIMEOUT_S)
        supervisor.begin(airflow)
        self.stack.wait_healthy(services, START_TIMEOUT_S)
        self.airflow.wait_for_dags(PARSE_TIMEOUT_S)

    def chain(self, answers: bool) -> Chain:
        """A chain through this stack's Airflow."""
        return Chain(self.airflow, self.layout.folder / "airflow" / "logs", _say, self.stack.check, answers)


def demo(name: str, source: str, data: Path | None) -> int:
    """The whole chain from nothing, then everything it started is stopped; returns the exit code."""
    began = time.monotonic()
    stack = Stack.claim(VAR / name)
    with _Interruptible(), Peak(stack.tree) as peak:
        try:
            _clear(stack.folder)
            layout = Layout.at(stack.folder)
            extra, days = overrides(source, data, layout.settings())
            standing = Standing(stack, layout, extra, days)
            _say(f"demo: {source} logs {days.first}..{days.last}; starting Airflow, MLflow and the endpoint")
            standing.start(watched=False)
            _say(f"ready after {time.monotonic() - began:.0f} s: Airflow {layout.airflow}, MLflow {layout.mlflow}")
            chain = standing.chain(answers=True)
            history(chain, days)
            new_day(chain, days)
            found = report.summary(
                standing.settings,
                chain.finished,
                {
                    "source": source,
                    "first_day": days.first.isoformat(),
                    "last_day": days.last.isoformat(),
                    "urls": layout.urls(),
                    "paths": _paths(stack.folder),
                    "peak_memory_mib": round(peak.mib, 1),
                    "seconds": round(time.monotonic() - began, 1),
                },
            )
        finally:
            stack.end()
    (stack.folder / "summary.json").write_text(json.dumps(found, indent=1, default=str) + "\n")
    report.show(found, Console(highlight=False, width=max(TABLE_WIDTH, Console().width)))
    again = f"python -m infra.stack up --name {name} --source {source}" + (f" --data {data}" if data else "")
    _say(f"everything is stopped; to open these addresses again: {again}")
    return 0


def up(name: str, source: str, data: Path | None) -> int:
    """Start everything and leave it running; a fresh folder is filled in the background up to the approval."""
    stack = Stack.claim(VAR / name)
    try:
        with _Interruptible():
            layout = Layout.at(stack.folder)
            extra, days = overrides(source, data, layout.settings())
            standing = Standing(stack, layout, extra, days)
            _say("starting Airflow, MLflow and the endpoint")
            standing.start(watched=True)
            stack.facts.update(settings=extra, days=[days.first.isoformat(), days.last.isoformat()])
            fresh = not (stack.folder / "lake" / "promotions").exists()
            if fresh:
                pilot = [sys.executable, "-m", "infra.stack", "pilot", "--name", name, "--source", source]
                pilot += ["--data", str(data)] if data else []
                stack.start(Component("pilot", pilot, standing.environ, lambda: True))
            stack.disown()
    except BaseException:
        stack.end()
        raise
    _say(f"Airflow   {layout.airflow}   log in as {USER} / {layout.password}")
    _say(f"MLflow    {tracking.models_url(standing.settings)}")
    _say(f"endpoint  {layout.endpoint}   (boto3: endpoint_url)")
    _say(_watching(stack.facts["urls"]))
    if fresh:
        _say(f"{days.first}..{days.eve} is being processed and a model trained (follow it: {stack.log('pilot')});")
        _say(f"then the promotion waits for you: {layout.airflow}/required_actions")
    else:
        _say("nothing was started: trigger a DAG with a Day of your choice")
    _say(f"stop with: python -m infra.stack down --name {name}")
    return 0


def pilot(name: str) -> int:
    """Drive a stack that `up` has started as far as a person is needed; runs in the background."""
    stack = Stack.find(VAR / name)
    if stack is None:
        raise StackError(f"pilot needs a running stack in {VAR / name}; found none")
    first, last = stack.facts["days"]
    passwords = json.loads((stack.folder / "airflow" / "passwords.json").read_text())
    airflow = Airflow(stack.facts["urls"]["airflow"], USER, passwords[USER])
    chain = Chain(airflow, stack.folder / "airflow" / "logs", _say, lambda: None, answers=False)
    history(chain, Days(*(config_day(text) for text in (first, last))))
    return 0


def airflow(name: str, words: list[str]) -> int:
    """Airflow's own command line on a stack that `up` has started; returns its exit code."""
    stack = Stack.find(VAR / name)
    if stack is None or "settings" not in stack.facts:
        raise StackError(f"airflow needs a stack that `up` has started in {VAR / name}; found none")
    layout = Layout(stack.folder, **stack.facts["urls"], password="")
    command = [sys.executable, "-m", "airflow", *words]
    return subprocess.run(command, cwd=ROOT, env=environment(layout, stack.facts["settings"])).returncode


def down(name: str | None) -> int:
    """Stop exactly what was started, children included; returns 0 also where nothing ran."""
    folders = [VAR / name] if name else sorted(p.parent for p in VAR.glob("*/stack.json"))
    for folder in folders:
        stack = Stack.find(folder)
        if stack is not None:
            _say(f"{folder.name}: ended {stack.end()} processes")
    if not folders:
        _say("nothing is running")
    return 0


def status(name: str | None) -> int:
    """Print how each service stands; returns 0, or `StackError.exit_code` where one is dead or does not answer."""
    folders = [VAR / name] if name else sorted(p.parent for p in VAR.glob("*/stack.json"))
    stacks = [stack for stack in map(Stack.find, folders) if stack is not None]
    code = EXIT_OK
    for stack in stacks:
        found = services(stack, answers)
        _say(f"{stack.folder.name}: {sum(s.alive for s in found)} of {len(found)} processes live")
        Console(highlight=False, width=max(TABLE_WIDTH, Console().width)).print(table(found, datetime.now(UTC)))
        code = code if all(service.well for service in found) else StackError.exit_code
    if not stacks:
        _say("nothing is running")
    return code


def _watching(urls: Mapping[str, str]) -> str:
    if "prometheus" in urls:
        return f"watched   {urls['prometheus']}/alerts   (Prometheus, of endpoint, pipeline and host)"
    return f"watched   {urls['exporter']}/metrics   ({missing()}: nobody reads it, nothing alarms)"


def config_day(text: str) -> Any:
    """A date from the record."""
    from datetime import date

    return date.fromisoformat(text)


def _paths(folder: Path) -> dict[str, str]:
    parts = {"summary": "summary.json", "task logs": "airflow/logs", "service logs": "logs"}
    return {name: str(folder / part) for name, part in {**parts, "lake": "lake", "bundles": "bundles"}.items()}


def _clear(folder: Path) -> None:
    """A demo starts from nothing; a download it would need again is kept."""
    for path in folder.iterdir():
        if path.name in ("stack.json", "cache"):
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()


class _Interruptible:
    """SIGTERM is an interruption like Ctrl-C, so that what was started is stopped."""

    def __enter__(self) -> None:
        def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
            raise KeyboardInterrupt

        self._before = signal.signal(signal.SIGTERM, interrupt)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `python -m infra.stack --help`")


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="python -m infra.stack", description="Airflow, MLflow and the endpoint, and the demo.")
    parser.add_argument("action", choices=["demo", "up", "down", "status", "airflow", "pilot"])
    parser.add_argument("--source", default="simulated", help="a file of jobs/sources, by its name")
    parser.add_argument("--data", type=Path, help="folder of a real log's files")
    parser.add_argument("--name", help="folder under var/ (demo: demo, up: up, down, status: all)")
    options, rest = parser.parse_known_args(argv)
    if rest and options.action != "airflow":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    return options


def main(argv: Sequence[str]) -> int:
    """Do what was asked; returns the exit code, a shell's own where it was interrupted."""
    try:
        return _done(_options(argv))
    except KeyboardInterrupt:
        with suppress(BrokenPipeError):
            print("interrupted: everything that was started is stopped", file=sys.stderr)
        return 128 + signal.SIGINT


def _done(options: argparse.Namespace) -> int:
    if options.data is not None and not options.data.is_dir():
        raise UsageError(f"--data must be a folder; found {options.data}")
    if options.action == "demo":
        return demo(options.name or "demo", options.source, options.data)
    if options.action == "up":
        return up(options.name or "up", options.source, options.data)
    if options.action == "airflow":
        return airflow(options.name or "up", options.rest)
    if options.action == "pilot":
        return pilot(options.name or "up")
    if options.action == "status":
        return status(options.name)
    return down(options.name)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    run_as_command(main)
