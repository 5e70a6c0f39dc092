"""`Targets` as a torch loss: gradients flow to the logits, whatever network made them."""

from typing import Any

import torch

from models.delays.targets import Targets


class _RowLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logit: torch.Tensor, targets: Targets) -> torch.Tensor:
        """The rows' losses; computed in float64 on the processor, returned as the logits came."""
        loss, slope, _ = targets.at(logit.detach().double().cpu().numpy())
        ctx.save_for_backward(torch.from_numpy(slope).to(logit))
        return torch.from_numpy(loss).to(logit)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None]:
        """The slope of each row's loss in its own logit."""
        (slope,) = ctx.saved_tensors
        return upstream[0] * slope, None


def loss(logit: torch.Tensor, targets: Targets) -> torch.Tensor:
    """The weighted mean loss of the rows, a scalar; `logit` (m,) in the order of `targets`, see `Targets.take`.

    Differentiable once: it has no second derivative.
    """
    if logit.shape != (len(targets),):
        raise ValueError(f"targets of {len(targets)} rows need as many logits; found {tuple(logit.shape)}")
    rows: torch.Tensor = _RowLoss.apply(logit, targets)
    return rows.sum() / float(targets.weight.sum())
