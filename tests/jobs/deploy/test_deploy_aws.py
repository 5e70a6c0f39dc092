"""A whole release with AWS's own S3, CloudWatch and autoscaling (moto, over HTTP), and SageMaker the local endpoint.

moto knows no `UpdateEndpoint`; all four are reached by the same code that reaches AWS, at other addresses.
"""

import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs.config import AwsSettings, Config
from jobs.deployments import ledger
from jobs.deployments.release import of_step
from jobs.errors import Refused
from jobs.lake.store import Lake
from jobs.serving.sagemaker import Endpoint
from tests import moto_server
from tests.jobs.deploy.deploy_world import NEXT, champions, deployed, rolled_back, serving, steps, verdict
from tests.moto_server import Moto

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def moto() -> Iterator[Moto]:
    with moto_server.serving() as found:
        found.s3.create_bucket(Bucket="bundles", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        yield found


def on_aws(tree: Config, moto: Moto) -> Config:
    """The world's settings, with an account behind the endpoint."""
    urls = {f"{name}_url": moto.url for name in ("s3", "cloudwatch", "autoscaling")}
    aws = AwsSettings(bucket="bundles", bake_seconds=1, kept_seconds=600, instances=1, most_instances=3, **urls)
    return tree.model_copy(update={"endpoint": tree.endpoint.model_copy(update={"aws": aws, "alarms_url": moto.url})})


@contextmanager
def evaluated(moto: Moto, state: str) -> Iterator[set[str]]:
    """CloudWatch at work: every alarm there is comes to this state. Yields the alarms that were there, by name."""
    seen: set[str] = set()
    done = threading.Event()

    def evaluate() -> None:
        while not done.wait(0.1):
            for alarm in moto.cloudwatch.describe_alarms()["MetricAlarms"]:
                seen.add(alarm["AlarmName"])
                if alarm["StateValue"] != state:
                    moto.say(alarm["AlarmName"], state)

    thread = threading.Thread(target=evaluate)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def described(tree: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """The endpoint, and its config."""
    control = Endpoint(tree.endpoint)._control
    found = control.describe_endpoint(EndpointName="tidegate")
    return found, control.describe_endpoint_config(EndpointConfigName=found["EndpointConfigName"])


def row(tree: Config) -> dict[str, Any]:
    found = ledger.champion(Lake(tree.lake.root), "tidegate")
    assert found is not None
    return dict(found)


def targets(moto: Moto) -> set[str]:
    found = moto.autoscaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    return {target["ResourceId"] for target in found}


def test_a_release_and_its_way_back(world: Config, moto: Moto, tmp_path: Path) -> None:
    """The bundle from S3 answers, and none but it; its alarms are of its config, its variant is scaled."""
    with serving(on_aws(world, moto)) as tree, evaluated(moto, "OK") as seen:
        deployed(tree)  # the first: nothing serves, so nothing is to be taken back
        assert seen == set()
        first, second = champions(tree)[0], verdict(tree, NEXT)["candidate_id"]
        deployed(tree, NEXT)
        assert champions(tree) == (second,) * 3
        live = row(tree)
        assert {name.split("/")[2] for name in seen} == {live["config"]}
        found, config = described(tree)
        waits = found["LastDeploymentConfig"]["BlueGreenUpdatePolicy"]
        assert waits["TrafficRoutingConfiguration"] == {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 1}
        assert {a["AlarmName"] for a in found["LastDeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]} == seen
        assert config["DataCaptureConfig"]["DestinationS3Uri"] == "s3://bundles/tidegate/capture"
        [variant] = [v["VariantName"] for v in found["ProductionVariants"]]
        assert targets(moto) == {f"endpoint/tidegate/variant/{variant}"}
        model = Endpoint(tree.endpoint)._control.describe_model(ModelName=live["config"])["PrimaryContainer"]
        key = f"tidegate/models/{live['bundle_sha256']}/model.tar.gz"
        assert model["ModelDataUrl"] == f"s3://bundles/{key}"
        moto.s3.download_file("bundles", key, str(tmp_path / "model.tar.gz"))
        with tarfile.open(tmp_path / "model.tar.gz") as archive:
            assert "manifest.json" in archive.getnames()
        Endpoint(tree.endpoint).smoke(of_step(live), variant)
        rolled_back(tree)
        assert champions(tree) == (first,) * 3
        assert targets(moto) == {f"endpoint/tidegate/variant/{v['VariantName']}" for v in variants(tree)}


def test_an_alarm_takes_a_model_that_goes_live_back_and_the_release_is_refused(world: Config, moto: Moto) -> None:
    """SageMaker says InService after its own rollback: whoever reads no config's name believes it went live."""
    with serving(on_aws(world, moto)) as tree, evaluated(moto, "ALARM"):
        deployed(tree)
        first, second = champions(tree)[0], verdict(tree, NEXT)["candidate_id"]
        with pytest.raises(Refused, match=r"it is InService with .*is in ALARM"):
            deployed(tree, NEXT)
        assert champions(tree) == (first,) * 3
        assert steps(tree)[-1] == (second, "rolled back")


def test_a_bundle_that_is_not_what_was_judged_does_not_come_from_s3(world: Config, moto: Moto) -> None:
    """Somebody put another archive under the name."""
    with serving(on_aws(world, moto)) as tree, evaluated(moto, "OK"):
        deployed(tree)
        first = champions(tree)[0]
        other = moto.s3.list_objects_v2(Bucket="bundles")["Contents"][0]["Key"]
        sha256 = verdict(tree, NEXT)["bundle_sha256"]
        moto.s3.copy_object(
            Bucket="bundles",
            Key=f"tidegate/models/{sha256}/model.tar.gz",
            CopySource={"Bucket": "bundles", "Key": other},
            Metadata={"bundle-sha256": sha256},
            MetadataDirective="REPLACE",
        )
        with pytest.raises(Refused, match="must be the one that was judged"):
            deployed(tree, NEXT)
        assert champions(tree) == (first,) * 3


def variants(tree: Config) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = described(tree)[0]["ProductionVariants"]
    return found
