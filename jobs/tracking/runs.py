"""Runs: one of each training, below it one of each of its rankers, which is a model too."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jobs.config import Config
from jobs.places import Place
from jobs.tracking import owner
from jobs.tracking.client import reached
from jobs.tracking.saved import Rows, saved

TRAINING, PARENT = "training", "mlflow.parentRunId"
"""Tags: the name of a training on its run, and its run's id on those of its rankers, which MLflow shows below it."""
REPLACED = "replaced"
"""Follows the name of a ranker that was trained again on other bytes: a name is of one thing."""
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Tag of the experiment. Without it MLflow takes it for one of prompts and traces, and shows no runs at first."""
AS_MODELS = "workflowType=machine_learning"
"""In a link: MLflow shows runs and models, whatever its reader looked at before."""
EVIDENCE = "evidence"
"""The folder of a run's artifacts that holds its evidence pack."""
MOST_METRICS, MOST_PARAMS, FIRST_METRICS = 1_000, 100, 800
"""Of one call of MLflow's; with parameters and tags beside them at most the last."""


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


def begin_training(config: Config, name: str, tags: Mapping[str, str], began: datetime) -> str:
    """The id of the run that the rankers of one training are children of; a retried training finds its own again.

    Raises `NotReady` when MLflow cannot be reached.
    """
    with reached(config) as client:
        experiment = _experiment(client, config)
        wanted = f"tags.{TRAINING} = '{name}'"
        found = client.search_runs([experiment], wanted, max_results=1, order_by=["attributes.start_time ASC"])
        if found:
            return str(found[0].info.run_id)
        run = client.create_run(experiment, _ms(began), {**tags, TRAINING: name}, run_name=name)
        return str(run.info.run_id)


def end_training(
    config: Config, run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str], data: Dataset | None = None
) -> None:
    """What came of it: the figures of its challenger, so that a table of trainings compares weeks."""
    with reached(config) as client:
        _batch(client, run_id, metrics, tags=tags)
        if data is not None:
            _log_input(client, run_id, data)
        client.set_terminated(run_id)


def log_ranker(
    config: Config,
    candidate_id: str,
    bundle: Place,
    rows: Rows | None,
    params: Mapping[str, object],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    parent: str | None = None,
    curve: Sequence[Point] = (),
    data: Dataset | None = None,
    took: tuple[datetime, datetime] | None = None,
) -> str:
    """The id of the finished run of the ranker of `bundle`, with its model; `tags` must carry `bundle_sha256`.

    `rows` are what it is asked and says, None where there is nothing to show: the model then is files alone. `parent`
    is the run of its training, `curve` what was measured while it learned, `data` what it learned from, `took`
    from when to when. Raises `NotReady` when MLflow cannot be reached.
    """
    told = {**tags, "candidate_id": candidate_id} | ({PARENT: parent} if parent else {})
    with reached(config) as client:
        experiment = _experiment(client, config)
        run = _finished(client, experiment, candidate_id, tags["bundle_sha256"])
        if run is not None:
            _batch(client, run, {}, tags=told)
            return run
        began = None if took is None else _ms(took[0])
        written_by = {owner.OWNER: owner.me()}
        run = str(client.create_run(experiment, began, told | written_by, run_name=candidate_id).info.run_id)
        given = {name: str(value) for name, value in params.items()}
        model = client.create_logged_model(experiment, candidate_id, run, told, given)
        _batch(client, run, metrics, given, curve=curve, model=model.model_id)
        if data is not None:
            _log_input(client, run, data)
        _log_model(client, run, model.model_id, bundle, rows)
        # Last: only a finished run is ever found again.
        client.set_terminated(run, end_time=None if took is None else _ms(took[1]))
        return run


def log_figures(config: Config, run_id: str, metrics: Mapping[str, float]) -> None:
    """What was found of a ranker later: on its run, and on its model."""
    with reached(config) as client:
        _figures(client, run_id, metrics)


def log_evidence(config: Config, run_id: str, metrics: Mapping[str, float], files: Mapping[str, str]) -> None:
    """The run of the challenger carries the figures, one commit, and under `EVIDENCE` the files of the pack; the run of
    its training has the figures too, so that a table of trainings compares weeks.

    They take the place of older ones by name; MLflow keeps an older verdict, which says which document it is on.
    """
    with reached(config) as client:
        _figures(client, run_id, metrics)
        if parent := client.get_run(run_id).data.tags.get(PARENT):
            _batch(client, parent, metrics)
        for name, content in files.items():
            client.log_text(run_id, content, f"{EVIDENCE}/{name}")


def artifact_url(config: Config, run_id: str, path: str) -> str | None:
    """Where a browser finds an artifact of a run; None where MLflow is a database without a server."""
    uri = config.tracking.uri.rstrip("/")
    if not uri.startswith("http"):
        return None
    with reached(config) as client:
        experiment = client.get_run(run_id).info.experiment_id
        return f"{uri}/#/experiments/{experiment}/runs/{run_id}/artifacts/{path}?{AS_MODELS}"


def models_url(config: Config) -> str:
    """Where a browser finds every model that was trained; `tracking.uri` is a server's."""
    with reached(config) as client:
        return f"{config.tracking.uri.rstrip('/')}/#/experiments/{_experiment(client, config)}/models?{AS_MODELS}"


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
            return str(client.create_experiment(name, artifact_location=location, tags=KIND))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    return str(found.experiment_id)


def _finished(client: Any, experiment: str, candidate_id: str, bundle_sha256: str) -> str | None:
    """The finished run of these very bytes, None where there is none.

    Other runs of the candidate are put in order: what was trained on other bytes is called so, and of one that is not
    finished see `_unfinished`. Two trainings at a time may leave two finished runs of the same bytes; the first counts.
    """
    found = client.search_runs(
        [experiment], f"tags.candidate_id = '{candidate_id}'", order_by=["attributes.start_time ASC"]
    )
    finished: str | None = None
    for run in found:
        if run.info.status != "FINISHED":
            _unfinished(client, experiment, run)
        elif run.data.tags.get("bundle_sha256") == bundle_sha256:
            finished = finished or str(run.info.run_id)
        elif run.info.run_name == candidate_id:
            client.update_run(run.info.run_id, name=f"{candidate_id}, {REPLACED}")
            client.set_tag(run.info.run_id, REPLACED, "true")
    return finished


def _unfinished(client: Any, experiment: str, run: Any) -> None:
    """Delete a run, and its model, whose process has ended; leave that of a live one as it is.

    Where nobody here can know, MLflow shows the run as killed: one that lives after all still finishes it.
    """
    has_ended = owner.ended(run.data.tags.get(owner.OWNER))
    if has_ended:
        for model in client.search_logged_models([experiment], f"source_run_id = '{run.info.run_id}'"):
            client.delete_logged_model(model.model_id)
        client.delete_run(run.info.run_id)
    elif has_ended is None and run.info.status == "RUNNING":
        client.set_terminated(run.info.run_id, "KILLED")


def _batch(
    client: Any,
    run_id: str,
    metrics: Mapping[str, float],
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    curve: Sequence[Point] = (),
    model: str | None = None,
) -> None:
    """All in as few commits as MLflow allows: one each used to cost three seconds a run."""
    from mlflow.entities import Metric, Param, RunTag

    at = int(time.time() * 1000)
    figures = [Metric(name, value, at, 0, model_id=model) for name, value in metrics.items()]
    figures += [Metric(name, value, at, point.step) for point in curve for name, value in point.metrics.items()]
    told = [RunTag(name, text) for name, text in (tags or {}).items()]
    given = [Param(name, value) for name, value in (params or {}).items()]
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


def _log_model(client: Any, run_id: str, model_id: str, bundle: Place, rows: Rows | None) -> None:
    """The model's files, and that the run made it; only then it is ready."""
    from mlflow.entities import LoggedModelOutput

    with saved(model_id, run_id, bundle, rows) as folder:
        client.log_model_artifacts(model_id, str(folder))
    client.finalize_logged_model(model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])


def _figures(client: Any, run_id: str, metrics: Mapping[str, float]) -> None:
    outputs = client.get_run(run_id).outputs
    made = outputs.model_outputs if outputs is not None else []
    _batch(client, run_id, metrics, model=made[0].model_id if made else None)


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
