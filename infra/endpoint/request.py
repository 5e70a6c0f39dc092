"""What the endpoint may be asked: the contract of each call, checked before anything is computed.

These classes are what parses a body and what the OpenAPI document is made of.
"""

import json
import re
import sys
from datetime import UTC, date, datetime
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from infra.endpoint.errors import BadRequest
from jobs.lake.tables import RAW
from models.features import NUMBER

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
NOTHING = ("null", "NULL", "Null", "none", "None", "nil", "nan", "NaN", "undefined")
"""What programs write where they have no id."""
NOBODY = ("anonymous", "guest", "unknown", "-1")
"""Ids that many people share: one profile for all of them would be wrong for each."""
ENCODER = json.JSONEncoder(default=str)


def named(*refused: str) -> AfterValidator:
    """Not blank, and none of the `refused`."""

    def check(value: str) -> str:
        if not value.strip():
            raise ValueError("needs a character that is no space")
        if value in refused:
            raise ValueError("names nobody and nothing: leave it out where there is none")
        return value

    return AfterValidator(check)


def described(*refused: str) -> WithJsonSchema:
    """The same for the OpenAPI document."""
    said: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 256, "pattern": r"\S"}
    return WithJsonSchema(said | ({"not": {"enum": list(refused)}} if refused else {}))


Id = Annotated[str, Field(min_length=1, max_length=256), named(*NOTHING), described(*NOTHING)]
UserId = Annotated[str, Field(min_length=1, max_length=256), named(*NOTHING, *NOBODY), described(*NOTHING, *NOBODY)]
Word = Annotated[str, Field(min_length=1, max_length=256)]


def at_most(most: int) -> BeforeValidator:
    """Too many entries are refused before any is looked at: a million complaints would hold up everybody's requests."""

    def check(values: Any) -> Any:
        if isinstance(values, dict | list) and len(values) > most:
            raise ValueError(f"needs at most {most} entries, has {len(values)}")
        return values

    return BeforeValidator(check)


def _distinct(values: list[str]) -> list[str]:
    if len(set(values)) != len(values):
        raise ValueError(f"must be distinct; found {len(values)} with repeats")
    return values


def _whole(value: Any) -> Any:
    """20.0 is an integer, as JSON Schema has it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
DISTINCT = AfterValidator(_distinct)
MANY = {"maxItems": MAX_CANDIDATES, "uniqueItems": True}
Ids = Annotated[list[Id], Field(min_length=1, json_schema_extra=MANY), at_most(MAX_CANDIDATES), DISTINCT]
"""Some different items."""


def _described_context(schema: dict[str, Any]) -> None:
    taken = [{"enum": sorted(TAKEN)}, *({"pattern": f"^{re.escape(prefix)}"} for prefix in PREFIXES)]
    schema["additionalProperties"]["anyOf"].append({"type": "number"})
    schema["maxProperties"] = MAX_CONTEXT
    schema["propertyNames"] = {"minLength": 1, "maxLength": 256, "not": {"anyOf": taken}}


class Asked(BaseModel):
    """What every call says."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    request_id: Id
    """The draw depends on it alone; the first answer to a request is the one that counts."""
    event_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None = None
    """ISO 8601, UTC where it has no zone: what was known then is what may be used. Now, where it is not given."""

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, values: Any) -> Any:
        if isinstance(values, dict) and len(values) > len(cls.model_fields):
            raise ValueError(f"has {len(values)} fields; known are {', '.join(cls.model_fields)}")
        return values

    def at(self) -> datetime:
        """The event time (one without a zone is UTC), else the wall clock: what is known then is what may be used."""
        if self.event_time is None:
            return datetime.now(UTC)
        at = datetime.fromisoformat(self.event_time)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)

    def day(self) -> date:
        """The UTC day of `at`."""
        return self.at().date()


def _is_number(value: Any) -> bool:
    """Whether an attribute counts: what a double holds. An integer past that is refused, as a word would not be."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


class AskedOnSurface(Asked):
    """What every call says that has somebody look at items."""

    user_id: UserId | None = None
    """Left out for somebody who is not known."""
    surface: Id
    context: Annotated[dict[Word, str | None], at_most(MAX_CONTEXT)] = Field({}, json_schema_extra=_described_context)
    """`device`, `region`, `query` and `source_item_id`, and attributes by any other name, words or numbers."""

    @field_validator("context", mode="before")
    @classmethod
    def _has_numbers(cls, context: Any) -> Any:
        """A number is an attribute that is one, see `models.features.NUMBER`."""
        if not isinstance(context, dict):
            return context
        return {
            f"{key}{NUMBER}" if number else key: str(value) if number else value
            for key, value in context.items()
            for number in [_is_number(value) and key not in (*CONTEXT_COLUMNS, *TAKEN)]
        }

    @field_validator("context")
    @classmethod
    def _says_nothing_twice(cls, context: dict[str, str | None]) -> dict[str, str | None]:
        """What is logged beside the context, or is known of users and items, has one source."""
        taken = sorted(key for key in context if key in TAKEN or key.startswith(PREFIXES))
        if taken:
            raise ValueError(
                f"may not hold {', '.join(map(shown, taken))}: that is said beside it, or of users and items elsewhere"
            )
        return context


class RankRequest(AskedOnSurface):
    """One decision to make."""

    candidates: Ids | None = None
    """Without them the bundle's retriever finds some."""
    k: Annotated[int, Field(ge=1, le=MAX_K), WHOLE] | None = None
    """Items wanted; without it as many as the surface shows."""

    @property
    def drawn(self) -> bool:
        """Whether the bundle's policy draws the slate; else all candidates are ordered by their scores."""
        return True


class ScoreRequest(RankRequest):
    """Candidates to score."""

    candidates: Ids
    k: Annotated[int, Field(ge=1, le=MAX_CANDIDATES), WHOLE] | None = None
    """Items wanted, the best; all, without it."""
    explore: bool = False
    """Have the bundle's policy draw the slate, as an invocation does; else every candidate is scored, in order."""

    @property
    def drawn(self) -> bool:
        """See `RankRequest`."""
        return self.explore


class CandidatesRequest(AskedOnSurface):
    """Items that are worth ranking, for a user or for whoever took some items up."""

    items: Ids | None = None
    """Taken up lately, in any order; they count instead of what is known of the user."""
    k: Annotated[int, Field(ge=1, le=MAX_CANDIDATES), WHOLE] | None = None
    """Candidates wanted; without it as many as an invocation would rank."""


class EmbedRequest(Asked):
    """Users and items to place."""

    users: Annotated[list[UserId], Field(json_schema_extra=MANY), at_most(MAX_CANDIDATES), DISTINCT] = []
    """They are where the items are that they took up last."""
    items: Annotated[list[Id], Field(json_schema_extra=MANY), at_most(MAX_CANDIDATES), DISTINCT] = []
    """Of the bundle's own catalogue."""


TAKEN = frozenset(RAW["impressions"].columns) | frozenset(RAW["requests"].columns) | frozenset(RankRequest.model_fields)
TAKEN -= frozenset(CONTEXT_COLUMNS)
"""Names that a context may not use: columns beside it, which data capture and every later stage read from there."""
A = TypeVar("A", bound=Asked)


async def body_of(receive: Receive) -> bytes:
    """The body; raises `BadRequest` as soon as it is longer than `MAX_BODY`, however long it is going to be, and
    `ClientDisconnect` where its end never comes.
    """
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        size, more = size + len(parts[-1]), message.get("more_body", False)
        if size > MAX_BODY:
            raise BadRequest(f"a body has at most {MAX_BODY} bytes; found more")
    return b"".join(parts)


def parse(body: bytes, kind: type[A]) -> A:
    """The request in a body; raises `BadRequest` with one sentence that names every wrong field."""
    try:
        request = kind.model_validate_json(body)
    except ValidationError as error:
        found = "; ".join(_sentence(e["loc"], e["msg"], e["input"]) for e in error.errors(include_url=False)[:5])
        needed = ", ".join(name for name, field in kind.model_fields.items() if field.is_required())
        raise BadRequest(f"a request needs {needed} and well-formed optional fields; {found}") from error
    try:
        request.day()
    except (ValueError, OverflowError) as error:
        raise BadRequest(f"event_time must be an ISO 8601 time; found {shown(request.event_time)}") from error
    return request


def _sentence(loc: tuple[int | str, ...], message: str, value: object) -> str:
    # A key is the caller's: it may be of any length and hold line breaks.
    where = ".".join(part if part.isprintable() and len(part) <= SHOWN else shown(part) for part in map(str, loc))
    return f"{where or 'body'}: {message.removeprefix('Value error, ')}, found {shown(value)}"


def shown(value: Any) -> str:
    """The beginning of a value on one line, whatever and however long it is."""
    text = ""
    for part in ENCODER.iterencode(value[: SHOWN + 1] if isinstance(value, str | bytes) else value):
        text += part
        if len(text) > SHOWN:
            return f"{text[:SHOWN]}…"
    return text
