"""Processes that learn one network together, each from its part of every batch: torch's default process group.

Every process holds all rows, the weights and the table, and draws the same batches; what is added up between them is
gradients (data parallel, Li et al. 2020, "PyTorch Distributed: Experiences on Accelerating Data Parallel Training",
VLDB). So all of them make the same steps, and only rounding tells their number.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed

from models.rankers.protocol import Checkpoints


@dataclass(frozen=True)
class Group:
    """This process is number `rank` of `size`; the first of one where torch has no process group."""

    rank: int = 0
    size: int = 1

    @classmethod
    def joined(cls) -> "Group":
        """The default process group's, as whoever started it left it."""
        if not distributed.is_initialized():
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    def part(self, n: int) -> slice:
        """This process's of n rows: a run of them, those of all processes in order; may be empty."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def add_up(self, *tensors: torch.Tensor) -> None:
        """Each becomes the sum of it over all processes, in one message; they are of one device and type."""
        if self.size == 1:
            return
        message = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(message)
        for tensor, total in zip(tensors, message.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def heard(self, said: Any) -> list[Any]:
        """What every process says, by rank."""
        if self.size == 1:
            return [said]
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, said)
        return found


@dataclass(frozen=True)
class Shared:
    """A store of checkpoints as a group has it: the first process reads and writes, all go on from what it read."""

    store: Checkpoints
    group: Group

    def load(self) -> bytes | None:
        """See `Checkpoints`."""
        content: bytes | None = self.group.heard(self.store.load() if self.group.rank == 0 else None)[0]
        return content

    def save(self, content: bytes) -> None:
        """See `Checkpoints`."""
        if self.group.rank == 0:
            self.store.save(content)
