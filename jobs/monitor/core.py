"""What was served against what was judged: the figures of one day. No I/O.

What is held against a reference or the days before is `jobs.monitor.watch`'s. Not yet: latency.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.asof.clock import instants, seen
from jobs.asof.core import microseconds
from jobs.bundle import Bundle
from jobs.config import MonitoringSettings
from jobs.lake.findings import figures, finding_note
from jobs.moment.columns import numbers, strings
from jobs.moment.decisions import Known, candidate_columns, clusters
from jobs.moment.replay import Replayed
from jobs.serving.answer import FALLBACK
from models.evaluation import ranking
from models.evaluation.estimate import Estimate, Finding, Refusal
from models.rankers.protocol import Floats
from models.settings import GateSettings

MINUTE_US = 60_000_000


@dataclass(frozen=True)
class Figure:
    """One row of `serving_reports`; see there, and `models.monitoring.day.Held`."""

    metric: str
    finding: Finding
    alarm: bool = False
    note: str = ""
    surface: str = ""
    reference: str = ""
    expected: float | None = None
    bounds: tuple[float | None, float | None] = (None, None)
    p_value: float | None = None
    closes: str | None = None

    @property
    def said(self) -> bool | None:
        """Whether it alarms; None where there is no figure to tell by, and nothing alarms for that."""
        return None if isinstance(self.finding, Refusal) and not self.alarm else self.alarm

    def row(self, state: str = "", suspect: str = "", model: str = "") -> dict[str, Any]:
        """As the table wants it; a refused figure is null and says why."""
        return {
            "metric": self.metric,
            "surface": self.surface,
            **figures(self.finding),
            "reference": self.reference,
            "expected": self.expected,
            "bound_low": self.bounds[0],
            "bound_high": self.bounds[1],
            "p_value": self.p_value,
            "alarm": self.alarm,
            "state": state,
            "suspect": suspect,
            "closes": self.closes,
            "model": model,
            "note": finding_note(self.finding, self.note),
        }


def exactly(value: float, n: int) -> Estimate:
    """A count or a maximum: no uncertainty."""
    return Estimate(value, 0.0, value, value, n, float(n))


def nothing_served(in_service: str | None) -> list[Figure]:
    """The report of a day without served impressions: one figure, an alarm where a model was in service all day."""
    note = "no impression of this day was decided by a deployed candidate"
    if in_service is not None:
        note += f"; {in_service} was live when it began, and answered nothing that was shown"
    return [Figure("served_impressions", exactly(0.0, 0), in_service is not None, note)]


def traffic(served: Mapping[str, int], requests: int, settings: MonitoringSettings) -> list[Figure]:
    """How much the endpoint answered, and how often popularity had to; `served`: impressions by policy."""
    n = sum(served.values())
    share = sum(of for policy, of in served.items() if policy.endswith(FALLBACK)) / n
    return [
        Figure("served_impressions", exactly(float(n), n)),
        Figure("served_requests", exactly(float(requests), n)),
        Figure(
            "fallback_share",
            exactly(share, n),
            share > settings.max_fallback_share,
            f"alarm above {settings.max_fallback_share:g}",
        ),
    ]


def torn(lines: int) -> Figure:
    """How many lines of the data capture were cut short; a killed endpoint leaves one, a full disk may leave more."""
    return Figure("capture_torn_lines", exactly(float(lines), lines), note="answers that are in no other figure")


def with_capture(served: pa.Table, captured: pa.Table) -> pa.Table:
    """The served impressions that were captured, with what the endpoint answered under their policy's name."""
    names = ("request_id", "item_id", "policy")
    keys = [pc.binary_join_element_wise(*(of[name] for name in names), "\x1f") for of in (served, captured)]
    at = pc.index_in(keys[0], keys[1]).combine_chunks()
    found = served
    for name in ("served_p_click", "bundle_sha256", "fallback", "features_day"):
        found = found.append_column(name, captured[name].combine_chunks().take(at))
    return found.filter(found["served_p_click"].is_valid())


def recomputed(answered: pa.Table, ranker: Bundle, known: Sequence[Known]) -> Floats:
    """P(click) of each captured impression by the ranker that answered, on the lake's features it should have seen."""
    columns = candidate_columns(answered, np.arange(len(answered)), strings(answered["item_id"]), known)
    by_ranker = ranker.ranker.predict(columns).p_click
    fallback = numbers(answered["fallback"]) == 1.0
    found: Floats = np.where(fallback, ranker.fallback.predict(columns).p_click, by_ranker)
    return found


def skew(answered: pa.Table, offline: Floats, settings: MonitoringSettings) -> list[Figure]:
    """How far the served probabilities are from those of the same bundle on the lake's features."""
    n = len(answered)
    if not n:
        none = Refusal("no served impression is in the endpoint's data capture")
        return [Figure(name, none) for name in ("skew_max", "skew_mean")]
    apart = np.abs(numbers(answered["served_p_click"]) - offline)
    return [
        Figure(
            "skew_max",
            exactly(float(apart.max()), n),
            float(apart.max()) > settings.max_skew,
            f"largest |served - recomputed p_click|, alarm above {settings.max_skew:g}",
        ),
        Figure("skew_mean", exactly(float(apart.mean()), n)),
    ]


def replayed(
    found: Sequence[Replayed], tolerated: float, why: str = "no captured answer could be given again"
) -> list[Figure]:
    """How many captured answers, shown or a shadow's, differ from what their bundle says offline, and by how much.

    On the features they saw: late ones are `staleness`'s.
    """
    n, differing = sum(of.compared for of in found), sum(of.differing for of in found)
    if not n:
        return [Figure(name, Refusal(why)) for name in ("replay_differing_share", "replay_max_difference")]
    note = "; ".join(of.why for of in found)
    largest = max(max(of.largest.values(), default=0.0) for of in found)
    return [
        Figure("replay_differing_share", exactly(differing / n, n), differing / n > tolerated, note),
        Figure("replay_max_difference", exactly(largest, n), note="of a score or probability where the items agree"),
    ]


def staleness(answered: pa.Table, promised: Sequence[tuple[date, datetime]]) -> list[Figure]:
    """How many answers had features of another day than were to be known when they were asked for, and for how long.

    `promised`: feature days, oldest first, and from when; by the impression's event time the newest is wanted. Late
    means older: the publication had not come. Newer features than that are a leak, which training knows nothing of.
    """
    n, available_us = len(answered), instants([at for _, at in promised])
    if not n:
        none = Refusal("no served impression is in the endpoint's data capture")
        return [Figure(name, none) for name in ("stale_features_share", "late_features_minutes")]
    number = seen(available_us, answered["event_time"])
    wanted = np.array([*(day.isoformat() for day, _ in promised), ""], dtype=object)[number]
    served = np.array([day or "" for day in strings(answered["features_day"])], dtype=object)
    share, late = float((served != wanted).mean()), np.flatnonzero(served < wanted)
    waited = microseconds(answered["event_time"])[late] - available_us[number[late]]
    days = ", ".join(f"{day} from {at:%Y-%m-%d %H:%M}" for day, at in promised)
    return [
        Figure("stale_features_share", exactly(share, n), share > 0, f"features of another day than {days} on"),
        Figure("late_features_minutes", exactly(float(waited.max(initial=0)) / MINUTE_US, n), note="at least so late"),
    ]


def quality(answered: pa.Table, evidence: Mapping[str, Any] | None, settings: GateSettings, note: str) -> list[Figure]:
    """AUC and calibration of the served probabilities on the clicks so far, and AUC against the backtest's."""
    clicked, scores, users = numbers(answered["clicked"]), numbers(answered["served_p_click"]), clusters(answered)
    auc = ranking.auc(clicked, scores, settings=settings, clusters=users)
    observed, predicted = mean(clicked, settings.confidence), float(scores.mean()) if len(scores) else math.nan
    first = numbers(answered["position"]) == 1
    calibration: Finding = Refusal("calibration needs captured first placements; found none")
    if first.any():
        calibration = mean((clicked - scores)[first], settings.confidence)
    offline = evidence["comparison"]["auc"]["challenger"] if evidence else {"refused": "no evidence was found"}
    return [
        Figure("auc", auc, note=note),
        Figure("click_rate", observed, note=note),
        Figure("predicted_click_rate", exactly(predicted, len(scores)) if len(scores) else observed),
        Figure("calibration_gap", calibration, note=f"clicked - p_click at the first place; {note}".rstrip("; ")),
        Figure("auc_delta", minus(auc, offline, settings.confidence), note="online minus the backtest's"),
    ]


def earned(
    served: pa.Table, evidence: Mapping[str, Any] | None, settings: GateSettings, alarms: MonitoringSettings, note: str
) -> list[Figure]:
    """Clicks on the first placement per served request, against what the backtest had estimated."""
    first = served.filter(pc.equal(served["position"], 1))
    online = mean(numbers(first["clicked"]), settings.confidence)
    promised = evidence["value"]["challenger"] if evidence else {"refused": "no evidence was found"}
    delta = minus(online, promised, settings.confidence)
    floor = -alarms.max_value_drop * abs(float(promised.get("value", 0.0)))
    return [
        Figure("value", online, note=f"clicks on the first placement per request; {note}".rstrip("; ")),
        Figure(
            "value_delta",
            delta,
            isinstance(delta, Estimate) and delta.high < floor,
            f"online minus the backtest's estimate, alarm when surely below {floor:.4f}",
        ),
    ]


def mean(values: Floats, confidence: float) -> Finding:
    """The mean with a normal interval; rows count as independent."""
    n = len(values)
    if n < 2:
        return Refusal(f"a mean needs at least 2 rows; found {n}", n)
    value, stderr = float(values.mean()), float(values.std(ddof=1) / math.sqrt(n))
    reach = NormalDist().inv_cdf(0.5 + confidence / 2) * stderr
    return Estimate(value, stderr, value - reach, value + reach, n, float(n))


def minus(online: Finding, offline: Mapping[str, Any], confidence: float) -> Finding:
    """Online minus offline: independent samples, so the variances add."""
    if isinstance(online, Refusal):
        return online
    if "refused" in offline:
        return Refusal(f"offline: {offline['refused']}", online.n)
    stderr = math.hypot(online.stderr, float(offline["stderr"]))
    value = online.value - float(offline["value"])
    reach = NormalDist().inv_cdf(0.5 + confidence / 2) * stderr
    return Estimate(value, stderr, value - reach, value + reach, online.n, online.effective_n)
