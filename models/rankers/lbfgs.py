"""The weights of a logistic regression over numbers and one-hot categories, by full-batch L-BFGS in torch.

The one-hot columns are never built. Categorical columns are packed into as few joint codes as possible: a row's
category score is then one look-up per pack, and the gradient one weighted count per pack, summed back to columns.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.delays.targets import Targets
from models.rankers.labels import Label
from models.rankers.protocol import Floats
from models.rankers.threads import threads_to_learn

PACK_SIZE = 1 << 16
"""Most joint codes in a pack: its table stays in the processor's cache."""
TOLERANCE = 1e-7
"""Stop when a step improves the mean log-loss by less, in nats."""


@dataclass(frozen=True)
class Pack:
    """Some categorical columns as one joint code per row; `shape` holds their sizes, `first` where they begin."""

    codes: NDArray[np.int64]
    shape: tuple[int, ...]
    first: int

    def table(self, weights: torch.Tensor) -> torch.Tensor:
        """The summed weight of every combination of codes, from the columns' own weights laid end to end."""
        table = weights.new_zeros(self.shape)
        at = self.first
        for axis, size in enumerate(self.shape):
            table = table + weights[at : at + size].view([-1 if a == axis else 1 for a in range(len(self.shape))])
            at += size
        return table.reshape(-1)

    def gradient(self, residual: torch.Tensor) -> torch.Tensor:
        """The residuals summed per code, columns laid end to end."""
        joint = torch.from_numpy(
            np.bincount(self.codes, weights=residual.numpy(), minlength=int(np.prod(self.shape)))
        ).view(self.shape)
        axes = range(len(self.shape))
        return torch.cat([joint.sum(dim=[a for a in axes if a != axis]) if len(axes) > 1 else joint for axis in axes])


class Design:
    """n rows of (n, d) float32 numbers and (n, c) codes; weights are laid out intercept, numbers, categories."""

    def __init__(self, numbers: NDArray[np.float32], codes: NDArray[np.int32], sizes: tuple[int, ...]) -> None:
        self._numbers, self._codes, self._sizes = numbers, codes, sizes
        self.weights = 1 + numbers.shape[1] + sum(sizes)

    def rows(self, rows: NDArray[np.int64]) -> "Design":
        """The same design for some rows; shares memory when they are all rows."""
        if len(rows) == len(self._numbers):
            return self
        return Design(self._numbers[rows], self._codes[rows], self._sizes)

    def packs(self) -> list[Pack]:
        """The categorical columns in order, packed greedily up to `PACK_SIZE` joint codes."""
        packs: list[Pack] = []
        first = at = 0
        while at < len(self._sizes):
            end, joint = at + 1, self._sizes[at]
            while end < len(self._sizes) and joint * self._sizes[end] <= PACK_SIZE:
                joint *= self._sizes[end]
                end += 1
            shape = self._sizes[at:end]
            codes = np.ravel_multi_index(tuple(self._codes[:, at:end].T), shape)
            packs.append(Pack(codes.astype(np.int64), shape, first))
            first += sum(shape)
            at = end
        return packs

    def loss(self, label: Label | Targets) -> Callable[[torch.Tensor], tuple[float, torch.Tensor]]:
        """A function from weights (float64) to the weighted mean log-loss, or that of `Targets`, and its gradient."""
        numbers = torch.from_numpy(self._numbers)
        packs = self.packs()
        joint_codes = [torch.from_numpy(pack.codes) for pack in packs]
        of_rows = _row_losses(label)

        def evaluate(weights: torch.Tensor) -> tuple[float, torch.Tensor]:
            logit = _logits(numbers, packs, joint_codes, weights.float())
            losses, residual = of_rows(logit)
            return float(losses.sum(dtype=torch.float64)), _by_weight(numbers, packs, residual)

        return evaluate

    def curvature(self, label: Label | Targets, weights: Floats) -> Floats:
        """(p,) how sharply the mean loss bends in each weight alone, at `weights`: how much these rows know of it."""
        numbers, packs, w = torch.from_numpy(self._numbers), self.packs(), torch.from_numpy(weights).float()
        logit = _logits(numbers, packs, [torch.from_numpy(pack.codes) for pack in packs], w)
        targets = label if isinstance(label, Targets) else label.targets
        bent = targets.at(logit.double().numpy())[2] / targets.weight.sum()
        found: Floats = _by_weight(numbers.square(), packs, torch.from_numpy(bent).float()).numpy()
        return found


def _logits(
    numbers: torch.Tensor, packs: list[Pack], joint_codes: list[torch.Tensor], weights: torch.Tensor
) -> torch.Tensor:
    d = numbers.shape[1]
    logit = torch.mv(numbers, weights[1 : 1 + d]).add_(weights[0])
    for pack, codes in zip(packs, joint_codes, strict=True):
        logit += torch.index_select(pack.table(weights[1 + d :]), 0, codes)
    return logit


def _by_weight(numbers: torch.Tensor, packs: list[Pack], of_rows: torch.Tensor) -> torch.Tensor:
    """(p,) sums of (n,) over the rows that have each weight, times their numbers."""
    parts = [of_rows.sum(dtype=torch.float64).view(1), torch.mv(numbers.T, of_rows).double()]
    return torch.cat([*parts, *(pack.gradient(of_rows) for pack in packs)])


RowLosses = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Logits (n,) to each row's part of the mean loss and the slope of it, float32."""


def _row_losses(label: Label | Targets) -> RowLosses:
    if isinstance(label, Targets):
        return _targets(label)
    return _log_loss(label) if label.final else _targets(label.targets)


def _log_loss(label: Label) -> RowLosses:
    y = torch.from_numpy(label.value.astype(np.float32))
    share = torch.from_numpy((label.weight / label.weight.sum()).astype(np.float32))

    def of_rows(logit: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        losses = torch.nn.functional.softplus(logit) - y * logit
        return losses * share, torch.sigmoid(logit).sub_(y).mul_(share)

    return of_rows


def _targets(targets: Targets) -> RowLosses:
    total = targets.weight.sum()

    def of_rows(logit: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        losses, slopes, _ = targets.at(logit.double().numpy())
        return torch.from_numpy(losses / total).float(), torch.from_numpy(slopes / total).float()

    return of_rows


def minimise(
    design: Design, label: Label | Targets, start: Floats, l2: float, steps: int, memory: float = 0.0
) -> Floats:
    """Weights that minimise the weighted mean loss + l2 / 2 |weights - start|², the intercept free; shape (p,).

    At most `steps` iterations. A cold start is all zeros but the intercept, so the penalty is then the usual one.
    Convex: where it begins does not matter, what it is pulled towards does. `memory`: for how many times these rows
    `start` speaks; each weight is then pulled the harder the more such rows know of it (the diagonal of Laplace's
    approximation: Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting").
    """
    weights = torch.from_numpy(start.copy()).requires_grad_(True)
    anchor = torch.from_numpy(start.copy())
    pull = torch.full_like(anchor, l2)
    if memory:
        pull += memory * torch.from_numpy(design.curvature(label, start))
    pull[0] = 0.0
    log_loss = design.loss(label)
    optimiser = torch.optim.LBFGS(
        [weights],
        max_iter=steps,
        max_eval=2 * steps,
        history_size=10,
        tolerance_grad=1e-6,
        tolerance_change=TOLERANCE,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        with torch.no_grad():
            away = weights - anchor
            value, gradient = log_loss(weights)
            weights.grad = gradient + pull * away
            return value + float(pull @ away.square()) / 2

    threads = torch.get_num_threads()
    torch.set_num_threads(threads_to_learn(len(label.rows)))
    try:
        optimiser.step(closure)
    finally:
        torch.set_num_threads(threads)
    found: Floats = weights.detach().numpy().copy()
    return found
