"""`python -m tests.bench.stack_kills [--name up]`: kill -9 each service of a running stack, and each process of a task.

Start it beside `make up` while its chain runs (`TIDEGATE_ENV=test make up` is small). Of a service the table says after
how many seconds another one lives and answers, and how many processes of the killed one were left then; of a task's
process, after how many seconds its stage was gone, when the stage ran again, and what the log of the try says. Stages
are killed in the order in which they come, so a chain that runs once is enough; a question needs somebody's yes. What
was told of services is in `deaths.jsonl`.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import psutil

from infra.stack.__main__ import VAR
from infra.stack.airflow_api import answers, is_healthy
from infra.stack.chain import sentence
from infra.stack.processes import MARK, Stack, records
from infra.stack.service import NAME
from infra.stack.standing import logs
from jobs.flow import STAGES

PATIENCE_S = 600.0
ADDRESSES = {"airflow-api": "airflow"}
ABOVE = {"stage": 0, "task": 1, "worker": 2}
"""What is killed of a task, as so many parents above the stage."""
AT_WORK_S = 2.5
"""Between a stage's beginning and its end by us: it has imported what it needs, and holds what it is to lose."""


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


def stages(stack: Stack) -> dict[psutil.Process, list[str]]:
    """The processes of stages that run, each with its words after `python -m jobs`."""
    words: dict[psutil.Process, list[str]] = {}

    def is_stage(process: psutil.Process, _: dict[str, str]) -> bool:
        found = process.cmdline()
        words[process] = found[3:]
        return found[1:3] == ["-m", "jobs"] and len(found) > 3

    return {process: words[process] for process in of_stack(stack, is_stage)}


def next_stage(stack: Stack, wanted: set[str]) -> tuple[psutil.Process, list[str]]:
    """The first of these that runs; raises `LookupError` where none comes."""
    found: list[tuple[psutil.Process, list[str]]] = []

    def runs() -> object:
        found.extend((process, words) for process, words in stages(stack).items() if words[0] in wanted)
        return found

    if seconds_until(runs) is None:
        raise LookupError(f"needs a chain that runs {', '.join(sorted(wanted))}; found none for {PATIENCE_S:.0f} s")
    return found[0]


def task(stack: Stack, what: str, wanted: set[str]) -> dict[str, Any]:
    """Kill a process of the next of these stages that runs, once it is at work; it is then no longer wanted."""
    stage, words = next_stage(stack, wanted)
    began, of = stage.create_time(), stage.environ()
    time.sleep(AT_WORK_S)
    victim, group = stage, [stage, *stage.children(recursive=True)]
    for _ in range(ABOVE[what]):
        victim = victim.parent()
    victim.kill()
    gone = seconds_until(lambda: not any(map(lives, group)))
    again = seconds_until(
        lambda: any(mine == words and process.create_time() > began for process, mine in stages(stack).items())
    )
    wanted.discard(words[0])
    return {
        "killed": what,
        "stage": words[0],
        "gone_s": gone,
        "again_s": again,
        "processes": len(group),
        "left": sum(map(lives, group)),
        "said": said(of),
    }


def said(environ: dict[str, str]) -> str:
    """The last that the log of the try that was killed says: the error's own words, or Airflow's."""
    run, mine = environ["AIRFLOW_CTX_DAG_RUN_ID"], environ["AIRFLOW_CTX_TASK_ID"]
    folder = logs(environ) / f"dag_id={environ['AIRFLOW_CTX_DAG_ID']}" / f"run_id={run}" / f"task_id={mine}"
    log = folder / f"attempt={environ['AIRFLOW_CTX_TRY_NUMBER']}.log"
    last = json.loads(log.read_text().splitlines()[-1])
    return str(last["event"]) if last["level"] == "critical" else sentence(log)


def main() -> None:
    """Everything in turn; a line each, and `var/bench/stack_kills.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="up")
    parser.add_argument("kills", nargs="*", help="services; stage:NAME, task:NAME, worker:NAME of a stage; or: stages")
    options = parser.parse_args()
    stack = Stack.find(VAR / options.name)
    if stack is None:
        raise SystemExit(f"needs a running stack in {VAR / options.name}; found none")
    rows: list[dict[str, Any]] = []
    for row in killed(stack, options.kills or [*(record.name for record in records(stack.folder)), "stages"]):
        rows.append(row)
        print(json.dumps(row), flush=True)
        (VAR / "bench").mkdir(parents=True, exist_ok=True)
        (VAR / "bench" / "stack_kills.json").write_text(json.dumps(rows, indent=1))


def killed(stack: Stack, kills: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A row for each; of `stages` one for each that comes, until none of them has come for `PATIENCE_S`."""
    for name in kills:
        what, _, stage = name.partition(":")
        if name != "stages":
            yield task(stack, what, {stage}) if what in ABOVE else service(stack, name)
            continue
        wanted = set(STAGES)
        with suppress(LookupError):
            while wanted:
                yield task(stack, "stage", wanted)


if __name__ == "__main__":
    main()
