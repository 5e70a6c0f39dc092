"""`reevaluate`: evidence whose test labels close on a day is computed again, and the verdict it would get now.

The same two bundles, the same test rows and every table as the first evidence read it (Delta keeps each version): only
the outcomes differ. The settings of the gate are those of the first document and the latency is the one its verdict was
reached with. Nothing of the first evidence or of the ledger changes; an alarm is a figure, it fails nothing.

A row is one evidence, so one verdict counts once; its figures are a list to unnest (`SELECT figure.* FROM (SELECT
unnest(figures) AS figure FROM reevaluations)` in DuckDB), and the whole matured document lies beside them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs import bundle, tracking
from jobs.asof.wanted import Wanted
from jobs.bundle import Bundle
from jobs.deployments import ledger
from jobs.errors import Refused
from jobs.evidence import computed, held_out, pack
from jobs.evidence import core as backtest
from jobs.evidence.computed import Origin
from jobs.evidence.document import Document
from jobs.evidence.judgement import Judgement, Matured
from jobs.evidence.pack import Pack
from jobs.lake.parts import in_one, whole
from jobs.lake.run import Run
from jobs.lake.store import midnight
from jobs.lake.tables import LAKE
from jobs.outcomes import closes_at
from jobs.parcels.workers import workers
from jobs.places import footer, place
from jobs.reevaluate import core
from models.evaluation.gate import Verdict, judge
from models.settings import GateSettings

BYTES_A_ROW = 150
"""Of memory that one process takes for the label of a row that was judged."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Standing:
    """What the ledger and the pack say of an evidence: its verdict (None: not judged), with every rule, and whether
    the bundle reached the endpoint.
    """

    verdict: str | None
    judgement: Judgement | None
    deployed: bool


def run(run: Run) -> dict[str, Any]:
    """Publish `reevaluations` of each day, empty where nothing closes; returns what changed, and the alarms by day."""
    reevaluated: dict[str, int] = {}
    changed: dict[str, list[str]] = {}
    alarmed: dict[str, list[str]] = {}
    for day in run.days:
        closing = _closing(run, day)
        if not closing:
            run.say(f"{day}: no evidence closes")
        done = [_reevaluated(run, day, row) for row in closing]
        rows = [row for row, _ in done]
        run.publish("reevaluations", {"day": str(day)}, pa.Table.from_pylist(rows, LAKE["reevaluations"].schema))
        for made in (made for _, made in done if made is not None):
            made.put()
        reevaluated[str(day)] = len(rows)
        changed[str(day)] = [row["candidate_id"] for row in rows if row["changed"]]
        alarmed[str(day)] = [row["candidate_id"] for row in rows if row["alarm"]]
    alarms = sum(map(len, alarmed.values()))
    return {"reevaluated": reevaluated, "changed": changed, "alarms": alarms, "alarmed": alarmed}


def _closing(run: Run, day: date) -> list[Row]:
    """The rows of `evidence` whose labels close at the end of `day`, by day and mode.

    Raises `NotReady` where `attribute` has not run for `day`, or for any day since the oldest test day of those rows:
    late events would miss.
    """
    written = [d for d in run.published_days("evidence") if d <= day]
    rows = [(row, json.loads(row["document"])) for row in run.read("evidence", written).to_pylist()]
    found = [(row, tree) for row, tree in rows if core.closes_on(tree) == day]
    oldest = min((core.days_of(tree["data"]["event_time"])[0] for _, tree in found), default=day)
    run.files("labels", [oldest + timedelta(days=n) for n in range((day - oldest).days + 1)])
    return sorted((row for row, _ in found), key=lambda row: (row["day"], row["mode"]))


def _reevaluated(run: Run, day: date, row: Row) -> tuple[Row, Pack | None]:
    """The row of one evidence, everything computed and in MLflow, with the pack to put there; or why not."""
    standing = _standing(run, row)
    told = {
        **{name: row[name] for name in ("candidate_id", "champion_id", "bundle_sha256", "mode")},
        "evidence_day": row["day"],
        "evidence_sha256": row["document_sha256"],
        "deployed": standing.deployed,
    }
    try:
        first = pack.parsed(row["document"], run.stage.name)
        matured, again = _computed(run, day, first, standing)
    except Refused as error:
        run.say(f"{row['candidate_id']}: {error}")
        nothing: Row = dict.fromkeys(LAKE["reevaluations"].columns)
        nothing |= {name: [] for name in ("matured_reasons", "label_changes", "figures")}
        alarm = core.alarming(standing.deployed, None)
        return nothing | told | {"first_verdict": standing.verdict, "alarm": alarm, "refused": str(error)}, None
    made = pack.of(run, first, matured=matured)
    figures = backtest.figures(again.model_copy(update={"truth": None}))
    metrics = {f"matured.{name}": figure for name, figure in figures.items()}
    tracking.log_evidence(run.config, first.challenger.run_id, metrics, made.logged)
    run.say(f"{row['candidate_id']}: {matured.first_verdict or 'not judged'} -> {matured.matured_verdict or 'unknown'}")
    alarm = core.alarming(standing.deployed, matured.matured_verdict)
    found = matured.model_dump(exclude={"day", "evidence_sha256"})
    return told | found | {"alarm": alarm, "document": pack.text(again)}, made


def _standing(run: Run, row: Row) -> Standing:
    """A verdict on other evidence, or on other bytes, is none on this."""
    mine = ("day", "mode", "candidate_id", "bundle_sha256")
    judged = next((r for r in run.read("promotions").to_pylist() if all(r[name] == row[name] for name in mine)), None)
    of_this = judged is not None and judged["evidence_sha256"] == row["document_sha256"]
    return Standing(
        verdict=judged["verdict"] if judged is not None and of_this else None,
        judgement=pack.judgement(run, row),
        deployed=any(all(r[name] == row[name] for name in mine) for r in ledger.deployed(run)),
    )


def _computed(run: Run, day: date, first: Document, standing: Standing) -> tuple[Matured, Document]:
    """What `matured.json` says, and the matured document; raises `Refused` where it cannot be computed again."""
    as_judged = _as_judged(run, first)
    test = held_out.judged(as_judged, first.judged_on)
    late_days = run.config.attribution.late_days
    labels = _labels(run, day, first, Wanted.of(test["impression_id"]))
    labelled = core.relabelled(test, labels, _cut(day), late_days, run.config.outcomes)
    pair = _bundle(run, first.champion.bundle_sha256), _bundle(run, first.challenger.bundle_sha256)
    again = computed.document(as_judged, labelled, pair, Origin.of(first))
    for table, version in as_judged.inputs.items():
        if table in run.stage.reads:
            run.inputs.setdefault(table, version)
    verdict, refused = _verdict(again, first.gate, standing)
    matured = Matured(
        evidence_sha256=pack.sha256(first),
        day=day.isoformat(),
        test_rows=len(test),
        label_changes=core.label_changes(test, labelled),
        figures=core.moved(first, again),
        first_verdict=standing.verdict,
        matured_verdict=None if verdict is None else verdict.verdict,
        changed=core.changed(standing.verdict, None if verdict is None else verdict.verdict),
        matured_reasons=[] if verdict is None else verdict.reasons,
        refused=refused,
    )
    return matured, again


def _as_judged(run: Run, first: Document) -> Run:
    """A run of the evidence's day and mode, its gate's settings, and the version of every table its run had read."""
    config = run.config.model_copy(update={"gate": first.gate})
    lineage = run.lineage("evidence", {"day": first.day, "mode": first.mode}) or {"inputs": "{}"}
    inputs = {table: n for table, n in first.data.versions.items() if n is not None} | json.loads(lineage["inputs"])
    return replace(run, config=config, day=date.fromisoformat(first.day), since=None, mode=first.mode, inputs=inputs)


def _cut(day: date) -> datetime:
    """What is known before it is known at the end of `day`."""
    return midnight(day + timedelta(days=1))


def _labels(run: Run, day: date, first: Document, judged: Wanted) -> pa.Table:
    """The labels of the rows judged, of days that may have many more; raises `Refused` where any of the days' are open
    still, by windows that were set since.
    """
    late_days, days = run.config.attribution.late_days, core.days_of(first.data.event_time)

    def kept(some: Iterator[pa.Table]) -> tuple[datetime, list[pa.Table]]:
        last, mine = _cut(day), list[pa.Table]()
        for labels in some:
            last = max(last, pc.max(closes_at(labels["matures_at"], "converted", late_days)).as_py() or last)
            mine.append(judged.among(labels, "impression_id"))
        return last, in_one(mine)

    with workers(run, sum(footer(path).num_rows for path, _ in run.files("labels", days)), BYTES_A_ROW):
        found = [*run.told("labels", days, list(core.LABELS), kept)]
    last = max((closes for closes, _ in found), default=_cut(day))
    if last > _cut(day):
        raise Refused(f"labels must be closed at the end of {day}, as when they were judged; found some open to {last}")
    return whole("labels", core.LABELS, chain.from_iterable(mine for _, mine in found)).combine_chunks()


def _bundle(run: Run, sha256: str) -> Bundle:
    """Wherever a candidate, a verdict or the ledger says it lies; raises `Refused` where it is gone or another."""
    rows = [row for table in ("candidates", "promotions", "deployments") for row in run.read(table).to_pylist()]
    folder = next((row["bundle"] for row in rows if row["bundle_sha256"] == sha256), None)
    if folder is None:
        raise Refused(f"bundle {sha256[:12]}… must be in candidates, promotions or deployments; found in none")
    return bundle.load(place(folder), sha256)


def _verdict(again: Document, gate: GateSettings, standing: Standing) -> tuple[Verdict | None, str | None]:
    """What the gate says now, or why it cannot; latency is not asked where nobody had judged, since nobody measured."""
    found, latency = backtest.gate_evidence(again), core.latency_ms(standing.judgement)
    if latency is not None:
        return judge(found.with_latency(latency), gate), None
    if standing.verdict is not None and gate.max_latency_ms is not None:
        return None, f"the latency of the first verdict must be in {pack.VERDICT} beside this evidence; found none"
    return judge(found, gate.model_copy(update={"max_latency_ms": None})), None
