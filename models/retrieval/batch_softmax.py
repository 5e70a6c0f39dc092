"""Learning item vectors by a softmax over a batch's own items: tables of vectors, the loss, and one thread."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.retrieval.interactions import Bools, Floats, Ints

Singles = NDArray[np.float32]
TINY = 1e-8


class Table:
    """Vectors of items: own parts, and a linear map of what is known of them; own parts learn by row-wise Adagrad."""

    def __init__(self, rng: np.random.Generator, content: Any, width: int) -> None:
        """`content` (items, c), a tensor."""
        import torch

        items = len(content)
        self.own = torch.from_numpy((0.1 * rng.standard_normal((items, width)) / np.sqrt(width)).astype(np.float32))
        self.seen = torch.zeros(items)
        self.content = content
        self.map = torch.zeros((content.shape[1], width), requires_grad=True)
        self._rows: list[tuple[Any, Any]] = []

    def vectors(self, items: Ints, kept: Bools) -> Any:
        """(n, width) of (n,) items, whose own parts count where `kept`; remembered for `learn`."""
        import torch

        unique, inverse = np.unique(items, return_inverse=True)
        at = torch.from_numpy(unique)
        rows = self.own[at].requires_grad_()
        self._rows.append((at, rows))
        own = rows[torch.from_numpy(inverse)] * torch.from_numpy(kept.astype(np.float32))[:, None]
        return own + self.content[torch.from_numpy(items)] @ self.map

    def learn(self, rate: float) -> None:
        """One step along the gradients of the rows that were asked for: rows not asked for stay bit for bit."""
        import torch

        with torch.no_grad():
            for at, rows in self._rows:
                self.seen[at] += rows.grad.pow(2).mean(dim=1)
                self.own[at] -= rate * rows.grad / (self.seen[at].sqrt() + TINY)[:, None]
        self._rows.clear()

    def whole(self) -> Singles:
        """(items, width): every item's vector; of one that was never learned, what is known of it alone."""
        own = self.own.numpy() * (self.seen.numpy() > 0)[:, None]
        found: Singles = own + self.content.numpy() @ self.map.detach().numpy()
        return found


def softmax_loss(users: Any, items: Any, label: Ints, included: Floats) -> Any:
    """The mean cross entropy of each user's next item, `items[label]`, among the batch's different ones.

    `included`: how probably each is among them. Classes drawn as a set, each for itself, and less the logarithm of
    that, make it the softmax over all items (Jean et al. 2015); an item counted as often as it occurs would not.
    """
    import torch

    logits = users @ items[:, :-1].T + items[:, -1] - torch.from_numpy(np.log(included).astype(np.float32))
    return torch.nn.functional.cross_entropy(logits, torch.from_numpy(label))


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread meanwhile, so that sums come out the same everywhere."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
