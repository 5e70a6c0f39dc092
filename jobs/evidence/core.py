"""What the held-out rows and the logged decisions say of challenger and champion, as one JSON document. No I/O.

`jobs.evidence.detail` has calibration, slices, popularity bias and further estimators; `jobs.evidence.pages` has whole
pages, `jobs.evidence.conversions` conversions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.evidence.replayed import Replayed
from jobs.evidence.scored import SIDES, Scored
from models.evaluation.comparison import LOWER_IS_BETTER, METRICS, compare
from models.evaluation.estimate import Finding, Refusal
from models.evaluation.gate import Evidence
from models.evaluation.off_policy import diagnostics, snips, snips_difference
from models.rankers.protocol import Floats
from models.settings import GateSettings

WEIGHT_EDGES = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Weights are counted by size between these; the last class has no end."""
LIMITATIONS = (
    "One day is judged; another may say otherwise. Verdicts of other days are corrected for as far as gate.looks says.",
    "The value is the click on the first placement of a request. Whole pages and conversions are estimated beside it;"
    " the gate asks them only where its settings say so.",
    "A request without its first placement is left out, one without any placement is not seen: what is missing is taken"
    " to be missing whatever was shown and clicked, up to gate.max_incomplete_share of the requests.",
    "A page is weighed by all placements down to each: right if what stands below does not change a click above it.",
    "Only requests whose candidates and propensity were logged are replayed; the others are re-ranked and may differ.",
    "No second estimate of whole pages from marginals of the logging policy: logs hold conditional propensities only.",
    "Positions: AUC and NDCG@10 score every item as if shown first, log-loss and calibration at the position shown.",
    "The challenger is replayed on the candidates the logging policy had, not on what its own retrieval would find.",
)


def comparison(rows: Scored, settings: GateSettings, seed: int) -> dict[str, dict[str, Finding]]:
    """Every metric of both rankers on the test rows with a known click.

    Ranking metrics compare items as if each were shown first. Those of probabilities ask whether they are right for
    what was shown, so they get the position that was shown.
    """

    def compared(scores: Mapping[str, Floats], metrics: Sequence[str]) -> dict[str, dict[str, Finding]]:
        champion, challenger = (scores[side] for side in SIDES)
        return compare(rows.clicked, champion, challenger, rows.requests, rows.users, settings, seed, metrics)

    of_order = [metric for metric in METRICS if metric not in LOWER_IS_BETTER]
    return compared(rows.as_first, of_order) | compared(rows.as_shown, LOWER_IS_BETTER)


def value(replay: Replayed, settings: GateSettings) -> dict[str, Finding]:
    """Clicks per request under champion and challenger, their difference, and `logging`: what was really earned."""
    return refused(replay.refusal) if replay.refusal else earned(replay, replay.found.clicked, settings)


def refused(reason: Refusal) -> dict[str, Finding]:
    """One reason for every side."""
    return dict.fromkeys((*SIDES, "difference", "logging"), reason)


def earned(replay: Replayed, reward: Floats, settings: GateSettings) -> dict[str, Finding]:
    """As `value`, of any `reward` (m,) of a first placement; decisions whose reward is NaN are left out."""
    rows, found = np.flatnonzero(~np.isnan(reward)), replay.found
    reward, logged, users = reward[rows], found.propensity[rows], found.cluster[rows]
    champion, challenger = (found.of_taken(replay.chosen[side])[rows] for side in SIDES)

    def by(target: Floats) -> Finding:
        return snips(reward=reward, logged=logged, target=target, clusters=users, settings=settings)

    return {
        "champion": by(champion),
        "challenger": by(challenger),
        "difference": snips_difference(
            reward=reward,
            logged=logged,
            champion=champion,
            challenger=challenger,
            clusters=users,
            settings=settings,
        ),
        "logging": by(logged),
    }


SAYS = {
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


def replay_kind(replayed: int, left_out: Mapping[str, int]) -> dict[str, Any]:
    """Session replay where any request's candidates and propensity were logged; slate re-ranking of all others.

    A request whose first click is not known yet is neither.
    """
    unknown = left_out["click_unknown"]
    kind = "session_replay" if replayed else "slate_re_ranking"
    return {
        "kind": kind,
        "requests": {
            "session_replay": replayed,
            "slate_re_ranking": left_out["requests"] - replayed - unknown,
            "click_unknown": unknown,
        },
        **dict(zip(("can_say", "cannot_say"), SAYS[kind], strict=True)),
    }


def true_value(replay: Replayed) -> dict[str, float] | None:
    """The same clicks per request by expectation, where each candidate's true click probability is known.

    `logging` is the expectation over clicks of what was shown; its choices stay as they fell.
    """
    if replay.truth is None:
        return None
    truth = {side: float((replay.chosen[side] * replay.truth).sum() / len(replay)) for side in SIDES}
    return {
        **truth,
        "difference": truth["challenger"] - truth["champion"],
        "logging": float((replay.truth * replay.found.taken).sum() / len(replay)),
    }


def trust(replay: Replayed) -> dict[str, dict[str, Any]]:
    """How far the weights of each side can be trusted, and how many there are of each size; empty without decisions."""
    found, sides = replay.found, dict[str, dict[str, Any]]()
    for side in SIDES if len(replay) else ():
        target = found.of_taken(replay.chosen[side])
        at = np.searchsorted(WEIGHT_EDGES, target / found.propensity, side="right") - 1
        counts = np.bincount(at, minlength=len(WEIGHT_EDGES)).tolist()
        told: dict[str, Any] = diagnostics(logged=found.propensity, target=target).as_dict()
        sides[side] = told | {"histogram": {"edges": list(WEIGHT_EDGES), "counts": counts}}
    return sides


def data_card(test: pa.Table, replay: Replayed) -> dict[str, Any]:
    """What the evidence rests on: rows, rates, span, who decided, and what could not be replayed."""
    known = test["clicked"].is_valid()
    times = pc.min_max(test["event_time"])
    policies = pc.value_counts(test["policy"]).to_pylist()
    return {
        "test_rows": len(test),
        "test_rows_known": int(pc.sum(known).as_py() or 0),
        "click_rate": pc.mean(pc.cast(test["clicked"], pa.float64())).as_py(),
        "users": pc.count_distinct(test["user_id"]).as_py(),
        "items": pc.count_distinct(test["item_id"]).as_py(),
        "event_time": [str(times["min"].as_py()), str(times["max"].as_py())],
        "policies": {entry["values"]: entry["counts"] for entry in sorted(policies, key=lambda e: str(e["values"]))},
        "decisions": len(replay),
        "candidates_per_decision": len(replay.found.item) / len(replay) if len(replay) else None,
        "left_out": dict(replay.left_out),
    }


def gate_evidence(document: Mapping[str, Any]) -> Evidence:
    """The part of a document that the gate may see; whatever else it says, the truth above all, stays out."""
    sliced = document["slices"]
    same = ("comparison", "value", "test_rows", "same_candidate", "mode", "parity", "concentration_rise")
    return Evidence.from_dict(
        {key: document[key] for key in same}
        | {
            "estimators": {name: sides["difference"] for name, sides in document["estimators"].items()}
            | {"pages": whole_pages(document["pages"]["depths"])},
            "known_share": document["test_rows"] / max(1, document["data"]["test_rows"]),
            "calibration": document["calibration"]["challenger"]["error"],
            "slices": sliced["slices"],
            "reversals": [reversal["attribute"] for reversal in sliced["reversals"]],
            "skew": document["diagnostics"]["skew"],
            "conversions": document["conversions"]["difference"],
        }
    )


def whole_pages(depths: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The difference on as many places as its weights can carry; that of the first place where they carry none."""
    known = [places for places, depth in depths.items() if "value" in depth["difference"]]
    if known:
        return dict(depths[max(known, key=int)]["difference"])
    reason = "whole pages need a replayed decision without a gap below its first placement; found none"
    return dict(depths["1"]["difference"]) if depths else Refusal(reason).as_dict()


def figures(document: Mapping[str, Any]) -> dict[str, float]:
    """Every estimate of a document as flat metrics: `value.challenger`, `value.challenger.low`, …"""
    flat: dict[str, float] = {}
    logging = {"logging": document["logging"]["value"]}
    groups = {**document["comparison"], "value": {**document["value"], **logging}}
    groups |= {f"pages.{places}": depth for places, depth in document["pages"]["depths"].items()}
    groups["conversions"] = {side: document["conversions"][side] for side in (*SIDES, "difference", "logging")}
    for group, sides in groups.items():
        for side, finding in sides.items():
            for part in ("value", "low", "high"):
                if part in finding:
                    suffix = "" if part == "value" else f".{part}"
                    flat[f"{group}.{side}{suffix}"] = float(finding[part])
    for side, figure in (document.get("truth") or {}).items():
        flat[f"truth.{side}"] = float(figure)
    return flat
