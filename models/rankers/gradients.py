"""Gradients of the vectors that a batch looks up, which lie outside autograd."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_array


def looked_gradient(gradient: torch.Tensor, looked: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """(n, words + listed, d): that of the vectors looked up, given the (n, m) one of `network.inputs`; by hand, for
    tracing those sums would cost more than the network itself.
    """
    listed, d = present.shape[-1], looked.shape[-1]
    words = looked.shape[-2] - listed
    last = gradient.shape[-1] - d
    product, end = gradient[:, None, last:], last - (d + 1 if listed else 0)
    own, found = looked[:, :words], torch.empty_like(looked)
    total = own.sum(1, keepdim=True)
    if listed:
        share = present / present.sum(1, keepdim=True).clip(min=1)
        pooled = share[:, None] @ looked[:, words:]
        total += pooled
        of_pooled = torch.addcmul(gradient[:, None, end : end + d], product, total - pooled)
        torch.mul(share[..., None], of_pooled, out=found[:, words:])
    of_words = gradient[:, end - words * d : end].reshape(own.shape)
    torch.sub(total, own, out=found[:, :words]).mul_(product).add_(of_words)
    return found


def summed(gradient: torch.Tensor, slots: NDArray[np.int64], n: int) -> torch.Tensor:
    """(n, d): the sums of the (..., d) gradients whose (...) slots are the same, in their order."""
    flat = gradient.reshape(-1, gradient.shape[-1])
    if flat.device.type == "cpu":
        one = np.ones(len(flat), dtype=np.float32)
        places = csc_array((one, slots.ravel(), np.arange(len(flat) + 1)), shape=(n, len(flat)))
        return torch.from_numpy(places @ flat.numpy())  # several times faster there than torch's own
    return put(flat, torch.from_numpy(slots.ravel()).to(flat.device), n)


def put(gradient: torch.Tensor, slots: torch.Tensor, n: int) -> torch.Tensor:
    """The same of (k, d) and (k,) on any device; CUDA sorts the slots first, so that sums come out the same."""
    return gradient.new_zeros(n, gradient.shape[-1]).index_put_((slots,), gradient, accumulate=True)
