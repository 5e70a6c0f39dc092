"""A ranker for each surface, all of one kind, each from its own surface's rows; to whoever asks, a ranker like any.

The bespoke models that one consolidated model is held against. Beside them is that very model, of all rows (`others`):
it answers on surfaces with too little to learn from, or that nobody has seen, and tells further outcomes everywhere.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from models.rankers.encoding import require
from models.rankers.protocol import Columns, Inputs, Predictions, Ranker, Scorer, TrainingData
from models.rankers.served import Exportable, Served, plain, with_graphs
from models.rankers.words import Words, said_once, unpacked
from models.settings import BY_SURFACE

SURFACE = "surface"
INDEX = "surfaces.json"
OTHERS = "others"
FEWEST_CLICKS = 100
"""Rows of a surface that were clicked, and as many that were not, for a ranker of its own."""


class BySurfaceRanker:
    """`of` is the kind of each; a request, which is of one surface, is one of them's."""

    kind: str
    inputs: Inputs
    several_labels: bool
    of: ClassVar[type[Ranker]]

    def __init__(self, own: Mapping[str, Scorer], others: Scorer, further: bool) -> None:
        """`own`: by surface. `further`: whether `others` has learned further outcomes."""
        self.own = dict(sorted(own.items()))
        self.others = others
        self._further = further

    @classmethod
    def fit(cls, data: TrainingData, settings: Any, seed: int, start_from: Self | None = None) -> Self:
        """See `Ranker.fit`; what is continued stays as it is on a surface whose rows cannot teach it anything."""
        before = {} if start_from is None else start_from.own
        pooled = None if start_from is None else plain(start_from.others)
        others = cls.of.fit(data, settings, seed, start_from=pooled)  # type: ignore[arg-type]
        apart, own = replace(data, outcomes={}), dict(before)
        surfaces = Words.of(data.features[SURFACE])
        for surface in sorted(surfaces.values[at] for at in surfaces.order().tolist()):
            rows = np.flatnonzero(surfaces.are(surface))
            going_on = plain(before[surface]) if surface in before else None
            if len(rows) < len(data.clicked) and _rarer(data, rows) >= (1 if going_on else FEWEST_CLICKS):
                mine = cls.of.fit(_of_surface(apart, surface, rows), settings, seed, start_from=going_on)  # type: ignore[arg-type]
                own[surface] = mine
        return cls(own, others, bool(data.outcomes))

    def predict(self, features: Columns) -> Predictions:
        """Scores for n rows."""
        require(features, (SURFACE,))
        column = features[SURFACE]
        if said_once(column) or len(column) == 1:
            return self._said(unpacked(column[:1])[0], features)
        words = Words.of(column)
        codes, surfaces = words.at, words.values
        groups: dict[str | None, list[int]] = {}
        for code, surface in enumerate([*surfaces, None]):
            groups.setdefault(surface if surface in self.own else None, []).append(code if surface is not None else -1)
        parts = {of: np.flatnonzero(np.isin(codes, mine)) for of, mine in groups.items()}
        parts = {of: rows for of, rows in parts.items() if len(rows)} or {None: np.arange(0)}
        if len(parts) == 1:
            return self._said(next(iter(parts)), features)
        said = [self._said(of, _rows(features, rows)) for of, rows in parts.items()]
        order = np.argsort(np.concatenate(list(parts.values())), kind="stable")
        return _joined(said).take(order)

    def _said(self, surface: str | None, features: Columns) -> Predictions:
        """Of rows of one surface."""
        own = self.own.get(surface or "")
        if own is None:
            return self.others.predict(features)
        said = own.predict(features)
        if not self._further:
            return said
        pooled = self.others.predict(features)
        return Predictions(said.p_click, said.p_conversion_given_click, pooled.outcomes, pooled.quantiles)

    def graphed(self, rows: Columns) -> Self:
        """With a graph of each that can have one, compared on these rows; see `models.rankers.exported`."""

        def graph(ranker: Scorer) -> Scorer:
            return Served.of(ranker, rows) if isinstance(ranker, Exportable) else ranker

        return type(self)({name: graph(of) for name, of in self.own.items()}, graph(self.others), self._further)

    def to_files(self) -> dict[str, bytes]:
        """Those of each ranker in a folder of its own, and whose they are."""
        parts = {OTHERS: self.others} | {str(at): of for at, of in enumerate(self.own.values())}
        files = {f"{at}/{name}": content for at, of in parts.items() for name, content in of.to_files().items()}
        index = {"surfaces": list(self.own), "further": self._further}
        return {**files, INDEX: json.dumps(index, sort_keys=True).encode()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """The very ranker `to_files` wrote."""
        index = json.loads(files[INDEX])

        def part(at: str) -> Scorer:
            mine = {name.partition("/")[2]: of for name, of in files.items() if name.partition("/")[0] == at}
            return with_graphs(cls.of.from_files(mine), mine)

        own = {surface: part(str(at)) for at, surface in enumerate(index["surfaces"])}
        return cls(own, part(OTHERS), index["further"])


def by_surface(of: type[Ranker]) -> type[BySurfaceRanker]:
    """The class of rankers whose parts are of a kind."""
    told = {
        "__doc__": f"A {of.kind} ranker for each surface.",
        "kind": of.kind + BY_SURFACE,
        "inputs": of.inputs | Inputs(categories=(SURFACE,)),
        "several_labels": of.several_labels,
        "of": of,
    }
    return type(f"{of.__name__}BySurface", (BySurfaceRanker,), told)


def _rarer(data: TrainingData, rows: NDArray[np.int64]) -> int:
    """How many of the rows are clicked, or are not, whichever are fewer."""
    clicked = data.clicked[rows][data.weight[rows] > 0]
    return int(min((clicked == 1).sum(), (clicked == 0).sum()))


def _of_surface(data: TrainingData, surface: str, rows: NDArray[np.int64]) -> TrainingData:
    """What one surface teaches, held-out rows included."""
    later = data.held_out
    if later is not None:
        later = later.where(np.flatnonzero(Words.of(later.features[SURFACE]).are(surface)))
    return replace(data.where(rows), held_out=later)


def _rows(features: Columns, rows: NDArray[np.int64]) -> Columns:
    return {name: column[rows] for name, column in features.items()}


def _joined(parts: list[Predictions]) -> Predictions:
    """One after another; all of the same outcomes."""
    first = parts[0]
    quantiles = {name: [part.quantiles[name] for part in parts] for name in first.quantiles}
    return Predictions(
        np.concatenate([part.p_click for part in parts]),
        np.concatenate([part.p_conversion_given_click for part in parts]),
        {name: np.concatenate([part.outcomes[name] for part in parts]) for name in first.outcomes},
        {name: None if of[0] is None else np.concatenate(of) for name, of in quantiles.items()},  # type: ignore[arg-type]
    )
