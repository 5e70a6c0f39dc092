"""`monitor`: what the endpoint served on a day against what was judged, and its traffic against what was learned from.

Alarms are figures; they fail nothing. A figure more is a line of `_day`.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs import bundle
from jobs.deployments import ledger
from jobs.errors import Refused
from jobs.lake.run import Run
from jobs.lake.store import midnight
from jobs.lake.tables import LAKE
from jobs.moment.decisions import Known
from jobs.moment.known import known_before, promised_before
from jobs.monitor import alias, core, incidents, link, page, replay, watch
from jobs.monitor.past import OPEN, Past
from jobs.outcomes import immature_note, told_by, with_clicks
from jobs.places import place
from jobs.serving import answered, captured
from jobs.serving.answer import FALLBACK
from jobs.serving.served import served_by
from models.evaluation.estimate import Refusal
from models.monitoring.day import Held

IMPRESSIONS = [
    *("impression_id", "request_id", "event_time", "user_id", "item_id", "surface", "position", "policy"),
    *("device", "region", "query", "source_item_id", "attributes"),
]
LABELS = ["impression_id", *told_by("clicked")]


def run(run: Run) -> dict[str, Any]:
    """Publish `serving_reports` of each day, and its page; returns the alarms by day, and the last day's incidents.

    Those of a range's other days are history: their pages tell them.
    """
    deployed = ledger.released(run)
    past, alarms = Past.of(run, run.days[0]), {}
    for day in run.days:
        found, served = _day(run, day, deployed, past)
        model = "" if served is None else str(served["candidate_id"])
        report = [*found, *alias.figures(run)]
        rows = _rows(report, past, model)
        run.publish("serving_reports", {"day": str(day)}, pa.Table.from_pylist(rows, LAKE["serving_reports"].schema))
        incident = incidents.incidents(rows, str(day))
        past = past.and_day(rows, day)
        where = link.to(run, day, page.put(run, day, past, incident, model), served)
        alarms[str(day)] = sorted({figure.metric for figure in report if figure.alarm})
        told = [{"state": one.state, "text": one.text()} for one in incident]
        run.say(f"{day}: {len(report)} figures, alarms: {', '.join(alarms[str(day)]) or 'none'}; {where}")
    return {"alarms": sum(map(len, alarms.values())), "alarmed": alarms, "incidents": told, "page": where}


def _rows(report: Sequence[core.Figure], past: Past, model: str) -> list[dict[str, Any]]:
    """As the table has them, with what the days before make of each; what is open and missing today is told so."""
    there = {(figure.metric, figure.surface) for figure in report}
    gone = Refusal("an incident of it is open, and it is not told of this day")
    missing = [
        core.Figure(metric, gone, surface=name) for metric, name in past.still_open() if (metric, name) not in there
    ]
    rows = []
    for figure in sorted([*report, *missing], key=lambda figure: (figure.metric, figure.surface)):
        state = past.state(figure.metric, figure.surface, figure.said)
        suspect = incidents.cause_of(figure.metric).suspect if state in OPEN else ""
        rows.append(figure.row(state, suspect, model))
    return rows


def _day(
    run: Run, day: date, deployed: Sequence[ledger.Row], past: Past
) -> tuple[list[core.Figure], ledger.Row | None]:
    """The day's figures and the ledger's row of the candidate that was watched, None where none served."""
    impressions = run.read("impressions", [day], columns=IMPRESSIONS)
    served = impressions.filter(served_by(impressions["policy"], {row["candidate_id"] for row in deployed}))
    if not len(served):
        return core.nothing_served("no impression of this day was decided by a deployed candidate"), None
    cut = midnight(day + timedelta(days=1))
    labels = run.read("labels", [day], columns=LABELS)
    served = with_clicks(served, labels, cut)
    note = immature_note(served, cut)
    closes = str(day + timedelta(days=run.config.attribution.click_days)) if note else None
    candidate = _most_served(served, deployed)
    evidence = _evidence(run, candidate)
    settings, alarms = run.config.gate, run.config.monitoring
    found = captured.placements(answered.lines(run.config.endpoint, day))
    mine = core.with_capture(served, found.rows)
    known = known_before(run, day, with_users=True)
    return [
        *core.traffic(served, alarms),
        core.torn(found.torn),
        *_skew(run, mine, deployed, known),
        *_replayed(run, day, deployed),
        *core.staleness(mine, promised_before(run, day, known)),
        *(replace(figure, closes=closes) for figure in core.quality(mine, evidence, settings, note)),
        *(replace(figure, closes=closes) for figure in core.earned(served, evidence, settings, alarms, note)),
        *_watched(
            run,
            day,
            candidate,
            past,
            _beside(run, with_clicks(impressions, labels, cut), candidate, deployed, evidence),
        ),
    ], candidate


def _watched(run: Run, day: date, candidate: ledger.Row, past: Past, beside: Held) -> list[core.Figure]:
    """What `jobs.monitor.watch` finds; a bundle that is no longer what was judged is skew's alarm."""
    try:
        model = bundle.load(place(candidate["bundle"]), candidate["bundle_sha256"])
    except Refused as error:
        return [watch.named(beside, run, day), core.Figure("reference_profile", Refusal(str(error)))]
    return watch.watched(run, day, model, past, beside)


def _beside(
    run: Run,
    shown: pa.Table,
    candidate: ledger.Row,
    deployed: Sequence[ledger.Row],
    evidence: dict[str, Any] | None,
) -> Held:
    """The champion beside the users kept from it where there are some, else beside whoever logged the rest."""
    name = candidate["candidate_id"]
    mine = shown.filter(served_by(shown["policy"], {name}))
    others = {row["candidate_id"] for row in deployed} - {name}
    kept = shown.filter(served_by(shown["policy"], others))
    if run.config.release.holdout_percent and len(kept):
        offline = evidence["value"]["difference"] if evidence else None
        return watch.offline_online(mine, kept, offline, "the holdout", run.config.gate.confidence)
    rest = shown.filter(pc.invert(served_by(shown["policy"], {name, *others})))
    offline = evidence["logging"]["difference"] if evidence and evidence.get("logging") else None
    return watch.offline_online(mine, rest, offline, "the logging policy", run.config.gate.confidence)


def _skew(run: Run, shown: pa.Table, deployed: Sequence[ledger.Row], known: Sequence[Known]) -> list[core.Figure]:
    """Skew over all bundles that answered; one that is no longer what was judged is an alarm of its own."""
    compared, offline = [], []
    paths = {row["bundle_sha256"]: place(row["bundle"]) for row in deployed}
    for sha in sorted(set(shown["bundle_sha256"].to_pylist()) - {None}):
        mine = shown.filter(pc.equal(shown["bundle_sha256"], sha)).combine_chunks()
        try:
            if sha not in paths:
                raise Refused(f"bundle {sha[:12]}… answered and was never deployed")
            offline.append(core.recomputed(mine, bundle.load(paths[sha], sha), known))
        except Refused as error:
            return [core.Figure("skew_max", Refusal(str(error), len(mine)), alarm=True)]
        compared.append(mine)
    rows = pa.concat_tables(compared) if compared else shown.slice(0, 0)
    found = np.concatenate(offline) if offline else np.zeros(0)
    return core.skew(rows, found, run.config.monitoring)


def _replayed(run: Run, day: date, deployed: Sequence[ledger.Row]) -> list[core.Figure]:
    """Every bundle's answers given again; one that is no longer what was judged is skew's alarm."""
    try:
        found = [again for _, again in replay.of_day(run, day, deployed)]
    except Refused as error:
        return core.replayed([], run.config.release.max_replay_share, str(error))
    return core.replayed(found, run.config.release.max_replay_share)


def _most_served(served: pa.Table, deployed: Sequence[ledger.Row]) -> ledger.Row:
    """The candidate that decided most impressions of the day; equal ones by name."""
    policies = served["policy"].to_pylist()
    counts = {
        row["candidate_id"]: policies.count(row["candidate_id"]) + policies.count(row["candidate_id"] + FALLBACK)
        for row in deployed
    }
    most = max(sorted(counts), key=lambda name: counts[name])
    return next(row for row in reversed(deployed) if row["candidate_id"] == most)


def _evidence(run: Run, row: ledger.Row) -> dict[str, Any] | None:
    """The document the deployed candidate was judged on; None where it was replaced since."""
    found = run.read("evidence", where={"day": row["day"], "mode": row["mode"]}).to_pylist()
    document = next((e["document"] for e in found if e["document_sha256"] == row["evidence_sha256"]), None)
    return None if document is None else dict(json.loads(document))
