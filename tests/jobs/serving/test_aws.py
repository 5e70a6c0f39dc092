"""What AWS holds of an endpoint beside it: the bundle on S3, alarms of one config, scaled variants.

S3, CloudWatch and autoscaling are moto's, over HTTP.
"""

import io
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber

from jobs.aws import keys
from jobs.config import AwsSettings, EndpointSettings, load
from jobs.errors import Misconfigured, NotReady, Refused
from jobs.serving import artifact, guard, scaling
from jobs.serving.sagemaker import Endpoint
from tests import moto_server
from tests.moto_server import Moto


@pytest.fixture(scope="module")
def moto() -> Iterator[Moto]:
    with moto_server.serving() as found:
        found.s3.create_bucket(Bucket="bundles", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        yield found


@pytest.fixture
def settings(moto: Moto) -> EndpointSettings:
    urls = {f"{name}_url": moto.url for name in ("s3", "cloudwatch", "autoscaling")}
    return EndpointSettings(aws=AwsSettings(bucket="bundles", most_instances=4, bake_seconds=60, **urls))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in (("manifest.json", b"{}"), ("ranker/weights.bin", bytes(range(256)) * 100)):
        path = tmp_path / "bundle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "bundle"


# -- S3 ---------------------------------------------------------------------------------------------------------------
def test_a_bundle_on_s3_is_the_bundle(settings: EndpointSettings, moto: Moto, folder: Path, tmp_path: Path) -> None:
    """At the top of the archive, as SageMaker unpacks it to /opt/ml/model; sent once, and with its sha beside it."""
    url = artifact.put(settings, folder, "a" * 64)
    assert url == f"s3://bundles/tidegate/models/{'a' * 64}/model.tar.gz"
    key = url.removeprefix("s3://bundles/")
    first = moto.s3.get_object(Bucket="bundles", Key=key)
    assert first["Metadata"] == {"bundle-sha256": "a" * 64}
    artifact.unpack(io.BytesIO(first["Body"].read()), tmp_path / "model")
    there = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found = tmp_path / "model"
    assert {p.relative_to(found): p.read_bytes() for p in found.rglob("*") if p.is_file()} == there
    assert artifact.put(settings, folder, "a" * 64) == url
    assert moto.s3.get_object(Bucket="bundles", Key=key)["LastModified"] == first["LastModified"]


def test_the_same_bundle_is_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    """Whenever, by whoever and in whatever order its files were written."""
    copy = tmp_path / "copy"
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file():
            (copy / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(folder)).write_bytes(path.read_bytes())
    packed = [io.BytesIO(), io.BytesIO()]
    for of, into in zip((folder, copy), packed, strict=True):
        artifact.pack(of, into)
    assert packed[0].getvalue() == packed[1].getvalue()


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "link"])
def test_an_archive_writes_nowhere_else(tmp_path: Path, name: str) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        if name == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        else:
            member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    packed.seek(0)
    with suppress(Refused):
        artifact.unpack(packed, tmp_path / "model")
    assert [p for p in tmp_path.rglob("*") if p.is_file() and (tmp_path / "model") not in p.parents] == []
    assert not Path("/etc/outside").exists()


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"nothing", b"\x1f\x8b\x08\x00broken"):
        with pytest.raises(Refused, match="must be a tar archive"):
            artifact.unpack(io.BytesIO(content), tmp_path)


def test_a_bucket_that_is_not_there_or_not_ours_is_said(settings: EndpointSettings, folder: Path) -> None:
    other = settings.model_copy(update={"aws": settings.aws.model_copy(update={"bucket": "nobodys"})})
    with pytest.raises(Refused, match="NoSuchBucket"):
        artifact.put(other, folder, "b" * 64)
    gone = settings.model_copy(update={"aws": settings.aws.model_copy(update={"s3_url": "http://127.0.0.1:9"})})
    with pytest.raises(NotReady, match=r"s3 at http://127\.0\.0\.1:9 must answer"):
        artifact.put(gone, folder, "b" * 64)
    none = settings.model_copy(update={"aws": settings.aws.model_copy(update={"s3_url": "nonsense"})})
    with pytest.raises(Misconfigured, match=r"endpoint\.aws\.s3_url must be a URL; found 'nonsense'"):
        artifact.put(none, folder, "b" * 64)


def test_made_up_keys_stay_on_this_machine() -> None:
    assert keys("http://127.0.0.1:5000")
    assert keys(None) == keys("https://s3.eu-central-1.amazonaws.com") == {}


# -- alarms -----------------------------------------------------------------------------------------------------------
def test_an_alarm_is_of_the_new_config_and_knows_silence(settings: EndpointSettings, moto: Moto) -> None:
    """The three mistakes of AWS's own sample: no config's name, 1 for 1 %, no data is no breach."""
    asked = guard.deployment(settings, "c2", ["v"])
    names = [alarm["AlarmName"] for alarm in asked["AutoRollbackConfiguration"]["Alarms"]]
    found = {a["AlarmName"]: a for a in moto.cloudwatch.describe_alarms(AlarmNames=names)["MetricAlarms"]}
    assert set(found) == set(names) == {"tidegate/tidegate/c2/v/errors", "tidegate/tidegate/c2/v/slow"}
    for alarm in found.values():
        of = {d["Name"]: d["Value"] for d in alarm["Dimensions"]}
        assert of == {"EndpointName": "tidegate", "VariantName": "v", "EndpointConfigName": "c2"}
        assert alarm["TreatMissingData"] == "missing"
        assert alarm["Namespace"] == "AWS/SageMaker"
    errors, slow = found["tidegate/tidegate/c2/v/errors"], found["tidegate/tidegate/c2/v/slow"]
    assert (errors["MetricName"], errors["Statistic"], errors["Threshold"]) == ("Invocation5XXErrors", "Average", 0.01)
    assert (slow["MetricName"], slow["ExtendedStatistic"], slow["Threshold"]) == ("ModelLatency", "p99", 100_000.0)


def test_the_deployment_is_one_that_sagemaker_takes(settings: EndpointSettings) -> None:
    """By botocore's own types, and by the local endpoint's rules about waits."""
    from infra.endpoint import shapes
    from infra.endpoint.deployment import plan_of

    asked = guard.deployment(settings, "c2", ["v", "w"])
    call = {"EndpointName": "e", "EndpointConfigName": "c", "DeploymentConfig": asked}
    shapes.check("UpdateEndpoint", call)
    plan = plan_of(asked, {"v": 1})
    assert (plan.shares, plan.wait_seconds, len(plan.alarms)) == ((1.0,), 60, 4)


def test_alarms_of_what_no_longer_serves_are_swept(settings: EndpointSettings, moto: Moto) -> None:
    moto.alarm("somebody-elses")
    other = settings.model_copy(update={"name": "tidegate-2"})
    for of, config in ((settings, "c1"), (settings, "c2"), (settings, "c22"), (other, "c1")):
        guard.deployment(of, config, ["v"])
    guard.sweep(settings, "c2")
    names = {a["AlarmName"].rpartition("/")[0] for a in moto.cloudwatch.describe_alarms()["MetricAlarms"]}
    assert names - {"tidegate/tidegate/c2/w"} == {"", "tidegate/tidegate/c2/v", "tidegate/tidegate-2/c1/v"}


# -- scaling ----------------------------------------------------------------------------------------------------------
def targets(moto: Moto) -> dict[str, tuple[int, int]]:
    found = moto.autoscaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    return {t["ResourceId"]: (t["MinCapacity"], t["MaxCapacity"]) for t in found}


def test_the_variants_that_serve_are_scaled_and_no_others(settings: EndpointSettings, moto: Moto) -> None:
    """A target of a variant that is gone would keep an update from changing its instances."""
    other = settings.model_copy(update={"name": "other"})
    scaling.follow(other, ["v"])
    for variants in (["v"], ["v", "w"], ["w"], ["w"]):
        scaling.follow(settings, variants)
        ours = {f"endpoint/tidegate/variant/{variant}": (1, 4) for variant in variants}
        assert targets(moto) == {"endpoint/other/variant/v": (1, 4), **ours}
    policies = moto.autoscaling.describe_scaling_policies(
        ServiceNamespace="sagemaker", ResourceId="endpoint/tidegate/variant/w"
    )["ScalingPolicies"]
    [target] = [policy["TargetTrackingScalingPolicyConfiguration"] for policy in policies]
    assert target["TargetValue"] == settings.aws.invocations_per_instance
    assert target["PredefinedMetricSpecification"] == {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}


def test_a_release_begins_with_the_instances_that_autoscaling_raised(settings: EndpointSettings) -> None:
    """An update resets counts to the new config's (terraform #48990): a release at noon would serve with one."""
    from jobs.serving.sagemaker import Endpoint

    found: Any = Endpoint(settings)
    described = {"EndpointName": "tidegate", "EndpointArn": "arn:aws:sagemaker:x:1:endpoint/t" + "-" * 20}
    described |= {"EndpointConfigName": "a", "EndpointStatus": "InService", "CreationTime": 0, "LastModifiedTime": 0}
    for now, expected in ((3, 3), (9, 4), (0, 1)):
        with Stubber(found._control) as answers:
            variants = [{"VariantName": "v", "DesiredInstanceCount": now}]
            answers.add_response("describe_endpoint", {**described, "ProductionVariants": variants})
            assert found._instances() == expected
    assert Endpoint(EndpointSettings())._instances() == 1


def test_most_instances_are_not_below_the_fewest() -> None:
    with pytest.raises(ValueError, match="most_instances must be at least instances, 3; found 2"):
        AwsSettings(instances=3, most_instances=2)


# -- AWS itself -------------------------------------------------------------------------------------------------------
def test_aws_has_two_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the control plane and one of invocations: one URL for both could only be ours."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    there = Endpoint(EndpointSettings(url="aws", region="eu-west-1", aws=AwsSettings(bucket="bundles")))
    urls = [client.meta.endpoint_url for client in (there._control, there._runtime)]
    assert urls == [f"https://{name}.sagemaker.eu-west-1.amazonaws.com" for name in ("api", "runtime")]
    here = Endpoint(EndpointSettings())
    assert {client.meta.endpoint_url for client in (here._control, here._runtime)} == {"http://127.0.0.1:8700"}


def test_what_a_team_must_fill_in_is_refused_by_its_name() -> None:
    """As the file for production has it; each is looked for as it stands there."""
    prod = load({"TIDEGATE_ENV": "prod"}).endpoint
    with pytest.raises(Misconfigured, match=r"needs endpoint\.aws\.bucket, endpoint\.aws\.role, endpoint\.aws\.image;"):
        Endpoint(prod)
    own = {"TIDEGATE__ENDPOINT__AWS__BUCKET": "bundles", "TIDEGATE__ENDPOINT__AWS__IMAGE": "image"}
    with pytest.raises(Misconfigured, match=r"needs endpoint\.aws\.role;"):
        Endpoint(load({"TIDEGATE_ENV": "prod", **own}).endpoint)
    Endpoint(load({"TIDEGATE_ENV": "prod", **own, "TIDEGATE__ENDPOINT__AWS__ROLE": "arn:aws:iam::1:role/r"}).endpoint)
    ours = {"TIDEGATE__ENDPOINT__URL": "http://127.0.0.1:8700", "TIDEGATE__ENDPOINT__AWS__BUCKET": "null"}
    Endpoint(load({"TIDEGATE_ENV": "prod", **ours}).endpoint)
    with pytest.raises(Misconfigured, match=r"needs endpoint\.aws\.bucket;"):
        Endpoint(EndpointSettings(url="aws"))
