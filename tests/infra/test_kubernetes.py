"""What Kubernetes is given for Airflow: read as YAML, and held to what the settings, the chart and Airflow rely on.

That the pod is one and the values are ones of the chart was looked at by hand: docs/team.md says how far.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.stack.team import REDELIVERED_SECONDS
from jobs.config import POOLS, ROOT, load
from jobs.orchestration.given import CONTAINER
from jobs.places import S3Path

FOLDER = ROOT / "infra" / "kubernetes"


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "pod.yaml").read_text())
    return found


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "values.yaml").read_text())
    return found


def settings(values: dict[str, Any]) -> dict[str, str]:
    """The variables that components and tasks share."""
    found: dict[str, str] = yaml.safe_load(values["extraConfigMaps"]["tidegate-settings"]["data"])
    assert all(isinstance(value, str) for value in found.values()), "Kubernetes takes text alone"
    return found


def test_the_pod_of_a_task_is_the_one_that_airflow_and_settings_lay_theirs_over(pod: dict[str, Any]) -> None:
    """The container by its name; a task is never started again behind Airflow's back; mounts have volumes."""
    [container] = pod["spec"]["containers"]
    assert (pod["apiVersion"], pod["kind"], pod["spec"]["restartPolicy"]) == ("v1", "Pod", "Never")
    assert container["name"] == CONTAINER
    assert [mount["name"] for mount in container["volumeMounts"]] == [one["name"] for one in pod["spec"]["volumes"]]
    assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
    assert "{{" not in (FOLDER / "pod.yaml").read_text(), "the chart takes it as a template"


def test_nothing_runs_as_root_or_may_become_it(pod: dict[str, Any], values: dict[str, Any]) -> None:
    """Tasks and components alike, under one user, who owns the volume."""
    spec, contexts = pod["spec"], values["securityContexts"]
    assert spec["securityContext"] == contexts["pod"]
    assert spec["containers"][0]["securityContext"] == contexts["containers"]
    assert contexts["pod"]["runAsNonRoot"] is True
    assert contexts["pod"]["runAsUser"] == values["uid"] > 0
    assert contexts["pod"]["fsGroup"] == values["gid"] > 0
    assert contexts["containers"]["allowPrivilegeEscalation"] is False


def test_the_image_is_clean_and_of_the_user_that_pods_have(values: dict[str, Any]) -> None:
    """By hadolint; the chart brings commands of its own, so that an entrypoint would swallow them."""
    hadolint = Path(sys.prefix) / "bin" / "hadolint"
    found = subprocess.run([hadolint, "Containerfile"], cwd=FOLDER, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout) == (0, "")
    text = (FOLDER / "Containerfile").read_text()
    assert f"USER {values['uid']}\n" in text
    assert text.endswith("ENTRYPOINT []\n")


def test_secrets_are_named_and_never_written(pod: dict[str, Any], values: dict[str, Any]) -> None:
    """A task is given what stages need, not Airflow's database; all that components need comes by a name."""
    own = {next(iter(one.values()))["name"] for one in pod["spec"]["containers"][0]["envFrom"]}
    assert own == {"tidegate-settings", "tidegate-stages"}
    shared = {next(iter(one.values()))["name"] for one in yaml.safe_load(values["extraEnvFrom"])}
    assert shared == own
    named = {name for name in (*values, *values["data"]) if name.endswith("Name")}
    assert named == {
        *("metadataSecretName", "brokerUrlSecretName", "fernetKeySecretName"),
        *("apiSecretKeySecretName", "jwtSecretName"),
    }
    said = {**settings(values), **{entry["name"]: entry["value"] for entry in pod["spec"]["containers"][0]["env"]}}
    assert not [name for name in said if any(word in name.lower() for word in ("secret", "password", "sql_alchemy"))]


def test_settings_of_the_chart_are_settings_of_ours(values: dict[str, Any]) -> None:
    """A typo would start with the default; pools are made before any task can ask for them, with these slots."""
    said = settings(values)
    airflow = load(said).airflow
    told = json.loads((FOLDER / "pools.json").read_text())
    assert {name: pool["slots"] for name, pool in told.items()} == airflow.pools
    assert {name: tuple(pool["description"].split(", ")) for name, pool in told.items()} == POOLS
    command = values["migrateDatabaseJob"]["args"][-1]
    assert command.index("db migrate") < command.index(f"pools import /opt/tidegate/{FOLDER.relative_to(ROOT)}")
    assert airflow.pods["train"].memory_mb > airflow.pods["backtest"].memory_mb
    assert said["AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS"] == "jobs.orchestration.logs.LOGGING"
    assert str(airflow.logs).startswith("s3://")
    for name in ("DAGS_FOLDER", "PLUGINS_FOLDER"):
        assert (ROOT / said[f"AIRFLOW__CORE__{name}"].removeprefix("/opt/tidegate/")).is_dir()
    assert said["AIRFLOW__CORE__DAGS_FOLDER"] == values["config"]["core"]["dags_folder"]
    assert "{{" not in values["extraConfigMaps"]["tidegate-settings"]["data"], "the chart takes it as a template"
    assert values["config"]["celery_broker_transport_options"]["visibility_timeout"] == REDELIVERED_SECONDS


def test_what_all_share_lies_where_all_find_it(pod: dict[str, Any], values: dict[str, Any]) -> None:
    """Feast's registry is a file; what else settings place on a disk is a pod's own, where its user may write."""
    said, mounts = settings(values), {mount["name"]: mount for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    assert values["volumeMounts"] == [mounts["online"]]
    assert values["volumes"] == [one for one in pod["spec"]["volumes"] if one["name"] == "online"]
    assert said["TIDEGATE__FEATURES__ONLINE_PATH"] == mounts["online"]["mountPath"]
    tree = load(said)
    assert tree.lake.runs.is_relative_to(mounts["state"]["mountPath"])
    for place in (tree.lake.root, tree.lake.raw, tree.lake.results, tree.bundles):
        assert isinstance(place, S3Path)


def test_what_must_not_be_alone_is_two(values: dict[str, Any]) -> None:
    """Schedulers, API servers and workers; no log is on a disk that goes with its pod."""
    assert {name: values[name]["replicas"] for name in ("scheduler", "apiServer", "workers")} == dict.fromkeys(
        ("scheduler", "apiServer", "workers"), 2
    )
    for name in ("workers", "triggerer"):
        assert values[name]["persistence"]["enabled"] is False
    for name in ("scheduler", "dagProcessor", "triggerer", "workers"):
        assert values[name]["logGroomerSidecar"]["enabled"] is False, "its script is Airflow's own image's"
    assert not values["postgresql"]["enabled"]
    assert not values["redis"]["enabled"]


def test_no_message_is_given_twice_while_its_stage_may_still_run() -> None:
    """Celery would start it beside the one that runs."""
    limits = load({}).timeouts
    assert max(getattr(limits, name) for name in type(limits).model_fields) * 60 < REDELIVERED_SECONDS
