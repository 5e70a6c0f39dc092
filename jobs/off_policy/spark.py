"""The same sums on Spark: each partition reads its own rows as Arrow batches and sends back one row of numbers.

Rows that share a cluster (else, for pages, a page) are brought to one partition, so that each can close its clusters
and the driver adds up a few hundred numbers per partition, however many users there are. A page must be of one cluster.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyarrow import types
from pyspark import TaskContext
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as fn
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from pyspark.sql.types import DecimalType

from jobs.errors import Refused
from jobs.off_policy import columns, wire
from jobs.off_policy.question import Question
from jobs.off_policy.sums import Part, added_up, read
from jobs.spark import as_named

UNSIGNED = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.uint64(): pa.decimal128(20)}
"""The next type that holds them, which is how Spark reads them."""


NOT_READ = "FAILED_READ_FILE"
"""Spark's name for a file whose bytes are not what its footer says."""


def read_files(
    spark: SparkSession, paths: Sequence[Path], schema: pa.Schema, question: Question, names: Mapping[str, str]
) -> Part:
    """The sums of Parquet files whose columns are of `schema` under our names; `names` has theirs where they differ.

    Only the question's columns are read, so no other can be of a type that Spark does not know. Raises `Refused` where
    one of them is, or a file is broken.
    """
    spark.conf.set("spark.sql.caseSensitive", "true")
    theirs = {name: names.get(name, name) for name in question.columns}
    fields = {theirs[name]: as_spark_reads(schema.field(name)).with_name(theirs[name]) for name in theirs}
    frame = spark.read.schema(from_arrow_schema(pa.schema(fields.values()))).parquet(*map(as_named, paths))
    columns_of = [_column(frame, column, whole=name in columns.KEYS).alias(name) for name, column in theirs.items()]
    try:
        return read_frame(frame.select(*columns_of), question)
    except (Py4JJavaError, PySparkException) as error:
        if NOT_READ in str(error):
            found = next(line for line in str(error).splitlines() if NOT_READ in line).partition(NOT_READ)
            raise Refused(f"the files need to be readable; found: [{NOT_READ}{found[2]}") from error
        raise


def _column(frame: DataFrame, name: str, whole: bool) -> Column:
    found = frame["`" + name.replace("`", "``") + "`"]
    if whole and isinstance(frame.schema[name].dataType, DecimalType):
        # Spark has no unsigned numbers: the same 64 bits, signed, as they are read without it.
        found = fn.when(found >= Decimal(2**63), found - Decimal(2**64)).otherwise(found).cast("long")
    return found


def as_spark_reads(field: pa.Field) -> pa.Field:
    """A column of numbers, text or whole numbers with the type that Spark has for it in a Parquet file."""
    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    if types.is_large_string(kind) or types.is_string_view(kind):
        kind = pa.string()
    if types.is_float16(kind) or types.is_decimal256(kind):
        raise Refused(f"{field.name} needs a type that Spark knows; found {kind}: leave --spark out")
    return field.with_type(UNSIGNED.get(kind, kind))


def read_frame(frame: DataFrame, question: Question) -> Part:
    """The sums of a frame with the question's columns; raises `Refused` where one is missing or of another type."""
    return added_up(parts_of(frame, question))


def parts_of(frame: DataFrame, question: Question) -> list[Part]:
    """What each partition found."""
    columns.refuse_columns(to_arrow_schema(frame.schema), question.columns, "the frame")
    rows = frame.select(*question.columns)
    if question.clustered or question.of_pages:
        rows = rows.repartition("cluster" if question.clustered else "slate")
    if question.of_pages:
        rows = rows.sortWithinPartitions("slate")

    def sums(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        context: Any = TaskContext.get()
        yield wire.sent(read(batches, question, f"partition {context.partitionId()}"))

    return wire.arrived(rows.mapInArrow(sums, from_arrow_schema(wire.SCHEMA)).toArrow())
