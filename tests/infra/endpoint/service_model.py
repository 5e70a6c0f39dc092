"""Answers held against botocore's own service model: what an unmodified boto3 was told to expect."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.validate import ParamValidator

from infra.endpoint.shapes import complaints

COMMON = {"ValidationException": 400, "UnknownOperationException": 404, "SerializationException": 400}
"""Errors that any AWS operation may answer with, beside those of its model."""
INTERNAL = ("InternalFailure", 500)


def conforms(operation: Any, response: Mapping[str, Any]) -> None:
    """Raises `AssertionError` where an answer is not of the operation's output shape, or of one of its errors'."""
    if response["status_code"] >= 300:
        error_conforms(operation, response)
    elif operation.service_model.service_name == "sagemaker-runtime":
        headers = {name.lower() for name in response["headers"]}
        assert {"content-type", "x-amzn-invoked-production-variant", "x-amzn-requestid"} <= headers
    else:
        body = json.loads(response["body"])
        if operation.output_shape is None:
            assert body == {}, f"{operation.name} answers nothing; found {body}"
        else:
            body_conforms(operation.output_shape, body)


def body_conforms(shape: Any, body: Any) -> None:
    """Types, required members and no unknown ones; enums, patterns and ranges."""
    found = ParamValidator().validate(body, shape)
    assert not found.has_errors(), f"{shape.name}: {found.generate_report()}"
    assert list(complaints(shape, body)) == []


def error_conforms(operation: Any, response: Mapping[str, Any]) -> None:
    body, headers = json.loads(response["body"]), {k.lower(): v for k, v in response["headers"].items()}
    code = headers["x-amzn-errortype"]
    modelled = {shape.name: shape for shape in operation.error_shapes}
    if code in modelled:
        members = {name: value for name, value in body.items() if not name.startswith("__")}
        said = modelled[code].metadata.get("error", {}).get("httpStatusCode", 400)
        assert response["status_code"] == said
        assert members["Message"]
        unknown = set(members) - set(modelled[code].members) - {"ErrorCode"}  # AWS sends it unmodelled
        assert not unknown, f"{code} has no {unknown}"
        return
    assert code in COMMON or code == INTERNAL[0], f"{operation.name} never says {code}"
    assert response["status_code"] == {**COMMON, INTERNAL[0]: INTERNAL[1]}[code]
    assert body["message" if code in COMMON else "Message" if "Message" in body else "message"]


def broken(shape: Any, valid: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every way in which one member of a valid call can break its shape, with where it does."""
    for path, member, value in _members(shape, valid, ()):
        for wrong in _wrong(member, value):
            yield f"{'.'.join(map(str, path))}={str(wrong)[:40]}", _with(valid, path, wrong)
    for name in shape.required_members:
        yield f"no {name}", {key: value for key, value in valid.items() if key != name}


def _members(shape: Any, value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    if path:
        yield path, shape, value
    if shape.type_name == "structure":
        for name, below in value.items():
            yield from _members(shape.members[name], below, (*path, name))
    elif shape.type_name == "list":
        for number, below in enumerate(value):
            yield from _members(shape.member, below, (*path, number))
    elif shape.type_name == "map":
        for key, below in value.items():
            yield from _members(shape.value, below, (*path, key))


def _wrong(shape: Any, value: Any) -> Iterator[Any]:
    rules, kind = shape.metadata, shape.type_name
    yield {"string": 7, "structure": "x", "list": {"a": 1}, "map": [1], "boolean": "yes"}.get(kind, "x")
    if "enum" in rules:
        yield "SOMETHING_ELSE"
    elif kind == "string":
        if "max" in rules:
            yield "x" * (rules["max"] + 1)
        if rules.get("pattern", "").startswith("[a-zA-Z0-9]"):
            yield from ("a b", "../x", "")
    if kind in ("integer", "long"):
        if "max" in rules:
            yield rules["max"] + 1
        if "min" in rules:
            yield rules["min"] - 1
        yield from (1.5, True)
    if kind == "list" and "max" in rules:
        yield [value[0]] * (rules["max"] + 1)
    if kind == "structure":
        yield {**value, "Unknown": 1}
        for name in shape.required_members:
            yield {key: below for key, below in value.items() if key != name}


def _with(valid: Any, path: tuple[Any, ...], wrong: Any) -> Any:
    if not path:
        return wrong
    copied = list(valid) if isinstance(valid, list) else dict(valid)
    copied[path[0]] = _with(copied[path[0]], path[1:], wrong)
    return copied
