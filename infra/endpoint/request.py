"""What an invocation may ask: the request's contract, checked before anything is computed."""

import json
from datetime import UTC, date, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.endpoint.errors import BadRequest

MAX_CANDIDATES = 1_000
MAX_K = 200
Id = Annotated[str, Field(min_length=1, max_length=256)]


class RankRequest(BaseModel):
    """One decision to make. Without `candidates` the bundle's index retrieves them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    request_id: Id
    user_id: Id | None = None
    surface: Id
    context: dict[str, str | None] = {}
    candidates: Annotated[list[Id], Field(min_length=1, max_length=MAX_CANDIDATES)] | None = None
    k: Annotated[int, Field(ge=1, le=MAX_K)]
    event_time: str | None = None

    def at(self) -> datetime:
        """The event time (one without a zone is UTC), else the wall clock: what is known then is what may be used."""
        if self.event_time is None:
            return datetime.now(UTC)
        at = datetime.fromisoformat(self.event_time)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)

    def day(self) -> date:
        """The UTC day of `at`."""
        return self.at().date()


def parse(body: bytes) -> RankRequest:
    """The request in a body; raises `BadRequest` with one sentence that names every wrong field."""
    try:
        request = RankRequest.model_validate_json(body)
        request.day()
    except ValidationError as error:
        found = "; ".join(_sentence(e["loc"], e["msg"], e["input"]) for e in error.errors(include_url=False)[:5])
        raise BadRequest(f"a request needs request_id, surface, k and well-formed optional fields; {found}") from error
    except (ValueError, OverflowError) as error:
        raise BadRequest(f"event_time must be an ISO 8601 time; found {request.event_time!r}") from error
    if request.candidates is not None and len(set(request.candidates)) != len(request.candidates):
        raise BadRequest(f"candidates must be distinct; found {len(request.candidates)} with repeats")
    return request


def _sentence(loc: tuple[int | str, ...], message: str, value: object) -> str:
    shown = json.dumps(value, default=str)
    return f"{'.'.join(map(str, loc)) or 'body'}: {message}, found {shown[:60]}{'…' if len(shown) > 60 else ''}"
