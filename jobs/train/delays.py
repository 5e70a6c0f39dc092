"""What the conversions of a training set teach, open ones included, as of its cut. No I/O.

A conversion's age and delay are counted from its impression to when it was *heard of*, so that an age says exactly what
delay can be known at the cut, late events included. Surfaces wait differently: each has its own delay curve.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.config import AttributionSettings
from jobs.errors import Refused
from jobs.lake.tables import TIME
from jobs.moment.columns import strings, training_data
from jobs.moment.decisions import clusters
from jobs.train import delay_curves
from models.delays.curve import DRIFT_RISK, MIN_CLOSED, DelayCurve, Drift, drift
from models.delays.methods import Taught, taught
from models.delays.observed import Floats, Observed
from models.delays.targets import Targets
from models.evaluation.estimate import Refusal
from models.rankers.protocol import Columns, Inputs, TrainingData, taken
from models.settings import DelaySettings

RECENT_DAYS = 7
"""Whose delays are compared with those before, and whose clicks tell the level of conversions."""


@dataclass(frozen=True)
class Conversions:
    """What rankers learn conversions from (None: closed ones only), by which curve, and whether delays drift."""

    targets: Taught | None
    curve: DelayCurve | None
    drift: Drift | Refusal
    why: str
    """What was done, in a sentence."""
    published: pa.Table
    """What `delay_curves` says of it."""
    renewed: bool = False
    """Whether the days contradicted the curve of what is continued."""

    @property
    def drifted(self) -> dict[str, Any] | None:
        """What a bundle says of it, for the evidence: the log ratio and the sentence; None without a warning."""
        if self.warning is None or isinstance(self.drift, Refusal):
            return None
        return {"log_ratio": round(self.drift.longer.value, 6), "said": self.warning}

    @property
    def warning(self) -> str | None:
        """A sentence where conversions of the last days take longer, or shorter, than those before; None where not."""
        found = self.drift
        if isinstance(found, Refusal) or found.p_value >= DRIFT_RISK:
            return None
        way, said = ("longer", "few") if found.longer.value > 0 else ("shorter", "many")
        ratio = f"{found.longer.value:+.3f} [{found.longer.low:+.3f}, {found.longer.high:+.3f}]"
        return (
            f"delays drift: recent conversions take {way} than before (p {found.p_value:.2g}, log ratio {ratio}), "
            f"so the delay curve promises too {said}"
        )

    @property
    def doubt(self) -> str | None:
        """Why the curve is not to be believed of the newest days; None where nothing speaks against it."""
        if self.curve is None:
            return "no delay curve is known"
        if self.warning is not None:
            return "delays drift"
        return "the newest days contradict the predecessor's delay curve" if self.renewed else None


@dataclass(frozen=True)
class Newest:
    """n clicks of the last days, learned from or held out: `came` 1.0 where their conversion was heard of before the
    cut, else 0.0; `seen`, in [0, 1], how much of it was to be.
    """

    features: Columns
    came: Floats
    seen: Floats
    users: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.came)


def horizon_days(windows: AttributionSettings) -> float:
    """By when an impression's conversion is closed: its windows, at most the rest of that day, and late events."""
    return float(windows.click_days + windows.purchase_days + 1 + windows.late_days)


def conversions(
    train: pa.Table,
    data: TrainingData,
    cut: datetime,
    windows: AttributionSettings,
    settings: DelaySettings,
    before: DelayCurve | None = None,
) -> Conversions:
    """Of the train rows and their arrays, as heard of before `cut`; `before` is the curve of what is continued.

    The curve is that of these rows where enough of them are closed, else `before` where that has the same horizon, of
    which they renew what they contradict (`DelayCurve.renewed`). With neither, conversions are waited for, as by the
    setting `waited`.
    """
    rows, observed = observed_at(train, data, cut, windows)
    moved = drift(observed, observed.age < RECENT_DAYS)
    own = int((observed.come & observed.closed).sum()) >= MIN_CLOSED
    same = before if before is not None and before.horizon == observed.horizon else None
    curve = DelayCurve.fit(observed) if own else same and same.renewed(observed)
    origin = "own" if own else "parent" if curve is same else "both"
    published = delay_curves.rows(curve, observed, RECENT_DAYS, origin)
    found, why = _taught(settings.conversion, observed, curve, WHOSE[origin])
    return Conversions(_placed(found, rows), curve, moved, why, published, origin == "both")


def newest_clicks(examples: pa.Table, cut: datetime) -> pa.Table:
    """Those of `RECENT_DAYS` before the cut, test rows left out."""
    since = pa.scalar(cut - timedelta(days=RECENT_DAYS), TIME)
    mine = pc.and_(pc.greater_equal(examples["event_time"], since), pc.not_equal(examples["split"], "test"))
    return examples.filter(pc.and_kleene(mine, examples["clicked"]))


def newest(
    clicks: pa.Table, keys: Sequence[str], inputs: Inputs, cut: datetime, windows: AttributionSettings, by: DelayCurve
) -> Newest:
    """Of `newest_clicks`, with `inputs` and the attributes of `keys`."""
    data = training_data(clicks, keys, inputs)
    rows, observed = observed_at(clicks, data, cut, windows)
    features = {name: taken(column, rows) for name, column in data.features.items()}
    seen = by.seen(observed.age, observed.group)
    return Newest(features, observed.come.astype(np.float64), seen, clusters(clicks)[rows])


WHOSE = {
    "own": "these days' delay curve",
    "parent": "the predecessor's delay curve",
    "both": "the predecessor's delay curve, renewed where these days contradict it",
}
WHY = {
    "em": "open conversions are read by an exponential law of delays",
    "censoring_weights": "early conversions stand for clicks too young to show theirs",
    "hazards": "conversions are learned stage by stage of the wait, from clicks past each",
    "fake_negatives": "open conversions are taken for none until they come: of a snapshot, as here, this learns what"
    " has been heard so far, which is too little",
}


def _taught(method: str, observed: Observed, curve: DelayCurve | None, whose: str) -> tuple[Taught | None, str]:
    """What rankers learn by the method, and why; None where they wait for closed conversions."""
    if method == "waited":
        return None, "open conversions are waited for"
    if method == "plug_in" and curve is not None:
        return taught(method, observed, curve), f"open conversions are read by {whose}"
    needs_closed = method in ("censoring_weights", "hazards")
    if method == "plug_in" or (needs_closed and not observed.closed.any()) or not observed.come.any():
        return None, "open conversions are waited for: too few are closed to tell delays"
    return taught(method, observed), WHY[method]


def _placed(found: Taught | None, rows: NDArray[np.int64]) -> Taught | None:
    """With positions in the training rows."""
    if found is None:
        return None
    if isinstance(found, Targets):
        return replace(found, rows=rows[found.rows])
    return tuple(replace(stage, rows=rows[stage.rows]) for stage in found)


def observed_at(
    train: pa.Table, data: TrainingData, cut: datetime, windows: AttributionSettings
) -> tuple[NDArray[np.int64], Observed]:
    """The clicked rows, and what was heard of their conversions. One that is closed is as old as the horizon.

    Raises `Refused` for a conversion heard of after the cut.
    """
    rows = np.flatnonzero((data.clicked == 1.0) & (data.weight > 0))
    clicks = train.select(["event_time", "conversion_heard_at", "surface"]).take(pa.array(rows))
    ahead = pc.sum(pc.greater_equal(clicks["conversion_heard_at"], pa.scalar(cut, TIME))).as_py()
    if ahead:
        raise Refused(f"conversions need to be heard of before the cut, {cut}; found {ahead} heard of later")
    horizon = horizon_days(windows)
    shown = _days(clicks["event_time"])
    age = _days(pa.chunked_array([pa.array([cut], TIME)]))[0] - shown
    age = np.where(np.isnan(data.converted[rows]), age, np.maximum(age, horizon))
    delay = np.minimum(_days(clicks["conversion_heard_at"]) - shown, horizon)
    return rows, Observed.of(age, delay, horizon, strings(clicks["surface"]), data.weight[rows])


def _days(times: pa.ChunkedArray) -> Floats:
    """Days since 1970, NaN where null."""
    counted = pc.cast(times.cast(pa.int64()), pa.float64())
    return np.asarray(pc.fill_null(counted, float("nan")).to_numpy()) / (timedelta(days=1) / timedelta(microseconds=1))
