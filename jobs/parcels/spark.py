"""Steps of Arrow functions over buckets of rows. Spark moves and groups parcels and never looks into one.

Turning every row from Arrow to Java's and back at each step took nearly all the time of a join whose own work is done
in a tenth of it, the more so the more maps and lists a row has. A bucket is what has to fit into one worker.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import pyarrow as pa
from pyspark.sql import DataFrame, GroupedData, SparkSession, functions
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.asof.spark import by_bucket, fitted, refusals
from jobs.parcels.core import PARCELS, Keys, added, opened, packed
from jobs.places import Place, parquet, write_parquet

DONE = pa.schema([("bucket", pa.int32()), ("rows", pa.int64())])
Core = Callable[..., pa.Table]


@dataclass(frozen=True)
class Rows:
    """Rows somewhere on the workers, in parcels by the keys they were last sent with."""

    parcels: DataFrame
    schema: pa.Schema


@dataclass(frozen=True)
class Steps:
    """What can be done with rows; every result has rows that share a key in one bucket."""

    spark: SparkSession
    buckets: int

    def read(self, files: Sequence[str], schema: pa.Schema, keys: Keys) -> Rows:
        """The rows of Parquet part files as the columns of `schema`, row group by row group."""
        buckets = self.buckets

        def parts(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for path in (path.as_py() for batch in batches for path in batch.column(0)):
                file = parquet(path)
                for group in range(file.num_row_groups):
                    rows = file.read_row_group(group, schema.names).select(schema.names).cast(schema)
                    yield from packed(rows, keys, buckets).to_batches()

        paths = self.spark.createDataFrame([(file,) for file in files], "path string")
        return Rows(paths.repartition(max(len(files), 1)).mapInArrow(parts, _PARCELS), schema)

    def send(self, rows: pa.Table, keys: Keys) -> Rows:
        """Rows that the driver has."""
        return Rows(self.spark.createDataFrame(packed(rows, keys, self.buckets), _PARCELS), rows.schema)

    def each(self, rows: Rows, function: Core, out: pa.Schema, keys: Keys) -> Rows:
        """`function` on any part of the rows: it looks at each row on its own."""
        buckets, schema = self.buckets, rows.schema

        def apply(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                made = function(opened(pa.Table.from_batches([batch]), schema))
                yield from packed(fitted(made, out), keys, buckets).to_batches()

        return Rows(rows.parcels.mapInArrow(apply, _PARCELS), out)

    def meet(self, sides: Sequence[Rows], function: Core, out: pa.Schema, keys: Keys) -> Rows:
        """`function` on each bucket's rows of all sides, a table each: equal keys meet in one call."""
        buckets, schemas = self.buckets, [side.schema for side in sides]

        def apply(parcels: pa.Table) -> pa.Table:
            tables = [opened(parcels, schema, side) for side, schema in enumerate(schemas)]
            return packed(fitted(function(*tables), out), keys, buckets)

        return Rows(_grouped(sides, self.buckets).applyInArrow(apply, _PARCELS), out)

    def write(self, sides: Sequence[Rows], function: Core, out: pa.Schema, folder: Place) -> None:
        """`meet`, its results as one Parquet file a bucket; a task that runs twice leaves one. Raises `Refused`."""
        schemas = [side.schema for side in sides]

        def apply(parcels: pa.Table) -> pa.Table:
            tables = [opened(parcels, schema, side) for side, schema in enumerate(schemas)]
            made = fitted(function(*tables), out)
            bucket = parcels.column("bucket")[0].as_py()
            write_parquet(made, folder / f"part-{bucket:05d}.parquet", coerce_timestamps="us")
            return pa.table([[bucket], [len(made)]], schema=DONE)

        with refusals():
            _grouped(sides, self.buckets).applyInArrow(apply, from_arrow_schema(DONE)).collect()

    def count(self, rows: Rows, function: Core, out: pa.Schema) -> pa.Table:
        """The `added` counts that `function` makes of parts of the rows, in the driver. Raises `Refused`."""
        schema = rows.schema

        def apply(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch in batches:
                made = function(opened(pa.Table.from_batches([batch]), schema))
                yield from fitted(made, out).to_batches()

        with refusals():
            return added(
                [rows.parcels.mapInArrow(apply, from_arrow_schema(out)).toArrow().select(out.names).cast(out)], out
            )


_PARCELS = from_arrow_schema(PARCELS)


def _grouped(sides: Sequence[Rows], buckets: int) -> GroupedData:
    """The parcels of all sides, bucket by bucket; a side is where its rows stand in the function's arguments."""
    frames = [rows.parcels.selectExpr("bucket", f"{side} as side", "rows") for side, rows in enumerate(sides)]
    return by_bucket(reduce(DataFrame.unionByName, frames), functions.col("bucket"), buckets)
