"""Which rankers a mode fits and what they learn from. No I/O.

Not yet: hyperparameter search.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.asof.core import DAY_US, microseconds
from jobs.config import AttributionSettings
from jobs.errors import Misconfigured, Refused
from jobs.moment.columns import LABELS, attribute_keys, training_data
from jobs.moment.decisions import clusters
from jobs.train.delays import Conversions, Newest, conversions, newest, newest_clicks
from jobs.train.gathered import Gathered
from models.delays.curve import DelayCurve
from models.delays.methods import SEVERAL
from models.delays.targets import Targets
from models.rankers import BASELINE, EVERY_KIND
from models.rankers.features import ATTRIBUTE_PREFIX, EVERYTHING, IDS
from models.rankers.protocol import Column, Inputs, Room, TrainingData, parts
from models.rankers.words import Words
from models.settings import BY_SURFACE, DelaySettings, OutcomeSettings, PolicySettings

TAUGHT = "conversion."
"""Before the parts of what open conversions teach, among digests."""
FURTHER = "outcome."
"""Before the name of a further outcome, among them."""
TOLD = ("request_id", "user_id", "event_time", "surface", "conversion_heard_at")
"""What tells of train rows where they belong and what was heard of them."""
PLACED = ("days", "groups")
"""What `TrainingData` may say of where each row belongs."""
FIRST_WARM = "xgboost"
"""What a warm start fits where there is no learned champion to continue."""


@dataclass(frozen=True)
class Folds:
    """What is learned from, and what the choice is made on."""

    train: TrainingData
    validate: pa.Table
    conversions: Conversions
    """What the train fold's conversions teach by their delays: `train.conversion`, and how it came about."""
    newest: Newest | None
    """The last days' clicks of both folds, to tell the level of conversions by; None where their curve is in doubt."""
    taught_until: datetime
    """The event time of the newest row of the train fold."""
    until: datetime
    """That of either fold."""
    surfaces: tuple[str, ...]
    """On which items were shown in either fold."""


def inputs_of(kinds: Iterable[str]) -> Inputs:
    """What rankers of these kinds learn from, and retrievers: what a bundle of one of them was made of."""
    return reduce(or_, (EVERY_KIND[kind].inputs for kind in kinds), Inputs(ids=IDS))


def folds(
    examples: Iterable[pa.Table],
    cut: datetime,
    windows: AttributionSettings,
    delays: DelaySettings,
    before: DelayCurve | None = None,
    inputs: Inputs = EVERYTHING,
    outcomes: Mapping[str, OutcomeSettings] | None = None,
    room: Room = np.empty,
    drawn: Callable[[pa.Table], pa.Table] = lambda rows: rows,
) -> Folds:
    """The `inputs` of the train split as arrays, with attributes that occur in either split; and the validate split.

    `examples` come batch by batch, at least one. `cut` is the dataset's, `before` the delay curve of what is continued,
    see `jobs.train.delays`, `outcomes` are the further ones declared, `room` is where the arrays lie, `drawn` those of
    some train rows that are learned from. Raises `Refused` when there is nothing to learn from.
    """
    asked, outcomes = inputs | Inputs(ids=IDS), outcomes or {}
    gathered, keys, surfaces = Gathered(asked, outcomes, room), set[str](), set[str | None]()
    told, later, recent = [], [], []
    for batch in examples:
        keys.update(attribute_keys(batch["attributes"]))
        surfaces.update(pc.unique(batch["surface"]).to_pylist())
        mine = drawn(batch.filter(pc.equal(batch["split"], "train")))
        gathered.add(mine)
        told.append(mine.select([name for name in TOLD if name in mine.column_names]))
        later.append(batch.filter(pc.equal(batch["split"], "validate")))
        recent.append(newest_clicks(batch, cut))
    train, validate, attributes = pa.concat_tables(told), pa.concat_tables(later), sorted(keys)
    data = gathered.data(attributes)
    known = data.clicked[np.isfinite(data.clicked) & (data.weight > 0)]
    if len(np.unique(known)) < 2:
        raise Refused(
            "training needs impressions with and without a click in the train split; "
            f"found {len(train)} rows, {len(known)} with a known label, {int(known.sum())} clicked"
        )
    taught, chosen = (pc.max(fold["event_time"]).as_py() for fold in (train, validate))
    learned = conversions(train, data, cut, windows, delays, before)
    data = replace(
        data,
        days=_days(train["event_time"]),
        groups=lists(train),
        held_out=replace(training_data(validate, attributes, inputs, outcomes), groups=lists(validate), room=room),
        conversion=learned.targets,
    )
    until = taught if chosen is None else max(taught, chosen)
    sure = learned.curve if learned.doubt is None else None
    clicks = None if sure is None else newest(pa.concat_tables(recent), attributes, asked, cut, windows, sure)
    return Folds(data, validate, learned, clicks, taught, until, tuple(sorted(filter(None, surfaces))))


def kinds(
    mode: Literal["full", "warm"], champion: str | None, of: Sequence[str], light: str | None = None
) -> list[str]:
    """The rankers a run fits, the baseline among them: those `of` the settings, in a warm start the champion's kind;
    and the kind of the light stage where there is one.
    """
    fitted = [kind for kind in EVERY_KIND if kind in (BASELINE, *of)]
    if mode == "full":
        return [kind for kind in EVERY_KIND if kind in (*fitted, light)]
    continued = next((kind for kind in fitted if kind.removesuffix(BY_SURFACE) == FIRST_WARM), fitted[-1])
    if champion is not None and champion != BASELINE:
        continued = champion
    return [kind for kind in EVERY_KIND if kind in (BASELINE, continued, light)]


def need_words(policy: PolicySettings, keys: Iterable[str]) -> None:
    """Raises `Misconfigured` where heuristics look at an attribute that is not among `keys`, those of the examples:
    they did nothing.
    """
    known = {ATTRIBUTE_PREFIX + key for key in keys} | {"item_category"}
    if missing := [column for column in policy.columns if column not in known]:
        there = ", ".join(sorted(name for name in known if name.startswith(f"{ATTRIBUTE_PREFIX}item."))) or "none"
        raise Misconfigured(f"policy.heuristics need attributes of items, of {there}; found {', '.join(missing)}")


def carried(kinds: Sequence[str], delays: DelaySettings, say: Callable[[str], None]) -> list[str]:
    """Those of the rankers that can learn conversions as the setting says.

    A full training goes on without the others, and says so; raises `Misconfigured` where only the baseline is left, as
    in a warm start of one of them.
    """
    if delays.conversion not in SEVERAL:
        return list(kinds)
    found = [kind for kind in kinds if EVERY_KIND[kind].several_labels]
    unfit = ", ".join(kind for kind in kinds if kind not in found)
    if unfit and set(found) <= {BASELINE}:
        raise Misconfigured(
            f"delays.conversion = {delays.conversion} needs a ranker that takes several labels a click; found {unfit}"
        )
    if unfit:
        say(f"not trained: {unfit}, which has one label a click; delays.conversion = {delays.conversion} needs several")
    return found


def learned_from(data: TrainingData, inputs: Inputs) -> list[str]:
    """The names of the columns that rankers of these inputs look at, and of further outcomes they learn, sorted."""
    attributes = [name for name in data.features if name.startswith(ATTRIBUTE_PREFIX)] if inputs.attributes else []
    further = [f"{FURTHER}{name}" for name in data.outcomes] if inputs.outcomes else []
    vectors = [name for name in inputs.vectors if name in data.features]
    return sorted([*inputs.named, *vectors, *attributes, *further])


def fingerprints(data: TrainingData) -> dict[str, str]:
    """A sha256 of each column and each label: the same rows in the same order give the same digest."""
    labels: dict[str, Any] = {name: getattr(data, name) for name in LABELS}
    labels |= {f"{FURTHER}{name}": of.label for name, of in data.outcomes.items()}
    labels |= {name: of for name in PLACED if (of := getattr(data, name)) is not None}
    taught = (data.conversion,) if isinstance(data.conversion, Targets) else data.conversion or ()
    for stage, targets in enumerate(taught):
        part = TAUGHT if len(taught) == 1 else f"{TAUGHT}{stage}."
        labels |= {f"{part}{field.name}": getattr(targets, field.name) for field in fields(Targets)}
    return {name: _digest(column) for name, column in {**data.features, **labels}.items()}


def fingerprint(digests: Mapping[str, str], columns: Sequence[str]) -> str:
    """A sha256 of everything that a ranker of these columns learns from, from the `fingerprints` of the data."""
    taught = sorted(name for name in digests if name in PLACED or name.startswith(TAUGHT))
    lines = [f"{name} {digests[name]}" for name in (*columns, *LABELS, *taught)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def lists(rows: pa.Table) -> NDArray[np.int64]:
    """(n,) the list each row was shown in: its request; where no request shows two items, its user's day."""
    request: NDArray[np.int64] = rows["request_id"].combine_chunks().dictionary_encode().indices.to_numpy().astype(int)
    if len(request) > request.max(initial=-1) + 1:
        return request
    day = _days(rows["event_time"])
    return np.unique(np.column_stack([clusters(rows), day]), axis=0, return_inverse=True)[1].reshape(-1)


def _days(times: pa.ChunkedArray) -> NDArray[np.int64]:
    """(n,) the UTC day of each time, days since 1970-01-01."""
    found: NDArray[np.int64] = microseconds(times) // DAY_US
    return found


def _digest(column: Column) -> str:
    digest = hashlib.sha256(repr(column.shape).encode())
    if isinstance(column, Words):
        order = column.order()  # which other values there might have been is no content
        place = np.full(len(column.values) + 1, -1.0)
        place[order] = np.arange(len(order))
        digest.update("\0".join(column.values[at] for at in order.tolist()).encode())
        for part in column.parts():
            digest.update(place[part].tobytes())
        return digest.hexdigest()
    for rows in parts(len(column)):
        part = column[rows]
        # -0.0 and the many NaNs must not tell equal rows apart.
        digest.update(np.where(np.isnan(part), np.nan, part + 0.0).tobytes())
    return digest.hexdigest()
