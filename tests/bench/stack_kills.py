"""`python -m tests.bench.stack_kills [--name up]`: kill -9 each service of a running stack, and each process of a task.

Start it beside `make up` while its chain runs (`TIDEGATE_ENV=test make up` is small). Of a service the table says after
how many seconds another one lives and answers, and how many processes of the killed one were left then; of a task's
process, after how many seconds its stage was gone, and when the stage ran again. What was told is in `deaths.jsonl`.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import psutil

from infra.stack.__main__ import VAR
from infra.stack.airflow_api import answers, is_healthy
from infra.stack.processes import MARK, Stack, records
from infra.stack.service import NAME

PATIENCE_S = 600.0
ADDRESSES = {"airflow-api": "airflow"}
ABOVE = {"the stage": 0, "its task": 1, "the worker above": 2}
"""What is killed of a task, as so many parents above the stage."""


def seconds_until(there: Callable[[], object]) -> float | None:
    """How long it took, None where it did not come true."""
    began = time.monotonic()
    while not there():
        if time.monotonic() - began > PATIENCE_S:
            return None
        time.sleep(0.2)
    return round(time.monotonic() - began, 1)


def of_stack(stack: Stack, keep: Callable[[psutil.Process, dict[str, str]], bool]) -> list[psutil.Process]:
    """The stack's processes that pass."""
    found = []
    for process in psutil.process_iter():
        try:
            environ = process.environ()
            if environ.get(MARK) == stack.mark and keep(process, environ) and process.status() != "zombie":
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def lives(process: psutil.Process) -> bool:
    """Whether it does anything."""
    try:
        return bool(process.is_running() and process.status() != "zombie")
    except psutil.NoSuchProcess:
        return False


def service(stack: Stack, name: str) -> dict[str, Any]:
    """Kill one."""
    [before] = [record for record in records(stack.folder) if record.name == name]
    mine = of_stack(stack, lambda _, environ: environ.get(NAME) == name)
    urls = stack.facts["urls"]
    url = urls.get(ADDRESSES.get(name, name))

    def back() -> bool:
        [now] = [record for record in records(stack.folder) if record.name == name]
        well = answers(url) if url else is_healthy(urls["airflow"])
        return now.starts > before.starts and now.alive and well

    psutil.Process(before.pid).kill()
    took = seconds_until(back)
    return {"killed": name, "back_s": took, "processes": len(mine), "left": sum(map(lives, mine))}


def task(stack: Stack, what: str) -> dict[str, Any]:
    """Kill a process of the next stage that runs."""
    running: list[psutil.Process] = []

    def runs() -> bool:
        words = lambda process: process.cmdline()[1:3]  # noqa: E731
        running[:] = of_stack(stack, lambda process, _: words(process) == ["-m", "jobs"])
        return bool(running)

    seconds_until(runs)
    stage, mine = running[0], running[0].cmdline()[3]
    started, group = stage.create_time(), [stage, *stage.children(recursive=True)]
    victim = stage
    for _ in range(ABOVE[what]):
        victim = victim.parent()
    victim.kill()
    gone = seconds_until(lambda: not any(map(lives, group)))

    def again() -> bool:
        return any(
            one.cmdline()[1:4] == ["-m", "jobs", mine] and one.create_time() > started for one in running if runs()
        )

    return {
        "killed": f"{what} ({mine})",
        "gone_s": gone,
        "again_s": seconds_until(again),
        "left": sum(map(lives, group)),
    }


def main() -> None:
    """Everything in turn; a line each, and `var/bench/stack_kills.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="up")
    parser.add_argument("kills", nargs="*", help="services, or: stage, task, worker")
    options = parser.parse_args()
    stack = Stack.find(VAR / options.name)
    if stack is None:
        raise SystemExit(f"needs a running stack in {VAR / options.name}; found none")
    of_tasks = dict(zip(("stage", "task", "worker"), ABOVE, strict=True))
    rows = []
    for name in options.kills or [*(record.name for record in records(stack.folder)), *of_tasks]:
        rows.append(task(stack, of_tasks[name]) if name in of_tasks else service(stack, name))
        print(json.dumps(rows[-1]), flush=True)
    (VAR / "bench").mkdir(parents=True, exist_ok=True)
    (VAR / "bench" / "stack_kills.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
