"""Which figures of engagement, measured today, go with users not coming back: what stands in for churn offline.

Each figure's AUC for coming back: the chance that of two users, one who came back and one who did not, the one who did
had more of it. .5: it says nothing. An association in the logs, no effect: what lowers the figure need not lose users.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from models.evaluation.estimate import Finding, Refusal
from models.evaluation.ranking import auc
from models.settings import GateSettings

Floats = NDArray[np.float64]
FEWEST = 50
"""Users of either kind."""


def proxies(
    engagement: Mapping[str, Floats], returned: NDArray[np.bool_], settings: GateSettings
) -> dict[str, Finding]:
    """By figure, its AUC for coming back with an interval (DeLong et al. 1988), one row a user.

    `engagement`: (n,) each, measured before the days in which users came back (or not), NaN where not known: such users
    are left out. Refused with fewer than `FEWEST` of either.
    """
    found: dict[str, Finding] = {}
    for name, values in engagement.items():
        known = np.isfinite(values)
        stayed = int(returned[known].sum())
        least = min(stayed, int(known.sum()) - stayed)
        found[name] = (
            auc(returned[known].astype(np.float64), values[known], settings=settings)
            if least >= FEWEST
            else Refusal(f"needs {FEWEST} users who came back and who did not; found {least}", int(known.sum()))
        )
    return found
