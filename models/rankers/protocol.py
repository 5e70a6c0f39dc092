"""What every ranker is: fitted by construction, two probabilities out, plain bytes to disk and back."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from models.delays.targets import Targets
from models.rankers.words import Words
from models.settings import OutcomeSettings

Column = NDArray[Any] | Words
Columns = Mapping[str, Any]
"""Column name to a `Column`: numbers (n,) float64 with NaN for unknown; words (n,), or lists of them (n, k) from the
left, as `Words` or, of the few rows of a request, as objects, str with None for unknown; or vectors as (n, k) float32,
likewise with NaN."""
Floats = NDArray[np.float64]
Room = Callable[[tuple[int, ...], Any], NDArray[Any]]
"""Makes an array of a shape and a type, whatever is in it: `np.empty`, or one that has a file behind it."""
ROWS_AT_ONCE = 8_192
"""Rows are prepared as many at once as a processor keeps at hand: a million of them would be gigabytes of copies."""


@dataclass(frozen=True)
class Inputs:
    """The names of the columns that a ranker looks at, by what they hold; `a | b` is what both need.

    Training and evidence make no column that nobody asks for.
    """

    numbers: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    attributes: bool = False
    """Every `attributes.*` there is, as categories."""
    ids: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()
    """Those there are: where nobody has one there is no column."""
    outcomes: bool = False
    """Every further outcome that is declared, to learn and predict it: no column to look at."""

    def __or__(self, other: "Inputs") -> "Inputs":
        return Inputs(
            numbers=_either(self.numbers, other.numbers),
            categories=_either(self.categories, other.categories),
            attributes=self.attributes or other.attributes,
            ids=_either(self.ids, other.ids),
            lists=_either(self.lists, other.lists),
            vectors=_either(self.vectors, other.vectors),
            outcomes=self.outcomes or other.outcomes,
        )

    @property
    def named(self) -> tuple[str, ...]:
        """All but attributes, whose names nobody knows beforehand, and vectors, which there need not be."""
        return (*self.ids, *self.numbers, *self.categories, *self.lists)


def _either(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*one, *other)))


@dataclass(frozen=True)
class FurtherOutcome:
    """One beside click and conversion: as declared, and its `label` (n,), 0 or 1 or a value from 0 up, NaN unknown."""

    declared: OutcomeSettings
    label: Floats


@dataclass(frozen=True)
class TrainingData:
    """n examples. Labels are 0.0 or 1.0, NaN where unknown at the cut: such a row teaches that label nothing.

    Whether a label is known must not depend on what it says: one that may still change is NaN, also where a yes has
    been heard already.

    `conversion`: what conversions of clicked rows teach, the open ones read as "so far no, so old" (`models.delays`),
    in place of `converted`; several: one a stage of the wait. None: they teach nothing until they are closed.
    `days`: (n,) the day of each row, days since 1970-01-01, where a ranker is to forget what it has not seen for long.
    `groups`: (n,) the list each row was shown in, any integers, where a ranker learns to order lists.
    `outcomes`: further ones by name.
    `held_out`: later examples to stop learning by, never learned from, where a ranker makes several passes.
    `room`: where a ranker is to put what it makes of all rows.
    """

    features: Columns
    clicked: Floats
    converted: Floats
    weight: Floats
    conversion: Targets | tuple[Targets, ...] | None = None
    days: NDArray[np.int64] | None = None
    groups: NDArray[np.int64] | None = None
    held_out: "TrainingData | None" = None
    outcomes: Mapping[str, FurtherOutcome] = field(default_factory=dict)
    room: Room = np.empty

    def where(self, rows: NDArray[np.int64]) -> "TrainingData":
        """Only these rows, ascending; what is held out stays."""
        place = np.full(len(self.clicked), -1)
        place[rows] = np.arange(len(rows))

        def placed(taught: Targets) -> Targets:
            kept = np.flatnonzero(place[taught.rows] >= 0)
            return replace(taught.take(kept), rows=place[taught.rows[kept]])

        taught = self.conversion
        if taught is not None:
            taught = placed(taught) if isinstance(taught, Targets) else tuple(map(placed, taught))
        return replace(
            self,
            features={name: taken(column, rows, self.room) for name, column in self.features.items()},
            clicked=self.clicked[rows],
            converted=self.converted[rows],
            weight=self.weight[rows],
            conversion=taught,
            days=None if self.days is None else self.days[rows],
            groups=None if self.groups is None else self.groups[rows],
            outcomes={name: replace(of, label=of.label[rows]) for name, of in self.outcomes.items()},
        )

    def __post_init__(self) -> None:
        n = len(self.clicked)
        lengths = {name: len(column) for name, column in self.features.items()}
        lengths |= {name: len(of.label) for name, of in self.outcomes.items()}
        lengths |= {name: len(of) for name, of in (("days", self.days), ("groups", self.groups)) if of is not None}
        if any(length != n for length in (*lengths.values(), len(self.converted), len(self.weight))):
            raise ValueError(f"training data needs columns of one length; found clicked {n}, {lengths}")


def taken(column: Any, rows: NDArray[np.int64], room: Room = np.empty) -> Any:
    """Those rows of a column, ascending: itself where they are all."""
    if isinstance(column, Words):
        return Words(column.values, taken(column.at, rows, room))
    return column if len(column) == len(rows) else picked(column, rows, room)


def picked(array: NDArray[Any], rows: NDArray[np.int64], room: Room) -> NDArray[Any]:
    """Those rows, in this order."""
    found = room((len(rows), *array.shape[1:]), array.dtype)
    for part in parts(len(rows)):
        found[part] = array[rows[part]]
    return found


def parts(n: int) -> Iterator[slice]:
    """Of n rows `ROWS_AT_ONCE`, then the next."""
    return (slice(first, first + ROWS_AT_ONCE) for first in range(0, n, ROWS_AT_ONCE))


def of_part(columns: Columns, names: Iterable[str], part: slice) -> Columns:
    """Of n rows those of one of the `parts`, the columns `names` there are at least; as they are where it is all."""
    if not part.start and len(next(iter(columns.values()))) <= part.stop:
        return columns
    return {name: columns[name][part] for name in names if name in columns}


@dataclass(frozen=True)
class Predictions:
    """Probabilities per row, shape (n,), in [0, 1]: of a click given the impression, of a conversion given the click.

    `outcomes`: of further ones by name, those the ranker has learned: a probability or a mean value per impression.
    `quantiles`: of those that are values, in [0, 1] of rows of one group (see `OutcomeSettings.quantiles_by`); None
    where the value alone is known.

    Raises ValueError for the second outside [0, 1] (NaN aside).
    """

    p_click: Floats
    p_conversion_given_click: Floats
    outcomes: Mapping[str, Floats] = field(default_factory=dict)
    quantiles: Mapping[str, Floats | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = self.p_conversion_given_click
        if given.shape != self.p_click.shape or ((given < 0) | (given > 1)).any():
            raise ValueError(f"a conversion given a click needs one probability per row, in [0, 1]; found {given}")

    def take(self, rows: NDArray[np.int64]) -> "Predictions":
        """Some rows, in this order."""
        outcomes = {name: of[rows] for name, of in self.outcomes.items()}
        quantiles = {name: None if of is None else of[rows] for name, of in self.quantiles.items()}
        return Predictions(self.p_click[rows], self.p_conversion_given_click[rows], outcomes, quantiles)

    @property
    def p_conversion(self) -> Floats:
        """Of a conversion given the impression: a click comes first, so never above `p_click`, rounding included."""
        p: Floats = self.p_click * self.p_conversion_given_click
        return p


class Diverged(ValueError):
    """What is minimised is no number any more: settings ask for steps too large, and no model comes of it."""


class NoDevice(ValueError):
    """Settings ask for a device that this machine does not have."""


class Checkpoints(Protocol):
    """Where a fit keeps how far it has come: killed and begun again with the same store, it ends with the very bytes
    of one that was left alone.

    A fit saves now and then and loads once, when it begins; what is not of its own data, settings, seed and parent it
    leaves aside and begins anew. It clears nothing: whoever made the store drops it once the ranker is safe.
    """

    def load(self) -> bytes | None:
        """What was saved last; None where nothing was."""
        ...

    def save(self, content: bytes) -> None:
        """Instead of what was saved before: all of it or, where this is cut short, the former still."""
        ...


class Scorer(Protocol):
    """What scores: a ranker, or one whose words are mapped (`models.rankers.calibrated`)."""

    kind: str
    inputs: Inputs
    """What `predict` is given of the columns, at least."""

    def predict(self, features: Columns) -> Predictions:
        """Scores for n rows; columns unknown to the ranker are ignored, a missing one raises ValueError."""
        ...

    def to_files(self) -> dict[str, bytes]:
        """File name to content, no pickle; the whole ranker."""
        ...


class Ranker(Scorer, Protocol):
    """Never half-fitted: an instance exists only fitted. Same data, settings and seed give the same bytes.

    `inputs` are what `fit` is given too.
    """

    several_labels: bool
    """Whether a click may teach its conversion more than once: in stages of the wait, or as a fake negative."""

    @classmethod
    def fit(cls, data: TrainingData, settings: Any, seed: int, start_from: Self | None = None) -> Self:
        """A new ranker by `settings`, an instance of the class's own; `seed` is for whatever it draws.

        `start_from` (same class) is continued where the method can, and never changed.

        Raises ValueError when no row has a known click label, or only one class of it is present; `Diverged` (one too)
        where learning does not settle.
        """
        ...

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very ranker `to_files` wrote."""
        ...


class Resumable(Ranker, Protocol):
    """A ranker that learns in steps, and so need not begin anew."""

    @classmethod
    def fit(
        cls,
        data: TrainingData,
        settings: Any,
        seed: int,
        start_from: Self | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> Self:
        """As `Ranker.fit`; with `checkpoints` it goes on from there and saves there, which changes no byte."""
        ...
