"""What the endpoint's requests earned against the logging policy's on the same day. No I/O.

Users are assigned by whoever routes the traffic; a request whose endpoint call failed met the logging policy and counts
there. Not yet: interleaving, sequential looks, variance reduction.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.backtest.decisions import clusters
from jobs.examples import numbers
from jobs.labels import so_far
from models.evaluation.estimate import Estimate, Finding
from models.evaluation.experiment import difference_of_rates

EXPERIMENT = "endpoint-vs-logging"
FALLBACK = "+fallback"


def served_by(policy: pa.ChunkedArray, candidates: Collection[str]) -> pa.ChunkedArray:
    """Whether each impression was decided by a deployed candidate, by its fallback included."""
    names = pa.array([name + suffix for name in sorted(candidates) for suffix in ("", FALLBACK)], pa.string())
    return pc.is_in(policy, names)


def with_clicks(impressions: pa.Table, labels: pa.Table, cut: datetime) -> pa.Table:
    """The impressions that have a label, with `clicked` (as known before `cut`) and `click_matures_at`."""
    at = pc.index_in(impressions["impression_id"], labels["impression_id"]).combine_chunks()
    columns = {"clicked": so_far(labels, "clicked", cut), "click_matures_at": labels["click_matures_at"]}
    found = impressions
    for name, column in columns.items():
        found = found.append_column(name, column.combine_chunks().take(at))
    return found.filter(found["clicked"].is_valid())


def immature_note(shown: pa.Table, cut: Any) -> str:
    """What share of the clicks may still come after `cut`; both arms had the same time."""
    open_share = pc.mean(pc.cast(pc.greater(shown["click_matures_at"], pa.scalar(cut)), pa.float64())).as_py() or 0.0
    return f"clicks so far: {open_share:.0%} of impressions are inside their click window" if open_share else ""


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


def figures(finding: Finding) -> dict[str, Any]:
    """The columns value, stderr, low, high, n, effective_n; nulls where the figure was refused."""
    if isinstance(finding, Estimate):
        return finding.as_dict()
    return {**dict.fromkeys(("value", "stderr", "low", "high")), "n": finding.n, "effective_n": finding.effective_n}


def finding_note(finding: Finding, note: str) -> str:
    """The note, or why there is no figure."""
    return note if isinstance(finding, Estimate) else f"refused: {finding.reason}"
