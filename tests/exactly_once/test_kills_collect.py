"""kill -9 of the collector of Kafka's topics at every moment at which it changes the disk: each event is there once."""

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.lake import collected, raw
from tests.exactly_once.forks import Forks
from tests.kafka_cluster import Cluster, cluster

DAY = date(2026, 3, 2)
HOURS = 3
AT_ONCE = 9
"""Events that come between two kills, one of them unreadable."""


class Topics:
    """Two tables of two partitions each, and a collector that may die."""

    def __init__(self, brokers: Cluster, home: Path, forks: Forks) -> None:
        self._brokers, self._home, self._forks = brokers, home, forks
        self.produced: list[str] = []
        self.unreadable = 0
        for name in ("views", "clicks"):
            brokers.topic(name, 2)

    def come(self) -> None:
        """More events of both tables: of several hours, and of two days."""
        for name, key in (("views", "impression_id"), ("clicks", "click_id")):
            events = [self._event(key, len(self.produced) + n) for n in range(AT_ONCE - 1)]
            self.produced += [event[key] for event in events]
            self._brokers.produce(name, events[::2], 0)
            self._brokers.produce(name, [*events[1::2], b"{"], 1)
            self.unreadable += 1

    def collect(self, **variables: str) -> int:
        """The status of one run."""
        mapping = {"impressions": {"topic": "views"}, "clicks": {"topic": "clicks"}}
        source = {"name": "kafka", "kafka": {"servers": self._brokers.servers}, "mapping": mapping}
        env = {
            **os.environ,
            **{"TIDEGATE_ENV": "test", "TIDEGATE__SOURCE": json.dumps(source)},
            **{"TIDEGATE__LAKE__ROOT": f"{self._home}/lake", "TIDEGATE__LAKE__RAW": f"{self._home}/raw"},
            **{"KILL_BELOW": str(self._home / "raw"), **variables},
        }
        return self._forks(["collect", "--once"], env, self._home / "out", self._home / "err")

    def rows(self) -> Counter[str]:
        """How often each id is there."""
        found: Counter[str] = Counter()
        for table, key in (("impressions", "impression_id"), ("clicks", "click_id")):
            for day in collected.days(self._home / "raw", table):
                for part in raw.read(self._home / "raw", table, day).parts:
                    found.update(part.rows[key].to_pylist())
        return found

    def quarantined(self) -> list[tuple[str, int, int]]:
        """Where each record came from that was set aside."""
        paths = collected.files(self._home / "raw", "quarantine", datetime.now(UTC).date()) or []
        rows = [row for path in paths for row in raw.parse(path).to_pylist()]
        return [(row["topic"], row["partition"], row["offset"]) for row in rows]

    @staticmethod
    def _event(key: str, n: int) -> dict[str, Any]:
        time = datetime(DAY.year, DAY.month, DAY.day, 23, tzinfo=UTC) + timedelta(minutes=20 * (n % (3 * HOURS)))
        shown = {"request_id": "r", "item_id": "p", "user_id": "u", "surface": "home", "position": 1, "policy": "x"}
        return {key: f"{key}-{n}", "event_time": time, **(shown if key == "impression_id" else {"item_id": "p"})}


@pytest.fixture(scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Iterator[Topics]:
    with cluster() as brokers:
        yield Topics(brokers, tmp_path_factory.mktemp("collected"), forks)


def test_killed_at_every_moment_each_event_is_there_once(topics: Topics, tmp_path: Path) -> None:
    """The moments of a run are listed, then a run dies at each, with new events before; the last one is let live.

    They are: records read, a file half written or whole, before and after the commit of what was set aside, of the
    rows, of a table that is new.
    """
    topics.come()
    assert topics.collect(MOMENTS=str(tmp_path / "moments")) == 0
    moments = [line.split()[0] for line in (tmp_path / "moments").read_text().splitlines()]
    kinds = {moment.partition(":")[0] for moment in moments}
    assert {"half", "commit", "committed", "rename"} <= kinds
    died = 0
    for moment in moments:
        topics.come()
        status = topics.collect(KILL_AT=moment)
        died += status == -signal.SIGKILL
        assert status in (0, -signal.SIGKILL), (moment, (topics._home / "err").read_text())
        assert set(topics.rows().values()) <= {1}, moment
    assert died > 0.8 * len(moments)
    assert topics.collect() == 0
    assert topics.rows() == Counter(dict.fromkeys(topics.produced, 1))
    found = topics.quarantined()
    assert len(found) == len(set(found)) == topics.unreadable
    assert {partition for _, partition, _ in found} == {1}
