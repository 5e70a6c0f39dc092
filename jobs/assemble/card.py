"""The data card: what a dataset is made of, as one JSON document in the notes of its commit.

Counts, rates and weights per split and surface, spans, who is in it, what was left out and why, which share of rows
lacks each feature, and the table versions it was read from. Made from the published part files, row group by row group,
so it describes what readers find, on any engine; figures are rounded to what does not depend on the order of rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.assemble.inputs import Inputs
from jobs.assemble.selection import CALIBRATED
from jobs.places import Place, footer, parquet
from models.rankers.features import CATEGORICAL, NUMERIC

SCHEMA_VERSION = 1
FEATURES = (*NUMERIC, *CATEGORICAL)
"""Whose missing share is told; attributes are many and may well be missing."""
COUNTED = ("split", "surface", "event_time", "user_id", "item_id", "clicked", "converted", "weight")
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


def card(
    parts: Mapping[str, Sequence[Place]], left_out: pa.Table, given: Inputs, versions: Mapping[str, int]
) -> dict[str, Any]:
    """The card of the part files of `examples` and `retrieval_negatives`; `left_out` is `selection.LEFT_OUT`."""
    sums, seen = _summed(_row_groups(parts["examples"]))
    gone = sorted(left_out.to_pylist(), key=lambda row: (row["split"], row["left_out"], str(row["surface"])))
    splits = {}
    for split, days in given.data.splits.items():
        mine = sums.filter(pc.equal(sums.column("split"), split))
        surfaces = {row["surface"]: _figures([row]) for row in sorted(mine.to_pylist(), key=lambda r: r["surface"])}
        whole = mine.to_pylist()
        splits[split] = {
            "days": [str(days[0]), str(days[-1]), len(days)],
            **_figures(whole),
            **{name: len(values) for name, values in seen.get(split, {"users": (), "items": ()}).items()},
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
        "duplicate_items": len(given.identity),
        "retrieval_negatives": sum(footer(part).num_rows for part in parts["retrieval_negatives"]),
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


def _row_groups(parts: Iterable[Place]) -> Iterator[pa.Table]:
    columns = list(dict.fromkeys((*COUNTED, *FEATURES)))
    for part in parts:
        file = parquet(part)
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns).cast(pa.schema([file.schema_arrow.field(c) for c in columns]))


def _summed(tables: Iterable[pa.Table]) -> tuple[pa.Table, dict[str, dict[str, set[str]]]]:
    """`SUMS` per split and surface, and the users and items of each split."""
    keys = ["split", "surface"]
    rename = [*keys, *(name for name, _ in SUMS)]
    parts, seen = [], dict[str, dict[str, set[str]]]()
    for table in tables:
        parts.append(_facts(table).group_by(keys).aggregate(list(SUMS)).rename_columns(rename))
        for split in pc.unique(table.column("split")).to_pylist():
            mine = table.filter(pc.equal(table.column("split"), split))
            found = seen.setdefault(split, {"users": set(), "items": set()})
            for kind, column in (("users", "user_id"), ("items", "item_id")):
                found[kind].update(pc.unique(mine.column(column).drop_null()).to_pylist())
    if not parts:
        return pa.table({name: pa.array([], pa.string()) for name in rename}), seen
    return pa.concat_tables(parts).group_by(keys).aggregate(list(SUMS)).rename_columns(rename), seen


def _facts(table: pa.Table) -> pa.Table:
    """What each row adds to `SUMS`."""
    clicked, converted, weight = (table.column(name) for name in ("clicked", "converted", "weight"))
    known = clicked.is_valid()
    columns = {
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
    missing = {f"missing.{name}": _ones(table.column(name).is_null()) for name in FEATURES}
    return pa.table({"split": table.column("split"), "surface": table.column("surface")} | columns | missing)


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
