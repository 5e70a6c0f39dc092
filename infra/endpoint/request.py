"""What an invocation may ask: the request's contract, checked before anything is computed."""

import json
from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from starlette.requests import Request

from infra.endpoint.errors import BadRequest
from jobs.lake.tables import RAW

MAX_BODY = 6 * 1024 * 1024
"""SageMaker's own limit of an InvokeEndpoint body."""
MAX_CANDIDATES = 1_000
MAX_K = 200
MAX_CONTEXT = 100
SHOWN = 60
"""Characters of what was found that a refusal repeats."""
CONTEXT_COLUMNS = ("device", "region", "query", "source_item_id")
"""Keys of a context that are columns of their own; any other key is an attribute."""
PREFIXES = ("user.", "item.")
"""Of the attributes that come from the users' and items' tables."""
ENCODER = json.JSONEncoder(default=str)
Id = Annotated[str, Field(min_length=1, max_length=256)]


def at_most(most: int) -> BeforeValidator:
    """Too many entries are refused before any is looked at: a million complaints would hold up everybody's requests."""

    def check(values: Any) -> Any:
        if isinstance(values, dict | list) and len(values) > most:
            raise ValueError(f"needs at most {most} entries, has {len(values)}")
        return values

    return BeforeValidator(check)


class RankRequest(BaseModel):
    """One decision to make. Without `candidates` the bundle's retriever finds them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    request_id: Id
    user_id: Id | None = None
    surface: Id
    context: Annotated[dict[Id, str | None], at_most(MAX_CONTEXT)] = {}
    candidates: Annotated[list[Id] | None, Field(min_length=1), at_most(MAX_CANDIDATES)] = None
    k: Annotated[int, Field(ge=1, le=MAX_K)]
    event_time: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, values: Any) -> Any:
        if isinstance(values, dict) and len(values) > len(cls.model_fields):
            raise ValueError(f"has {len(values)} fields; known are {', '.join(cls.model_fields)}")
        return values

    @field_validator("context")
    @classmethod
    def _says_nothing_twice(cls, context: dict[str, str | None]) -> dict[str, str | None]:
        """What is logged beside the context, or is known of users and items, has one source."""
        taken = sorted(key for key in context if key in TAKEN or key.startswith(PREFIXES))
        if taken:
            raise ValueError(
                f"may not hold {', '.join(map(_shown, taken))}: that is said beside it, or of users and items elsewhere"
            )
        return context

    def at(self) -> datetime:
        """The event time (one without a zone is UTC), else the wall clock: what is known then is what may be used."""
        if self.event_time is None:
            return datetime.now(UTC)
        at = datetime.fromisoformat(self.event_time)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)

    def day(self) -> date:
        """The UTC day of `at`."""
        return self.at().date()


TAKEN = frozenset(RAW["impressions"].columns) | frozenset(RAW["requests"].columns) | frozenset(RankRequest.model_fields)
TAKEN -= frozenset(CONTEXT_COLUMNS)
"""Names that a context may not use: columns beside it, which data capture and every later stage read from there."""


async def body_of(request: Request) -> bytes:
    """The body; raises `BadRequest` as soon as it is longer than `MAX_BODY`, however long it is going to be."""
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > MAX_BODY:
            raise BadRequest(f"a body has at most {MAX_BODY} bytes; found more")
    return b"".join(parts)


def parse(body: bytes) -> RankRequest:
    """The request in a body; raises `BadRequest` with one sentence that names every wrong field."""
    try:
        request = RankRequest.model_validate_json(body)
    except ValidationError as error:
        found = "; ".join(_sentence(e["loc"], e["msg"], e["input"]) for e in error.errors(include_url=False)[:5])
        raise BadRequest(f"a request needs request_id, surface, k and well-formed optional fields; {found}") from error
    try:
        request.day()
    except (ValueError, OverflowError) as error:
        raise BadRequest(f"event_time must be an ISO 8601 time; found {_shown(request.event_time)}") from error
    if request.candidates is not None and len(set(request.candidates)) != len(request.candidates):
        raise BadRequest(f"candidates must be distinct; found {len(request.candidates)} with repeats")
    return request


def _sentence(loc: tuple[int | str, ...], message: str, value: object) -> str:
    # A key is the caller's: it may be of any length and hold line breaks.
    where = ".".join(part if part.isprintable() and len(part) <= SHOWN else _shown(part) for part in map(str, loc))
    return f"{where or 'body'}: {message.removeprefix('Value error, ')}, found {_shown(value)}"


def _shown(value: Any) -> str:
    """The beginning of a value on one line, whatever and however long it is."""
    text = ""
    for part in ENCODER.iterencode(value[: SHOWN + 1] if isinstance(value, str | bytes) else value):
        text += part
        if len(text) > SHOWN:
            return f"{text[:SHOWN]}…"
    return text
