"""Whatever is sent, the answer is an answer or a refusal in one sentence: no body is a bug of the endpoint."""

import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.endpoint.catalogue import Catalogue
from infra.endpoint.errors import BadRequest
from infra.endpoint.payload import PARAMETERS
from infra.endpoint.request import CONTEXT_COLUMNS, MAX_BODY, MAX_CANDIDATES, MAX_CONTEXT, RankRequest, parse
from jobs.bundle import Bundle
from jobs.config import ServedSurfaceSettings
from jobs.lake.tables import RAW
from models.rankers.features import ATTRIBUTE_PREFIX, Encodings
from models.settings import TaskSettings
from tests.infra.endpoint import rig
from tests.infra.endpoint.rig import IDS, Direct

INVOCATIONS = "/endpoints/tidegate/invocations"
VALID = {"request_id": "r", "surface": "home", "k": 3}
OURS = [*CONTEXT_COLUMNS, "daypart", "attributes", "users", "item", "context_surface", "user_idx"]
OTHERS = sorted({*RAW["impressions"].columns, *RAW["requests"].columns, *RankRequest.model_fields} - {*CONTEXT_COLUMNS})

words = st.text(max_size=20)
leaves = st.one_of(
    *(st.none(), st.booleans(), words, st.floats()),
    *(st.integers(), st.integers(min_value=10**18, max_value=10**400), st.sampled_from([-1, 0, 1e9, 10**4299, ""])),
)
values = st.recursive(
    leaves, lambda some: st.one_of(st.lists(some, max_size=5), st.dictionaries(words, some, max_size=5))
)
fields = {
    "request_id": st.one_of(words, values),
    "surface": st.one_of(st.sampled_from(["home", "search"]), values),
    "k": st.one_of(st.integers(-1, 201), st.just(10**9), values),
    "user_id": st.one_of(words, values),
    "context": st.one_of(st.dictionaries(st.one_of(words, st.sampled_from([*OURS, *OTHERS, "item.x"])), words), values),
    "candidates": st.one_of(st.lists(st.one_of(st.sampled_from(IDS), words), max_size=5), values),
    "event_time": st.one_of(st.datetimes().map(lambda at: at.isoformat()), words, values),
}
bodies = st.one_of(
    st.binary(max_size=60),
    values.map(json.dumps).map(str.encode),
    st.fixed_dictionaries({}, optional=fields).map(json.dumps).map(str.encode),
    st.fixed_dictionaries({}, optional=fields).map(lambda some: json.dumps({**VALID, **some}).encode()),
    st.fixed_dictionaries({}, optional=fields).map(lambda some: json.dumps({**VALID, **some}).encode()[:-2]),
    st.integers(0, 4000).map(lambda depth: b'{"k":' + b"[" * depth + b"]" * depth + b"}"),
)
"""Bytes; JSON of any kind (NaN, lone surrogates, 4,300 digits, any depth); requests right in all but a few fields."""
PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, popular: Bundle) -> Iterator[Direct]:
    with rig.direct(rig.settings(tmp_path_factory.mktemp("bodies")), popular) as made:
        yield made


# -- the request ------------------------------------------------------------------------------------------------------
@settings(**PATIENT, max_examples=300)
@given(bodies)
def test_a_body_is_a_request_or_one_sentence(body: bytes) -> None:
    """Short enough to read, on one line, whatever is wrong with it and however long it is."""
    try:
        request = parse(body, RankRequest)
    except BadRequest as error:
        sentence = str(error)
    else:
        assert json.loads(body)["request_id"] == request.request_id
        return
    assert len(sentence) < 2_000
    assert sentence.isprintable()


@settings(**PATIENT, max_examples=150)
@given(bodies)
def test_no_body_is_a_bug_of_the_endpoint(server: Direct, body: bytes) -> None:
    """200, or 424 with the container's 400 inside; what is captured is what was asked."""
    status, found = server.ask(INVOCATIONS, body)
    answer = json.loads(found)
    assert (status, answer.get("OriginalStatusCode")) in ((200, None), (424, 400)), answer
    if status == 200:
        wanted = json.loads(body).get("k")
        assert len(answer["items"]) <= (ServedSurfaceSettings().k if wanted is None else wanted)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"context": {str(n): "x" for n in range(MAX_CONTEXT + 1)}}, "context: needs at most 100 entries, has 101"),
        ({"candidates": [1] * (MAX_CANDIDATES + 1)}, "candidates: needs at most 1000 entries, has 1001"),
        ({str(n): n for n in range(100_000)}, "body: has 100003 fields; known are request_id, "),
        ({"a\nb" + "x" * 10_000: 1}, "xxx…: Extra inputs are not permitted, found 1"),
        ({"event_time": "9" * 10_000}, 'event_time must be an ISO 8601 time; found "999'),
        ({"candidates": ["i", None]}, "candidates.1: Input should be a valid string, found null"),
        ({"context": {"": "x"}}, "String should have at least 1 character"),
        ({"user_id": ""}, "user_id: String should have at least 1 character"),
        ({"k": 10**9}, "k: Input should be less than or equal to 200, found 1000000000"),
    ],
)
def test_a_refusal_is_short_however_much_is_wrong(fields: dict[str, Any], sentence: str) -> None:
    """A million wrong fields are one complaint, found before any of them is looked at."""
    with pytest.raises(BadRequest) as caught:
        parse(json.dumps({**VALID, **fields}).encode(), RankRequest)
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 500


# -- the context ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [*OTHERS, "user.segment", "item.tier", "item."])
@pytest.mark.parametrize("value", ["search", None])
def test_a_context_does_not_say_what_is_said_beside_it(name: str, value: str | None) -> None:
    """Two surfaces in one request: the ranker would see the one, capture and every later stage the other."""
    with pytest.raises(BadRequest, match="context: may not hold") as caught:
        parse(json.dumps({**VALID, "context": {"daypart": "noon", name: value}}).encode(), RankRequest)
    assert json.dumps(name) in str(caught.value)


def test_the_endpoint_says_so_as_a_model_error(tmp_path: Path, popular: Bundle) -> None:
    """424 with the container's own 400, as for any request that the model cannot read."""
    with rig.running(rig.settings(tmp_path)) as client:
        client.serve(popular)
        with pytest.raises(ClientError, match='may not hold "surface"') as caught:
            client.invoke(context={"surface": "search"})
        assert caught.value.response["OriginalStatusCode"] == 400
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 424


@settings(**PATIENT)
@given(st.dictionaries(st.one_of(st.sampled_from(OURS), st.text(min_size=1, max_size=20)), st.one_of(st.none(), words)))
def test_every_word_of_a_context_is_one_column_and_no_other_changes(context: dict[str, str | None]) -> None:
    """Columns of their own by their own names, anything else as an attribute: what training calls them too."""
    try:
        request = RankRequest(request_id="r", surface="home", k=1, context=context)
    except ValueError:
        assert {*context} & {*OTHERS} or any(key.startswith(("user.", "item.")) for key in context)
        return
    catalogue = Catalogue({}, Encodings.unknown(), TaskSettings())
    plain = catalogue.columns(IDS[:2], None, RankRequest(request_id="r", surface="home", k=1))
    columns = catalogue.columns(IDS[:2], None, request)
    attributes = {key: value for key, value in context.items() if key not in CONTEXT_COLUMNS}
    assert {*columns} == {*plain} | {ATTRIBUTE_PREFIX + key for key in attributes}
    assert all(columns[ATTRIBUTE_PREFIX + key].tolist() == [value] * 2 for key, value in attributes.items())
    assert all(columns[name].tolist() == [context.get(name)] * 2 for name in ("device", "region"))
    for name in {*plain} - {"device", "region"}:
        np.testing.assert_array_equal(columns[name], plain[name])


# -- the wire ---------------------------------------------------------------------------------------------------------
def test_a_body_is_read_no_further_than_its_limit(server: Direct) -> None:
    """SageMaker's 6 MiB; a body without an end must not fill the memory first."""
    parts = [b" " * 2**20] * 100
    status, found = server.ask(INVOCATIONS, parts)
    assert (status, json.loads(found)) == (400, {"Message": f"a body has at most {MAX_BODY} bytes; found more"})
    assert server.unread == 93
    status, found = server.ask("/", parts, {"X-Amz-Target": "SageMaker.ListEndpoints"})
    assert (status, json.loads(found)["__type"]) == (400, "ValidationException")


def test_a_caller_that_hangs_up_is_no_bug(tmp_path: Path, popular: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    """Half a body and then nothing: nobody is answered, nothing is logged as a failure, and the next one is served."""
    caplog.set_level(logging.WARNING)
    with rig.running(rig.settings(tmp_path)) as client:
        client.serve(popular)
        parts = urlsplit(client.url)
        for path in (INVOCATIONS, "/"):
            with socket.create_connection((parts.hostname, parts.port)) as connection:
                head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Amz-Target: SageMaker.ListEndpoints\r\nContent-Length: 99"
                connection.sendall(head.encode() + b"\r\n\r\n{")
        assert len(client.invoke()["items"]) == 3
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


# -- the control plane ------------------------------------------------------------------------------------------------
names = st.one_of(st.sampled_from(["a", "tidegate", "none"]), values)
container = st.fixed_dictionaries(
    {},
    optional={
        "Image": values,
        "ModelDataUrl": st.one_of(
            st.sampled_from(["file:///tmp", "file://[", "file:///" + "x" * 5000, "s3://a"]), values
        ),
        "Environment": st.one_of(
            st.fixed_dictionaries({"TIDEGATE_BUNDLE_SHA256": st.one_of(st.just("0" * 64), values)}), values
        ),
    },
)
variant = st.fixed_dictionaries(
    {}, optional={"VariantName": names, "ModelName": names, "InitialVariantWeight": values, "DesiredWeight": values}
)
parameters = {
    "ModelName": names,
    "EndpointConfigName": names,
    "EndpointName": names,
    "PrimaryContainer": st.one_of(container, values),
    "ProductionVariants": st.one_of(st.lists(st.one_of(variant, values), max_size=3), values),
    "DesiredWeightsAndCapacities": st.one_of(st.lists(st.one_of(variant, values), max_size=3), values),
    "DataCaptureConfig": values,
    "DeploymentConfig": st.one_of(st.fixed_dictionaries({}, optional={"BlueGreenUpdatePolicy": values}), values),
    "RetainAllVariantProperties": values,
    "Tags": values,
    "NameContains": names,
    "SortBy": names,
    "SortOrder": names,
    "StatusEquals": names,
}


@settings(**PATIENT, max_examples=200)
@given(st.data(), st.sampled_from(sorted(PARAMETERS)))
def test_no_operation_is_a_bug_of_the_endpoint(server: Direct, data: st.DataObject, operation: str) -> None:
    """A caller without boto3 may send any type: it is told what boto3 would have told it."""
    known = {name: parameters[name] for name in PARAMETERS[operation] if name in parameters}
    payload = data.draw(st.one_of(st.fixed_dictionaries({}, optional=known), values))
    status, found = server.ask("/", json.dumps(payload).encode(), {"X-Amz-Target": f"SageMaker.{operation}"})
    assert status in (200, 400), found
    assert status == 200 or json.loads(found)["message"]
    assert server.invoke()["items"], "and the endpoint serves on"
