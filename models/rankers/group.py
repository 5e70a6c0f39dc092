"""Processes that learn one network together, each from its part of the rows: torch's default process group.

Every process holds the weights, the table and a part of the rows (`models.rankers.shards`), and draws the same batches;
what is added up between them is gradients (data parallel, Li et al. 2020, "PyTorch Distributed: Experiences on
Accelerating Data Parallel Training", VLDB). So all of them make the same steps, and only rounding tells their number.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed


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

    def add_up(self, *tensors: torch.Tensor) -> None:
        """Each becomes the sum of it over all processes, in one message; they are of one device and type."""
        if self.size == 1:
            return
        message = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(message)
        for tensor, total in zip(tensors, message.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def told(self, said: Any) -> Any:
        """What the first process says, in all of them; what the others say nobody hears."""
        if self.size == 1:
            return said
        message = [said]
        distributed.broadcast_object_list(message, src=0)
        return message[0]
