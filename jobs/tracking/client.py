"""A client of an MLflow that is ready to be used, and of which kind an error on the way there is."""

import fcntl
import logging
import os
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from jobs.config import Config
from jobs.config.base import without_password
from jobs.errors import Misconfigured, NotReady, TidegateError, causes, of_the_disk, one_line

WORTH_WAITING = (
    "INTERNAL_ERROR",  # also what a server that is down counts as
    "IO_ERROR",
    "TEMPORARILY_UNAVAILABLE",
    "SERVICE_UNDER_MAINTENANCE",
    "DEADLINE_EXCEEDED",
    "CANCELLED",
    "ABORTED",
    "RESOURCE_EXHAUSTED",
    "REQUEST_LIMIT_EXCEEDED",
    "RESOURCE_CONFLICT",
    "RESOURCE_ALREADY_EXISTS",
    "COULD_NOT_ACQUIRE_LOCK",
    "UNPARSEABLE_HTTP_ERROR",
)
"""Answers of MLflow that may be others later; any other stays what it is."""
OUTDATED = "out-of-date database schema"
"""What MLflow says of a database of another version; its own sentence then names the remedy."""
STAYS = (
    "authentication failed",
    "pg_hba.conf",
    "permission denied for",
    "does not exist",
    "already exists",
    "duplicate column",
    "no such table",
    "no such column",
    "malformed",
    "not a database",
)
"""What databases say that no waiting changes."""
SETTLED_SECONDS = 60
"""A half-made SQLite file that nobody has touched for so long is nobody's work in progress."""
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A stage that cannot reach MLflow ends as `NotReady` in seconds; the orchestrator has the patience.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@contextmanager
def reached(config: Config) -> Iterator[Any]:
    """A quiet client of an MLflow that is ready to be used; what goes wrong on the way there has its kind (`kind`)."""
    for name, value in QUIET.items():  # MLflow reads these from nowhere else
        os.environ.setdefault(name, value)
    from alembic.util.exc import CommandError
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    for noisy in ("mlflow", "alembic"):  # after the import, which sets its own level
        logging.getLogger(noisy).setLevel(logging.WARNING)

    uri = config.tracking.uri
    try:
        with _alone_at_first(uri):
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        yield client
    except (MlflowException, SQLAlchemyError, sqlite3.Error, CommandError, RequestException, ConnectionError) as error:
        raise kind(uri, error) from error
    except ModuleNotFoundError as error:
        raise Misconfigured(
            f"tracking.uri {without_password(uri)} needs a package that is not installed; found: {error}"
        ) from error


def kind(uri: str, error: Exception) -> TidegateError:
    """`NotReady` where MLflow or its database may answer later, `Misconfigured` where waiting changes nothing.

    A disk that is full or closed is of the kind it is everywhere (`of_the_disk`).
    """
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy import exc

    at, found = without_password(uri), without_password(uri, said=one_line(error, most=300))
    if (disk := of_the_disk(error)) is not None:
        return disk
    comes_back = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError, sqlite3.OperationalError)
    of_database = [e for e in causes(error) if isinstance(e, exc.SQLAlchemyError | sqlite3.Error | CommandError)]
    if any(isinstance(e, exc.IntegrityError) for e in of_database):
        return NotReady(f"MLflow at {at} must not be written to by another process at the same moment; found: {found}")
    stays = any(not isinstance(e, comes_back) or any(word in str(e) for word in STAYS) for e in of_database)
    if stays or OUTDATED in str(error):
        return Misconfigured(f"tracking.uri {at} must be open to us and of this version of MLflow; found: {found}")
    if isinstance(error, MlflowException) and not of_database and error.error_code not in WORTH_WAITING:
        return Misconfigured(f"MLflow at {at} must accept what is logged; it said: {found}")
    return NotReady(f"MLflow must answer at {at}; found: {found}")


@contextmanager
def _alone_at_first(uri: str) -> Iterator[None]:
    """Inside, MLflow's database is there, whole, or ours alone to make; a server takes care of its own.

    MLflow makes its tables at first use, in some fifty steps that neither a second process nor a kill may interrupt.
    """
    from sqlalchemy import create_engine, make_url, pool, text

    url = make_url(uri) if "://" in uri and not uri.startswith(("http://", "https://")) else None
    backend = "" if url is None else url.get_backend_name()
    if url is not None and backend == "sqlite" and url.database not in (None, "", ":memory:"):
        _make_sqlite(Path(url.database), uri)
    if backend != "postgresql":
        yield
        return
    engine = create_engine(uri, poolclass=pool.NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(hashtext('tidegate: first use of mlflow'))"))
        yield  # the lock goes with the connection, and that with the process


def _make_sqlite(path: Path, uri: str) -> None:
    """The file is there and whole: made under another name, by one process at a time, and moved into place.

    Raises `NotReady` where somebody else is just making it.
    """
    if _is_whole(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_whole(path):
            return
        if path.exists() and time.time() - path.stat().st_mtime < SETTLED_SECONDS:
            raise NotReady(f"MLflow's database {path} must be complete; found one that was being created a moment ago")
        for left in path.parent.glob(f".{path.name}.*.made*"):  # by a process that was killed here
            left.unlink()
        from mlflow import MlflowClient
        from sqlalchemy import make_url

        made = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.made")
        new = make_url(uri).set(database=str(made)).render_as_string(hide_password=False)
        MlflowClient(tracking_uri=new, registry_uri=new).search_registered_models(max_results=1)
        for old in (path, *path.parent.glob(f"{path.name}-*")):  # a journal of the old file is none of the new one
            old.unlink(missing_ok=True)
        made.rename(path)


def _is_whole(path: Path) -> bool:
    """Whether a SQLite file holds anything of value, or at least all of MLflow's tables; an unfinished one does not."""
    if not path.exists():
        return False
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        holding = {"runs": "", "registered_models": "", "experiments": " WHERE name <> 'Default'"}
        asked = [f"SELECT 1 FROM {table}{where} LIMIT 1" for table, where in holding.items() if table in tables]
        if any(database.execute(question).fetchone() for question in asked):
            return True
        versions = database.execute("SELECT version_num FROM alembic_version") if "alembic_version" in tables else ()
        from mlflow.store.db.utils import _get_latest_schema_revision

        return [version for (version,) in versions] == [_get_latest_schema_revision()]
