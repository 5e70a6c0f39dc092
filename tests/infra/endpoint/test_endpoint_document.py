"""What `GET /openapi.json` says is what the container does: cases made from it, right ones and wrong ones."""

import ast
import datetime
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from infra.endpoint.calls import DOCUMENT
from infra.endpoint.request import CandidatesRequest, EmbedRequest, RankRequest, ScoreRequest
from jobs.bundle import Bundle
from jobs.serving import answer
from tests.infra.endpoint import rig
from tests.infra.endpoint.container_rig import GOOD, Contained, contained
from tests.infra.endpoint.rig import first_stage

PATHS = ["/invocations", "/rank", "/candidates", "/embed"]
# Years that an offset can move out of the calendar are no event times.
schemathesis.openapi.format(
    "date-time",
    st.datetimes(datetime.datetime(1971, 1, 1), datetime.datetime(2100, 1, 1), timezones=st.just(datetime.UTC)).map(
        lambda at: at.isoformat()
    ),
)


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory, popular: Bundle) -> Iterator[Contained]:
    vectors = replace(popular, retrieval=first_stage("ials", "content"))
    with contained(vectors, rig.settings(tmp_path_factory.mktemp("document"))) as made:
        yield made


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_case_of_the_document_is_answered_as_it_says(container: Contained, mode: GenerationMode) -> None:
    """Right cases with 200 and a body of its schema, wrong ones with a status that it names; none is a bug, and the
    server answers a good question after each.
    """
    document = schemathesis.openapi.from_asgi(DOCUMENT, container.app)

    @settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
    @given(document.as_strategy(mode))
    def held(case: Any) -> None:
        case.call_and_validate()
        assert len(container.answer("/invocations", **GOOD)["items"]) == 3

    held()


def test_the_document_names_every_field_that_is_read_or_written(container: Contained) -> None:
    """With what it means: a field without words, or one that only the code knows, is nobody's contract."""
    found = container.document()
    assert found["openapi"] == "3.1.0"
    assert {*found["paths"]} == {*PATHS, "/ping", "/metrics"}
    schemas = found["components"]["schemas"]
    for asked in (RankRequest, ScoreRequest, CandidatesRequest, EmbedRequest):
        assert {*schemas[asked.__name__]["properties"]} == {*asked.model_fields}
        assert not schemas[asked.__name__]["additionalProperties"]
    for answered in (answer.Answer, answer.Placement, answer.Candidates, answer.Embeddings, answer.Refusal):
        assert {*schemas[answered.__name__]["properties"]} == {field.name for field in fields(answered)}
    assert schemas["RankRequest"]["properties"]["event_time"]["description"]
    assert schemas["Answer"]["properties"]["fallback"]["description"]


@pytest.mark.parametrize("path", PATHS)
def test_what_is_answered_is_of_the_schema_and_nothing_beside_it(container: Contained, path: str) -> None:
    """Schemas of answers leave room for more; the answers do not use it."""
    body = {"request_id": "r", "surface": "home", "candidates": rig.IDS[:3], "items": rig.IDS[:2], "users": ["u1"]}
    known = json.dumps(container.document()["paths"][path]["post"]["requestBody"])
    name = known.split("schemas/")[1].split('"')[0]
    takes = container.document()["components"]["schemas"][name]["properties"]
    status, found = container.ask(path, {key: value for key, value in body.items() if key in takes})
    assert status == 200, found
    reference = container.document()["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]
    schema = container.document()["components"]["schemas"][reference["schema"]["$ref"].split("/")[-1]]
    assert {*found} == {*schema["properties"]}


def test_the_document_is_there_before_anything_is_asked(
    tmp_path: Path, popular: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the same from every container of one version: it says nothing of the bundle.

    Nothing parses Python when a container begins: three that began side by side, as threads of a test, once failed with
    "AST constructor recursion depth mismatch" (python/cpython#106905).
    """

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("parses Python")

    with monkeypatch.context() as while_they_begin, ExitStack() as begun:
        while_they_begin.setattr(ast, "parse", refused)
        one, other = (begun.enter_context(contained(popular, rig.settings(tmp_path))) for _ in range(2))
    assert one.document() == other.document()
    assert popular.candidate_id not in json.dumps(one.document())
