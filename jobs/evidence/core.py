"""What the held-out rows and the logged decisions say of challenger and champion, and what the gate sees of it. No I/O.

`jobs.evidence.detail` has calibration, slices, popularity bias and further estimators; `jobs.evidence.pages` has whole
pages, `jobs.evidence.conversions` conversions.
"""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.evidence.document import Candidate, Data, Document, Kind, Replay
from jobs.evidence.figures import (
    Balanced,
    Carried,
    Diagnostics,
    Earned,
    Estimated,
    Histogram,
    Marginal,
    Power,
    Sides,
    Truth,
    Weights,
    stated,
)
from jobs.evidence.replayed import Replayed
from jobs.evidence.scored import MEASURED
from models.evaluation import diagnostics, estimate
from models.evaluation.choices import SIDES, Side
from models.evaluation.estimate import Refusal
from models.evaluation.gate import Evidence, SliceFinding
from models.evaluation.power import days_needed, detectable_lift
from models.evaluation.value import Value, value_of
from models.evaluation.value import refused as unknown
from models.rankers.protocol import Floats
from models.settings import GateSettings

WEIGHT_EDGES = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Weights are counted by size between these; the last class has no end."""
MOST_GROUPS = 12
"""Groups of the balance that are shown, those furthest apart."""
LIMITATIONS = (
    "The interval of the value's difference allows for all looks of gate.risk_days days at this endpoint, of whatever"
    " day, mode or challenger; other rules' intervals stand alone.",
    "The value is the click on the first placement of a request. Whole pages are estimated beside it; the gate asks"
    " them only where its settings say so. Conversions are asked once their labels are closed; before that by the delay"
    " curve, which takes delays to stay as they were and to be the same whatever is shown.",
    "A request without its first placement is left out, one without any placement is not seen: what is missing is taken"
    " to be missing whatever was shown and clicked, up to gate.max_incomplete_share of the requests.",
    "A page is weighed by all placements down to each: right if what stands below does not change a click above it.",
    "Only requests whose candidates and propensity were logged are replayed; the others are re-ranked and may differ.",
    "No second estimate of whole pages from marginals of the logging policy: logs hold conditional propensities only.",
    "Positions: AUC and NDCG@10 score every item as if shown first, log-loss and calibration at the position shown.",
    "The challenger is replayed on the candidates the logging policy had, not on what its own retrieval would find.",
)


def limitations(days: int) -> list[str]:
    """What evidence on the rows of so many days cannot say."""
    judged = "One day is judged; another" if days == 1 else f"{days} days are judged; others"
    first, *others = LIMITATIONS
    return [f"{judged} may say otherwise. {first}", *others]


def value(replay: Replayed, settings: GateSettings) -> Value:
    """Clicks per request under champion and challenger, and of what was shown, as far as the decisions can tell."""
    if replay.refusal:
        return unknown(replay.refusal, replay.refusal)
    return value_of(replay.choices(replay.found.clicked), settings)


def estimated(found: Value) -> dict[str, Sides]:
    """Estimator to both sides and their difference."""
    return {name: Sides.of(figures) for name, figures in found.estimates.items()}


def marginal(found: Value) -> Marginal | None:
    """The second opinion; None where no ranker predicts rewards."""
    return Marginal(**{name: stated(figure) for name, figure in found.marginal.items()}) if found.marginal else None


def refused(reason: Refusal) -> Earned:
    """One reason for every side."""
    return Earned.of(dict.fromkeys(Earned.model_fields, reason))


def earned(replay: Replayed, reward: Floats, settings: GateSettings) -> Earned:
    """Of any `reward` (m,) of a first placement, by self-normalised IPS; NaN is not known, and left out."""
    found = value_of(replay.choices(reward, predicted=False), settings)
    return Earned.of({**found.estimates[found.primary], "logging": found.logging})


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
        " propensities no click can be carried over to another choice, so there is no value, and the gate refuses"
        " unless its profile is metrics-only.",
    ),
}
"""What each kind of replay can and cannot say."""


def replay_kind(replayed: int, left_out: Mapping[str, int], found: Value) -> Replay:
    """Session replay where any request's candidates and propensity were logged; slate re-ranking of all others.

    A request whose first click is not known yet is neither.
    """
    unknown = left_out["click_unknown"]
    kind: Kind = "session_replay" if replayed else "slate_re_ranking"
    can_say, cannot_say = SAYS[kind]
    share = replayed / max(1, left_out["requests"] - unknown)
    return Replay(
        kind=kind,
        requests={
            "session_replay": replayed,
            "slate_re_ranking": left_out["requests"] - replayed - unknown,
            "click_unknown": unknown,
        },
        share=share,
        whole=_whole(found.of("difference"), found.logging, share),
        can_say=can_say,
        cannot_say=cannot_say,
    )


def _whole(difference: estimate.Finding, logging: estimate.Finding, share: float) -> tuple[float, float] | None:
    """Bounds of the difference on all requests, the others taken to earn as much now as those replayed.

    On those the challenger could earn nothing, or a click each.
    """
    if isinstance(difference, Refusal) or isinstance(logging, Refusal):
        return None
    rest = 1.0 - share
    return share * difference.low - rest * logging.value, share * difference.high + rest * (1.0 - logging.value)


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


def trust(replay: Replayed, found: Value) -> Diagnostics:
    """How far the weights can be trusted, and how many decisions have features other than trained on."""
    carried = None if found.carried is None else Carried(**asdict(found.carried))
    return Diagnostics(
        weights={side: _weights(replay, side, told) for side, told in found.sides.items()},
        difference=carried,
        balance=[Balanced(**asdict(group)) for group in found.balance[:MOST_GROUPS]],
        groups=len(found.balance),
        skew=replay.differing.skew,
        differing_columns=replay.differing.shares,
    )


def _weights(replay: Replayed, side: Side, told: diagnostics.Diagnostics) -> Weights:
    target = replay.found.of_taken(replay.chosen[side])
    at = np.searchsorted(WEIGHT_EDGES, target / replay.found.propensity, side="right") - 1
    counts = np.bincount(at, minlength=len(WEIGHT_EDGES)).tolist()
    names = [name for name in Weights.model_fields if name != "histogram"]
    return Weights(
        **{name: getattr(told, name) for name in names},
        histogram=Histogram(edges=list(WEIGHT_EDGES), counts=counts),
    )


def power(found: Value, days: int, settings: GateSettings) -> Power | None:
    """What lift these logs could have shown; None where they carry no difference."""
    difference, champion = found.of("difference"), found.of("champion")
    if isinstance(difference, Refusal) or isinstance(champion, Refusal):
        return None
    lift = detectable_lift(difference, champion, settings.value_confidence)
    if lift is None:
        return None
    return Power(detectable_lift=lift, days=days, days_for_one_percent=days_needed(lift, days, 0.01))


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
    estimators = {name: sides.measured() for name, sides in document.estimators.items()}
    parts = [SliceFinding(s.attribute, s.value, s.difference.measured()) for s in document.slices.slices]
    return Evidence(
        comparison={
            metric: sides.measured() for metric, sides in {**document.comparison, **_of_outcomes(document)}.items()
        },
        value=document.value.measured(),
        test_rows=document.test_rows,
        held_out_hours=_held_out_hours(document),
        same_candidate=document.same_candidate,
        estimators=estimators | {"pages": whole_pages(document.pages.depths)},
        logging=document.logging.value.measured(),
        against_logging=document.logging.difference.measured(),
        replayed_share=document.replay.share,
        conversions=document.conversions.measured(),
        conversions_so_far=document.conversions_so_far.measured() if document.conversions_so_far else {},
        known_share=document.test_rows / max(1, document.data.test_rows),
        calibration_ratio=document.calibration["challenger"].ratio.measured(),
        calibration=document.calibration["challenger"].error.measured(),
        click_rate=document.calibration["challenger"].observed,
        slices=tuple(parts),
        reversals=tuple(reversal.attribute for reversal in document.slices.reversals),
        concentration_rise=document.concentration_rise.measured(),
        skew=document.diagnostics.skew,
        mode=document.mode,
        parity=None if document.parity is None else document.parity.measured(),
    )


def _of_outcomes(document: Document) -> dict[str, Sides]:
    """The comparison in every metric of a further outcome, by `<outcome>.<metric>`."""
    found = document.outcomes.items()
    return {f"{name}.{metric}": sides for name, of in found for metric, sides in of.comparison.items()}


def _held_out_hours(document: Document) -> dict[str, float]:
    """How long after the last row that each side learned from the first test row was shown."""
    first = datetime.fromisoformat(document.data.event_time[0])
    sides: dict[str, Candidate] = {"champion": document.champion, "challenger": document.challenger}
    learned = {side: datetime.fromisoformat(found.learned_until) for side, found in sides.items()}
    return {side: (first - until) / timedelta(hours=1) for side, until in learned.items()}


def whole_pages(depths: Mapping[str, Sides]) -> dict[str, estimate.Finding]:
    """Both sides and their difference on as many places as weights can carry; of the first place where none can."""
    known = [places for places, depth in depths.items() if isinstance(depth.difference, Estimated)]
    if known or depths:
        return depths[max(known, key=int, default="1")].measured()
    reason = Refusal("whole pages need a replayed decision without a gap below its first placement; found none")
    return dict.fromkeys(Sides.model_fields, reason)


def figures(document: Document) -> dict[str, float]:
    """What a table of trainings compares, flat: `test.auc`, `champion.test.auc`, `value.difference`, its ends, …

    The document has the rest: nobody reads two hundred columns.
    """
    differences = {"value.difference": document.value.difference, "value.against_logging": document.logging.difference}
    differences |= {"conversions.difference": document.conversions.difference}
    found = {"value.champion": document.value.champion, "value.challenger": document.value.challenger}
    found |= {"value.logging": document.logging.value}
    for metric in MEASURED:
        found |= {f"test.{metric}": document.comparison[metric].challenger}
        found |= {f"champion.test.{metric}": document.comparison[metric].champion}
    for name, sides in _of_outcomes(document).items():  # a champion may predict none of them, and has no difference
        found |= {f"outcomes.{name}.challenger": sides.challenger, f"outcomes.{name}.difference": sides.difference}
    if (early := document.conversions_so_far) is not None:
        differences |= {"conversions_so_far.against_logging": early.against_logging}
    for side, calibration in document.calibration.items():
        found |= {f"outcomes.{name}.ratio.{side}": of.ratio[side] for name, of in document.outcomes.items()}
        found |= {f"calibration_ratio.{side}": calibration.ratio}
    flat = {name: finding.value for name, finding in found.items() if isinstance(finding, Estimated)}
    for name, finding in differences.items():
        if isinstance(finding, Estimated):
            flat |= {name: finding.value, f"{name}.low": finding.low, f"{name}.high": finding.high}
    if document.truth is not None:
        flat |= {f"truth.{side}": figure for side, figure in document.truth}
    return flat
