"""A ranker whose probabilities are mapped to what came of them on held-out rows; to whoever asks, a ranker like any."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from models.rankers import graph
from models.rankers.encoding import codes_of, require
from models.rankers.graph import Encoded, Graph, Said, Traced
from models.rankers.halves import Halved, Halves, Parts, halves_of
from models.rankers.heads import Head
from models.rankers.protocol import Columns, Inputs, Predictions, Ranker, Scorer
from models.rankers.recalibration import Recalibration
from models.rankers.served import exportable, plain
from models.rankers.words import unpacked

CLICK_FILE, CONVERSION_FILE = "click.calibration.json", "conversion.calibration.json"
"""Beside the files of the ranker within."""
SURFACE = "surface"


class Calibrated:
    """P(click) and P(conversion | click) of the ranker within, each by its recalibration.

    Of its ranker's kind: a warm start continues the ranker within, whose words are recalibrated anew. Monotone in those
    words on any one surface; P(conversion) stays a part of P(click).
    """

    def __init__(self, ranker: Ranker, click: Recalibration, conversion: Recalibration) -> None:
        """`conversion`: of P(conversion | click)."""
        self.kind = ranker.kind
        self.inputs = ranker.inputs | Inputs(categories=(SURFACE,))
        self.ranker = ranker
        self._click = click
        self._conversion = conversion

    def predict(self, features: Columns) -> Predictions:
        """Scores for n rows."""
        require(features, (SURFACE,))
        found, surface = self.ranker.predict(features), unpacked(features[SURFACE])
        click, given = self._click(found.p_click, surface), self._conversion(found.p_conversion_given_click, surface)
        return Predictions(click, given, found.outcomes, found.quantiles)

    @property
    def heads(self) -> tuple[Head, ...]:
        """Those of the ranker within."""
        return exportable(self.ranker).heads

    def encoded(self, features: Columns) -> Encoded[NDArray[Any]]:
        """Those of the ranker within, and the number of the surface: 0 of one that has no map of its own."""
        surface = self.surfaces(features)
        within = exportable(self.ranker).encoded(features)
        return Encoded(within.numbers, np.column_stack([within.codes, surface]))

    def traced(self, to: Graph, given: Encoded[Traced]) -> Said:
        """As `predict`."""
        last = given.codes.shape[-1] - 1
        said = exportable(self.ranker).traced(to, Encoded(given.numbers, given.codes[..., :last]))
        return self._mapped(said, given.codes[..., last])

    @property
    def halves(self) -> Halves | None:
        """Those of the ranker within."""
        return halves_of(self.ranker)

    def surfaces(self, features: Columns) -> NDArray[np.int32]:
        """See `Exportable`."""
        require(features, (SURFACE,))
        return codes_of(features[SURFACE], self._surfaces, otherwise=0, unknown=0).astype(np.int32)

    def traced_halves(self, to: Graph, given: Parts[Traced]) -> Said:
        """As `predict`."""
        said = cast(Halved, self.ranker).traced_halves(to, given)
        return self._mapped(said, graph.take(given.surface, given.kind))

    def _mapped(self, said: Said, surface: Traced) -> Said:
        """`surface`: its number."""
        codes = self._surfaces
        click = self._click.traced(said.click, surface, codes)
        return Said(click, self._conversion.traced(said.conversion, surface, codes), said.further)

    @property
    def _surfaces(self) -> dict[str, int]:
        named = sorted({*self._click.of_surface, *self._conversion.of_surface})
        return {name: at for at, name in enumerate(named, start=1)}

    def to_files(self) -> dict[str, bytes]:
        """Those of the ranker within, and one of JSON for each outcome whose words are mapped."""
        maps = {CLICK_FILE: self._click, CONVERSION_FILE: self._conversion}
        return {**self.ranker.to_files(), **{name: of.to_json() for name, of in maps.items() if of.changes}}


def calibrated(ranker: Ranker, click: Recalibration, conversion: Recalibration) -> Scorer:
    """The ranker itself where neither changes anything."""
    return Calibrated(ranker, click, conversion) if click.changes or conversion.changes else ranker


def from_files(kind: type[Ranker], files: Mapping[str, bytes]) -> Scorer:
    """The very ranker of a kind that wrote the files, calibrated or not."""
    click, conversion = (
        Recalibration.from_json(files[name]) if name in files else Recalibration()
        for name in (CLICK_FILE, CONVERSION_FILE)
    )
    return calibrated(kind.from_files(files), click, conversion)


def maps_of(ranker: Scorer) -> tuple[Recalibration, Recalibration]:
    """Of P(click) and of P(conversion | click); of a ranker itself they change nothing."""
    ranker = plain(ranker)
    return (ranker._click, ranker._conversion) if isinstance(ranker, Calibrated) else (Recalibration(), Recalibration())


def uncalibrated(ranker: Scorer) -> Ranker:
    """What training continues: the ranker within, or itself."""
    ranker = plain(ranker)
    return ranker.ranker if isinstance(ranker, Calibrated) else ranker  # type: ignore[return-value]
