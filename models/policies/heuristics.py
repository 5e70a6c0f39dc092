"""Rules for a page whatever is predicted: boosts, blocks, caps and diversity, as data beside a policy.

Heuristics change what a policy chooses from, place by place, never what it drew. Before each place the scores are
boosted, items that are blocked or have reached their cap are no candidates, and items that repeat a word of the page
are worth less. The policy then draws as usual, so its probability is exact given the items above, and a replay of the
same data gives the same probability. If a cap leaves no candidates, the page ends early.

A score is a probability and stays one: its odds are multiplied (a boost of 2 turns 0.01 into nearly 0.02, and 0.5 into
0.67), so no order is lost at 1. An item without the word (or an unknown item) is neither boosted, blocked, capped nor a
repetition.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.settings import HeuristicSettings, PolicySettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Words = Mapping[str, NDArray[Any]]
"""Column name to (n,) object, str or None: of each candidate."""


def words_in(columns: Words, policy: PolicySettings) -> dict[str, NDArray[Any]]:
    """The words that the policy's heuristics use, from columns with item_id; all None if no item has the attribute."""
    n = len(columns["item_id"])
    return {name: columns.get(name, np.full(n, None, dtype=object)) for name in policy.columns}


def rows_of(words: Words | None, rows: NDArray[Any]) -> Words | None:
    """The words of some candidates."""
    return None if words is None else {column: of[rows] for column, of in words.items()}


class Pages:
    """m unfinished pages with n candidates in all; `placed` records what was put on them."""

    def __init__(self, heuristics: HeuristicSettings, words: Words | None, page: Ints) -> None:
        """`page`: (n,) the page of each candidate. Raises ValueError if a column of words is missing."""
        n, given = len(page), words or {}
        missing = [column for column in heuristics.columns if column not in given or len(given[column]) != n]
        if missing:
            raise ValueError(f"heuristics need words of {n} candidates in {', '.join(missing)}; found {sorted(given)}")
        self.allowed = np.ones(n, dtype=bool)
        for block in heuristics.blocks:
            for word in block.words:
                self.allowed &= given[block.column] != word
        self._log_odds = np.zeros(n)
        for boost in heuristics.boosts:
            self._log_odds[given[boost.column] == boost.word] += np.log(boost.times)
        self._heuristics = heuristics
        counted = dict.fromkeys(rule.column for rule in (*heuristics.caps, *heuristics.repeats))
        self._groups = {column: _groups(given[column], page) for column in counted}
        self._placed = {column: np.zeros(groups.max(initial=-1) + 2) for column, groups in self._groups.items()}
        """How many of each group are on its page; the last group, items without a word, is not used."""

    def placed(self, candidates: Ints) -> None:
        """Record candidates that were placed, at most one per page."""
        for column, groups in self._groups.items():
            own = groups[candidates]
            np.add.at(self._placed[column], own[own >= 0], 1)

    def now(self, scores: Floats) -> tuple[Floats, Bools]:
        """For the next place of each page: each candidate's score (n,), and whether the candidate may go there."""
        allowed, log_odds = self.allowed, self._log_odds
        for cap in self._heuristics.caps:
            allowed = allowed & (self._above(cap.column) < cap.most)
        for repeat in self._heuristics.repeats:
            log_odds = log_odds + self._above(repeat.column) * np.log(repeat.times)
        times = np.exp(log_odds)
        return scores * times / (1 - scores + scores * times), allowed

    def _above(self, column: str) -> Floats:
        found: Floats = self._placed[column][self._groups[column]]
        return found


def _groups(words: NDArray[Any], page: Ints) -> Ints:
    """(n,) from 0: candidates of one page with one word have the same number; -1 without a word."""
    codes: dict[str | None, int] = {None: -1}
    for word in words.tolist():
        codes.setdefault(word, len(codes) - 1)
    code = np.fromiter(map(codes.__getitem__, words.tolist()), np.int64, len(words))
    known = np.flatnonzero(code >= 0)
    found = np.full(len(words), -1)
    found[known] = np.unique(page[known] * len(codes) + code[known], return_inverse=True)[1]
    return found
