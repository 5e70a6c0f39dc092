"""`python -m jobs collect`: events from Kafka become the raw lake, batch by batch, until it is told to stop.

A batch of a table is one commit that has its rows and how far each partition was read (`jobs.lake.collected`); after a
start, whatever ended the one before, reading goes on from there, never from what brokers remember of the group. Rows go
to the day of their event time. One whose day went to `validate` already is late and is counted; where `validate` will
not look at that day again (`attribution.late_days`) it is set aside, as is every record that fits no row: none is left
out without a trace, and none stops the others. `ingest` says when a day is whole (`jobs.sources.kafka`).

One collector at a time: a second one loses against what the lake holds, says so and ends.
"""

import signal
import sys
import time
from typing import Any

from jobs.collect.batch import Batch
from jobs.collect.figures import Figures
from jobs.collect.records import GONE, now
from jobs.config import Config
from jobs.errors import NotReady, Refused
from jobs.kafka import Ends, Partition, Reader, Record
from jobs.lake.raw_quarantine import Quarantine
from jobs.sources.kafka import topics

AT_ONCE = 2_000
"""Records asked for."""
POLL_SECONDS = 0.5
LOOK_SECONDS = 60.0
"""Between looks for new partitions, and at how much is left to read."""
WAIT_SECONDS = 5.0
"""Between tries to reach brokers at the start."""


def run(config: Config, once: bool = False, why: str = "") -> dict[str, Any]:
    """Collect until SIGTERM or SIGINT, or `once`: up to what is there now; returns counts by table.

    `why` allows for records that brokers no longer have: without it that is `Refused`, for somebody should know.
    """
    collector = Collector(config, once, why)
    before = {number: signal.signal(number, collector.stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return collector.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Collector:
    """The loop: read, write, look."""

    def __init__(self, config: Config, once: bool, why: str) -> None:
        self._config, self._once, self._why = config, once, why
        self._settings = config.source.kafka
        self._began = time.monotonic()
        self._stopped = False
        self._quarantine = Quarantine(config.lake.raw)
        self._figures = Figures(config.lake.runs)
        self._batches = {
            topic: Batch(config, name, self._quarantine, self._figures, self.say)
            for name, topic in topics(config).items()
        }
        self._until: dict[Partition, int] = {}
        """With `once`: the offset at which each partition has been read."""

    def stop(self, *_: object) -> None:
        """Write what has been read, and end."""
        self._stopped = True

    def say(self, text: str) -> None:
        """One line on stderr."""
        print(f"[collect {time.monotonic() - self._began:8.1f}s] {text}", file=sys.stderr, flush=True)

    def run(self) -> dict[str, Any]:
        """Until stopped; what was read is written first."""
        with Reader(self._settings, self.say) as reader:
            self._begin(reader)
            looked = time.monotonic()
            while not self._done():
                records, ended = reader.read(AT_ONCE, POLL_SECONDS)
                for record in records:
                    self._batches[record.partition.topic].add(record)
                for partition, offset in ended.items():
                    self._batches[partition.topic].ended(partition, offset)
                self._write(reader, all_of_it=False)
                if time.monotonic() > looked + LOOK_SECONDS:
                    self._look(reader)
                    looked = time.monotonic()
            self._write(reader, all_of_it=True)
        self._figures.write()
        return self._figures.counts()

    def _done(self) -> bool:
        read = (self._batches[p.topic].position(p) >= offset for p, offset in self._until.items())
        return self._stopped or (self._once and all(read))

    def _write(self, reader: Reader, all_of_it: bool) -> None:
        for batch in self._batches.values():
            if batch.due(self._settings.batch_rows, self._settings.batch_seconds) or all_of_it:
                reader.tell(batch.write())
                self._figures.write()

    def _begin(self, reader: Reader) -> None:
        """Assign every partition from where the lake ends; waits for brokers, but for `once`."""
        while not self._stopped:
            try:
                ends = {topic: reader.ends(topic) for topic in self._batches}
                break
            except NotReady as error:
                if self._once:
                    raise
                self.say(f"{error}; trying again")
                time.sleep(WAIT_SECONDS)
        else:
            return
        offsets: dict[Partition, int] = {}
        for topic, found in ends.items():
            self._batches[topic].begin()
            offsets |= {partition: self._first(partition, end) for partition, end in found.items()}
        self._until = {partition: end.next for found in ends.values() for partition, end in found.items()}
        reader.begin(offsets)
        self.say(f"reading {', '.join(f'{partition} from {offset}' for partition, offset in offsets.items())}")

    def _first(self, partition: Partition, end: Ends) -> int:
        """Where a partition is read on; raises `Refused` where what comes next is gone and nobody knows."""
        batch = self._batches[partition.topic]
        kept = batch.kept(partition)
        if kept is None or end.first <= kept <= end.next:
            return batch.first(partition, end.first if kept is None else kept)
        gone = (
            f"{partition} needs its records from offset {kept} on, where the lake ends; brokers have those from "
            f"{end.first} to {end.next}: they were deleted, or the topic was made anew"
        )
        if not self._why:
            raise Refused(f"{gone}. To go on without them: python -m jobs collect --why '...'")
        self.say(f"{gone}; going on: {self._why}")
        came = int(now().timestamp() * 1000)
        batch.lose(Record(partition, min(kept, end.first), came, None), GONE, f"{gone}; {self._why}")
        return batch.first(partition, end.first)

    def _look(self, reader: Reader) -> None:
        """How much is left to read; partitions that are new are read too."""
        offsets: dict[Partition, int] = {}
        new: set[Partition] = set()
        for topic, batch in self._batches.items():
            try:
                found = reader.ends(topic)
            except NotReady as error:
                self.say(str(error))
                return
            unknown = {partition for partition in found if batch.position(partition) < 0}
            offsets |= {p: self._first(p, end) if p in unknown else batch.position(p) for p, end in found.items()}
            new |= unknown
            self._figures.left(batch.name, sum(end.next - offsets[p] for p, end in found.items()))
        if new:
            reader.begin(offsets)
            self.say(f"reading {', '.join(map(str, sorted(new)))} too")
        self._figures.write()
