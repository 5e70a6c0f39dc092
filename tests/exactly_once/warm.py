"""A process that has imported what stages import, and forks: stages start at once. Each line on stdin runs one.

A line is JSON: `argv`, `env`, `out`; the answer on stdout is the exit status of the forked stage (negative: a signal).
"""

import json
import os
import sys

from jobs.tracking import QUIET

os.environ.update(QUIET)

import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
import xgboost  # noqa: F401

from jobs.__main__ import entry
from jobs.backtest import job as _backtest  # noqa: F401
from jobs.deploy import job as _deploy  # noqa: F401
from jobs.features.online import import_feast
from jobs.monitor import job as _monitor  # noqa: F401
from jobs.train import job as _train  # noqa: F401
from jobs.validate import job as _validate  # noqa: F401

import_feast()


def stage(argv: list[str], env: dict[str, str], out: str) -> None:
    """Become `python -m jobs …` in a process group of its own; never returns."""
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    written = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(written, 1)
    os.dup2(written, 2)
    if "KILL_BELOW" in env:
        from tests.exactly_once.shim import sitecustomize

        sitecustomize.arm()
    sys.argv = ["jobs", *argv]
    entry()


print("ready", flush=True)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        stage(**json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
