"""A day's traffic against the model's reference, the days before and the model's promises: `models.monitoring`, fed."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.asof.keys import ABSENT, Indices
from jobs.asof.wanted import Wanted
from jobs.bundle import Bundle
from jobs.lake.run import Run
from jobs.lake.store import midnight
from jobs.moment.columns import numbers, strings
from jobs.moment.decisions import clusters
from jobs.monitor import observed
from jobs.monitor.core import Figure, exactly, with_capture
from jobs.monitor.past import Past
from jobs.monitor.rows import MOST_JUDGED, Where, answers, of_some_users
from jobs.serving.served import policies_of
from models.evaluation.estimate import Estimate, Refusal, upper_tail
from models.evaluation.linear import Linear
from models.evaluation.popularity import Concentration, concentration
from models.features import declared
from models.monitoring import day as figures
from models.monitoring.alarms import p_beyond
from models.monitoring.churn import proxies
from models.monitoring.day import Held, Ints, Traffic
from models.monitoring.profile import EVERYWHERE, Profile

OUTCOMES = ("clicked", "converted")
ENGAGEMENT = tuple(feature.name for feature in declared("user", lambda feature: feature.kind == "number"))
RETURN_DAYS = 7
"""Days in which a user comes back, or does not."""
NOBODY = np.zeros(0, np.int64)
SERVED = ["impression_id", "request_id", "user_id", "item_id", "surface", "policy", "position"]


def watched(run: Run, day: date, model: Bundle, past: Past, beside: Held) -> list[Figure]:
    """All figures of the day that something is held against, `beside` too, with their alarms; and those for people."""
    settings, confidence = run.config.monitoring, run.config.gate.confidence
    traffic = observed.observed(run, day, model)
    before, today = observed.coded(observed.keys_before(run, day))

    def days(metric: str, surface: str) -> Any:
        return past.findings(metric, surface, model.candidate_id, settings.baseline_days)

    profile, held = model.reference, [beside]
    if profile is not None:
        held += figures.drifts(traffic, _part(profile, outcomes=False), settings, confidence)
        held += _outcomes(run, day, profile)
    held += figures.levels(figures.rates(traffic, confidence), days, settings)
    repeating = replace(_nobody(len(today[0])), users=today[0], keys=today)
    held.append(figures.repeats(repeating, before, settings, confidence))
    held += figures.promises(_answered(run, day, model), settings, run.config.gate)
    asked = [named(one, run, day) for one in figures.judged(held, settings)]
    none = Refusal(f"the bundle {model.candidate_id} is older than references are")
    lacking = [] if profile is not None else [Figure("reference_profile", none)]
    return [*asked, *lacking, *_exposure(run, today[1]), *_staying(run, day), _age(run, day, model)]


def _part(profile: Profile, outcomes: bool) -> Profile:
    return Profile({name: of for name, of in profile.columns.items() if (name in OUTCOMES) == outcomes})


def named(one: Held, run: Run, day: date) -> Figure:
    """As a row of the report; what is counted so far says when it is final."""
    windows = run.config.attribution
    final = {
        "clicks_per_impression": day + timedelta(days=windows.click_days),
        "conversions_per_impression": day
        + timedelta(days=windows.click_days + windows.purchase_days + windows.late_days),
    }
    closes = str(final[one.metric]) if one.metric in final else None
    return Figure(
        one.metric, one.finding, one.alarm, one.note, one.surface, one.reference, one.expected, one.bounds,
        one.p_value, closes,
    )  # fmt: skip


def _outcomes(run: Run, day: date, profile: Profile) -> Iterator[Held]:
    """The labels of the newest day on which each outcome is closed, against what training learned from."""
    windows = run.config.attribution
    back = {"clicked": windows.click_days}
    back["converted"] = back["clicked"] + windows.purchase_days + windows.late_days
    there = run.published_days("impressions")
    for number, name in enumerate(OUTCOMES):
        of = day - timedelta(days=back[name])
        if name not in profile.columns or of not in there:
            continue
        rows = of_some_users(run, "impressions", of, ["impression_id", "user_id", "surface"], MOST_JUDGED)
        cut = midnight(day + timedelta(days=1))
        label = observed.closed_labels(run, of, rows["impression_id"], cut)[number]
        known = np.flatnonzero(np.isfinite(label))
        said = np.where(label[known] > 0, "yes", "no").astype(object)
        rows = rows.take(pa.array(known))
        some = replace(
            _nobody(len(known)), features={name: said}, users=clusters(rows), surface=strings(rows["surface"])
        )
        only = Profile({name: profile.columns[name]})
        for one in figures.drifts(some, only, run.config.monitoring, run.config.gate.confidence):
            yield replace(one, note=f"of {of}, whose labels are closed; {one.note}".rstrip("; "))


def _answered(run: Run, day: date, model: Bundle) -> Traffic:
    """What the model answered on the newest day whose clicks are closed, with its own probabilities."""
    of = day - timedelta(days=run.config.attribution.click_days)
    if of not in run.published_days("impressions"):
        return _nobody(0)
    mine = Where("policy", policies_of({model.candidate_id}))
    rows = of_some_users(run, "impressions", of, SERVED, MOST_JUDGED, mine)
    rows = with_capture(rows, answers(run, of, Wanted.of(rows["request_id"])).rows)
    rows = rows.filter(pc.equal(rows["bundle_sha256"], model.sha256))
    clicked, _ = observed.closed_labels(run, of, rows["impression_id"], midnight(day + timedelta(days=1)))
    return replace(
        _nobody(len(rows)),
        users=clusters(rows),
        surface=strings(rows["surface"]),
        clicked=clicked,
        p_click=numbers(rows["served_p_click"]),
    )


def _exposure(run: Run, items: Ints) -> list[Figure]:
    """The popularity curve of what was shown: how few items are behind how much of it."""
    catalogue = max(2, len(np.unique(items)))
    found = concentration(items, np.ones(len(items)), catalogue, settings=run.config.gate, seed=0)
    if not isinstance(found, Concentration):
        return [Figure("items_behind_80", found)]
    behind = dict(zip((f"items_behind_{share}" for share in range(10, 101, 10)), found.items_behind, strict=True))
    return [Figure(name, one, note="share of the items shown") for name, one in behind.items()]


def _staying(run: Run, day: date) -> list[Figure]:
    """Proxies of churn: figures of a week ago, by whether the user came back since."""
    start = day - timedelta(days=RETURN_DAYS)
    since = [start + timedelta(days=n) for n in range(1, RETURN_DAYS + 1)]
    if start not in run.published_days("user_features") or set(since) - set(run.published_days("impressions")):
        return []
    users = of_some_users(run, "user_features", start, ["user_id", *ENGAGEMENT], MOST_JUDGED)
    wanted = Wanted.of(users["user_id"])
    back = np.zeros(len(wanted.hashes) + 1, bool)

    def seen(some: Iterator[pa.Table]) -> Indices:
        return np.unique(np.concatenate([NOBODY, *(np.unique(wanted.places(rows["user_id"])) for rows in some)]))

    for places in run.told("impressions", since, ["user_id"], seen):
        back[places] = True
    back[ABSENT] = False  # whoever is not wanted
    returned = back[wanted.places(users["user_id"])]
    found = proxies({name: numbers(users[name]) for name in ENGAGEMENT}, returned, run.config.gate)
    note = f"AUC for coming back within {RETURN_DAYS} days of {start}; .5 says nothing; no effect, an association"
    return [Figure(f"stays.{name}", one, note=note) for name, one in found.items()]


def _age(run: Run, day: date, model: Bundle) -> Figure:
    """How long ago the newest row was that the model, or what it continued, learned from."""
    days = (midnight(day + timedelta(days=1)) - model.learned_until) / timedelta(days=1)
    most = run.config.monitoring.max_model_age_days
    return Figure("model_age_days", exactly(days, 1), days > most, f"alarm above {most:g}", bounds=(None, float(most)))


def offline_online(
    mine: pa.Table, others: pa.Table, offline: Mapping[str, Any] | None, against: str, confidence: float
) -> Held:
    """What the model earns at the first place beside `against`, whom other users met on the same day; it is wrong where
    that is a loss for sure and the evidence had promised a gain for sure.

    `mine`, `others`: impressions with `clicked`. The two are of other users, so variances add.
    """
    name, note = "offline_online", f"clicks on the first place, less those of {against}"
    sides: list[Estimate] = []
    for rows in (mine, others):
        first = rows.filter(pc.equal(rows["position"], 1))
        found = Linear.mean(numbers(first["clicked"])).estimate(confidence, clusters(first))
        if isinstance(found, Refusal):
            return Held(name, EVERYWHERE, found, note=note)
        sides.append(found)
    online = _difference(sides[0], sides[1], confidence)
    if offline is None or "value" not in offline:
        return Held(name, EVERYWHERE, online, note=note)
    p = p_beyond(online.value, online.stderr, 0.0) / 2 if online.value < 0 else 1.0
    promised = float(offline["low"]) > 0
    return Held(
        name, EVERYWHERE, online, "the evidence's promise", float(offline["value"]), (0.0 if promised else None, None),
        p if promised else None, note,
    )  # fmt: skip


def _difference(one: Estimate, other: Estimate, confidence: float) -> Estimate:
    value, stderr = one.value - other.value, math.hypot(one.stderr, other.stderr)
    reach = NormalDist().inv_cdf(upper_tail(confidence)) * stderr
    return Estimate(value, stderr, value - reach, value + reach, one.n + other.n, one.effective_n + other.effective_n)


def _nobody(n: int) -> Traffic:
    """n placements of which nothing is known yet."""
    unknown, nothing = np.full(n, np.nan), np.zeros(n, np.int64)
    return Traffic(
        {}, nothing, nothing, np.full(n, None, object), unknown, unknown, unknown, unknown, unknown, unknown, unknown,
        unknown, {}, (),
    )  # fmt: skip
