"""An endpoint behind boto3: the same calls reach AWS or the local endpoint, one URL decides.

Not yet: uploading the bundle to S3 (the model's data is the bundle's folder, which only the local endpoint can read),
the execution role and image of a real account, shadow and canary traffic.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from jobs.config import EndpointSettings
from jobs.deployments.release import Release
from jobs.errors import Misconfigured, NotReady, Refused
from jobs.serving import aws_errors
from jobs.serving.answer import Answer, answer_of

SHA256_VARIABLE = "TIDEGATE_BUNDLE_SHA256"
IMAGE = "tidegate-serving"
ROLE = "arn:aws:iam::000000000000:role/tidegate"
INSTANCE = "ml.m5.large"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LOCAL_DELAY_SECONDS, AWS_DELAY_SECONDS, PATIENCE_SECONDS = 0.2, 10.0, 1800
SMOKE_TRIES = 5
"""A machine that is busy may miss the timer once; a bundle that cannot answer misses it every time."""
SETTLED = ("InService", "Failed", "OutOfService", "UpdateRollbackFailed")
"""States an endpoint does not leave by itself, so that nobody waits for them to end."""


class Endpoint:
    """The endpoint named in the settings.

    Every method raises `NotReady` where nobody answers at its URL or it is busy, `Misconfigured` where keys, rights or
    quotas of the account forbid it, and `Refused` where it will not do what was asked.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        import boto3
        from botocore.config import Config

        self.name = settings.name
        self._url = settings.url
        self._capture = (settings.state / "capture").resolve().as_uri()
        local = urlsplit(settings.url).hostname in LOOPBACK
        self._delay = LOCAL_DELAY_SECONDS if local else AWS_DELAY_SECONDS
        # A made-up key is good for a server that checks none, and must never be sent anywhere else.
        keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"} if local else {}
        options = Config(connect_timeout=3, read_timeout=60, retries={"total_max_attempts": 3, "mode": "standard"})
        with self._reached():
            session = boto3.Session(region_name=settings.region, **keys)
            try:
                self._control = session.client("sagemaker", endpoint_url=settings.url, config=options)
                self._runtime = session.client("sagemaker-runtime", endpoint_url=settings.url, config=options)
            except ValueError as error:
                raise Misconfigured(f"endpoint.url must be a URL; found {settings.url!r}") from error

    def serving(self) -> str | None:
        """The endpoint config in service; None where the endpoint is missing or failed."""
        found = self._described()
        return found["EndpointConfigName"] if found and found["EndpointStatus"] == "InService" else None

    def prepare(self, release: Release) -> None:
        """The model and the endpoint config of a release exist; raises `Refused` where another model has the name."""
        container = {
            "Image": IMAGE,
            "ModelDataUrl": Path(release.bundle).resolve().as_uri(),
            "Environment": {SHA256_VARIABLE: release.bundle_sha256},
        }
        variant = {
            "VariantName": release.variant,
            "ModelName": release.config,
            "InitialInstanceCount": 1,
            "InstanceType": INSTANCE,
            "InitialVariantWeight": 1.0,
        }
        capture = {
            "EnableCapture": True,
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": self._capture,
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        }
        with self._reached():
            model = self._found("describe_model", ModelName=release.config)
            if model is None:
                self._control.create_model(ModelName=release.config, PrimaryContainer=container, ExecutionRoleArn=ROLE)
            elif model["PrimaryContainer"]["Environment"].get(SHA256_VARIABLE) != release.bundle_sha256:
                raise Refused(
                    f"model {release.config} must be bundle {release.bundle_sha256[:12]}…; another has its name"
                )
            if self._found("describe_endpoint_config", EndpointConfigName=release.config) is None:
                self._control.create_endpoint_config(
                    EndpointConfigName=release.config, ProductionVariants=[variant], DataCaptureConfig=capture
                )

    def switch(self, config: str) -> None:
        """The endpoint serves `config`; raises `Refused` with the endpoint's reason where it would not."""
        found = self._described()
        if found and found["EndpointStatus"] == "Failed":
            self.remove()
            found = None
        with self._reached():
            if found is None:
                self._control.create_endpoint(EndpointName=self.name, EndpointConfigName=config)
            elif found["EndpointConfigName"] != config:
                self._control.update_endpoint(EndpointName=self.name, EndpointConfigName=config)
        settled = self._settled() or {"EndpointStatus": "gone", "EndpointConfigName": "nothing"}
        if settled["EndpointStatus"] != "InService" or settled["EndpointConfigName"] != config:
            reason = settled.get("FailureReason", "no reason given")
            raise Refused(
                f"endpoint {self.name} must serve {config}; it is {settled['EndpointStatus']} "
                f"with {settled['EndpointConfigName']}: {reason}"
            )

    def smoke(self, release: Release) -> None:
        """One real answer by the release's ranker; raises `Refused` where another bundle or the fallback answers."""
        answer: Answer | None = None
        for number in range(SMOKE_TRIES):
            body = {"request_id": f"smoke-{release.config}-{number}", "surface": "home", "k": 1}
            with self._reached():
                response = self._runtime.invoke_endpoint(
                    EndpointName=self.name,
                    TargetVariant=release.variant,
                    ContentType="application/json",
                    Body=orjson.dumps(body),
                )
            answer = self._understood(response["Body"].read())
            if not answer.fallback:
                break
        if answer is None or not (
            answer.items
            and not answer.fallback
            and (answer.bundle_version, answer.bundle_sha256) == (release.candidate_id, release.bundle_sha256)
        ):
            found = "nothing" if answer is None else f"{answer.policy} ({answer.bundle_sha256[:12]}…)"
            raise Refused(
                f"endpoint {self.name} must answer with {release.candidate_id} ({release.bundle_sha256[:12]}…) and not "
                f"with the fallback; found {found}"
            )

    def _understood(self, body: bytes) -> Answer:
        try:
            return answer_of(orjson.loads(body))
        except ValueError as error:
            raise Refused(f"endpoint {self.name} must answer as its contract says; found {error}") from error

    def remove(self) -> None:
        """There is no endpoint; models and configs stay."""
        if self._described() is not None:
            with self._reached():
                self._control.delete_endpoint(EndpointName=self.name)
                self._control.get_waiter("endpoint_deleted").wait(EndpointName=self.name, WaiterConfig=self._patience())

    def _described(self) -> dict[str, Any] | None:
        """The endpoint as it is once nothing is under way; None where there is none."""
        with self._reached():
            found = self._found("describe_endpoint", EndpointName=self.name)
        return found if found is None or found["EndpointStatus"] in SETTLED else self._settled()

    def _settled(self) -> dict[str, Any] | None:
        from botocore.exceptions import WaiterError

        with self._reached():
            try:
                self._control.get_waiter("endpoint_in_service").wait(
                    EndpointName=self.name, WaiterConfig=self._patience()
                )
            except WaiterError as error:
                if "Max attempts" in str(error):
                    raise NotReady(f"endpoint {self.name} is still not settled after {PATIENCE_SECONDS} s") from error
            return self._found("describe_endpoint", EndpointName=self.name)

    def _patience(self) -> dict[str, float]:
        return {"Delay": self._delay, "MaxAttempts": int(PATIENCE_SECONDS / self._delay)}

    def _found(self, operation: str, **key: str) -> dict[str, Any] | None:
        from botocore.exceptions import ClientError

        try:
            found: dict[str, Any] = getattr(self._control, operation)(**key)
            return found
        except ClientError as error:
            if aws_errors.absent(error.response):
                return None
            raise

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Errors on the way, by what they mean: see `jobs.serving.aws_errors` for those that AWS sends."""
        from botocore import exceptions as boto

        no_keys = (boto.NoCredentialsError, boto.PartialCredentialsError, boto.NoAuthTokenError, boto.ProfileNotFound)
        no_login = (boto.SSOError, boto.TokenRetrievalError, boto.LoginTokenLoadError)
        no_region = (boto.NoRegionError, boto.InvalidRegionError)
        try:
            yield
        except boto.ClientError as error:
            kind = aws_errors.kind(error.response)
            needs = {NotReady: "answer", Misconfigured: "let us in", Refused: "do what was asked"}[kind]
            raise kind(f"the endpoint at {self._url} must {needs}; it said: {error}") from error
        except (*no_keys, *no_login, *no_region) as error:
            raise Misconfigured(f"the endpoint at {self._url} needs AWS credentials and a region: {error}") from error
        except (boto.HTTPClientError, boto.ConnectionError, boto.CredentialRetrievalError, boto.WaiterError) as error:
            raise NotReady(f"the endpoint must answer at {self._url}; found: {error}") from error
