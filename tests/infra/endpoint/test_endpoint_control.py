"""The control plane as an unmodified boto3 sees it: life cycle, refusals, honest status."""

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError

from infra.endpoint.state import Registry
from jobs.bundle import Bundle
from jobs.errors import Misconfigured
from tests.infra.endpoint.rig import ROLE, Awkward, Client, running, settings, write_bundle


def spoil(bundle: Bundle) -> None:
    """One more byte in one file, as a careless copy would leave it."""
    path = next(p for p in sorted(bundle.path.rglob("*")) if p.is_file() and p.name != "manifest.json")
    path.write_bytes(path.read_bytes() + b" ")


def test_life_of_an_endpoint(tmp_path: Path, popular: Bundle, boosted: Bundle) -> None:
    """Create, wait, describe, list, update, delete: every documented field boto3 parses is there."""
    with running(settings(tmp_path)) as client:
        sm = client.control
        client.config(client.model(popular, "a"), a=1.0)
        created = sm.create_endpoint(EndpointName="tidegate", EndpointConfigName="a")
        sm.get_waiter("endpoint_in_service").wait(EndpointName="tidegate", WaiterConfig={"Delay": 0.1})
        found = sm.describe_endpoint(EndpointName="tidegate")
        assert found["EndpointArn"] == created["EndpointArn"]
        assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "a")
        assert [v["VariantName"] for v in found["ProductionVariants"]] == ["a"]
        assert found["CreationTime"].tzinfo is not None
        model = sm.describe_model(ModelName="a")
        assert model["PrimaryContainer"]["Environment"] == {"TIDEGATE_BUNDLE_SHA256": popular.sha256}
        assert sm.describe_endpoint_config(EndpointConfigName="a")["ProductionVariants"][0]["ModelName"] == "a"
        client.config(client.model(boosted, "b"), b=1.0)
        sm.update_endpoint(EndpointName="tidegate", EndpointConfigName="b")
        assert client.settled()["EndpointConfigName"] == "b"
        assert client.invoke()["bundle_version"] == boosted.candidate_id
        names = [e["EndpointName"] for e in sm.list_endpoints(NameContains="tide")["Endpoints"]]
        assert names == ["tidegate"]
        assert sm.list_endpoints(StatusEquals="Failed")["Endpoints"] == []
        with pytest.raises(ClientError, match="must not be in use"):
            sm.delete_endpoint_config(EndpointConfigName="b")
        with pytest.raises(ClientError, match="must not be named by an endpoint config"):
            sm.delete_model(ModelName="b")
        sm.delete_endpoint(EndpointName="tidegate")
        sm.get_waiter("endpoint_deleted").wait(EndpointName="tidegate", WaiterConfig={"Delay": 0.1})
        for name in ("a", "b"):
            sm.delete_endpoint_config(EndpointConfigName=name)
            sm.delete_model(ModelName=name)
        assert list((tmp_path / "state" / "models").iterdir()) == []


CONTAINER = {"Image": "x", "ModelDataUrl": "s3://bucket/x", "Environment": {"TIDEGATE_BUNDLE_SHA256": "0" * 64}}
VARIANT = {"VariantName": "v", "ModelName": "a"}


@pytest.mark.parametrize(
    ("operation", "fields", "message"),
    [
        ("describe_endpoint", {"EndpointName": "none"}, "Could not find endpoint 'none'"),
        ("describe_model", {"ModelName": "none"}, "Could not find model"),
        ("create_endpoint", {"EndpointName": "e", "EndpointConfigName": "none"}, "Could not find endpoint conf"),
        (
            "create_model",
            {"ModelName": "a b", "PrimaryContainer": CONTAINER},
            "1 validation error detected: Value 'a b' at 'modelName' failed to satisfy constraint",
        ),
        ("create_model", {"ModelName": "m", "PrimaryContainer": CONTAINER, "ExecutionRoleArn": ROLE}, "file:///path"),
        ("create_model", {"ModelName": "m", "PrimaryContainer": {"Image": "x"}}, "needs TIDEGATE_BUNDLE_SHA256"),
        ("create_model", {"ModelName": "a", "PrimaryContainer": CONTAINER}, "already existing"),
        (
            "create_endpoint_config",
            {"EndpointConfigName": "s", "ProductionVariants": [VARIANT], "ShadowProductionVariants": [VARIANT]},
            "distinct",
        ),
        *(
            (
                "create_endpoint_config",
                {"EndpointConfigName": "s", "ProductionVariants": [VARIANT], "ShadowProductionVariants": shadows},
                message,
            )
            for shadows, message in (
                ([{**VARIANT, "VariantName": name} for name in "xy"], "one variant beside one .* found 2 beside 1"),
                ([{**VARIANT, "VariantName": "x", "ModelName": "z"}], "Could not find model 'z'"),
                ([{**VARIANT, "VariantName": "x", "InitialVariantWeight": 0.0}], "must be in .0, 1.; found 0.0"),
                ([{**VARIANT, "VariantName": "x", "InitialVariantWeight": 1.5}], "must be in .0, 1.; found 1.5"),
            )
        ),
        ("create_endpoint_config", {"EndpointConfigName": "s", "ProductionVariants": [VARIANT, VARIANT]}, "distinct"),
        (
            "create_endpoint_config",
            {"EndpointConfigName": "s", "ProductionVariants": [{**VARIANT, "InitialVariantWeight": 0.0}]},
            "not all zero",
        ),
        (
            "create_endpoint_config",
            {"EndpointConfigName": "s", "ProductionVariants": [{**VARIANT, "ModelName": "none"}]},
            "Could not find model 'none'",
        ),
        (
            "update_endpoint_weights_and_capacities",
            {"EndpointName": "tidegate", "DesiredWeightsAndCapacities": [{"VariantName": "x", "DesiredWeight": 1}]},
            "has the variants \\['a'\\]; found 'x'",
        ),
    ],
)
def test_what_cannot_be_done_is_a_validation_exception(
    served: Client, operation: str, fields: dict[str, Any], message: str
) -> None:
    """A caller that catches SageMaker's ValidationException catches ours, with one sentence that says why."""
    with pytest.raises(ClientError, match=message) as caught:
        getattr(served.control, operation)(**fields)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, popular: Bundle) -> Any:
    with running(settings(tmp_path_factory.mktemp("served"))) as client:
        client.serve(popular)
        yield client


def test_an_operation_nobody_wrote_says_so(served: Client) -> None:
    """The rest of SageMaker is not pretended to."""
    with pytest.raises(ClientError, match="found ListTrainingJobs"):
        served.control.list_training_jobs()


def test_a_changed_bundle_is_refused_and_the_old_one_keeps_serving(
    tmp_path: Path, popular: Bundle, own: Bundle
) -> None:
    """What serves is what was judged: bytes that changed after the verdict never answer a request."""
    with running(settings(tmp_path)) as client:
        client.serve(popular)
        client.config(client.model(own, "b"), b=1.0)
        spoil(own)
        client.control.update_endpoint(EndpointName="tidegate", EndpointConfigName="b")
        found = client.settled()
        assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "a")
        assert "needs the files its manifest names, unchanged" in found["FailureReason"]
        assert client.invoke()["bundle_sha256"] == popular.sha256


def test_a_bundle_with_another_sha_is_refused(tmp_path: Path, popular: Bundle, boosted: Bundle) -> None:
    """A whole bundle is not enough, it must be the one the model's environment names; a failed creation says Failed."""
    with running(settings(tmp_path)) as client:
        client.config(client.model(boosted, "b", sha256=popular.sha256), b=1.0)
        client.control.create_endpoint(EndpointName="tidegate", EndpointConfigName="b")
        with pytest.raises(WaiterError):
            client.control.get_waiter("endpoint_in_service").wait(
                EndpointName="tidegate", WaiterConfig={"Delay": 0.1, "MaxAttempts": 100}
            )
        found = client.settled()
        assert found["EndpointStatus"] == "Failed"
        assert "must be the one that was judged" in found["FailureReason"]
        assert "ProductionVariants" not in found
        with pytest.raises(ClientError, match="needs to exist and be in service"):
            client.invoke()


def test_no_request_is_lost_while_the_endpoint_is_updated(tmp_path: Path, popular: Bundle, boosted: Bundle) -> None:
    """Old or new variant, never neither: invocations run through eight updates without one error."""
    with running(settings(tmp_path)) as client:
        client.serve(popular, "a")
        client.config(client.model(boosted, "b"), b=1.0)
        answers: list[dict[str, Any]] = []
        done = threading.Event()

        def ask(caller: int) -> None:
            number = 0
            while not done.is_set():
                answers.append(client.invoke(f"r{caller}-{number}"))
                number += 1

        callers = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
        failures: list[BaseException] = []
        hook, threading.excepthook = threading.excepthook, lambda args: failures.append(args.exc_value)
        try:
            for caller in callers:
                caller.start()
            for n in range(8):
                client.control.update_endpoint(EndpointName="tidegate", EndpointConfigName="ba"[n % 2])
                assert client.settled()["EndpointStatus"] == "InService"
        finally:
            done.set()
            for caller in callers:
                caller.join()
            threading.excepthook = hook
        assert failures == []
        served = {(a["variant"], a["bundle_sha256"]) for a in answers}
        assert served == {("a", popular.sha256), ("b", boosted.sha256)}
        assert not any(a["fallback"] for a in answers)


def test_an_update_in_progress_is_not_disturbed(tmp_path: Path, popular: Bundle, awkward: Bundle) -> None:
    """SageMaker's own rule; two swaps at once would leave it to chance which serves."""
    with running(settings(tmp_path)) as client:
        client.serve(popular, "a")
        client.config(client.model(awkward, "b"), b=1.0)
        Awkward.seconds = 0.5
        client.control.update_endpoint(EndpointName="tidegate", EndpointConfigName="b")
        assert client.control.describe_endpoint(EndpointName="tidegate")["EndpointStatus"] == "Updating"
        assert client.invoke()["bundle_sha256"] == popular.sha256, "the old config answers meanwhile"
        with pytest.raises(ClientError, match="in-progress"):
            client.control.delete_endpoint(EndpointName="tidegate")
        with pytest.raises(ClientError, match="in-progress"):
            client.control.update_endpoint(EndpointName="tidegate", EndpointConfigName="a")
        assert client.settled()["EndpointConfigName"] == "b"


def test_a_restart_serves_the_same(tmp_path: Path, popular: Bundle, own: Bundle) -> None:
    """Same endpoint, same config, same weights, same slate; even where training has replaced the bundle's folder."""
    with running(settings(tmp_path)) as client:
        client.model(popular, "a")
        client.model(own, "b")
        client.config("two", a=1.0, b=1.0)
        client.control.create_endpoint(EndpointName="tidegate", EndpointConfigName="two")
        client.settled()
        client.control.update_endpoint_weights_and_capacities(
            EndpointName="tidegate", DesiredWeightsAndCapacities=[{"VariantName": "b", "DesiredWeight": 9.0}]
        )
        before = [client.invoke(f"r{n}", user_id=f"u{n}") for n in range(20)]
    shutil.rmtree(own.path)
    write_bundle(own.path.parent, "popularity", name=own.path.name, seed=99)
    with running(settings(tmp_path)) as client:
        found = client.settled()
        assert found["EndpointStatus"] == "InService"
        assert {v["VariantName"]: v["CurrentWeight"] for v in found["ProductionVariants"]} == {"a": 1.0, "b": 9.0}
        assert [client.invoke(f"r{n}", user_id=f"u{n}") for n in range(20)] == before


def test_a_restart_finds_a_damaged_copy_and_says_so(tmp_path: Path, own: Bundle) -> None:
    """The copy is verified too; with neither copy nor source whole, the endpoint is Failed and not half alive."""
    with running(settings(tmp_path)) as client:
        client.serve(own)
    copy = tmp_path / "state" / "models" / own.sha256 / "ranker"
    for path in copy.iterdir():
        path.write_bytes(path.read_bytes() + b" ")
    with running(settings(tmp_path)) as client:
        assert client.settled()["EndpointStatus"] == "InService", "the source was still what was judged"
        assert client.invoke()["bundle_sha256"] == own.sha256
    shutil.rmtree(tmp_path / "state" / "models")
    spoil(own)
    with running(settings(tmp_path)) as client:
        found = client.settled()
        assert found["EndpointStatus"] == "Failed"
        assert "unchanged" in found["FailureReason"]


def test_an_update_cut_off_by_a_restart_is_taken_back(tmp_path: Path, popular: Bundle) -> None:
    """Killed in the middle, the old config serves on and the description says what happened."""
    with running(settings(tmp_path)) as client:
        client.serve(popular)
    path = tmp_path / "state" / "state.json"
    state = json.loads(path.read_text())
    found = state["endpoints"]["tidegate"]
    deployment = {"served": {**found["served"], "config": "b"}, "asked": {}, "started": found["created"]}
    found.update(status="Updating", deployment=deployment)
    path.write_text(json.dumps(state))
    with running(settings(tmp_path)) as client:
        found = client.settled()
        assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "a")
        assert "interrupted by a restart" in found["FailureReason"]


def test_one_server_per_state_folder(tmp_path: Path) -> None:
    """Two servers would overwrite each other's registry."""
    first = Registry(tmp_path)
    with pytest.raises(Misconfigured, match="another one holds"):
        Registry(tmp_path)
    first.close()
    Registry(tmp_path).close()


# -- a registry that cannot be written --------------------------------------------------------------------------------
def test_an_operation_that_cannot_be_written_down_was_not_done(tmp_path: Path, popular: Bundle) -> None:
    """On a full disk the caller is told; with room again the same call is the first of its kind."""
    with running(settings(tmp_path)) as client:
        client.serve(popular)
        draft = tmp_path / "state" / "state.tmp"
        draft.mkdir()  # nothing can be written there
        with pytest.raises(ClientError, match="the registry needs to be written") as caught:
            client.model(popular, "b")
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
        with pytest.raises(ClientError, match="the registry needs to be written"):
            client.control.delete_endpoint(EndpointName="tidegate")
        assert client.settled()["EndpointStatus"] == "InService"
        assert client.invoke()["bundle_sha256"] == popular.sha256
        draft.rmdir()
        assert client.model(popular, "b") == "b"


def test_an_update_that_cannot_be_written_down_leaves_the_old_config_in_service(
    tmp_path: Path, popular: Bundle, awkward: Bundle
) -> None:
    """A restart would serve the old one: nobody may believe in the new one meanwhile, or wait for ever."""
    with running(settings(tmp_path)) as client:
        client.serve(popular, "a")
        client.config(client.model(awkward, "b"), b=1.0)
        Awkward.free.clear()
        client.control.update_endpoint(EndpointName="tidegate", EndpointConfigName="b")
        (tmp_path / "state" / "state.tmp").mkdir()
        Awkward.free.set()
        found = client.settled()
        assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "a")
        assert "the registry needs to be written" in found["FailureReason"]
        assert client.invoke()["bundle_sha256"] == popular.sha256


def test_a_restart_serves_though_nothing_can_be_written_or_one_bundle_is_broken(
    tmp_path: Path, popular: Bundle, awkward: Bundle
) -> None:
    """Whatever one ranker raises when it is brought up, the other endpoint answers; so it does on a full disk."""
    with running(settings(tmp_path)) as client:
        client.serve(popular, "a")
        client.serve(awkward, "b", endpoint="other")
    (tmp_path / "state" / "state.tmp").mkdir()
    Awkward.error = RuntimeError("out of cheese")
    with running(settings(tmp_path)) as client:
        assert client.invoke()["bundle_sha256"] == popular.sha256
        found = client.settled("other")
        assert found["EndpointStatus"] == "Failed"
        assert found["FailureReason"].endswith("needs to answer before it serves: RuntimeError: out of cheese")
