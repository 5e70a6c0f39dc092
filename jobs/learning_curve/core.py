"""How a ranker's figures grow with days of history, and fall with the days since it last learned. No I/O."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.errors import Refused
from jobs.evidence.scored import MEASURED, compared, scored
from jobs.moment.identity import IDENTITY
from jobs.train.choice import Worse
from models.evaluation.estimate import Finding, Refusal
from models.rankers import fit
from models.rankers.protocol import Ranker, TrainingData
from models.settings import GateSettings, RankerSettings

MIN_DAYS = 4
"""Of history, below which no curve is drawn: 1, 2 and 4 days are its first points."""
Metrics = dict[str, Finding]


@dataclass(frozen=True)
class Window:
    """Train days learned from: so many, the newest of them `gap` days before the newest of the dataset."""

    days: int
    gap: int = 0


@dataclass(frozen=True)
class Point:
    """What a ranker of a window is on the test rows, and by how much it differs from the reference's (`Curve`)."""

    window: Window
    rows: int
    metrics: Metrics
    difference: Metrics

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping."""
        return {
            **asdict(self.window),
            "rows": self.rows,
            "metrics": {name: found.as_dict() for name, found in self.metrics.items()},
            "difference": {name: found.as_dict() for name, found in self.difference.items()},
        }

    @property
    def worse(self) -> bool:
        """For sure than the reference, in log-loss; a refused difference tells nothing."""
        found = self.difference["log_loss"]
        return not isinstance(found, Refusal) and Worse.of({"difference": found}, "log_loss").at_least > 0


@dataclass(frozen=True)
class Curves:
    """`history`: ever more days, all up to the newest; differences are to all days.

    `staleness`: as many days each, ever longer ago; differences are to the newest of them.
    """

    history: list[Point]
    staleness: list[Point]

    @property
    def enough_days(self) -> int:
        """The fewest days from which on more are no better for sure."""
        worse = [point.window.days for point in self.history if point.worse]
        return min(point.window.days for point in self.history if point.window.days > max(worse, default=0))

    @property
    def fresh_days(self) -> int | None:
        """After how many days a frozen model is worse for sure and stays so; None where it never is."""
        fine = [point.window.gap for point in self.staleness if not point.worse]
        return next((point.window.gap for point in self.staleness if point.window.gap > max(fine)), None)


def windows(days: int) -> tuple[list[Window], list[Window]]:
    """Of so many train days: those of the history, 1, 2, 4, … and all; and half of them, 0, 1, 2, 4, … days ago.

    Raises `Refused` for fewer than `MIN_DAYS`.
    """
    if days < MIN_DAYS:
        raise Refused(f"a learning curve needs at least {MIN_DAYS} train days in the dataset; found {days}")
    half = days // 2
    history = [Window(n) for n in [*_doubling(days - 1), days]]
    staleness = [Window(half, gap) for gap in [0, *_doubling(days - half)]]
    return history, staleness


def _doubling(most: int) -> list[int]:
    return [2**n for n in range(most.bit_length()) if 2**n <= most]


def curves(
    kind: str,
    data: TrainingData,
    test: pa.Table,
    settings: RankerSettings,
    gate: GateSettings,
    say: Callable[[str], None],
) -> Curves:
    """A ranker of a kind fitted on each window of `data`, and judged on the same `test` rows of `examples`.

    Raises `Refused` for too few days, and where the rows of a window do not tell clicks from their absence.
    """
    if data.days is None:
        raise ValueError("a learning curve needs to be told the day of each row")
    last = int(data.days.max(initial=0))
    history, staleness = windows(len(np.unique(data.days)))
    rankers: dict[Window, Ranker] = {}
    rows: dict[Window, int] = {}
    for window in dict.fromkeys([*history, *staleness]):
        newest = last - window.gap
        mine = data.where(np.flatnonzero((data.days <= newest) & (data.days > newest - window.days)))
        rows[window] = len(mine.clicked)
        try:
            rankers[window] = fit(kind, mine, settings)
        except ValueError as error:
            raise Refused(
                f"{window.days} days, {window.gap} days ago, must be enough to learn from: {error}"
            ) from error
        say(f"{kind} of {window.days} days up to {window.gap} days ago: {rows[window]} rows")
    told = scored(test, {str(window): ranker for window, ranker in rankers.items()}, IDENTITY.empty_table())

    def points(of: Sequence[Window], reference: Window) -> list[Point]:
        found = []
        for window in of:
            sides = compared(told, str(reference), str(window), gate, MEASURED)
            metrics, differences = ({m: by[side] for m, by in sides.items()} for side in ("challenger", "difference"))
            found.append(Point(window, rows[window], metrics, differences))
        return found

    return Curves(points(history, history[-1]), points(staleness, staleness[0]))
