"""What the held-out rows and the logged decisions say of challenger and champion, as one JSON document. No I/O.

Not yet: slices, several placements of a slate at once, doubly robust estimates.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.backtest.decisions import Decisions, clusters
from jobs.bundle import Bundle
from jobs.examples import numbers, ranker_columns
from models.evaluation.comparison import compare
from models.evaluation.estimate import Finding, Refusal
from models.evaluation.gate import Evidence
from models.evaluation.off_policy import diagnostics, snips, snips_difference
from models.policies.choice import first_choice
from models.rankers.features import SERVING_POSITION
from models.rankers.protocol import Floats
from models.settings import GateSettings

SCHEMA_VERSION = 1
SIDES = ("champion", "challenger")
Pair = tuple[Bundle, Bundle]
"""Champion, challenger."""
LIMITATIONS = (
    "One day is judged; another day may say otherwise, and yesterday's verdicts are not corrected for.",
    "The value is the click on the first placement of a request; lower placements and conversions do not count yet.",
    "Only requests whose candidates and propensity were logged are replayed; the others may differ.",
    "Positions: AUC and NDCG@10 score every item as if shown first, log-loss at the position it was shown at.",
    "The challenger is replayed on the candidates the logging policy had, not on what its own retrieval would find.",
)


def comparison(test: pa.Table, pair: Pair, settings: GateSettings, seed: int) -> dict[str, dict[str, Finding]]:
    """AUC, NDCG@10 and log-loss of both rankers on the test impressions with a known click.

    Ranking metrics compare items as if each were shown first. Log-loss asks whether the probabilities are right for
    what was shown, so it gets the position that was shown.
    """
    rows = test.filter(test["clicked"].is_valid())
    clicked, users = numbers(rows["clicked"]), clusters(rows)
    requests = rows["request_id"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    shown = ranker_columns(rows)
    first = {**shown, "position": np.full(len(rows), float(SERVING_POSITION))}

    def compared(columns: Mapping[str, Any]) -> dict[str, dict[str, Finding]]:
        champion, challenger = (side.ranker.predict(columns).p_click for side in pair)
        return compare(clicked, champion, challenger, requests, users, settings, seed)

    as_shown, as_first = compared(shown), compared(first)
    return {**as_first, "log_loss": as_shown["log_loss"]}


def calibration(test: pa.Table, pair: Pair) -> dict[str, float | int | None]:
    """Mean predicted click probability of both sides, as shown, against the observed rate."""
    rows = test.filter(test["clicked"].is_valid())
    if not len(rows):
        return {"rows": 0, "observed": None, **dict.fromkeys(SIDES)}
    columns = ranker_columns(rows)
    champion, challenger = (float(side.ranker.predict(columns).p_click.mean()) for side in pair)
    observed = float(numbers(rows["clicked"]).mean())
    return {"rows": len(rows), "observed": observed, "champion": champion, "challenger": challenger}


def choices(found: Decisions, side: Bundle) -> Floats:
    """(n,) the probability that the bundle, asked at that moment, would have placed each candidate first."""
    return first_choice(side.ranker.predict(found.columns).p_click, found.offsets, side.policy)


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
    """How far the weights of each side can be trusted."""
    return {side: diagnostics(logged=found.propensity, target=found.of_taken(chosen[side])).as_dict() for side in SIDES}


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
    return Evidence.from_dict({key: document[key] for key in ("comparison", "value", "test_rows", "same_candidate")})


def figures(document: Mapping[str, Any]) -> dict[str, float]:
    """Every estimate of a document as flat metrics: `value.challenger`, `value.challenger.low`, …"""
    flat: dict[str, float] = {}
    logging = {"logging": document["logging"]["value"]}
    groups = {**document["comparison"], "value": {**document["value"], **logging}}
    for group, sides in groups.items():
        for side, finding in sides.items():
            for part in ("value", "low", "high"):
                if part in finding:
                    suffix = "" if part == "value" else f".{part}"
                    flat[f"{group}.{side}{suffix}"] = float(finding[part])
    for side, figure in (document.get("truth") or {}).items():
        flat[f"truth.{side}"] = float(figure)
    return flat
