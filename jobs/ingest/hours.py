"""Hours of a day's large tables, laid down by whoever is asked: the same files as those of one process."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from jobs.config import SparkSettings
from jobs.lake import raw_writer
from jobs.lake.raw_writer import Laid
from jobs.lake.tables import Streams
from jobs.places import Place
from jobs.sources import Divided, Hour

ROWS_A_TASK = 4_000_000
"""About: a task asks for its hours alone, which costs it the more the less its files are in order of time."""
Parts = Mapping[str, Sequence[Iterable[pa.Table]]]


class Part(NamedTuple):
    """Hours of a table, and where their files go."""

    folder: Place
    name: str
    rows: Iterable[pa.Table]


Each = Callable[[Callable[[Part], Laid], Sequence[Part]], Iterable[Laid]]
"""What a function says of each of some parts, in their order, as `Run.each`."""


def parts_of(tables: Streams, settings: SparkSettings) -> dict[str, list[Iterable[pa.Table]]]:
    """The hours of each table that has `spark.from_rows` rows or more, in parts of about as many.

    None where that is not set: one process has some rows in memory at once, whatever a day has.
    """
    if settings.from_rows is None:
        return {}
    found = {}
    for name, rows in tables.items():
        if not isinstance(rows, Divided) or not (hours := rows.hours()):
            continue
        count = sum(hour.rows for hour in hours)
        if count >= settings.from_rows:
            found[name] = [rows.some(some) for some in together(hours, settings.buckets(count, ROWS_A_TASK))]
    return found


def together(hours: Sequence[Hour], most: int) -> list[list[Hour]]:
    """Hours that follow one another in at most so many parts of about as many rows."""
    rows = np.array([max(hour.rows, 1) for hour in hours])
    part = (np.cumsum(rows) - rows / 2) * most // rows.sum()
    return [[hour for hour, _ in some] for _, some in groupby(zip(hours, part, strict=True), key=lambda pair: pair[1])]


def laid(folders: Mapping[str, Place], tables: Streams, parts: Parts, each: Each) -> dict[str, Laid]:
    """`raw_writer.laid_here`, of whose tables some are asked for in parts."""
    asked = [Part(folders[name], name, rows) for name, of in parts.items() for rows in of]
    there: dict[str, list[Laid]] = {name: [] for name in parts}
    for part, found in zip(asked, each(_laid, asked), strict=True):
        there[part.name].append(found)
    here = {name: folder for name, folder in folders.items() if name not in parts}
    return raw_writer.laid_here(here, tables) | {name: raw_writer.joined(some) for name, some in there.items()}


def _laid(part: Part) -> Laid:
    return raw_writer.laid_apart(*part)
