"""What a collector does, as node exporter's textfile collector reads it: `<lake.runs>/collect.prom`.

Counts begin anew with each start, as Prometheus expects of counters; what is for good is in the commits and in
`<raw>/quarantine`.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

PREFIX = "tidegate_collect_"
FILE = "collect.prom"
log = logging.getLogger(__name__)


class Figures:
    """Counts by table since the start, and what is left."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._rows: Counter[str] = Counter()
        self._late: Counter[str] = Counter()
        self._aside: Counter[tuple[str, str]] = Counter()
        self._left: dict[str, int] = {}
        self._written: dict[str, float] = {}

    def add(self, table: str, rows: int = 0, late: int = 0, reasons: Sequence[str] = ()) -> None:
        """Rows or what was set aside were committed."""
        self._rows[table] += rows
        self._late[table] += late
        self._aside.update((table, reason) for reason in reasons)
        self._written[table] = time.time()

    def left(self, table: str, records: int) -> None:
        """So many records of a table are still to be read."""
        self._left[table] = records

    def counts(self) -> dict[str, Any]:
        """By table: rows, late ones among them, and records set aside by reason."""
        return {
            table: {
                "rows": self._rows[table],
                "late": self._late[table],
                "quarantined": {reason: n for (of, reason), n in sorted(self._aside.items()) if of == table},
            }
            for table in sorted(self._rows)
        }

    def write(self) -> None:
        """Put the file; one that cannot be put is a warning, as in `jobs.runs`."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_to_textfile(str(self._path), registry)
        except OSError as error:
            log.warning("what a collector does must be writable in %s; found: %s", self._path, error)

    def collect(self) -> Iterator[Metric]:
        """The families, as they are now."""
        by = ["table"]
        looked = GaugeMetricFamily(f"{PREFIX}seen_timestamp_seconds", "When the collector last told of itself.")
        looked.add_metric([], time.time())
        rows = CounterMetricFamily(f"{PREFIX}rows", "Rows collected since the start.", labels=by)
        late = CounterMetricFamily(f"{PREFIX}late", "Of them, rows of a day that was handed over before.", labels=by)
        aside = CounterMetricFamily(f"{PREFIX}quarantined", "Records set aside.", labels=["table", "reason"])
        left = GaugeMetricFamily(f"{PREFIX}left", "Records that brokers have and the lake has not.", labels=by)
        written = GaugeMetricFamily(f"{PREFIX}committed_timestamp_seconds", "When rows were last committed.", labels=by)
        for family, found in ((rows, self._rows), (late, self._late), (left, self._left), (written, self._written)):
            for table, value in sorted(found.items()):
                family.add_metric([table], value)
        for (table, reason), count in sorted(self._aside.items()):
            aside.add_metric([table, reason], count)
        yield from (looked, rows, late, aside, left, written)
