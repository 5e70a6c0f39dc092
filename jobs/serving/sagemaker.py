"""An endpoint behind boto3: the same calls reach AWS or the local endpoint, one URL decides.

On AWS its models are on S3, its alarms are CloudWatch's and its instances autoscaling's, as `endpoint.aws` says.
"""

import time
from pathlib import Path
from typing import Any

import orjson

from jobs import aws_errors
from jobs.aws import client, is_local, reached
from jobs.bundle import MANIFEST
from jobs.config import EndpointSettings
from jobs.deployments.release import Release
from jobs.errors import Misconfigured, NotReady, Refused
from jobs.places import place
from jobs.serving import artifact, guard, scaling
from jobs.serving.answer import Answer, answer_of
from jobs.serving.answered import destination

SHA256_VARIABLE = "TIDEGATE_BUNDLE_SHA256"
LOCAL_DELAY_SECONDS, AWS_DELAY_SECONDS, PATIENCE_SECONDS = 0.2, 10.0, 1800
SMOKE_TRIES = 5
"""A machine that is busy may miss the timer once; a bundle that cannot answer misses it every time."""
ROLLBACK_FAILED = "UpdateRollbackFailed"
SETTLED = ("InService", "Failed", "OutOfService", ROLLBACK_FAILED)
"""States an endpoint does not leave by itself, so that nobody waits for them to end."""


class Endpoint:
    """The endpoint named in the settings.

    Every method raises `NotReady` where nobody answers at its URL or it is busy, `Misconfigured` where keys, rights or
    quotas of the account forbid it, and `Refused` where it will not do what was asked.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        self.name = settings.name
        self._settings = settings.filled_in()
        # AWS's control plane and its runtime are at two addresses, which boto3 knows by itself.
        self._url = None if settings.on_aws else settings.url
        self._delay = LOCAL_DELAY_SECONDS if is_local(self._url) else AWS_DELAY_SECONDS
        self._control = client("sagemaker", settings.region, self._url, "endpoint.url")
        self._runtime = client("sagemaker-runtime", settings.region, self._url, "endpoint.url")

    def serving(self) -> str | None:
        """The endpoint config in service; None where the endpoint is missing or failed."""
        found = self._described()
        return found["EndpointConfigName"] if found and found["EndpointStatus"] == "InService" else None

    def prepare(self, release: Release) -> None:
        """The model and the endpoint config of a release exist; raises `Refused` where another model has the name."""
        self._model(release)
        self._config(release.config, ProductionVariants=[self._variant(release, release.variant, 1.0)])

    def shadow(self, champion: Release, release: Release, config: str, percent: float) -> None:
        """The endpoint answers with the champion as before; of so many requests the release's answer is captured."""
        self._model(champion)
        self._model(release)
        self._config(
            config,
            ProductionVariants=[self._variant(champion, champion.config, 100.0)],
            ShadowProductionVariants=[self._variant(release, release.config, percent)],
        )
        self.switch(config)
        self.smoke(champion, champion.config)

    def share(self, champion: Release, release: Release, config: str, percent: float) -> None:
        """The release answers `percent` of the requests, the champion the others.

        It gets none before it has answered one that was sent to it alone. Larger shares of one config keep their users.
        """
        self._model(champion)
        self._model(release)
        variants = [self._variant(champion, champion.config, 1.0), self._variant(release, release.config, 0.0)]
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
        aws = self._settings.aws
        with self._reached():
            model = self._found("describe_model", ModelName=release.config)
            if model is None:
                folder = place(release.bundle).resolve()
                if not aws.bucket and not isinstance(folder, Path):
                    raise Misconfigured(
                        f"an endpoint at {self._url} reads bundles from S3 through endpoint.aws.bucket; found {folder} "
                        "and no bucket"
                    )
                container = {
                    "Image": aws.image,
                    "ModelDataUrl": artifact.put(self._settings, folder, release.bundle_sha256)
                    if aws.bucket
                    else folder.as_uri(),
                    "Environment": {SHA256_VARIABLE: release.bundle_sha256},
                }
                self._control.create_model(
                    ModelName=release.config, PrimaryContainer=container, ExecutionRoleArn=aws.role
                )
            elif model["PrimaryContainer"]["Environment"].get(SHA256_VARIABLE) != release.bundle_sha256:
                raise Refused(
                    f"model {release.config} must be bundle {release.bundle_sha256[:12]}…; another has its name"
                )

    def _variant(self, release: Release, name: str, weight: float) -> dict[str, Any]:
        return {
            "VariantName": name,
            "ModelName": release.config,
            "InitialInstanceCount": self._instances(),
            "InstanceType": self._settings.aws.instance_type,
            "InitialVariantWeight": weight,
        }

    def _instances(self) -> int:
        """What a new variant begins with: what autoscaling has raised is not lost by a release."""
        fewest, most = self._settings.aws.instances, self._settings.aws.most_instances
        if most is None:
            return fewest
        with self._reached():
            found = self._found("describe_endpoint", EndpointName=self.name) or {}
        now = [int(v.get("DesiredInstanceCount", fewest)) for v in found.get("ProductionVariants", [])]
        return min(most, max([fewest, *now]))

    def _config(self, name: str, **variants: list[dict[str, Any]]) -> None:
        capture = {
            "EnableCapture": True,
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": destination(self._settings),
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

    def switch(self, config: str, guarded: bool = False) -> None:
        """The endpoint serves `config`; raises `Refused` with the endpoint's reason where it would not.

        `guarded`: the new config's own alarms take it back, where the settings give them time. SageMaker says InService
        after that too: the config's name tells.
        """
        found = self._described()
        if found and found["EndpointStatus"] == "Failed":
            self.remove()
            found = None
        with self._reached():
            if found is None:
                self._control.create_endpoint(EndpointName=self.name, EndpointConfigName=config)
            elif found["EndpointConfigName"] != config or found["EndpointStatus"] == ROLLBACK_FAILED:
                how = {"DeploymentConfig": self._guard(config)} if guarded and self._settings.aws.bake_seconds else {}
                self._control.update_endpoint(EndpointName=self.name, EndpointConfigName=config, **how)
        settled = self._settled() or {"EndpointStatus": "gone", "EndpointConfigName": "nothing"}
        if settled["EndpointStatus"] != "InService" or settled["EndpointConfigName"] != config:
            reason = settled.get("FailureReason", "no reason given")
            raise Refused(
                f"endpoint {self.name} must serve {config}; it is {settled['EndpointStatus']} "
                f"with {settled['EndpointConfigName']}: {reason}"
            )
        self._follow(config, [variant["VariantName"] for variant in settled["ProductionVariants"]])

    def _guard(self, config: str) -> dict[str, Any]:
        found = self._control.describe_endpoint_config(EndpointConfigName=config)
        return guard.deployment(self._settings, config, [v["VariantName"] for v in found["ProductionVariants"]])

    def _follow(self, config: str, variants: list[str]) -> None:
        """What AWS holds beside the endpoint is about what serves."""
        if self._settings.aws.bake_seconds:
            guard.sweep(self._settings, config)
        if self._settings.aws.most_instances is not None:
            scaling.follow(self._settings, variants)

    def smoke(self, release: Release, variant: str | None = None) -> None:
        """One real answer by the release's ranker; raises `Refused` where another bundle or the fallback answers.

        `variant`: its name where it shares the endpoint.
        """
        answer: Answer | None = None
        for number in range(SMOKE_TRIES):
            body = {"request_id": f"smoke-{release.config}-{number}", "surface": _surface(release.bundle), "k": 1}
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
            if self._settings.aws.most_instances is not None:
                scaling.follow(self._settings, [])
            with self._reached():
                self._control.delete_endpoint(EndpointName=self.name)
                self._control.get_waiter("endpoint_deleted").wait(EndpointName=self.name, WaiterConfig=self._patience())

    def _described(self) -> dict[str, Any] | None:
        """The endpoint as it is once nothing is under way; None where there is none."""
        with self._reached():
            found = self._found("describe_endpoint", EndpointName=self.name)
        return found if found is None or found["EndpointStatus"] in SETTLED else self._settled()

    def _settled(self) -> dict[str, Any] | None:
        """Asked for until it is; boto3's own waiter would wait for an UpdateRollbackFailed to become something else."""
        until = time.monotonic() + self._seconds()
        while True:
            with self._reached():
                found = self._found("describe_endpoint", EndpointName=self.name)
            if found is None or found["EndpointStatus"] in SETTLED:
                return found
            if time.monotonic() > until:
                raise NotReady(f"endpoint {self.name} is still not settled after {self._seconds()} s")
            time.sleep(self._delay)

    def _patience(self) -> dict[str, float]:
        return {"Delay": self._delay, "MaxAttempts": int(self._seconds() / self._delay)}

    def _seconds(self) -> int:
        return PATIENCE_SECONDS + self._settings.aws.bake_seconds

    def _found(self, operation: str, **key: str) -> dict[str, Any] | None:
        from botocore.exceptions import ClientError

        try:
            found: dict[str, Any] = getattr(self._control, operation)(**key)
            return found
        except ClientError as error:
            if aws_errors.absent(error.response):
                return None
            raise

    def _reached(self) -> Any:
        return reached("AWS's SageMaker" if self._url is None else f"the endpoint at {self._url}")


def _models(variants: list[dict[str, Any]]) -> dict[str, str]:
    """Variants by name, and what they serve."""
    return {variant["VariantName"]: variant["ModelName"] for variant in variants}


def _surface(bundle: str) -> str:
    """One that the bundle in a folder learned from, since it refuses others; any will do where it does not say."""
    manifest = place(bundle) / MANIFEST
    lineage = orjson.loads(manifest.read_bytes())["lineage"] if manifest.is_file() else {}
    return str(next(iter(lineage.get("surfaces", ())), "home"))
