"""The reference that a bundle carries: the features and outcomes it learned from, its scores of the validation day.

Scores are of rows that it did not learn from: of its own training rows a ranker is surer than it will ever be again.
"""

import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from jobs.evidence.scored import Scored
from models.monitoring.profile import Ints, Profile
from models.rankers.features import ATTRIBUTE_PREFIX, CATEGORICAL, NUMERIC
from models.rankers.protocol import TrainingData

SCORE, OUTCOMES = "p_click", ("clicked", "converted")
MOST_ROWS = 500_000
"""Of a larger training set the rows of some users are taken: so many have no noise to speak of."""


def reference(train: TrainingData, columns: Iterable[str], validated: Scored, kind: str) -> Profile:
    """Of the numbers and words among `columns`, of the outcomes that are known, and of the scores of `kind`."""
    users = train.features["user_id"]
    kept = np.flatnonzero((train.weight > 0) & _of_some(users, MOST_ROWS / max(1, len(users))))
    users, weight = _numbers(users[kept]), train.weight[kept]
    surface = train.features["surface"][kept] if "surface" in train.features else np.full(len(kept), None, object)
    names = [name for name in columns if name in NUMERIC or name in CATEGORICAL or name.startswith(ATTRIBUTE_PREFIX)]
    found = Profile.of({name: train.features[name][kept] for name in names}, users, surface, weight)
    for name in OUTCOMES:
        label = getattr(train, name)[kept]
        known = np.flatnonzero(np.isfinite(label))
        if len(known):
            found |= Profile.of({name: said(label[known])}, users[known], surface[known], weight[known])
    if len(validated):
        there = validated.attributes["surface"]
        found |= Profile.of({SCORE: validated.as_shown[kind]}, validated.users, there)
    return found


def said(label: NDArray[np.float64]) -> NDArray[np.object_]:
    """An outcome as words, which have a cell each however rare one is."""
    return np.where(label > 0, "yes", "no").astype(object)


def _of_some(users: NDArray[np.object_], share: float) -> NDArray[np.bool_]:
    """(n,) rows of about that share of users, by their ids alone: the same whatever order rows are in."""
    if share >= 1:
        return np.ones(len(users), bool)
    kept = {user: zlib.crc32(str(user).encode()) / 2**32 < share for user in set(users)}
    return np.array([kept[user] for user in users], bool)


def _numbers(users: NDArray[np.object_]) -> Ints:
    """(n,) a number of each user; whoever nobody knows is somebody else each time."""
    places: dict[object, int] = {}
    found = np.array([places.setdefault(u, len(places)) if u is not None else -1 for u in users], np.int64)
    nobody = np.flatnonzero(found < 0)
    found[nobody] = len(places) + np.arange(len(nobody))
    return found
