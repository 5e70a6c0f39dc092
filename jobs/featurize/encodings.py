"""Target encodings: the smoothed click rate of every value of a context, from impressions and the clicks on them.

A row of day F counts impressions and clicks known at the midnight that ends F and meets examples of later days only: no
encoding has seen the row it describes, or anything later. A click counts with the impression it names, once however
often it was clicked; one that names no impression counts for no encoding.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from jobs.featurize.core import Floats, Ints, Window, available, ratio, rolling, smoothed
from jobs.lake.tables import LAKE
from jobs.moment.columns import words
from models.features import ENCODINGS
from models.rankers.features import joint

CONTEXT = ("surface", "query", "source_category", "item_category")
CLICK_DAY = "click_day"
KEYS = (*CONTEXT, "event_day", "start_day", CLICK_DAY)
"""What impressions are counted by, as the column `n`; `click_day` is when a click on it was known, null without one."""


@dataclass(frozen=True)
class _Rolled:
    """An encoding's values and their counts, (values, days)."""

    values: list[str]
    shown: Ints
    clicked: Ints
    category: Ints
    """(values,) the code of each one's item category."""


def encodings(counts: pa.Table, window: Window) -> Iterator[pa.Table]:
    """One `encodings` table per feature day, sorted; `counts` has the columns `KEYS` and `n`, its item category known.

    Values shown fewer than `features.encoding_min_impressions` times in the window have no row.
    """
    rolled = _rolled(counts, window)
    total = [rolled["category"].shown.sum(axis=0), rolled["category"].clicked.sum(axis=0)]
    rates = _rates(rolled, ratio(total[1], total[0]), window.settings.encoding_prior_impressions)
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


def _rolled(counts: pa.Table, window: Window) -> dict[str, _Rolled]:
    """Every encoding's counts per value and feature day."""
    of_words = {name: words(counts[name]) for name in CONTEXT}
    event_day, start_day, n = (counts[name].to_numpy().astype(np.int64) for name in ("event_day", "start_day", "n"))
    with_click = counts[CLICK_DAY].is_valid().to_numpy()
    clicked_day = np.maximum(start_day, counts[CLICK_DAY].fill_null(0).to_numpy().astype(np.int64))
    category = of_words["item_category"].at.astype(np.int64)
    found = {}
    for name, of in ENCODINGS.items():
        both = joint([of_words[column] for column in of])
        codes, values = both.at.astype(np.int64), list(both.values)

        def rolled(rows: Ints, known: Ints, codes: Ints = codes, size: int = len(values)) -> Ints:
            return rolling(codes[rows], size, event_day[rows], known[rows], n[rows], window, window.long_term_days)

        there = codes >= 0
        _, first = np.unique(codes[there], return_index=True)  # every code occurs
        found[name] = _Rolled(
            values,
            rolled(np.flatnonzero(there), start_day),
            rolled(np.flatnonzero(there & with_click), clicked_day),
            category[there][first],
        )
    return found


def _rates(rolled: dict[str, _Rolled], overall: Floats, pseudo_count: float) -> dict[str, Floats]:
    """(values, days) each: categories shrunk towards the rate of everything, joint values towards their category's."""
    of = rolled["category"]
    categories = smoothed(of.clicked, of.shown, overall[None, :], pseudo_count)
    return {
        name: categories if name == "category" else smoothed(r.clicked, r.shown, categories[r.category], pseudo_count)
        for name, r in rolled.items()
    }
