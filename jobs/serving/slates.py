"""From what was predicted of a request's candidates to its slate: one function for the endpoint and for its replay."""

import hashlib
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from jobs.serving.answer import Placement
from models.policies.choice import slate
from models.policies.heuristics import Words
from models.policies.score import score
from models.rankers.protocol import Predictions
from models.settings import PolicySettings


class Ids(Protocol):
    """Of n items, to be looked up by place: an array is such, and what is made of one later."""

    def __len__(self) -> int: ...
    def __getitem__(self, at: NDArray[np.int64], /) -> NDArray[np.object_]: ...


def drawn(
    item_ids: Ids,
    predictions: Predictions,
    policy: PolicySettings,
    surface: str,
    request_id: str,
    k: int | None = None,
    explore: bool = True,
    words: Words | None = None,
) -> list[Placement]:
    """The policy's slate of k items (all, without it); the draw depends on the request id alone. No rows, no items.

    `words` of the candidates are what the policy's heuristics look at. A placement's score is the one before these.
    Without `explore` nothing is drawn: the best by score, without propensities or heuristics.
    """
    if not len(item_ids):
        return []
    scores = score(predictions, policy)
    wanted = len(scores) if k is None else k
    probabilities: list[float | None]
    if explore:
        chosen, propensities = slate(scores, wanted, policy.on(surface), _rng(request_id), words)
        probabilities = propensities.tolist()
    else:
        chosen = np.argsort(-scores, kind="stable")[:wanted]
        probabilities = [None] * len(chosen)
    said = predictions.take(chosen)
    columns = (scores[chosen], said.p_click, said.p_conversion)
    places = range(1, len(chosen) + 1)
    return list(map(Placement, item_ids[chosen].tolist(), places, *(of.tolist() for of in columns), probabilities))


def _rng(request_id: str) -> np.random.Generator:
    """`default_rng` of the hash's first 16 bytes as one number, already in the words that it takes that apart into."""
    words = np.frombuffer(hashlib.sha256(request_id.encode()).digest()[15::-1], "<u4")
    return np.random.Generator(np.random.PCG64(words))
