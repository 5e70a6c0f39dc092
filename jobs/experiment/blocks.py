"""A switchback as rows of `readouts`: each metric of its goal, by pairs of blocks of time, and what to do. No I/O.

Time is what was divided, so requests of nobody count as all others do.
"""

from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.asof.core import microseconds
from jobs.experiment import readout, users
from jobs.moment.columns import numbers, strings
from models.experiments.assignment import Experiment, Switchback, unit_of
from models.experiments.metrics import DAY, by_impression
from models.experiments.settings import ExperimentSettings
from models.experiments.switchback import compare_blocks, kept

Floats = NDArray[np.float64]
OTHERWISE = 0.01
"""So many answers of another arm than their block's are a fault, and no clock that is a second off."""
Row = dict[str, Any]


def rows(
    settings: ExperimentSettings,
    plan: Switchback,
    found: pa.Table,
    exposed: pa.Table,
    cut: datetime,
    share: Floats,
    today: date,
    closes: date,
) -> list[Row]:
    """Of impressions with labels (`users.joined`) and what capture says of exposures, as known before `cut`.

    `share` (n,) as for `users.met`; `closes`: the day on which the labels of today's impressions close.
    """
    design = settings.design
    until = users.until(design, cut)
    seconds = np.asarray(microseconds(found["event_time"]) / users.SECOND - design.begin.timestamp(), np.float64)
    mine = numbers(found["labelled"]).astype(bool) & (seconds >= 0) & (seconds < settings.days * DAY)
    mine &= _takes(found, settings)
    shown = users.shown(found, mine, np.zeros(len(found), np.int64), 1, seconds, share, until)
    differences = {
        metric: compare_blocks(
            plan,
            shown.time,
            *by_impression(metric, shown),
            now=until,
            interesting=settings.interesting_lift,
            confidence=settings.confidence,
        )
        for metric in settings.metrics
    }
    read = kept(plan, shown.time, until)
    arm, n, left = list(settings.arms)[1], len(np.unique(shown.request)), len(np.unique(shown.request[~read]))
    mismatch = _otherwise(exposed, design)
    note = f"{mismatch or 'blocks met the arms that were drawn'}; {left} requests of washouts, or of a pair that is not"
    pairs = len(np.unique(shown.time[read] // (2 * plan.block_seconds)))
    ratio: Row = {**readout.row(settings, arm, readout.RATIO), "n": n, "effective_n": float(pairs)}
    return [
        {**ratio, "note": f"{note} over, are in no figure"},
        *readout.judged(settings, differences, arm, n, mismatch, today, closes),
    ]


def _takes(found: pa.Table, settings: ExperimentSettings) -> NDArray[np.bool_]:
    """(n,) rows of the experiment's surface, whose user (or request) is in its share of the layer."""
    design, shared = settings.design, frozenset(settings.shared_ids)
    pairs = list(zip(strings(found["user_id"]).tolist(), strings(found["request_id"]).tolist(), strict=True))
    drawn = {pair: design.takes(unit_of(*pair, shared).key) for pair in set(pairs)}
    takes = np.array([drawn[pair] for pair in pairs], bool)
    if settings.surface is not None:
        takes &= strings(found["surface"]) == settings.surface
    return takes


def _otherwise(exposed: pa.Table, design: Experiment) -> str:
    """Why blocks did not meet what was drawn, as the endpoint said it; empty where they did."""
    said = [row for row in exposed.to_pylist() if row["experiment"] == design.name and row["unit"] == "block"]
    wrong = sum(row["arm"] != design.block_arm(row["at"]) for row in said)
    if not said or wrong <= OTHERWISE * len(said):
        return ""
    return f"{wrong} of {len(said)} answers were of another arm than their block's"
