"""What the endpoint answers: one type for what is returned, captured and read back."""

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

FALLBACK = "+fallback"
"""Follows a candidate's name where its fallback answered."""


@dataclass(frozen=True, slots=True)
class Placement:
    """One item of a slate."""

    item_id: str
    position: int
    """1 is the top."""
    score: float
    """What items were ordered by before the policy drew."""
    p_click: float
    p_conversion: float
    """Probabilities given the impression, in [0, 1]."""
    propensity: float | None
    """In (0, 1], given everything above it; None where an endpoint does not say: it is never re-weighted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to one request."""

    request_id: str
    items: list[Placement]
    bundle_version: str
    """The candidate's id."""
    bundle_sha256: str
    variant: str
    fallback: bool
    """Popularity made it, because the ranker was busy, late or raised, or its process did not answer."""
    features_day: str | None
    """The day of the features it saw; None where nothing was online."""
    retrieved_by: str | None = None
    """Who found the candidates of a request that brought none: the bundle's retriever; `content` or `popularity`, where
    it knew nothing of the user's last items, or there were none."""
    candidates: list[str] | None = None
    """What was chosen from then, for whoever logs requests: without it the decision can never be replayed."""
    fallback_reason: str | None = None
    """`busy`, `late`, `failed`, `down` or `hung`; None where the ranker answered."""

    @property
    def policy(self) -> str:
        """What loggers write as the `policy` of its impressions."""
        return self.bundle_version + (FALLBACK if self.fallback else "")


_ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)


def answer_of(body: Any) -> Answer:
    """The answer that a JSON value says; raises ValueError naming what is missing or of another type."""
    return _ANSWER.validate_python(body)
