"""`train` as a training job of SageMaker: the very command in the image `tidegate-jobs`, begun, waited for, told of.

The job reads the lake and publishes to it as a process here would. What it says in the end lies beside the bundles, for
whoever waits. One that still runs is waited for and no second one begun: who waits may be killed. Finished rankers
lie beside the bundles as well (`jobs.train.finished`), so that a spot instance that is taken away costs what was under
way.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jobs import aws, config
from jobs.errors import KINDS, Crashed, Misconfigured, NotReady, Refused, TidegateError, kind_of, told
from jobs.lake.run import Run
from jobs.lake.swap import write_whole
from jobs.places import Place, S3Path

DELAY_SECONDS = 20.0
LOCAL_DELAY_SECONDS = 0.2
UNDER_WAY = ("InProgress", "Stopping")
OUT_OF_TIME = ("MaxRuntimeExceeded", "MaxWaitTimeExceeded", "Interrupted")
"""How a job was stopped that goes on where it was when it is begun again."""
MOST_VARIABLES, MOST_CHARACTERS = 100, 512
"""SageMaker's limits on a job's environment."""
OURS = re.compile(rf"({'|'.join(kind.__name__ for kind in KINDS)}): (.*)", re.DOTALL)


def trained(run: Run) -> dict[str, Any]:
    """What the training job of this day and mode reported in the end; raises what ended it."""
    job = TrainingJobs(run)
    name, known = job.newest()
    if name is None or known not in UNDER_WAY:
        name = job.begin(name)
    run.say(f"training job {name}; its log: CloudWatch, /aws/sagemaker/TrainingJobs")
    found = job.ended(name)
    report = _report(run.config.bundles, name)
    if found["TrainingJobStatus"] == "Completed" and report is not None and "report" in report:
        run.rows += int(report["rows"])
        answer: dict[str, Any] = report["report"]
        return answer
    raise _failure(name, found, report)


@contextmanager
def reporting(run: Run) -> Iterator[dict[str, Any]]:
    """Of a process that is a training job: what is put in here, or what it ends with, is read by `trained`."""
    answer: dict[str, Any] = {}
    name = run.config.training.job
    try:
        yield answer
    except Exception as error:
        if name is not None:
            _write(run.config.bundles, name, {"failed": told(kind_of(error))})
        raise
    if name is not None:
        _write(run.config.bundles, name, {"report": answer, "rows": run.rows})


class TrainingJobs:
    """Those of a day and mode."""

    def __init__(self, run: Run) -> None:
        self._run, self._settings = run, run.config.training
        own = self._settings
        self._client = aws.client("sagemaker", run.config.endpoint.region, own.url, "training.url")
        self._who = aws.named("sagemaker", own.url)
        self._delay = LOCAL_DELAY_SECONDS if aws.is_local(own.url) else DELAY_SECONDS
        self._prefix = f"{run.config.endpoint.name}-train-{run.mode}-{run.day}"

    def newest(self) -> tuple[str | None, str]:
        """Name and status of the last one begun."""
        with aws.reached(self._who):
            found = self._client.list_training_jobs(
                NameContains=self._prefix, SortBy="CreationTime", SortOrder="Descending", MaxResults=100
            )["TrainingJobSummaries"]
        tries = {int(one["TrainingJobName"].rpartition("-")[2]): one for one in found if self._is_ours(one)}
        if not tries:
            return None, ""
        last = tries[max(tries)]
        return last["TrainingJobName"], last["TrainingJobStatus"]

    def _is_ours(self, summary: dict[str, Any]) -> bool:
        return re.fullmatch(rf"{re.escape(self._prefix)}-\d+", summary["TrainingJobName"]) is not None

    def begin(self, last: str | None) -> str:
        """The next one exists; raises `NotReady` where somebody else began it at the same moment."""
        number = 1 if last is None else int(last.rpartition("-")[2]) + 1
        name = f"{self._prefix}-{number}"
        with aws.reached(self._who):
            self._client.create_training_job(**self._request(name))
        return name

    def _request(self, name: str) -> dict[str, Any]:
        own, run = self._settings, self._run
        seconds = run.config.timeouts.of("train") * 60
        limits = {"MaxRuntimeInSeconds": seconds}
        if own.spot:
            limits["MaxWaitTimeInSeconds"] = max(seconds, own.most_wait_minutes * 60)
        return {
            "TrainingJobName": name,
            "RoleArn": own.role,
            "AlgorithmSpecification": {
                "TrainingImage": own.image,
                "TrainingInputMode": "File",
                "ContainerEntrypoint": ["python", "-m", "jobs"],
                "ContainerArguments": ["train", "--day", run.day.isoformat(), "--mode", run.mode],
            },
            "OutputDataConfig": {"S3OutputPath": str(_on_s3(run.config) / ".training")},
            "ResourceConfig": {
                "InstanceType": own.instance_type,
                "InstanceCount": 1,
                "VolumeSizeInGB": own.volume_gb,
            },
            "EnableManagedSpotTraining": own.spot,
            "StoppingCondition": limits,
            "Environment": _environment(run.config, name),
        }

    def ended(self, name: str) -> dict[str, Any]:
        """The job's description once it runs no more, each of its phases said once."""
        phase = ""
        while True:
            with aws.reached(self._who):
                found: dict[str, Any] = self._client.describe_training_job(TrainingJobName=name)
            if found["SecondaryStatus"] != phase:
                phase = found["SecondaryStatus"]
                self._run.say(f"{name}: {phase}")
            if found["TrainingJobStatus"] not in UNDER_WAY:
                return found
            time.sleep(self._delay)


def _on_s3(settings: config.Config) -> S3Path:
    """The bundles' place; raises `Misconfigured` naming what a machine elsewhere could not reach."""
    here = [
        name for name, place in (("lake.root", settings.lake.root), ("bundles", settings.bundles))
        if not isinstance(place, S3Path)
    ]  # fmt: skip
    if not settings.tracking.uri.startswith(("http://", "https://")):
        here.append("tracking.uri")
    if here or not isinstance(settings.bundles, S3Path):
        raise Misconfigured(
            f"a training job needs lake and bundles on S3 and MLflow at an address; found {', '.join(here)} here"
        )
    return settings.bundles


def _environment(settings: config.Config, name: str) -> dict[str, str]:
    """The settings as this process was given them, by which the job knows that it is one."""
    found = {
        **config.said(settings),
        "TIDEGATE__TRAINING__INSTANCE_TYPE": "null",
        "TIDEGATE__TRAINING__JOB": name,
        **{name: os.environ[name] for name in ("AWS_REGION", "AWS_ENDPOINT_URL") if name in os.environ},
    }
    found.pop("TIDEGATE__TRAINING", None)
    long = sorted(name for name, text in found.items() if len(text) > MOST_CHARACTERS)
    if long or len(found) > MOST_VARIABLES:
        what = f"{', '.join(long)} longer" if long else f"{len(found)} variables"
        raise Misconfigured(
            f"a training job takes {MOST_VARIABLES} variables of {MOST_CHARACTERS} characters; found {what}:"
            " put settings into infra/env of its image"
        )
    return found


def _failure(name: str, found: dict[str, Any], report: dict[str, Any] | None) -> TidegateError:
    """What ended a job, by its own last word, else by SageMaker's."""
    if report is not None and (said := OURS.fullmatch(report.get("failed", ""))):
        kinds = {kind.__name__: kind for kind in KINDS}
        return kinds[said[1]](f"{said[2]} (training job {name})")
    status, phase, reason = (found.get(key, "") for key in ("TrainingJobStatus", "SecondaryStatus", "FailureReason"))
    sentence = f"training job {name} must end well; found {status}, {phase}: {reason or 'no reason'}"
    if status == "Stopped":
        again = phase in OUT_OF_TIME
        return NotReady(f"{sentence}; begun again it goes on") if again else Refused(sentence)
    if reason.startswith(("CapacityError", "InternalServerError")):
        return NotReady(sentence)
    return Misconfigured(sentence) if reason.startswith("ClientError") else Crashed(sentence)


def _path(bundles: Place, name: str) -> Place:
    return bundles / f".trained-{name}.json"


def _write(bundles: Place, name: str, content: dict[str, Any]) -> None:
    write_whole(_path(bundles, name), json.dumps(content, default=str).encode())


def _report(bundles: Place, name: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(_path(bundles, name).read_bytes())
    except FileNotFoundError:
        return None
    return found
