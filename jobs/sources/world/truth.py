"""What the simulated world knows and no log tells: for the eyes alone, nothing is decided by it and nothing fails."""

from datetime import date, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.config import Config
from models.settings import WorldSettings
from models.world import SURFACES, World, bought_within

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Probabilities(NamedTuple):
    """Of n placements, (n,) each: that the impression is clicked, and that it earns a conversion."""

    click: Floats
    conversion: Floats


def true_probabilities(
    config: Config,
    day: date,
    user_id: NDArray[Any],
    item_id: NDArray[Any],
    surface: NDArray[Any],
    position: Ints | int = 1,
) -> Probabilities | None:
    """Exact, of n placements at `position` (1 is the top) given by aligned ids (strings).

    A conversion is a purchase within `attribution.window` of its click; that a later click of the user on the item
    may be paid instead moves it to another impression. None unless the source is simulated and its world has the day
    and everything named: logs of another world (settings changed since, files brought along) have no truth here.

    The true value of a policy on a day is the mean over its requests of the sum over candidates of the policy's
    first-placement probability times P(click) at the top.
    """
    if config.source.name != "simulated":
        return None
    world = _world(config.world)
    users = _index(user_id, "u", world.settings.users)
    items = _index(item_id, "i", len(world.items))
    place, known = _coded(surface)
    first, last = world.span
    if users is None or items is None or not set(known) <= set(SURFACES) or not first <= day <= last:
        return None
    code = np.array([SURFACES.index(name) for name in known], dtype=np.int64)
    index = world.index(day)
    click = world.click_probability(index, users, items, code[place], position)
    bought = world.purchase_probability(index, users, items) * bought_within(
        config.attribution.to_purchase // timedelta(microseconds=1)
    )
    return Probabilities(click, click * bought)


@lru_cache(maxsize=2)
def _world(settings: WorldSettings) -> World:
    return World(settings)


def _index(ids: NDArray[Any], prefix: str, count: int) -> Ints | None:
    """Ids like `u000123` back to indices; None where one of them is no such id."""
    codes, texts = _coded(ids)
    try:
        index = np.array([int(str(text).lstrip(prefix)) for text in texts], dtype=np.int64)
    except ValueError:
        return None
    return index[codes] if not len(index) or (index.min() >= 0 and index.max() < count) else None


def _coded(values: NDArray[Any]) -> tuple[Ints, list[str | None]]:
    """(n,) which of the distinct values each is, and those: a million ids are a few thousand texts."""
    coded = pa.array(values, pa.string()).dictionary_encode(null_encoding="encode")
    return coded.indices.to_numpy().astype(np.int64), coded.dictionary.to_pylist()
