"""Whether logged propensities are those of the logging policy, tested with the weights alone: no reward is used.

If the propensities are right, and the logging policy could take whatever the target would, the weighted mean of any
figure h of what was taken equals the target's own mean of h: E[w h(taken)] = E[sum over candidates of target x h]. Both
are known from the log, so each h is a test (like covariate balance after weighting: Imai & Ratkovic 2014; Li et al.
2015 for logged bandit feedback). The tested groups are those in which a wrong propensity would distort a verdict: each
side's favourites, what the challenger shows more or less, the rankers' scores, and every large context and kind.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models.evaluation.choices import SIDES, Choices, Floats, Ints, Side
from models.evaluation.moments import powers
from models.evaluation.sufficient import Influence

MOST_LABELS = 8
"""Labels tested per context or kind, the most frequent."""
FEWEST = 100
"""Decisions (or candidates) that a label needs to be tested."""


@dataclass(frozen=True)
class Balance:
    """One group of one side: the target's own mean of it, and the weighted mean of what was taken; both per decision.

    `deviation`: by how many standard errors they differ. `off`: whether that is too much for correct logs, at the risk
    that all groups share.
    """

    side: Side
    group: str
    expected: float
    found: float
    stderr: float
    off: bool

    @property
    def deviation(self) -> float:
        """(found - expected) / stderr; 0 where nothing varies."""
        return (self.found - self.expected) / self.stderr if self.stderr else 0.0

    @property
    def reason(self) -> str:
        """Why an estimate is refused for it."""
        return (
            f"the logged propensities must be those of the policy that logged, which could take what the {self.side}"
            f" would; of its choices {self.expected:.4f} a decision are expected in {self.group}, the weights give"
            f" {self.found:.4f} +- {self.stderr:.4f}"
        )


def balances(choices: Choices, risk: float) -> list[Balance]:
    """Every group of both sides, largest deviation first; `risk` in (0, 1): that any is `off` in correct logs.

    Intervals are by user at 1 - risk / groups, like an estimate's (`models.evaluation.sufficient.Influence`). A group
    without variation, or that neither side chooses, is left out.
    """
    figures, kinds = _figures(choices), _kinds(choices)
    groups = [
        (side, name, expected, found)
        for side in SIDES
        for name, expected, found in _groups(choices, side, figures, kinds)
        if expected.any() or found.any()
    ]
    _, user = np.unique(choices.users, return_inverse=True)
    told = []
    for side, name, expected, found in groups:
        away = found - expected
        mean = float(away.mean())
        sums = np.bincount(user, weights=(away - mean) / len(choices)).astype(np.float64, copy=False)
        influence = Influence(mean, len(sums), len(choices), float(len(choices)), *powers(sums))
        if len(sums) < 2 or not influence.second:
            continue
        low, high = influence.interval(1 - risk / len(groups))
        told.append(
            Balance(side, name, float(expected.mean()), float(found.mean()), influence.stderr, not low <= 0 <= high)
        )
    return sorted(told, key=lambda b: (not b.off, -abs(b.deviation)))


def _figures(choices: Choices) -> dict[str, Floats]:
    """Name to (n,) what may go wrong with a candidate, whichever side takes it."""
    more = choices.moved
    found = {"all candidates": np.ones(len(more))}
    found |= {f"the {side}'s favourites": choices.favourite(side).astype(np.float64) for side in SIDES}
    found |= {"what the challenger shows more": (more > 0).astype(np.float64)}
    found |= {"what the challenger shows less": (more < 0).astype(np.float64)}
    return found | {f"the {side}'s scores": predicted for side, predicted in choices.predicted.items()}


def _kinds(choices: Choices) -> list[tuple[list[str], Ints, Ints]]:
    """Of each kind the names of its groups, (n,) the cell of decision and group each candidate is in, (m,) the group
    of what was shown; the last group is of all candidates that are in none."""
    found = []
    for name, labels in choices.kinds.items():
        told = labels.largest(FEWEST, MOST_LABELS)
        place = np.full(len(labels.names), len(told))
        place[told] = np.arange(len(told))
        at = place[labels.codes]
        names = [f"{name} {labels.names[code]}" for code in told]
        found.append((names, choices.row * (len(told) + 1) + at, at[choices.shown]))
    return found


def _groups(
    choices: Choices, side: Side, figures: dict[str, Floats], kinds: list[tuple[list[str], Ints, Ints]]
) -> Iterator[tuple[str, Floats, Floats]]:
    """Name, (m,) the side's own mean of the group in each decision, (m,) what the weights make of what was taken."""
    chosen, weight = choices.chosen[side], choices.target(side) / choices.logged
    for name, h in figures.items():
        yield name, choices.of_all(chosen * h), weight * h[choices.shown]
    whole = choices.of_all(chosen)
    for name, labels in choices.contexts.items():
        for code in labels.largest(FEWEST, MOST_LABELS):
            there = labels.codes == code
            yield f"{name} {labels.names[code]}", whole * there, weight * there
    for names, cell, shown in kinds:
        own = np.bincount(cell, chosen, len(choices) * (len(names) + 1))
        # Laid out by group, so that each is read in one piece.
        shares = np.ascontiguousarray(own.astype(np.float64, copy=False).reshape(len(choices), -1).T)
        for number, name in enumerate(names):
            yield name, shares[number], weight * (shown == number)
