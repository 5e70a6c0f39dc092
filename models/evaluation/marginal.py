"""Weights of what an action is instead of which it is: many items share an embedding, so the weights are smaller."""

import numpy as np
from numpy.typing import NDArray

from models.evaluation.estimate import Estimate
from models.evaluation.off_policy import ips
from models.evaluation.sufficient import CONFIDENCE
from models.evaluation.weighting import Floats, need_one_length

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def mips(
    *,
    reward: Floats,
    decision: Ints,
    embedding: Ints,
    taken: Bools,
    logged: Floats,
    target: Floats,
    clusters: Ints | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """IPS with each policy's probability of the embedding taken (Saito & Joachims 2022, p(e | x, a) certain).

    `reward`, `clusters`: (n,) by decision. All others (m,) by candidate, candidates of a decision in any order:
    `decision` 0 to n - 1, `embedding` integers (a category, a cluster of items), `taken` true once per decision,
    `logged` and `target` probabilities that sum to one per decision. Unbiased when an item's reward depends on the item
    only through its embedding, and support is needed for embeddings alone; otherwise biased by what is left.
    """
    logged_marginal, target_marginal = embedding_probabilities(
        decision=decision, embedding=embedding, taken=taken, logged=logged, target=target, decisions=len(reward)
    )
    return ips(reward=reward, logged=logged_marginal, target=target_marginal, clusters=clusters, confidence=confidence)


def embedding_probabilities(
    *, decision: Ints, embedding: Ints, taken: Bools, logged: Floats, target: Floats, decisions: int
) -> tuple[Floats, Floats]:
    """(n,) each: how likely either policy was to take an item of the embedding that was taken; as for `mips`.

    Raises ValueError for unequal lengths, decisions without exactly one candidate taken, and probabilities that do not
    sum to one.
    """
    row, taken = np.asarray(decision, dtype=np.int64), np.asarray(taken, dtype=bool)
    chances = {"logged": np.asarray(logged, dtype=np.float64), "target": np.asarray(target, dtype=np.float64)}
    codes = np.asarray(embedding)
    need_one_length({"decision": row, "embedding": codes, "taken": taken, **chances})
    if len(row) and not (row.min() >= 0 and row.max() < decisions):
        raise ValueError(f"decisions need numbers from 0 to {decisions - 1}; found {row.min()} to {row.max()}")
    once = np.bincount(row[taken], minlength=decisions)
    if (once != 1).any():
        at = int(np.argmax(once != 1))
        raise ValueError(f"each decision needs exactly one candidate taken; found {once[at]} in decision {at}")
    for name, chance in chances.items():
        sums = np.bincount(row, weights=chance, minlength=decisions)
        if not (np.abs(sums - 1.0) <= 1e-6).all():
            at = int(np.argmax(~(np.abs(sums - 1.0) <= 1e-6)))
            raise ValueError(f"{name} needs to sum to 1 per decision; found {sums[at]:g} in decision {at}")
    chosen = np.zeros(decisions, dtype=codes.dtype)
    chosen[row[taken]] = codes[taken]
    same = codes == chosen[row]
    first, last = (np.bincount(row[same], weights=c[same], minlength=decisions) for c in chances.values())
    return np.minimum(first, 1.0), np.minimum(last, 1.0)
