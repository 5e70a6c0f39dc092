"""What a source of raw events must offer; bringing another log means one small class like these."""

from collections.abc import Mapping
from datetime import date
from typing import Protocol

import pyarrow as pa

from jobs.config import Config
from jobs.errors import UsageError

Tables = Mapping[str, pa.Table]
"""Raw table name (`jobs.tables.RAW`) to rows in its raw columns, events sorted by time."""


class Source(Protocol):
    """Raw events by day. The same settings give the same rows, whatever was asked before."""

    def span(self) -> tuple[date, date]:
        """First and last day this source has."""
        ...

    def day(self, day: date) -> Tables | None:
        """All six raw tables of `day` as known at its end; None where they already lie in the raw lake.

        Raises `UsageError` naming the span for a day outside it, `Misconfigured` for files that are not what is needed.
        """
        ...

    def go_live(self, day: date) -> int:
        """Let the live endpoint answer its share of the day's decisions, where a source can; returns how many."""
        ...

    def late(self, day: date, arrived: date) -> Tables:
        """Events of `day` that became known only on the later day `arrived`; absent tables had none."""
        ...


def open_source(config: Config) -> Source:
    """The adapter `source.name` asks for; nothing is read yet."""
    name = config.source.name
    if name == "simulated":
        from jobs.ingest.live import LiveTraffic
        from jobs.ingest.simulated import Simulated

        return Simulated(config.world, LiveTraffic(config.endpoint, config.lake.raw))
    if name == "open-bandit":
        from jobs.ingest.open_bandit import OpenBandit

        return OpenBandit(config.source.data, config.lake.raw.parent / "cache")
    if name == "kuairand":
        from jobs.ingest.kuairand import KuaiRand

        return KuaiRand(config.source.data)
    from jobs.ingest.parquet import ParquetLake

    return ParquetLake(config.lake.raw)


def within(day: date, span: tuple[date, date], name: str) -> None:
    """Raises `UsageError` when `day` is outside the days of the source `name`."""
    first, last = span
    if not first <= day <= last:
        raise UsageError(f"source {name} has the days {first}..{last}; found --day {day}")
