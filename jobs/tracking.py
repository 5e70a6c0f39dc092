"""MLflow: every ranker a run, every verdict a model version, one alias for who is champion. Only this file imports it.

The lake stays the record; MLflow is for people to look at. Each call is safe to repeat: the run of a bundle is found by
its candidate and sha256, a model version likewise, so a retried stage adds nothing twice.
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs.config import Config
from jobs.errors import Misconfigured, NotReady, Refused

ALIAS = "champion"
EVIDENCE = "evidence"
"""The folder of a run's artifacts that holds its evidence pack."""
OUR_FAULT = ("INVALID_PARAMETER_VALUE", "PERMISSION_DENIED", "UNAUTHENTICATED", "BAD_REQUEST")
"""Answers that no retry changes; anything else counts as a server that is down or busy."""
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A stage that cannot reach MLflow ends as `NotReady` in seconds; the orchestrator has the patience.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def log_ranker(
    config: Config,
    candidate_id: str,
    bundle: Path,
    params: Mapping[str, object],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
) -> str:
    """The id of the finished run that holds the ranker of `bundle`; `tags` must carry `bundle_sha256`.

    Raises `NotReady` when MLflow cannot be reached.
    """
    with _reached(config) as client:
        experiment = _experiment(client, config)
        run = _finished(client, experiment, candidate_id, tags["bundle_sha256"])
        if run is None:
            run = client.create_run(experiment, run_name=candidate_id).info.run_id
            for name, value in params.items():
                client.log_param(run, name, value)
            for name, figure in metrics.items():
                client.log_metric(run, name, figure)
            client.log_artifacts(run, str(bundle), "bundle")
        for name, text in {**tags, "candidate_id": candidate_id}.items():
            client.set_tag(run, name, text)
        # Last: only a finished run is ever found again.
        client.set_terminated(run)
        return str(run)


def log_evidence(config: Config, run_id: str, metrics: Mapping[str, float], files: Mapping[str, str]) -> None:
    """The run of the challenger carries the figures, one commit, and under `EVIDENCE` the files of the pack.

    They take the place of older ones by name; MLflow keeps an older verdict, which says which document it is on.
    """
    with _reached(config) as client:
        from mlflow.entities import Metric

        at = int(time.time() * 1000)
        client.log_batch(run_id, metrics=[Metric(name, figure, at, 0) for name, figure in metrics.items()])
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


def register(config: Config, run_id: str, candidate_id: str, bundle_sha256: str, verdict: str) -> int:
    """The model version of this bundle, with the verdict as a tag; the alias stays where it is."""
    with _reached(config) as client:
        name = config.tracking.model
        _registered_model(client, name)
        version = _version(client, name, candidate_id, bundle_sha256)
        if version is None:
            source = f"{client.get_run(run_id).info.artifact_uri}/bundle"
            tags = {"candidate_id": candidate_id, "bundle_sha256": bundle_sha256}
            version = int(client.create_model_version(name, source, run_id, tags=tags).version)
        client.set_model_version_tag(name, str(version), "verdict", verdict)
        return version


def move_champion(config: Config, candidate_id: str, bundle_sha256: str | None = None) -> int:
    """The alias `champion` points at the newest version of this candidate; returns that version.

    Raises `Refused` when `promote` never registered it.
    """
    with _reached(config) as client:
        name = config.tracking.model
        version = _version(client, name, candidate_id, bundle_sha256)
        if version is None:
            raise Refused(f"the alias {ALIAS} needs a registered version of {candidate_id} in {name}; found none")
        client.set_registered_model_alias(name, ALIAS, str(version))
        return version


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
    """A quiet client; what goes wrong on the way to MLflow becomes `NotReady`, a wrong setting `Misconfigured`."""
    for name, value in QUIET.items():  # MLflow reads these from nowhere else
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    for noisy in ("mlflow", "alembic"):  # after the import, which sets its own level
        logging.getLogger(noisy).setLevel(logging.WARNING)

    uri = config.tracking.uri
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    try:
        yield MlflowClient(tracking_uri=uri, registry_uri=uri)
    except MlflowException as error:
        if error.error_code in OUR_FAULT:
            raise Misconfigured(f"MLflow at {uri} must accept what is logged; it said: {error}") from error
        raise NotReady(f"MLflow must answer at {uri}; found: {_first_line(error)}") from error
    except (SQLAlchemyError, OSError) as error:
        raise NotReady(f"MLflow must answer at {uri}; found: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:300]


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
