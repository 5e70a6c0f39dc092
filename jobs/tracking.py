"""MLflow: every ranker a run, every verdict a model version, one alias for who is champion. Only this file imports it.

The lake stays the record; MLflow is for people to look at. Each call is safe to repeat: the run of a bundle is found by
its candidate and sha256, a model version likewise, so a retried stage adds nothing twice.
"""

import fcntl
import json
import logging
import os
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.config import Config
from jobs.errors import Misconfigured, NotReady, Refused, TidegateError, causes, of_the_disk, one_line
from jobs.places import Place, copied

ALIAS, CHALLENGER = "champion", "challenger"
"""Of the registered model: the version that serves, and the newest that was judged and does not."""
TRAINING, PARENT = "training", "mlflow.parentRunId"
"""Tags: the name of a training on its run, and its run's id on those of its rankers, which MLflow shows below it."""
EVIDENCE = "evidence"
"""The folder of a run's artifacts that holds its evidence pack."""
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
MOST_TAG = 5_000
"""Characters that MLflow keeps of a tag."""
MOST_METRICS, MOST_PARAMS, FIRST_METRICS = 1_000, 100, 800
"""Of one call of MLflow's; with parameters and tags beside them at most the last."""
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A stage that cannot reach MLflow ends as `NotReady` in seconds; the orchestrator has the patience.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass(frozen=True)
class Dataset:
    """The rows a run learned from: a partition of a Delta table at a version, and a digest of what was read."""

    name: str
    digest: str
    path: Place
    version: int
    profile: Mapping[str, float]


@dataclass(frozen=True)
class Point:
    """Figures at a step of a run."""

    step: int
    metrics: Mapping[str, float]


def begin_training(config: Config, name: str, tags: Mapping[str, str]) -> str:
    """The id of the run that the rankers of one training are children of; a retried training finds its own again.

    Raises `NotReady` when MLflow cannot be reached.
    """
    with _reached(config) as client:
        experiment = _experiment(client, config)
        wanted = f"tags.{TRAINING} = '{name}'"
        found = client.search_runs([experiment], wanted, max_results=1, order_by=["attributes.start_time ASC"])
        if found:
            return str(found[0].info.run_id)
        run = client.create_run(experiment, run_name=name, tags={**tags, TRAINING: name})
        return str(run.info.run_id)


def end_training(config: Config, run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
    """What came of it: the figures of its challenger, so that a table of trainings compares weeks."""
    with _reached(config) as client:
        _batch(client, run_id, metrics, tags=tags)
        client.set_terminated(run_id)


def log_ranker(
    config: Config,
    candidate_id: str,
    bundle: Place,
    params: Mapping[str, object],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    parent: str | None = None,
    curve: Sequence[Point] = (),
    data: Dataset | None = None,
) -> str:
    """The id of the finished run that holds the ranker of `bundle`; `tags` must carry `bundle_sha256`.

    `parent` is the run of its training, `curve` what was measured while it learned, `data` what it learned from. Raises
    `NotReady` when MLflow cannot be reached.
    """
    told = {**tags, "candidate_id": candidate_id} | ({PARENT: parent} if parent else {})
    with _reached(config) as client:
        experiment = _experiment(client, config)
        run = _finished(client, experiment, candidate_id, tags["bundle_sha256"])
        if run is None:
            run = client.create_run(experiment, run_name=candidate_id, tags=told).info.run_id
            _batch(client, run, metrics, params, curve=curve)
            if data is not None:
                _log_input(client, run, data)
            with tempfile.TemporaryDirectory() as folder:
                client.log_artifacts(run, str(copied(bundle, Path(folder))), "bundle")
        else:
            _batch(client, run, {}, tags=told)
        # Last: only a finished run is ever found again.
        client.set_terminated(run)
        return str(run)


def log_evidence(config: Config, run_id: str, metrics: Mapping[str, float], files: Mapping[str, str]) -> None:
    """The run of the challenger carries the figures, one commit, and under `EVIDENCE` the files of the pack.

    They take the place of older ones by name; MLflow keeps an older verdict, which says which document it is on.
    """
    with _reached(config) as client:
        _batch(client, run_id, metrics)
        for name, content in files.items():
            client.log_text(run_id, content, f"{EVIDENCE}/{name}")


def artifact_url(config: Config, run_id: str, path: str) -> str | None:
    """Where a browser finds an artifact of a run; None where MLflow is a database without a server."""
    uri = config.tracking.uri.rstrip("/")
    if not uri.startswith("http"):
        return None
    with _reached(config) as client:
        experiment = client.get_run(run_id).info.experiment_id
        return f"{uri}/#/experiments/{experiment}/runs/{run_id}/artifacts/{path}"


def register(
    config: Config,
    run_id: str,
    candidate_id: str,
    bundle_sha256: str,
    verdict: str,
    evidence: Mapping[str, str] | None = None,
) -> int:
    """The model version of this bundle, with the verdict and where the `evidence` is as tags.

    The alias `CHALLENGER` points at it: the newest that was judged. `ALIAS` stays where it is.
    """
    with _reached(config) as client:
        name = config.tracking.model
        _registered_model(client, name)
        version = _version(client, name, candidate_id, bundle_sha256)
        if version is None:
            source = f"{client.get_run(run_id).info.artifact_uri}/bundle"
            tags = {"candidate_id": candidate_id, "bundle_sha256": bundle_sha256}
            version = int(client.create_model_version(name, source, run_id, tags=tags).version)
        for tag, text in {"verdict": verdict, **(evidence or {})}.items():
            client.set_model_version_tag(name, str(version), tag, text)
        client.set_registered_model_alias(name, CHALLENGER, str(version))
        return version


def tag(config: Config, candidate_id: str, bundle_sha256: str, tags: Mapping[str, str]) -> None:
    """What was said of a candidate, on its model version; one that was never registered has none."""
    with _reached(config) as client:
        name = config.tracking.model
        version = _version(client, name, candidate_id, bundle_sha256)
        for key, text in tags.items() if version is not None else ():
            client.set_model_version_tag(name, str(version), key, text[:MOST_TAG])


def move_champion(config: Config, candidate_id: str, bundle_sha256: str | None = None) -> int:
    """The alias `champion` points at the newest version of this candidate, `challenger` no longer; returns the version.

    Raises `Refused` when `promote` never registered it.
    """
    with _reached(config) as client:
        name = config.tracking.model
        version = _version(client, name, candidate_id, bundle_sha256)
        if version is None:
            raise Refused(f"the alias {ALIAS} needs a registered version of {candidate_id} in {name}; found none")
        client.set_registered_model_alias(name, ALIAS, str(version))
        if str(client.get_registered_model(name).aliases.get(CHALLENGER)) == str(version):
            client.delete_registered_model_alias(name, CHALLENGER)
        return version


def remove_champion(config: Config) -> None:
    """The alias `champion` points at nothing: the first model that was to go live did not."""
    if champion(config) is not None:
        with _reached(config) as client:
            client.delete_registered_model_alias(config.tracking.model, ALIAS)


def champion(config: Config) -> str | None:
    """The candidate the alias points at, None before the first deployment."""
    with _reached(config) as client:
        from mlflow.exceptions import MlflowException

        try:
            found = client.get_model_version_by_alias(config.tracking.model, ALIAS)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return str(found.tags["candidate_id"])


@contextmanager
def _reached(config: Config) -> Iterator[Any]:
    """A quiet client of an MLflow that is ready to be used; what goes wrong on the way there has its kind (`_kind`)."""
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
        raise _kind(uri, error) from error
    except ModuleNotFoundError as error:
        raise Misconfigured(
            f"tracking.uri {_shown(uri)} needs a package that is not installed; found: {error}"
        ) from error


def _kind(uri: str, error: Exception) -> TidegateError:
    """`NotReady` where MLflow or its database may answer later, `Misconfigured` where waiting changes nothing.

    A disk that is full or closed is of the kind it is everywhere (`of_the_disk`).
    """
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy import exc

    at, found = _shown(uri), _shown(uri, one_line(error, most=300))
    if (disk := of_the_disk(error)) is not None:
        return disk
    comes_back = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError, sqlite3.OperationalError)
    of_database = [e for e in causes(error) if isinstance(e, exc.SQLAlchemyError | sqlite3.Error | CommandError)]
    if any(isinstance(e, exc.IntegrityError) for e in of_database):
        return NotReady(f"MLflow at {at} must not be written to by another in the same moment; found: {found}")
    stays = any(not isinstance(e, comes_back) or any(word in str(e) for word in STAYS) for e in of_database)
    if stays or OUTDATED in str(error):
        return Misconfigured(f"tracking.uri {at} must be a database of this MLflow and open to us; found: {found}")
    if isinstance(error, MlflowException) and not of_database and error.error_code not in WORTH_WAITING:
        return Misconfigured(f"MLflow at {at} must accept what is logged; it said: {found}")
    return NotReady(f"MLflow must answer at {at}; found: {found}")


def _shown(uri: str, text: str | None = None) -> str:
    """A text about an address, by default itself, without the address's password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    text = uri if text is None else text
    try:
        password = make_url(uri).password
    except ArgumentError:
        return text
    return text.replace(password, "***") if password else text


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
            raise NotReady(f"MLflow's database {path} must be whole; found one that was being made a moment ago")
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


def _experiment(client: Any, config: Config) -> str:
    """The experiment's id; whoever comes first creates it, everybody else finds it."""
    from mlflow.exceptions import MlflowException

    name = config.tracking.experiment
    found = client.get_experiment_by_name(name)
    if found is None:
        # A server keeps artifacts where it was told to; with a bare database it is ours to say.
        local = "://" in config.tracking.uri and not config.tracking.uri.startswith("http")
        location = config.tracking.artifacts.resolve().as_uri() if local else None
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    return str(found.experiment_id)


def _batch(
    client: Any,
    run_id: str,
    metrics: Mapping[str, float],
    params: Mapping[str, object] | None = None,
    tags: Mapping[str, str] | None = None,
    curve: Sequence[Point] = (),
) -> None:
    """All in as few commits as MLflow allows: one each used to cost three seconds a run."""
    from mlflow.entities import Metric, Param, RunTag

    at = int(time.time() * 1000)
    points = [Point(0, metrics), *curve]
    figures = [Metric(name, value, at, point.step) for point in points for name, value in point.metrics.items()]
    told = [RunTag(name, text) for name, text in (tags or {}).items()]
    given = [Param(name, str(value)) for name, value in (params or {}).items()]
    client.log_batch(run_id, figures[:FIRST_METRICS], given[:MOST_PARAMS], told)
    for first in range(MOST_PARAMS, len(given), MOST_PARAMS):
        client.log_batch(run_id, params=given[first : first + MOST_PARAMS])
    for first in range(FIRST_METRICS, len(figures), MOST_METRICS):
        client.log_batch(run_id, metrics=figures[first : first + MOST_METRICS])


def _log_input(client: Any, run_id: str, data: Dataset) -> None:
    """As `mlflow.data` writes a version of a Delta table down, without the Spark session that it would ask for."""
    from mlflow.entities import Dataset as Entity
    from mlflow.entities import DatasetInput, InputTag

    source = json.dumps({"path": str(data.path), "delta_table_version": data.version})
    entity = Entity(data.name, data.digest[:36], "delta_table", source, profile=json.dumps(dict(data.profile)))
    client.log_inputs(run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])


def _registered_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _finished(client: Any, experiment: str, candidate_id: str, bundle_sha256: str) -> str | None:
    wanted = (
        f"tags.candidate_id = '{candidate_id}' and tags.bundle_sha256 = '{bundle_sha256}' "
        "and attributes.status = 'FINISHED'"
    )
    found = client.search_runs([experiment], wanted, max_results=1, order_by=["attributes.start_time ASC"])
    return str(found[0].info.run_id) if found else None


def _version(client: Any, name: str, candidate_id: str, bundle_sha256: str | None) -> int | None:
    wanted = f"name = '{name}' and tags.candidate_id = '{candidate_id}'"
    if bundle_sha256 is not None:
        wanted += f" and tags.bundle_sha256 = '{bundle_sha256}'"
    return max((int(v.version) for v in client.search_model_versions(wanted)), default=None)
