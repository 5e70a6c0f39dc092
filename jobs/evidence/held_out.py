"""The rows a challenger is judged on: the test split of its own dataset, and newer days from the datasets since.

Nobody has learned from them: a dataset ends with its test days, so whatever was trained on the first of these datasets,
or before it, has seen none of what the later ones add. `jobs.evidence.core` checks that against the first row.
"""

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.errors import Refused
from jobs.evidence.document import Judged
from jobs.lake.run import Mode, Run

MODES: tuple[Mode, Mode] = ("full", "warm")
Dataset = tuple[date, Mode]
"""The day and mode of one."""


def datasets(run: Run, trained: date) -> list[Dataset]:
    """Those of every day from `trained` to the run's own, of its mode where there is one: test splits are the same.

    A day without a dataset is left out.
    """
    published = {(date.fromisoformat(found["day"]), found["mode"]) for found in run.partitions("examples")}
    modes = (run.mode, *(mode for mode in MODES if mode != run.mode))
    days = [trained + timedelta(days=n) for n in range((run.day - trained).days + 1)]
    found = [next(((day, mode) for mode in modes if (day, mode) in published), None) for day in days]
    return [dataset for dataset in found if dataset is not None]


def held_out(run: Run, of: Sequence[Dataset] = ()) -> pa.Table:
    """The test rows of these datasets, oldest first, by default of the run's own; `day` and `mode` say whose a row is.

    Of a later dataset those shown on days after all before it, and no impression twice. Raises `Refused` where the
    first has none: its test day was lost.
    """
    (day, mode), *later = of or [(run.day, run.mode)]
    test = _test_rows(run, day, mode)
    if not len(test):
        where = {"day": day.isoformat(), "mode": mode}
        raise Refused(f"{run.stage.name} needs test rows in examples {where}; found none: train a later day")
    for day, mode in later:
        rows = _test_rows(run, day, mode)
        newer = pc.greater(_shown_on(rows), pc.max(_shown_on(test)))
        rows = rows.filter(pc.and_not(newer, pc.is_in(rows["impression_id"], test["impression_id"].combine_chunks())))
        test = pa.concat_tables([test, rows])
    return test.combine_chunks()


def judged_on(test: pa.Table) -> list[Judged]:
    """What the document says of the rows of `held_out`."""
    told = []
    for day in np.unique(test["day"].to_numpy()).tolist():
        rows = test.filter(pc.equal(test["day"], day))
        shown = sorted(pc.unique(_shown_on(rows)).to_pylist())
        told.append(Judged(day=day, mode=rows["mode"][0].as_py(), days=[str(on) for on in shown], rows=len(rows)))
    return told


def judged(run: Run, on: Sequence[Judged]) -> pa.Table:
    """The very rows again that an evidence was judged on."""
    return held_out(run, [(date.fromisoformat(of.day), of.mode) for of in on])


def _test_rows(run: Run, day: date, mode: Mode) -> pa.Table:
    return run.read("examples", [day], where={"mode": mode}, rows=pc.field("split") == "test")


def _shown_on(rows: pa.Table) -> pa.ChunkedArray:
    return pc.cast(rows["event_time"], pa.date32())
