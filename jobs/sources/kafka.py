"""Events that come by topics of Kafka: `python -m jobs collect` writes the raw lake, ingest says when a day is whole.

A partition has passed a day once it has been read up to an event so long after the day's end as events may take to
come (`source.kafka.lateness_minutes`); or, for one where nothing happens, once it has been read to its end so long
after that time (`idle_minutes`). When all have, the day is handed over: what comes of it from then on is late, see
`jobs.collect`.
Tables without a topic, items and users among them, are a team's own files in the same raw lake, as of
`jobs.sources.parquet`.
"""

from collections.abc import Collection, Iterator
from datetime import date, datetime, timedelta

from jobs.config import Config
from jobs.errors import Misconfigured, NotReady, Refused
from jobs.kafka import Ends, Partition, Reader
from jobs.lake import collected, raw
from jobs.lake.collected import Collected, Seen, newest_of, offset_of
from jobs.lake.raw_quarantine import Quarantine
from jobs.lake.run import now
from jobs.lake.store import midnight
from jobs.lake.tables import EVENTS, RAW
from jobs.places import Place
from jobs.sources import History
from jobs.sources._columns import refuse_unknown

HOW = "python -m jobs collect"
NOT_OF_THE_DAY = ("too late", "gone")
"""Why records are set aside that say nothing of the day on which they came."""


def source(config: Config) -> "Topics":
    """The topics of `source.mapping`."""
    return Topics(config)


def places(data: Place) -> dict[str, str]:
    """`source.data` is the raw lake that is collected into."""
    return {"lake.raw": str(data)}


def topics(config: Config) -> dict[str, str]:
    """Event tables by name, with their topics; raises `Misconfigured` where the settings do not fit."""
    mapping = config.source.mapping
    found = {name: of.topic for name, of in mapping.items() if of.topic}
    if raw.REQUIRED not in found:
        had = ", ".join(found) or "none"
        raise Misconfigured(
            f"source.name=kafka needs source.mapping.{raw.REQUIRED}.topic at least; found topics of {had}"
        )
    if wrong := sorted(set(mapping) - set(found)):
        raise Misconfigured(f"source.name=kafka reads topics; found files or queries of {', '.join(wrong)}")
    if wrong := sorted(set(found) - set(EVENTS)):
        raise Misconfigured(f"topics are of events, {', '.join(EVENTS)}; found one of {', '.join(wrong)}")
    if len(set(found.values())) < len(found):
        raise Misconfigured(
            f"a topic is of one table; found {', '.join(f'{n}: {t}' for n, t in sorted(found.items()))}"
        )
    refuse_unknown({name: of for name, of in mapping.items() if of.columns})
    return found


class Topics(History):
    """What was collected of them."""

    def __init__(self, config: Config) -> None:
        self._topics = topics(config)
        self._settings = config.source.kafka
        self._raw, self._promised = config.lake.raw, config.source.daily
        self._most_aside = config.validation.max_quarantine_share

    def span(self) -> tuple[date, date]:
        """First and last day with impressions, but for today, which is not over."""
        today = now().date()
        found = [day for day in collected.days(self._raw, raw.REQUIRED) if day < today]
        if not found:
            raise NotReady(f"source.name=kafka needs a day that was collected into {self._raw}; found none: {HOW}")
        return found[0], found[-1]

    def day(self, day: date) -> None:
        """None, once the day is whole and handed over; `NotReady` naming what is still to come.

        Raises `Refused` where more of what came on the day fits no row than `validation.max_quarantine_share`.
        """
        behind = list(self._behind(day, now()))
        if behind:
            more = f", and {len(behind) - 3} more" if len(behind) > 3 else ""
            raise NotReady(f"{day} needs all of its events; found {'; '.join(behind[:3])}{more}")
        raw.refuse_missing(self._raw, day, self._promised)
        self._refuse_unfit(day)
        for name in self._topics:
            Collected(self._raw, name, RAW[name].schema).hand_over(day)

    def _behind(self, day: date, at: datetime) -> Iterator[str]:
        due = midnight(day + timedelta(days=1)) + timedelta(minutes=self._settings.lateness_minutes)
        if at < due:  # a clock that is ahead ends no day
            yield f"that events of it may come until {due:%d %b %H:%M}"
            return
        with Reader(self._settings) as reader:
            for name, topic in self._topics.items():
                seen = Collected(self._raw, name, RAW[name].schema).seen()
                if seen is None:
                    yield f"raw {name} was never collected: {HOW}"
                    continue
                for partition, ends in reader.ends(topic).items():
                    if why := self._waits(seen, partition, ends, due, at):
                        yield f"{partition} {why}"

    def _waits(self, seen: Seen, partition: Partition, ends: Ends, due: datetime, at: datetime) -> str:
        """Why a partition has not passed the time `due`; empty where it has."""
        newest = seen.number(newest_of(partition))
        if newest is not None and newest >= due.timestamp() * 10**6:
            return ""
        offset = seen.number(offset_of(partition))
        left = ends.next - (ends.first if offset is None else offset)
        if left:
            return f"with {left} records that are not collected yet: is `{HOW}` running?"
        idle = due + timedelta(minutes=self._settings.idle_minutes)
        if at >= idle:
            return ""
        return f"read to its end, with no event later than {due:%d %b %H:%M} yet; waited for until {idle:%d %b %H:%M}"

    def _refuse_unfit(self, day: date) -> None:
        for name, reasons in Quarantine(self._raw).counts(day).items():
            unfit = _total(reasons, NOT_OF_THE_DAY)
            rows = raw.rows(raw.files(self._raw, name, day))
            if unfit > self._most_aside * (unfit + rows):
                raise Refused(
                    f"{day} needs at most {self._most_aside:.0%} of the records of {name} to fit no row "
                    f"(validation.max_quarantine_share); found {unfit} beside {rows} rows: see {self._raw}/quarantine"
                )


def _total(reasons: dict[str, int], but: Collection[str]) -> int:
    return sum(count for reason, count in reasons.items() if reason not in but)
