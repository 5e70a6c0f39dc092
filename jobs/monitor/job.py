"""`monitor`: what the endpoint served on a day against what was judged, and its traffic against what was learned from.

Alarms are figures; they fail nothing. A figure more is a line of `_day`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs import bundle
from jobs.asof.wanted import Wanted
from jobs.bundle import Bundle
from jobs.deployments import ledger
from jobs.errors import Refused
from jobs.lake.run import Run
from jobs.lake.store import midnight
from jobs.lake.tables import LAKE
from jobs.moment.decisions import Known
from jobs.moment.known import known_before, promised_before
from jobs.monitor import alias, core, incidents, link, page, replay, rows, watch
from jobs.monitor.past import OPEN, Past
from jobs.outcomes import immature_note, told_by, with_clicks
from jobs.parcels.core import bucket_of
from jobs.parcels.workers import workers
from jobs.places import place
from jobs.serving.served import policies_of, served_by
from models.evaluation.estimate import Refusal
from models.monitoring.day import Held

IMPRESSIONS = [
    *("impression_id", "request_id", "event_time", "user_id", "item_id", "surface", "position", "policy"),
    *("device", "region", "query", "source_item_id", "attributes"),
]
BESIDE = ["impression_id", "request_id", "user_id", "position", "policy"]
LABELS = ["impression_id", *told_by("clicked")]
AT_ONCE = 1 << 16
"""Rows whose columns are held together: about 70 MiB."""


def run(run: Run) -> dict[str, Any]:
    """Publish `serving_reports` of each day, and its page; returns the alarms by day, and the last day's incidents.

    Those of a range's other days are history: their pages tell them.
    """
    deployed = ledger.released(run)
    past, alarms = Past.of(run, run.days[0]), {}
    for day in run.days:
        with workers(run, rows.count(run, [day]), rows.BYTES_A_ROW):
            found, served = _day(run, day, deployed, past)
        model = "" if served is None else str(served["candidate_id"])
        report = [*found, *alias.figures(run)]
        told = _rows(report, past, model)
        run.publish("serving_reports", {"day": str(day)}, pa.Table.from_pylist(told, LAKE["serving_reports"].schema))
        incident = incidents.incidents(told, str(day))
        past = past.and_day(told, day)
        where = link.to(run, day, page.put(run, day, past, incident, model), served)
        alarms[str(day)] = sorted({figure.metric for figure in report if figure.alarm})
        last = [{"state": one.state, "text": one.text()} for one in incident]
        run.say(f"{day}: {len(report)} figures, alarms: {', '.join(alarms[str(day)]) or 'none'}; {where}")
    return {"alarms": sum(map(len, alarms.values())), "alarmed": alarms, "incidents": last, "page": where}


def _rows(report: Sequence[core.Figure], past: Past, model: str) -> list[dict[str, Any]]:
    """As the table has them, with what the days before make of each; what is open and missing today is told so."""
    there = {(figure.metric, figure.surface) for figure in report}
    gone = Refusal("an incident of it is open, and it is not told of this day")
    missing = [
        core.Figure(metric, gone, surface=name) for metric, name in past.still_open() if (metric, name) not in there
    ]
    found = []
    for figure in sorted([*report, *missing], key=lambda figure: (figure.metric, figure.surface)):
        state = past.state(figure.metric, figure.surface, figure.said)
        suspect = incidents.cause_of(figure.metric).suspect if state in OPEN else ""
        found.append(figure.row(state, suspect, model))
    return found


def _day(
    run: Run, day: date, deployed: Sequence[ledger.Row], past: Past
) -> tuple[list[core.Figure], ledger.Row | None]:
    """The day's figures and the ledger's row of the candidate that was watched, None where none served."""
    ours = rows.Where("policy", policies_of({row["candidate_id"] for row in deployed}))
    decided = rows.policies(run, day)
    counts = {policy: n for policy, n in decided.items() if policy in ours.values}
    if not counts:
        live = ledger.champion(run, run.config.endpoint.name, as_of=midnight(day))
        return core.nothing_served(None if live is None else live["candidate_id"]), None
    cut = midnight(day + timedelta(days=1))
    served = rows.of_some_users(run, "impressions", day, IMPRESSIONS, rows.MOST_JUDGED, ours)
    served = _with_clicks(run, day, served, cut)
    note = immature_note(served, cut)
    closes = str(day + timedelta(days=run.config.attribution.click_days)) if note else None
    candidate = _most_served(counts, deployed)
    evidence = _evidence(run, candidate)
    settings, alarms = run.config.gate, run.config.monitoring
    found = rows.answers(run, day, Wanted.of(served["request_id"]))
    mine = core.with_capture(served, found.rows)
    skew, known = _skew(run, day, mine, deployed)
    return [
        *core.traffic(counts, rows.requests(run, day, ours, sum(counts.values())), alarms),
        core.torn(found.torn),
        *skew,
        *_replayed(run, day, deployed),
        *core.staleness(mine, promised_before(run, day, known)),
        *(replace(figure, closes=closes) for figure in core.quality(mine, evidence, settings, note)),
        *(replace(figure, closes=closes) for figure in core.earned(served, evidence, settings, alarms, note)),
        *_watched(
            run,
            day,
            candidate,
            past,
            _beside(run, day, decided, candidate, deployed, evidence),
        ),
    ], candidate


def _with_clicks(run: Run, day: date, shown: pa.Table, cut: datetime) -> pa.Table:
    """The impressions that have a label, with what it says as of the cut."""
    labels = Wanted.of(shown["impression_id"]).read(run, "labels", [day], LABELS, "impression_id")
    return with_clicks(shown, labels, cut)


def _watched(run: Run, day: date, candidate: ledger.Row, past: Past, beside: Held) -> list[core.Figure]:
    """What `jobs.monitor.watch` finds; a bundle that is no longer what was judged is skew's alarm."""
    try:
        model = bundle.load(place(candidate["bundle"]), candidate["bundle_sha256"])
    except Refused as error:
        return [watch.named(beside, run, day), core.Figure("reference_profile", Refusal(str(error)))]
    return watch.watched(run, day, model, past, beside)


def _beside(
    run: Run,
    day: date,
    decided: Mapping[str, int],
    candidate: ledger.Row,
    deployed: Sequence[ledger.Row],
    evidence: dict[str, Any] | None,
) -> Held:
    """The champion beside the users kept from it where there are some, else beside whoever logged the rest."""
    first = rows.Where("position", [1])
    shown = rows.of_some_users(run, "impressions", day, BESIDE, rows.MOST_JUDGED, first)
    shown = _with_clicks(run, day, shown, midnight(day + timedelta(days=1)))
    name = candidate["candidate_id"]
    mine = shown.filter(served_by(shown["policy"], {name}))
    others = {row["candidate_id"] for row in deployed} - {name}
    if run.config.release.holdout_percent and any(policy in decided for policy in policies_of(others)):
        kept = shown.filter(served_by(shown["policy"], others))
        offline = evidence["value"]["difference"] if evidence else None
        return watch.offline_online(mine, kept, offline, "the holdout", run.config.gate.confidence)
    rest = shown.filter(pc.invert(served_by(shown["policy"], {name, *others})))
    offline = evidence["logging"]["difference"] if evidence and evidence.get("logging") else None
    return watch.offline_online(mine, rest, offline, "the logging policy", run.config.gate.confidence)


def _skew(
    run: Run, day: date, shown: pa.Table, deployed: Sequence[ledger.Row]
) -> tuple[list[core.Figure], list[Known]]:
    """Skew over all bundles that answered, and the feature days that they were to see; a bundle that is no longer what
    was judged is an alarm of its own.

    Users by users: what is known of so many as `MOST_ROWS` rows have is in memory at a time.
    """
    shown = shown.filter(shown["bundle_sha256"].is_valid())
    parts = max(1, -(-len(shown) // rows.MOST_ROWS))
    part, offline = bucket_of(shown, ("user_id", "request_id"), parts), np.empty(len(shown))
    models, alarm = _answering(shown, deployed)
    known: list[Known] = []
    for number in range(parts):
        here = np.flatnonzero(part == number)
        some = shown.take(pa.array(here))
        known = known_before(run, day, with_users=True, of=Wanted.of(some["user_id"]))
        for sha, model in models.items():
            mine = np.flatnonzero(pc.equal(some["bundle_sha256"], sha).to_numpy())
            for start in range(0, len(mine), AT_ONCE):
                at = mine[start : start + AT_ONCE]
                offline[here[at]] = core.recomputed(some.take(pa.array(at)).combine_chunks(), model, known)
    return (core.skew(shown, offline, run.config.monitoring) if alarm is None else [alarm]), known


def _answering(shown: pa.Table, deployed: Sequence[ledger.Row]) -> tuple[dict[str, Bundle], core.Figure | None]:
    """The bundles that answered, by sha256; none, and an alarm, where one is no longer what was judged."""
    paths, found = {row["bundle_sha256"]: place(row["bundle"]) for row in deployed}, {}
    for sha in sorted(pc.unique(shown["bundle_sha256"]).to_pylist()):
        try:
            if sha not in paths:
                raise Refused(f"bundle {sha[:12]}… answered and was never deployed")
            found[sha] = bundle.load(paths[sha], sha)
        except Refused as error:
            answers = int(pc.sum(pc.equal(shown["bundle_sha256"], sha)).as_py())
            return {}, core.Figure("skew_max", Refusal(str(error), answers), alarm=True)
    return found, None


def _replayed(run: Run, day: date, deployed: Sequence[ledger.Row]) -> list[core.Figure]:
    """Every bundle's answers given again; one that is no longer what was judged is skew's alarm."""
    try:
        found = [again for _, again in replay.of_day(run, day, deployed)]
    except Refused as error:
        return core.replayed([], run.config.release.max_replay_share, str(error))
    return core.replayed(found, run.config.release.max_replay_share)


def _most_served(served: Mapping[str, int], deployed: Sequence[ledger.Row]) -> ledger.Row:
    """The candidate that decided most impressions of the day; equal ones by name."""
    names = {row["candidate_id"] for row in deployed}
    counts = {name: sum(served.get(policy, 0) for policy in policies_of({name})) for name in names}
    most = max(sorted(counts), key=lambda name: counts[name])
    return next(row for row in reversed(deployed) if row["candidate_id"] == most)


def _evidence(run: Run, row: ledger.Row) -> dict[str, Any] | None:
    """The document the deployed candidate was judged on; None where it was replaced since."""
    found = run.read("evidence", where={"day": row["day"], "mode": row["mode"]}).to_pylist()
    document = next((e["document"] for e in found if e["document_sha256"] == row["evidence_sha256"]), None)
    return None if document is None else dict(json.loads(document))
