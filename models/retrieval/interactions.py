"""Who took up which item when: what every retriever learns from, as arrays of codes."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Sparse = Any
"""A scipy.sparse csr_array of float64."""


@dataclass(frozen=True)
class Interactions:
    """n interactions: `user` (n,) in 0..users-1, `item` (n,) in 0..items-1, `time` (n,) in days, `weight` (n,) >= 0.

    `users` and `items` count all there are, those without interactions too. `text` says what is known of each item
    (title, category), or is empty; `vectors` (items, d) are given ones, of its image say, zeros where it has none.
    Raises ValueError for lengths, codes, times, weights or vectors that are not so.
    """

    user: Ints
    item: Ints
    time: Floats
    weight: Floats
    users: int
    items: int
    text: tuple[str, ...] = ()
    vectors: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        lengths = [len(column) for column in (self.user, self.item, self.time, self.weight)]
        if len(set(lengths)) > 1:
            raise ValueError(f"interactions need columns of one length; found {lengths}")
        for name, codes, count in (("user", self.user, self.users), ("item", self.item, self.items)):
            if len(codes) and not 0 <= codes.min() <= codes.max() < count:
                raise ValueError(f"{name} codes need to be in [0, {count}); found {codes.min()}..{codes.max()}")
        if not (np.isfinite(self.time).all() and np.isfinite(self.weight).all() and (self.weight >= 0).all()):
            raise ValueError("interactions need finite times and finite weights >= 0; found others")
        if self.text and len(self.text) != self.items:
            raise ValueError(f"text is needed for each of {self.items} items, or none; found {len(self.text)}")
        if self.vectors is not None and (len(self.vectors) != self.items or not np.isfinite(self.vectors).all()):
            raise ValueError(f"a vector of finite numbers is needed for each of {self.items} items; found others")

    def at(self, rows: Bools | Ints) -> Self:
        """Those rows, of the same users and items."""
        return replace(self, user=self.user[rows], item=self.item[rows], time=self.time[rows], weight=self.weight[rows])

    def newest(self, count: int) -> Self:
        """Of each user and item the latest interaction, and of each user those of the `count` items taken up last.

        Equal times: the smaller code first. Pairs of weight 0 are not in it.
        """
        rows = np.flatnonzero(self.weight > 0)
        rows = rows[np.lexsort((self.item[rows], -self.time[rows], self.user[rows]))]
        _, first = np.unique(self.user[rows] * self.items + self.item[rows], return_index=True)
        rows = rows[np.sort(first)]
        user = self.user[rows]
        rank = np.arange(len(rows)) - np.searchsorted(user, user)
        return self.at(rows[rank < count])

    def matrix(self) -> Sparse:
        """(users, items): the largest weight of each pair, so that who takes one thing up a hundred times is one user.

        Pairs of weight 0 are not in it.
        """
        from scipy.sparse import csr_array

        order = np.lexsort((-self.weight, self.item, self.user))
        user, item, weight = self.user[order], self.item[order], self.weight[order]
        first = np.ones(len(user), dtype=bool)
        first[1:] = (user[1:] != user[:-1]) | (item[1:] != item[:-1])
        first &= weight > 0
        return csr_array((weight[first], (user[first], item[first])), shape=(self.users, self.items))


def need_some(interactions: Interactions) -> None:
    """Raise ValueError where there is nothing to learn from."""
    if not len(interactions.weight) or not interactions.weight.any():
        raise ValueError(f"a retriever needs interactions with a weight; found none in {len(interactions.weight)} rows")
