"""`backtest`: challenger and champion on the same held-out rows and the same logged decisions; what both can tell.

The document is the record; MLflow and the folder beside the bundle hold copies of it with a page for people.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs import bundle, tracking
from jobs.bundle import Bundle
from jobs.deployments import ledger
from jobs.errors import NotReady
from jobs.evidence import computed, core, data_warnings, pack
from jobs.evidence.dataset import published
from jobs.flow import VALIDATED
from jobs.lake.run import Run, code_version
from jobs.lake.tables import LAKE
from models.rankers import BASELINE


def run(run: Run) -> dict[str, Any]:
    """Publish the `evidence` on the challenger of a day and mode; returns the estimates behind the verdict."""
    candidates = {row["ranker"]: row for row in run.read("candidates", [run.day], where=run.partition).to_pylist()}
    row = next(row for row in candidates.values() if row["chosen"])
    challenger = bundle.load(Path(row["bundle"]), row["bundle_sha256"])
    champion, deployed = _champion(run, challenger, candidates[BASELINE])
    run.say(f"challenger {challenger.candidate_id}, champion {champion.candidate_id}")
    examples = run.read("examples", [run.day], where={"mode": run.mode})
    test = examples.filter(pc.equal(examples["split"], "test")).combine_chunks()
    if not len(test):
        raise NotReady(f"the backtest needs test rows in examples {run.partition}; found none of {len(examples)}")
    document = computed.document(run, test, (champion, challenger))
    document["challenger"] |= {"run_id": row["run_id"]}
    document["champion"] |= {"deployed": deployed}
    days = data_warnings.span(pc.unique(pc.cast(examples["event_time"], pa.date32())).to_pylist())
    document["warnings"] = data_warnings.by_rule({table: run.lineages(table, days) for table in VALIDATED})
    document["dataset"] = published(run.lineage("examples", run.partition))
    document["lineage"] = {"code_version": code_version(), "config_hash": run.config.digest(run.stage.name)}
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


def _champion(run: Run, challenger: Bundle, baseline: Mapping[str, Any]) -> tuple[Bundle, bool]:
    """What serves, as it was judged, or served before the challenger; else what the endpoint's fallback would serve."""
    row = ledger.champion(
        run, run.config.endpoint.name, where=lambda row: bool(row["bundle_sha256"] != challenger.sha256)
    )
    found = baseline if row is None else row
    return bundle.load(Path(found["bundle"]), found["bundle_sha256"]), row is not None


def _deliver(run: Run, document: dict[str, Any], run_id: str) -> None:
    """Files and MLflow first, the table last: published evidence is complete everywhere."""
    challenger = document["challenger"]
    folder = pack.write(run, document)
    tracking.log_evidence(run.config, run_id, core.figures(document), folder)
    row = {
        "candidate_id": challenger["candidate_id"],
        "champion_id": document["champion"]["candidate_id"],
        "bundle_sha256": challenger["bundle_sha256"],
        "document": pack.text(document),
        "document_sha256": pack.sha256(document),
    }
    run.publish("evidence", run.partition, pa.Table.from_pylist([row], LAKE["evidence"].schema))
