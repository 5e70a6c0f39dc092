"""An endpoint behind boto3: the same calls reach AWS or the local endpoint, one URL decides.

Not yet: uploading the bundle to S3 (the model's data is the bundle's folder, which only the local endpoint can read),
the execution role and image of a real account; and reading its data capture back from S3, without which a watch there
sees nothing.
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
from jobs.serving.capture import CAPTURE

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
        self._capture = (settings.state / CAPTURE).resolve().as_uri()
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
        self._model(release)
        self._config(release.config, ProductionVariants=[_variant(release, release.variant, 1.0)])

    def shadow(self, champion: Release, release: Release, config: str, percent: float) -> None:
        """The endpoint answers with the champion as before; of so many requests the release's answer is captured."""
        self._model(champion)
        self._model(release)
        self._config(
            config,
            ProductionVariants=[_variant(champion, champion.config, 100.0)],
            ShadowProductionVariants=[_variant(release, release.config, percent)],
        )
        self.switch(config)
        self.smoke(champion, champion.config)

    def share(self, champion: Release, release: Release, config: str, percent: float) -> None:
        """The release answers `percent` of the requests, the champion the others.

        It gets none before it has answered one that was sent to it alone. Larger shares of one config keep their users.
        """
        self._model(champion)
        self._model(release)
        variants = [_variant(champion, champion.config, 1.0), _variant(release, release.config, 0.0)]
        self._config(config, ProductionVariants=variants)
        self.switch(config)
        self.smoke(release, release.config)
        weights = {champion.config: 100.0 - percent, release.config: percent}
        found = self._described() or {}
        if {v["VariantName"]: v["DesiredWeight"] for v in found.get("ProductionVariants", [])} != weights:
            desired = [{"VariantName": name, "DesiredWeight": weight} for name, weight in weights.items()]
            with self._reached():
                self._control.update_endpoint_weights_and_capacities(
                    EndpointName=self.name, DesiredWeightsAndCapacities=desired
                )
            self._settled()

    def _model(self, release: Release) -> None:
        container = {
            "Image": IMAGE,
            "ModelDataUrl": Path(release.bundle).resolve().as_uri(),
            "Environment": {SHA256_VARIABLE: release.bundle_sha256},
        }
        with self._reached():
            model = self._found("describe_model", ModelName=release.config)
            if model is None:
                self._control.create_model(ModelName=release.config, PrimaryContainer=container, ExecutionRoleArn=ROLE)
            elif model["PrimaryContainer"]["Environment"].get(SHA256_VARIABLE) != release.bundle_sha256:
                raise Refused(
                    f"model {release.config} must be bundle {release.bundle_sha256[:12]}…; another has its name"
                )

    def _config(self, name: str, **variants: list[dict[str, Any]]) -> None:
        capture = {
            "EnableCapture": True,
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": self._capture,
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        }
        with self._reached():
            found = self._found("describe_endpoint_config", EndpointConfigName=name)
            if found is None:
                self._control.create_endpoint_config(EndpointConfigName=name, DataCaptureConfig=capture, **variants)
                return
        for kind, wanted in variants.items():
            if (there := _models(found.get(kind, []))) != _models(wanted):
                raise Refused(f"endpoint config {name} must have the {kind} {_models(wanted)}; it has {there}")

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

    def smoke(self, release: Release, variant: str | None = None) -> None:
        """One real answer by the release's ranker; raises `Refused` where another bundle or the fallback answers.

        `variant`: its name where it shares the endpoint.
        """
        answer: Answer | None = None
        for number in range(SMOKE_TRIES):
            body = {"request_id": f"smoke-{release.config}-{number}", "surface": "home", "k": 1}
            with self._reached():
                response = self._runtime.invoke_endpoint(
                    EndpointName=self.name,
                    TargetVariant=variant or release.variant,
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


def _variant(release: Release, name: str, weight: float) -> dict[str, Any]:
    return {
        "VariantName": name,
        "ModelName": release.config,
        "InitialInstanceCount": 1,
        "InstanceType": INSTANCE,
        "InitialVariantWeight": weight,
    }


def _models(variants: list[dict[str, Any]]) -> dict[str, str]:
    """Variants by name, and what they serve."""
    return {variant["VariantName"]: variant["ModelName"] for variant in variants}
