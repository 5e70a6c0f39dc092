"""Policies for AWS allow what the code asks for and nothing else; moto lets a day through under them."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

import boto3
import botocore.session
import pytest
from botocore import xform_name

from jobs import s3
from jobs.__main__ import main
from jobs.config import ROOT
from jobs.errors import Misconfigured
from jobs.places import place
from tests import moto_server
from tests.exactly_once.small_world import FIRST, TINY

FOLDER = ROOT / "infra" / "iam"
NAMES = {
    "Bucket": "team",
    "Prefix": "tidegate",
    "Region": "eu-central-1",
    "Account": "000000000000",
    "Endpoint": "tidegate",
    "ServingRole": "arn:aws:iam::000000000000:role/serving",
    "TrainingRole": "arn:aws:iam::000000000000:role/training",
}
SERVICES = {
    "sagemaker": "sagemaker",
    "sagemaker-runtime": "sagemaker",
    "cloudwatch": "cloudwatch",
    "application-autoscaling": "application-autoscaling",
}
"""The prefix that IAM has for a service of boto3."""
S3 = {
    "get_object": {"s3:GetObject"},
    "head_object": {"s3:GetObject"},
    "download_fileobj": {"s3:GetObject"},
    "put_object": {"s3:PutObject"},
    "upload_fileobj": {"s3:PutObject", "s3:AbortMultipartUpload"},
    "delete_object": {"s3:DeleteObject"},
    "delete_objects": {"s3:DeleteObject"},
    "list_objects_v2": {"s3:ListBucket"},
}
NOT_AWS = ("search", "create_experiment")
"""Of re and of MLflow."""
WAITS = {"endpoint_deleted": "describe_endpoint"}
"""What a waiter of boto3 asks."""


def policy(name: str) -> dict[str, Any]:
    """A policy with its names filled in."""
    found: dict[str, Any] = json.loads(Template((FOLDER / f"{name}.json").read_text()).substitute(NAMES))
    return found


def allowed(*names: str) -> set[str]:
    return {action for name in names for statement in policy(name)["Statement"] for action in statement["Action"]}


def asked() -> dict[str, set[str]]:
    """Actions that the code of the stages asks AWS for, and the files that do."""
    session = botocore.session.get_session()
    actions: dict[str, set[str]] = dict(S3)
    for service, prefix in SERVICES.items():
        for operation in session.get_service_model(service).operation_names:
            actions[xform_name(operation)] = {f"{prefix}:{operation}"}
    found: dict[str, set[str]] = {}
    for path in (ROOT / "jobs").rglob("*.py"):
        for name in called(path):
            for action in actions.get(WAITS.get(name, name), ()):
                found.setdefault(action, set()).add(path.relative_to(ROOT).as_posix())
    return found


def called(path: Path) -> Iterator[str]:
    """Names of methods that a file calls, and of paginators and waiters that it asks for."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr not in NOT_AWS:
                yield node.func.attr
            if node.func.attr in ("get_paginator", "get_waiter"):
                (argument,) = node.args
                assert isinstance(argument, ast.Constant)
                yield str(argument.value)


def test_what_stages_ask_for_is_allowed_and_what_is_allowed_is_asked_for() -> None:
    """A call that no policy knows fails on AWS alone; an action that nobody asks for is a door left open."""
    found = asked()
    assert len(found) > 15
    missing = {action: files for action, files in found.items() if action not in allowed(*STAGES)}
    assert not missing
    assert allowed(*STAGES) - set(found) == {"iam:PassRole"}


STAGES = ("lake", "release", "training")
"""What the machines that run stages are allowed."""


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_no_policy_allows_more_than_it_names(path: Path) -> None:
    """No wildcard of actions; of resources only where AWS knows none, or where a condition bounds it."""
    for statement in policy(path.stem)["Statement"]:
        assert statement["Effect"] == "Allow"
        assert not [action for action in statement["Action"] if "*" in action]
        if statement["Resource"] == "*":
            assert (
                "KnowNoResource" in statement["Sid"] or "KnowsNoResource" in statement["Sid"] or statement["Condition"]
            )
    used = set(re.findall(r"\$\{(\w+)\}", path.read_text()))
    assert used <= set(NAMES)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Any]:
    """Settings with a lake on an S3 that lets nobody in but who holds a policy; call it with one."""
    from moto.core.responses import ActionAuthenticatorMixin
    from moto.iam.models import iam_backends

    with moto_server.serving() as moto, pytest.MonkeyPatch.context() as patch:
        for name, value in {**moto.bucket("team"), "TIDEGATE_ENV": "test"}.items():
            patch.setenv(name, value)
        root = {"lake.root": "s3://team/lake", "lake.raw": "s3://team/raw", "lake.runs": str(tmp_path)}
        small = {"world.requests_per_day": "20", "world.users": "50", "world.items": "50", "world.live_share": "0"}
        for name, value in {**TINY, **small, **root, "features.online": "false"}.items():
            patch.setenv(f"TIDEGATE__{name.replace('.', '__').upper()}", value)
        s3._s3.cache_clear()

        def allow(told: dict[str, Any]) -> None:
            backend = iam_backends["123456789012"]["aws"]
            user = backend.create_user("eu-central-1", "stages")
            backend.put_user_policy("stages", "own", json.dumps(told))
            key = user.create_access_key("AKIA")
            key.access_key_id, key.secret_access_key = "local", "local"
            ActionAuthenticatorMixin.request_count = 0
            patch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)

        yield allow
    s3._s3.cache_clear()


def day_of_stages() -> None:
    for stage in ("ingest", "validate", "attribute", "featurize"):
        assert main([stage, "--day", FIRST.isoformat()]) == 0


def test_a_day_goes_through_with_the_lake_s_policy_alone(guarded: Any) -> None:
    guarded(policy("lake"))
    day_of_stages()


@pytest.mark.parametrize("without", sorted(allowed("lake") - {"s3:AbortMultipartUpload", "s3:DeleteObject"}))
def test_an_action_that_is_missing_is_said(guarded: Any, without: str) -> None:
    """The guard is real: without any one of them a stage fails, and says that access is what is wrong."""
    told = policy("lake")
    for statement in told["Statement"]:
        statement["Action"] = [action for action in statement["Action"] if action != without] or ["s3:GetBucketAcl"]
    guarded(told)
    with pytest.raises(Misconfigured, match=r"let us in|403 Forbid"):
        day_of_stages()


def test_another_bucket_stays_closed(guarded: Any) -> None:
    boto3.client("s3", endpoint_url=s3.endpoint(), **moto_server.KEYS).create_bucket(
        Bucket="else", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    guarded(policy("lake"))
    (place("s3://team/lake") / "here").write_bytes(b"1")
    with pytest.raises(Misconfigured, match="let us in"):
        (place("s3://else/lake") / "there").write_bytes(b"1")
