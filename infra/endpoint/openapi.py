"""The OpenAPI 3.1 document of calls, made of the very classes that parse a body and of those that are answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, TypeAdapter

from jobs.serving.answer import Refusal

VERSION = "3.1.0"
JSON, TEXT = "application/json", "text/plain"
REFERENCE = "#/components/schemas/{model}"
REFUSALS = {400: "The request cannot be read, or asks for what there is not."}
"""Of every call."""


@dataclass(frozen=True)
class Described:
    """What a document says of a call: a POST of one class that another answers."""

    path: str
    asks: type[BaseModel]
    answers: type[Any]
    summary: str
    refusals: Mapping[int, str] = field(default_factory=dict, kw_only=True)
    """Statuses beside those of every call."""


def document(calls: Sequence[Described]) -> dict[str, Any]:
    """Of these calls, and of what a container answers besides."""
    asked = [(call.asks, "validation", TypeAdapter(call.asks)) for call in calls]
    answers: list[Any] = list(dict.fromkeys([*(call.answers for call in calls), Refusal]))
    answered = [(of, "serialization", TypeAdapter(of)) for of in answers]
    schemas, defined = TypeAdapter.json_schemas([*asked, *answered], ref_template=REFERENCE)  # type: ignore[list-item]
    paths: dict[str, Any] = {}
    for call in calls:
        responses = {"200": _holds("The answer.", schemas[call.answers, "serialization"])}
        for status, why in {**REFUSALS, **call.refusals}.items():
            responses[str(status)] = _holds(why, schemas[Refusal, "serialization"])
        body = {"required": True, "content": {JSON: {"schema": schemas[call.asks, "validation"]}}}
        paths[call.path] = {
            "post": {"operationId": call.path[1:], "summary": call.summary, "requestBody": body, "responses": responses}
        }
    paths["/ping"] = {"get": {"operationId": "ping", "responses": {"200": {"description": "It answers."}}}}
    text = {"description": "Counters since the start.", "content": {TEXT: {"schema": {"type": "string"}}}}
    paths["/metrics"] = {"get": {"operationId": "metrics", "responses": {"200": text}}}
    return {
        "openapi": VERSION,
        "info": {"title": "Tidegate: the calls of a bundle in service", "version": "1"},
        "paths": paths,
        "components": {"schemas": defined.get("$defs", {})},
    }


def _holds(why: str, schema: Any) -> dict[str, Any]:
    return {"description": why, "content": {JSON: {"schema": schema}}}
