"""The registered model: a version for each bundle that was judged, and two aliases."""

from collections.abc import Mapping
from typing import Any

from jobs.config import Config
from jobs.errors import Refused
from jobs.tracking.client import reached

ALIAS, CHALLENGER = "champion", "challenger"
"""The version that serves, and the newest that was judged and does not."""
MOST_TAG = 5_000
"""Characters that MLflow keeps of a tag."""


def register(
    config: Config,
    run_id: str,
    candidate_id: str,
    bundle_sha256: str,
    verdict: str,
    evidence: Mapping[str, str] | None = None,
) -> int:
    """The model version of this bundle, with the verdict and where the `evidence` is as tags.

    The alias `CHALLENGER` points at it: the newest that was judged. `ALIAS` stays where it is. Raises `Refused` where
    its run has no model: it was trained before runs had one.
    """
    with reached(config) as client:
        name = config.tracking.model
        _registered_model(client, name)
        version = _version(client, name, candidate_id, bundle_sha256)
        if version is None:
            logged = client.get_run(run_id).outputs
            if logged is None or not logged.model_outputs:
                raise Refused(f"a version needs the model of run {run_id} of {candidate_id}; found none: train again")
            model = client.get_logged_model(logged.model_outputs[0].model_id)
            tags = {"candidate_id": candidate_id, "bundle_sha256": bundle_sha256}
            # Its place, not `models:/<id>`, which the client would look up at its process's own MLflow.
            source, of = model.artifact_location, model.model_id
            version = int(client.create_model_version(name, source, run_id, tags=tags, model_id=of).version)
        for tag, text in {"verdict": verdict, **(evidence or {})}.items():
            client.set_model_version_tag(name, str(version), tag, text)
        client.set_registered_model_alias(name, CHALLENGER, str(version))
        return version


def tag(config: Config, candidate_id: str, bundle_sha256: str, tags: Mapping[str, str]) -> None:
    """What was said of a candidate, on its model version; one that was never registered has none."""
    with reached(config) as client:
        name = config.tracking.model
        version = _version(client, name, candidate_id, bundle_sha256)
        for key, text in tags.items() if version is not None else ():
            client.set_model_version_tag(name, str(version), key, text[:MOST_TAG])


def move_champion(config: Config, candidate_id: str, bundle_sha256: str | None = None) -> int:
    """The alias `champion` points at the newest version of this candidate, `challenger` no longer; returns the version.

    Raises `Refused` when `promote` never registered it.
    """
    with reached(config) as client:
        name = config.tracking.model
        version = _version(client, name, candidate_id, bundle_sha256)
        if version is None:
            raise Refused(f"the alias {ALIAS} needs a registered version of {candidate_id} in {name}; found none")
        client.set_registered_model_alias(name, ALIAS, str(version))
        if str(client.get_registered_model(name).aliases.get(CHALLENGER)) == str(version):
            client.delete_registered_model_alias(name, CHALLENGER)
        return version


def remove_champion(config: Config) -> None:
    """The alias `champion` points at nothing: the first model that was to go live did not."""
    if champion(config) is not None:
        with reached(config) as client:
            client.delete_registered_model_alias(config.tracking.model, ALIAS)


def champion(config: Config) -> str | None:
    """The candidate the alias points at, None before the first deployment."""
    with reached(config) as client:
        from mlflow.exceptions import MlflowException

        try:
            found = client.get_model_version_by_alias(config.tracking.model, ALIAS)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return str(found.tags["candidate_id"])


def _registered_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _version(client: Any, name: str, candidate_id: str, bundle_sha256: str | None) -> int | None:
    wanted = f"name = '{name}' and tags.candidate_id = '{candidate_id}'"
    if bundle_sha256 is not None:
        wanted += f" and tags.bundle_sha256 = '{bundle_sha256}'"
    return max((int(v.version) for v in client.search_model_versions(wanted)), default=None)
