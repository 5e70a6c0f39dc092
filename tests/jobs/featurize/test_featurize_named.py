"""Which impressions may be named by a click: none that is named is missed, and few others are told."""

import numpy as np
import pyarrow as pa
import pytest

from jobs.featurize import spark
from jobs.parcels.core import bucket_of


def rows(ids: np.ndarray) -> pa.Table:
    return pa.table({"impression_id": pa.array([f"impression-{n}" for n in ids.tolist()])})


@pytest.mark.parametrize("buckets", [1, 3, 4, 40])
@pytest.mark.parametrize(("places", "most"), [(1 << 20, 0.02), (1 << 12, 1.0)])
def test_all_that_are_named_are_told(monkeypatch: pytest.MonkeyPatch, buckets: int, places: int, most: float) -> None:
    """However few places there are for however many clicks; where there are enough, hardly any other."""
    monkeypatch.setattr(spark, "PLACES", places)
    shown = rows(np.arange(50_000))
    clicked = shown.take(pa.array(np.arange(0, 50_000, 10)))
    bucket = bucket_of(clicked, spark.BY_IMPRESSION, buckets)
    of = {number: clicked.take(pa.array(np.flatnonzero(bucket == number))) for number in set(bucket.tolist())}
    named = spark.Named.told(buckets, (spark._bits(number, some, buckets) for number, some in of.items()))
    told = named.of(shown)["impression_id"]
    assert set(clicked["impression_id"].to_pylist()) <= set(told.to_pylist())
    assert len(told) - len(clicked) <= most * len(shown)
