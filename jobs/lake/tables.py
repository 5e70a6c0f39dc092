"""Every table of Tidegate: key, columns, types, partitioning. The only place a column is defined, but
for features, which `models.features` declares.

`RAW` is the contract with a team's loggers (plain Parquet, `date=YYYY-MM-DD/hour=HH`); `LAKE` is what stages
publish (Delta). Times are UTC microseconds, ids are strings, days are UTC dates.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from jobs.errors import Refused
from models.features import FEATURES, Kind, Of, declared

TIME = pa.timestamp("us", tz="UTC")
STR = pa.string()
ATTRIBUTES = pa.map_(STR, STR)
VALUES = pa.map_(STR, pa.float64())
SUPERSEDED = pa.list_(pa.struct([("known_at", TIME), ("until", TIME)]))
"""When an outcome was thought true until a late event said otherwise: it held for every T, `known_at < T <= until`."""
OUTCOMES = pa.list_(
    pa.struct(
        [
            ("outcome", STR),
            ("matures_at", TIME),
            ("events", pa.list_(pa.struct([("value", pa.float64()), ("known_at", TIME), ("until", TIME)]))),
        ]
    )
)
"""An impression's further outcomes, those declared when it was attributed, by name: until when one may come, and its
events: an event held for every T, `known_at < T`, for good or up to `until`, where a better impression was known."""
LABEL_CHANGES = pa.list_(
    pa.struct([("outcome", STR), ("before", pa.bool_()), ("after", pa.bool_()), ("rows", pa.int64())])
)
"""How many test rows' outcome (clicked, converted) went from what to what; null is unknown."""
MOVED = pa.list_(
    pa.struct(
        [
            ("figure", STR),
            *((f"{when}{end}", pa.float64()) for when in ("first", "matured") for end in ("", "_low", "_high")),
            ("difference", pa.float64()),
        ]
    )
)
"""Figures of the evidence by their path (`auc.difference`), first and matured; null where one was refused."""
Tables = Mapping[str, pa.Table]
"""Raw table name (`RAW`) to rows in its raw columns, events sorted by time."""
Streams = Mapping[str, pa.Table | Iterable[pa.Table]]
"""As `Tables`, of which some may come as tables one after the other: a day need not be in memory."""
TYPES: dict[Kind, pa.DataType] = {
    "number": pa.float64(),
    "word": STR,
    "bucket": pa.int32(),
    "vector": pa.list_(pa.float32()),
    "given": pa.list_(pa.float32()),
    "items": pa.list_(STR),
    "buckets": pa.list_(pa.int32()),
    "counts": VALUES,
}
"""Of a feature, by what kind of value it is."""


@dataclass(frozen=True)
class Column:
    """One column; `nullable=False` means a row without it is set aside, `optional` that a raw file may lack it.

    Of a `probability` a rounding above 1 is read as 1.
    """

    type: pa.DataType
    nullable: bool = False
    optional: bool = False
    probability: bool = False


@dataclass(frozen=True)
class Table:
    """A table's contract: `key` identifies a row inside a partition; `partition` columns live in the path only."""

    name: str
    doc: str
    key: tuple[str, ...]
    columns: Mapping[str, Column]
    partition: tuple[str, ...] = ("day",)
    extra_prefix: str | None = field(default=None)
    """Raw only: any number of further columns with this prefix, folded into the map column `attributes`."""

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the data columns (partition columns excluded)."""
        return pa.schema([pa.field(n, c.type, c.nullable) for n, c in self.columns.items()])


def _c(type_: pa.DataType, marks: str = "") -> Column:
    """`"?"` may be null, `"??"` may be null or absent from a raw file."""
    return Column(type_, nullable=bool(marks), optional=marks == "??")


_EVENT = {"event_time": _c(TIME), "ingested_at": _c(TIME, "??")}
_IMPRESSION = {
    "impression_id": _c(STR),
    "request_id": _c(STR),
    **_EVENT,
    "user_id": _c(STR, "??"),
    "item_id": _c(STR),
    "surface": _c(STR),
    "position": _c(pa.int32()),
    "propensity": Column(pa.float64(), nullable=True, optional=True, probability=True),
    "policy": _c(STR),
    "device": _c(STR, "??"),
    "region": _c(STR, "??"),
    "query": _c(STR, "??"),
    "source_item_id": _c(STR, "??"),
}
_CLICK = {
    "click_id": _c(STR),
    "impression_id": _c(STR, "??"),
    **_EVENT,
    "user_id": _c(STR, "??"),
    "item_id": _c(STR),
}
_PURCHASE = {
    "purchase_id": _c(STR),
    **_EVENT,
    "user_id": _c(STR),
    "item_id": _c(STR),
    "value": _c(pa.float64(), "??"),
}
_FEEDBACK = {
    "feedback_id": _c(STR),
    "outcome": _c(STR),
    "impression_id": _c(STR, "??"),
    **_EVENT,
    "user_id": _c(STR, "??"),
    "item_id": _c(STR),
    "value": _c(pa.float64(), "??"),
}
_REQUEST = {
    "request_id": _c(STR),
    "event_time": _c(TIME),
    "user_id": _c(STR, "??"),
    "surface": _c(STR),
    "policy": _c(STR),
    "candidates": _c(pa.list_(STR)),
    "slate_size": _c(pa.int32()),
}
_ITEM = {
    "item_id": _c(STR),
    "created_at": _c(TIME, "??"),
    "category": _c(STR, "??"),
    "price": _c(pa.float64(), "??"),
    "title": _c(STR, "??"),
    "removed": _c(pa.bool_(), "??"),  # deleted or blocked: never offered again; null is false
    "feature_vector": _c(pa.list_(pa.float64()), "??"),  # of its image, say: items alike have vectors alike
}
_USER = {"user_id": _c(STR), "created_at": _c(TIME, "??")}

RAW: dict[str, Table] = {
    t.name: t
    for t in (
        Table(
            "impressions",
            "one item shown at one place",
            ("impression_id",),
            _IMPRESSION,
            extra_prefix="context_",
        ),
        Table("clicks", "one click", ("click_id",), _CLICK),
        Table("purchases", "one conversion of any kind", ("purchase_id",), _PURCHASE),
        Table("feedback", "one event of a further outcome, a like or a watch time say", ("feedback_id",), _FEEDBACK),
        Table("requests", "one decision and what it chose from", ("request_id",), _REQUEST),
        Table("items", "the catalogue as of a day", ("item_id",), _ITEM, extra_prefix="feature_"),
        Table("users", "the users as of a day", ("user_id",), _USER, extra_prefix="feature_"),
    )
}
EVENTS = ("impressions", "clicks", "purchases", "feedback", "requests")
"""Raw tables with an event time; the day they belong to is the UTC date of it."""


PERSONAL = {
    "user_id": "who it is, as a team's own logs have it",
    "query": "what somebody typed",
    "attributes": "whatever a team's loggers add to a row of somebody",
    "payload": "a whole raw row that was set aside",
}
"""The columns, in any table, whose values are written nowhere else: not in a log, a report, a page, a metric or MLflow.
Where a table has `user_id` or `payload`, `forget` takes a person's rows out."""


def _validated(name: str) -> Table:
    """The lake's version of a raw table: `ingested_at` is filled, prefixed columns are one `attributes` map."""
    raw = RAW[name]
    columns = dict(raw.columns)
    if "ingested_at" in columns:
        columns["ingested_at"] = _c(TIME)
    if raw.extra_prefix:
        columns["attributes"] = _c(ATTRIBUTES)
    return Table(name, f"{raw.doc}, validated", raw.key, columns)


def _features(of: Of) -> dict[str, Column]:
    """The columns of users' or items' feature rows, as they are declared."""
    found = {feature.name: Column(TYPES[feature.kind], nullable=feature.unknown) for feature in declared(of)}
    return {"available_at": _c(TIME), **found}


def _shown(*but: str) -> dict[str, Column]:
    """What rankers are shown, `but` some; what there is no row for, of a user or an item, is unknown."""
    return {
        feature.column: Column(TYPES[feature.kind], nullable=feature.unknown or feature.of != "decision")
        for feature in FEATURES
        if feature.seen == "itself" and feature.column not in but
    }


LAKE: dict[str, Table] = {
    t.name: t
    for t in (
        *(_validated(name) for name in RAW),
        Table(
            "quarantine",
            "rows set aside by `validate`, once for each expectation they broke; two copies of a row are two rows",
            ("row_key", "expectation"),
            {"row_key": _c(STR, "?"), "expectation": _c(STR), "reason": _c(STR), "payload": _c(STR)},
            partition=("day", "table"),
        ),
        Table(
            "profiles",
            "what the published columns of a table of a day look like, in figures that add up over days",
            ("column",),
            {
                "column": _c(STR),
                "kind": _c(STR),  # number, time (µs since 1970), text, nested
                "rows": _c(pa.int64()),
                "nulls": _c(pa.int64()),
                "minimum": _c(pa.float64(), "?"),
                "maximum": _c(pa.float64(), "?"),
                "mean": _c(pa.float64(), "?"),
                "distinct": _c(pa.float64(), "?"),
                "distinct_sketch": _c(pa.binary(), "?"),  # Apache DataSketches HLL
                "quantile_values": _c(pa.list_(pa.float64()), "?"),
                "quantile_weights": _c(pa.list_(pa.float64()), "?"),  # rows each value stands for
            },
            partition=("day", "table"),
        ),
        Table(
            "labels",
            "one row per impression: what came of it, and from when that was known",
            ("impression_id",),
            {
                "impression_id": _c(STR),
                "request_id": _c(STR),
                "event_time": _c(TIME),
                "known_at": _c(TIME),  # when the impression itself was known
                "user_id": _c(STR, "?"),
                "item_id": _c(STR),
                "clicked": _c(pa.bool_()),
                "click_known_at": _c(TIME, "?"),  # true for every T after it
                "click_superseded": _c(SUPERSEDED, "?"),  # and then; nearly always null
                "click_matures_at": _c(TIME),  # until then a click may come, see `jobs.outcomes`
                "converted": _c(pa.bool_()),
                "conversion_known_at": _c(TIME, "?"),
                "conversion_superseded": _c(SUPERSEDED, "?"),
                "conversion_credit": _c(pa.float64()),  # sum of its shares; `converted` is credit > 0
                "conversion_value": _c(pa.float64()),  # sum of share x value; like the credit, as of the run
                "matures_at": _c(TIME),  # until then a purchase may be made, and told later
                "outcomes": _c(OUTCOMES, "?"),  # null: none was declared, see `jobs.outcomes`
            },
        ),
        Table(
            "user_features",
            "what was known of a user at the end of a day (available_at: when it counts as known, see jobs.asof.clock)",
            ("user_id",),
            {"user_id": _c(STR), **_features("user")},
        ),
        Table(
            "item_features",
            "what was known of an item at the end of a day (available_at: as of users)",
            ("item_id",),
            {"item_id": _c(STR), **_features("item")},
        ),
        Table(
            "encodings",
            "the smoothed click rate of every value of a target encoding at the end of a day (as features, as known)",
            ("encoding", "value"),
            {
                "encoding": _c(STR),  # a name of `models.features.ENCODINGS`
                "value": _c(STR),  # its columns' values, joined by U+001F
                "available_at": _c(TIME),
                "impressions": _c(pa.float64()),  # over the long-term window
                "clicks": _c(pa.float64()),  # of these impressions
                "click_rate": _c(pa.float64()),
            },
        ),
        Table(
            "examples",
            "a dataset: impressions with the features known before them and the labels known at the cut",
            ("impression_id",),
            {
                "impression_id": _c(STR),
                "request_id": _c(STR),
                "event_time": _c(TIME),
                "user_id": _c(STR, "?"),
                "item_id": _c(STR),
                "surface": _c(STR),
                "position": _c(pa.int32()),
                "propensity": _c(pa.float64(), "?"),
                "policy": _c(STR),
                "split": _c(STR),  # train, validate, test
                "clicked": _c(pa.bool_(), "?"),  # null: open at the cut, whatever has been heard of it
                "converted": _c(pa.bool_(), "?"),
                "conversion_heard_at": _c(TIME, "?"),  # of what the cut has heard, open or closed; null: nothing so far
                "outcomes": _c(
                    VALUES, "?"
                ),  # further ones by name: 0 or 1, or the value; one that is open is not there
                "weight": _c(pa.float64()),  # how many impressions it stands for; 1 outside train
                **_shown("surface", "position"),  # `models.features`
                "query": _c(STR, "?"),
                "source_item_id": _c(STR, "?"),
                "attributes": _c(ATTRIBUTES),  # the impression's, `user.` and `item.` attributes in one map
            },
            partition=("day", "mode"),
        ),
        Table(
            "retrieval_negatives",
            "items drawn from the whole catalogue against each train click, for retrieval models; no examples",
            ("impression_id", "draw"),
            {
                "impression_id": _c(STR),  # of the click
                "draw": _c(pa.int32()),
                "event_time": _c(TIME),
                "user_id": _c(STR),
                "surface": _c(STR),
                "item_id": _c(STR),  # never one the user was shown in the train days
                "probability": _c(pa.float64()),  # of one draw bringing this item: the q of a logQ correction
            },
            partition=("day", "mode"),
        ),
        Table(
            "candidates",
            "rankers trained for a day; one of them is the challenger",
            ("candidate_id",),
            {
                "candidate_id": _c(STR),
                "ranker": _c(STR),
                "chosen": _c(pa.bool_()),
                "bundle": _c(STR),
                "bundle_sha256": _c(STR),
                "run_id": _c(STR, "?"),
                "started_from": _c(STR, "?"),  # the newest of its kind, which a warm start continued
                "validation_log_loss": _c(pa.float64(), "?"),
                "validation_auc": _c(pa.float64(), "?"),
            },
            partition=("day", "mode"),
        ),
        Table(
            "delay_curves",
            "how long conversions of a training's clicks took until they were heard of, by surface and age",
            ("group", "age_days"),
            {
                "group": _c(STR),  # `all`, or `surface: <its name>` where it has enough conversions for its own curve
                "age_days": _c(pa.float64()),  # quarters of a day up to the horizon, when every label is closed
                "share": _c(pa.float64()),  # of the conversions there will be, how many are heard of by that age
                "stderr": _c(pa.float64(), "?"),  # null where the share is 0 and nothing is known of it
                "came": _c(pa.int64()),  # of these days' clicks so old, conversions heard of since the age before
                "at_risk": _c(pa.int64()),  # and until this age; came / at_risk is the reverse hazard
                "reverse_hazard": _c(pa.float64(), "?"),  # null where nothing was at risk
                "outcomes": _c(pa.int64()),  # conversions the group's curve rests on
                "origin": _c(STR),  # whose the curve is: own, parent (of a warm start), both
                "drift_log_ratio": _c(pa.float64(), "?"),  # of the last days' reverse hazards; above 0 they wait longer
                "drift_low": _c(pa.float64(), "?"),
                "drift_high": _c(pa.float64(), "?"),
                "drift_p_value": _c(pa.float64(), "?"),
            },
            partition=("day", "mode"),
        ),
        Table(
            "evidence",
            "what the backtest found for the challenger of a day, as one versioned JSON document",
            ("candidate_id",),
            {
                "candidate_id": _c(STR),
                "champion_id": _c(STR),
                "bundle_sha256": _c(STR),
                "document": _c(STR),
                "document_sha256": _c(STR),
            },
            partition=("day", "mode"),
        ),
        Table(
            "looks",
            "the ledger of looks, append-only: each spends a part of one risk of a false promotion",
            ("number",),
            {
                "number": _c(pa.int64()),  # 1, 2, … per endpoint
                "at": _c(TIME),  # the wall clock when its backtest began; never earlier than the look before
                "day": _c(STR),  # of the evidence: another clock than `at`
                "mode": _c(STR),
                "risk": _c(pa.float64()),  # the value's difference has the confidence 1 - risk
                "verdict": _c(STR, "?"),  # as known when the next look began: null if nobody had judged it
                "candidate_id": _c(STR, "?"),  # and who was judged, on which evidence
                "bundle_sha256": _c(STR, "?"),
                "evidence_sha256": _c(STR, "?"),
            },
            partition=("endpoint",),
        ),
        Table(
            "promotions",
            "the gate's verdict on the evidence about the challenger of a day, with its reasons",
            ("candidate_id",),
            {
                "candidate_id": _c(STR),
                "champion_id": _c(STR),
                "bundle": _c(STR),
                "bundle_sha256": _c(STR),
                "evidence_sha256": _c(STR),
                "look": _c(pa.int64()),  # whose risk the verdict spent; a refusal spends none
                "verdict": _c(STR),  # promote, hold, refuse
                "reasons": _c(pa.list_(STR)),
                "decided_at": _c(TIME),
            },
            partition=("day", "mode"),
        ),
        Table(
            "deployments",
            "the ledger of releases, append-only: a row a step; what an endpoint serves is its last live row",
            ("number",),
            {
                "number": _c(pa.int64()),  # 1, 2, … per endpoint: the order of the steps
                "step": _c(STR),  # approved, shadow, canary, live, rolled back; refused, rejected: changed nothing
                "share": _c(pa.float64()),  # of the requests that the candidate answers from then on, in percent
                "at": _c(TIME),  # the wall clock; never earlier than the step before
                "candidate_id": _c(STR),
                "day": _c(STR),  # of the evidence: another clock than `at`
                "mode": _c(STR),
                "bundle": _c(STR),
                "bundle_sha256": _c(STR),
                "evidence_sha256": _c(STR),  # what was read by whoever approved
                "config": _c(STR),  # its name at the endpoint
                "before": _c(STR, "?"),  # the config that served before it, and serves again should it leave
                "by": _c(STR),  # who said yes, or no
                "why": _c(STR),
            },
            partition=("endpoint",),
        ),
        Table(
            "serving_reports",
            "how the endpoint and its traffic did on a day, one figure a row",
            ("metric", "surface"),
            {
                "metric": _c(STR),
                "surface": _c(STR),  # "": all of them
                "value": _c(pa.float64(), "?"),
                "stderr": _c(pa.float64(), "?"),
                "low": _c(pa.float64(), "?"),
                "high": _c(pa.float64(), "?"),
                "n": _c(pa.int64()),
                "effective_n": _c(pa.float64(), "?"),
                "reference": _c(STR),  # what it is held against, "": nothing
                "expected": _c(pa.float64(), "?"),
                "bound_low": _c(pa.float64(), "?"),  # beyond these, for sure, it alarms
                "bound_high": _c(pa.float64(), "?"),
                "p_value": _c(pa.float64(), "?"),  # of a figure that is within them
                "alarm": _c(pa.bool_()),
                "state": _c(STR),  # of its incident: opened, open, closed; "": none
                "suspect": _c(STR),  # whom to suspect first while it is open
                "closes": _c(STR, "?"),  # the day at whose end the labels it counts are closed; null: they are
                "model": _c(STR),  # the candidate that is watched
                "note": _c(STR),
            },
        ),
        Table(
            "readouts",
            "experiment readouts of a day: variant against control",
            ("experiment", "variant", "metric"),
            {
                "experiment": _c(STR),
                "metric": _c(STR),
                "control": _c(STR),
                "variant": _c(STR),
                "value": _c(pa.float64(), "?"),
                "stderr": _c(pa.float64(), "?"),
                "low": _c(pa.float64(), "?"),
                "high": _c(pa.float64(), "?"),
                "n": _c(pa.int64()),
                "effective_n": _c(pa.float64(), "?"),
                "note": _c(STR),
                # of a declared experiment; null of the endpoint against logging
                "always_low": _c(pa.float64(), "?"),  # of the interval that may be read on any day
                "always_high": _c(pa.float64(), "?"),
                "p_value": _c(pa.float64(), "?"),  # of one look at a planned end; of `sample_ratio`: of the arms' users
                "always_p": _c(pa.float64(), "?"),  # valid on any day
                "detectable": _c(pa.float64(), "?"),  # the least lift of control that this much data shows, on any day
                "variance_left": _c(pa.float64(), "?"),  # by what is known of users before the start; 1: nothing
                "verdict": _c(STR, "?"),  # of the row `verdict`: ship, stop or go on, until when, and why
                "closes_on": _c(STR, "?"),  # the day on which the last label it rests on closes
                # where a bundle of its own answered an arm, the endpoint said so, and it was one
                "candidate_id": _c(STR, "?"),  # of the variant
                "opponent_id": _c(STR, "?"),  # of control
            },
        ),
        Table(
            "reevaluations",
            "evidence whose labels closed on a day, computed again with all of them in: a row each",
            ("candidate_id",),
            {
                "candidate_id": _c(STR),
                "champion_id": _c(STR),
                "evidence_day": _c(STR),
                "mode": _c(STR),
                "bundle_sha256": _c(STR),
                "evidence_sha256": _c(STR),  # of the first document
                "first_verdict": _c(STR, "?"),  # null: nobody judged this evidence
                "matured_verdict": _c(STR, "?"),  # null: it cannot be told, and `refused` says why
                "matured_reasons": _c(pa.list_(STR)),
                "changed": _c(pa.bool_(), "?"),  # whether the two verdicts differ; null without one of them
                "deployed": _c(pa.bool_()),  # the bundle reached the endpoint
                "alarm": _c(pa.bool_()),  # deployed, and the matured verdict is not promote
                "refused": _c(STR, "?"),
                "test_rows": _c(pa.int64(), "?"),
                "label_changes": _c(LABEL_CHANGES),
                "figures": _c(MOVED),
                "document": _c(STR, "?"),  # the matured one, of the schema of `evidence`
            },
        ),
    )
}


def raw_tables(**rows: Sequence[Mapping[str, Any]]) -> Tables:
    """Raw tables from rows by table name, in the contract's types; a column that no row has is left out.

    Times must have a zone. Raises `Refused` naming every column whose values have no such type.
    """
    found, wrong = {}, []
    for name, listed in rows.items():
        extra = RAW[name].extra_prefix
        columns: dict[str, Any] = {}
        for column in dict.fromkeys(key for row in listed for key in row):
            kind = RAW[name].columns[column].type if column in RAW[name].columns else None
            if kind is None and not (extra and column.startswith(extra)):
                wrong.append(f"{name}.{column}: no such column")
                continue
            try:
                columns[column] = pa.array([row.get(column) for row in listed], kind)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                wrong.append(f"{name}.{column}: {error}")
        table = pa.table(columns) if columns else RAW[name].schema.empty_table()
        found[name] = table.sort_by("event_time") if "event_time" in columns else table
    if wrong:
        raise Refused(f"raw rows need the columns of jobs.lake.tables.RAW; found {'; '.join(wrong)}")
    return found


def conform(data: pa.Table, table: Table) -> pa.Table:
    """`data` with exactly the table's columns, order and types; raises `Refused` naming what is missing or differs.

    Only casts inside a kind are made (string to large_string, dictionary to string, int32 to int64, ns to us where
    nothing is lost); text is never parsed into numbers or times.
    """
    missing = [name for name in table.columns if name not in data.column_names]
    unknown = [name for name in data.column_names if name not in table.columns]
    if missing or unknown:
        raise Refused(
            f"table {table.name} needs exactly the columns {list(table.columns)}; missing {missing}, unknown {unknown}"
        )
    columns = []
    for field_ in table.schema:
        found = data.column(field_.name)
        if _kind(found.type) not in (_kind(field_.type), "null"):
            raise Refused(f"table {table.name}: {field_.name} must be {field_.type}; found {found.type}")
        if not field_.nullable and found.null_count:
            raise Refused(f"table {table.name}: {field_.name} must not be null; found {found.null_count} nulls")
        try:
            columns.append(found.cast(field_.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise Refused(f"table {table.name}: {field_.name} must be {field_.type}; {error}") from error
    return pa.table(columns, schema=table.schema)


def _kind(type_: pa.DataType) -> str:
    """What a type holds, whatever its width or encoding."""
    if pa.types.is_dictionary(type_):
        return _kind(type_.value_type)
    kinds = {
        "null": pa.types.is_null,
        "bool": pa.types.is_boolean,
        "int": pa.types.is_integer,
        "float": pa.types.is_floating,
        "time": lambda t: pa.types.is_timestamp(t) and t.tz is not None,
        "text": lambda t: pa.types.is_string(t) or pa.types.is_large_string(t),
        "map": pa.types.is_map,
    }
    for kind, is_kind in kinds.items():
        if is_kind(type_):
            return kind
    if pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_):
        return f"list of {_kind(type_.value_type)}"
    if pa.types.is_struct(type_):
        return f"struct of {[(field_.name, _kind(field_.type)) for field_ in type_]}"
    return str(type_)
