"""The SageMaker operations that deploys use, over the local registry; a name nothing knows is a ValidationException.

What an update does with an endpoint's traffic is `updates`; an update that fails, or is rolled back, leaves the old
config in service and says why in `FailureReason`.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

from infra.endpoint import described
from infra.endpoint.deployment import asked_of, plan_of, served_of
from infra.endpoint.errors import Rejected
from infra.endpoint.experiments import Experiments
from infra.endpoint.loading import Ready
from infra.endpoint.models import Folders, Source
from infra.endpoint.payload import (
    SHA256,
    SHA256_VARIABLE,
    check,
    check_quota,
    check_variants,
    check_weights,
    counts_of,
    known,
    models_of,
    new_name,
    sha256_of,
    shadows_of,
)
from infra.endpoint.serving import Serving
from infra.endpoint.state import Deployment, Endpoint, Registry
from infra.endpoint.updates import Ask, Updates
from jobs import bundle
from jobs.serving.capture import CAPTURE

ARN = "arn:aws:sagemaker:{region}:000000000000:{kind}/{name}"
BUSY = ("Creating", "Updating", "RollingBack")


class Control:
    """The control plane: every operation is one method of its name."""

    def __init__(
        self,
        registry: Registry,
        region: str,
        loads: Executor,
        ready: Ready,
        captures: Callable[[], bool],
        alarms: Ask | None = None,
        clock: Callable[[], float] = time.time,
        looks: bool = True,
        source: Source | None = None,
    ) -> None:
        """`loads` runs what takes time; `ready` begins what answers for a bundle, once it has answered.

        `captures`: whether the data capture can be written. `alarms`: asks CloudWatch; None: there is none, and an
        update that names alarms is refused. `looks`: whether updates under way are looked at without `look`.
        `source`: where bundles come from; folders of this machine where it is not said.
        """
        self._registry = registry
        self._state = registry.state
        self._region = region
        self._captures = captures
        self._alarms = alarms
        self._clock = clock
        self._lock = threading.RLock()
        self._source = source or Folders()
        self._updates = Updates(registry, self._lock, loads, ready, alarms, clock, looks, self._source)
        self._experiments = Experiments(registry, self._lock, region, clock, self.update_endpoint)
        self._updates.beside(self._experiments)

    def call(self, operation: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The response body of one operation; raises `Rejected` with SageMaker's error code."""
        check(operation, payload)
        owner = self._experiments if "InferenceExperiment" in operation else self
        method: Callable[[Mapping[str, Any]], dict[str, Any]] = getattr(owner, _snake(operation))
        with self._lock, self._registry.unchanged_on_error():
            found = method(payload)
        self._updates.watch()
        return found

    @property
    def serving(self) -> dict[str, Serving]:
        """What answers an endpoint's requests, by its name; reading it needs no lock."""
        return self._updates.serving

    def resume(self) -> None:
        """Serve what the registry says is in service, and go on with what is under way."""
        self._updates.resume()

    def look(self) -> None:
        """Take every update under way a step further where it may be taken now."""
        self._updates.look()

    def close(self) -> None:
        """Begin nothing any more."""
        self._updates.close()

    # -- models -----------------------------------------------------------------------------------
    def create_model(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Remember a bundle's folder and the sha256 it was judged by; nothing is loaded yet."""
        name = new_name(payload, "ModelName", self._state.models)
        container = payload.get("PrimaryContainer") or {}
        sha256 = container.get("Environment", {}).get(SHA256_VARIABLE)
        if not SHA256.fullmatch(str(sha256)):
            raise Rejected(
                f"PrimaryContainer.Environment needs {SHA256_VARIABLE}, the judged bundle's; found {sha256!r}"
            )
        folder = self._source.check(container.get("ModelDataUrl"))
        try:
            there = folder is None or (folder / bundle.MANIFEST).is_file()
        except OSError:  # a name too long for any file system
            there = False
        if not there:
            raise Rejected(f"ModelDataUrl must name a bundle's folder (with {bundle.MANIFEST}); found {folder}")
        self._state.models[name] = {**payload, "CreationTime": self._clock()}
        self._registry.save()
        return {"ModelArn": self._arn("model", name)}

    def describe_model(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The request that created it, and when."""
        name = known(payload, "ModelName", self._state.models, "model")
        return {**_without_tags(self._state.models[name]), "ModelArn": self._arn("model", name)}

    def delete_model(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Forget a model no config names, and its copy of the bundle when it was the last."""
        name = known(payload, "ModelName", self._state.models, "model")
        used = [c for c, body in self._state.configs.items() if name in models_of(body)]
        if used:
            raise Rejected(f"model {name} must not be named by an endpoint config; found in {', '.join(sorted(used))}")
        sha256 = sha256_of(self._state.models.pop(name))
        self._registry.save()
        if all(sha256_of(model) != sha256 for model in self._state.models.values()):
            self._registry.forget(sha256)
        return {}

    # -- endpoint configs -------------------------------------------------------------------------
    def create_endpoint_config(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Remember which models share the traffic by which weights, and what share of it is captured."""
        name = new_name(payload, "EndpointConfigName", self._state.configs)
        check_variants(payload)
        for variant in (*payload["ProductionVariants"], *shadows_of(payload)):
            known(variant, "ModelName", self._state.models, "model")
        check_quota(counts_of(payload))
        self._state.configs[name] = {**payload, "CreationTime": self._clock()}
        self._registry.save()
        return {"EndpointConfigArn": self._arn("endpoint-config", name)}

    def describe_endpoint_config(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The request that created it, and when."""
        name = known(payload, "EndpointConfigName", self._state.configs, "endpoint configuration")
        return {**_without_tags(self._state.configs[name]), "EndpointConfigArn": self._arn("endpoint-config", name)}

    def delete_endpoint_config(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Forget a config no endpoint uses."""
        name = known(payload, "EndpointConfigName", self._state.configs, "endpoint configuration")
        used = [e for e, body in self._state.endpoints.items() if name in body.configs]
        if used:
            raise Rejected(f"endpoint configuration {name} must not be in use; found in {', '.join(sorted(used))}")
        if self._experiments.uses(name):
            raise Rejected(f"endpoint configuration {name} must not be in use; found in an inference experiment")
        del self._state.configs[name]
        self._registry.save()
        return {}

    # -- endpoints --------------------------------------------------------------------------------
    def create_endpoint(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Start loading a config's variants; InService once they answer, Failed with the reason otherwise."""
        name = new_name(payload, "EndpointName", self._state.endpoints)
        config = known(payload, "EndpointConfigName", self._state.configs, "endpoint configuration")
        at = self._clock()
        served = served_of(config, self._state.configs[config])
        self._state.endpoints[name] = Endpoint(served, "Creating", at, at)
        self._registry.save()
        self._updates.create(name)
        return {"EndpointArn": self._arn("endpoint", name)}

    def update_endpoint(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Start loading another config beside the serving one; the traffic moves as the `DeploymentConfig` says."""
        name = self._idle_endpoint(payload)
        config = known(payload, "EndpointConfigName", self._state.configs, "endpoint configuration")
        endpoint = self._state.endpoints[name]
        asked = asked_of(payload, endpoint.last_deployment)
        served = served_of(config, self._state.configs[config], payload, endpoint.served)
        plan = plan_of(asked, served.counts)
        if plan.alarms and self._alarms is None:
            raise Rejected("AutoRollbackConfiguration needs a CloudWatch to ask; found no endpoint.alarms_url")
        now = self._clock()
        endpoint.deployment = Deployment(served, dict(asked), now)
        endpoint.last_deployment = payload.get("DeploymentConfig", endpoint.last_deployment)
        endpoint.status, endpoint.failure, endpoint.modified = "Updating", None, now
        self._registry.save()
        self._updates.update(name)
        return {"EndpointArn": self._arn("endpoint", name)}

    def update_endpoint_weights_and_capacities(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Share the traffic anew at once; instances come and go by and by, and the endpoint is Updating until then."""
        name = self._idle_endpoint(payload)
        endpoint, serving = self._state.endpoints[name], self.serving.get(name)
        weights, counts = dict(endpoint.served.weights), dict(endpoint.served.counts)
        for change in payload.get("DesiredWeightsAndCapacities", []):
            variant = change.get("VariantName")
            if variant not in weights:
                raise Rejected(f"endpoint {name} has the variants {list(weights)}; found {variant!r}")
            weights[variant] = float(change.get("DesiredWeight", weights[variant]))
            counts[variant] = int(change.get("DesiredInstanceCount", counts[variant]))
        check_weights(weights)
        check_quota(counts)
        if serving is None:
            raise Rejected(f"endpoint {name} must be in service to share its traffic anew; found {endpoint.status}")
        scaled = counts != endpoint.served.counts
        endpoint.served = replace(endpoint.served, weights=weights, counts=counts)
        endpoint.modified = self._clock()
        if scaled:
            endpoint.status, endpoint.failure = "Updating", None
        self._registry.save()
        self.serving[name] = replace(serving, weights=weights)
        if scaled:
            self._updates.scale(name)
        return {"EndpointArn": self._arn("endpoint", name)}

    def describe_endpoint(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The status as it is; variants are listed only while they serve."""
        name = known(payload, "EndpointName", self._state.endpoints, "endpoint")
        endpoint, serving = self._state.endpoints[name], self.serving.get(name)
        body = {
            "EndpointName": name,
            "EndpointArn": self._arn("endpoint", name),
            "EndpointConfigName": endpoint.served.config,
            "EndpointStatus": endpoint.status,
            "CreationTime": endpoint.created,
            "LastModifiedTime": endpoint.modified,
            **described.deployments(endpoint, self._state.configs),
        }
        if serving is not None:
            body |= described.variants(endpoint.served, serving)
            folder = (self._registry.folder / CAPTURE).resolve().as_uri()
            body["DataCaptureConfig"] = described.capture(serving, folder, self._captures())
        return body

    def list_endpoints(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Endpoints whose name and status fit, newest first by default, all on one page."""
        contains, status = payload.get("NameContains", ""), payload.get("StatusEquals")
        keys: dict[str, Callable[[tuple[str, Endpoint]], Any]] = {
            "Name": lambda pair: pair[0],
            "CreationTime": lambda pair: (pair[1].created, pair[0]),
            "Status": lambda pair: (pair[1].status, pair[0]),
        }
        key = keys.get(payload.get("SortBy", "CreationTime"))
        if key is None:
            raise Rejected(f"SortBy must be one of {', '.join(keys)}; found {payload['SortBy']!r}")
        found = sorted(
            self._state.endpoints.items(), key=key, reverse=payload.get("SortOrder", "Descending") == "Descending"
        )
        return {
            "Endpoints": [
                {
                    "EndpointName": name,
                    "EndpointArn": self._arn("endpoint", name),
                    "CreationTime": endpoint.created,
                    "LastModifiedTime": endpoint.modified,
                    "EndpointStatus": endpoint.status,
                }
                for name, endpoint in found
                if contains in name and status in (None, endpoint.status)
            ]
        }

    def delete_endpoint(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Stop serving; configs and models stay."""
        name = self._idle_endpoint(payload)
        del self._state.endpoints[name]
        self._registry.save()
        self._updates.drop(name)
        return {}

    def _idle_endpoint(self, payload: Mapping[str, Any]) -> str:
        name = known(payload, "EndpointName", self._state.endpoints, "endpoint")
        status = self._state.endpoints[name].status
        if status in BUSY:
            raise Rejected(f"Cannot update in-progress endpoint {name}; it is {status}")
        return name

    def _arn(self, kind: str, name: str) -> str:
        return ARN.format(region=self._region, kind=kind, name=name)


def _without_tags(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != "Tags"}


def _snake(operation: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()
