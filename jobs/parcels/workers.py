"""Who goes through the files of a run: this process, or Spark's workers where it reads too many rows for one.

A stage that only filters rows and adds up what it finds has one path: functions of a file, or of some lines of a
capture, which `Run.each` puts them to. What is left comes in the order of the files, and figures are the same either
way.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from jobs import memory
from jobs.lake.run import Run

if TYPE_CHECKING:
    from jobs.parcels.spark import Steps

T = TypeVar("T")
R = TypeVar("R")
ROWS_PER_BUCKET = 500_000
"""So many rows in one call, of what more is done by steps."""
AT_ONCE = 256
"""Items whose results are in this process together, with what Java holds of them."""


@contextmanager
def workers(run: Run, rows: int, bytes_a_row: int) -> Iterator["Steps | None"]:
    """While this lasts `run.each` is Spark's, if one process that reads so many rows needs more memory than there is
    (`spark.from_rows` says another number); else, and without any rows, it stays what it was, and this is None.

    What is sent along must be small, and files must lie where workers find them.
    """
    if not rows or not run.config.spark.distributes(rows, bytes_a_row, memory.at_hand()):
        yield None
        return
    with started(run, run.config.spark.buckets(rows, ROWS_PER_BUCKET)) as steps:
        run.say(f"{rows} rows to go through: Spark is up")
        yield steps


@contextmanager
def started(run: Run, buckets: int = 1) -> Iterator["Steps"]:
    """While this lasts `run.each` is Spark's; `buckets` are those of steps."""
    from jobs.parcels.spark import Steps
    from jobs.spark import session

    with session(run.config.spark, run.stage.name) as spark:
        steps, here = Steps(spark, buckets), run.each

        def each(function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
            for start in range(0, len(items), AT_ONCE):
                yield from steps.ask(items[start : start + AT_ONCE], function)

        run.each = each
        try:
            yield steps
        finally:
            run.each = here
