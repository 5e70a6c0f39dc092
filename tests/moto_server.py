"""S3, CloudWatch and application autoscaling as moto serves them over HTTP, for unmodified boto3 clients."""

import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3

from infra.stack.s3 import atomic_puts

KEYS = {"region_name": "eu-central-1", "aws_access_key_id": "local", "aws_secret_access_key": "local"}


class Moto:
    """A server and clients of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.s3 = self.client("s3")
        self.cloudwatch = self.client("cloudwatch")
        self.autoscaling = self.client("application-autoscaling")

    def bucket(self, name: str) -> dict[str, str]:
        """A bucket of that name is there; returns the variables by which everybody finds it."""
        self.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": KEYS["region_name"]})
        return {"AWS_ENDPOINT_URL": self.url, "AWS_REGION": KEYS["region_name"]}

    def objects(self, bucket: str) -> dict[str, bytes]:
        """All that is in a bucket, by its key."""
        return {key: found.value for key, found in _backend().get_bucket(bucket).keys.items()}

    def restore(self, bucket: str, objects: dict[str, bytes]) -> None:
        """A bucket has these objects and no others."""
        there = self.objects(bucket)
        for key in set(there) - set(objects):
            _backend().delete_object(bucket, key)
        for key, content in objects.items():
            if there.get(key) != content:
                _backend().put_object(bucket, key, content)

    def client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.url, **KEYS)

    def alarm(self, name: str, state: str | None = None) -> str:
        """An alarm of that name, in a state where one is given."""
        self.cloudwatch.put_metric_alarm(
            AlarmName=name,
            Namespace="AWS/SageMaker",
            MetricName="Invocation5XXErrors",
            Statistic="Average",
            Period=60,
            EvaluationPeriods=1,
            Threshold=0.01,
            ComparisonOperator="GreaterThanThreshold",
            TreatMissingData="missing",
        )
        self.say(name, state or "INSUFFICIENT_DATA")
        return name

    def say(self, name: str, state: str) -> None:
        self.cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="the test says so")


def _backend() -> Any:
    """What moto's server of this process knows of S3."""
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Moto]:
    """A server that knows nothing yet, on a free port of this machine; with `tls` it speaks nothing else."""
    from moto.server import ThreadedMotoServer

    atomic_puts()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        # What moto knows is of the process, not of the server.
        with urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST"), timeout=30):
            pass
        if tls is not None:
            assert server._server is not None
            server._server.socket = tls.wrap_socket(server._server.socket, server_side=True)
            url = f"https://{host}:{port}"
        yield Moto(url)
    finally:
        server.stop()
