"""Which of a day's figures raise an alarm, and whether an incident opens, goes on or closes.

A figure alarms when it is beyond its bound for sure: effect and significance are one question, whose p-value is that of
a true figure at the bound. Over all figures of a day the alarms are those of Benjamini & Yekutieli (2001), whatever
depends on whatever. On a day on which nothing is beyond its bound there is any alarm with at most the day's risk: so
many false alarms a month are a setting.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtr

Floats = NDArray[np.float64]
State = Literal["", "opened", "open", "closed"]
DAYS_A_MONTH = 30


def discoveries(p_values: Sequence[float], risk: float) -> NDArray[np.bool_]:
    """(m,) which are alarms, so that of the alarms at most the share `risk` is false in the mean, however dependent.

    `p_values` in [0, 1]. Raises ValueError for a risk outside (0, 1), or a p-value that is none.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not 0 < risk < 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values in [0, 1] and a risk in (0, 1) are needed; found a risk of {risk}, {p}")
    m = len(p)
    if not m:
        return np.zeros(0, bool)
    order = np.argsort(p, kind="stable")
    level = risk * np.arange(1, m + 1) / (m * (1 / np.arange(1, m + 1)).sum())
    passed = np.flatnonzero(p[order] <= level)
    found = np.zeros(m, bool)
    if len(passed):
        found[order[: passed[-1] + 1]] = True
    return found


def daily_risk(false_alarms_a_month: float) -> float:
    """Of any false alarm on a day, such that a month has so many in the mean."""
    return min(0.5, false_alarms_a_month / DAYS_A_MONTH)


def p_beyond(distance: float, stderr: float, bound: float, freedom: float = math.inf) -> float:
    """Of a figure that is truly within `bound` of where it should be, found `distance` away: two-sided.

    At the bound either side is as likely to be left; `freedom`: degrees of it behind the standard error.
    """
    if not stderr:
        return float(abs(distance) <= bound)
    far = (abs(distance) - bound) / stderr
    # With no room around it both sides count; with much only one can be reached.
    beyond = [-far, -(abs(distance) + bound) / stderr]
    return float(min(1.0, sum(ndtr(beyond) if math.isinf(freedom) else stdtr(freedom, beyond))))


def state(alarms: Sequence[bool | None], quiet_days: int) -> State:
    """What the last of a figure's days means, from its days' alarms, oldest first; None: a day without the figure.

    An incident opens with an alarm and closes on the `quiet_days`-th day in a row without one: a figure that wavers
    about its bound is one incident. A day without the figure neither opens nor closes.
    """
    if quiet_days < 1:
        raise ValueError(f"an incident closes after at least 1 quiet day; found {quiet_days}")
    now: State = ""
    quiet = 0
    for alarm in alarms:
        is_open = now in ("opened", "open")
        if alarm:
            now, quiet = ("open" if is_open else "opened"), 0
        elif alarm is None:
            now = "open" if is_open else ""
        elif is_open:
            quiet += 1
            now = "closed" if quiet >= quiet_days else "open"
        else:
            now = ""
    return now
