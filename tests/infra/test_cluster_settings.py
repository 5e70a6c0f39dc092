"""The settings that docs/cluster.md shows for each kind of cluster are ones that Tidegate, Spark or AWS would take."""

import json
import re
import shlex
import tomllib
from typing import Any

import botocore.session
import pytest
import yaml
from botocore.validate import ParamValidator

from jobs.config import ROOT, SparkSettings, load
from jobs.spark import LOCAL, options, refuse_connect

PAGE = (ROOT / "docs" / "cluster.md").read_text()
SECTIONS = {section.partition("\n")[0]: section for section in PAGE.split("\n## ")[1:]}
TOLD = [name for name in SECTIONS if "```toml" in SECTIONS[name]]


def block(section: str, language: str) -> str:
    """The one block of that language in a section."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", SECTIONS[section], re.DOTALL)
    return str(found)


@pytest.mark.parametrize("section", TOLD)
def test_settings_start_a_session_of_that_cluster(section: str) -> None:
    """What they say reaches Spark, and nothing that is meant for one machine does."""
    told = tomllib.loads(block(section, "toml"))["spark"]
    settings = SparkSettings.model_validate(told)
    refuse_connect(settings)
    given = options(settings, {"AWS_REGION": "eu-central-1"})
    assert not settings.local
    assert given["spark.master"] == told["master"]
    assert given["spark.executorEnv.AWS_REGION"] == "eu-central-1"
    assert given.items() >= settings.conf.items()
    assert not [key for key in LOCAL if key in given and key not in settings.conf]


def test_every_kind_is_there() -> None:
    """Three with an address, two where a platform starts the driver."""
    assert list(SECTIONS) == ["Standalone", "YARN", "Kubernetes", "EMR Serverless", "Databricks"]
    assert TOLD == ["Standalone", "YARN", "Kubernetes"]


def test_the_executor_s_pod_is_one_that_the_settings_name() -> None:
    """Mounts have volumes, Spark finds its container and its folder for shuffles, and nothing runs as root."""
    conf = tomllib.loads(block("Kubernetes", "toml"))["spark"]["conf"]
    path = conf["spark.kubernetes.executor.podTemplateFile"].removeprefix("/opt/tidegate/")
    pod: dict[str, Any] = yaml.safe_load((ROOT / path).read_text())
    assert (pod["apiVersion"], pod["kind"]) == ("v1", "Pod")
    (container,) = pod["spec"]["containers"]
    assert container["name"] == conf["spark.kubernetes.executor.podTemplateContainerName"]
    volumes = [volume["name"] for volume in pod["spec"]["volumes"]]
    assert [mount["name"] for mount in container["volumeMounts"]] == volumes
    assert any(name.startswith("spark-local-dir-") for name in volumes)
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_emr_takes_the_request_and_its_driver_a_session_of_emr_s() -> None:
    """By AWS's own model of the operation; the variables it sets are settings of ours."""
    request = json.loads(block("EMR Serverless", "json"))
    model = botocore.session.get_session().get_service_model("emr-serverless").operation_model("StartJobRun")
    report = ParamValidator().validate(request, model.input_shape)
    assert not report.has_errors(), report.generate_report()
    submit = request["jobDriver"]["sparkSubmit"]
    assert (ROOT / submit["entryPoint"].removeprefix("local:///opt/tidegate/")).is_file()
    words = shlex.split(submit["sparkSubmitParameters"])
    conf = dict(word.split("=", 1) for word in words if word != "--conf")
    start = "spark.emr-serverless.driverEnv."
    env = {key.removeprefix(start): value for key, value in conf.items() if key.startswith(start)}
    assert load(env).spark.master == ""


def test_databricks_starts_what_is_there_in_a_classic_session() -> None:
    """Its other access modes are Spark Connect."""
    (task,) = json.loads(block("Databricks", "json"))["tasks"]
    assert (ROOT / task["spark_python_task"]["python_file"]).is_file()
    cluster = task["new_cluster"]
    assert cluster["data_security_mode"] == "SINGLE_USER"
    assert load(cluster["spark_env_vars"]).spark.master == ""
