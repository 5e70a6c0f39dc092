"""SageMaker's training jobs as far as `train` knows them: each really runs, with nothing but what it was given.

Requests and answers are held against botocore's own service model. A managed spot instance is taken away, with
SIGKILL, as soon as a file of a name is there, and the job is begun again.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import botocore.session

from jobs.config import ROOT
from tests.infra.endpoint.service_model import body_conforms

GIVEN = ("PATH", "HOME", "LANG", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""What an image has of its own, and the keys that its role is."""


@dataclass
class TrainingJob:
    """One that was asked for, and how it stands."""

    request: dict[str, Any]
    status: str = "InProgress"
    phase: str = "Starting"
    reason: str = ""
    tries: int = 0
    log: Path = Path()


@dataclass
class Platform:
    """The jobs of an account."""

    folder: Path
    url: str = ""
    jobs: dict[str, TrainingJob] = field(default_factory=dict)
    taken_away_at: Any = None
    """Asked with the log of a job on spot; True takes its instance away, once."""
    ends: dict[str, Any] | None = None
    """How the next job ends without running: status, phase, reason."""

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["TrainingJobName"]
        job = self.jobs[name] = TrainingJob(request, log=self.folder / f"{name}.log")
        if self.ends is None:
            threading.Thread(target=self._run, args=(job,), daemon=True).start()
        else:
            job.status, job.phase, job.reason = self.ends["status"], self.ends["phase"], self.ends["reason"]
        return {"TrainingJobArn": arn(name)}

    def _run(self, job: TrainingJob) -> None:
        algorithm = job.request["AlgorithmSpecification"]
        command = [sys.executable, *algorithm["ContainerEntrypoint"][1:], *algorithm["ContainerArguments"]]
        environ = {name: os.environ[name] for name in GIVEN if name in os.environ} | job.request["Environment"]
        spot = job.request["EnableManagedSpotTraining"]
        while True:
            job.tries += 1
            with job.log.open("a") as log:
                container = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)
            job.phase = "Training"
            while container.poll() is None:
                if spot and job.tries == 1 and self.taken_away_at(job.log.read_text()):
                    job.phase = "Interrupted"
                    container.kill()
                time.sleep(0.02)
            if not (spot and job.tries == 1 and container.returncode == -9):
                break
        job.phase = job.status = "Failed" if container.returncode else "Completed"
        job.reason = f"AlgorithmError: , exit code: {container.returncode}" if container.returncode else ""

    def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["TrainingJobName"]
        job = self.jobs[name]
        return {
            **summary(name, job),
            "SecondaryStatus": job.phase,
            "AlgorithmSpecification": job.request["AlgorithmSpecification"],
            "ResourceConfig": job.request["ResourceConfig"],
            "StoppingCondition": job.request["StoppingCondition"],
            "ModelArtifacts": {"S3ModelArtifacts": job.request["OutputDataConfig"]["S3OutputPath"]},
            **({"FailureReason": job.reason} if job.reason else {}),
        }

    def list(self, request: dict[str, Any]) -> dict[str, Any]:
        found = [summary(name, job) for name, job in self.jobs.items() if request["NameContains"] in name]
        return {"TrainingJobSummaries": found[::-1]}


def arn(name: str) -> str:
    return f"arn:aws:sagemaker:eu-central-1:000000000000:training-job/{name}"


def summary(name: str, job: TrainingJob) -> dict[str, Any]:
    return {
        "TrainingJobName": name,
        "TrainingJobArn": arn(name),
        "CreationTime": 1_768_000_000,
        "TrainingJobStatus": job.status,
    }


@contextmanager
def serving(folder: Path) -> Iterator[Platform]:
    """On a free port of this machine."""
    platform = Platform(folder)
    calls = {
        "CreateTrainingJob": platform.create,
        "DescribeTrainingJob": platform.describe,
        "ListTrainingJobs": platform.list,
    }
    model = botocore.session.get_session().get_service_model("sagemaker")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            name = self.headers["X-Amz-Target"].partition(".")[2]
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            operation = model.operation_model(name)
            body_conforms(operation.input_shape, request)
            answer = calls[name](request)
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    platform.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield platform
    finally:
        server.shutdown()
        thread.join()
