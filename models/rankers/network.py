"""The multi-gate mixture of experts (Ma et al. 2018, "Modeling Task Relationships in Multi-task Learning with
Multi-gate Mixture-of-Experts", KDD) as one formula, for the learner's torch and for serving's numpy alike.

Functions take `xp`, the library of their arrays: what is judged and served is the formula that learned.

Weights by name, for m inputs, E experts of width H, T tasks and towers of width W:

    experts.weight (m, E, H)  experts.bias (E, H)      gates.weight (m, T, E)  gates.bias (T, E)  gates.open (T, E)
    towers.weight (T, H, W)   towers.bias (T, W)       out.weight (T, W)       out.bias (T,)      wide.weight (m, T)

`gates.open` is 0 where a task may use an expert and minus infinity where not; it is not learned. `wide` is a linear
path beside the experts (Cheng et al. 2016, "Wide & Deep Learning for Recommender Systems").
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

TASKS = ("click", "conversion")
"""What is predicted of an impression: P(click), P(conversion | click); `models.rankers.heads` may follow."""
EXPERT_AXIS = {"experts.weight": 1, "experts.bias": 0, "gates.weight": 2, "gates.bias": 1, "gates.open": 1}
"""Of the weights that have one; the others do not know how many experts there are."""
FIXED = frozenset({"gates.open"})
Weights = Mapping[str, Any]
"""Weights of either library, by name."""
Arrays = dict[str, NDArray[np.float32]]


def width(numbers: int, words: int, lists: int, dimensions: int) -> int:
    """How many inputs m the network has."""
    return numbers + words * dimensions + (dimensions + 1 if lists else 0) + dimensions


def inputs(xp: Any, numbers: Any, looked: Any, present: Any) -> Any:
    """(..., m) of (..., k) numbers and the vectors looked up, (..., words + listed, d), the listed ones last.

    `present` (..., listed) is 1 where a list has an entry, else 0; its vectors are averaged over those. The last d
    inputs are the sum over all pairs of vectors of their products (He & Chua 2017, "Neural Factorization Machines",
    equation 4): what a user makes of an item is such a product, and layers of sums learn it slowly.
    """
    listed = present.shape[-1]
    words, d = looked.shape[-2] - listed, looked.shape[-1]
    own = looked[..., :words, :]
    parts = [numbers, own.reshape((*own.shape[:-2], words * d))]
    total, squares = own.sum(-2), (own * own).sum(-2)
    if listed:
        count = present.sum(-1)[..., None]
        pooled = (looked[..., words:, :] * present[..., None]).sum(-2) / count.clip(min=1)
        parts += [pooled, count / listed]
        total, squares = total + pooled, squares + pooled * pooled
    return xp.concatenate([*parts, (total * total - squares) / 2], -1)


def vectors(x: Any, numbers: int, words: int, listed: int, d: int) -> Any:
    """(..., d) of (..., m) inputs of so many numbers and words: the sum of the words' vectors and the lists' mean."""
    last = numbers + words * d
    own = x[..., numbers:last].reshape((*x.shape[:-1], words, d)).sum(-2)
    return own + x[..., last : last + d] if listed else own


def gates(xp: Any, weights: Weights, x: Any) -> Any:
    """(..., T, E, n): how much each task takes of each expert; sums to 1 over the experts."""
    m = x.shape[-1]
    return _shares(xp, weights, xp.swapaxes(weights["gates.weight"].reshape((m, -1)), 0, 1) @ xp.swapaxes(x, -1, -2))


def _shares(xp: Any, weights: Weights, flat: Any) -> Any:
    _, tasks, experts = weights["gates.weight"].shape
    before = (weights["gates.bias"] + weights["gates.open"])[..., None]
    logits = flat.reshape((*flat.shape[:-2], tasks, experts, flat.shape[-1])) + before
    shares = xp.exp(logits - xp.amax(logits, -2)[..., None, :])
    return shares / shares.sum(-2)[..., None, :]


def logits(xp: Any, weights: Weights, x: Any) -> list[Any]:
    """One (..., n) for each of `TASKS` and what follows them, of (..., n, m) inputs."""
    return rest(xp, weights, first(xp, weights, x))


def first(xp: Any, weights: Weights, x: Any) -> Any:
    """(..., h, n) what experts, gates and the linear path make of (..., n, m) inputs in one product, biases aside.

    Rows come last from then on: what is done row by row is done to long vectors. It is linear: of inputs that are a sum
    it is the sum of what it makes of the parts.
    """
    return xp.swapaxes(flat(xp, weights), 0, 1) @ xp.swapaxes(x, -1, -2)


def of_pairs(xp: Any, weights: Weights, d: int) -> Any:
    """(d, h) by what `first` multiplies the products of pairs, the last d inputs."""
    return flat(xp, weights)[..., -d:, :]


def rest(xp: Any, weights: Weights, said: Any) -> list[Any]:
    """`logits` of what `first` said, (..., h, n)."""
    _, experts, wide = weights["experts.weight"].shape
    _, tasks, _ = weights["gates.weight"].shape
    hidden, of_gates, straight = _parts(said, [experts * wide, tasks * experts, tasks])
    hidden = hidden.reshape((*said.shape[:-2], experts, wide, said.shape[-1])) + weights["experts.bias"][..., None]
    shares = _shares(xp, weights, of_gates)
    mixed = (shares[..., None, :] * _rectified(hidden)[..., None, :, :, :]).sum(-3)
    towers = xp.swapaxes(weights["towers.weight"], -1, -2) @ mixed + weights["towers.bias"][..., None]
    deep = (_rectified(towers) * weights["out.weight"][..., None]).sum(-2)
    found = deep + straight + weights["out.bias"][..., None]
    return [found[..., at, :] for at in range(found.shape[-2])]


def flat(xp: Any, weights: Weights) -> Any:
    """(m, h) the weights that look at inputs, side by side."""
    named = [weights[name] for name in ("experts.weight", "gates.weight", "wide.weight")]
    return xp.concatenate([weight.reshape((weight.shape[0], -1)) for weight in named], -1)


def _rectified(x: Any) -> Any:
    """Nothing below 0, by the one step that torch has for it."""
    return x.relu() if hasattr(x, "relu") else x.clip(min=0)


def _parts(x: Any, sizes: Sequence[int]) -> Any:
    """The last axis but one in parts, by the one step that torch has for it."""
    return x.split(sizes, -2) if hasattr(x, "split") else np.split(x, np.cumsum(sizes)[:-1], -2)


def initial(
    m: int,
    experts: int,
    expert_width: int,
    tower_width: int,
    shared: bool,
    rng: np.random.Generator,
    tasks: int = len(TASKS),
) -> Arrays:
    """Random weights (He et al. 2015 before rectifiers), nothing on the linear path, gates that begin even.

    Not `shared`: each task has `experts` of its own, which the others' gates are closed to.
    """
    total = experts if shared else experts * tasks

    def drawn(fan_in: int, *shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(np.sqrt(2.0 / fan_in))

    def nothing(*shape: int) -> NDArray[np.float32]:
        return np.zeros(shape, dtype=np.float32)

    closed = nothing(tasks, total)
    if not shared:
        closed += np.where(np.arange(total) // experts == np.arange(tasks)[:, None], 0.0, -np.inf).astype(np.float32)
    return {
        "experts.weight": drawn(m, m, total, expert_width),
        "experts.bias": nothing(total, expert_width),
        "gates.weight": nothing(m, tasks, total),
        "gates.bias": nothing(tasks, total),
        "gates.open": closed,
        "towers.weight": drawn(expert_width, tasks, expert_width, tower_width),
        "towers.bias": nothing(tasks, tower_width),
        "out.weight": drawn(2 * tower_width, tasks, tower_width),
        "out.bias": nothing(tasks),
        "wide.weight": nothing(m, tasks),
    }
