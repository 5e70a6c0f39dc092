"""`python -m infra.stack demo | up | status | down | airflow … | jobs …`: see the package's docstring."""

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
from datetime import UTC, date, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from infra.stack import people, report, s3
from infra.stack.airflow_api import answers
from infra.stack.chain import Chain
from infra.stack.components import DISK, LAKES, LAPTOP, S3, TEAM, Layout, environment
from infra.stack.demo import Days, history, new_day, overrides
from infra.stack.memory import Peak
from infra.stack.processes import Component, Stack, StackError
from infra.stack.standing import Standing, logs, session, stands
from infra.stack.status import services, table
from infra.stack.watching import missing
from jobs import tracking
from jobs.config import ROOT, Config
from jobs.errors import EXIT_OK, UsageError, run_as_command
from jobs.places import S3Path

VAR = ROOT / "var"
DEMO = "demo"
"""Approves in a demo, where no team has named its own."""
MODULES = ("airflow", "jobs")
"""Whose command lines run on a stack."""
TABLE_WIDTH = 116
"""Three figures with intervals side by side; a log file has no width of its own."""


def _say(text: str) -> None:
    print(text, flush=True)


def demo(name: str, source: str, data: Path | None, lake: str, on: str) -> int:
    """The whole chain from nothing, then everything it started is stopped; returns the exit code."""
    began = time.monotonic()
    if lake == S3:
        s3.refuse_missing()
    stack = Stack.claim(VAR / name)
    with _Interruptible(), Peak(stack.tree) as peak:
        try:
            _clear(stack.folder)
            layout = _placed(stack.folder, lake, on)
            extra, days = overrides(source, data, layout.settings())
            extra |= people.approvers({**layout.settings(), **extra}, os.environ, DEMO)
            standing = Standing(stack, layout, extra | stands(layout, extra), days, _say)
            if standing.team is not None:
                standing.team.drop()
            _say(f"demo: {source} logs {days.first}..{days.last}; the lake is {standing.settings.lake.root}")
            standing.start(watched=False)
            _say(f"ready after {time.monotonic() - began:.0f} s: Airflow {layout.airflow}, MLflow {layout.mlflow}")
            chain = standing.chain(standing.answering())
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
                    "paths": _paths(stack.folder, standing.settings),
                    "peak_memory_mib": round(peak.mib, 1),
                    "seconds": round(time.monotonic() - began, 1),
                },
            )
        finally:
            stack.end()
    (stack.folder / "summary.json").write_text(json.dumps(found, indent=1, default=str) + "\n")
    report.show(found, Console(highlight=False, width=max(TABLE_WIDTH, Console().width)))
    again = f"python -m infra.stack up --name {name} --source {source}" + (f" --data {data}" if data else "")
    again += f" --lake {lake}" if lake != DISK else ""
    again += f" --on {on}" if on != LAPTOP else ""
    _say(f"everything is stopped; to open these addresses again: {again}")
    return 0


def up(name: str, source: str, data: Path | None, lake: str, on: str) -> int:
    """Start everything and leave it running; a fresh folder is filled in the background up to the approval."""
    if lake == S3:
        s3.refuse_missing()
    stack = Stack.claim(VAR / name)
    try:
        with _Interruptible():
            _refuse_another(stack.folder, lake)
            layout = _placed(stack.folder, lake, on)
            extra, days = overrides(source, data, layout.settings())
            extra |= people.approvers({**layout.settings(), **extra}, os.environ, people.APPROVER)
            # What it stands on is asked each time, not written down: addresses may hold a password.
            standing = Standing(stack, layout, extra | stands(layout, extra), days, _say)
            standing.start(watched=True)
            stack.facts.update(settings=extra, days=[days.first.isoformat(), days.last.isoformat()])
            airflow = standing.airflow
            fresh = airflow is not None and not (standing.settings.lake.root / "promotions").exists()
            if fresh:
                pilot = [sys.executable, "-m", "infra.stack", "pilot", "--name", name]
                stack.start(Component("pilot", pilot, standing.environ, lambda: True))
            waiting = airflow.questions() if airflow is not None else []
            stack.disown()
    except BaseException:
        stack.end()
        raise
    _say(f"Airflow   {layout.airflow}")
    for line in _who(standing):
        _say(f"          {line}")
    _say(f"MLflow    {tracking.models_url(standing.settings)}")
    _say(f"endpoint  {layout.endpoint}   (boto3: endpoint_url)")
    if standing.team is not None:
        _say(f"on team   {standing.team.kept}")
    _say(_watching(stack.facts["urls"]))
    for subject in waiting:
        _say(f"waits for an approver: {subject}   {layout.airflow}/required_actions")
    if fresh:
        _say(f"nothing waits for you yet: {days.first}..{days.eve} is being processed and a model trained;")
        _say(f"follow it: tail -f {stack.log('pilot')}   (it says whether the gate asks an approver, and where)")
    elif airflow is None:
        _say(f"{people.MANAGER} is your own, so no run was started: trigger daily_data with Since {days.first}, Day")
        _say(f"{days.eve}, then weekly_training with that Day")
    elif not waiting:
        _say("nothing waits for you, and no run was started: trigger a DAG with a Day of your choice")
    _say(f"stop with: python -m infra.stack down --name {name}")
    return 0


def _who(standing: Standing) -> list[str]:
    """Who can log in, and what they may do there."""
    named = standing.settings.release.approver_ids
    found = []
    for account in standing.accounts:
        answers = "answers approvals" if account.name in named or not named else ""
        found.append(
            f"log in as {account.name} / {account.password}   ({', '.join(filter(None, (account.role, answers)))})"
        )
    return found


def pilot(name: str) -> int:
    """Drive a stack that `up` has started as far as a person is needed; runs in the background, in its environment."""
    stack = Stack.find(VAR / name)
    if stack is None:
        raise StackError(f"pilot needs a running stack in {VAR / name}; found none")
    airflow = session(stack.facts["urls"]["airflow"], os.environ)
    if airflow is None:
        raise StackError("pilot needs a user who may start runs; found none")
    chain = Chain(airflow, logs(os.environ), _say, lambda: None, answers=False)
    history(chain, Days(*map(date.fromisoformat, stack.facts["days"])))
    _say("the history is processed; nothing waits for you")
    return 0


def within(name: str, module: str, words: list[str]) -> int:
    """A command line of Airflow's, or of `jobs`, on a stack that `up` has started; returns its exit code."""
    stack = Stack.find(VAR / name)
    if stack is None or "settings" not in stack.facts:
        raise StackError(f"{module} needs a stack that `up` has started in {VAR / name}; found none")
    layout = Layout(stack.folder, **stack.facts["urls"], on=stack.facts.get("on", LAPTOP))
    settings = stack.facts["settings"]
    command = [sys.executable, "-m", module, *words]
    environ = environment(layout, settings | stands(layout, settings))
    return subprocess.run(command, cwd=ROOT, env=environ).returncode


def down(name: str | None) -> int:
    """Stop exactly what was started, children included; returns 0 also where nothing ran."""
    folders = [VAR / name] if name else sorted(p.parent for p in VAR.glob("*/stack.json"))
    for folder in folders:
        stack = Stack.find(folder)
        if stack is not None:
            _say(f"{folder.name}: ended {stack.end()} processes")
            if kept := stack.facts.get("kept"):
                _say(f"{folder.name}: databases are kept: {kept}")
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


def _placed(folder: Path, lake: str, on: str) -> Layout:
    """The layout of a stack; this process finds its lake too."""
    layout = Layout.at(folder, lake, on)
    os.environ.update(layout.variables())
    return layout


def _refuse_another(folder: Path, lake: str) -> None:
    """A stack's ledger and its MLflow belong to the lake that it began with."""
    found = next((kind for kind, name in ((DISK, "lake"), (S3, s3.NAME)) if (folder / name).exists()), lake)
    if found != lake:
        raise StackError(f"the stack in {folder} needs the lake it began with, --lake {found}; found --lake {lake}")


def _paths(folder: Path, settings: Config) -> dict[str, str]:
    """Where to look when all is stopped."""
    parts = {"summary": "summary.json", "task logs": "airflow/logs", "service logs": "logs"}
    found = {name: str(folder / part) for name, part in parts.items()}
    for name, where in (("lake", settings.lake.root), ("bundles", settings.bundles)):
        objects = (
            f", its objects in {s3.file_of(folder / s3.NAME, where.bucket, where.key)}"
            if isinstance(where, S3Path)
            else ""
        )
        found[name] = f"{where}{objects}"
    return found


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
    parser.add_argument("action", choices=["demo", "up", "down", "status", *MODULES, "pilot"])
    parser.add_argument("--source", default="simulated", help="name of a file in jobs/sources")
    parser.add_argument("--data", type=Path, help="folder with the files of a real log")
    parser.add_argument("--lake", choices=LAKES, default=DISK, help="in local folders, or on the stack's own S3 (moto)")
    parser.add_argument("--on", default=LAPTOP, choices=[LAPTOP, TEAM], help="its databases and executor: docs/team.md")
    parser.add_argument("--name", help="folder under var/ (demo: demo, up: up, down, status: all)")
    options, rest = parser.parse_known_args(argv)
    if rest and options.action not in MODULES:
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
        return demo(options.name or "demo", options.source, options.data, options.lake, options.on)
    if options.action == "up":
        return up(options.name or "up", options.source, options.data, options.lake, options.on)
    if options.action in MODULES:
        return within(options.name or "up", options.action, options.rest)
    if options.action == "pilot":
        return pilot(options.name or "up")
    if options.action == "status":
        return status(options.name)
    return down(options.name)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    run_as_command(main)
