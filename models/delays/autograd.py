"""`Targets` as a torch loss, with gradients for the logits of any network."""

import torch

from models.delays.targets import Targets


def loss(logit: torch.Tensor, targets: Targets) -> torch.Tensor:
    """The weighted mean loss of the rows, a scalar; `logit` (m,) in the order of `targets`, see `Targets.take`.

    Losses and slopes are computed in float64 on the CPU. It has a first derivative only: to torch the rows' losses are
    constants, and the term slope x (logit - logit as a constant), which is 0, adds their gradient.
    Raises ValueError for another number of logits.
    """
    if logit.shape != (len(targets),):
        raise ValueError(f"targets of {len(targets)} rows need as many logits; found {tuple(logit.shape)}")
    fixed = logit.detach()
    value, slope, _ = targets.at(fixed.double().cpu().numpy())
    rows = torch.from_numpy(value).to(logit) + torch.from_numpy(slope).to(logit) * (logit - fixed)
    return rows.sum() / float(targets.weight.sum())
