"""Conversions per request by the same weights as clicks, once their labels are closed.

A conversion takes days, and a known one is known before the lack of one can be: among open labels only successes show.
So a row counts when its label is closed, whatever it says; `jobs.outcomes` decides, and an open one is unknown.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np

from jobs.evidence import core
from jobs.moment.decisions import Decisions
from models.evaluation.estimate import Refusal
from models.rankers.protocol import Floats
from models.settings import GateSettings


def section(
    found: Decisions | None, chosen: Mapping[str, Floats], why_not: str, closes_on: date, settings: GateSettings
) -> dict[str, Any]:
    """What the document says of them; arguments as for `core.value`, `found.converted` NaN where the label is open.

    Refused where fewer than `settings.min_known_share` of the decisions are closed.
    """
    decisions = 0 if found is None else len(found)
    closed = 0 if found is None else int((~np.isnan(found.converted)).sum())
    if found is None:
        findings = core.refused(Refusal(why_not))
    elif not closed or closed < (settings.min_known_share or 0.0) * decisions:
        findings = core.refused(_open(closed, decisions, closes_on, settings))
    else:
        findings = core.replayed(found, chosen, found.converted, settings)
    return {
        "decisions": decisions,
        "closed": closed,
        "closes_on": closes_on.isoformat(),
        **{side: finding.as_dict() for side, finding in findings.items()},
    }


def _open(closed: int, decisions: int, closes_on: date, settings: GateSettings) -> Refusal:
    needed = f"at least {settings.min_known_share:.0%}" if settings.min_known_share else "some"
    return Refusal(
        f"conversions need {needed} of {decisions} decisions' labels closed; found {closed}, and the last one closes at"
        f" the end of {closes_on}",
        closed,
    )
