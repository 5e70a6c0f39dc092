"""Conversions per request by the same weights as clicks, once their labels are closed.

A conversion takes days, and a known one is known before the lack of one can be: among open labels only successes show.
So a row counts when its label is closed, whatever it says; `jobs.outcomes` decides, and an open one is unknown.
"""

from datetime import date

import numpy as np

from jobs.evidence import core
from jobs.evidence.document import Conversions
from jobs.evidence.replayed import Replayed
from models.evaluation.estimate import Refusal
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


def _open(closed: int, decisions: int, closes_on: date, settings: GateSettings) -> Refusal:
    needed = f"at least {settings.min_known_share:.0%}" if settings.min_known_share else "some"
    return Refusal(
        f"conversions need {needed} of {decisions} decisions' labels closed; found {closed}, and the last one closes at"
        f" the end of {closes_on}",
        closed,
    )
