"""`backtest`: challenger and champion on the same held-out rows and the same logged decisions; what both can tell.

The document is the record; MLflow and the folder beside the bundle hold copies of it with a page for people.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs import bundle, tracking
from jobs.backtest import looks
from jobs.bundle import Bundle
from jobs.deployments import ledger
from jobs.evidence import computed, core, data_warnings, pack
from jobs.evidence.dataset import published
from jobs.evidence.document import Document
from jobs.flow import VALIDATED
from jobs.lake.run import Run
from jobs.lake.tables import LAKE
from models.rankers import BASELINE


def run(run: Run) -> dict[str, Any]:
    """Publish the `evidence` on the challenger of a day and mode; returns the estimates behind the verdict."""
    candidates = {row["ranker"]: row for row in run.read("candidates", [run.day], where=run.partition).to_pylist()}
    row = next(row for row in candidates.values() if row["chosen"])
    challenger = bundle.load(Path(row["bundle"]), row["bundle_sha256"])
    champion, deployed = _champion(run, challenger, candidates[BASELINE])
    run.say(f"challenger {challenger.candidate_id}, champion {champion.candidate_id}")
    days, test = data_warnings.span(_days(run)), computed.held_out(run)
    origin = computed.Origin(
        run_id=row["run_id"],
        deployed=deployed,
        warnings=[
            *data_warnings.of_delays(challenger.manifest["lineage"]),
            *data_warnings.by_rule({table: run.lineages(table, days) for table in VALIDATED}),
        ],
        dataset=published(run.lineage("examples", run.partition)),
        risk=looks.begun(run, challenger.sha256),
    )
    document = computed.document(run, test, (champion, challenger), origin)
    if looks.judged_otherwise(run, document.risk, pack.sha256(document)):
        run.say(f"look {document.risk.look} was judged on another evidence: this one is a look of its own")
        origin = replace(origin, risk=looks.begin(run))
        document = computed.document(run, test, (champion, challenger), origin)
    _deliver(run, document)
    truth = document.truth
    return {
        "challenger": challenger.candidate_id,
        "champion": champion.candidate_id,
        "decisions": document.data.decisions,
        "value": document.value.model_dump(),
        "logging": document.logging.value.model_dump(),
        "truth": None if truth is None else truth.model_dump(),
        "risk": document.risk.model_dump(exclude={"looks"}),
        **{f"{name}_difference": sides.difference.model_dump() for name, sides in document.comparison.items()},
    }


def _days(run: Run) -> list[date]:
    """The days the examples come from."""
    times = run.read("examples", [run.day], where={"mode": run.mode}, columns=["event_time"])["event_time"]
    days: list[date] = pc.unique(pc.cast(times, pa.date32())).to_pylist()
    return days


def _champion(run: Run, challenger: Bundle, baseline: Mapping[str, Any]) -> tuple[Bundle, bool]:
    """What serves, as it was judged, or served before the challenger; else what the endpoint's fallback would serve."""
    row = ledger.champion(
        run, run.config.endpoint.name, where=lambda row: bool(row["bundle_sha256"] != challenger.sha256)
    )
    found = baseline if row is None else row
    return bundle.load(Path(found["bundle"]), found["bundle_sha256"]), row is not None


def _deliver(run: Run, document: Document) -> None:
    """MLflow first, which may be down; then the record; the pack last, once there is such evidence."""
    made = pack.of(run, document)
    tracking.log_evidence(run.config, document.challenger.run_id, core.figures(document), made.files)
    row = {
        "candidate_id": document.challenger.candidate_id,
        "champion_id": document.champion.candidate_id,
        "bundle_sha256": document.challenger.bundle_sha256,
        "document": pack.text(document),
        "document_sha256": pack.sha256(document),
    }
    run.publish("evidence", run.partition, pa.Table.from_pylist([row], LAKE["evidence"].schema))
    made.put()
