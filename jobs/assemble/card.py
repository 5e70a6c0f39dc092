"""The data card: what a dataset is made of, as one JSON document in the notes of its commit.

Counts, rates and weights per split and surface, spans, who is in it, what was left out and why, which share of rows
lacks each feature, and the table versions it was read from. Made of what an engine tells of the rows as it writes them,
which adds up over any parts of them; figures are rounded to what does not depend on the order of rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.assemble.inputs import Inputs
from jobs.assemble.selection import CALIBRATED, LEFT_OUT
from jobs.lake.tables import STR, TIME
from jobs.parcels.core import added
from jobs.places import Place, footer
from models.rankers.features import CATEGORICAL, NUMERIC

SCHEMA_VERSION = 1
FEATURES = (*NUMERIC, *CATEGORICAL)
"""Whose missing share is told; attributes are many and may well be missing."""
KEYS = ("split", "surface")
DIGITS = 9
"""Sums of floats agree to so many whatever the order."""
SUMS = (
    ("rows", "sum"),
    ("anonymous", "sum"),
    ("clicked", "sum"),
    ("clicked_unknown", "sum"),
    ("converted", "sum"),
    ("converted_unknown", "sum"),
    ("weight", "sum"),
    ("weight_known", "sum"),
    ("weight_clicked", "sum"),
    ("lightest", "min"),
    ("heaviest", "max"),
    ("first", "min"),
    ("last", "max"),
    *((f"missing.{name}", "sum") for name in FEATURES),
)
"""Per split and surface; sums, least and largest of parts are those of the whole."""
TYPES = {"weight": pa.float64(), "weight_known": pa.float64(), "weight_clicked": pa.float64()}
TYPES |= {"lightest": pa.float64(), "heaviest": pa.float64(), "first": TIME, "last": TIME}
SUMMED = pa.schema([*((name, STR) for name in KEYS), *((name, TYPES.get(name, pa.int64())) for name, _ in SUMS)])
DISTINCT = pa.schema([("what", STR), ("split", STR), ("n", pa.int64())])
"""How many users and items a split has, and items of another's identity in all (of the split "")."""
IDS = {"users": "user_id", "items": "item_id"}
MOST_ROWS = 1 << 18
"""Are summed at once."""


@dataclass(frozen=True)
class Told:
    """What an engine tells of rows it wrote and left out: `SUMMED`, `DISTINCT`, `selection.LEFT_OUT`.

    Of parts that share no user and no item the tables add up to those of the whole.
    """

    sums: pa.Table
    distinct: pa.Table
    left_out: pa.Table

    @classmethod
    def whole(cls, parts: Sequence[Self]) -> Self:
        """Of all parts."""
        distinct = added((part.distinct for part in parts), DISTINCT)
        return cls(_added(part.sums for part in parts), distinct, added((part.left_out for part in parts), LEFT_OUT))

    def of(self, what: str) -> dict[str, int]:
        """`DISTINCT` by split."""
        return {row["split"]: row["n"] for row in self.distinct.to_pylist() if row["what"] == what}


def card(told: Told, negatives: Sequence[Place], given: Inputs, versions: Mapping[str, int]) -> dict[str, Any]:
    """The card of examples, and of the part files of `retrieval_negatives`."""
    sums, seen = told.sums, {what: told.of(what) for what in IDS}
    gone = sorted(told.left_out.to_pylist(), key=lambda row: (row["split"], row["left_out"], str(row["surface"])))
    splits = {}
    for split, days in given.data.splits.items():
        mine = sums.filter(pc.equal(sums.column("split"), split))
        surfaces = {row["surface"]: _figures([row]) for row in sorted(mine.to_pylist(), key=lambda r: r["surface"])}
        whole = mine.to_pylist()
        splits[split] = {
            "days": [str(days[0]), str(days[-1]), len(days)],
            **_figures(whole),
            **{what: found.get(split, 0) for what, found in seen.items()},
            "event_time": [str(min(r["first"] for r in whole)), str(max(r["last"] for r in whole))] if whole else None,
            "surfaces": surfaces,
            "missing": _missing(whole),
            "left_out": _reasons([row for row in gone if row["split"] == split]),
        }
    examples = sum(split["rows"] for split in splits.values())
    selected = sum(row["rows"] for row in gone)
    return {
        "schema_version": SCHEMA_VERSION,
        "cut": str(given.data.cut),
        "splits": splits,
        "impressions_read": given.rows("impressions"),
        # Further copies of an impression id, and impressions known only after the cut.
        "copies_or_unknown_at_cut": given.rows("impressions") - examples - selected,
        "duplicate_items": sum(told.of("duplicate_items").values()),
        "retrieval_negatives": sum(footer(part).num_rows for part in negatives),
        "settings": given.settings.model_dump(mode="json"),
        "probabilities": CALIBRATED[given.settings.selection.duplicates],
        "versions": dict(versions),
    }


def counts(card: Mapping[str, Any]) -> dict[str, int]:
    """The card's headline: examples per split, train days, outcomes known and unknown, rows left out by selection."""
    splits = card["splits"]
    found = {split: int(figures["rows"]) for split, figures in splits.items()}
    found["train_days"] = splits["train"]["days"][2]
    for name in ("clicked", "converted", "clicked_unknown", "converted_unknown"):
        found[name] = sum(int(figures[name]) for figures in splits.values())
    found["left_out"] = sum(n for reasons in splits["train"]["left_out"].values() for n in reasons.values())
    return found


def sums(examples: Iterable[pa.Table]) -> pa.Table:
    """`SUMMED` of `examples` rows."""
    return _added(_summed(rows.slice(at, MOST_ROWS)) for rows in examples for at in range(0, len(rows), MOST_ROWS))


def distinct(rows: pa.Table, what: str) -> pa.Table:
    """`DISTINCT`: how many users or items the rows of each split have."""
    pairs = rows.select(["split", IDS[what]]).rename_columns(["split", "id"])
    counted = pairs.group_by("split").aggregate([("id", "count_distinct", pc.CountOptions(mode="only_valid"))])
    columns = [pa.array([what] * len(counted), STR), counted.column("split"), counted.column("id_count_distinct")]
    return pa.table(columns, schema=DISTINCT)


def count(what: str, n: int) -> pa.Table:
    """`DISTINCT` of what has no split."""
    return pa.table([[what], [""], [n]], schema=DISTINCT)


def _added(parts: Iterable[pa.Table]) -> pa.Table:
    whole = pa.concat_tables([SUMMED.empty_table(), *parts])
    return whole.group_by(list(KEYS)).aggregate(list(SUMS)).rename_columns(SUMMED.names).cast(SUMMED)


def _summed(rows: pa.Table) -> pa.Table:
    """`SUMMED` of some rows."""
    missing = {f"missing.{name}": rows.column(name) for name in FEATURES}
    facts = pa.table(_facts(rows) | missing)
    nulls = pc.CountOptions(mode="only_null")
    how = [(name, "count", nulls) if name in missing else (name, how, None) for name, how in SUMS]
    return facts.group_by(list(KEYS)).aggregate(how).rename_columns(SUMMED.names).cast(SUMMED)


def _facts(table: pa.Table) -> dict[str, Any]:
    """What each row adds to `SUMS`, beside the features it lacks."""
    clicked, converted, weight = (table.column(name) for name in ("clicked", "converted", "weight"))
    known = clicked.is_valid()
    return {
        **{name: table.column(name) for name in KEYS},
        "rows": pa.array(np.ones(len(table), np.int64)),
        "anonymous": _ones(table.column("user_id").is_null()),
        "clicked": _ones(pc.fill_null(clicked, False)),
        "clicked_unknown": _ones(clicked.is_null()),
        "converted": _ones(pc.fill_null(converted, False)),
        "converted_unknown": _ones(converted.is_null()),
        "weight": weight,
        "weight_known": pc.multiply(weight, known.cast(pa.float64())),
        "weight_clicked": pc.multiply(weight, pc.fill_null(clicked, False).cast(pa.float64())),
        "lightest": weight,
        "heaviest": weight,
        "first": table.column("event_time"),
        "last": table.column("event_time"),
    }


def _ones(flags: pa.ChunkedArray) -> pa.ChunkedArray:
    return flags.cast(pa.int64())


def _figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows, outcomes and weights of some surfaces together; `click_rate` is weighted and of known clicks only."""
    names = ("rows", "anonymous", "clicked", "clicked_unknown", "converted", "converted_unknown")
    found: dict[str, Any] = {name: sum(row[name] for row in rows) for name in names}
    weight, known, clicked = (sum(row[name] for row in rows) for name in ("weight", "weight_known", "weight_clicked"))
    span = [min(row["lightest"] for row in rows), max(row["heaviest"] for row in rows)] if rows else []
    rate = _rounded(clicked / known) if known else None
    return found | {"weight": _rounded(weight), "weight_span": list(map(_rounded, span)), "click_rate": rate}


def _missing(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The share of rows without each feature, of the features that any row lacks."""
    total = sum(row["rows"] for row in rows)
    shares = {name: sum(row[f"missing.{name}"] for row in rows) / total for name in FEATURES} if total else {}
    return {name: round(share, 6) for name, share in shares.items() if share}


def _reasons(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Reason to surface to rows."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        found.setdefault(row["left_out"], {})[row["surface"]] = row["rows"]
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
