"""What became of the last run of each stage, in files as node exporter's textfile collector reads them.

The lake's log tells what was published, when and by whom; of a run that was refused, waits or was killed it tells
nothing, and of one that succeeded not how long it took. That much is written here, one file a stage and mode, replaced
whole: when a run starts, so that one that was killed is known by having no end, and when it ends.
Two runs of one stage at a time (a backfill beside a day) share a file: the last to end is what it tells.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from datetime import time as clock
from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from jobs.errors import EXIT_OK, KINDS, kind_of

SUCCEEDED = "succeeded"
ENDINGS = (SUCCEEDED, *(kind.__name__ for kind in KINDS))
PREFIX = "tidegate_run_"
FIGURES = {
    "started_timestamp_seconds": "When the last run began.",
    "ended_timestamp_seconds": "When a run last ended, well or not; a run whose start is later has no end yet.",
    "succeeded_timestamp_seconds": "When a run last ended well.",
    "day_timestamp_seconds": "The day of the last run, as its midnight.",
    "seconds": "How long the last run took that ended.",
    "rows": "Rows it published.",
    "exit_code": "With what it ended, see jobs.errors; 0 is well.",
}
"""Gauges by stage and mode; not there before the first run they tell of."""
COUNTED = "tidegate_runs"
log = logging.getLogger(__name__)


@dataclass
class Ran:
    """What a run has to tell of itself."""

    rows: int = 0


@contextmanager
def recorded(folder: Path, stage: str, mode: str, day: date) -> Iterator[Ran]:
    """Notes start and end of what runs inside in `folder`; `mode` is empty for a stage that has none.

    An error goes on its way, noted by its kind. A folder that cannot be written to is a warning: no figure is worth a
    day's rows.
    """
    path = folder / f"{stage}-{mode or 'day'}.prom"
    known = _known(path)
    of = {"stage": stage, "mode": mode}
    midnight = datetime.combine(day, clock(), UTC).timestamp()
    began, ran = time.monotonic(), Ran()
    known |= {"started_timestamp_seconds": time.time(), "day_timestamp_seconds": midnight}
    _write(path, of, known)
    try:
        yield ran
    except Exception as error:
        kind = kind_of(error)
        _write(path, of, _ended(_known(path), ran, began, type(kind).__name__, kind.exit_code))
        raise
    _write(path, of, _ended(_known(path), ran, began, SUCCEEDED, EXIT_OK))


def _ended(known: Mapping[str, float], ran: Ran, began: float, ending: str, code: int) -> dict[str, float]:
    at = time.time()
    found = {"ended_timestamp_seconds": at, "seconds": time.monotonic() - began, "exit_code": code, "rows": ran.rows}
    if code == EXIT_OK:
        found["succeeded_timestamp_seconds"] = at
    return {**known, **found, ending: known.get(ending, 0) + 1}


def read(folder: Path) -> list[Metric]:
    """Every run's figures, each family once; a file that cannot be read is left out with a warning."""
    found: dict[str, Metric] = {}
    for path in sorted(folder.glob("*.prom")):
        for family in _families(path):
            one = found.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            one.samples += family.samples
    return list(found.values())


def _families(path: Path) -> list[Metric]:
    try:
        return list(text_string_to_metric_families(path.read_text()))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        log.warning("what became of a run must be readable in %s; found: %s", path, error)
        return []


def _known(path: Path) -> dict[str, float]:
    """Figures and counts of a file by their short names."""
    samples = [sample for family in _families(path) for sample in family.samples]
    return {sample.labels.get("ended") or sample.name.removeprefix(PREFIX): sample.value for sample in samples}


def _write(path: Path, of: Mapping[str, str], known: Mapping[str, float]) -> None:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(of, known))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(path), registry)
    except OSError as error:
        log.warning("what became of a run must be writable in %s; found: %s", path, error)


class _Page:
    """A collector of one file's families."""

    def __init__(self, of: Mapping[str, str], known: Mapping[str, float]) -> None:
        self._of, self._known = of, known

    def collect(self) -> Iterator[Metric]:
        names = list(self._of)
        for name, text in FIGURES.items():
            if name in self._known:
                family = GaugeMetricFamily(PREFIX + name, text, labels=names)
                family.add_metric(list(self._of.values()), self._known[name])
                yield family
        counted = CounterMetricFamily(COUNTED, "Runs by how they ended.", labels=[*names, "ended"])
        for ending in ENDINGS:
            counted.add_metric([*self._of.values(), ending], self._known.get(ending, 0))
        yield counted
