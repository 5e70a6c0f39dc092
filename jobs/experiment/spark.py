"""An A/B test on Spark: impressions meet their labels, go to their user's bucket, and core does the rest there."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from jobs.experiment import users
from jobs.lake.parts import read_part
from jobs.lake.tables import LAKE
from jobs.parcels.spark import Out, Steps

PLACE = "place"
"""Where a row lies among all: sums of a user's rows are taken in the order that one process has them in."""
FILE_ROWS = 1 << 40


def met(
    steps: Steps,
    files: Mapping[str, Sequence[str]],
    exposed: pa.Table,
    quarantine: pa.Table,
    asks: users.Asked,
) -> list[users.Met]:
    """`users.met` of each bucket of users, in the driver. Raises `Refused` as readers of part files do."""
    of = asks.settings
    shown = pa.schema([*(LAKE["impressions"].schema.field(n) for n in users.IMPRESSIONS), (PLACE, pa.int64())])
    heard = [(name, pa.float64()) for name in ("clicked", "conversions", "value", "closed")]
    out = pa.schema([*shown, ("labelled", pa.bool_()), *heard, (users.UNIT, pa.string())])

    def placed(item: tuple[int, str]) -> Iterator[list[pa.Table]]:
        rows = read_part(item[1], "impressions", users.IMPRESSIONS)
        yield [rows.append_column(PLACE, pa.array(np.arange(len(rows)) + item[0] * FILE_ROWS))]

    def joined(rows: pa.Table, labels: pa.Table) -> pa.Table:
        return users.with_units(users.joined(rows, labels, asks.cut, asks.late_days), of)

    def of_bucket(_: int, rows: pa.Table, said: pa.Table, aside: pa.Table) -> users.Met:
        return users.met(rows.sort_by(PLACE), said, aside, asks)

    [impressions] = steps.work([*enumerate(files["impressions"])], placed, [Out(shown, ("impression_id",))])
    labels = steps.parts(files["labels"], "labels", users.LABELS, ("impression_id",))
    rows = steps.meet([impressions, labels], joined, out, (users.UNIT,))
    small = users.said_with_units(exposed), users.aside_with_units(quarantine)
    sides = [rows, *(steps.send(table, (users.UNIT,)) for table in small)]
    return steps.told(sides, of_bucket)
