"""Who is judged on a day, and against whom: the challenger that stands, else the one trained on that day.

A trial begins with the evidence on a challenger's own day. It stands on the days after it, up to `gate.days` in all, as
long as its newest evidence was not promoted and what serves is what it was judged against then. Only days before the
run's own decide (and what serves): a rerun finds the same. Evidence that nobody has judged, or that the gate refused,
ends nothing: more days may be what it lacks. A challenger trained while another of its mode stands is not judged.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from jobs import bundle
from jobs.bundle import Bundle
from jobs.deployments import ledger
from jobs.deployments.release import PROMOTE
from jobs.evidence.document import SCHEMA_VERSION
from jobs.lake.run import Run
from jobs.places import place
from models.rankers import BASELINE

Row = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """A challenger against a champion; `trained` is the day it began."""

    trained: date
    challenger: Bundle
    run_id: str
    """MLflow's, of the challenger."""
    champion: Bundle
    deployed: bool
    """Whether the champion ever was."""


def of_the_day(run: Run) -> Trial | None:
    """The one that stands, else that of the challenger trained on the run's day in its mode; None without either."""
    standing = _standing(run)
    if standing is not None:
        return standing
    candidates = _candidates(run, run.day)
    chosen = next((row for row in candidates.values() if row["chosen"]), None)
    return None if chosen is None else _trial(run, run.day, chosen, candidates[BASELINE])


def _standing(run: Run) -> Trial | None:
    """That of the newest evidence of the mode before the run's day, unless it has ended; the run says why it has."""
    if run.config.gate.days == 1:
        return None
    published = run.partitions("evidence")
    before = [p["day"] for p in published if p["mode"] == run.mode and p["day"] < run.day.isoformat()]
    if not before:
        return None
    [row] = run.read("evidence", where={"day": max(before), "mode": run.mode}).to_pylist()
    found = _going_on(run, row)
    if isinstance(found, Trial):
        return found
    run.say(f"{row['candidate_id']} stands no longer: {found}")
    return None


def _going_on(run: Run, row: Row) -> Trial | str:
    """The trial that an evidence is of, or why it has ended."""
    document = json.loads(row["document"])
    if document["schema_version"] != SCHEMA_VERSION:
        return f"its evidence is of schema_version {document['schema_version']}"
    trained = date.fromisoformat(document["challenger"]["day"])
    if (run.day - trained).days >= run.config.gate.days:
        return f"it was trained on {trained}, and gate.days is {run.config.gate.days}"
    if _verdict(run, row) == PROMOTE:
        return f"it was promoted on {row['day']}"
    candidates = _candidates(run, trained)
    mine = candidates.get(document["challenger"]["ranker"])
    if mine is None or mine["bundle_sha256"] != row["bundle_sha256"]:
        return "it was trained again since"
    found = _trial(run, trained, mine, candidates[BASELINE])
    judged = document["champion"]["bundle_sha256"], document["champion"]["deployed"]
    if (found.champion.sha256, found.deployed) != judged:
        return f"it was judged against {row['champion_id']}; {found.champion.candidate_id} is champion now"
    return found


def _verdict(run: Run, row: Row) -> str | None:
    """The one on this very evidence."""
    of = {"day": row["day"], "mode": row["mode"]}
    found = run.read("promotions", where=of, columns=["verdict", "evidence_sha256"]).to_pylist()
    verdicts = (judged["verdict"] for judged in found if judged["evidence_sha256"] == row["document_sha256"])
    return next(verdicts, None)


def _candidates(run: Run, day: date) -> dict[str, Row]:
    """Those trained on a day in the run's mode, by ranker."""
    rows = run.read("candidates", where={"day": day.isoformat(), "mode": run.mode}).to_pylist()
    return {row["ranker"]: row for row in rows}


def _trial(run: Run, trained: date, row: Mapping[str, Any], baseline: Mapping[str, Any]) -> Trial:
    challenger = bundle.load(place(row["bundle"]), row["bundle_sha256"])
    champion, deployed = _champion(run, challenger, baseline)
    return Trial(trained, challenger, row["run_id"], champion, deployed)


def _champion(run: Run, challenger: Bundle, baseline: Mapping[str, Any]) -> tuple[Bundle, bool]:
    """What serves, as it was judged, or served before the challenger; else what the endpoint's fallback would serve."""
    row = ledger.champion(
        run, run.config.endpoint.name, where=lambda row: bool(row["bundle_sha256"] != challenger.sha256)
    )
    found = baseline if row is None else row
    return bundle.load(place(found["bundle"]), found["bundle_sha256"]), row is not None
