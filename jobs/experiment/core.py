"""What the endpoint's requests earned against the logging policy's on the same day. No I/O.

Users are assigned by whoever routes the traffic; a request whose endpoint call failed met the logging policy and counts
there. Declared experiments are read by `jobs.experiment.readout`.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.lake.findings import figures, finding_note
from jobs.moment.columns import numbers
from jobs.moment.decisions import clusters
from models.evaluation.estimate import Finding
from models.experiments.rates import difference_of_rates

EXPERIMENT = "endpoint-vs-logging"


def requests_of(shown: pa.Table) -> pa.Table:
    """One row per request: user, served, clicks and impressions."""
    grouped = shown.group_by("request_id", use_threads=False).aggregate(
        [("user_id", "first"), ("served", "max"), ("clicked_n", "sum"), ("impression_id", "count")]
    )
    return grouped.rename_columns(["request_id", "user_id", "served", "clicks", "impressions"])


def readout(shown: pa.Table, confidence: float) -> dict[str, dict[str, Finding]]:
    """Clicks per request and per impression in both arms and their difference; `shown` has the column `served`."""
    asked = requests_of(shown.append_column("clicked_n", pc.cast(shown["clicked"], pa.int64())))
    variant = asked["served"].to_numpy()
    clicks, users = numbers(asked["clicks"]), clusters(asked)
    trials = {"clicks_per_request": np.ones(len(asked)), "clicks_per_impression": numbers(asked["impressions"])}
    return {
        metric: difference_of_rates(successes=clicks, trials=n, variant=variant, users=users, confidence=confidence)
        for metric, n in trials.items()
    }


def rows(found: dict[str, dict[str, Finding]], control: str, variant: str, note: str) -> list[dict[str, Any]]:
    """Rows of `readouts`: the difference under the metric's name, the arms under `.control` and `.variant`."""
    return [
        {
            "experiment": EXPERIMENT,
            "metric": metric if side == "difference" else f"{metric}.{side}",
            "control": control,
            "variant": variant,
            **figures(finding),
            "note": finding_note(finding, note),
        }
        for metric, sides in sorted(found.items())
        for side, finding in sorted(sides.items())
    ]
