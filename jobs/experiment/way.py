"""How far each user of an A/B test came, from the endpoint's word to a label: what a mismatch is told by. No I/O.

The endpoint says an exposure; the caller logs the request; its impressions are logged, validated, and labelled. Where
one arm's users leave this way more often than the other's is what `models.experiments.causes` names.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.serving.answer import FALLBACK
from models.experiments.assignment import Experiment, unit_of
from models.experiments.causes import STEPS, Units
from models.experiments.metrics import DAY
from models.experiments.settings import ExperimentSettings

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
SEGMENTS = ("surface", "device")
LOGGED = "logged"
"""The column that says of an exposure whether its request was logged, null where nobody logs requests."""


@dataclass(frozen=True)
class Trace:
    """Where a user was first met, by whatever there is of it."""

    seconds: float
    """Since the start."""
    surface: str | None
    device: str | None


@dataclass
class Said:
    """What the endpoint said to a user."""

    first: Trace
    arms: list[int]
    """In their order, each once."""
    logged: bool | None
    """Whether any of the requests was; None where nobody logs requests."""
    ms: float
    """How long the first answer took."""


@dataclass(frozen=True)
class Aside:
    """Of a user whose impressions were set aside by `validate`: the first of them, and whether all were copies."""

    first: Trace
    copies: bool


@dataclass(frozen=True)
class Seen:
    """Labelled or not, the impressions of an experiment's users: n rows of users numbered as `names`."""

    names: Sequence[str]
    user: Ints
    """(n,)"""
    seconds: Floats
    """(n,) since the start."""
    labelled: NDArray[np.bool_]
    """(n,)"""
    segments: Mapping[str, NDArray[np.object_]]
    """`SEGMENTS`, (n,) each."""


def said(exposed: pa.Table, arms: Mapping[str, int], begin: datetime) -> dict[str, Said]:
    """By user, of one experiment's rows of `captured.EXPOSED`, with `LOGGED`."""
    found: dict[str, Said] = {}
    for row in exposed.to_pylist():
        if row["unit"] != "user" or row["arm"] not in arms or not row["user_id"]:
            continue
        first = Trace((row["at"] - begin).total_seconds(), row["surface"], row["device"])
        of = found.setdefault(row["user_id"].strip(), Said(first, [], row[LOGGED], row["ms"]))
        of.logged = of.logged or row[LOGGED]
        if arms[row["arm"]] not in of.arms:
            of.arms.append(arms[row["arm"]])
    return found


def answered_once(exposed: pa.Table, shown: Mapping[str, str]) -> pa.Table:
    """Each request's exposures once: those of the answer that was shown, where a shadow's lie beside it (on S3).

    `shown`: by request the policy its impressions name. Where that is none of those that answered, or nobody logged
    the request, which answer was whose cannot be told: one counts, and names no candidate.
    """
    twice = asked_twice(exposed)
    beside = pc.is_in(exposed["request_id"], twice)
    if not len(twice):
        return exposed
    kept: dict[tuple[str, str | None, str], dict[str, Any]] = {}
    for row in exposed.filter(beside).to_pylist():
        name, key = row["candidate_id"], (row["request_id"], row["user_id"], row["experiment"])
        if shown.get(row["request_id"]) in (name, name + FALLBACK):
            kept[key] = row
        else:
            kept.setdefault(key, {**row, "candidate_id": None})
    of_two = pa.Table.from_pylist([*kept.values()], exposed.schema)
    return pa.concat_tables([exposed.filter(pc.invert(beside)), of_two]).sort_by("at")


def asked_twice(exposed: pa.Table) -> pa.Array:
    """Requests of one user's with answers of several candidates."""
    counted = exposed.group_by(["request_id", "user_id"]).aggregate([("candidate_id", "count_distinct")])
    return counted.filter(pc.greater(counted["candidate_id_count_distinct"], 1))["request_id"].combine_chunks()


def aside(
    quarantine: pa.Table, kept: Collection[str], settings: ExperimentSettings, begin: datetime
) -> dict[str, Aside]:
    """By user, of `quarantine`'s impressions while the experiment ran; `kept`: ids of impressions that were published.

    A row whose id was published is a copy of that one. Rows that name no user or no time are nobody's.
    """
    found: dict[str, Aside] = {}
    for key, payload in zip(quarantine["row_key"].to_pylist(), quarantine["payload"].to_pylist(), strict=True):
        row = json.loads(payload)
        try:
            at = datetime.fromisoformat(str(row.get("event_time")))
        except ValueError:
            continue
        unit = unit_of(row.get("user_id"), "", frozenset(settings.shared_ids))
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
        seconds, surface = (at - begin).total_seconds(), row.get("surface")
        if unit.kind != "user" or not 0 <= seconds < settings.days * DAY or settings.surface not in (None, surface):
            continue
        before, copy = found.get(unit.key), key in kept
        first = Trace(seconds, surface, row.get("device"))
        found[unit.key] = Aside(before.first if before else first, copy and (before is None or before.copies))
    return found


def units(
    design: Experiment,
    seen: Seen,
    arm: Ints,
    drawn: Ints,
    told: Mapping[str, Said],
    set_aside: Mapping[str, Aside],
    others: Sequence[Experiment],
    slow_ms: float,
) -> Units:
    """Whoever was exposed, how far each came, and what there is to tell them by.

    `arm` and `drawn` (u,) of the users.
    """
    names = seen.names
    traces = _traces(seen, told, set_aside)
    exposed = np.array([name in traces for name in names], bool)
    left = _left(seen, told, set_aside)
    day = np.array([int(traces[name].seconds // DAY) if name in traces else 0 for name in names], np.int64)
    segments = {
        of: np.array([getattr(traces[name], of) if name in traces else None for name in names], object)
        for of in SEGMENTS
    }
    beside = {one.name: np.array([one.arm_of(name) for name in names], object)[exposed] for one in others}
    ended = {one.name for one in others if one.end < design.start}
    both = np.array([len(told[name].arms) > 1 if name in told else False for name in names], bool)
    slow = np.array([told[name].ms > slow_ms if name in told else False for name in names], bool)
    return Units(
        arm[exposed],
        drawn[exposed],
        day[exposed],
        left[exposed],
        np.zeros(int(exposed.sum()), bool),  # whoever is nobody draws by request, and is no unit
        both[exposed],
        slow[exposed],
        {of: words[exposed] for of, words in segments.items()},
        {name: words for name, words in beside.items() if name in ended},
        {name: words for name, words in beside.items() if name not in ended},
    )


def _left(seen: Seen, told: Mapping[str, Said], set_aside: Mapping[str, Aside]) -> Ints:
    """(u,) how many of `STEPS` each user passed: of the ways of several requests the furthest."""
    labelled, shown = np.zeros(len(seen.names), bool), np.zeros(len(seen.names), bool)
    labelled[seen.user[seen.labelled]], shown[seen.user] = True, True
    found = np.full(len(seen.names), STEPS.index("logged"))
    for at, name in enumerate(seen.names):
        if name in set_aside:
            found[at] = STEPS.index("once" if set_aside[name].copies else "valid")
        elif name in told and told[name].logged is False:
            found[at] = STEPS.index("answered")
    return np.where(labelled, len(STEPS), np.where(shown, STEPS.index("joined"), found))


def _traces(seen: Seen, told: Mapping[str, Said], set_aside: Mapping[str, Aside]) -> dict[str, Trace]:
    """By user: of the first impression, else of what was set aside, else of what the endpoint said."""
    found = {name: of.first for name, of in told.items()} | {name: of.first for name, of in set_aside.items()}
    order = np.argsort(-seen.seconds, kind="stable")
    columns = [seen.user[order], seen.seconds[order], *(seen.segments[of][order] for of in SEGMENTS)]
    for user, seconds, surface, device in zip(*(column.tolist() for column in columns), strict=True):
        found[seen.names[user]] = Trace(seconds, surface, device)
    return found
