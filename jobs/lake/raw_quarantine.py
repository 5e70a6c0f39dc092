"""Records of a stream that became no row: `<raw>/quarantine`, a collected table with their bytes, offsets and reasons.

A record is there once. Its commit comes before the one that counts it as read, so a kill in between leaves records here
that are read again: they are known by where they lay in the stream and when they came there.
"""

from collections.abc import Iterable
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from jobs.lake import log
from jobs.lake.collected import TRIES, Collected, Seen, by_hour, offset_of, too_busy
from jobs.lake.collected import files as files_of
from jobs.lake.tables import STR, TIME
from jobs.places import Place, parquet

NAME = "quarantine"
SCHEMA = pa.schema(
    [
        ("table", STR),
        ("topic", STR),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("came_at", TIME),
        ("reason", STR),
        ("found", STR),
        ("value", pa.binary()),
    ]
)
Key = tuple[int, int]
"""Offset, and when it came, in microseconds since 1970: a topic made anew has the same offsets for other records."""


class Quarantine:
    """That of one raw lake."""

    def __init__(self, raw: Place) -> None:
        self._raw = raw
        self._table = Collected(raw, NAME, SCHEMA)

    def put(self, rows: pa.Table) -> int:
        """Set rows aside, those that are there already left out; returns how many were put."""
        for _ in range(TRIES):
            if not len(rows):
                return 0
            seen = self._table.made()
            fresh = rows.filter(pa.array([not known for known in self._known(seen, rows)], pa.bool_()))
            if not len(fresh):
                return 0
            files = self._table.written(fresh, by_hour(fresh["came_at"]))
            counts = {row["values"]: row["counts"] for row in pc.value_counts(fresh["reason"]).to_pylist()}
            if self._table.committed(seen, files, _numbers(seen, fresh), {"quarantined": counts}):
                return len(fresh)
        raise too_busy(NAME)

    def since(self, topic: str, partition: int, offset: int) -> set[Key]:
        """Records of a partition that are there from an offset on; nothing is read where the log tells of none."""
        seen = self._table.seen()
        if seen is None or (seen.number(_name(topic, partition)) or 0) <= offset:
            return set()
        return self._keys(topic, partition, offset)

    def counts(self, day: date) -> dict[str, dict[str, int]]:
        """By table and reason, of records that came on a day."""
        found: dict[str, dict[str, int]] = {}
        for path in files_of(self._raw, NAME, day) or ():
            rows = parquet(path).read(columns=["table", "reason"])
            for row in rows.group_by(["table", "reason"]).aggregate([([], "count_all")]).to_pylist():
                of = found.setdefault(row["table"], {})
                of[row["reason"]] = of.get(row["reason"], 0) + row["count_all"]
        return found

    def _known(self, seen: Seen, rows: pa.Table) -> list[bool]:
        """Of each row whether it is there."""
        keys: dict[tuple[str, int], set[Key]] = {}
        found = []
        for row in rows.select(["topic", "partition", "offset", "came_at"]).to_pylist():
            of = (row["topic"], row["partition"])
            if row["offset"] >= (seen.number(_name(*of)) or 0):
                found.append(False)
                continue
            if of not in keys:
                keys[of] = self._keys(*of, 0)
            found.append((row["offset"], round(row["came_at"].timestamp() * 10**6)) in keys[of])
        return found

    def _keys(self, topic: str, partition: int, offset: int) -> set[Key]:
        delta = log.opened(self._raw, NAME)
        paths = [] if delta is None else [path for path, _ in log.files(delta, self._raw, NAME)]
        found: set[Key] = set()
        for path in paths:
            rows = parquet(path).read(columns=["topic", "partition", "offset", "came_at"])
            mine = (pc.field("topic") == topic) & (pc.field("partition") == partition) & (pc.field("offset") >= offset)
            rows = rows.filter(mine)
            found |= set(zip(rows["offset"].to_pylist(), rows["came_at"].cast(pa.int64()).to_pylist(), strict=True))
        return found


def _name(topic: str, partition: int) -> str:
    return offset_of(f"{topic}/{partition}")


def _numbers(seen: Seen, rows: pa.Table) -> dict[str, int]:
    """Past the last of the rows of each partition, and never back."""
    found: dict[str, int] = {}
    for topic, partition, offset in _places(rows):
        name = _name(topic, partition)
        found[name] = max(found.get(name, seen.number(name) or 0), offset + 1)
    return found


def _places(rows: pa.Table) -> Iterable[tuple[str, int, int]]:
    return zip(*(rows[name].to_pylist() for name in ("topic", "partition", "offset")), strict=True)
