"""The evidence on two bundles: the document, computed from test rows and the logged decisions of their days.

`backtest` writes it down first; `reevaluate` computes it again once every label is known.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs import bundle
from jobs.bundle import Bundle
from jobs.evidence import conversions, core, detail, pages
from jobs.evidence.document import SCHEMA_VERSION
from jobs.evidence.scored import SIDES, Pair, Scored, compared, scored, with_known_click
from jobs.flow import FEATURES
from jobs.lake.run import Run
from jobs.moment.columns import ranker_columns, strings
from jobs.moment.decisions import Decisions, Disagreement, decisions, disagreement, first_placements, joined
from jobs.moment.identity import IDENTIFYING, IDENTITY, identities
from jobs.moment.known import known_before
from jobs.outcomes import closes_on
from jobs.sources.world.truth import true_probabilities
from models.evaluation.comparison import compare
from models.evaluation.estimate import Finding, Refusal
from models.rankers.protocol import Floats

ASKED = ("request_id", "candidates", "slate_size")
DATA = ("examples", "requests", "items", *FEATURES)


def document(run: Run, test: pa.Table, pair: Pair) -> dict[str, Any]:
    """The evidence of the run's day and mode on `test`; same inputs, same document: no clock, no run id."""
    settings, seed = run.config.gate, run.config.ranker.seed
    rows = scored(test, {side: found.ranker for side, found in zip(SIDES, pair, strict=True)}, _identity(run))
    comparison = compared(rows, *SIDES, settings, seed)
    run.say(f"compared on {len(rows)} of {len(test)} test rows")
    replay = _replayed(run, test)
    found = replay.found
    predicted = {} if found is None else {s: core.predicted(found, b) for s, b in zip(SIDES, pair, strict=True)}
    chosen = {s: core.choices(found, b, predicted[s]) for s, b in zip(SIDES, pair, strict=True) if found is not None}
    why_not = core.unfit(replay.left_out, settings)
    fit = None if why_not else found
    values = core.value(fit, chosen, why_not or "", settings)
    run.say(f"replayed {0 if found is None else len(found)} decisions")
    champion, challenger = pair
    logging = values.pop("logging")
    parity = _parity(run, test, rows)
    closing = closes_on(pc.max(test["event_time"]).as_py(), run.config.attribution)
    written: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "day": run.day.isoformat(),
        "mode": run.mode,
        "challenger": _side(challenger),
        "champion": _side(champion),
        "bundle_sha256": challenger.sha256,
        "policy": challenger.policy.model_dump(mode="json"),
        "same_candidate": challenger.candidate_id == champion.candidate_id,
        "test_rows": len(rows),
        "comparison": {m: {s: f.as_dict() for s, f in sides.items()} for m, sides in comparison.items()},
        "value": {side: finding.as_dict() for side, finding in values.items()},
        "estimators": detail.second_opinions(fit, chosen, predicted.get("champion"), settings),
        "logging": {"value": logging.as_dict()},
        "replay": core.replay_kind(found, replay.left_out),
        "conversions": conversions.section(fit, chosen, why_not or "", closing, settings),
        "pages": pages.section(test, fit, dict(zip(SIDES, pair, strict=True)), predicted, settings),
        "calibration": detail.calibration(rows, settings),
        "slices": detail.sliced(rows, settings),
        **detail.spread(found, chosen, replay.catalogue, seed, settings),
        "parity": None if parity is None else parity.as_dict(),
        "data": core.data_card(test, found, replay.left_out) | {"versions": {t: run.inputs.get(t) for t in DATA}},
        "diagnostics": {
            "weights": {} if found is None else core.trust(found, chosen),
            "skew": replay.differing.skew,
            "differing_columns": replay.differing.shares,
        },
        "gate": settings.model_dump(mode="json"),
        "limitations": list(core.LIMITATIONS),
    }
    if found is not None and replay.truth is not None:
        written["truth"] = core.true_value(found, chosen, replay.truth) | _true_means(run, with_known_click(test))
    return written


def _true_means(run: Run, rows: pa.Table) -> dict[str, float]:
    """The mean true probabilities of the rows as they were shown; nothing where the world does not know them all."""
    shown_on = pc.cast(rows["event_time"], pa.date32())
    found = []
    for day in pc.unique(shown_on).to_pylist():
        mine = rows.filter(pc.equal(shown_on, pa.scalar(day)))
        user, item, surface = (strings(mine[name]) for name in ("user_id", "item_id", "surface"))
        found.append(true_probabilities(run.config, day, user, item, surface, mine["position"].to_numpy()))
    known = [part for part in found if part is not None]
    if not known or len(known) < len(found):
        return {}
    click, conversion = (np.concatenate(parts).mean() for parts in zip(*known, strict=True))
    return {"p_click": float(click), "p_conversion": float(conversion)}


def _parity(run: Run, test: pa.Table, rows: Scored) -> Finding | None:
    """A warm start's log-loss minus that of the newest full training's challenger, on the same rows; else None."""
    if run.mode == "full":
        return None
    candidates = run.read("candidates", where={"mode": "full"}).to_pylist()
    chosen = [row for row in candidates if row["chosen"] and row["day"] <= run.day.isoformat()]
    if not chosen:
        return Refusal("a warm start is held against the newest full training; found none")
    newest = max(chosen, key=lambda row: str(row["day"]))
    full = bundle.load(Path(newest["bundle"]), newest["bundle_sha256"])
    expected = full.ranker.predict(ranker_columns(with_known_click(test))).p_click
    warm = rows.as_shown["challenger"]
    found = compare(rows.clicked, expected, warm, rows.requests, rows.users, run.config.gate, metrics=["log_loss"])
    return found["log_loss"]["difference"]


def _identity(run: Run) -> pa.Table:
    """Which items are one item, as the dataset of the run's day was told; of none where there was no catalogue."""
    if not any(day <= run.day for day in run.published_days("items")):
        return IDENTITY.empty_table()
    return identities(run.newest("items", IDENTIFYING), run.config.dataset.selection)


def _side(side: Bundle) -> dict[str, Any]:
    return {
        "candidate_id": side.candidate_id,
        "ranker": side.ranker.kind,
        "bundle_sha256": side.sha256,
        "policy": side.policy.model_dump(mode="json"),
        "lineage": dict(side.manifest["lineage"]),
    }


@dataclass(frozen=True)
class Replay:
    """The decisions of all test days (None where none can be replayed) and what is to be said of them."""

    found: Decisions | None
    left_out: dict[str, int]
    differing: Disagreement
    catalogue: int
    """Items that existed."""
    truth: Floats | None
    """Each candidate's true click probability in the simulated world; only for the eyes, the gate never sees it."""


def _replayed(run: Run, test: pa.Table) -> Replay:
    """The test days' decisions, features as known before each day."""
    days = sorted(pc.unique(pc.cast(test["event_time"], pa.date32())).to_pylist())
    published = set(run.published_days("requests"))
    requests = run.read(
        "requests", [d for d in days if d in published], columns=["request_id", "candidates", "slate_size"]
    )
    placed, left_out = first_placements(test, requests)
    of_day = pc.cast(placed["event_time"], pa.date32())
    parts, truths = [], []
    differing = Disagreement()
    catalogue = 0
    for day in days:
        mine = placed.filter(pc.equal(of_day, pa.scalar(day)))
        if not len(mine):
            continue
        # Attributes of a dataset are those of its day, not of each example's: jobs.assemble takes them so.
        known = known_before(run, day, snapshots=run.day)
        catalogue = len(known[-1].items)
        part = decisions(mine, known)
        row = part.row
        parts.append(part)
        truths.append(true_probabilities(run.config, day, part.user_id[row], part.item_id, part.surface[row]))
        differing += disagreement(mine, part)
    told = [truth.click for truth in truths if truth is not None]
    truth = np.concatenate(told) if parts and len(told) == len(parts) else None
    return Replay(joined(parts) if parts else None, left_out, differing, catalogue, truth)
