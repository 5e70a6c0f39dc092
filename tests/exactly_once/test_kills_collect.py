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
AT_ONCE = 9
"""Events that come between two kills, one of them unreadable."""


class Topic:
    """One of two partitions, and a collector that may die."""

    def __init__(self, brokers: Cluster, home: Path, forks: Forks) -> None:
        self._brokers, self._home, self._forks = brokers, home, forks
        self.produced: list[str] = []
        self.unreadable = 0
        brokers.topic("views", 2)

    def come(self) -> None:
        """More events: of two days, and one that is none."""
        events = [self._event(len(self.produced) + n) for n in range(AT_ONCE - 1)]
        self.produced += [event["impression_id"] for event in events]
        self._brokers.produce("views", events[::2], 0)
        self._brokers.produce("views", [*events[1::2], b"{"], 1)
        self.unreadable += 1

    def collect(self, **variables: str) -> int:
        """The status of one run."""
        mapping = {"impressions": {"topic": "views"}}
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
        for day in collected.days(self._home / "raw", "impressions"):
            for part in raw.read(self._home / "raw", "impressions", day).parts:
                found.update(part.rows["impression_id"].to_pylist())
        return found

    def quarantined(self) -> list[tuple[str, int, int]]:
        """Where each record came from that was set aside."""
        paths = collected.files(self._home / "raw", "quarantine", datetime.now(UTC).date()) or []
        rows = [row for path in paths for row in raw.parse(path).to_pylist()]
        return [(row["topic"], row["partition"], row["offset"]) for row in rows]

    @staticmethod
    def _event(n: int) -> dict[str, Any]:
        time = datetime(DAY.year, DAY.month, DAY.day, 23, 30, tzinfo=UTC) + timedelta(minutes=8 * (n % 8))
        shown = {"request_id": "r", "item_id": "p", "user_id": "u", "surface": "home", "position": 1, "policy": "x"}
        return {"impression_id": f"view-{n}", "event_time": time, **shown}


@pytest.fixture(scope="module")
def topic(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Iterator[Topic]:
    with cluster() as brokers:
        yield Topic(brokers, tmp_path_factory.mktemp("collected"), forks)


def test_killed_at_every_moment_each_event_is_there_once(topic: Topic, tmp_path: Path) -> None:
    """The first run dies before it has written; the moments of the next are listed, and one run dies at each of them,
    with new events before: records are read, a file is half written or whole, before and after the commit of what was
    set aside and that of the rows.
    """
    topic.come()
    assert topic.collect(KILL_AT="mkdir:1") == -signal.SIGKILL
    topic.come()
    assert topic.collect() == 0
    topic.come()
    assert topic.collect(MOMENTS=str(tmp_path / "moments")) == 0
    moments = [line.split()[0] for line in (tmp_path / "moments").read_text().splitlines()]
    assert {"write", "half", "rename", "commit", "committed"} <= {moment.partition(":")[0] for moment in moments}
    assert {"commit:2", "committed:2"} <= set(moments)
    for moment in moments:
        topic.come()
        assert topic.collect(KILL_AT=moment) == -signal.SIGKILL, moment
        assert set(topic.rows().values()) == {1}, moment
    assert topic.collect() == 0
    assert topic.rows() == Counter(dict.fromkeys(topic.produced, 1))
    found = topic.quarantined()
    assert len(found) == len(set(found)) == topic.unreadable
