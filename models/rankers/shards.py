"""The rows of a fit, dealt out: each process of a group holds a part of them and learns from those of a batch it holds.

The first process has all rows, since whatever is no network learns there too. It says once what is learned and sends
each other its part; from then on all of them draw the same batches, of places among all rows. So which rows make a step
does not depend on the number of processes, and what a process holds falls with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from models.rankers.batches import Batch
from models.rankers.checkpoints import Moved, Progress
from models.rankers.embeddings import Embeddings
from models.rankers.group import Group
from models.rankers.heads import Head
from models.rankers.network import Arrays
from models.rankers.protocol import Room
from models.settings import NetworkSettings

SENT_ROWS = 1 << 16
"""Rows of a message."""


@dataclass(frozen=True)
class Begun:
    """What a network begins with, see `models.rankers.learner.Learner`."""

    weights: Arrays
    memory: Arrays
    table: Embeddings
    fields: tuple[str, ...]
    settings: NetworkSettings
    goes_on: bool = False
    heads: tuple[Head, ...] = ()


@dataclass(frozen=True)
class Fit:
    """All that a process needs to know of a fit but its rows, of which there are `n`.

    `arrays`: type and shape, but for the rows, of each array of a `Batch`. `moved`, `at`: what a checkpoint has of it.
    `watched`: whether held-out rows, which the first process has, may end it.
    """

    begun: Begun
    n: int
    arrays: list[tuple[str, tuple[int, ...]]]
    epochs: int
    listed: int
    rng: np.random.Generator
    moved: Moved
    at: Progress
    watched: bool


@dataclass(frozen=True)
class Drawn:
    """Of a batch of `n` rows those that this process holds, and their places in it."""

    rows: Batch
    places: NDArray[np.int64]
    n: int


@dataclass(frozen=True)
class Shard:
    """Of `n` rows every `group.size`-th, from number `group.rank` on."""

    rows: Batch
    n: int
    group: Group

    def __len__(self) -> int:
        return self.n

    def drawn(self, at: NDArray[np.int64]) -> Drawn:
        """Of a batch of the rows numbered `at` those that are here."""
        places = np.flatnonzero(at % self.group.size == self.group.rank)
        return Drawn(self.rows.take(at[places] // self.group.size), places, len(at))


def dealt(rows: Batch, group: Group) -> Shard:
    """The first process's part of its rows, once all others have theirs."""
    for rank in range(1, group.size):
        for array in rows.arrays:
            for part in _parts(its := array[rank :: group.size]):
                distributed.send(torch.from_numpy(np.ascontiguousarray(its[part])), rank)
    return Shard(Batch(*(array[:: group.size] for array in rows.arrays)), len(rows), group)


def received(fit: Fit, group: Group, room: Room) -> Shard:
    """The part of another process than the first, from there."""
    found = []
    for kind, shape in fit.arrays:
        mine = room((len(range(group.rank, fit.n, group.size)), *shape), np.dtype(kind))
        for part in _parts(mine):
            message = torch.from_numpy(np.empty_like(mine[part]))
            distributed.recv(message, 0)
            mine[part] = message.numpy()
        found.append(mine)
    return Shard(Batch(*found), fit.n, group)


def _parts(array: NDArray[Any]) -> Iterator[slice]:
    """Of an array's rows; none where they hold nothing."""
    return (slice(first, first + SENT_ROWS) for first in range(0, len(array) if array.size else 0, SENT_ROWS))
