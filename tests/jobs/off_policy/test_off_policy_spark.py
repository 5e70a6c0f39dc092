"""Spark's partitions give the figure that arrays give, users and pages spread over all of them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.config import SparkSettings
from jobs.errors import Refused
from jobs.off_policy.question import Question
from jobs.off_policy.sums import added_up, answered, read
from models.evaluation.estimate import Estimate, Refusal
from tests.jobs.off_policy.logged_files import ANYTHING_GOES, QUESTIONS, on_arrays, question, same, table

pytestmark = pytest.mark.spark
PARTITIONS = 3


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    """One session for the file; without coalescing, which would put so few rows into one partition."""
    from jobs.spark import session

    with session(SparkSettings(partitions=PARTITIONS, driver_memory_mb=768), "test-off-policy") as spark:
        spark.conf.set("spark.sql.adaptive.coalescePartitions.enabled", "false")
        yield spark


def frame(spark: Any, rows: pa.Table, partitions: int = PARTITIONS) -> Any:
    """The rows in no order, a third of them in each partition, so that users and pages are in several."""
    shuffled = rows.take(pa.array(np.random.default_rng(0).permutation(len(rows))))
    return spark.createDataFrame(shuffled).repartition(partitions)


@pytest.mark.parametrize(("name", "clustered"), QUESTIONS)
def test_partitions_give_the_figure_of_arrays_and_of_a_stream(spark: Any, name: str, clustered: bool) -> None:
    """Every estimator: finding, bootstrap and diagnostics; several partitions find something, and their sums add up."""
    from jobs.off_policy.spark import parts_of

    asked = question(name, clustered, replicates=20)
    rows = table(asked, 3, n=150)
    parts = parts_of(frame(spark, rows), asked)
    assert sum(part.sums is not None for part in parts) == PARTITIONS
    found = answered(added_up(parts), asked, ANYTHING_GOES)
    streamed = answered(read(rows.to_batches(), asked, ""), asked, ANYTHING_GOES)
    assert isinstance(found.finding, Estimate)
    same(found.finding, on_arrays(asked, rows))
    same(found.diagnostics, streamed.diagnostics)
    if clustered:
        same(found.bootstrap, streamed.bootstrap)


def test_empty_partitions_add_nothing(spark: Any) -> None:
    """Two rows on four partitions, and none on any: a figure, and a refusal that says so."""
    from jobs.off_policy.spark import read_frame

    asked = Question("snips")
    rows = table(asked, 0, n=2)
    found = answered(read_frame(frame(spark, rows, 4), asked), asked, ANYTHING_GOES)
    same(found.finding, on_arrays(asked, rows))
    none = answered(read_frame(spark.createDataFrame(rows).where("reward > 1e9"), asked), asked, ANYTHING_GOES)
    assert none.finding == Refusal("the estimate needs logged decisions; found none")


def test_what_is_wrong_is_counted_over_all_partitions(spark: Any) -> None:
    """A bad value in each partition is one sentence with the count of all; a missing column is one before any job."""
    from jobs.off_policy.spark import read_frame

    asked = Question("ips")
    rows = table(asked, 0, n=60)
    bad = rows.set_column(1, "logged", pa.array(np.where(np.arange(60) % 2, 2.0, 0.5)))
    with pytest.raises(
        Refused, match=r"^logged needs probabilities in \(0, 1\]; found 2 in row \d+ of partition \d, 30"
    ):
        answered(read_frame(frame(spark, bad), asked), asked, ANYTHING_GOES)
    with pytest.raises(Refused, match=r"the frame needs the columns reward, logged, target; missing logged, found"):
        read_frame(frame(spark, rows.drop_columns(["logged"])), asked)
    with pytest.raises(Refused, match=r"the frame: reward needs numbers; found string"):
        read_frame(frame(spark, rows.set_column(0, "reward", pa.array(["1"] * 60))), asked)
