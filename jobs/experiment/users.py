"""The users of an A/B test from the lake's rows: who met which arm, and what they did. No I/O.

A user's arm is a function of the id, so it is known of every logged impression, wherever the answer came from; what the
endpoint said at the time is read beside it, and where the two differ what was said is what was met.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs import outcomes
from jobs.asof.core import microseconds
from jobs.experiment import way
from jobs.moment.columns import numbers, strings
from models.experiments.assignment import Experiment, unit_of
from models.experiments.causes import Units, together
from models.experiments.metrics import DAY, Shown, figures
from models.experiments.settings import ExperimentSettings

IMPRESSIONS = ["impression_id", "request_id", "user_id", "item_id", "event_time", "surface", "device"]
LABELS = [
    *("impression_id", "conversion_value"),
    *outcomes.told_by("clicked"),
    *outcomes.told_by("converted"),
]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SECOND = 1e6


UNIT = "whose"
"""The column by which rows of one user, or of one request of nobody, are together."""


@dataclass(frozen=True)
class Met:
    """The u users of an experiment, by name; arms numbered as the settings have them."""

    names: pa.StringArray
    arm: Ints
    """(u,): what each met first."""
    figures: Mapping[str, tuple[Floats, Floats]]
    """By metric numerators and denominators, (u,) each."""
    before: Floats
    """(u, 3): clicks, impressions and revenue of the days before; NaN for a user of whom none is known."""
    units: Units
    """All that were assigned, those whose impressions or labels are lost included."""
    requests: int
    """Of nobody that is known: part of the experiment, and of no figure."""


@dataclass(frozen=True)
class Asked:
    """What is asked of rows, the same for all of them."""

    settings: ExperimentSettings
    others: Sequence[Experiment]
    cut: datetime
    late_days: int
    curve: tuple[Floats, Floats] | None
    """Ages in days and the share of conversions that is heard of by then; None: all or nothing."""
    slow_ms: float
    kept: Collection[str]
    """Of the impressions that were set aside, the ids of which one was published."""


def met(rows: pa.Table, exposed: pa.Table, quarantine: pa.Table, asks: Asked) -> Met:
    """Of labelled impressions (`joined`) since `before_days` before the start, and the exposures that capture tells.

    `exposed` with `way.LOGGED`; `quarantine`: impressions that were set aside. Any users with all of their rows: parts
    make a whole (`merged`).
    """
    settings, cut = asks.settings, asks.cut
    design, arms = settings.design, {name: number for number, name in enumerate(settings.arms)}
    users, keys = _keys(rows, settings)
    said = way.said(exposed, arms, design.begin)
    set_aside = way.aside(quarantine, asks.kept, settings, design.begin)
    names = sorted(key for key in users | set(said) | set(set_aside) if design.takes(key))
    at = {name: number for number, name in enumerate(names)}
    drawn = np.array([arms[str(design.arm_of(name))] for name in names], np.int64)
    first = [said[name].arms[0] if name in said else -1 for name in names]
    arm = np.where(np.array(first, np.int64) >= 0, np.array(first, np.int64), drawn)
    user = np.array([at.get(key, -1) if key is not None else -1 for key in keys], np.int64)
    seconds = np.asarray(microseconds(rows["event_time"]) / SECOND - design.begin.timestamp(), np.float64)
    on_surface = np.ones(len(rows), bool) if settings.surface is None else strings(rows["surface"]) == settings.surface
    during = (user >= 0) & (seconds >= 0) & (seconds < settings.days * DAY) & on_surface
    past = (user >= 0) & (seconds < 0)
    nobodys = _nobodys(rows, keys, design) & (seconds >= 0) & (seconds < settings.days * DAY) & on_surface
    labelled = during & numbers(rows["labelled"]).astype(bool)
    where = {name: strings(rows[name])[during] for name in way.SEGMENTS}
    there = way.Seen(names, user[during], seconds[during], labelled[during], where)
    units = way.units(design, there, arm, drawn, said, set_aside, asks.others, asks.slow_ms)
    seen = np.zeros(len(names), bool)
    seen[user[labelled]] = True
    number = np.append(np.where(seen, np.cumsum(seen) - 1, -1), -1)  # the last: whoever is in no arm
    share = heard_share(rows, cut.timestamp(), asks.curve)
    mine = shown(rows, labelled, number[user], int(seen.sum()), seconds, share, until(design, cut))
    return Met(
        pa.array(names, pa.string()).filter(pa.array(seen)),
        arm[seen],
        {metric: _figures(metric, mine, settings) for metric in settings.metrics},
        _before(rows, past & (number[user] >= 0), number[user], int(seen.sum())),
        units,
        len(set(strings(rows["request_id"])[nobodys].tolist())),
    )


def _figures(metric: str, mine: Shown, settings: ExperimentSettings) -> tuple[Floats, Floats]:
    return figures(metric, mine, retention_days=settings.retention_days, value_days=settings.value_days)


def merged(parts: Sequence[Met]) -> Met:
    """One of all, whose users and figures are in the order that they have where all of it is read at once."""
    names = pa.concat_arrays([part.names for part in parts])
    order = pc.sort_indices(names).to_numpy()

    def pairs(metric: str) -> tuple[Floats, Floats]:
        tops, bottoms = zip(*(part.figures[metric] for part in parts), strict=True)
        return np.concatenate(tops)[order], np.concatenate(bottoms)[order]

    return Met(
        names.take(pa.array(order)),
        np.concatenate([part.arm for part in parts])[order],
        {metric: pairs(metric) for metric in parts[0].figures},
        np.concatenate([part.before for part in parts])[order],
        together([part.units for part in parts]),
        sum(part.requests for part in parts),
    )


def heard_share(rows: pa.Table, now: float, curve: tuple[Floats, Floats] | None) -> Floats:
    """(n,) of each row's conversions how much is heard of: by a delay curve; without one, all or nothing."""
    closed = numbers(rows["closed"])
    if curve is None:
        return closed
    age = (now - microseconds(rows["event_time"]) / SECOND) / DAY
    return np.where(closed > 0, 1.0, np.interp(age, *curve))


def with_units(rows: pa.Table, settings: ExperimentSettings) -> pa.Table:
    """Impressions with `UNIT`: whose they are, or of which request of nobody's."""
    shared = frozenset(settings.shared_ids)
    pairs = zip(strings(rows["user_id"]).tolist(), strings(rows["request_id"]).tolist(), strict=True)
    return _by_unit(rows, [unit_of(*pair, shared).key for pair in pairs])


def said_with_units(exposed: pa.Table) -> pa.Table:
    """Exposures with `UNIT`: of whom they were said."""
    return _by_unit(exposed, [(user or "").strip() for user in exposed["user_id"].to_pylist()])


def aside_with_units(quarantine: pa.Table) -> pa.Table:
    """What was set aside with `UNIT`: whose it is, where its payload tells."""
    ids = [json.loads(payload).get("user_id") for payload in quarantine["payload"].to_pylist()]
    return _by_unit(quarantine, [user.strip() if isinstance(user, str) else "" for user in ids])


def _by_unit(rows: pa.Table, keys: Sequence[str]) -> pa.Table:
    return rows.append_column(UNIT, pa.array(keys, pa.string()))


def joined(impressions: pa.Table, labels: pa.Table, cut: datetime, late_days: int) -> pa.Table:
    """Impressions with what is heard of them before `cut`; `labelled` says whether there is a label at all."""
    at = pc.index_in(impressions["impression_id"], labels["impression_id"])
    heard = outcomes.so_far(labels, "converted", cut)
    columns = {
        "clicked": pc.cast(outcomes.so_far(labels, "clicked", cut), pa.float64()),
        "conversions": pc.cast(heard, pa.float64()),
        "value": pc.if_else(heard, labels["conversion_value"], 0.0),
        "closed": pc.cast(outcomes.closed(labels, "converted", cut, late_days), pa.float64()),
    }
    found = impressions.append_column("labelled", pc.is_valid(at))
    for name, column in columns.items():
        whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        found = found.append_column(name, pc.fill_null(whole.take(at), 0.0))
    return found


def _keys(rows: pa.Table, settings: ExperimentSettings) -> tuple[set[str], list[str | None]]:
    """The users' keys, and each row's; None for a row of nobody."""
    shared = frozenset(settings.shared_ids)
    known: dict[str | None, str | None] = {}
    for name in set(strings(rows["user_id"]).tolist()):
        unit = unit_of(name, "", shared)
        known[name] = unit.key if unit.kind == "user" else None
    return {key for key in known.values() if key is not None}, [known[name] for name in strings(rows["user_id"])]


def _nobodys(rows: pa.Table, keys: Sequence[str | None], design: Experiment) -> NDArray[np.bool_]:
    """Rows of nobody whose request the experiment drew."""
    nobody = np.array([key is None for key in keys], bool)
    requests = strings(rows["request_id"])
    drawn = {one: design.arm_of(unit_of(None, one).key) is not None for one in set(requests[nobody].tolist())}
    return np.array([of and drawn[one] for of, one in zip(nobody, requests, strict=True)], bool)


def until(design: Experiment, cut: datetime) -> float:
    """Seconds since the start up to which its impressions are read: the cut, or its end."""
    return min(cut.timestamp() - design.begin.timestamp(), design.days * DAY)


def shown(
    rows: pa.Table, kept: NDArray[np.bool_], user: Ints, users: int, seconds: Floats, share: Floats, now: float
) -> Shown:
    """The rows kept, as metrics read them."""
    request = rows["request_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    clicked, conversions, value = (numbers(rows[name])[kept] for name in ("clicked", "conversions", "value"))
    return Shown(users, user[kept], seconds[kept], request[kept], clicked, conversions, value, share[kept], now)


def _before(rows: pa.Table, kept: NDArray[np.bool_], user: Ints, users: int) -> Floats:
    times = np.bincount(user[kept], minlength=users).astype(float)
    clicks, value = (
        np.bincount(user[kept], weights=numbers(rows[name])[kept], minlength=users) for name in ("clicked", "value")
    )
    columns = np.column_stack([clicks, times, value])
    columns[times == 0] = np.nan
    return columns
