"""`train` as a training job: the very command elsewhere, told of here as if it had run here."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from jobs import config
from jobs.config import Config
from jobs.errors import Crashed, Misconfigured, NotReady, Refused, TidegateError
from jobs.lake.store import Lake
from jobs.train import job, on_sagemaker
from tests import mlflow_server, moto_server
from tests.jobs.small_lake import DAY, World, a_run, publish_all, settings
from tests.jobs.train import training_platform
from tests.jobs.train.training_platform import Platform

NAME = f"tidegate-train-full-{DAY}"
QUICK = {
    "RANKER__KINDS": '["popularity", "logistic", "xgboost"]',
    "RANKER__LOGISTIC__STEPS": "5",
    "RANKER__XGBOOST__ROUNDS": "8",
}


@dataclass
class Team:
    """A team whose lake is on S3 and whose SageMaker answers at an address of this machine."""

    platform: Platform
    patch: pytest.MonkeyPatch

    def settings(self, **more: str) -> Config:
        for name, value in more.items():
            self.patch.setenv(f"TIDEGATE__{name.upper()}", value)
        return config.load()


@pytest.fixture
def team(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    local = settings(tmp_path, tmp_path_factory.getbasetemp())
    with (
        moto_server.serving() as moto,
        training_platform.serving(tmp_path) as platform,
        pytest.MonkeyPatch.context() as patch,
        mlflow_server.serving(local.tracking, patch) as tracking,
    ):
        for name, value in {
            **moto.bucket("team"),
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "TIDEGATE_ENV": "test",
            "TIDEGATE__LAKE__ROOT": "s3://team/lake",
            "TIDEGATE__BUNDLES": "s3://team/bundles",
            "TIDEGATE__LAKE__RUNS": str(tmp_path / "runs"),
            "TIDEGATE__TRACKING__URI": tracking.uri,
            "TIDEGATE__TRACKING__ARTIFACTS": str(tracking.artifacts),
            "TIDEGATE__SOURCE__URL": "postgresql://of-a-team/secret",
            "TIDEGATE__TRAINING": json.dumps({"instance_type": "ml.m5.xlarge", "url": platform.url}),
            **{f"TIDEGATE__{key}": text for key, text in QUICK.items()},
        }.items():
            patch.setenv(name, value)
        yield Team(platform, patch)


def test_it_reports_what_a_training_here_would(team: Team) -> None:
    """The lake has the candidates, who waited has the figures; a rerun is a job of its own, whose first bytes hold."""
    of = team.settings(training__spot="true")
    publish_all(of, World(), n=100)
    team.platform.taken_away_at = lambda log: "xgboost" in log and "logistic" in log
    run = a_run("train", of)
    report = job.run(run)
    rows = Lake(of.lake.root).read("candidates", [DAY]).to_pylist()
    assert report["chosen"] in {row["candidate_id"] for row in rows}
    assert run.rows >= len(rows) == 3
    spot = team.platform.jobs[f"{NAME}-1"]
    assert spot.tries == 2, "its instance was taken away once"
    assert "was finished by a try that was ended" in spot.log.read_text()
    assert "secret" not in json.dumps(spot.request)
    assert "TIDEGATE__SOURCE__URL" not in spot.request["Environment"]

    team.patch.setenv("TIDEGATE__TRAINING__SPOT", "false")
    here = job.run(a_run("train", team.settings(training__instance_type="null")))
    again = Lake(of.lake.root).read("candidates", [DAY]).to_pylist()
    assert {row["bundle_sha256"] for row in again} == {row["bundle_sha256"] for row in rows}
    assert {name: here[name] for name in ("chosen", "validation")} == {
        name: report[name] for name in ("chosen", "validation")
    }


def test_a_refusal_there_is_a_refusal_here(team: Team) -> None:
    """With its sentence and its kind, so that Airflow waits for a day that has not come and tries nothing in vain."""
    with pytest.raises(NotReady, match=r"examples.*\(training job tidegate-train-full-.*-1\)"):
        job.run(a_run("train", team.settings()))
    with pytest.raises(NotReady, match=r"-2\)"):
        job.run(a_run("train", team.settings()))


def test_one_that_runs_is_waited_for_and_no_second_begun(team: Team) -> None:
    """Who waits may be killed and come again."""
    run = a_run("train", team.settings())
    name = on_sagemaker.TrainingJobs(run).begin(None)
    with pytest.raises(NotReady, match=rf"\(training job {name}\)"):
        job.run(run)
    assert list(team.platform.jobs) == [name]


@pytest.mark.parametrize(
    ("ends", "kind", "says"),
    [
        (("Failed", "Failed", "CapacityError: no ml.m5.xlarge"), NotReady, "no ml.m5.xlarge"),
        (("Failed", "Failed", "InternalServerError: try again"), NotReady, "try again"),
        (("Failed", "Failed", "ClientError: no such image"), Misconfigured, "no such image"),
        (("Failed", "Failed", "AlgorithmError: , exit code: 137"), Crashed, "exit code: 137"),
        (("Stopped", "MaxRuntimeExceeded", ""), NotReady, "begun again it goes on"),
        (("Stopped", "MaxWaitTimeExceeded", ""), NotReady, "begun again it goes on"),
        (("Stopped", "Stopped", ""), Refused, "found Stopped"),
        (("Completed", "Completed", ""), Crashed, "found Completed"),
    ],
)
def test_what_sagemaker_says_has_a_kind(
    team: Team, ends: tuple[str, str, str], kind: type[TidegateError], says: str
) -> None:
    """A job that left no word of its own; one that completed without one is no success."""
    team.platform.ends = dict(zip(("status", "phase", "reason"), ends, strict=True))
    with pytest.raises(kind, match=says):
        job.run(a_run("train", team.settings()))


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TIDEGATE__BUNDLES", "{}/bundles", "found bundles here"),
        ("TIDEGATE__LAKE__ROOT", "{}/lake", "found lake.root here"),
        ("TIDEGATE__TRACKING__URI", "sqlite:///{}/mlflow.db", "found tracking.uri here"),
        ("TIDEGATE__DATASET__WITHOUT_SURFACES", json.dumps(["long" * 200]), "DATASET__WITHOUT_SURFACES longer: put"),
    ],
)
def test_what_no_other_machine_can_reach_begins_nothing(
    team: Team, tmp_path: Path, name: str, value: str, says: str
) -> None:
    team.patch.setenv(name, value.format(tmp_path))
    with pytest.raises(Misconfigured, match=says):
        job.run(a_run("train", team.settings()))
    assert not team.platform.jobs


def test_a_job_of_ours_is_one_to_sagemaker_s_own_twin(team: Team) -> None:
    """moto keeps what a training job was begun with."""
    of = team.settings(training__url=os.environ["AWS_ENDPOINT_URL"], training__spot="true")
    name = on_sagemaker.TrainingJobs(a_run("train", of)).begin(None)
    twin: Any = boto3.client("sagemaker", endpoint_url=os.environ["AWS_ENDPOINT_URL"], **moto_server.KEYS)
    found = twin.describe_training_job(TrainingJobName=name)
    assert found["AlgorithmSpecification"]["ContainerArguments"][:1] == ["train"]
    assert found["StoppingCondition"]["MaxWaitTimeInSeconds"] >= found["StoppingCondition"]["MaxRuntimeInSeconds"]
