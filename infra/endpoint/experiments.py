"""Inference experiments: SageMaker's shadow tests, as updates of the endpoint to a config with a shadow, and back.

    Created -> Starting -> Running -> Stopping -> Completed | Cancelled

At its start the endpoint gets a config of the experiment's own; at its end, by hand or by its schedule, the one from
before, or the promoted shadow's. Every step is an update like any other: it outlasts a restart, and one that fails ends
the experiment and says why. What somebody else has put on the endpoint meanwhile is left alone.
"""

import hashlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from infra.endpoint.errors import Rejected
from infra.endpoint.payload import check_variants, known
from infra.endpoint.state import Endpoint, Registry

DEFAULT_DAYS, MOST_DAYS, DAY_SECONDS = 7, 30, 86_400
ENDED = ("Completed", "Cancelled")
RETAIN, REMOVE, PROMOTE = "Retain", "Remove", "Promote"
ARN = "arn:aws:sagemaker:{region}:000000000000:inference-experiment/{name}"
Body = dict[str, Any]


class Experiments:
    """The operations, and what is due by the clock; `update` is the control plane's `UpdateEndpoint`."""

    def __init__(
        self,
        registry: Registry,
        lock: threading.RLock,
        region: str,
        clock: Callable[[], float],
        update: Callable[[Mapping[str, Any]], Any],
    ) -> None:
        """`lock` is held by whoever changes the registry."""
        self._registry = registry
        self._state = registry.state
        self._lock = lock
        self._region = region
        self._clock = clock
        self._update = update

    # -- operations -------------------------------------------------------------------------------
    def create_inference_experiment(self, payload: Mapping[str, Any]) -> Body:
        """Begins now, or when its schedule says so; raises `Rejected` for a shadow that cannot be."""
        name = payload["Name"]
        if name in self._state.experiments:
            raise Rejected(f"inference experiment {name} exists already", "ResourceInUse")
        endpoint = self._state.endpoints[known(payload, "EndpointName", self._state.endpoints, "endpoint")]
        start, end = self._schedule(payload.get("Schedule") or {})
        before = endpoint.served.config
        config = f"{name[:40]}-{hashlib.sha256(f'{name}{start}'.encode()).hexdigest()[:8]}"
        self._check(payload, self._state.configs[before], endpoint)
        check_variants(_shadowed(payload, self._state.configs[before]))
        now = self._clock()
        self._state.experiments[name] = {
            **{"asked": dict(payload), "status": "Created", "created": now, "modified": now, "start": start},
            **{"end": end, "before": before, "config": config, "after": before, "ends_as": ENDED[0]},
        }
        self._registry.save()
        return self._arn(name)

    def start_inference_experiment(self, payload: Mapping[str, Any]) -> Body:
        """Before its time."""
        found = self._known(payload)
        if found["status"] != "Created":
            said = f"{payload['Name']} must be Created to be started; it is {found['status']}"
            raise Rejected(said, "ConflictException")
        found["start"] = self._clock()
        found["end"] = max(found["end"], found["start"] + 1)
        self._registry.save()
        return self._arn(payload["Name"])

    def stop_inference_experiment(self, payload: Mapping[str, Any]) -> Body:
        """The endpoint becomes what the actions say; one that never ran leaves it as it is."""
        found = self._known(payload)
        if found["status"] not in ("Created", "Running"):
            said = f"{payload['Name']} must be Created or Running to be stopped; it is {found['status']}"
            raise Rejected(said, "ConflictException")
        found["after"] = self._after(found, payload["ModelVariantActions"])
        found["ends_as"], found["reason"] = payload.get("DesiredState", ENDED[0]), payload.get("Reason")
        if found["status"] == "Created":
            self._end(found, ENDED[1], found["reason"])
        else:
            self._to(found, "Stopping", found["after"])
        self._registry.save()
        return self._arn(payload["Name"])

    def delete_inference_experiment(self, payload: Mapping[str, Any]) -> Body:
        """Forgets one that has ended; endpoint and models stay."""
        found = self._known(payload)
        if found["status"] not in ENDED:
            said = f"{payload['Name']} must have ended to be deleted; it is {found['status']}"
            raise Rejected(said, "ConflictException")
        del self._state.experiments[payload["Name"]]
        self._registry.save()
        return self._arn(payload["Name"])

    def describe_inference_experiment(self, payload: Mapping[str, Any]) -> Body:
        """What was asked for, and where it is."""
        found = self._known(payload)
        asked, endpoint = found["asked"], self._state.endpoints.get(found["asked"]["EndpointName"])
        metadata = {"EndpointName": asked["EndpointName"]}
        if endpoint is not None:
            metadata |= {"EndpointConfigName": endpoint.served.config, "EndpointStatus": endpoint.status}
            metadata |= {"FailureReason": endpoint.failure} if endpoint.failure else {}
        same = ("ShadowModeConfig", "DataStorageConfig", "KmsKey")
        status = _variant_status(found["status"])
        return {
            "Arn": self._arn(payload["Name"])["InferenceExperimentArn"],
            **_summary(payload["Name"], found),
            "EndpointMetadata": metadata,
            "ModelVariants": [{**variant, "Status": status} for variant in asked["ModelVariants"]],
            **{name: asked[name] for name in same if name in asked},
        }

    def list_inference_experiments(self, payload: Mapping[str, Any]) -> Body:
        """Those whose name and status fit, newest first by default, all on one page."""
        contains, status = payload.get("NameContains", ""), payload.get("StatusEquals")
        key = {"Name": lambda pair: pair[0], "Status": lambda pair: (pair[1]["status"], pair[0])}.get(
            payload.get("SortBy", "CreationTime"), lambda pair: (pair[1]["created"], pair[0])
        )
        newest = payload.get("SortOrder", "Descending") == "Descending"
        found = sorted(self._state.experiments.items(), key=key, reverse=newest)
        return {
            "InferenceExperiments": [
                _summary(name, one) for name, one in found if contains in name and status in (None, one["status"])
            ]
        }

    # -- what is due ------------------------------------------------------------------------------
    def waits(self) -> bool:
        """Whether anything may be due later."""
        return any(found["status"] not in ENDED for found in self._state.experiments.values())

    def look(self) -> None:
        """Take every experiment a step further that may be taken further now."""
        for name in list(self._state.experiments):
            with self._lock, self._registry.unchanged_on_error():
                found = self._state.experiments.get(name)
                if found is not None and self._moved(found):
                    self._registry.save()

    def uses(self, config: str) -> bool:
        """Whether an experiment that has not ended may need a config again."""
        running = [one for one in self._state.experiments.values() if one["status"] not in ENDED]
        return any(config in (one["before"], one["config"], one["after"]) for one in running)

    def _moved(self, found: Body) -> bool:
        status, now = found["status"], self._clock()
        if status in ENDED:
            return False
        endpoint = self._state.endpoints.get(found["asked"]["EndpointName"])
        if endpoint is None:
            self._end(found, ENDED[1], "its endpoint was deleted")
            return True
        settled = endpoint.deployment is None and endpoint.status != "Creating"
        serves = endpoint.served.config
        early = now < {"Created": found["start"], "Running": found["end"]}.get(status, now)
        if not settled or (early and not (status == "Running" and serves != found["config"])):
            return False
        if status == "Created":
            self._begin(found, serves)
        elif status == "Starting" and serves == found["config"]:
            found["status"], found["modified"] = "Running", now
        elif status == "Starting":
            self._end(found, ENDED[1], endpoint.failure or f"its endpoint serves {serves}")
        elif status == "Running" and serves != found["config"]:
            self._end(found, ENDED[1], f"its endpoint was updated to {serves}")
        elif status == "Running":
            self._to(found, "Stopping", found["after"])
        else:
            failed = None if serves == found["after"] else endpoint.failure or f"its endpoint serves {serves}"
            self._end(found, found["ends_as"], failed or found.get("reason"))
        return True

    def _begin(self, found: Body, serves: str) -> None:
        if serves != found["before"]:
            self._end(found, ENDED[1], f"its endpoint was updated to {serves}")
            return
        body = _shadowed(found["asked"], self._state.configs[serves])
        self._state.configs[found["config"]] = {
            **body, "EndpointConfigName": found["config"], "CreationTime": self._clock()
        }  # fmt: skip
        self._to(found, "Starting", found["config"])

    def _to(self, found: Body, status: str, config: str) -> None:
        """The experiment's next status and the endpoint's update are one write of the registry."""
        found["status"], found["modified"] = status, self._clock()
        endpoint = self._state.endpoints[found["asked"]["EndpointName"]]
        if endpoint.served.config == config:
            return
        try:
            self._update({"EndpointName": found["asked"]["EndpointName"], "EndpointConfigName": config})
        except Rejected as error:
            if error.status != 400:
                raise
            self._end(found, ENDED[1], str(error))

    def _end(self, found: Body, status: str, reason: str | None) -> None:
        now = self._clock()
        found |= {"status": status, "modified": now, "completed": now, "reason": reason}

    # -- what may be asked ------------------------------------------------------------------------
    def _schedule(self, asked: Mapping[str, Any]) -> tuple[float, float]:
        now = self._clock()
        start = float(asked.get("StartTime", now))
        end = float(asked.get("EndTime", start + DEFAULT_DAYS * DAY_SECONDS))
        if not start < end <= start + MOST_DAYS * DAY_SECONDS or end <= now:
            raise Rejected(
                f"Schedule must end after its start, after now and within {MOST_DAYS} days; found {dict(asked)}"
            )
        return start, end

    def _check(self, payload: Mapping[str, Any], config: Mapping[str, Any], endpoint: Endpoint) -> None:
        models = {v["VariantName"]: v["ModelName"] for v in payload["ModelVariants"]}
        shown = {v["VariantName"]: v["ModelName"] for v in config["ProductionVariants"]}
        source, [shadow] = payload["ShadowModeConfig"]["SourceModelVariantName"], _shadows(payload)
        if endpoint.status != "InService" or len(shown) != 1 or shown.get(source) != models.get(source):
            raise Rejected(
                f"a shadow test needs an endpoint in service with one variant, the source: {source} of model "
                f"{models.get(source)}; found {endpoint.status} with {shown}"
            )
        if set(models) != {source, shadow["ShadowModelVariantName"]} or len(models) != len(payload["ModelVariants"]):
            raise Rejected(f"ModelVariants must be the source and its shadow; found {', '.join(models)}")
        for variant in payload["ModelVariants"]:
            known(variant, "ModelName", self._state.models, "model")

    def _after(self, found: Body, actions: Mapping[str, str]) -> str:
        """The config that the endpoint is to have; a promoted shadow's is made."""
        asked = found["asked"]
        source, [shadow] = asked["ShadowModeConfig"]["SourceModelVariantName"], _shadows(asked)
        name = shadow["ShadowModelVariantName"]
        wanted = (actions.get(source), actions.get(name))
        if set(actions) != {source, name} or wanted not in ((RETAIN, REMOVE), (REMOVE, PROMOTE), (RETAIN, RETAIN)):
            raise Rejected(
                f"ModelVariantActions must retain {source} and remove (or retain) {name}, or remove the one and "
                f"promote the other; found {dict(actions)}"
            )
        if wanted != (REMOVE, PROMOTE):
            return str(found["before"] if wanted[1] == REMOVE else found["config"])
        promoted = f"{found['config'][:54]}-promoted"
        if found["status"] != "Running":
            raise Rejected(f"a shadow must be Running to be promoted; it is {found['status']}")
        config = self._state.configs[found["config"]]
        variant = {**config["ShadowProductionVariants"][0], "InitialVariantWeight": 1.0}
        body = {key: value for key, value in config.items() if key != "ShadowProductionVariants"}
        body |= {"EndpointConfigName": promoted, "ProductionVariants": [variant], "CreationTime": self._clock()}
        self._state.configs[promoted] = body
        return promoted

    def _known(self, payload: Mapping[str, Any]) -> Body:
        found: Body | None = self._state.experiments.get(payload["Name"])
        if found is None:
            raise Rejected(f"Could not find inference experiment {payload['Name']!r}", "ResourceNotFound")
        return found

    def _arn(self, name: str) -> Body:
        return {"InferenceExperimentArn": ARN.format(region=self._region, name=name)}


def _shadows(asked: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = list(asked["ShadowModeConfig"]["ShadowModelVariants"])
    if len(found) != 1:
        raise Rejected(f"ShadowModelVariants needs one; found {len(found)}")
    return found


def _shadowed(asked: Mapping[str, Any], config: Mapping[str, Any]) -> Body:
    """The config of an experiment: what serves, and the shadow beside it."""
    [shadow] = _shadows(asked)
    name = shadow["ShadowModelVariantName"]
    of = next((v for v in asked["ModelVariants"] if v["VariantName"] == name), None)
    if of is None:
        raise Rejected(f"ModelVariants must have the shadow {name}; it has not")
    runs_on = of["InfrastructureConfig"]["RealTimeInferenceConfig"]
    shown = [{**variant, "InitialVariantWeight": 1.0} for variant in config["ProductionVariants"]]
    body = {key: value for key, value in config.items() if key != "Tags"}
    if "DataStorageConfig" in asked:
        body["DataCaptureConfig"] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": asked["DataStorageConfig"]["Destination"],
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        }
    beside = {
        "VariantName": name,
        "ModelName": of["ModelName"],
        "InstanceType": runs_on["InstanceType"],
        "InitialInstanceCount": runs_on["InstanceCount"],
        "InitialVariantWeight": shadow["SamplingPercentage"] / 100,
    }
    return {**body, "ProductionVariants": shown, "ShadowProductionVariants": [beside]}


def _summary(name: str, found: Mapping[str, Any]) -> Body:
    asked = found["asked"]
    optional = {"StatusReason": found.get("reason"), "CompletionTime": found.get("completed")}
    return {
        "Name": name,
        "Type": asked["Type"],
        "Schedule": {"StartTime": found["start"], "EndTime": found["end"]},
        "Status": found["status"],
        "CreationTime": found["created"],
        "LastModifiedTime": found["modified"],
        "RoleArn": asked["RoleArn"],
        **({"Description": asked["Description"]} if "Description" in asked else {}),
        **{key: value for key, value in optional.items() if value is not None},
    }


def _variant_status(status: str) -> str:
    """Of an experiment's variants."""
    words = {"Created": "Creating", "Starting": "Creating", "Running": "InService", "Stopping": "Updating"}
    return words.get(status, "Deleted")
