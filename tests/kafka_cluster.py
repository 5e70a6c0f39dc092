"""librdkafka's own mock cluster as a process: brokers on loopback that unmodified clients produce to and consume from.

`test.mock.num.brokers` of a client starts the same; here it is started through librdkafka's C functions, which can also
make a topic of so many partitions, take a broker down and up again, and delete records as retention does.
"""

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import confluent_kafka

from jobs.config import ROOT

PRODUCER = 0


class Cluster:
    """Brokers of another process, and a producer here."""

    def __init__(self, process: "subprocess.Popen[str]", servers: str) -> None:
        self._process = process
        self.servers = servers
        self._producer = confluent_kafka.Producer({"bootstrap.servers": servers, "linger.ms": 0, "log_level": 0})

    def topic(self, name: str, partitions: int) -> None:
        self._order("topic", name, partitions)

    def down(self) -> None:
        """The broker closes its connections and takes none."""
        self._order("down")

    def up(self) -> None:
        self._order("up")

    def delete(self, topic: str, partition: int, before: int) -> None:
        """Records before an offset are gone."""
        self._order("delete", topic, partition, before)

    def produce(
        self, topic: str, values: Sequence[Mapping[str, Any] | bytes], partition: int = 0, at: datetime | None = None
    ) -> None:
        """Put records, mappings as JSON, and wait until the broker has them."""
        came = {} if at is None else {"timestamp": round(at.timestamp() * 1000)}
        for value in values:
            content = value if isinstance(value, bytes) else json.dumps(value, default=_text).encode()
            self._producer.produce(topic, content, partition=partition, **came)
        assert self._producer.flush(20) == 0

    def _order(self, *words: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline().strip() == "0", words


@contextmanager
def cluster() -> Iterator[Cluster]:
    """One broker, until the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.kafka_cluster"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield Cluster(process, process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"JSON has no {type(value)}")


def _library() -> ctypes.CDLL:
    """The librdkafka of confluent-kafka's wheel, with the types of what is called."""
    folder = Path(confluent_kafka.__file__).parent
    found = ctypes.CDLL(str(next(folder.with_name("confluent_kafka.libs").glob("librdkafka-*.so*"))))
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32
    found.rd_kafka_conf_new.restype = found.rd_kafka_new.restype = found.rd_kafka_mock_cluster_new.restype = pointer
    found.rd_kafka_mock_cluster_bootstraps.restype = text
    found.rd_kafka_new.argtypes = [ctypes.c_int, pointer, text, ctypes.c_size_t]
    found.rd_kafka_mock_cluster_new.argtypes = [pointer, ctypes.c_int]
    found.rd_kafka_mock_cluster_bootstraps.argtypes = [pointer]
    found.rd_kafka_mock_topic_create.argtypes = [pointer, text, ctypes.c_int, ctypes.c_int]
    found.rd_kafka_mock_partition_delete_records.argtypes = [pointer, text, number, ctypes.c_int64]
    found.rd_kafka_mock_broker_set_down.argtypes = found.rd_kafka_mock_broker_set_up.argtypes = [pointer, number]
    return found


def main() -> None:
    """Print where the broker is; then do what each line on stdin says and print what comes of it."""
    library = _library()
    client = library.rd_kafka_new(PRODUCER, library.rd_kafka_conf_new(), ctypes.create_string_buffer(512), 512)
    brokers = library.rd_kafka_mock_cluster_new(client, 1)
    print(library.rd_kafka_mock_cluster_bootstraps(brokers).decode(), flush=True)
    orders: dict[str, Callable[..., int]] = {
        "topic": lambda name, n: library.rd_kafka_mock_topic_create(brokers, name.encode(), n, 1),
        "delete": lambda name, n, at: library.rd_kafka_mock_partition_delete_records(brokers, name.encode(), n, at),
        "down": lambda: library.rd_kafka_mock_broker_set_down(brokers, 1),
        "up": lambda: library.rd_kafka_mock_broker_set_up(brokers, 1),
    }
    for line in sys.stdin:
        name, *words = json.loads(line)
        print(orders[name](*words), flush=True)


if __name__ == "__main__":
    main()
