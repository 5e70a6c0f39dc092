"""A process that has imported what stages import, and forks: stages start at once. Each line on stdin runs one.

A line is JSON: `argv`, `env`, and the files `out` and `err` that the stage prints to; the answer on stdout is its exit
status (negative: a signal). `tests.exactly_once.forks` writes and reads them.
"""

import importlib
import json
import os
import sys

from jobs.tracking.client import QUIET

os.environ.update(QUIET)

from jobs.__main__ import entry
from jobs.config import EndpointSettings
from jobs.features.online import import_feast
from jobs.flow import STAGES
from jobs.serving.sagemaker import Endpoint

SLOW = (
    *("mlflow.store.model_registry.sqlalchemy_store", "mlflow.store.tracking.sqlalchemy_store"),
    *("onnx", "onnxruntime", "torch", "torch._dynamo", "xgboost"),
)
"""What stages import when they need it."""
for _name in (*SLOW, *(stage.module for stage in STAGES.values())):
    importlib.import_module(_name)
import_feast()
Endpoint(EndpointSettings())  # boto3 has read what AWS's services are: the session of local servers is shared


def stage(argv: list[str], env: dict[str, str], out: str, err: str) -> None:
    """Become `python -m jobs …` in a process group of its own; never returns."""
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600), number)
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
