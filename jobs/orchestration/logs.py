"""Logs of tasks on S3: `AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS=jobs.orchestration.logs.LOGGING` and `airflow.logs`.

Airflow's own way to S3 is its Amazon provider, which brings a dozen packages along (SageMaker Studio, Athena,
Redshift); a team that has it sets `[logging] remote_*` instead of this. Everything else of Airflow's logging stays.

Airflow puts a log when its task ends, or waits to be asked again: of a worker that is killed it has what was there
before, and what a task says while it runs is read from the worker.
"""

import os
from pathlib import Path
from typing import Any

from airflow.config_templates.airflow_local_settings import DEFAULT_LOGGING_CONFIG
from airflow.sdk.configuration import conf

from jobs import config
from jobs.errors import TidegateError, one_line
from jobs.places import S3Path

LOGGING: dict[str, Any] = DEFAULT_LOGGING_CONFIG


class Logs:
    """What Airflow asks of a remote log: put one, by its path below the folder of logs, and read it again."""

    processors = ()

    def __init__(self, at: S3Path, folder: Path) -> None:
        self._at = at
        self._folder = folder

    def upload(self, path: str | os.PathLike[str], ti: Any = None) -> None:  # noqa: ARG002 - as Airflow calls it
        """Put the log; raises `TidegateError` where S3 does not take it, which Airflow only logs.

        A task that is asked again goes on in the same log, perhaps on another worker, whose file lacks the beginning.
        """
        said = (self._folder / path).read_bytes()
        there = self._at / os.fspath(path)
        before = there.read_bytes() if there.is_file() else b""
        there.write_bytes(said if said.startswith(before) else before + said)

    def read(self, relative_path: str, ti: Any) -> tuple[list[str], list[str]]:  # noqa: ARG002 - as Airflow calls it
        """Where it lies and what it says; nothing of one that is not there (yet), or not to be had, and why."""
        there = self._at / relative_path
        try:
            return [str(there)], [there.read_text(errors="replace")]
        except FileNotFoundError:
            return [f"{there} is not there: a log is put when its task ends"], []
        except TidegateError as error:
            return [f"{there}: {one_line(error)}"], []


def _remote() -> Logs | None:
    at = config.load().airflow.logs
    return Logs(at, Path(conf.get("logging", "base_log_folder")).expanduser()) if isinstance(at, S3Path) else None


REMOTE_TASK_LOG = _remote()
"""By this name Airflow looks for it beside `LOGGING`."""
