"""What the simulated world knows and no log tells: the backtest may compare its estimates with it, never use it."""

from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.config import Config
from jobs.errors import UsageError
from models.settings import WorldSettings
from models.world import SURFACES, World


def true_click_probability(
    config: Config, day: date, user_id: NDArray[Any], item_id: NDArray[Any], surface: NDArray[Any]
) -> NDArray[np.float64] | None:
    """P(click) at the top position for n aligned ids (strings), exact; None unless the source is simulated.

    The true value of a policy on a day is the mean over its requests of the sum over candidates of the policy's
    first-placement probability times this. Raises `UsageError` for an id the world does not have.
    """
    if config.source.name != "simulated":
        return None
    world = _world(config.world)
    users = _index(user_id, "u", world.settings.users)
    items = _index(item_id, "i", len(world.items))
    place, known = _coded(surface)
    unknown = [name for name in known if name not in SURFACES]
    if unknown:
        raise UsageError(f"the simulated world has the surfaces {SURFACES}; found {unknown}")
    code = np.array([SURFACES.index(name) for name in known], dtype=np.int64)
    return world.click_probability(world.index(day), users, items, code[place])


@lru_cache(maxsize=2)
def _world(settings: WorldSettings) -> World:
    return World(settings)


def _index(ids: NDArray[Any], prefix: str, count: int) -> NDArray[np.int64]:
    """Ids like `u000123` back to indices."""
    codes, texts = _coded(ids)
    try:
        index = np.array([int(str(text).lstrip(prefix)) for text in texts], dtype=np.int64)
    except ValueError as error:
        raise UsageError(f"the simulated world's ids look like {prefix}000123; found {error}") from error
    if len(index) and not (index.min() >= 0 and index.max() < count):
        raise UsageError(f"the simulated world has {count} ids {prefix}…; found numbers up to {index.max()}")
    return index[codes]


def _coded(values: NDArray[Any]) -> tuple[NDArray[np.int64], list[str | None]]:
    """(n,) which of the distinct values each is, and those: a million ids are a few thousand texts."""
    coded = pa.array(values, pa.string()).dictionary_encode(null_encoding="encode")
    return coded.indices.to_numpy().astype(np.int64), coded.dictionary.to_pylist()
