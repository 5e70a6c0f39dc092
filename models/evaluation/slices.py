"""Champion and challenger within slices of the rows, and whether the whole contradicts its parts.

A slice is one value of one attribute of a user, an item, a request or the surface. There are many slices, so each
interval is widened until all are simultaneous (Bonferroni over the slices looked at).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.estimate import Estimate, Finding, upper_tail

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Difference = Callable[[Ints, float], Finding]
"""From row numbers and a confidence to challenger minus champion on those rows."""


@dataclass(frozen=True)
class Slice:
    """One value of an attribute: its rows, their share of all, and challenger minus champion on them."""

    attribute: str
    value: str
    n: int
    share: float
    difference: Finding


@dataclass(frozen=True)
class Reversal:
    """A Simpson's paradox: the overall difference has one sign, that of every large slice of an attribute the other."""

    attribute: str
    overall: float
    slices: Mapping[str, float]


def slices(
    attributes: Mapping[str, NDArray[Any]],
    difference: Difference,
    *,
    confidence: float,
    min_rows: int = 200,
    most: int = 8,
) -> list[Slice]:
    """Every value with at least `min_rows` rows, at most the `most` frequent of each attribute, largest first.

    `attributes`: name to (n,) values of any kind, compared as text; None and NaN are the value `unknown`. `difference`
    is called with the confidence that makes all slices simultaneous at `confidence`. Raises ValueError for attributes
    of unequal length or a confidence outside (0, 1).
    """
    upper_tail(confidence)
    lengths = {name: len(values) for name, values in attributes.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"slices need attributes of one length; found {lengths}")
    chosen = {name: _largest(values, min_rows, most) for name, values in attributes.items()}
    each = 1 - (1 - confidence) / max(1, sum(len(texts) for texts, _ in chosen.values()))
    found = []
    for name, (texts, place) in chosen.items():
        for number, text in enumerate(texts):
            rows = np.flatnonzero(place == number)
            found.append(Slice(name, text, len(rows), len(rows) / lengths[name], difference(rows, each)))
    return found


def _largest(values: NDArray[Any], min_rows: int, most: int) -> tuple[list[str], NDArray[np.unsignedinteger[Any]]]:
    """The texts of the values looked at, largest first, and (n,) each row's place among them, a last one for the rest.

    A text is held once however many rows have it, and a place in a byte: rows times the longest text is gigabytes.
    """
    codes: dict[str, int] = {}
    at = np.fromiter((codes.setdefault(_text(v), len(codes)) for v in values.tolist()), np.int64, len(values))
    counts = np.bincount(at, minlength=len(codes))
    texts = sorted(codes, key=lambda text: (-counts[codes[text]], text))[:most]
    texts = [text for text in texts if counts[codes[text]] >= min_rows]
    place = np.full(len(codes), len(texts), dtype=np.min_scalar_type(len(texts)))
    place[[codes[text] for text in texts]] = np.arange(len(texts))
    return texts, place[at]


def _text(value: Any) -> str:
    return "unknown" if value is None or value != value else str(value)


def reversals(overall: Finding, parts: Sequence[Slice], min_share: float = 0.05) -> list[Reversal]:
    """The attributes whose large slices all have the opposite sign of the whole (Simpson 1951).

    Large: at least `min_share` of the rows, with an estimate; at least two such slices. A whole that is exactly 0, or
    was refused, has no opposite. It happens if champion and challenger do well on different slices and slices differ in
    level, as with AUC and self-normalised values; a plain mean over fixed rows cannot reverse.
    """
    if not isinstance(overall, Estimate) or overall.value == 0:
        return []
    found = []
    for attribute in dict.fromkeys(part.attribute for part in parts):
        large = {
            part.value: part.difference.value
            for part in parts
            if part.attribute == attribute and part.share >= min_share and isinstance(part.difference, Estimate)
        }
        if len(large) >= 2 and all(value * overall.value < 0 for value in large.values()):
            found.append(Reversal(attribute, overall.value, large))
    return found
