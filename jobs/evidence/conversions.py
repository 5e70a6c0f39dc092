"""Conversions per request by the same weights as clicks, once their labels are closed.

A conversion takes days, and a known one is known before the lack of one can be: among open labels only successes show.
So a row counts when its label is closed, whatever it says; `jobs.outcomes` decides, and an open one is unknown. Before
that, `so_far` says what they will come to by the delay curve of the challenger's training (`models.delays.so_far`).
"""

from datetime import date
from statistics import NormalDist

import numpy as np

from jobs.evidence import core
from jobs.evidence.delays import ALL
from jobs.evidence.figures import Conversions, ConversionsSoFar, Delays, stated
from jobs.evidence.replayed import Replayed
from models.delays.curve import DRIFT_CONFIDENCE, DelayCurve, Drift
from models.delays.so_far import FIGURES_SO_FAR, SoFar, value_so_far
from models.evaluation.estimate import Estimate, Refusal, upper_tail
from models.settings import GateSettings


def section(replay: Replayed, closes_on: date, settings: GateSettings) -> Conversions:
    """What the document says of them; `converted` of the decisions is NaN where the label is open.

    Refused where fewer than `settings.min_known_share` of the decisions are closed.
    """
    converted, decisions = replay.found.converted, len(replay)
    closed = int((~np.isnan(converted)).sum())
    if replay.refusal:
        found = core.refused(replay.refusal)
    elif not closed or closed < (settings.min_known_share or 0.0) * decisions:
        found = core.refused(_open(closed, decisions, closes_on, settings))
    else:
        # The gate looks for harm here: a side that sells nothing is that, and no lack of evidence.
        found = core.earned(replay, converted, settings.model_copy(update={"min_clicks_each_side": 0.0}))
    return Conversions(
        decisions=decisions,
        closed=closed,
        closes_on=closes_on.isoformat(),
        champion=found.champion,
        challenger=found.challenger,
        difference=found.difference,
        logging=found.logging,
    )


def so_far(
    replay: Replayed, curve: DelayCurve | None, delays: Delays | None, settings: GateSettings
) -> ConversionsSoFar | None:
    """By the curve, and the drift that was published with it; None where the challenger's training had no curve."""
    if curve is None:
        return None
    heard = replay.converted_so_far
    if replay.refusal:
        found = SoFar(dict.fromkeys(FIGURES_SO_FAR, replay.refusal), np.zeros(len(heard), bool), None, False)
    else:
        surfaces = replay.contexts["surface"]
        group = np.array(surfaces.names, dtype=object)[surfaces.codes]
        choices = replay.choices(heard, predicted=False)
        gate = settings.model_copy(update={"min_clicks_each_side": 0.0})  # as of closed ones
        found = value_so_far(choices, replay.open_days, group, curve, _drift(delays), gate)
    return ConversionsSoFar(
        **{name: stated(finding) for name, finding in found.findings.items()},
        decisions=len(replay),
        counted=int(found.counted.sum()),
        heard=int(heard[found.counted].sum()),
        seen=found.seen,
        drifted=found.drifted,
    )


def _drift(delays: Delays | None) -> Drift | None:
    """That of all clicks together, surface by surface."""
    found = next((of for of in delays.groups if of.group == ALL), None) if delays else None
    if found is None or found.drift is None or found.drift_p_value is None:
        return None
    value, low, high = found.drift
    stderr = (high - low) / 2 / NormalDist().inv_cdf(upper_tail(DRIFT_CONFIDENCE))
    return Drift(Estimate(value, stderr, low, high, found.outcomes, float(found.outcomes)), found.drift_p_value)


def _open(closed: int, decisions: int, closes_on: date, settings: GateSettings) -> Refusal:
    needed = f"at least {settings.min_known_share:.0%}" if settings.min_known_share else "some"
    return Refusal(
        f"conversions need {needed} of {decisions} decisions' labels closed; found {closed}, and the last one closes at"
        f" the end of {closes_on}",
        closed,
    )
