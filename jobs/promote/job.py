"""`promote`: the gate's verdict on evidence that compares with what serves. Hold and refuse are data, and end well too.

It registers a model version in MLflow and leaves the champion alias alone; `deploy` moves that, after a person's yes to
this evidence, this bundle and this champion, which the report names.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from jobs import bundle, tracking
from jobs.deployments import ledger
from jobs.deployments.release import check_opponent, opponent_sha256
from jobs.errors import NotReady, Refused
from jobs.evidence import pack
from jobs.evidence.core import gate_evidence
from jobs.evidence.judgement import Judgement
from jobs.lake.run import Run, now
from jobs.lake.tables import LAKE
from jobs.places import place
from jobs.promote import core
from jobs.promote.latency import latency_ms
from models.evaluation.gate import judge


def run(run: Run) -> dict[str, Any]:
    """Publish the `promotions` row of a day and mode; returns the verdict and what an approver should read."""
    evidence = _only(run, "evidence")
    document = pack.parsed(evidence["document"], run.stage.name)
    candidate = _candidate(run, evidence, document.challenger.day)
    judged = bundle.load(place(candidate["bundle"]), evidence["bundle_sha256"])
    told = document.model_dump(mode="json")
    champion = ledger.champion(run, run.config.endpoint.name)
    if champion is None or champion["bundle_sha256"] != evidence["bundle_sha256"]:  # else it serves already
        check_opponent(told, champion, "run backtest again")
    verdict = judge(gate_evidence(document).with_latency(latency_ms(judged)), run.config.gate)
    run.say(f"{verdict.verdict}:")
    for reason in verdict.reasons:
        run.say(f"  {reason}")
    row = {
        "candidate_id": candidate["candidate_id"],
        "champion_id": evidence["champion_id"],
        "bundle": candidate["bundle"],
        "bundle_sha256": candidate["bundle_sha256"],
        "evidence_sha256": evidence["document_sha256"],
        "look": document.risk.look,
        "verdict": verdict.verdict,
        "reasons": verdict.reasons,
        "decided_at": now(),
    }
    before = run.read("promotions", where=run.partition).to_pylist()
    core.check_risk(before, row)
    judgement = Judgement.of(verdict, evidence["document_sha256"])
    made = pack.of(run, document, judgement)
    tracking.log_evidence(run.config, candidate["run_id"], {}, made.logged)
    page = f"{tracking.EVIDENCE}/{made.logged_in}{pack.PAGE}"
    url = tracking.artifact_url(run.config, candidate["run_id"], page)
    version = tracking.register(
        run.config,
        candidate["run_id"],
        candidate["candidate_id"],
        candidate["bundle_sha256"],
        verdict.verdict,
        {"evidence_sha256": evidence["document_sha256"], "evidence": f"runs:/{candidate['run_id']}/{page}"},
    )
    row = core.standing(before, row)
    run.publish("promotions", run.partition, pa.Table.from_pylist([row], LAKE["promotions"].schema))
    made.put()
    return {
        "verdict": verdict.verdict,
        "reasons": verdict.reasons,
        "candidate_id": row["candidate_id"],
        "champion_id": row["champion_id"],
        "model_version": version,
        "evidence_sha256": row["evidence_sha256"],
        "bundle_sha256": row["bundle_sha256"],
        "champion_sha256": opponent_sha256(told),
        "told": core.told(document, judgement),
        "summary": core.summary(document, judgement, url or made.folder / pack.PAGE),
    }


def _candidate(run: Run, evidence: Mapping[str, Any], trained: str) -> dict[str, Any]:
    """The row in `candidates` that the evidence is on; raises `NotReady` where it was trained again since."""
    candidates = run.read("candidates", where={"day": trained, "mode": run.mode}).to_pylist()
    candidate = next((c for c in candidates if c["candidate_id"] == evidence["candidate_id"]), None)
    if candidate is None or candidate["bundle_sha256"] != evidence["bundle_sha256"]:
        raise NotReady(
            f"evidence on {evidence['candidate_id']} {evidence['bundle_sha256'][:12]}… must be of the trained one; "
            f"found {candidate and candidate['bundle_sha256'][:12]}: run backtest again"
        )
    return dict(candidate)


def _only(run: Run, table: str) -> dict[str, Any]:
    """The one row of this day and mode."""
    rows: list[dict[str, Any]] = run.read(table, [run.day], where=run.partition).to_pylist()
    if len(rows) != 1:
        raise Refused(f"table {table} needs one row for {run.partition}; found {len(rows)}")
    return rows[0]
