"""Two towers: a network over the history meets item vectors made of an id's own part and of words, in one product."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from models.retrieval.batch_softmax import Singles, Table, one_thread, softmax_loss
from models.retrieval.content import content_vectors
from models.retrieval.interactions import Floats, Interactions, Ints, Sparse
from models.retrieval.popularity import FILE as POPULAR_FILE
from models.retrieval.popularity import popularity
from models.retrieval.protocol import array_bytes, array_of, need_width
from models.settings import RetrievalSettings

PARTS = ("inputs", "outputs", "first", "first_bias", "second", "second_bias")


class TwoTower:
    """P(next item | history) by a softmax over a batch's own next items, corrected for how probably each is among
    them (after Yi et al. 2019); a user is the mean of the history's input vectors, through one hidden layer (after
    Covington et al. 2016).

    An item's vector is its own part plus a linear map of its words. Own parts are dropped now and then in training, so
    that words alone place an item nobody has taken up yet; a user never seen is a history like any other. An item's
    last number is its bias, met by a 1 of the user. Training sees the items before an interaction, at most
    `history` of them; an answer sees the whole history, in no order.
    """

    kind = "two_tower"

    def __init__(self, parts: Mapping[str, Singles], popular: Floats) -> None:
        """`parts`: those of `PARTS`; inputs (items, d), outputs (items, d + 1), and the two layers."""
        self._parts, self.popular = dict(parts), popular
        self._wide = {name: part.astype(np.float64) for name, part in self._parts.items()}

    @classmethod
    def fit(cls, interactions: Interactions, settings: RetrievalSettings) -> Self:
        """Row-wise Adagrad on one thread; raises ValueError where no user took up two items. See `Retriever.fit`."""
        popular = popularity(interactions, settings.half_life_days)
        return cls(_trained(interactions, settings), popular)

    @property
    def item_vectors(self) -> Floats:
        """(items, d + 1)."""
        return self._wide["outputs"]

    def user_vectors(self, history: Sparse) -> Floats:
        """(n, d + 1); zeros for an empty history."""
        need_width(history, len(self.popular))
        seen = (history > 0).astype(np.float64)
        count = np.asarray(seen.sum(axis=1))[:, None]
        part = self._wide
        mean = (seen @ part["inputs"]) / np.maximum(count, 1.0)
        found: Floats = np.where(count > 0, self._placed(mean), 0.0)
        return found

    def user_vector(self, codes: Ints) -> Floats:
        """The same of one history."""
        inputs = self._wide["inputs"]
        if not len(codes):
            return np.zeros(self.item_vectors.shape[1])
        found: Floats = self._placed(inputs[codes].mean(axis=0)[None])[0]
        return found

    def _placed(self, mean: Floats) -> Floats:
        """(n, d + 1) of the means of histories that are not empty."""
        part = self._wide
        hidden = np.maximum(mean @ part["first"] + part["first_bias"], 0.0)
        return np.hstack([hidden @ part["second"] + part["second_bias"], np.ones((len(mean), 1))])

    def scores(self, history: Sparse) -> Floats:
        """Inner products."""
        return self.user_vectors(history) @ self.item_vectors.T

    def to_files(self) -> dict[str, bytes]:
        """An array each; torch is not needed to read them."""
        files = {f"two_tower.{name}.npy": array_bytes(part) for name, part in self._parts.items()}
        return {**files, POPULAR_FILE: array_bytes(self.popular)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very retriever `to_files` wrote."""
        parts = {name: array_of(files[f"two_tower.{name}.npy"]) for name in PARTS}
        return cls(parts, array_of(files[POPULAR_FILE]))


@dataclass(frozen=True)
class Steps:
    """n interactions with what their user had taken up before: `before` (n, history), -1 where there is less."""

    before: Ints
    item: Ints

    @classmethod
    def of(cls, interactions: Interactions, history: int) -> Self:
        """In order of user, time and item; first interactions are left out, and those of weight 0.

        Raises ValueError where none is left.
        """
        data = interactions.at(interactions.weight > 0)
        order = np.lexsort((data.item, data.time, data.user))
        user, item = data.user[order], data.item[order]
        back = np.arange(len(user))[:, None] - np.arange(1, history + 1)
        known = (back >= 0) & (user[np.maximum(back, 0)] == user[:, None])
        later = known[:, 0]
        if not later.any():
            raise ValueError(f"two towers need users with two interactions; found none in {len(user)} interactions")
        return cls(np.where(known, item[np.maximum(back, 0)], -1)[later], item[later])

    def batches(self, rng: np.random.Generator, size: int) -> Iterator[tuple[Ints, Ints]]:
        """All steps once, shuffled."""
        order = rng.permutation(len(self.item))
        for start in range(0, len(order), size):
            at = order[start : start + size]
            yield self.before[at], self.item[at]


def _trained(interactions: Interactions, settings: RetrievalSettings) -> dict[str, Singles]:
    """The parts."""
    import torch

    steps = Steps.of(interactions, settings.two_tower.history)
    rng = np.random.default_rng(settings.seed)
    known = content_vectors(interactions, settings)
    with one_thread():
        return _towers(steps, torch.from_numpy(known), rng, settings)


def _towers(steps: Steps, content: Any, rng: np.random.Generator, settings: RetrievalSettings) -> dict[str, Singles]:
    import torch

    d, hidden = settings.two_tower.dimensions, settings.two_tower.hidden
    inputs, outputs = Table(rng, content, d), Table(rng, content, d + 1)
    shapes = {"first": (d, hidden), "first_bias": (hidden,), "second": (hidden, d), "second_bias": (d,)}
    layers = {name: torch.from_numpy(_start(rng, shape)).requires_grad_() for name, shape in shapes.items()}
    dense = torch.optim.Adagrad([*layers.values(), inputs.map, outputs.map], lr=settings.two_tower.rate)
    often = np.bincount(steps.item, minlength=len(content)) / len(steps.item)
    for _ in range(settings.two_tower.epochs):
        for before, item in steps.batches(rng, settings.two_tower.batch):
            dense.zero_grad()
            users = _users(before, inputs, layers, rng, settings.two_tower.dropout)
            different, label = np.unique(item, return_inverse=True)
            items = outputs.vectors(different, rng.random(len(different)) >= settings.two_tower.dropout)
            softmax_loss(users, items, label, 1 - (1 - often[different]) ** len(item)).backward()
            dense.step()
            inputs.learn(settings.two_tower.rate)
            outputs.learn(settings.two_tower.rate)
    learned = {name: layer.detach().numpy() for name, layer in layers.items()}
    return {"inputs": inputs.whole(), "outputs": outputs.whole(), **learned}


def _start(rng: np.random.Generator, shape: tuple[int, ...]) -> Singles:
    """Small numbers for a layer (He et al. 2015), zeros for its bias."""
    if len(shape) == 1:
        return np.zeros(shape, dtype=np.float32)
    found: Singles = (rng.standard_normal(shape) * np.sqrt(2 / shape[0])).astype(np.float32)
    return found


def _users(before: Ints, inputs: Table, layers: Mapping[str, Any], rng: np.random.Generator, dropout: float) -> Any:
    """(n, d): the mean of what came before (n, history), through the layers."""
    import torch

    row, place = np.nonzero(before >= 0)
    vectors = inputs.vectors(before[row, place], rng.random(len(row)) >= dropout)
    counts = torch.from_numpy(np.bincount(row, minlength=len(before)).astype(np.float32))
    total = torch.zeros((len(before), vectors.shape[1])).index_add(0, torch.from_numpy(row), vectors)
    hidden = torch.relu(total / counts[:, None] @ layers["first"] + layers["first_bias"])
    return hidden @ layers["second"] + layers["second_bias"]
