"""`experiment`: the endpoint's requests of a day against the logging policy's, and every declared A/B test.

A test is read on each of its days and until its labels are closed, always over all its days so far. What the endpoint
said of exposures it reads from the local data capture; where there is none, arms are those that ids draw.
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.asof.keys import Indices
from jobs.asof.wanted import Wanted
from jobs.deployments import ledger
from jobs.experiment import blocks, core, funnel, mixed, page, readout, users, way
from jobs.lake.run import Run
from jobs.lake.store import midnight
from jobs.lake.swap import write_whole
from jobs.lake.tables import LAKE
from jobs.moment.columns import numbers
from jobs.outcomes import closes_on, immature_note, told_by, with_clicks
from jobs.parcels.workers import workers
from jobs.places import Place, footer
from jobs.serving import answered, captured
from jobs.serving.served import served_by
from models.experiments.assignment import Experiment
from models.experiments.settings import ExperimentSettings

if TYPE_CHECKING:
    from jobs.parcels.spark import Steps

IMPRESSIONS = ["impression_id", "request_id", "user_id", "policy"]
LABELS = ["impression_id", *told_by("clicked")]
FUNNEL = "funnel.html"
BYTES_A_ROW = 550
"""Of memory that one process takes for an impression of an A/B test."""
Row = dict[str, Any]


def run(run: Run) -> dict[str, Any]:
    """Publish `readouts` of each day; a day with nothing to read is published empty, with a note."""
    deployed = sorted({row["candidate_id"] for row in ledger.released(run)})
    served, read = {}, {}
    for day in run.days:
        rows, served[str(day)] = _served(run, day, deployed)
        tests = {one.name: _test(run, one, day) for one in run.config.experiments}
        read[str(day)] = sorted(name for name, found in tests.items() if found)
        rows += [row for found in tests.values() for row in found]
        notes = {} if served[str(day)] else {"experiment": "the endpoint decided nothing on this day"}
        table = pa.Table.from_pylist(rows, LAKE["readouts"].schema)
        run.publish("readouts", {"day": day.isoformat()}, table, notes=notes)
    return {"served_requests": served, "experiments": read, "funnel": str(_funnel(run))}


def _funnel(run: Run) -> Place:
    """Write the page over all candidates with evidence up to the day, whole or not at all; returns where it lies."""
    steps = [row for row in run.read("deployments").to_pylist() if row["at"] < midnight(run.day + timedelta(days=1))]
    readouts = run.read("readouts", _past(run, "readouts")).to_pylist()
    declared = funnel.read_last(readouts)
    known = funnel.candidates(
        run.read("evidence", _past(run, "evidence"), columns=["candidate_id", "document"]).to_pylist(),
        run.read("promotions", columns=["candidate_id", "verdict", "decided_at"]).to_pylist(),
        steps,
        readouts,
        run.config.gate.confidence,
    )
    confidence = run.config.gate.confidence
    told = page.html(known, funnel.trusted(known, confidence), funnel.trusted_ab(known, confidence), declared)
    return write_whole(run.config.lake.results.parent / FUNNEL, told)


def _past(run: Run, table: str) -> list[date]:
    return [day for day in run.published_days(table) if day <= run.day]


def _served(run: Run, day: date, deployed: list[str]) -> tuple[list[Row], int]:
    """The endpoint against logging: rows, and how many requests it answered."""
    impressions = run.read("impressions", [day], columns=IMPRESSIONS)
    cut = midnight(day + timedelta(days=1))
    shown = with_clicks(impressions, run.read("labels", [day], columns=LABELS), cut)
    shown = shown.append_column("served", served_by(shown["policy"], deployed))
    variants = sorted(pc.unique(shown.filter(shown["served"])["policy"]).to_pylist())
    if not variants:
        run.say(f"{day}: the endpoint decided nothing on this day")
        return [], 0
    controls = sorted(pc.unique(shown.filter(pc.invert(shown["served"]))["policy"]).to_pylist())
    found = core.readout(shown, run.config.gate.confidence)
    rows = core.rows(found, ", ".join(controls), ", ".join(variants), immature_note(shown, cut))
    served: int = pc.count_distinct(shown.filter(shown["served"])["request_id"]).as_py()
    run.say(f"{day}: {served} requests answered by {', '.join(variants)}")
    return rows, served


def _test(run: Run, one: ExperimentSettings, day: date) -> list[Row]:
    """The rows of an A/B test as known at the end of a day: its plan on the eve of its start, then its figures.

    None before that, and none once all of it is closed.
    """
    if day == one.start - timedelta(days=1) and one.before_days and not one.interleave:
        return _plan(run, one, day)
    last = midnight(one.design.end + timedelta(days=1)) - timedelta(microseconds=1)
    told = _read(run, one, day) if one.start <= day <= closes_on(last, run.config.attribution, {}) else []
    for row in told:
        if row["metric"] == readout.VERDICT:
            run.say(f"{day}: {one.name}, {row['variant']}: {row['verdict']}")
    return told


def _plan(run: Run, one: ExperimentSettings, day: date) -> list[Row]:
    """What it will be able to find: its own arms over the days before it, when they are alike (an A/A)."""
    days = one.before_days
    past = one.model_copy(update={"start": one.start - timedelta(days=days), "days": days, "before_days": 0})
    rows = [row for row in _read(run, past, day) if row["metric"] in one.metrics]
    for row in rows:
        least = row.get("detectable")
        row["detectable"] = least and least * (days / one.days) ** 0.5
        row["note"] = f"plan: an A/A over {days} days before; detectable in {one.days}. {row['note']}".strip()
    return rows


def _read(run: Run, one: ExperimentSettings, day: date) -> list[Row]:
    """Its figures and verdict, over all its days so far."""
    ends = one.design.end
    last = midnight(ends + timedelta(days=1)) - timedelta(microseconds=1)
    cut = midnight(day + timedelta(days=1))
    there = set(run.published_days("impressions")) & set(run.published_days("labels"))
    days = [first for n in range((min(day, ends) - one.start).days + one.before_days + 1)
            if (first := one.start - timedelta(days=one.before_days - n)) in there]  # fmt: skip
    shown = sum(footer(path).num_rows for path, _ in run.files("impressions", days))
    if one.interleave:
        with workers(run, shown, BYTES_A_ROW):
            return _mixed(run, one, days, cut)
    closes = closes_on(min(cut, last), run.config.attribution, {})
    with workers(run, shown, BYTES_A_ROW) as steps:
        exposed = _exposed(run, [of for of in days if of >= one.start], one.name)
        if one.design.switchback is not None:
            rows = _joined(run, days, cut)
            share = users.heard_share(rows, cut.timestamp(), _curve(run))
            told = blocks.rows(one, one.design.switchback, rows, exposed, cut, share, day, closes)
        else:
            told = readout.rows(one, _met(run, one, steps, days, exposed, cut), day, closes)
    named = exposed.filter(exposed["candidate_id"].is_valid()).group_by(["arm", "candidate_id"]).aggregate([])
    pairs = zip(named["arm"].to_pylist(), named["candidate_id"].to_pylist(), strict=True)
    return readout.with_candidates(told, readout.answered(one, pairs))


def _mixed(run: Run, one: ExperimentSettings, days: list[date], cut: datetime) -> list[Row]:
    """The figures of one that interleaves; of requests whose page it did not mix nothing is asked."""
    lines = (answered.lines(run.config.endpoint, of) for of in days if of >= one.start)
    pages = [page for of_day in lines for page in captured.pages(of_day, one.name)]
    asked = Wanted.of(pa.array([answer.request_id for _, answer in pages], pa.string()))
    seen = asked.read(run, "impressions", days, users.IMPRESSIONS, "request_id")
    labels = Wanted.of(seen["impression_id"]).read(run, "labels", days, users.LABELS, "impression_id")
    rows = users.joined(seen, labels, cut, run.config.attribution.late_days)
    shown = set(rows.filter(rows["labelled"])["request_id"].to_pylist())
    told = mixed.rows(one, pages, shown, mixed.clicked(rows))
    return readout.with_candidates(told, readout.answered(one, mixed.bundles(pages)))


def _met(
    run: Run, one: ExperimentSettings, steps: "Steps | None", days: list[date], exposed: pa.Table, cut: datetime
) -> users.Met:
    """The users of an A/B test, in this process or by buckets of them on Spark."""
    since = [of for of in days if of >= one.start]
    quarantine, exposed = _aside(run, since), _with_logged(run, since, exposed)
    asks = users.Asked(
        *(one, _others(run, one), cut, run.config.attribution.late_days, _curve(run), run.config.release.slow_ms),
        _kept(run, days, quarantine),
    )
    if steps is None:
        return users.met(_joined(run, days, cut), exposed, quarantine, asks)
    from jobs.experiment import spark

    files = {table: [path for path, _ in run.files(table, days)] for table in ("impressions", "labels")}
    return users.merged(spark.met(steps, files, exposed, quarantine, asks))


def _exposed(run: Run, days: list[date], name: str) -> pa.Table:
    """What the endpoint said of the exposures of an experiment, each request's once."""

    def said(chunk: answered.Chunk) -> pa.Table:
        rows = captured.exposed(chunk.lines())
        return rows.filter(pc.equal(rows["experiment"], name)).combine_chunks()

    chunks = [chunk for of in days for chunk in answered.chunks(run.config.endpoint, of)]
    exposed = pa.concat_tables([captured.EXPOSED.empty_table(), *run.each(said, chunks)])
    return way.answered_once(exposed, _shown(run, days, way.asked_twice(exposed)))


def _joined(run: Run, days: list[date], cut: datetime) -> pa.Table:
    """All rows at once, of what has no users to be divided by."""
    shown = run.read("impressions", days, columns=users.IMPRESSIONS)
    labels = run.read("labels", days, columns=users.LABELS)
    return users.joined(shown, labels, cut, run.config.attribution.late_days)


def _others(run: Run, one: ExperimentSettings) -> list[Experiment]:
    """Experiments that divide users and began before it ended."""
    return [
        other.design
        for other in run.config.experiments
        if other.name != one.name and other.start <= one.design.end and not (other.interleave or other.switchback)
    ]


def _with_logged(run: Run, days: list[date], exposed: pa.Table) -> pa.Table:
    """Exposures with `way.LOGGED`: whether the caller logged the request."""
    there, wanted = {*run.published_days("requests")}, Wanted.of(exposed["request_id"])

    def asked(some: Iterator[pa.Table]) -> tuple[int, Indices]:
        rows, found = 0, [np.zeros(0, np.int64)]
        for logged in some:
            rows += len(logged)
            found.append(np.unique(wanted.places(logged["request_id"])))
        return rows, np.unique(np.concatenate(found))

    rows, of = 0, np.zeros(len(wanted.hashes) + 1, bool)
    for many, places in run.told("requests", [day for day in days if day in there], ["request_id"], asked):
        rows, of[places] = rows + many, True
    known = of[wanted.places(exposed["request_id"])]
    return exposed.append_column(way.LOGGED, pa.array(known) if rows else pa.nulls(len(exposed), pa.bool_()))


def _shown(run: Run, days: list[date], requests: pa.Array) -> dict[str, str]:
    """Of some requests the policy that decided what was shown, where impressions were logged."""
    return dict(_among(run, days, ["request_id", "policy"], requests))


def _kept(run: Run, days: list[date], quarantine: pa.Table) -> set[str]:
    """Ids of impressions that were set aside and published, too."""
    return {key for (key,) in _among(run, days, ["impression_id"], quarantine["row_key"].combine_chunks())}


def _among(run: Run, days: list[date], columns: list[str], keys: pa.Array) -> Iterator[tuple[Any, ...]]:
    """These columns of the impressions whose first one is among the keys."""

    def found(some: Iterator[pa.Table]) -> list[tuple[Any, ...]]:
        mine = (rows.filter(pc.is_in(rows[columns[0]], keys)) for rows in some)
        return [row for rows in mine for row in zip(*(rows[name].to_pylist() for name in columns), strict=True)]

    return chain.from_iterable(run.told("impressions", days if len(keys) else [], columns, found))


def _aside(run: Run, days: list[date]) -> pa.Table:
    """Impressions that were set aside."""
    table = {"table": "impressions"}
    there = run.partitions("quarantine")
    known = [day for day in days if {"day": str(day), **table} in there]
    return run.read("quarantine", known, table, columns=["row_key", "payload"])


def _curve(run: Run) -> tuple[users.Floats, users.Floats] | None:
    """Ages and shares of the newest delay curve; None where there is none."""
    curves = [day for day in run.published_days("delay_curves") if day <= run.day]
    if not curves:
        return None
    curve = run.read("delay_curves", [max(curves)], columns=["group", "age_days", "share"])
    curve = curve.filter(pc.equal(curve["group"], "all")).sort_by("age_days")
    grid, share = (np.append(0.0, numbers(curve[name])) for name in ("age_days", "share"))
    return (grid, share) if len(curve) else None
