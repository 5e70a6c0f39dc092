"""A team's own raw lake: its loggers write `<lake.raw>/<table>/date=…/hour=…` themselves, ingest only looks.

What the files hold is `validate`'s to judge. Not looked at yet: whether the day's last hour has been closed.
"""

from collections.abc import Collection
from datetime import date

from jobs.config import Config
from jobs.errors import Misconfigured, NotReady, if_never
from jobs.lake.raw import REQUIRED, how_to_do_without
from jobs.places import Place
from jobs.sources import History, Source


def source(config: Config) -> Source:
    """The raw lake itself."""
    return ParquetLake(config.lake.raw, config.source.daily)


def places(data: Place) -> dict[str, str]:
    """The settings that say where the data is, of `source.data`: it is the raw lake."""
    return {"lake.raw": str(data)}


class ParquetLake(History):
    """The folders under `lake.raw`."""

    def __init__(self, raw: Place, promised: Collection[str] = ()) -> None:
        self._raw, self._promised = raw, promised

    def span(self) -> tuple[date, date]:
        """First and last day with impressions."""
        found = sorted(path.name.removeprefix("date=") for path in self._folder(REQUIRED).glob("date=*"))
        if not found:
            raise NotReady(f"lake.raw needs impressions/date=YYYY-MM-DD/hour=HH/*.parquet; found none in {self._raw}")
        try:
            return date.fromisoformat(found[0]), date.fromisoformat(found[-1])
        except ValueError as error:
            raise Misconfigured(
                f"lake.raw needs folders date=YYYY-MM-DD; found date={found[0]}..{found[-1]}"
            ) from error

    def day(self, day: date) -> None:
        """None, or `NotReady` naming impressions, or the promised tables, that have no file for the day yet."""
        if not self._has(REQUIRED, day):
            found = f"found none in {self._raw}{if_never(day)}"
            raise NotReady(f"the raw lake needs files of {day} for {REQUIRED}; {found}")
        missing = [name for name in self._promised if not self._has(name, day)]
        if missing:
            found = f"found none in {self._raw}; {how_to_do_without(missing)}"
            raise NotReady(f"the raw lake needs files of {day} for {', '.join(missing)}; {found}")

    def _has(self, table: str, day: date) -> bool:
        return any(self._folder(table).glob(f"date={day}/hour=*/*.parquet"))

    def _folder(self, table: str) -> Place:
        if not self._raw.is_dir():
            raise Misconfigured(f"lake.raw must be the folder the loggers write to; found no folder at {self._raw}")
        return self._raw / table
