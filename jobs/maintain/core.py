"""Which old versions of tables something still rests on, by the ledgers and by what commits recorded."""

import json
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Any, NamedTuple

from jobs.deployments import ledger
from jobs.deployments.ledger import Row
from jobs.lake.store import Lake

MADE_OF = ("examples", "candidates", "evidence")
"""What a judged model is: its dataset, its training, what was found. Each recorded the versions it read."""
UNSETTLED = timedelta(days=90)
"""Evidence is computed again once its labels are closed, and a question is answered: what is older never will be."""


class Model(NamedTuple):
    """Whose evidence: a partition of all tables of models."""

    day: str
    mode: str


def standing(lake: Lake, endpoint: str) -> set[Model]:
    """Who serves, who would serve again after a rollback, and whose release is under way or waits for a person."""
    steps = ledger.steps(lake, endpoint)
    live = ledger.last_live(steps)
    on = [live, ledger.before(steps, live) if live else None, ledger.under_way(steps)]
    answered = {(row["day"], row["mode"]) for row in steps}
    asked = [row for row in lake.read("promotions").to_pylist() if row["verdict"] == "promote"]
    waiting = _recent(row for row in asked if (row["day"], row["mode"]) not in answered)
    return {Model(row["day"], row["mode"]) for row in (*on, *waiting) if row is not None}


def unsettled(evidence: Iterable[Row], reevaluated: Iterable[Row]) -> set[Model]:
    """Whose evidence was not computed again yet, of the newest days."""
    done = {(row["candidate_id"], row["evidence_sha256"]) for row in reevaluated}
    found = _recent(row for row in evidence if (row["candidate_id"], row["document_sha256"]) not in done)
    return {Model(row["day"], row["mode"]) for row in found}


def _recent(rows: Iterable[Row]) -> list[Row]:
    found = list(rows)
    newest = max((date.fromisoformat(row["day"]) for row in found), default=date.min)
    return [row for row in found if newest - date.fromisoformat(row["day"]) < UNSETTLED]


def pinned(lake: Lake, models: Iterable[Model]) -> dict[str, set[int]]:
    """By table, the versions that these models' datasets, trainings and evidence were made from."""
    found: dict[str, set[int]] = {}
    for model in models:
        for table in MADE_OF:
            lineage: Mapping[str, Any] = lake.lineage(table, model._asdict()) or {"inputs": "{}"}
            for name, version in json.loads(lineage["inputs"]).items():
                found.setdefault(name, set()).add(int(version))
    return found
