"""The reference that a bundle carries: the features and outcomes it learned from, its scores of the validation day.

Scores are of rows that it did not learn from: of its own training rows a ranker is surer than it will ever be again.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from jobs.evidence.scored import Scored
from models.monitoring.profile import Ints, Profile, drawn
from models.rankers.features import ATTRIBUTE_PREFIX, CATEGORICAL, NUMERIC
from models.rankers.protocol import TrainingData
from models.rankers.words import Words, unpacked

SCORE, OUTCOMES = "p_click", ("clicked", "converted")
MOST_ROWS = 500_000
"""Of a larger training set the rows of some users are taken: so many have no noise to speak of."""


def learned(train: TrainingData, columns: Iterable[str]) -> Profile:
    """Of the numbers and words among `columns`, and of the outcomes that are known; once for all that learned them."""
    known_as = Words.of(train.features["user_id"])
    kept = np.flatnonzero((train.weight > 0) & _of_some(known_as, MOST_ROWS / max(1, len(known_as))))
    users, weight = _numbers(known_as[kept]), train.weight[kept]
    surface = unpacked(train.features.get("surface", Words.unknown(len(known_as)))[kept])
    days = None if train.days is None else train.days[kept]
    names = [name for name in columns if name in NUMERIC or name in CATEGORICAL or name.startswith(ATTRIBUTE_PREFIX)]
    found = Profile.of({}, users, surface, weight)
    for name in names:  # one at a time, words being objects here
        found |= Profile.of({name: unpacked(train.features[name][kept])}, users, surface, weight, days)
    for name in OUTCOMES:
        label = getattr(train, name)[kept]
        known = np.flatnonzero(np.isfinite(label))
        if len(known):
            found |= Profile.of({name: said(label[known])}, users[known], surface[known], weight[known])
    return found


def reference(of: Profile, columns: Iterable[str], validated: Scored, kind: str) -> Profile:
    """What one ranker's bundle carries of what was `learned`: its `columns`, the outcomes, and the scores of `kind`."""
    wanted = {*columns, *OUTCOMES}
    found = Profile({name: column for name, column in of.columns.items() if name in wanted})
    if len(validated):
        there = validated.attributes["surface"]
        found |= Profile.of({SCORE: validated.as_shown[kind]}, validated.users, there)
    return found


def said(label: NDArray[np.float64]) -> NDArray[np.object_]:
    """An outcome as words, which have a cell each however rare one is."""
    return np.where(label > 0, "yes", "no").astype(object)


def _of_some(users: Words, share: float) -> NDArray[np.bool_]:
    """(n,) rows of about that share of users, by their ids alone: the same whatever order rows are in."""
    if share >= 1:
        return np.ones(len(users), bool)
    return drawn((*users.values, None), share)[users.at]


def _numbers(users: Words) -> Ints:
    """(n,) a number of each user; whoever nobody knows is somebody else each time."""
    order = users.order()
    place = np.full(len(users.values) + 1, -1)
    place[order] = np.arange(len(order))
    found: Ints = place[users.at]
    nobody = np.flatnonzero(found < 0)
    found[nobody] = len(order) + np.arange(len(nobody))
    return found
