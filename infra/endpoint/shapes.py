"""SageMaker's own service model, as botocore carries it: what a call must look like, down to patterns and ranges.

boto3 checks types and least values before it sends anything, and leaves patterns, enums and most values to the server:
so they are checked here, and said in the service's own words.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from infra.endpoint.errors import Rejected

FILES = frozenset({"Url", "DestinationS3Uri", "S3ModelUri"})
"""Shapes whose pattern is not asked for: here a bundle is a folder, and so is the data capture."""
LONGEST, MOST = 1000, 10
"""Of a refusal: its characters, and how many complaints it names."""


@cache
def service() -> Any:
    """The service model; reading it takes a third of a second, so the first operation does it."""
    from botocore.session import get_session

    return get_session().get_service_model("sagemaker")


def check(operation: str, payload: Mapping[str, Any]) -> None:
    """Raises `Rejected` where SageMaker would: a caller without boto3 is told what boto3 would have told it too."""
    from botocore.validate import ParamValidator

    shape = service().operation_model(operation).input_shape
    found = ParamValidator().validate(dict(payload), shape)
    if found.has_errors():
        raise Rejected(f"{operation} needs SageMaker's own types; {_short(found.generate_report())}")
    wrong = list(complaints(shape, payload))
    if wrong:
        errors = "error" if len(wrong) == 1 else "errors"
        raise Rejected(_short(f"{len(wrong)} validation {errors} detected: {'; '.join(wrong[:MOST])}"))


def complaints(shape: Any, value: Any, path: str = "") -> Iterator[str]:
    """What a value of the right types breaks of its shape's enums, patterns and ranges."""
    if shape.type_name == "structure":
        for name, below in value.items():
            if below is not None:
                yield from complaints(shape.members[name], below, f"{path}.{_camel(name)}" if path else _camel(name))
        return
    if broken := _broken(shape, value):
        yield f"Value '{value}' at '{path}' failed to satisfy constraint: Member must {broken}"
        return
    if shape.type_name == "list":
        for number, below in enumerate(value, 1):
            yield from complaints(shape.member, below, f"{path}.{number}.member")
    elif shape.type_name == "map":
        for key, below in value.items():
            yield from complaints(shape.key, key, f"{path}.key")
            yield from complaints(shape.value, below, f"{path}.{key}.value")


def _broken(shape: Any, value: Any) -> str | None:
    rules, sized = shape.metadata, shape.type_name in ("string", "list", "map", "blob")
    if isinstance(value, bool) and shape.type_name != "boolean":  # which boto3 takes for a number
        return f"be of type {shape.type_name}"
    if "enum" in rules and value not in rules["enum"]:
        return f"satisfy enum value set: [{', '.join(rules['enum'])}]"
    if "max" in rules and (len(value) if sized else value) > rules["max"]:
        return f"have {'length' if sized else 'value'} less than or equal to {rules['max']}"
    pattern = _compiled(rules["pattern"]) if "pattern" in rules and shape.name not in FILES else None
    if pattern is not None and not pattern.fullmatch(value):
        return f"satisfy regular expression pattern: {rules['pattern']}"
    return None


@cache
def _compiled(pattern: str) -> re.Pattern[str] | None:
    """None for a pattern of Java's that Python has no word for."""
    try:
        return re.compile(pattern)
    except re.error:
        return None


def _camel(name: str) -> str:
    return name[0].lower() + name[1:]


def _short(text: str) -> str:
    return " ".join(text.split())[:LONGEST]
