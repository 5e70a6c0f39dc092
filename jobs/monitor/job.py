"""`monitor`: what the endpoint served on a day against what was judged. Alarms are figures; they fail nothing.

It reads the local endpoint's data capture; a capture on S3 is not read yet.
"""

import json
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
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
from jobs.monitor import alias, core, replay
from jobs.outcomes import immature_note, told_by, with_clicks
from jobs.serving import captured
from jobs.serving.answer import FALLBACK
from jobs.serving.capture import CAPTURE
from jobs.serving.served import served_by
from models.evaluation.estimate import Refusal

IMPRESSIONS = [
    *("impression_id", "request_id", "event_time", "user_id", "item_id", "surface", "position", "policy"),
    *("device", "region", "query", "source_item_id", "attributes"),
]
LABELS = ["impression_id", *told_by("clicked")]


def run(run: Run) -> dict[str, Any]:
    """Publish `serving_reports` of each day; returns the alarms by day."""
    deployed = ledger.released(run)
    alarms = {}
    for day in run.days:
        report = [*_day(run, day, deployed), *alias.figures(run)]
        rows = [figure.row() for figure in sorted(report, key=lambda figure: figure.metric)]
        run.publish("serving_reports", {"day": str(day)}, pa.Table.from_pylist(rows, LAKE["serving_reports"].schema))
        alarms[str(day)] = [figure.metric for figure in report if figure.alarm]
        run.say(f"{day}: {len(report)} figures, alarms: {', '.join(alarms[str(day)]) or 'none'}")
    return {"alarms": sum(map(len, alarms.values())), "alarmed": alarms}


def _day(run: Run, day: date, deployed: Sequence[ledger.Row]) -> list[core.Figure]:
    impressions = run.read("impressions", [day], columns=IMPRESSIONS)
    served = impressions.filter(served_by(impressions["policy"], {row["candidate_id"] for row in deployed}))
    if not len(served):
        return core.nothing_served("no impression of this day was decided by a deployed candidate")
    cut = midnight(day + timedelta(days=1))
    served = with_clicks(served, run.read("labels", [day], columns=LABELS), cut)
    note = immature_note(served, cut)
    candidate = _most_served(served, deployed)
    evidence = _evidence(run, candidate)
    settings, alarms = run.config.gate, run.config.monitoring
    folder = run.config.endpoint.state / CAPTURE / f"date={day}"
    found = captured.placements(captured.lines(folder))
    answered = core.with_capture(served, found.rows)
    known = known_before(run, day, with_users=True)
    return [
        *core.traffic(served, alarms),
        core.torn(found.torn),
        *_skew(run, answered, deployed, known),
        *_replayed(run, day, deployed),
        *core.staleness(answered, promised_before(run, day, known)),
        *core.quality(answered, evidence, settings, note),
        *core.earned(served, evidence, settings, alarms, note),
    ]


def _skew(run: Run, answered: pa.Table, deployed: Sequence[ledger.Row], known: Sequence[Known]) -> list[core.Figure]:
    """Skew over all bundles that answered; one that is no longer what was judged is an alarm of its own."""
    compared, offline = [], []
    paths = {row["bundle_sha256"]: Path(row["bundle"]) for row in deployed}
    for sha in sorted(set(answered["bundle_sha256"].to_pylist()) - {None}):
        mine = answered.filter(pc.equal(answered["bundle_sha256"], sha)).combine_chunks()
        try:
            if sha not in paths:
                raise Refused(f"bundle {sha[:12]}… answered and was never deployed")
            offline.append(core.recomputed(mine, bundle.load(paths[sha], sha), known))
        except Refused as error:
            return [core.Figure("skew_max", Refusal(str(error), len(mine)), alarm=True)]
        compared.append(mine)
    rows = pa.concat_tables(compared) if compared else answered.slice(0, 0)
    found = np.concatenate(offline) if offline else np.zeros(0)
    return core.skew(rows, found, run.config.monitoring)


def _replayed(run: Run, day: date, deployed: Sequence[ledger.Row]) -> list[core.Figure]:
    """Every bundle's answers given again; one that is no longer what was judged is skew's alarm."""
    try:
        found = [replay.of_bundle(run, row, day) for row in deployed]
    except Refused as error:
        return core.replayed([], run.config.release.max_replay_share, str(error))
    return core.replayed([one for one in found if one is not None], run.config.release.max_replay_share)


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
