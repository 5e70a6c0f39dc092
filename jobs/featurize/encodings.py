"""Target encodings: the smoothed click rate of every value of a context, from impressions and the clicks on them.

A row of day F counts impressions and clicks known at the midnight that ends F and meets examples of later days only: no
encoding has seen the row it describes, or anything later. A click counts with the impression it names, once however
often it was clicked; one that names no impression counts for no encoding.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.featurize.core import Floats, Ints, Window, available, ratio, rolling, smoothed
from jobs.featurize.events import COUNTED
from jobs.featurize.items import ItemCounts
from jobs.lake.tables import LAKE
from models.features import ENCODINGS
from models.rankers.features import SEPARATOR

CONTEXT = ("surface", "query", "source_category", "item_category")
CLICK_DAY = "click_day"
KEYS = (*CONTEXT, "clicked", "event_day", "start_day")
"""What impressions are counted by, as the column `n`, all of them and again those `clicked`: these from the day their
first click was known."""
ENCODED = pa.schema(
    [
        *((name, pa.string()) for name in ("encoding", "value", "item_category")),
        *(("clicked", pa.bool_()), ("event_day", pa.int32()), ("start_day", pa.int32()), ("n", pa.int64())),
    ]
)
"""The same by the values of encodings."""
WHOLE = "category"
"""The encoding that counts each impression which counts for any: items without a category count for none."""


@dataclass(frozen=True)
class _Rolled:
    """An encoding's values and their counts, (values, days)."""

    values: list[str]
    shown: Ints
    clicked: Ints
    category: Ints
    """(values,) the code of each one's item category among the values of `WHOLE`."""


def context_counts(shown: pa.Table) -> pa.Table:
    """`KEYS` and `n` of impressions, given their `CONTEXT`, event_day, start_day, and when a click was first known."""
    shown = shown.filter(shown["item_category"].is_valid())
    clicked = shown.filter(shown[CLICK_DAY].is_valid())
    since = pc.max_element_wise(clicked["start_day"], clicked[CLICK_DAY])
    clicked = clicked.set_column(clicked.column_names.index("start_day"), "start_day", since)
    rows = pa.concat_tables(
        table.append_column("clicked", pa.array(np.full(len(table), which)))
        for which, table in ((False, shown), (True, clicked))
    )
    return rows.group_by([*KEYS]).aggregate([([], "count_all")]).rename_columns([*KEYS, "n"])


def encoded(counts: pa.Table, names: Collection[str] = tuple(ENCODINGS)) -> pa.Table:
    """`ENCODED` of the columns `KEYS` and `n`, of some encodings; a value with an unknown part is none."""
    found = [ENCODED.empty_table()]
    for name in names:
        parts = [counts[column].cast(pa.string()) for column in ENCODINGS[name]]
        columns = {"value": pc.binary_join_element_wise(*parts, SEPARATOR)}
        columns |= {column: counts[column] for column in ENCODED.names[3:]}
        rows = pa.table({**columns, "item_category": counts["item_category"].cast(pa.string())})
        keys = [column for column in ENCODED.names if column not in ("encoding", "n")]
        summed = rows.filter(rows["value"].is_valid()).group_by(keys).aggregate([("n", "sum")])
        summed = summed.rename_columns([*keys, "n"]).append_column("encoding", pa.repeat(name, len(summed)))
        found.append(summed.select(ENCODED.names).cast(ENCODED))
    return pa.concat_tables(found)


def totals(encoded: pa.Table) -> pa.Table:
    """All of `ENCODED` as `COUNTED`, of the kinds `shown` and `clicked`."""
    rows = encoded.filter(pc.equal(encoded["encoding"], WHOLE))
    kind = pc.if_else(rows["clicked"], "clicked", "shown")
    nothing = {"item_id": pa.nulls(len(rows), pa.string()), "last_hour": np.zeros(len(rows), bool)}
    columns = {name: rows[name] for name in ("event_day", "start_day", "n")}
    return pa.table({"kind": kind, **nothing, **columns}).select(COUNTED.names).cast(COUNTED)


def overall_rate(totals: ItemCounts, window: Window) -> Floats:
    """(days,) clicks per impression of everything that is encoded."""
    nobody = np.zeros(len(totals.n), np.int64)
    shown, clicked = (totals.rolled(kind, nobody, 1, window, window.long_term_days)[0] for kind in ("shown", "clicked"))
    return ratio(clicked, shown)


def encodings(encoded: pa.Table, overall: Floats, window: Window) -> Iterator[pa.Table]:
    """One `encodings` table per feature day, sorted, of the values in `ENCODED`; all values of a category together.

    Values shown fewer than `features.encoding_min_impressions` times in the window have no row.
    """
    rolled = _rolled(encoded, window)
    rates = _rates(rolled, overall, window.settings.encoding_prior_impressions)
    for at, day in enumerate(window.days):
        parts = []
        for name in sorted(ENCODINGS):
            of = rolled[name]
            often = np.flatnonzero(of.shown[:, at] >= window.settings.encoding_min_impressions)
            rows = sorted(often.tolist(), key=of.values.__getitem__)
            columns = {
                "encoding": pa.repeat(name, len(rows)),
                "value": pa.array([of.values[row] for row in rows], pa.string()),
                "available_at": available(day, len(rows), window.settings),
                "impressions": of.shown[rows, at].astype(np.float64),
                "clicks": of.clicked[rows, at].astype(np.float64),
                "click_rate": rates[name][rows, at],
            }
            parts.append(pa.table(columns, schema=LAKE["encodings"].schema))
        yield pa.concat_tables(parts)


def _rolled(encoded: pa.Table, window: Window) -> dict[str, _Rolled]:
    """Every encoding's counts per value and feature day."""
    categories = encoded["item_category"].unique()
    found = {}
    for name in ENCODINGS:
        rows = encoded.filter(pc.equal(encoded["encoding"], name))
        values = categories if name == WHOLE else rows["value"].unique()
        codes = pc.index_in(rows["value"], values).to_numpy().astype(np.int64)
        event_day, start_day, n = (rows[column].to_numpy().astype(np.int64) for column in ENCODED.names[4:])
        clicked = rows["clicked"].to_numpy()

        def count(
            which: Ints, of: tuple[Ints, ...] = (codes, event_day, start_day, n), size: int = len(values)
        ) -> Ints:
            code, event, start, n = (column[which] for column in of)
            return rolling(code, size, event, start, n, window, window.long_term_days)

        shown, with_click = (count(np.flatnonzero(which)) for which in (~clicked, clicked))
        category = np.zeros(len(values), np.int64)
        category[codes] = pc.index_in(rows["item_category"], categories).to_numpy()
        found[name] = _Rolled(values.to_pylist(), shown, with_click, category)
    return found


def _rates(rolled: dict[str, _Rolled], overall: Floats, pseudo_count: float) -> dict[str, Floats]:
    """(values, days) each: categories shrunk towards the rate of everything, joint values towards their category's."""
    of = rolled[WHOLE]
    categories = smoothed(of.clicked, of.shown, overall[None, :], pseudo_count)
    return {
        name: categories if name == WHOLE else smoothed(r.clicked, r.shown, categories[r.category], pseudo_count)
        for name, r in rolled.items()
    }
