"""Agreement of two rankers' answers to the same requests: the top item, the items, their order, their level."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """For n requests that both answered, (n,) each; the second answer is compared with the first."""

    same_top: Floats
    """1 if both show the same item first."""
    overlap: Floats
    """overlap@k: the share of the longer slate's places whose item is on both, in [0, 1]."""
    rank_correlation: Floats
    """Kendall's tau of the items on both, in [-1, 1]; NaN where these are fewer than two."""
    levels: tuple[Floats, Floats]
    """The mean p(click) of what each shows, in [0, 1]."""
    shift: float
    """The Kolmogorov-Smirnov distance between all their p(click), in [0, 1]; NaN without any."""

    def __len__(self) -> int:
        return len(self.same_top)


def agreement(
    slates: Sequence[tuple[Sequence[str], Sequence[str]]], p_click: Sequence[tuple[Floats, Floats]]
) -> Agreement:
    """Of n pairs of slates, best first, each with at least one item, and the probabilities of their items."""
    pairs = list(zip(slates, p_click, strict=True))
    of_one, of_other = ([p[side] for p in p_click] for side in (0, 1))
    return Agreement(
        same_top=np.array([float(one[0] == other[0]) for (one, other), _ in pairs]),
        overlap=np.array([overlap(one, other) for (one, other), _ in pairs]),
        rank_correlation=np.array([rank_correlation(one, other) for (one, other), _ in pairs]),
        levels=(np.array([p.mean() for p in of_one]), np.array([p.mean() for p in of_other])),
        shift=shift(np.concatenate(of_one), np.concatenate(of_other)) if pairs else float("nan"),
    )


def overlap(one: Sequence[str], other: Sequence[str]) -> float:
    """The share of the longer slate's places whose item is on both."""
    return len(set(one) & set(other)) / max(len(one), len(other))


def rank_correlation(one: Sequence[str], other: Sequence[str]) -> float:
    """Kendall's tau of the items on both slates, which have no ties; NaN where these are fewer than two."""
    place = {item: at for at, item in enumerate(other)}
    at = np.array([place[item] for item in one if item in place])
    if len(at) < 2:
        return float("nan")
    upper = np.triu_indices(len(at), 1)
    return float(np.sign(at[upper[1]] - at[upper[0]]).mean())


def shift(one: Floats, other: Floats) -> float:
    """The Kolmogorov-Smirnov distance between two samples: the largest gap between their distribution functions."""
    points = np.concatenate([one, other])
    below = [np.searchsorted(np.sort(side), points, side="right") / len(side) for side in (one, other)]
    return float(np.abs(below[0] - below[1]).max())
