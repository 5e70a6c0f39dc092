"""What the held-out rows and the logged decisions say of challenger and champion, and what the gate sees of it. No I/O.

`jobs.evidence.detail` has calibration, slices, popularity bias and further estimators; `jobs.evidence.pages` has whole
pages, `jobs.evidence.conversions` conversions.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.evidence.document import (
    Candidate,
    Data,
    Diagnostics,
    Document,
    Earned,
    Estimated,
    Finding,
    Histogram,
    Kind,
    Replay,
    Sides,
    Truth,
    Weights,
    stated,
)
from jobs.evidence.replayed import Replayed
from jobs.evidence.scored import SIDES
from jobs.moment.decisions import Decisions
from models.evaluation.diagnostics import WeightStatistics
from models.evaluation.estimate import Refusal
from models.evaluation.gate import Evidence, SliceFinding
from models.evaluation.off_policy import snips, snips_difference
from models.rankers.protocol import Floats
from models.settings import GateSettings

WEIGHT_EDGES = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Weights are counted by size between these; the last class has no end."""
LIMITATIONS = (
    "One day is judged; another may say otherwise. The interval of the value's difference allows for all looks of"
    " gate.risk_days days at this endpoint, of whatever day, mode or challenger; other rules' intervals stand alone.",
    "The value is the click on the first placement of a request. Whole pages are estimated beside it; the gate asks"
    " them only where its settings say so. Conversions are asked once their labels are closed: before, nobody knows.",
    "A request without its first placement is left out, one without any placement is not seen: what is missing is taken"
    " to be missing whatever was shown and clicked, up to gate.max_incomplete_share of the requests.",
    "A page is weighed by all placements down to each: right if what stands below does not change a click above it.",
    "Only requests whose candidates and propensity were logged are replayed; the others are re-ranked and may differ.",
    "No second estimate of whole pages from marginals of the logging policy: logs hold conditional propensities only.",
    "Positions: AUC and NDCG@10 score every item as if shown first, log-loss and calibration at the position shown.",
    "The challenger is replayed on the candidates the logging policy had, not on what its own retrieval would find.",
)


def value(replay: Replayed, settings: GateSettings) -> Earned:
    """Clicks per request under champion and challenger, their difference, and `logging`: what was really earned."""
    return refused(replay.refusal) if replay.refusal else earned(replay, replay.found.clicked, settings)


def refused(reason: Refusal) -> Earned:
    """One reason for every side."""
    return Earned.of(dict.fromkeys(Earned.model_fields, reason))


def earned(replay: Replayed, reward: Floats, settings: GateSettings) -> Earned:
    """As `value`, of any `reward` (m,) of a first placement; decisions whose reward is NaN are left out."""
    rows, found = np.flatnonzero(~np.isnan(reward)), replay.found
    reward, logged, users = reward[rows], found.propensity[rows], found.cluster[rows]
    champion, challenger = (found.of_taken(replay.chosen[side])[rows] for side in SIDES)

    def by(target: Floats) -> Finding:
        return stated(snips(reward=reward, logged=logged, target=target, clusters=users, settings=settings))

    difference = snips_difference(
        reward=reward,
        logged=logged,
        champion=champion,
        challenger=challenger,
        clusters=users,
        settings=settings,
    )
    return Earned(champion=by(champion), challenger=by(challenger), difference=stated(difference), logging=by(logged))


SAYS: dict[Kind, tuple[str, str]] = {
    "session_replay": (
        "what another policy would have earned on these very requests: it chooses among the candidates that were logged"
        " for them, and each logged choice counts by how much likelier that policy would have made it.",
        "what other candidates would have earned, or users who come back for what they saw: candidates and users are"
        " those of the log.",
    ),
    "slate_re_ranking": (
        "which side would have put the clicked items of the lists that were shown nearer to the top: the same lists,"
        " ordered by each side.",
        "what users would have clicked had they been shown other items or another order: without candidates and"
        " propensities no click can be carried over to another choice, so there is no value and the gate refuses.",
    ),
}
"""What each kind of replay can and cannot say."""


def replay_kind(replayed: int, left_out: Mapping[str, int]) -> Replay:
    """Session replay where any request's candidates and propensity were logged; slate re-ranking of all others.

    A request whose first click is not known yet is neither.
    """
    unknown = left_out["click_unknown"]
    kind: Kind = "session_replay" if replayed else "slate_re_ranking"
    can_say, cannot_say = SAYS[kind]
    return Replay(
        kind=kind,
        requests={
            "session_replay": replayed,
            "slate_re_ranking": left_out["requests"] - replayed - unknown,
            "click_unknown": unknown,
        },
        can_say=can_say,
        cannot_say=cannot_say,
    )


def true_value(replay: Replayed) -> Truth | None:
    """The same clicks per request by expectation, where each candidate's true click probability is known.

    `logging` is the expectation over clicks of what was shown; its choices stay as they fell.
    """
    if replay.truth is None:
        return None
    champion, challenger = (float((replay.chosen[side] * replay.truth).sum() / len(replay)) for side in SIDES)
    return Truth(
        champion=champion,
        challenger=challenger,
        difference=challenger - champion,
        logging=float((replay.truth * replay.found.taken).sum() / len(replay)),
    )


def trust(replay: Replayed) -> Diagnostics:
    """How far the weights of each side can be trusted, and how many decisions have features other than trained on."""
    weights = {side: _weights(replay.found, replay.chosen[side]) for side in (SIDES if len(replay) else ())}
    return Diagnostics(weights=weights, skew=replay.differing.skew, differing_columns=replay.differing.shares)


def _weights(found: Decisions, chosen: Floats) -> Weights:
    target = found.of_taken(chosen)
    told = WeightStatistics.of(found.propensity, target).diagnostics()
    at = np.searchsorted(WEIGHT_EDGES, target / found.propensity, side="right") - 1
    return Weights(
        n=told.n,
        mean_weight=told.mean_weight,
        mean_weight_stderr=told.mean_weight_stderr,
        largest_weight=told.largest_weight,
        largest_weight_share=told.largest_weight_share,
        effective_n=told.effective_n,
        never_taken_share=told.never_taken_share,
        tail_shape=told.tail_shape,
        smallest_logged=told.smallest_logged,
        histogram=Histogram(edges=list(WEIGHT_EDGES), counts=np.bincount(at, minlength=len(WEIGHT_EDGES)).tolist()),
    )


def data_card(test: pa.Table, replay: Replayed, versions: Mapping[str, int | None]) -> Data:
    """What the evidence rests on: rows, rates, span, who decided, and what could not be replayed."""
    known = test["clicked"].is_valid()
    times = pc.min_max(test["event_time"])
    policies = pc.value_counts(test["policy"]).to_pylist()
    return Data(
        test_rows=len(test),
        test_rows_known=int(pc.sum(known).as_py() or 0),
        click_rate=pc.mean(pc.cast(test["clicked"], pa.float64())).as_py(),
        users=pc.count_distinct(test["user_id"]).as_py(),
        items=pc.count_distinct(test["item_id"]).as_py(),
        event_time=[str(times["min"].as_py()), str(times["max"].as_py())],
        policies={entry["values"]: entry["counts"] for entry in sorted(policies, key=lambda e: str(e["values"]))},
        decisions=len(replay),
        candidates_per_decision=len(replay.found.item) / len(replay) if len(replay) else None,
        left_out=dict(replay.left_out),
        versions=dict(versions),
    )


def gate_evidence(document: Document) -> Evidence:
    """The part of a document that the gate may see; whatever else it says, the truth above all, stays out."""
    estimators = {name: sides.difference.measured() for name, sides in document.estimators.items()}
    parts = [SliceFinding(s.attribute, s.value, s.difference.measured()) for s in document.slices.slices]
    return Evidence(
        comparison={metric: sides.measured() for metric, sides in document.comparison.items()},
        value=document.value.measured(),
        test_rows=document.test_rows,
        held_out_hours=_held_out_hours(document),
        same_candidate=document.same_candidate,
        estimators=estimators | {"pages": whole_pages(document.pages.depths).measured()},
        conversions=document.conversions.measured(),
        known_share=document.test_rows / max(1, document.data.test_rows),
        calibration=document.calibration["challenger"].error.measured(),
        slices=tuple(parts),
        reversals=tuple(reversal.attribute for reversal in document.slices.reversals),
        concentration_rise=document.concentration_rise.measured(),
        skew=document.diagnostics.skew,
        mode=document.mode,
        parity=None if document.parity is None else document.parity.measured(),
    )


def _held_out_hours(document: Document) -> dict[str, float]:
    """How long after the last row that each side learned from the first test row was shown."""
    first = datetime.fromisoformat(document.data.event_time[0])
    sides: dict[str, Candidate] = {"champion": document.champion, "challenger": document.challenger}
    learned = {side: datetime.fromisoformat(found.learned_until) for side, found in sides.items()}
    return {side: (first - until) / timedelta(hours=1) for side, until in learned.items()}


def whole_pages(depths: Mapping[str, Sides]) -> Finding:
    """The difference on as many places as its weights can carry; that of the first place where they carry none."""
    known = [places for places, depth in depths.items() if isinstance(depth.difference, Estimated)]
    if known or depths:
        return depths[max(known, key=int, default="1")].difference
    return stated(Refusal("whole pages need a replayed decision without a gap below its first placement; found none"))


def figures(document: Document) -> dict[str, float]:
    """Every estimate of a document as flat metrics: `value.challenger`, `value.challenger.low`, …"""
    groups: dict[str, Sides] = {**document.comparison, "value": document.value, "conversions": document.conversions}
    groups |= {f"pages.{places}": depth for places, depth in document.pages.depths.items()}
    found = {f"{group}.{side}": finding for group, sides in groups.items() for side, finding in sides.findings.items()}
    found["value.logging"] = document.logging.value
    flat: dict[str, float] = {}
    for name, finding in found.items():
        if isinstance(finding, Estimated):
            flat |= {name: finding.value, f"{name}.low": finding.low, f"{name}.high": finding.high}
    if document.truth is not None:
        flat |= {f"truth.{side}": figure for side, figure in document.truth}
    return flat
