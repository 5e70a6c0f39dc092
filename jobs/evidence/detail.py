"""What the evidence says beyond one figure a metric: calibration, slices, popularity bias, further estimators."""

from typing import Any

import numpy as np

from jobs.evidence.figures import (
    Calibration,
    Curve,
    Finding,
    Refused,
    ReliabilityBin,
    Reversal,
    Slice,
    Slices,
    Spread,
    stated,
)
from jobs.evidence.replayed import Replayed
from jobs.evidence.scored import Scored
from models.evaluation import estimate, slices
from models.evaluation.calibration import calibration_error, calibration_ratio, ece, ece_by_chance, reliability
from models.evaluation.choices import SIDES, Side
from models.evaluation.comparison import compare, figure_of
from models.evaluation.estimate import Refusal
from models.evaluation.popularity import (
    SHARES,
    Concentration,
    concentration,
    concentration_rise,
    exposure_gap,
    popular_items,
)
from models.evaluation.value import value_slices
from models.settings import GateSettings

RELIABILITY_BINS = 10


def calibration(rows: Scored, settings: GateSettings) -> dict[Side, Calibration]:
    """Per side: mean prediction, click rate and their ratio, the debiased error, both plain ECEs, a diagram's bins."""
    return {side: _calibrated(rows, side, settings) for side in SIDES}


def _calibrated(rows: Scored, side: Side, settings: GateSettings) -> Calibration:
    p = rows.as_shown[side]
    if not len(rows):
        reason = stated(Refusal("calibration needs rows with a known click; found none"))
        return Calibration(rows=0, predicted=None, observed=None, ratio=reason, error=reason, reliability=[])
    bins = reliability(rows.clicked, p, bins=RELIABILITY_BINS, confidence=settings.confidence)
    return Calibration(
        rows=len(rows),
        predicted=float(p.mean()),
        observed=float(rows.clicked.mean()),
        predicted_conversion=float(rows.p_conversion[side].mean()),
        ratio=stated(calibration_ratio(rows.clicked, p, settings=settings, clusters=rows.users)),
        error=stated(calibration_error(rows.clicked, p, settings=settings, clusters=rows.users)),
        ece_equal_mass=stated(ece(rows.clicked, p, settings=settings, clusters=rows.users)),
        ece_equal_width=stated(ece(rows.clicked, p, kind="width", settings=settings, clusters=rows.users)),
        ece_by_chance=ece_by_chance(p),
        reliability=[
            ReliabilityBin(n=b.n, predicted=b.predicted, observed=b.observed, low=b.low, high=b.high) for b in bins
        ],
    )


def sliced(rows: Scored, settings: GateSettings) -> Slices:
    """Challenger minus champion in `settings.slice_metric` per slice, and the attributes with a reversal."""
    metric = settings.slice_metric
    scores = rows.asked_by(metric)

    def difference(chosen: Any, confidence: float) -> estimate.Finding:
        labels = rows.clicked[chosen]
        if labels.min() == labels.max():
            return Refusal(f"{metric} needs clicked and unclicked rows; found {int(labels.sum())} of {len(labels)}")
        figure = figure_of(metric, labels, rows.requests[chosen])
        before, after = (figure(scores[side][chosen]) for side in SIDES)
        return (after - before).estimate(confidence, rows.users[chosen])

    champion, challenger = (scores[side] for side in SIDES)
    compared = compare(rows.clicked, champion, challenger, rows.requests, rows.users, settings, metrics=[metric])
    overall = compared[metric]["difference"]
    found = slices.slices(rows.attributes, difference, confidence=settings.confidence, min_rows=settings.min_slice_rows)
    return Slices(
        metric=metric,
        slices=[_sliced(part) for part in found],
        reversals=[
            Reversal(attribute=r.attribute, overall=r.overall, slices=dict(r.slices))
            for r in slices.reversals(overall, found)
        ],
    )


def value_sliced(replay: Replayed, settings: GateSettings) -> list[Slice]:
    """Challenger minus champion in clicks per request, by part of the traffic and in what kinds of items earn."""
    if replay.refusal:
        return []
    return [_sliced(part) for part in value_slices(replay.choices(replay.found.clicked), settings)]


def _sliced(s: slices.Slice) -> Slice:
    return Slice(attribute=s.attribute, value=s.value, n=s.n, share=s.share, difference=stated(s.difference))


def spread(replay: Replayed, seed: int, gate: GateSettings) -> tuple[dict[Side, Spread], Finding]:
    """Per side: the popularity curve, coverage, and how much likelier popular candidates are placed first.

    Popular are the items with the most clicks known before, up to a fifth of all those clicks. The finding: by how much
    fewer items the challenger's recommendations come from than the champion's.
    """
    if not len(replay):
        return {}, stated(Refusal("the popularity curve needs replayed decisions; found none"))
    found, chosen = replay.found, replay.chosen
    ids = found.item_ids.tolist()
    order = np.argsort(sorted(range(len(ids)), key=ids.__getitem__))
    at = order[found.item]
    past = np.nan_to_num(replay.past_clicks)[np.unique(at, return_index=True)[1]]
    popular = np.isin(at, popular_items(np.arange(len(ids)), past))
    users, wanted = found.cluster[found.row], (found.taken & (found.clicked[found.row] > 0))
    of, sides = max(replay.catalogue, len(ids)), dict[Side, Spread]()
    for side in SIDES:
        gap = exposure_gap(chosen[side], popular, settings=gate, seed=seed, clusters=users)
        fair = exposure_gap(chosen[side], popular, wanted=wanted, settings=gate, seed=seed, clusters=users)
        sides[side] = Spread(
            curve=_curve(concentration(at, chosen[side], of, settings=gate, seed=seed, clusters=users)),
            statistical_parity=stated(gap),
            preference_conditioned=stated(fair),
        )
    before, after = (chosen[side] for side in SIDES)
    return sides, stated(concentration_rise(at, before, after, of, settings=gate, seed=seed, clusters=users))


def _curve(found: Concentration | Refusal) -> Curve | Refused:
    if isinstance(found, Refusal):
        return Refused.of(found)
    items = [stated(share) for share in found.items_behind]
    return Curve(recommendations=list(SHARES), items=items, coverage=stated(found.coverage))
