"""The delay curve of a training as a table: for people, dashboards and the evidence page. No I/O.

The bundle keeps the curve itself, to the step; here it is on one grid of ages whatever the data, so that days compare.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.lake.tables import LAKE
from models.delays.curve import DelayCurve, Drift, Steps, counted, drift
from models.delays.observed import Floats, Observed

ALL, SURFACE = "all", "surface: "
"""The group of every click, and before a surface's name."""
A_DAY = 4
"""Ages a day."""


def ages(horizon: float) -> Floats:
    """Quarters of days from the first to the horizon, which ends the grid."""
    return np.asarray(np.append(np.arange(1, np.ceil(horizon * A_DAY)) / A_DAY, horizon))


def rows(curve: DelayCurve | None, observed: Observed, recent_days: float, origin: str) -> pa.Table:
    """`delay_curves` of a training: a row per group and age; none without a curve.

    `observed`: its clicks, which the counts and the drift are of, also where the curve is somebody else's.
    """
    found = [] if curve is None else list(_rows(curve, observed, recent_days, origin))
    return pa.Table.from_pylist(found, LAKE["delay_curves"].schema)


def _rows(curve: DelayCurve, observed: Observed, recent_days: float, origin: str) -> Iterator[dict[str, Any]]:
    groups = [(ALL, curve.pooled, observed)]
    for name, steps in curve.groups.items():
        groups.append((f"{SURFACE}{name}", steps, observed.rows(observed.group == name)))
    at = ages(curve.horizon)
    for name, steps, mine in groups:
        share, stderr = _on_grid(steps, at)
        came, risk = counted(mine, at)
        moved = drift(mine, mine.age < recent_days)
        told = {"group": name, "outcomes": steps.outcomes, "origin": origin, **_drift(moved)}
        for k, age in enumerate(at.tolist()):
            yield told | {
                "age_days": age,
                "share": float(share[k]),
                "stderr": None if np.isnan(stderr[k]) else float(stderr[k]),
                "came": int(came[k]),
                "at_risk": int(risk[k]),
                "reverse_hazard": float(came[k] / risk[k]) if risk[k] else None,
            }


def _on_grid(steps: Steps, at: Floats) -> tuple[Floats, Floats]:
    """Share and standard error; at the horizon everything is heard of, for sure."""
    share, stderr = steps.within(at), steps.stderr(at)
    share[-1], stderr[-1] = 1.0, 0.0
    return share, stderr


def _drift(found: Any) -> dict[str, float | None]:
    names = ("drift_log_ratio", "drift_low", "drift_high", "drift_p_value")
    if not isinstance(found, Drift):
        return dict.fromkeys(names)
    longer = found.longer
    return dict(zip(names, (longer.value, longer.low, longer.high, found.p_value), strict=True))
