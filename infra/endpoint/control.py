"""The SageMaker operations deploys use, over the local registry; a name nothing knows is a ValidationException.

An update loads the new variants beside the old ones and swaps them in one assignment: a request is answered by the
old config or by the new one, never by neither. An update that fails leaves the old config in service and says why in
`FailureReason`.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

from infra.endpoint.errors import Rejected
from infra.endpoint.fleet import Fleet
from infra.endpoint.payload import (
    SHA256,
    SHA256_VARIABLE,
    check,
    check_variants,
    check_weights,
    folder_of,
    known,
    models_of,
    new_name,
    sha256_of,
    shadow_share,
    shadows_of,
    weights_of,
)
from infra.endpoint.serving import Serving, Shadow
from infra.endpoint.state import Endpoint, Registry
from jobs import bundle
from jobs.errors import TidegateError
from jobs.serving.capture import CAPTURE

ARN = "arn:aws:sagemaker:{region}:000000000000:{kind}/{name}"
ONE_PROCESS = {"CurrentInstanceCount": 1, "DesiredInstanceCount": 1}
BUSY = ("Creating", "Updating")
_log = logging.getLogger(__name__)


class Control:
    """The control plane. `serving` maps an endpoint's name to what answers its requests; reading it needs no lock."""

    def __init__(
        self,
        registry: Registry,
        region: str,
        loads: Executor,
        ready: Callable[[bundle.Standby], Fleet],
        captures: Callable[[], bool],
    ) -> None:
        """`loads` runs what takes time; `ready` begins what answers for a bundle, once it has answered.

        `captures`: whether the data capture can be written.
        """
        self.serving: dict[str, Serving] = {}
        self._registry = registry
        self._state = registry.state
        self._region = region
        self._loads = loads
        self._ready = ready
        self._captures = captures
        self._lock = threading.RLock()

    def call(self, operation: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The response body of one operation; raises `Rejected` with SageMaker's error code."""
        check(operation, payload)
        method: Callable[[Mapping[str, Any]], dict[str, Any]] = getattr(self, _snake(operation))
        with self._lock, self._registry.unchanged_on_error():
            return method(payload)

    def resume(self) -> None:
        """Load what the registry says is in service; what cannot be loaded is Failed, with the reason.

        A disk that takes no writes is no reason not to serve: it is said in the log.
        """
        for name, endpoint in self._state.endpoints.items():
            if endpoint.updating_to is not None:
                endpoint.failure = f"the update to {endpoint.updating_to} was interrupted by a restart"
                endpoint.updating_to = None
            try:
                self.serving[name] = self._load(name, endpoint.config, endpoint.weights)
                endpoint.status = "InService"
            except Exception as error:  # noqa: BLE001 - one bundle's trouble must not keep the others from serving
                endpoint.status, endpoint.failure = "Failed", str(error)
        self._save_or_say()

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
        folder = folder_of(container.get("ModelDataUrl"))
        try:
            there = (folder / bundle.MANIFEST).is_file()
        except OSError:  # a name too long for any file system
            there = False
        if not there:
            raise Rejected(f"ModelDataUrl must name a bundle's folder (with {bundle.MANIFEST}); found {folder}")
        self._state.models[name] = {**payload, "CreationTime": time.time()}
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
        percentage = payload.get("DataCaptureConfig", {}).get("InitialSamplingPercentage", 100)
        if not 0 <= percentage <= 100:
            raise Rejected(f"InitialSamplingPercentage must be in 0..100; found {percentage}")
        self._state.configs[name] = {**payload, "CreationTime": time.time()}
        self._registry.save()
        return {"EndpointConfigArn": self._arn("endpoint-config", name)}

    def describe_endpoint_config(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The request that created it, and when."""
        name = known(payload, "EndpointConfigName", self._state.configs, "endpoint configuration")
        return {**_without_tags(self._state.configs[name]), "EndpointConfigArn": self._arn("endpoint-config", name)}

    def delete_endpoint_config(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Forget a config no endpoint uses."""
        name = known(payload, "EndpointConfigName", self._state.configs, "endpoint configuration")
        used = [e for e, body in self._state.endpoints.items() if name in (body.config, body.updating_to)]
        if used:
            raise Rejected(f"endpoint configuration {name} must not be in use; found in {', '.join(sorted(used))}")
        del self._state.configs[name]
        self._registry.save()
        return {}

    # -- endpoints --------------------------------------------------------------------------------
    def create_endpoint(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Start loading a config's variants; InService once they answer, Failed with the reason otherwise."""
        name = new_name(payload, "EndpointName", self._state.endpoints)
        config = known(payload, "EndpointConfigName", self._state.configs, "endpoint configuration")
        at = time.time()
        weights = weights_of(self._state.configs[config])
        self._state.endpoints[name] = Endpoint(config, "Creating", at, at, weights)
        self._registry.save()
        self._loads.submit(self._bring_up, name, config)
        return {"EndpointArn": self._arn("endpoint", name)}

    def update_endpoint(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Start loading another config beside the serving one; swapped when loaded, left alone when it fails."""
        name = self._idle_endpoint(payload)
        config = known(payload, "EndpointConfigName", self._state.configs, "endpoint configuration")
        endpoint = self._state.endpoints[name]
        endpoint.status, endpoint.updating_to, endpoint.failure = "Updating", config, None
        endpoint.modified = time.time()
        self._registry.save()
        self._loads.submit(self._bring_up, name, config)
        return {"EndpointArn": self._arn("endpoint", name)}

    def update_endpoint_weights_and_capacities(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Share the traffic anew at once; capacities are noted nowhere (one process serves)."""
        name = self._idle_endpoint(payload)
        endpoint, serving = self._state.endpoints[name], self.serving.get(name)
        weights = dict(endpoint.weights)
        for change in payload.get("DesiredWeightsAndCapacities", []):
            if change.get("VariantName") not in weights:
                raise Rejected(f"endpoint {name} has the variants {list(weights)}; found {change.get('VariantName')!r}")
            weights[change["VariantName"]] = float(change.get("DesiredWeight", weights[change["VariantName"]]))
        check_weights(weights)
        if serving is None:
            raise Rejected(f"endpoint {name} must be in service to share its traffic anew; found {endpoint.status}")
        endpoint.weights, endpoint.modified = weights, time.time()
        self._registry.save()
        self.serving[name] = replace(serving, weights=weights)
        return {"EndpointArn": self._arn("endpoint", name)}

    def describe_endpoint(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The status as it is; variants are listed only while they serve."""
        name = known(payload, "EndpointName", self._state.endpoints, "endpoint")
        endpoint = self._state.endpoints[name]
        body: dict[str, Any] = {
            "EndpointName": name,
            "EndpointArn": self._arn("endpoint", name),
            "EndpointConfigName": endpoint.config,
            "EndpointStatus": endpoint.status,
            "CreationTime": endpoint.created,
            "LastModifiedTime": endpoint.modified,
        }
        if endpoint.failure:
            body["FailureReason"] = endpoint.failure
        if name in self.serving:
            body["ProductionVariants"] = [
                {"VariantName": v, "CurrentWeight": w, "DesiredWeight": w, **ONE_PROCESS}
                for v, w in self.serving[name].weights.items()
            ]
            shadow = self.serving[name].shadow
            if shadow is not None:
                weight = shadow.share * sum(self.serving[name].weights.values())
                body["ShadowProductionVariants"] = [
                    {"VariantName": shadow.name, "CurrentWeight": weight, "DesiredWeight": weight, **ONE_PROCESS}
                ]
            percentage = self.serving[name].capture_percentage
            body["DataCaptureConfig"] = {
                "EnableCapture": percentage > 0,
                "CaptureStatus": "Started" if percentage > 0 and self._captures() else "Stopped",
                "CurrentSamplingPercentage": percentage,
                "DestinationS3Uri": (self._registry.folder / CAPTURE).resolve().as_uri(),
                "KmsKeyId": "",
            }
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
        before = self.serving.pop(name, None)
        _retire(() if before is None else before.fleets, None)
        return {}

    # -- bringing up ------------------------------------------------------------------------------
    def _bring_up(self, name: str, config: str) -> None:
        """Load and swap, on the loading thread; the outcome is the endpoint's status."""
        loaded = None
        try:
            weights = weights_of(self._state.configs[config])
            loaded = self._load(name, config, weights)
            self._swap(name, config, loaded)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the status must say so instead of hanging
            self._give_up(name, f"{type(error).__name__}: {error}")
            _retire(() if loaded is None else loaded.fleets, self.serving.get(name))

    def _swap(self, name: str, config: str, serving: Serving) -> None:
        """Raises `Rejected` where it cannot be written down: a restart would serve another config than was told."""
        with self._lock, self._registry.unchanged_on_error():
            endpoint = self._state.endpoints[name]
            endpoint.status, endpoint.failure, endpoint.updating_to = "InService", None, None
            endpoint.config, endpoint.weights, endpoint.modified = config, dict(serving.weights), time.time()
            self._registry.save()
            before = self.serving.get(name)
            self.serving[name] = serving
        _retire(() if before is None else before.fleets, serving)

    def _give_up(self, name: str, failure: str) -> None:
        """A failed update leaves the old config in service; a failed creation serves nothing."""
        with self._lock:
            endpoint = self._state.endpoints[name]
            endpoint.status = "InService" if name in self.serving else "Failed"
            endpoint.failure, endpoint.updating_to, endpoint.modified = failure, None, time.time()
            self._save_or_say()

    def _save_or_say(self) -> None:
        """What is true is described in any case; a restart would begin from the file."""
        try:
            self._registry.save()
        except OSError as error:
            _log.error("the registry needs to be written, or a restart begins from an older one; found: %s", error)

    def _load(self, name: str, config: str, weights: dict[str, float]) -> Serving:
        body = self._state.configs[config]
        fleets: dict[str, Fleet] = {}
        try:
            for variant in (*body["ProductionVariants"], *shadows_of(body)):
                fleets[variant["VariantName"]] = self._fleet(name, variant)
        except Exception:
            _retire(fleets.values(), self.serving.get(name))
            raise
        shadows = [Shadow(v["VariantName"], fleets.pop(v["VariantName"]), shadow_share(body)) for v in shadows_of(body)]
        capture = body.get("DataCaptureConfig", {})
        percentage = capture.get("InitialSamplingPercentage", 100) if capture.get("EnableCapture") else 0
        return Serving(name, fleets, weights, percentage, config, *shadows)

    def _fleet(self, name: str, asked: Mapping[str, Any]) -> Fleet:
        """The one that answers at the endpoint already where it is of these bytes: a champion beside its canary."""
        model = self._state.models[asked["ModelName"]]
        serving = self.serving.get(name)
        there = {} if serving is None else {fleet.bundle.sha256: fleet for fleet in serving.fleets}
        return there.get(sha256_of(model)) or self._ready(self._bundle(model))

    def _bundle(self, model: Mapping[str, Any]) -> bundle.Standby:
        """The judged bundle: our own copy where it is whole, else the folder the model names, copied once verified."""
        sha256, source = sha256_of(model), folder_of(model["PrimaryContainer"]["ModelDataUrl"])
        kept = self._registry.kept(sha256)
        if kept.is_dir():
            try:
                return bundle.standby(kept, sha256)
            except TidegateError:
                pass  # a damaged copy: the source may still be what was judged
        bundle.standby(source, sha256)
        self._registry.keep(sha256, source)
        return bundle.standby(kept, sha256)

    def _idle_endpoint(self, payload: Mapping[str, Any]) -> str:
        name = known(payload, "EndpointName", self._state.endpoints, "endpoint")
        status = self._state.endpoints[name].status
        if status in BUSY:
            raise Rejected(f"Cannot update in-progress endpoint {name}; it is {status}")
        return name

    def _arn(self, kind: str, name: str) -> str:
        return ARN.format(region=self._region, kind=kind, name=name)


def _retire(before: Collection[Fleet], now: Serving | None) -> None:
    """Whoever no longer serves may go."""
    serving = () if now is None else now.fleets
    for fleet in before:
        if all(fleet is not one for one in serving):
            fleet.close()


def _without_tags(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != "Tags"}


def _snake(operation: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()
