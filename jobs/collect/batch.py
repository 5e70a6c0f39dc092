"""One table's records between two commits: read, converted, sent to their days, written once."""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc

from jobs.collect.figures import Figures
from jobs.collect.records import TOO_LATE, Aside, Rows, now, rows_of
from jobs.config import Config
from jobs.errors import NotReady
from jobs.kafka import Partition, Record
from jobs.lake.collected import (
    TRIES,
    Collected,
    Seen,
    by_hour,
    newest_by,
    newest_of,
    offset_of,
    too_busy,
)
from jobs.lake.raw_quarantine import SCHEMA, Key, Quarantine
from jobs.lake.tables import RAW, TIME


class Batch:
    """What was read of a table since its last commit, and where each of its partitions stands."""

    def __init__(
        self, config: Config, name: str, quarantine: Quarantine, figures: Figures, say: Callable[[str], None]
    ) -> None:
        self.name = name
        self._of = config.source.mapping[name]
        self._late_days = timedelta(days=config.attribution.late_days)
        self._collected = Collected(config.lake.raw, name, RAW[name].schema)
        self._quarantine, self._figures, self._say = quarantine, figures, say
        self._records: list[Record] = []
        self._since = time.monotonic()
        self._kept: dict[Partition, int | None] = {}
        """The offset that the lake says comes next."""
        self._position: dict[Partition, int] = {}
        self._decided: dict[Partition, set[Key]] = {}
        """Records that a dead collector set aside and did not live to count as read."""
        self._strange: set[str] = set()

    # -- where it stands --------------------------------------------------------------------------
    def begin(self) -> None:
        """The table is there, with or without rows."""
        self._begun = self._collected.made()

    def kept(self, partition: Partition) -> int | None:
        """The offset at which the lake ended at the start; None where nothing was collected of the partition."""
        found = self._begun.number(offset_of(partition))
        self._kept[partition] = found
        return found

    def first(self, partition: Partition, offset: int) -> int:
        """The partition, whose `kept` was asked for, is read from this offset on."""
        self._position[partition] = offset
        self._decided[partition] = self._quarantine.since(*partition, offset)
        return offset

    def position(self, partition: Partition) -> int:
        """The offset of the next record to be read; -1 of a partition that is not read."""
        return self._position.get(partition, -1)

    # -- records ----------------------------------------------------------------------------------
    def add(self, record: Record) -> None:
        """A record that has come."""
        self._begin_one()
        self._records.append(record)
        self._position[record.partition] = record.offset + 1

    def ended(self, partition: Partition, offset: int) -> None:
        """The partition has been read to its end: what lies between, markers of transactions say, are no records."""
        if offset > self._position[partition]:
            self._begin_one()
            self._position[partition] = offset

    def lose(self, record: Record, reason: str, found: str) -> None:
        """Note records that nobody has any more."""
        self._quarantine.put(self._aside([Aside(record, reason, found)]))
        self._figures.add(self.name, reasons=[reason])

    def due(self, rows: int, seconds: float) -> bool:
        """Whether there are so many records, or any for so long."""
        return self._moved() and (len(self._records) >= rows or time.monotonic() > self._since + seconds)

    def _moved(self) -> bool:
        return any(at != self._kept[partition] for partition, at in self._read().items())

    def _read(self) -> dict[Partition, int]:
        """Partitions of which something was read, with where they stand."""
        return {p: at for p, at in self._position.items() if at != (self._kept[p] or 0)}

    def _begin_one(self) -> None:
        if not self._moved():
            self._since = time.monotonic()

    # -- writing ----------------------------------------------------------------------------------
    def write(self) -> dict[Partition, int]:
        """Commit what was read, with how far; returns that. Raises `NotReady` where another collector did meanwhile."""
        to = self._read()
        if not to:
            return {}
        for _ in range(TRIES):
            seen = self._collected.made()
            at = {partition: seen.number(offset_of(partition)) for partition in to}
            if at == to or (self._overtaken(at) is None and self._try(seen, to)):
                self._kept |= to
                self._records = []
                for partition, offset in to.items():
                    self._decided[partition] = {key for key in self._decided[partition] if key[0] >= offset}
                return to
            if (other := self._overtaken(at)) is not None:
                raise NotReady(
                    f"raw {self.name} needs one collector; found that another has read {other} up to "
                    f"{at[other]}, where this one began at {self._kept[other]}: what this one read was not written"
                )
        raise too_busy(self.name)

    def _overtaken(self, at: dict[Partition, int | None]) -> Partition | None:
        return next((partition for partition, offset in at.items() if offset != self._kept[partition]), None)

    def _try(self, seen: Seen, to: dict[Partition, int]) -> bool:
        """Whether the batch is in the log now, on top of exactly that version."""
        undecided = [one for one in self._records if _key(one) not in self._decided[one.partition]]
        rows, aside, strange = rows_of(undecided, self.name, self._of, seen.columns, now())
        rows, late, too_late = self._by_day(seen, rows)
        aside += too_late
        self._set_aside(aside)
        widened = self._collected.widened(seen, rows.rows)
        if widened is not seen:
            return False  # a version more: looked at from the start
        table = rows.rows.select([column for column in seen.columns if column in rows.rows.column_names])
        files = self._collected.written(table, by_hour(table["event_time"]))
        notes = {"rows": len(table), "late": late, "quarantined": len(aside)}
        if not self._collected.committed(seen, files, self._numbers(seen, rows, to), notes):
            return False
        self._tell(notes, strange)
        return True

    def _set_aside(self, aside: Sequence[Aside]) -> None:
        """They are in quarantine, and no further look at the batch finds otherwise."""
        self._quarantine.put(self._aside(aside))
        self._figures.add(self.name, reasons=[one.reason for one in aside])
        for one in aside:
            self._decided[one.record.partition].add(_key(one.record))

    def _by_day(self, seen: Seen, rows: Rows) -> tuple[Rows, int, list[Aside]]:
        """The rows, how many of them are late, and those that are too late, for `validate` looks back no further."""
        handed = seen.handed_over
        if handed is None or not len(rows.rows):
            return rows, 0, []
        days = rows.rows["event_time"].cast(pa.date32())
        late = pc.less_equal(days, pa.scalar(handed)).to_pylist()
        last = handed - self._late_days
        closed = pc.less_equal(days, pa.scalar(last)).to_pylist()
        found = f"needs to come before {handed} was published, or to be of a day after {last}"
        aside = [
            Aside(record, TOO_LATE, found) for record, is_closed in zip(rows.records, closed, strict=True) if is_closed
        ]
        kept = rows.where([not is_closed for is_closed in closed])
        return kept, sum(late) - len(aside), aside

    def _numbers(self, seen: Seen, rows: Rows, to: dict[Partition, int]) -> dict[str, int]:
        found = {offset_of(partition): offset for partition, offset in to.items()}
        if not rows.records:
            return found
        known = {partition.number: partition for partition in to}
        numbers = [record.partition.number for record in rows.records]
        for number, newest in newest_by(numbers, rows.rows["event_time"]).items():
            name = newest_of(known[number])
            found[name] = max(newest, seen.number(name) or 0)
        return found

    def _aside(self, aside: Sequence[Aside]) -> pa.Table:
        columns = {
            "table": [self.name] * len(aside),
            "topic": [one.record.partition.topic for one in aside],
            "partition": [one.record.partition.number for one in aside],
            "offset": [one.record.offset for one in aside],
            "came_at": pa.array([_key(one.record)[1] for one in aside], pa.int64()).cast(TIME),
            "reason": [one.reason for one in aside],
            "found": [one.found for one in aside],
            "value": [one.record.value for one in aside],
        }
        return pa.table(columns, schema=SCHEMA)

    def _tell(self, notes: dict[str, int], strange: set[str]) -> None:
        self._figures.add(self.name, notes["rows"], notes["late"])
        said = ", ".join(f"{name} {count}" for name, count in notes.items())
        self._say(f"{self.name}: {said}")
        if new := sorted(strange - self._strange):
            self._strange |= strange
            self._say(f"{self.name}: not in the contract, left out: {', '.join(new[:20])}")


def _key(record: Record) -> Key:
    """Of a record whose broker does not know when it came, as if that were 1970."""
    return record.offset, max(record.at_ms, 0) * 1000
