"""`Targets` as a torch loss: gradients flow to the logits, whatever network made them."""

import torch

from models.delays.targets import Targets


def loss(logit: torch.Tensor, targets: Targets) -> torch.Tensor:
    """The weighted mean loss of the rows, a scalar; `logit` (m,) in the order of `targets`, see `Targets.take`.

    Losses and slopes are computed in float64 on the processor. It has a first derivative only: the rows' losses are
    constants to torch, to which slope x (logit - the same as a constant), 0 in value, lends its gradient.
    Raises ValueError for another number of logits.
    """
    if logit.shape != (len(targets),):
        raise ValueError(f"targets of {len(targets)} rows need as many logits; found {tuple(logit.shape)}")
    fixed = logit.detach()
    value, slope, _ = targets.at(fixed.double().cpu().numpy())
    rows = torch.from_numpy(value).to(logit) + torch.from_numpy(slope).to(logit) * (logit - fixed)
    return rows.sum() / float(targets.weight.sum())
