"""What the held-out rows and the logged decisions say of challenger and champion, as one JSON document. No I/O.

`jobs.backtest.detail` has calibration, slices, popularity bias and further estimators. Not yet: several placements of a
slate at once.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.backtest.decisions import Decisions
from jobs.backtest.scored import SIDES, Scored
from jobs.bundle import Bundle
from models.evaluation.comparison import LOWER_IS_BETTER, METRICS, compare
from models.evaluation.estimate import Finding, Refusal
from models.evaluation.gate import Evidence
from models.evaluation.off_policy import diagnostics, snips, snips_difference
from models.policies.choice import first_choice
from models.rankers.protocol import Floats
from models.settings import GateSettings

WEIGHT_EDGES = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Weights are counted by size between these; the last class has no end."""
LIMITATIONS = (
    "One day is judged; another day may say otherwise, and yesterday's verdicts are not corrected for.",
    "The value is the click on the first placement of a request; lower placements and conversions do not count yet.",
    "Only requests whose candidates and propensity were logged are replayed; the others may differ.",
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


def predicted(found: Decisions, side: Bundle) -> Floats:
    """(n,) the bundle's p_click of each candidate, asked at that moment."""
    p_click: Floats = side.ranker.predict(found.columns).p_click
    return p_click


def choices(found: Decisions, side: Bundle, p_click: Floats) -> Floats:
    """(n,) the probability that the bundle's policy would have placed each candidate first, given its `p_click`."""
    return first_choice(p_click, found.offsets, side.policy)


def value(
    found: Decisions | None, chosen: Mapping[str, Floats], why_not: str, settings: GateSettings
) -> dict[str, Finding]:
    """Clicks per request under champion and challenger, their difference, and `logging`: what was really earned.

    `chosen`: side to the probability of each candidate. Without decisions every entry is a refusal saying `why_not`.
    """
    if found is None:
        return dict.fromkeys((*SIDES, "difference", "logging"), Refusal(why_not))
    reward, logged, users = found.clicked, found.propensity, found.cluster
    champion, challenger = (found.of_taken(chosen[side]) for side in SIDES)

    def earned(target: Floats) -> Finding:
        return snips(reward=reward, logged=logged, target=target, clusters=users, settings=settings)

    return {
        "champion": earned(champion),
        "challenger": earned(challenger),
        "difference": snips_difference(
            reward=reward,
            logged=logged,
            champion=champion,
            challenger=challenger,
            clusters=users,
            settings=settings,
        ),
        "logging": earned(logged),
    }


def true_value(found: Decisions, chosen: Mapping[str, Floats], probability: Floats) -> dict[str, float]:
    """The same clicks per request by expectation, from each candidate's true click probability (n,).

    `logging` is the expectation over clicks of what was shown; its choices stay as they fell.
    """
    truth = {side: float((chosen[side] * probability).sum() / len(found)) for side in SIDES}
    return {
        **truth,
        "difference": truth["challenger"] - truth["champion"],
        "logging": float((probability * found.taken).sum() / len(found)),
    }


def trust(found: Decisions, chosen: Mapping[str, Floats]) -> dict[str, dict[str, Any]]:
    """How far the weights of each side can be trusted, and how many there are of each size."""
    sides: dict[str, dict[str, Any]] = {}
    for side in SIDES:
        target = found.of_taken(chosen[side])
        at = np.searchsorted(WEIGHT_EDGES, target / found.propensity, side="right") - 1
        counts = np.bincount(at, minlength=len(WEIGHT_EDGES)).tolist()
        told: dict[str, Any] = diagnostics(logged=found.propensity, target=target).as_dict()
        sides[side] = told | {"histogram": {"edges": list(WEIGHT_EDGES), "counts": counts}}
    return sides


def data_card(test: pa.Table, found: Decisions | None, left_out: Mapping[str, int]) -> dict[str, Any]:
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
        "decisions": 0 if found is None else len(found),
        "candidates_per_decision": None if found is None else len(found.item_id) / len(found),
        "left_out": dict(left_out),
    }


def gate_evidence(document: Mapping[str, Any]) -> Evidence:
    """The part of a document that the gate may see; whatever else it says, the truth above all, stays out."""
    skew = max(document["diagnostics"]["differing_columns"].values(), default=0.0)
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
            "skew": skew if document["data"]["decisions"] else None,
        }
    )


def whole_pages(depths: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The difference on as many places as its weights can carry; that of the first place where they carry none."""
    known = [depth["difference"] for depth in depths if "value" in depth["difference"]]
    if known:
        return dict(known[-1])
    reason = "whole pages need a replayed decision without a gap below its first placement; found none"
    return dict(depths[0]["difference"]) if depths else Refusal(reason).as_dict()


def figures(document: Mapping[str, Any]) -> dict[str, float]:
    """Every estimate of a document as flat metrics: `value.challenger`, `value.challenger.low`, …"""
    flat: dict[str, float] = {}
    logging = {"logging": document["logging"]["value"]}
    groups = {**document["comparison"], "value": {**document["value"], **logging}}
    sides = (*SIDES, "difference", "logging")
    groups |= {
        f"pages.{depth['places']}": {side: depth[side] for side in sides} for depth in document["pages"]["depths"]
    }
    for group, sides in groups.items():
        for side, finding in sides.items():
            for part in ("value", "low", "high"):
                if part in finding:
                    suffix = "" if part == "value" else f".{part}"
                    flat[f"{group}.{side}{suffix}"] = float(finding[part])
    for side, figure in (document.get("truth") or {}).items():
        flat[f"truth.{side}"] = float(figure)
    return flat
