"""What the endpoint answers: one type for what is returned, captured and read back; and what its other calls answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import ConfigDict, GetPydanticSchema, TypeAdapter

from models.experiments.assignment import Exposure

FALLBACK = "+fallback"
"""Follows a candidate's name where its fallback answered."""
DESCRIBED = ConfigDict(use_attribute_docstrings=True)
"""What is said below a field is said in the OpenAPI document too."""


@dataclass(slots=True)  # not frozen: a page makes fifty, each by six calls then
class Placement:
    """One item of a slate."""

    __pydantic_config__ = DESCRIBED
    item_id: str
    position: int
    """1 is the top."""
    score: float
    """What items were ordered by before the policy drew, and before its heuristics."""
    p_click: float
    p_conversion: float
    """Probabilities given the impression, in [0, 1]."""
    propensity: float | None
    """In (0, 1], given everything above it; None where nothing was drawn, or an endpoint does not say: it is never
    re-weighted."""


@dataclass(frozen=True, slots=True)
class Mix:
    """How a page was mixed of the lists of an experiment's arms."""

    __pydantic_config__ = DESCRIBED
    experiment: str
    arms: list[str]
    worth: list[list[float]]
    """Of a click at each place, to each arm; all 0 on a balanced page."""
    bundles: list[str] | None = None
    """The candidates whose lists were mixed, by arm."""
    ranks: list[list[int | None]] | None = None
    """Of a balanced page: where each arm had the item of each place, from 0; None where it did not have it. What a
    click is worth there hangs on the page's other clicks."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to one request."""

    __pydantic_config__ = DESCRIBED
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
    # Read back as a list, which pydantic makes sooner; the container's are `infra.endpoint.names.Named`.
    candidates: Annotated[Sequence[str] | None, GetPydanticSchema(lambda _, of: of(list[str] | None))] = None
    """What was chosen from then, for whoever logs requests: without it the decision can never be replayed."""
    fallback_reason: str | None = None
    """`busy`, `late`, `failed`, `down` or `hung`; None where the ranker answered."""
    user_known: bool | None = None
    """Whether there were features of the user; None where none was named, or popularity answered for the ranker."""
    unknown_items: list[str] | None = None
    """Of the candidates that a request brought those which the catalogue did not know: they were ranked without
    features. None as for the user."""
    exposures: list[Exposure] | None = None
    """The experiments that the request was part of, and the arm that it met; None where it was part of none."""
    mix: Mix | None = None
    """Of a page of several variants' items; it is logged under the policy of the first of them."""

    @property
    def policy(self) -> str:
        """What loggers write as the `policy` of its impressions."""
        return self.bundle_version + (FALLBACK if self.fallback else "")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item that is worth ranking."""

    __pydantic_config__ = DESCRIBED
    item_id: str
    score: float | None
    """Of whoever found it, best first, comparable among its own alone; None where it is offered for its age."""
    found_by: str
    """A retriever's kind; `newest`, which no retriever can know."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What retrieval finds for a user or for items."""

    __pydantic_config__ = DESCRIBED
    request_id: str
    candidates: list[Candidate]
    bundle_version: str
    bundle_sha256: str
    variant: str
    fallback: bool
    """Retrieval was busy, late or raised: these are the most popular items."""
    fallback_reason: str | None
    features_day: str | None
    retrieved_by: str
    """The bundle's retriever; `content` or `popularity` where it knew nothing of the items, or there were none."""
    user_known: bool | None
    unknown_items: list[str] | None
    """Of the items that were given those which retrieval does not know."""


@dataclass(frozen=True, slots=True)
class Space:
    """Vectors that may be compared with each other, and with no others."""

    __pydantic_config__ = DESCRIBED
    version: str
    """A sha256 of its item vectors."""
    dimensions: int


@dataclass(frozen=True, slots=True)
class Embedding:
    """Where a user or an item is."""

    __pydantic_config__ = DESCRIBED
    id: str
    vector: list[float] | None
    """None where nothing is known: popularity answers for such a user."""
    space: str | None
    """The kind of the retriever whose vector it is: a key of `spaces`."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors of users and items; the inner product of two of one space is a retriever's score."""

    __pydantic_config__ = DESCRIBED
    request_id: str
    users: list[Embedding]
    items: list[Embedding]
    spaces: dict[str, Space]
    bundle_version: str
    bundle_sha256: str
    variant: str
    features_day: str | None
    """The day whose last items the users' vectors were made of."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request was not answered."""

    error: str


_ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)


def answer_of(body: Any) -> Answer:
    """The answer that a JSON value says; raises ValueError naming what is missing or of another type."""
    return _ANSWER.validate_python(body)
