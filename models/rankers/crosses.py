"""Logistic regression with crosses: ids and pairs of categories have weights of their own, found by hashing."""

import json
import zlib
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.evaluation.hashing import scrambled
from models.rankers.encoding import Encoding, require
from models.rankers.features import IDS, TABLE
from models.rankers.graph import Graph, Traced
from models.rankers.labels import Label
from models.rankers.logistic import ENCODING_FILE, LogisticRanker, Scaling
from models.rankers.protocol import Columns, Floats, Inputs, Room, parts
from models.rankers.tensors import from_bytes, to_bytes
from models.rankers.words import Words

CROSSES = (
    ("user_id",),
    ("item_id",),
    ("user_id", "item_category"),
    ("user_id", "surface"),
    ("item_id", "surface"),
    ("item_category", "surface"),
    ("item_category", "device"),
    ("item_category", "region"),
)
"""Whose joint values have a weight each."""
BUCKETS = 1 << 16
"""Weights of one cross: of more values some share theirs. A pack of `models.rankers.lbfgs` has room for so many."""
WEIGHTS_FILE, CONSTANT_FILE = "crosses.safetensors", "crosses.json"
CLICK, STAGE = "click", "conversion."
"""Names of weights: of P(click), and what begins those of P(conversion | click): one stage of the wait each, mostly one
in all."""


class CrossesRanker(LogisticRanker):
    """The weights of `LogisticRanker`, and one per bucket of each of `CROSSES` (the hashing trick, Weinberger et al.
    2009): a list of known values is never kept, and one never seen has the weight nothing moved, or a stranger's.

    Every weight is pulled towards 0 (in a warm start: towards what it was) as if so many rows as `l2` spoke for that,
    however many there are: what a user or an item did in a few rows counts little.
    """

    kind = "crosses"
    inputs = TABLE | Inputs(ids=IDS)

    def to_files(self) -> dict[str, bytes]:
        """The encoding as JSON, the weights as safetensors; a constant P(conversion | click) as JSON."""
        tensors = {"mean": self._scaling.mean, "spread": self._scaling.spread, CLICK: self._click}
        files = {ENCODING_FILE: self._encoding.to_json()}
        if isinstance(self._conversion, float):
            return {**files, WEIGHTS_FILE: to_bytes(tensors), CONSTANT_FILE: json.dumps(self._conversion).encode()}
        stages = {f"{STAGE}{k}": of for k, of in enumerate(self._conversion)}
        return {**files, WEIGHTS_FILE: to_bytes(tensors | stages)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very ranker `to_files` wrote."""
        tensors = from_bytes(files[WEIGHTS_FILE])
        conversion: tuple[Floats, ...] | float = tuple(
            tensors[f"{STAGE}{k}"] for k in range(len(tensors)) if f"{STAGE}{k}" in tensors
        )
        if CONSTANT_FILE in files:
            conversion = float(json.loads(files[CONSTANT_FILE]))
        scaling = Scaling(tensors["mean"], tensors["spread"])
        return cls(Encoding.from_json(files[ENCODING_FILE]), scaling, tensors[CLICK], conversion)

    @classmethod
    def _codes(
        cls, encoding: Encoding, features: Columns, room: Room = np.empty
    ) -> tuple[NDArray[np.int32], tuple[int, ...]]:
        codes, sizes = super()._codes(encoding, features, room)
        found = room((len(codes), len(sizes)), np.int32)
        found[:, : codes.shape[1]] = codes
        crossed(features, found[:, codes.shape[1] :])
        return found, sizes

    @classmethod
    def _sizes(cls, encoding: Encoding) -> tuple[int, ...]:
        return (*super()._sizes(encoding), *[BUCKETS] * len(CROSSES))

    def _heads(self, to: Graph) -> list[Traced]:
        stored = to.stored(WEIGHTS_FILE, self.to_files()[WEIGHTS_FILE])
        return [of for name, of in stored.items() if name == CLICK or name.startswith(STAGE)]

    @classmethod
    def _minimised(
        cls,
        numbers: NDArray[np.float32],
        codes: NDArray[np.int32],
        sizes: tuple[int, ...],
        label: Label,
        start: Floats,
        settings: Any,
        memory: float,
        room: Room,
    ) -> Floats:
        """Only weights that some row has are moved: to all others nothing but the pull to where they are happens."""
        from models.rankers.lbfgs import Design, minimise  # torch: a second to import, needed only here

        first = 1 + numbers.shape[1] + np.cumsum([0, *sizes[:-1]])
        used, compact = [np.arange(first[0])], room(codes.shape, np.int32)
        for at in range(codes.shape[1]):
            values, compact[:, at] = np.unique(codes[:, at], return_inverse=True)
            used.append(first[at] + values)
        at_once, l2 = np.concatenate(used), settings.l2 / label.exposed.sum()
        design = Design(numbers, compact, tuple(len(values) for values in used[1:]))
        found = start.copy()
        found[at_once] = minimise(design, label, start[at_once], l2, settings.steps, memory)
        return found


def crossed(features: Columns, found: NDArray[np.int32]) -> None:
    """Puts the buckets in `found` (n, crosses); what is unknown is a value like any."""
    names = list(dict.fromkeys(name for cross in CROSSES for name in cross))
    require(features, names)
    words = {name: Words.of(features[name]) for name in names}
    numbers = {name: _numbers(of) for name, of in words.items()}
    first = {cross[0]: scrambled(numbers[cross[0]]) for cross in CROSSES}
    for part in parts(len(found)):
        begun = {name: of[words[name].at[part]] for name, of in first.items()}
        for at, (name, *more) in enumerate(CROSSES):
            joint = begun[name]
            for other in more:
                joint = scrambled(joint ^ numbers[other][words[other].at[part]])
            found[part, at] = joint % np.uint64(BUCKETS)


def _numbers(words: Words) -> NDArray[np.uint64]:
    """(values + 1,) a number of each string, the same on every machine; 0 of what is unknown, which -1 finds."""
    return np.array([*(zlib.crc32(value.encode()) + 1 for value in words.values), 0], dtype=np.uint64)
