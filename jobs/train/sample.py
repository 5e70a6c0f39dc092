"""The part of a dataset's train split that a training learns from, where memory does not hold all of it.

Whole requests are drawn, each by a coin that is a hash of its id: lists stay whole, and of every click the items beside
it. All requests have the same chance, so click and conversion rates, and with them calibration, stay what they were,
and no row weighs more. A rerun draws the same ones, and of fewer rows a part of what is drawn of more.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs import memory
from jobs.asof.coins import uniform
from jobs.lake.run import Run
from jobs.places import footer

BYTES_A_ROW = 500
"""Of private memory that a row takes of the ranker that needs most, see `docs/measured.md`; what lies in mapped files
beside the bundles is not counted."""
IN_MEMORY = 0.5
"""Of what is free: the rest is for the columns of validation rows, and for whoever else works there."""
PURPOSE = "train"


@dataclass(frozen=True)
class Sample:
    """Of `rows` train rows about `share` is learned from, in (0, 1]."""

    rows: int
    share: float

    def of(self, examples: pa.Table, seed: int) -> pa.Table:
        """Those of some train rows that are drawn."""
        if self.share >= 1:
            return examples
        return examples.filter(pa.array(uniform(examples["request_id"], PURPOSE, seed) < self.share))

    @property
    def told(self) -> dict[str, Any]:
        """For a bundle's lineage; nothing where all rows are learned from."""
        return {"sample": asdict(self)} if self.share < 1 else {}


ALL = Sample(0, 1.0)


def sample(run: Run, most: int | None) -> Sample:
    """All rows of the day's dataset, or so many that about `most` are learned from; None: as memory has room for.

    That is a power of two, or reruns on one machine, where a little less is free today, would hardly ever learn from
    the same rows.
    """
    most = most or 1 << max(0, int(memory.at_hand() * IN_MEMORY / BYTES_A_ROW).bit_length() - 1)
    files = run.files("examples", [run.day], {"mode": run.mode})
    if sum(footer(path).num_rows for path, _ in files) <= most:
        return ALL
    rows = _train_rows(run.batches("examples", [run.day], where={"mode": run.mode}, columns=["split"]))
    return Sample(rows, min(1.0, most / rows)) if rows else ALL


def _train_rows(batches: Iterable[pa.Table]) -> int:
    return int(np.sum([pc.sum(pc.equal(batch["split"], "train")).as_py() or 0 for batch in batches]))
