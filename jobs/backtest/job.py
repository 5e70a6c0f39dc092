"""`backtest`: challenger and champion on the same held-out rows and the same logged decisions; what both can tell.

The document is the record; MLflow and the folder beside the bundle hold copies of it with a picture for people.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs import bundle, tracking
from jobs.backtest import core, picture
from jobs.backtest.decisions import Decisions, decisions, disagreement, first_placements, joined
from jobs.backtest.known import known_before
from jobs.bundle import Bundle
from jobs.errors import NotReady
from jobs.ingest.truth import true_click_probability
from jobs.promote import ledger
from jobs.run import Run
from jobs.swap import swap
from jobs.tables import LAKE
from jobs.train.core import BASELINE
from models.rankers.protocol import Floats

DATA = ("examples", "requests", "items", "user_features", "item_features")


def run(run: Run) -> dict[str, Any]:
    """Publish the `evidence` on the challenger of a day and mode; returns the estimates behind the verdict."""
    candidates = {row["ranker"]: row for row in run.read("candidates", [run.day], where=run.partition).to_pylist()}
    row = next(row for row in candidates.values() if row["chosen"])
    challenger = bundle.load(Path(row["bundle"]), row["bundle_sha256"])
    champion, deployed = _champion(run, candidates[BASELINE])
    run.say(f"challenger {challenger.candidate_id}, champion {champion.candidate_id}")
    examples = run.read("examples", [run.day], where={"mode": run.mode})
    test = examples.filter(pc.equal(examples["split"], "test")).combine_chunks()
    if not len(test):
        raise NotReady(f"the backtest needs test rows in examples {run.partition}; found none of {len(examples)}")
    document = _document(run, test, (champion, challenger))
    document["challenger"] |= {"run_id": row["run_id"]}
    document["champion"] |= {"deployed": deployed}
    _deliver(run, document, row["run_id"])
    findings = {f"{name}_difference": sides["difference"] for name, sides in document["comparison"].items()}
    return {
        "challenger": challenger.candidate_id,
        "champion": champion.candidate_id,
        "decisions": document["data"]["decisions"],
        "value": document["value"],
        "logging": document["logging"]["value"],
        "truth": document.get("truth"),
        **findings,
    }


def _champion(run: Run, baseline: Mapping[str, Any]) -> tuple[Bundle, bool]:
    """The deployed champion as it was judged; where there is none, what the endpoint's fallback would serve."""
    row = ledger.champion(run, run.day, before=run.partition)
    found = baseline if row is None else row
    return bundle.load(Path(found["bundle"]), found["bundle_sha256"]), row is not None


def _document(run: Run, test: pa.Table, pair: core.Pair) -> dict[str, Any]:
    """The evidence; same inputs, same document: no clock, no run id."""
    settings, seed = run.config.gate, run.config.ranker.seed
    compared = core.comparison(test, pair, settings, seed)
    run.say(f"compared on {len(test)} test rows")
    replay = _replayed(run, test)
    found = replay.found
    chosen = {} if found is None else {s: core.choices(found, b) for s, b in zip(core.SIDES, pair, strict=True)}
    counted = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in replay.left_out.items() if n)
    why_not = f"a replay needs requests with candidates and a propensity; found none: {counted or 'no requests'}"
    values = core.value(found, chosen, why_not, settings)
    run.say(f"replayed {0 if found is None else len(found)} decisions")
    champion, challenger = pair
    logging = values.pop("logging")
    document: dict[str, Any] = {
        "schema_version": core.SCHEMA_VERSION,
        "day": run.day.isoformat(),
        "mode": run.mode,
        "challenger": _side(challenger),
        "champion": _side(champion),
        "bundle_sha256": challenger.sha256,
        "policy": challenger.policy.model_dump(mode="json"),
        "same_candidate": challenger.candidate_id == champion.candidate_id,
        "test_rows": int(pc.sum(test["clicked"].is_valid()).as_py()),
        "comparison": {m: {s: f.as_dict() for s, f in sides.items()} for m, sides in compared.items()},
        "value": {side: finding.as_dict() for side, finding in values.items()},
        "logging": {"value": logging.as_dict()},
        "calibration": core.calibration(test, pair),
        "data": core.data_card(test, found, replay.left_out) | {"versions": {t: run.inputs.get(t) for t in DATA}},
        "diagnostics": {
            "weights": {} if found is None else core.trust(found, chosen),
            "differing_columns": replay.differing,
        },
        "gate": settings.model_dump(mode="json"),
        "limitations": list(core.LIMITATIONS),
    }
    if found is not None and replay.truth is not None:
        document["truth"] = core.true_value(found, chosen, replay.truth)
    return document


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
    differing: dict[str, float]
    truth: Floats | None
    """Each candidate's true click probability in the simulated world; only for the eyes, the gate never sees it."""


def _replayed(run: Run, test: pa.Table) -> Replay:
    """The test days' decisions, features as known before each day."""
    days = sorted(pc.unique(pc.cast(test["event_time"], pa.date32())).to_pylist())
    published = set(run.published_days("requests"))
    requests = run.read("requests", [d for d in days if d in published], columns=["request_id", "candidates"])
    placed, left_out = first_placements(test, requests)
    of_day = pc.cast(placed["event_time"], pa.date32())
    parts, truths = [], []
    differing: dict[str, float] = {}
    for day in days:
        mine = placed.filter(pc.equal(of_day, pa.scalar(day)))
        if not len(mine):
            continue
        # Attributes of a dataset are those of its day, not of each example's: jobs.assemble takes them so.
        part = decisions(mine, known_before(run, day, snapshots=run.day))
        row = part.row
        parts.append(part)
        truths.append(true_click_probability(run.config, day, part.user_id[row], part.item_id, part.surface[row]))
        differing |= disagreement(mine, part)
    known = [truth for truth in truths if truth is not None]
    truth = np.concatenate(known) if parts and len(known) == len(parts) else None
    return Replay(joined(parts) if parts else None, left_out, differing, truth)


def _deliver(run: Run, document: dict[str, Any], run_id: str) -> None:
    """Files and MLflow first, the table last: published evidence is complete everywhere."""
    text = json.dumps(document, sort_keys=True, allow_nan=False)
    challenger = document["challenger"]
    folder = run.config.bundles / f"{challenger['candidate_id']}.evidence"
    draft = folder.with_name(f".{folder.name}.{run.run_id}")
    draft.mkdir(parents=True)
    (draft / "evidence.json").write_text(json.dumps(document, indent=1, sort_keys=True))
    png = picture.png(document)
    (draft / "evidence.png").write_bytes(png)
    (draft / "evidence.html").write_text(picture.html(document, png))
    swap(draft, folder)
    shutil.rmtree(draft, ignore_errors=True)  # what lay there before
    tracking.log_evidence(run.config, run_id, core.figures(document), folder)
    row = {
        "candidate_id": challenger["candidate_id"],
        "champion_id": document["champion"]["candidate_id"],
        "bundle_sha256": challenger["bundle_sha256"],
        "document": text,
        "document_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    run.publish("evidence", run.partition, pa.Table.from_pylist([row], LAKE["evidence"].schema))
