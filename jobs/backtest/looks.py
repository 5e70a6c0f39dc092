"""The ledger of looks: which one an evidence is, and the risk of a false promotion that it may spend.

A look begins before its evidence is computed, so that two at a time (full and warm of a day) never spend the same risk:
the second to append finds that out and starts over. It is of one day and mode, and of one evidence once it was judged.
Until then whatever is computed for that day and mode is the same look, as after a run that died; the same evidence
again is the same look as well. A refusal gives back what its look would have spent.
"""

import json
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from jobs.errors import Refused
from jobs.evidence.document import Look, Risk
from jobs.lake.run import Run, now
from jobs.lake.tables import LAKE
from models.evaluation.risk import spend

TABLE = "looks"
REFUSE = "refuse"
JUDGED = ("verdict", "candidate_id", "bundle_sha256", "evidence_sha256")
"""What a look is told of by its row of `promotions`."""
Row = dict[str, Any]


def begun(run: Run, bundle_sha256: str) -> Risk:
    """The risk of the run's own look, begun here unless one is there that a challenger's evidence may still be of."""
    known = _known(run)
    own = _own(run, known)
    if own is None or own["bundle_sha256"] not in (None, bundle_sha256):
        return begin(run)
    told = _told(run, own["number"])
    if told is not None and (told.shared, told.days) != _shared(run):
        return begin(run)
    return told or _risk(run, known[: known.index(own)], own)


def begin(run: Run) -> Risk:
    """A new look at the end of the ledger.

    Raises `NotReady` where another run has begun one since this one started, `Refused` where no risk is left.
    """
    known = _known(run)
    last = known[-1:]
    own: Row = dict.fromkeys((*LAKE[TABLE].columns, *JUDGED))
    own |= {"number": 1 + sum(row["number"] for row in last), "at": max([now(), *(row["at"] for row in last)])}
    own |= run.partition
    counted = [row for row in _window(run, known, own["at"]) if row["verdict"] != REFUSE]
    shared, days = _shared(run)
    try:
        own["risk"] = spend([row["risk"] for row in counted], shared, run.config.gate.expected_looks)
    except ValueError as error:  # it was more before somebody raised the confidence
        raise Refused(
            f"{error}; each leaves the window after {days} days, the first was at {counted[0]['at']}"
        ) from error
    rows = [{name: row[name] for name in LAKE[TABLE].columns} for row in (*known, own)]
    run.publish(TABLE, {"endpoint": run.config.endpoint.name}, pa.Table.from_pylist(rows, LAKE[TABLE].schema))
    return _risk(run, known, own)


def judged_otherwise(run: Run, risk: Risk, evidence_sha256: str) -> bool:
    """Whether the look was judged on another evidence: this one needs a look of its own."""
    of_it = (row["evidence_sha256"] for row in _known(run) if row["number"] == risk.look)
    return next(of_it, None) not in (None, evidence_sha256)


def _known(run: Run) -> list[Row]:
    """Every look of the endpoint, in their order, with the verdict on it so far."""
    found = [row for row in run.read(TABLE).to_pylist() if row["endpoint"] == run.config.endpoint.name]
    judged = {
        (row["day"], row["mode"], row["look"]): {name: row[name] for name in JUDGED}
        for row in run.read("promotions", columns=["look", *JUDGED]).to_pylist()
    }
    rows = [row | judged.get((row["day"], row["mode"], row["number"]), {}) for row in found]
    return sorted(rows, key=lambda row: int(row["number"]))


def _own(run: Run, known: list[Row]) -> Row | None:
    """The newest look of the run's day and mode."""
    return next((row for row in reversed(known) if run.partition.items() <= row.items()), None)


def _told(run: Run, number: int) -> Risk | None:
    """What the standing evidence says of its look: a later run must say the same of those before."""
    found = run.read("evidence", where=run.partition, columns=["document"]).to_pylist()
    told = next((json.loads(row["document"]).get("risk") for row in found), None)
    return Risk.model_validate(told) if told is not None and told["look"] == number else None


def _shared(run: Run) -> tuple[float, int]:
    """The risk, and the days whose looks share it."""
    return 1 - run.config.gate.confidence, run.config.gate.risk_days


def _window(run: Run, known: list[Row], at: datetime) -> list[Row]:
    return [row for row in known if row["at"] > at - timedelta(days=run.config.gate.risk_days)]


def _risk(run: Run, before: list[Row], own: Row) -> Risk:
    """What the document says of it."""
    names = ("number", "day", "mode", "risk", "candidate_id", "verdict")
    looks = [
        Look(at=row["at"].isoformat(timespec="seconds"), **{name: row[name] for name in names})
        for row in _window(run, before, own["at"])
    ]
    shared, days = _shared(run)
    return Risk(look=own["number"], risk=own["risk"], shared=shared, days=days, looks=looks)
