"""The simulated world as a source: any day in any order, the same rows each time."""

from collections import OrderedDict
from datetime import date

import pyarrow as pa

from jobs.config import Config
from jobs.lake.tables import Tables
from jobs.sources import LATE_DAYS, Source, within
from jobs.sources.world.live import LiveTraffic
from jobs.sources.world.logger import LOOK_BACK_DAYS, Logger, logged, without_empty
from models.settings import WorldSettings
from models.world import Day, World, draw_day

REMEMBERED_DAYS = LOOK_BACK_DAYS + LATE_DAYS + 2


def source(config: Config) -> Source:
    """The world of `world.*`, with the endpoint's share of its traffic."""
    return Simulated(config.world, LiveTraffic(config.endpoint, config.lake.raw))


class Simulated:
    """Draws days on demand; a purchase of today may come from a click of last week, so the last few are kept."""

    def __init__(self, settings: WorldSettings, live: LiveTraffic | None = None) -> None:
        self.world = World(settings)
        self._live = live
        self._days: OrderedDict[int, Day] = OrderedDict()
        self._logger: Logger | None = None

    def span(self) -> tuple[date, date]:
        """The world's first and last day."""
        return self.world.span

    @property
    def logger(self) -> Logger:
        """Built on first use: the span alone needs no population."""
        if self._logger is None:
            self._logger = Logger(self.world)
        return self._logger

    def day(self, day: date) -> Tables:
        """All tables of a day as known at its end; nothing but clicks and purchases comes of an impression."""
        within(day, self.span(), "simulated")
        index = self.world.index(day)
        return {
            **self._known(index, 0),
            "requests": self.logger.requests(self.drawn(index)),
            "items": self.logger.items(index),
            "users": self.logger.users(index),
        }

    def late(self, day: date, arrived: date) -> Tables:
        """Events of `day` known only on `arrived`."""
        late = (arrived - day).days
        if not 1 <= late <= LATE_DAYS or day < self.span()[0]:
            return {}
        return without_empty(self._known(self.world.index(day), late))

    def go_live(self, day: date) -> int:
        """Have the endpoint in service answer its share of the day's users, once and for all."""
        within(day, self.span(), "simulated")
        if self._live is None:
            return 0
        self._days.pop(self.world.index(day), None)
        return self._live.ask(self.logger, day)

    def drawn(self, index: int) -> Day:
        """A day of the world, as it was really shown."""
        if index not in self._days:
            day = date.fromordinal(self.span()[0].toordinal() + index)
            shown = None if self._live is None else self._live.shown(self.world, day)
            self._days[index] = draw_day(self.world, index, shown)
        self._days.move_to_end(index)
        while len(self._days) > REMEMBERED_DAYS:
            self._days.popitem(last=False)
        return self._days[index]

    def _known(self, index: int, late: int) -> dict[str, pa.Table]:
        log = self.logger
        lately = [self.drawn(n) for n in range(max(0, index - LOOK_BACK_DAYS), index + 1)]
        return {
            "impressions": logged("impressions", [log.impressions(lately[-1], late)]),
            "clicks": logged("clicks", [log.clicks(day, index, late) for day in lately[-2:]]),
            "purchases": logged("purchases", [log.purchases(day, index, late) for day in lately]),
        }
