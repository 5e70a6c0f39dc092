"""Gradients of the vectors that a batch looks up, which lie outside autograd."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_array


def looked_gradient(gradient: torch.Tensor, looked: torch.Tensor, present: torch.Tensor, items: int) -> torch.Tensor:
    """(n, words + listed, d): that of the vectors looked up, given the (n, m) one of `network.inputs`; by hand, for
    tracing those sums would cost more than the network itself.
    """
    listed, d = present.shape[-1], looked.shape[-1]
    words = looked.shape[-2] - listed
    last, asking = gradient.shape[-1] - d, words - items
    product, end = gradient[:, None, last:], last - (d + 1 if listed else 0)
    found = torch.empty_like(looked)
    asks, item = looked[:, :asking].sum(1, keepdim=True), looked[:, asking:words].sum(1, keepdim=True)
    if listed:
        share = present / present.sum(1, keepdim=True).clip(min=1)
        asks += share[:, None] @ looked[:, words:]
        of_pooled = torch.addcmul(gradient[:, None, end : end + d], product, item)
        torch.mul(share[..., None], of_pooled, out=found[:, words:])
    of_words = gradient[:, end - words * d : end].reshape(-1, words, d)
    torch.addcmul(of_words[:, :asking], product, item, out=found[:, :asking])
    torch.addcmul(of_words[:, asking:], product, asks, out=found[:, asking:words])
    return found


def summed(gradient: torch.Tensor, slots: NDArray[np.int64], n: int) -> NDArray[np.float32]:
    """(n, d): the sums of the (..., d) gradients whose (...) slots are the same, in their order."""
    flat = gradient.reshape(-1, gradient.shape[-1]).numpy()
    one = np.ones(len(flat), dtype=np.float32)
    found: NDArray[np.float32] = csc_array((one, slots.ravel(), np.arange(len(flat) + 1)), shape=(n, len(flat))) @ flat
    return found
