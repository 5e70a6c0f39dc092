"""The frozen probe rows of a chain of warm starts: columns of some rows as bytes, read back as they were."""

import json
from typing import Any

import numpy as np

from models.rankers.features import ATTRIBUTE_PREFIX
from models.rankers.protocol import Columns, Inputs
from models.rankers.words import Words

ROWS = 500
"""The mean of a change over them is known to a twentieth of its spread."""


def frozen(features: Columns, inputs: Inputs) -> bytes:
    """At most `ROWS` evenly spaced rows of the columns that `inputs` names."""
    wanted = {name: features[name] for name in sorted(features) if _wanted(name, inputs)}
    n = len(next(iter(wanted.values())))
    at = np.unique(np.linspace(0, n - 1, min(ROWS, n)).astype(np.int64))
    tree: dict[str, dict[str, Any]] = {"numbers": {}, "words": {}}
    for name, column in wanted.items():
        part = column[at]
        if isinstance(part, Words):
            tree["words"][name] = part.strings().tolist()
        else:
            tree["numbers"][name] = _without_nan(part.astype(float).tolist())
    return json.dumps(tree).encode()


def columns(content: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """The columns `frozen` wrote."""
    tree = json.loads(content)
    numbers = {name: np.array(values, dtype=np.float64) for name, values in tree["numbers"].items()}
    return {**numbers, **{name: np.array(values, dtype=object) for name, values in tree["words"].items()}}


def holds(content: bytes, inputs: Inputs) -> bool:
    """Whether there is a column for each named input: one that was declared since has none."""
    return set(inputs.named) <= set(columns(content))


def _without_nan(values: list[Any]) -> list[Any]:
    """Numbers, or vectors of them: JSON has no NaN."""
    return [_without_nan(of) if isinstance(of, list) else None if of != of else of for of in values]


def _wanted(name: str, inputs: Inputs) -> bool:
    return name in inputs.named or name in inputs.vectors or (inputs.attributes and name.startswith(ATTRIBUTE_PREFIX))
