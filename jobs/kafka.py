"""Kafka's topics as librdkafka reads them, told in words of what to do; nothing else here sees a client of it.

A consumer is told which partitions it has and from where, by whoever keeps the offsets: the lake does. Its group is a
name under which brokers may be told how far it has come, for those who watch lag; nobody is given partitions by it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from jobs.config import KafkaSettings
from jobs.errors import Misconfigured, NotReady, Refused, one_line

ANSWER_SECONDS = 10
"""For one answer of a broker."""
SAID_EVERY_SECONDS = 60.0
OURS = {
    "enable.auto.commit": "false",  # what has been read is what the lake holds
    "enable.auto.offset.store": "false",
    "auto.offset.reset": "error",  # what is gone is told, never skipped
    "enable.partition.eof": "true",
    "allow.auto.create.topics": "false",
    "log_level": "2",  # it would say each try to reach a broker; `on_error` says it once a minute
}
TAKEN = ("bootstrap.servers", "group.id", "error_cb", *(name for name in OURS if name != "log_level"))
DENIED = (
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)


class Partition(NamedTuple):
    """One of a topic's."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.number}"


class Ends(NamedTuple):
    """The offset of the first record that a partition has, and the one that its next record will have."""

    first: int
    next: int


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it lies in its topic; `at_ms` is when it came there, in milliseconds since 1970."""

    partition: Partition
    offset: int
    at_ms: int
    value: bytes | None


class Reader:
    """A consumer of some partitions, and what brokers say of them."""

    def __init__(self, settings: KafkaSettings, say: Callable[[str], None] | None = None) -> None:
        self._say = say
        self._said = 0.0
        if not settings.servers:
            raise Misconfigured("source.name=kafka needs source.kafka.servers, host:port of its brokers; found none")
        if wrong := sorted(set(settings.properties) & set(TAKEN)):
            raise Misconfigured(f"source.kafka.properties needs none of {', '.join(TAKEN)}; found {', '.join(wrong)}")
        given = {name: value.get_secret_value() for name, value in settings.properties.items()}
        ours = {"bootstrap.servers": settings.servers, "group.id": settings.group, "error_cb": self._on_error}
        try:
            self._consumer = Consumer({**OURS, **given, **ours})
        except KafkaException as error:
            said = _without(one_line(error), given)
            raise Misconfigured(f"source.kafka.properties needs properties of librdkafka; found {said}") from None

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *raised: object) -> None:
        self._consumer.close()

    def ends(self, topic: str) -> dict[Partition, Ends]:
        """The partitions of a topic, as brokers have them now.

        Raises `NotReady` where they do not answer or have no such topic, `Misconfigured` where they let nobody in.
        """
        with _answered(topic):
            about = self._consumer.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic]
            if about.error is not None:
                raise KafkaException(about.error)
            found = {}
            for number in sorted(about.partitions):
                at = TopicPartition(topic, number)
                first, following = self._consumer.get_watermark_offsets(at, timeout=ANSWER_SECONDS, cached=False)
                found[Partition(topic, number)] = Ends(first, following)
        return found

    def begin(self, offsets: Mapping[Partition, int]) -> None:
        """Read these partitions from these offsets on, instead of what was read before."""
        self._consumer.assign([TopicPartition(*partition, offset) for partition, offset in offsets.items()])

    def read(self, most: int, seconds: float) -> tuple[list[Record], dict[Partition, int]]:
        """Records that have come, and of partitions that were read to their ends the offsets of those.

        Raises `Refused` where records that were to be read are gone, `Misconfigured` where brokers let nobody in,
        `NotReady` where no further try would help. A broker that does not answer is waited for.
        """
        records, ended = [], {}
        for message in self._consumer.consume(most, seconds):
            partition = Partition(message.topic() or "", message.partition() or 0)
            error = message.error()
            if error is None:
                at = message.timestamp()[1]
                records.append(Record(partition, message.offset() or 0, at, message.value()))
            elif error.code() == KafkaError._PARTITION_EOF:
                ended[partition] = message.offset() or 0
            elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                raise Refused(f"{partition} needs its records from where the lake ends; found that they are gone")
            else:
                self._on_error(error)
                _refuse(error, str(partition))
        return records, ended

    def tell(self, offsets: Mapping[Partition, int]) -> None:
        """Let brokers know how far the group has come; whether they hear it does not matter."""
        told = [TopicPartition(*partition, offset) for partition, offset in offsets.items()]
        if told:
            try:
                self._consumer.commit(offsets=told, asynchronous=True)
            except KafkaException as error:
                self._on_error(error.args[0])

    def _on_error(self, error: KafkaError) -> None:
        if self._say is not None and time.monotonic() > self._said + SAID_EVERY_SECONDS:
            self._said = time.monotonic()
            self._say(f"brokers: {one_line(error.str(), 300)}; waiting for them")


@contextmanager
def _answered(topic: str) -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        found: KafkaError = error.args[0]
        _refuse(found, topic)
        if found.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            raise NotReady(f"topic {topic} needs to exist; found no topic of that name") from error
        raise NotReady(f"brokers need to answer for {topic}; found: {one_line(found.str(), 300)}") from error


def _refuse(error: KafkaError, of: str) -> None:
    """Raises where waiting does not help."""
    if error.code() in DENIED:
        raise Misconfigured(f"brokers must admit source.kafka for {of}; found: {one_line(error.str(), 300)}")
    if error.fatal():
        raise NotReady(f"the consumer of {of} needs to be started again; found: {one_line(error.str(), 300)}")


def _without(text: str, given: Mapping[str, str]) -> str:
    """What librdkafka says, without values that may be secret."""
    for value in sorted(given.values(), key=len, reverse=True):
        if value:
            text = text.replace(value, "…")
    return text
