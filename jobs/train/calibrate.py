"""What maps each ranker's probabilities to what came of them on the validation rows, and what that changes. No I/O.

The validation day is the newest whose clicks are closed, and its conversions count where they are closed. The same rows
choose the challenger, so each is judged by words mapped by what *other* users' rows teach (`cross_fitted`); the map
that is kept is of all of them. The baseline stays as it is, and is told of likewise: it answers at the endpoint knowing
items alone.

Where too few conversions are closed, P(conversion | click) is shifted by what was heard of those of the last days'
clicks, against what was to be heard by the delay curve: a month of training outvotes its last week, and what is closed
is too old to know it. Not while delays drift: the curve is wrong then, and the shift would be.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.evidence.scored import Scored
from jobs.train.delays import Newest
from models.evaluation.calibration import calibration_ratio, ece
from models.evaluation.estimate import Estimate
from models.rankers import BASELINE
from models.rankers.calibrated import SURFACE, calibrated, maps_of
from models.rankers.protocol import Floats, Ranker, Scorer
from models.rankers.recalibration import MIN_PER_CLASS, Outcomes, Recalibration, cross_fitted
from models.rankers.words import unpacked
from models.settings import GateSettings

ALL = "all"
"""Of every surface, in a report."""
Told = dict[str, dict[str, dict[str, Any]]]
"""Outcome, then surface or `ALL`, to which map, of how many rows, and `ece` and `ratio` before and after; None where
the rows carry no such figure. Of open conversions they are of what was to be heard of by now, and of what was."""


@dataclass(frozen=True)
class Calibration:
    """The rankers as they are to serve, the rows to judge them by, and what is told of either."""

    rankers: dict[str, Scorer]
    rows: Scored
    told: dict[str, Told]


def calibrate(
    rankers: Mapping[str, Ranker],
    rows: Scored,
    converted: Floats,
    settings: GateSettings,
    continued: Mapping[str, Scorer] | None = None,
    newest: Newest | None = None,
) -> Calibration:
    """`rows` as the rankers told them; `converted` (n,) of the rows, NaN where open; `newest` where they are too few.

    `continued`: what a ranker went on from, whose maps it keeps where these rows show no better one. A map that came
    and went from day to day would change how sharply a policy chooses, and with it what a model earns, for no reason.
    """
    found: dict[str, Scorer] = dict(rankers)
    shown, first, told = dict(rows.as_shown), dict(rows.as_first), {kind: Told() for kind in rankers}
    surface = rows.attributes[SURFACE]
    for kind, ranker in rankers.items():
        if not np.isfinite(rows.as_shown[kind]).all():
            continue
        of_click, of_conversion = maps_of((continued or {}).get(kind, ranker))
        clicks, bought = (
            Outcomes(rows.as_shown[kind], rows.clicked, rows.users, surface),
            _closed(rows, kind, converted),
        )
        if newest is not None and bought.rarer < MIN_PER_CLASS:
            bought = _so_far(newest, ranker)
        if kind == BASELINE:
            outcomes = {"click": clicks} | ({"conversion_given_click": bought} if len(bought) else {})
            told[kind] = {name: _told(Recalibration(), of, of.said, settings) for name, of in outcomes.items()}
            continue
        click, parts = Recalibration.fit(clicks, of_click), cross_fitted(clicks, of_click)
        shown[kind] = _crossed(parts, rows.as_shown[kind], surface)
        first[kind] = _crossed(parts, rows.as_first[kind], surface)
        told[kind]["click"] = _told(click, clicks, shown[kind], settings)
        conversion = Recalibration.fit(bought, of_conversion)
        if len(bought):
            after = _crossed(cross_fitted(bought, of_conversion), bought.said, bought.surface)
            told[kind]["conversion_given_click"] = _told(conversion, bought, after, settings)
        found[kind] = calibrated(ranker, click, conversion)
    return Calibration(found, replace(rows, as_shown=shown, as_first=first), told)


def metrics(told: Told) -> dict[str, float]:
    """The figures of every surface together as they are to serve, for a table: `calibration.<outcome>.<figure>`."""
    return {
        f"calibration.{outcome}.{figure}": after
        for outcome, surfaces in told.items()
        for figure in ("ece", "ratio")
        if (after := surfaces[ALL][figure][1]) is not None
    }


def sentence(told: Told, outcome: str = "click") -> str:
    """What was done to the words of an outcome, in a line."""
    of = told.get(outcome)
    if of is None:
        return "stays as it is"
    maps = ", ".join(f"{name} {part['map']}" for name, part in of.items())
    every = of[ALL]
    ratio, error = (
        " to ".join("unknown" if v is None else f"{v:.4f}" for v in every[name]) for name in ("ratio", "ece")
    )
    return f"{maps}; predicted / {outcome.split('_')[0]}s {ratio}, ECE {error} on rows it was not mapped by"


def _closed(rows: Scored, kind: str, converted: Floats) -> Outcomes:
    """The validation clicks whose conversions are."""
    at = np.flatnonzero((rows.clicked == 1.0) & np.isfinite(converted) & (rows.as_shown[kind] > 0))
    given = np.minimum(rows.p_conversion[kind][at] / rows.as_shown[kind][at], 1.0)
    return Outcomes(given, converted[at], rows.users[at], rows.attributes[SURFACE][at])


def _so_far(newest: Newest, ranker: Ranker) -> Outcomes:
    given = ranker.predict(newest.features).p_conversion_given_click
    return Outcomes(given, newest.came, newest.users, unpacked(newest.features[SURFACE]), newest.seen)


def _crossed(parts: list[tuple[NDArray[np.int64], Recalibration]], said: Floats, surface: NDArray[Any]) -> Floats:
    found = said.copy()
    for at, of_others in parts:
        found[at] = of_others(said[at], surface[at])
    return found


def _told(kept: Recalibration, rows: Outcomes, after: Floats, settings: GateSettings) -> dict[str, dict[str, Any]]:
    names = np.unique(rows.surface.astype(str)).tolist()
    parts = {ALL: np.arange(len(rows))} | {name: np.flatnonzero(rows.surface == name) for name in names}
    return {
        name: {
            "map": kept.kind_on(name),
            "rows": len(at),
            "came": int(rows.came[at].sum()),
            **_figures(rows.where(at), after[at], settings),
        }
        for name, at in parts.items()
    }


def _figures(rows: Outcomes, after: Floats, settings: GateSettings) -> dict[str, list[float | None]]:
    found: dict[str, list[float | None]] = {}
    for name, of in (("ece", ece), ("ratio", calibration_ratio)):
        words = (rows.by_now(said) for said in (rows.said, after))
        sides = [of(rows.came, said, settings=settings, clusters=rows.users) for said in words]
        found[name] = [round(side.value, 6) if isinstance(side, Estimate) else None for side in sides]
    return found
