"""A mismatch is called by its name from what is logged alone: rows of impressions, labels, requests, quarantine, and
what the endpoint said. Every fault is planted where it would happen, in a lake of three days.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.experiment import readout, users, way
from jobs.lake.store import midnight
from jobs.lake.tables import LAKE
from jobs.parcels.core import bucket_of
from jobs.serving import captured
from jobs.serving.answer import FALLBACK
from models.experiments.settings import ExperimentSettings

START, DAYS, PEOPLE = date(2026, 3, 2), 3, 3000
ARMS: dict[str, Any] = {"arms": {"control": {}, "new": {}}}
MAIN: dict[str, Any] = {"name": "main", "layer": "a", "start": str(START), "days": DAYS, "retention_days": 1, **ARMS}
ENDED: dict[str, Any] = {**MAIN, "name": "ended", "layer": "b", "start": "2026-02-01"}
BESIDE: dict[str, Any] = {**MAIN, "name": "beside", "layer": "c"}
SETTINGS, LAST, OTHER = (ExperimentSettings.model_validate(one) for one in (MAIN, ENDED, BESIDE))
SLOW_MS = 200.0
CURVE = (np.array([0.0, 1.0]), np.ones(2))
"""All is heard of at once."""


@dataclass
class Person:
    """What became of a user's one request."""

    name: str
    day: int
    device: str
    ms: float
    said: list[str]
    """Arms, as the endpoint said them; empty: it never came to that."""
    asked: bool = True
    shown: bool = True
    labelled: bool = True
    aside: str = ""
    """`copy`: its row has the id of another; `broken`: its row breaks an expectation."""

    @property
    def treated(self) -> bool:
        return SETTINGS.design.arm_of(self.name) == "new"


@dataclass
class Logs:
    """As the job reads them."""

    impressions: list[dict[str, Any]] = field(default_factory=list)
    labels: list[dict[str, Any]] = field(default_factory=list)
    said: list[dict[str, Any]] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    aside: list[dict[str, Any]] = field(default_factory=list)

    def add(self, n: int, of: Person) -> None:
        at = midnight(START + timedelta(days=of.day)) + timedelta(hours=3, seconds=n % 3600)
        row = {"impression_id": f"i{n}", "request_id": f"r{n}", "user_id": of.name, "item_id": "i", "event_time": at}
        where = {"surface": "home", "device": of.device}
        for arm in of.said:
            told = {"request_id": f"r{n}", "user_id": of.name, "experiment": "main", "arm": arm, "unit": "user"}
            self.said.append({**told, **where, "candidate_id": "c", "ms": of.ms, "at": at})
        self.asked |= {f"r{n}"} if of.asked else set()
        if of.aside:
            key = "i0" if of.aside == "copy" else f"i{n}"
            self.aside.append({"row_key": key, "payload": json.dumps({**row, **where, "event_time": at.isoformat()})})
        elif of.asked and of.shown:
            self.impressions.append({**row, **where})
        if of.asked and of.shown and of.labelled and not of.aside:
            self.labels.append(label(row, at))


def with_logged(exposed: pa.Table, asked: set[str]) -> pa.Table:
    """As the job says which requests were logged; null where none is."""
    of = [request in asked if asked else None for request in exposed["request_id"].to_pylist()]
    return exposed.append_column(way.LOGGED, pa.array(of, pa.bool_()))


def label(row: dict[str, Any], at: datetime) -> dict[str, Any]:
    known = {"clicked": False, "click_matures_at": at + timedelta(hours=1), "matures_at": at + timedelta(days=8)}
    return {**row, **known, "known_at": at, "converted": False, "conversion_credit": 0.0, "conversion_value": 0.0}


def in_parts(rows: pa.Table, exposed: pa.Table, aside: pa.Table, asks: users.Asked) -> users.Met:
    """What is made of all rows, which is to the digit what is made of buckets of users that know nothing of others."""
    tables = users.with_units(rows, SETTINGS), users.said_with_units(exposed), users.aside_with_units(aside)
    bucket = [bucket_of(table, (users.UNIT,), 3) for table in tables]
    parts = [users.met(*(t.filter(pa.array(of == n)) for t, of in zip(tables, bucket, strict=True)), asks)
             for n in (2, 0, 1)]  # fmt: skip
    whole, merged = users.met(rows, exposed, aside, asks), users.merged(parts)
    found = [readout.rows(SETTINGS, one, START + timedelta(days=DAYS - 1), START) for one in (whole, merged)]
    assert repr(found[0]) == repr(found[1])
    return merged


def named(plant: Callable[[np.random.Generator, Person], Person | None]) -> str:
    """What the job calls a world in which something befalls every user as `plant` says; None: never came."""
    rng, logs = np.random.default_rng(4), Logs()
    for n in range(PEOPLE):
        day, slow = int(rng.integers(DAYS)), rng.random() < 0.25
        one = Person(f"u{n}", day, rng.choice(["phone", "desk"], p=[0.75, 0.25]), 900.0 if slow else 20.0, [])
        one.said = [str(SETTINGS.design.arm_of(one.name))]
        one.asked, one.labelled = rng.random() > 0.02, rng.random() > 0.02
        if (met := plant(rng, one) if n else one) is not None:
            logs.add(n, met)
    cut = midnight(START + timedelta(days=DAYS))
    tables = [pa.Table.from_pylist(rows, LAKE[name].schema) for name, rows in
              (("impressions", [{**row, "position": 1, "policy": "p", "ingested_at": cut, "attributes": []}
                                for row in logs.impressions]), ("labels", logs.labels))]  # fmt: skip
    rows = users.joined(*tables, cut, 2)
    exposed = with_logged(pa.Table.from_pylist(logs.said, captured.EXPOSED), logs.asked)
    aside = pa.Table.from_pylist(logs.aside, pa.schema([("row_key", pa.string()), ("payload", pa.string())]))
    others, kept = [LAST.design, OTHER.design], set(rows["impression_id"].to_pylist())
    found = in_parts(rows, exposed, aside, users.Asked(SETTINGS, others, cut, 2, CURVE, SLOW_MS, kept))
    told = {row["metric"]: row for row in readout.rows(SETTINGS, found, START + timedelta(days=DAYS - 1), START)}
    word = told["verdict"]["verdict"]
    return str(word).partition("as they were drawn: ")[2].partition(" (")[0] if "as they were drawn" in word else "none"


def lost(share: float, when: Callable[[Person], bool], **change: Any) -> Any:
    """So many of the treated of whom `when` is true meet with `change`; without one they never come."""

    def plant(rng: np.random.Generator, one: Person) -> Person | None:
        if not (one.treated and when(one) and rng.random() < share):
            return one
        for name, value in change.items():
            setattr(one, name, value)
        return one if change else None

    return plant


def said_otherwise(rng: np.random.Generator, one: Person) -> Person:
    one.said = ["new"] if rng.random() < 0.15 else one.said
    return one


def said_both(rng: np.random.Generator, one: Person) -> Person:
    """Of users whose id changes on the way, the first word is always the one arm's."""
    one.said = ["new", "control"] if rng.random() < 0.2 else one.said
    return one


FAULTS: dict[str, Any] = {
    "none": lost(0.0, lambda one: True),
    "other assigner": said_otherwise,
    "carry-over": lost(0.6, lambda one: LAST.design.arm_of(one.name) == "new"),
    "crossed experiment": lost(0.6, lambda one: OTHER.design.arm_of(one.name) == "new"),
    "late start": lost(0.8, lambda one: one.day == 0),
    "early end": lost(0.8, lambda one: one.day == 2),
    "one segment": lost(0.9, lambda one: one.device == "desk"),
    "answers lost": lost(0.2, lambda one: True, asked=False),
    "slow answers": lost(0.95, lambda one: one.ms > SLOW_MS, asked=False),
    "telemetry lost": lost(0.2, lambda one: True, shown=False),
    "telemetry lost in one segment": lost(0.9, lambda one: one.device == "desk", shown=False),
    "rows set aside": lost(0.2, lambda one: True, aside="broken"),
    "duplicates dropped": lost(0.2, lambda one: True, aside="copy"),
    "lossy join": lost(0.2, lambda one: True, labelled=False),
    "late logs": lost(0.6, lambda one: one.day == 2, labelled=False),
    "changing ids": said_both,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_called_by_its_name(fault: str) -> None:
    assert named(FAULTS[fault]) == fault


def test_rows_of_nobody_of_another_time_or_surface_are_nobodys() -> None:
    on_home = SETTINGS.model_copy(update={"surface": "home"})
    rows = [
        ("k", {"user_id": "u1", "event_time": "2026-03-02T01:00:00", "surface": "home", "device": "desk"}),
        ("seen", {"user_id": "u2", "event_time": "2026-03-02T01:00:00+00:00", "surface": "home"}),
        ("k", {"user_id": "u2", "event_time": "2026-03-03T01:00:00+00:00", "surface": "home"}),
        ("seen", {"user_id": "u3", "event_time": "2026-03-03T01:00:00+00:00", "surface": "home"}),
        ("k", {"user_id": "null", "event_time": "2026-03-02T01:00:00", "surface": "home"}),
        ("k", {"user_id": "u4", "event_time": "2026-03-09T01:00:00", "surface": "home"}),
        ("k", {"user_id": "u5", "event_time": None, "surface": "home"}),
        ("k", {"user_id": "u6", "event_time": "2026-03-02T01:00:00", "surface": "search"}),
    ]
    table = pa.table({"row_key": [key for key, _ in rows], "payload": [json.dumps(row) for _, row in rows]})
    found = users.way.aside(table, {"seen"}, on_home, datetime(2026, 3, 2, tzinfo=UTC))
    assert {name: of.copies for name, of in found.items()} == {"u1": False, "u2": False, "u3": True}
    assert found["u1"].first.device == "desk"
    assert found["u1"].first.seconds == 3600


def test_what_comes_after_the_end_is_unknown() -> None:
    """A user first met on the last day cannot be said not to have come back: nobody reads on."""
    for days, known in ((2, 2), (DAYS, DAYS), (DAYS + 9, DAYS)):
        assert users.until(SETTINGS.design, midnight(START + timedelta(days=days))) == known * 86_400


def test_a_shadow_beside_the_answer_is_no_second_request() -> None:
    """On S3 both lie beside each other: what was shown says whose the answer was, and where nothing does nobody's."""
    at = midnight(START)
    told = {"experiment": "main", "arm": "new", "unit": "user", "surface": None, "device": None, "ms": 1.0}
    pairs = [("r1", "shadow"), ("r1", "live"), ("r2", "live"), ("r2", "shadow"), ("r3", "live"), ("r4", "shadow")]
    pairs += [("r4", "live"), ("r5", "shadow"), ("r5", "live")]
    rows = [{**told, "request_id": request, "user_id": "u", "candidate_id": of, "at": at + timedelta(seconds=n // 2)}
            for n, (request, of) in enumerate(pairs)]  # fmt: skip
    exposed = pa.Table.from_pylist(rows, captured.EXPOSED)
    assert sorted(way.asked_twice(exposed).to_pylist()) == ["r1", "r2", "r4", "r5"]
    found = way.answered_once(exposed, {"r1": "live", "r2": f"live{FALLBACK}", "r5": "logging"})
    kept = list(zip(found["request_id"].to_pylist(), found["candidate_id"].to_pylist(), strict=True))
    assert sorted(kept, key=str) == [("r1", "live"), ("r2", "live"), ("r3", "live"), ("r4", None), ("r5", None)]
    for logged, heard in (({"r4"}, True), ({"r9"}, False), (set(), None)):
        assert way.said(with_logged(found, logged), {"new": 0}, at)["u"].logged is heard
