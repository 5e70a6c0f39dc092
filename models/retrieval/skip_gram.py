"""Skip-gram over sessions: items taken up near one another get vectors that foretell one another."""

from collections.abc import Iterator, Mapping
from typing import Self

import numpy as np

from models.retrieval.batch_softmax import Singles, Table, one_thread, softmax_loss
from models.retrieval.interactions import Floats, Interactions, Ints, Sparse
from models.retrieval.popularity import FILE as POPULAR_FILE
from models.retrieval.popularity import popularity
from models.retrieval.protocol import array_bytes, array_of, need_width
from models.settings import RetrievalSettings

INPUTS_FILE, OUTPUTS_FILE = "skip_gram.inputs.npy", "skip_gram.outputs.npy"


class SkipGram:
    """Sessions are sentences, items are words (Mikolov et al. 2013; of items Barkan & Koenigstein 2016), with a softmax
    over the batch's items in place of negative samples. A user is the mean of the history's input vectors; items answer
    with their output vectors, whose last number is a bias met by a 1. A session ends where its user pauses long.
    """

    kind = "skip_gram"

    def __init__(self, inputs: Singles, outputs: Singles, popular: Floats) -> None:
        """`inputs` (items, d), `outputs` (items, d + 1); zeros for an item without neighbours."""
        self._inputs, self._outputs, self.popular = inputs, outputs, popular
        self._wide = inputs.astype(np.float64), outputs.astype(np.float64)

    @classmethod
    def fit(cls, interactions: Interactions, settings: RetrievalSettings) -> Self:
        """Row-wise Adagrad on one thread; raises ValueError where no session has two items. See `Retriever.fit`."""
        import torch

        popular = popularity(interactions, settings.half_life_days)
        pairs = neighbours(interactions, settings.skip_gram.window, settings.skip_gram.pause_days)
        rng = np.random.default_rng(settings.seed)
        nothing = torch.zeros((interactions.items, 0))
        often = np.bincount(pairs[1], minlength=interactions.items) / len(pairs[1])
        with one_thread():
            inputs = Table(rng, nothing, settings.skip_gram.dimensions)
            outputs = Table(rng, nothing, settings.skip_gram.dimensions + 1)
            for item, other in _batches(pairs, rng, settings):
                different, label = np.unique(other, return_inverse=True)
                users, items = (
                    table.vectors(codes, np.ones(len(codes), dtype=bool))
                    for table, codes in ((inputs, item), (outputs, different))
                )
                softmax_loss(users, items, label, 1 - (1 - often[different]) ** len(other)).backward()
                inputs.learn(settings.skip_gram.rate)
                outputs.learn(settings.skip_gram.rate)
        return cls(inputs.whole(), outputs.whole(), popular)

    @property
    def item_vectors(self) -> Floats:
        """(items, d + 1)."""
        return self._wide[1]

    def user_vectors(self, history: Sparse) -> Floats:
        """(n, d + 1): the mean of the history's input vectors and a 1; zeros for an empty history."""
        need_width(history, len(self.popular))
        seen = (history > 0).astype(np.float64)
        count = np.asarray(seen.sum(axis=1))[:, None]
        mean = (seen @ self._wide[0]) / np.maximum(count, 1.0)
        return np.hstack([mean, (count > 0).astype(np.float64)])

    def user_vector(self, codes: Ints) -> Floats:
        """The same of one history."""
        mean = self._wide[0][codes].sum(axis=0) / max(len(codes), 1)
        return np.append(mean, float(len(codes) > 0))

    def scores(self, history: Sparse) -> Floats:
        """Inner products."""
        return self.user_vectors(history) @ self.item_vectors.T

    def to_files(self) -> dict[str, bytes]:
        """Three arrays; torch is not needed to read them."""
        arrays = {INPUTS_FILE: self._inputs, OUTPUTS_FILE: self._outputs}
        return {POPULAR_FILE: array_bytes(self.popular)} | {name: array_bytes(a) for name, a in arrays.items()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very retriever `to_files` wrote."""
        return cls(*(array_of(files[name]) for name in (INPUTS_FILE, OUTPUTS_FILE, POPULAR_FILE)))


def neighbours(interactions: Interactions, window: int, pause_days: float) -> tuple[Ints, Ints]:
    """Pairs (n,), (n,) of different items at most `window` apart in a session, each both ways round.

    Sessions are in order of time and item, without interactions of weight 0. Raises ValueError where there is no pair.
    """
    data = interactions.at(interactions.weight > 0)
    order = np.lexsort((data.item, data.time, data.user))
    user, item, time = data.user[order], data.item[order], data.time[order]
    starts = np.ones(len(user), dtype=bool)
    starts[1:] = (user[1:] != user[:-1]) | (np.diff(time) > pause_days)
    session = np.cumsum(starts)
    ones, others = [], []
    for apart in range(1, window + 1):
        together = (session[apart:] == session[:-apart]) & (item[apart:] != item[:-apart])
        before, after = item[:-apart][together], item[apart:][together]
        ones += [before, after]
        others += [after, before]
    found = np.concatenate(ones), np.concatenate(others)
    if not len(found[0]):
        raise ValueError(f"skip-gram needs sessions of two items; found none in {len(user)} interactions")
    return found


def _batches(pairs: tuple[Ints, Ints], rng: np.random.Generator, settings: RetrievalSettings) -> Iterator[list[Ints]]:
    """All pairs once an epoch, shuffled."""
    for _ in range(settings.skip_gram.epochs):
        order = rng.permutation(len(pairs[0]))
        for start in range(0, len(order), settings.skip_gram.batch):
            at = order[start : start + settings.skip_gram.batch]
            yield [column[at] for column in pairs]
