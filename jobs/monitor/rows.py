"""The rows of a day that figures are of: read file by file, some at once, and of a large day those of some users.

Who these are is told by their ids, so they are the same ones every day. What is only counted is counted of all rows.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.asof.keys import hashes_of
from jobs.asof.wanted import Wanted
from jobs.lake.parts import in_one, whole
from jobs.lake.run import Run
from jobs.places import footer
from jobs.serving import answered, captured
from jobs.serving.answered import Chunk
from jobs.serving.captured import Placements
from models.monitoring.profile import drawn

MOST_ROWS = 200_000
"""Whose features are asked for: what a model sees of a row takes two kilobytes."""
MOST_JUDGED = 1 << 20
"""Of which labels and probabilities are enough."""
MOST_HASHES = 1 << 22
"""Counted together, about 64 MiB."""
BYTES_A_ROW = 600
"""Of memory that one process takes for an impression, until figures are of some users."""
NONE = np.zeros(0, np.uint64)


@dataclass(frozen=True)
class Where:
    """The rows whose column has one of these values."""

    column: str
    values: Collection[Any]

    def of(self, rows: pa.Table) -> pa.Table:
        """Those of some rows."""
        column = rows[self.column]
        return rows.filter(pc.is_in(column, pa.array(sorted(self.values), column.type)))


def count(run: Run, days: Iterable[date]) -> int:
    """Impressions of some days."""
    return sum(footer(path).num_rows for path, _ in run.files("impressions", days))


def of_some_users(
    run: Run, table: str, day: date, columns: list[str], most: int, where: Where | None = None
) -> pa.Table:
    """The rows of a day, of more than `most` those of users whose ids say so, about `most`; who is not known goes by
    the rest of them.
    """
    share = most / max(1, _count(run, table, day, where))

    def kept(some: Iterator[pa.Table]) -> list[pa.Table]:
        mine = some if where is None else map(where.of, some)
        return in_one(mine if share >= 1 else (_drawn(rows, share) for rows in mine))

    found = chain.from_iterable(run.told(table, [day], columns, kept))
    return whole(table, columns, found).combine_chunks()


def news(
    run: Run,
    table: str,
    days: list[date],
    columns: list[str],
    most: int,
    heard: Callable[[pa.Table], NDArray[np.bool_]],
) -> pa.Table:
    """The rows of some days that were heard of; of more than `most` those of some users, as `of_some_users`."""

    def told(some: Iterator[pa.Table]) -> Iterator[pa.Table]:
        return (rows.filter(pa.array(heard(rows))) for rows in some)

    def kept(share: float, some: Iterator[pa.Table]) -> list[pa.Table]:
        return in_one(told(some) if share >= 1 else (_drawn(rows, share) for rows in told(some)))

    many = sum(footer(path).num_rows for path, _ in run.files(table, days)) > most
    counts = run.told(table, days, columns, lambda some: sum(map(len, told(some)))) if many else ()
    share = most / max(1, sum(counts)) if many else 1.0
    found = chain.from_iterable(run.told(table, days, columns, partial(kept, share)))
    return whole(table, columns, found).combine_chunks()


def answers(run: Run, day: date, wanted: Wanted) -> Placements:
    """What some requests of a day were answered."""

    def placed(chunk: Chunk) -> Placements:
        return captured.placed(chunk.lines(), wanted)

    return captured.first_answers(run.each(placed, answered.chunks(run.config.endpoint, day)))


def policies(run: Run, day: date) -> Counter[str]:
    """How many impressions of the day each policy decided."""

    def counted(some: Iterator[pa.Table]) -> Counter[str]:
        found = Counter[str]()
        for rows in some:
            for entry in pc.value_counts(rows["policy"]).to_pylist():
                found[entry["values"]] += entry["counts"]
        return found

    return sum(run.told("impressions", [day], ["policy"], counted), Counter[str]())


def requests(run: Run, day: date, where: Where, impressions: int) -> int:
    """How many requests so many impressions of a day are of: their hashes go to files that are counted one by one."""

    def asked(some: Iterator[pa.Table]) -> NDArray[np.uint64]:
        return np.unique(np.concatenate([NONE, *(np.unique(hashes_of(where.of(rows)["request_id"])) for rows in some)]))

    parts = -(-impressions // MOST_HASHES)
    with tempfile.TemporaryDirectory(prefix="tidegate-monitor-") as folder:
        paths = [Path(folder, str(number)) for number in range(parts)]
        with ExitStack() as stack:
            files = [stack.enter_context(path.open("wb")) for path in paths]
            for hashes in run.told("impressions", [day], ["request_id", where.column], asked):
                for number, file in enumerate(files):
                    hashes[hashes % np.uint64(parts) == number].tofile(file)
        return sum(len(np.unique(np.fromfile(path, np.uint64))) for path in paths)


def _count(run: Run, table: str, day: date, where: Where | None) -> int:
    if where is None:
        return sum(footer(path).num_rows for path, _ in run.files(table, [day]))
    return sum(run.told(table, [day], [where.column], lambda some: sum(len(where.of(rows)) for rows in some)))


def _drawn(rows: pa.Table, share: float) -> pa.Table:
    users = rows["user_id"].combine_chunks().dictionary_encode()
    kept = drawn(users.dictionary.to_pylist(), share)
    codes = pc.fill_null(users.indices, -1).to_numpy(zero_copy_only=False)
    return rows.filter(pa.array(np.append(kept, False)[codes]))
