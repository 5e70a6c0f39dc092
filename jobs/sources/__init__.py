"""Where raw events come from: one file a source, found by its name. `open-bandit` is `open_bandit.py` of this folder.

A source's file has a function `source(config)` that gives a `Source`; nothing else names it. Files that begin with `_`
and folders are what sources share.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import pyarrow as pa

from jobs.config import Config
from jobs.errors import UsageError
from jobs.lake.tables import Streams, Tables

LATE_DAYS = 2
"""An event that became known later than this many days after its own is never asked for."""


class Source(Protocol):
    """Raw events by day. The same settings give the same rows, whatever was asked before."""

    def span(self) -> tuple[date, date]:
        """First and last day this source has."""
        ...

    def day(self, day: date) -> Streams | None:
        """All raw tables of `day` as known at its end, `feedback` where it has any; None where they already lie in the
        raw lake. Some at once where there may be more than memory holds.

        Raises `UsageError` naming the span for a day outside it, `Misconfigured` for files that are not what is needed.
        """
        ...

    def go_live(self, day: date) -> int:
        """Let the live endpoint answer its share of the day's decisions, where a source can; returns how many."""
        ...

    def late(self, day: date, arrived: date) -> Tables:
        """Events of `day` that became known only on the later day `arrived`; absent tables had none."""
        ...


@dataclass(frozen=True)
class Hour:
    """An hour of a day, 0 to 23: how many rows it has, about, and the files that they are in, where one knows."""

    number: int
    rows: int
    files: tuple[str, ...] = ()


class Divided(ABC, Iterable[pa.Table]):
    """A table's rows of a day in the order of their time, of which some hours can be read without the others.

    Goes to other machines as it is.
    """

    @abstractmethod
    def __iter__(self) -> Iterator[pa.Table]: ...

    @abstractmethod
    def hours(self) -> list[Hour]:
        """All hours of the day; none where they cannot be read without the others."""

    @abstractmethod
    def some(self, hours: Sequence[Hour]) -> Iterable[pa.Table]:
        """The rows of hours that follow one another: what is of them in the order of all."""


class History:
    """What a source of logs that are what they are says of the endpoint and of late events: nothing."""

    def go_live(self, day: date) -> int:  # noqa: ARG002
        """Nothing: what was shown is history."""
        return 0

    def late(self, day: date, arrived: date) -> Tables:  # noqa: ARG002
        """The log does not say when it became known, or its loggers lay it beside the day it belongs to."""
        return {}


def open_source(config: Config) -> Source:
    """The source `source.name` asks for, which is a file here (`jobs.config` checks that); nothing is read yet."""
    opened: Source = importlib.import_module(f"{__name__}.{config.source.name.replace('-', '_')}").source(config)
    return opened


def places(config: Config) -> dict[str, str]:
    """Settings that follow from `source.data` for a source whose files are read where they lie; mostly none."""
    module = importlib.import_module(f"{__name__}.{config.source.name.replace('-', '_')}")
    if config.source.data is None or not hasattr(module, "places"):
        return {}
    return dict(module.places(config.source.data))


def within(day: date, span: tuple[date, date], name: str) -> None:
    """Raises `UsageError` when `day` is outside the days of the source `name`."""
    first, last = span
    if not first <= day <= last:
        raise UsageError(f"source {name} has the days {first}..{last}; found --day {day}")
