"""Small logs whose neighbourhoods are known: groups of users, each with items of its own."""

import numpy as np

from models.retrieval.interactions import Interactions

GROUPS, ITEMS_PER_GROUP = 4, 12


def grouped(seed: int = 0, users: int = 160, per_user: int = 5, stray: float = 0.05) -> Interactions:
    """Users take up items of their own group, now and then any; text names the group. Lower codes are more popular."""
    rng = np.random.default_rng(seed)
    items = GROUPS * ITEMS_PER_GROUP
    user = np.repeat(np.arange(users), per_user)
    likely = 1 / (1 + np.arange(ITEMS_PER_GROUP))
    place = rng.choice(ITEMS_PER_GROUP, len(user), p=likely / likely.sum())
    item = np.where(rng.random(len(user)) < stray, rng.integers(0, items, len(user)), place * GROUPS + user % GROUPS)
    time = np.sort(rng.random(len(user)) * 10)[rng.permutation(len(user))]
    text = tuple(f"Thing {i // GROUPS} of group{i % GROUPS}" for i in range(items))
    return Interactions(user, item.astype(np.int64), time, np.ones(len(user)), users, items, text)
