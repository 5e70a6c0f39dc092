"""Topics on brokers of librdkafka's mock cluster become the raw lake: once, whole by day, nothing left out unseen."""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs import config, runs
from jobs.collect import job
from jobs.config import Config, load
from jobs.errors import Misconfigured, NotReady, Refused
from jobs.flow import STAGES
from jobs.kafka import Ends, Partition, Reader
from jobs.lake import collected, raw, raw_writer
from jobs.lake.collected import Collected
from jobs.lake.raw_quarantine import Quarantine
from jobs.lake.run import Run
from jobs.lake.tables import RAW
from jobs.lake.vacuum import vacuum
from jobs.places import S3Path
from jobs.sources import kafka, open_source
from tests import moto_server
from tests.kafka_cluster import Cluster, cluster

DAY = date(2026, 3, 2)
NEXT = DAY + timedelta(days=1)
PARTITIONS = 2


@pytest.fixture(scope="module")
def brokers() -> Iterator[Cluster]:
    with cluster() as found:
        yield found


@pytest.fixture
def topic(brokers: Cluster, request: pytest.FixtureRequest) -> str:
    """Of impressions, of this test alone."""
    name = f"views-{request.node.name[:60]}"
    brokers.topic(name, PARTITIONS)
    return name


def settings(brokers: Cluster, home: Any, topic: str, more: Any = None, **variables: str) -> Config:
    """Those of one topic of impressions, and of `more`."""
    mapping = {"impressions": {"topic": topic}, **(more or {})}
    given = {"name": "kafka", "kafka": {"servers": brokers.servers, "batch_seconds": 1}, "mapping": mapping}
    places = {"TIDEGATE__LAKE__ROOT": f"{home}/lake", "TIDEGATE__LAKE__RAW": f"{home}/raw"}
    return load({"TIDEGATE_ENV": "test", "TIDEGATE__SOURCE": json.dumps(given), **places, **variables})


def at(hour: float, day: date = DAY) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=hour)


def view(name: str, hour: float = 1, day: date = DAY, **more: Any) -> dict[str, Any]:
    """An impression."""
    shown = {"request_id": f"r{name}", "item_id": "p", "user_id": "u", "surface": "home", "position": 1, "policy": "x"}
    return {"impression_id": name, "event_time": at(hour, day), **shown, **more}


def collect(of: Config, why: str = "") -> dict[str, Any]:
    return job.run(of, once=True, why=why)


def ids(of: Config, day: date = DAY) -> list[str]:
    """Impressions of a raw day."""
    parts = raw.read(of.lake.raw, "impressions", day).parts
    return sorted(found for part in parts for found in part.rows["impression_id"].to_pylist())


def aside(of: Config) -> dict[str, int]:
    """Records set aside today, by reason."""
    return Quarantine(of.lake.raw).counts(datetime.now(UTC).date()).get("impressions", {})


def quarantined(of: Config) -> list[dict[str, Any]]:
    found = collected.files(of.lake.raw, "quarantine", datetime.now(UTC).date()) or []
    return [row for path in found for row in raw.parse(path).to_pylist()]


# -- the whole way ----------------------------------------------------------------------------------------------------
def test_days_from_topics_are_validated_to_the_rows_of_the_same_events_in_daily_files(
    brokers: Cluster, tmp_path: Path
) -> None:
    """The simulated world's, late events among them: those come after their day was handed over, and join it."""
    world = load(
        {"TIDEGATE_ENV": "test", "TIDEGATE__WORLD__REQUESTS_PER_DAY": "80", "TIDEGATE__WORLD__LATE_SHARE": "0.1"}
    )
    events = open_source(world)
    first = events.span()[0]
    second = first + timedelta(days=1)
    files = load({
        **{"TIDEGATE_ENV": "test", "TIDEGATE__SOURCE__NAME": "parquet", "TIDEGATE__LAKE__ROOT": f"{tmp_path}/a/lake"},
        "TIDEGATE__LAKE__RAW": f"{tmp_path}/a/raw",
    })  # fmt: skip
    names = ("clicks", "purchases", "requests")
    of = settings(brokers, tmp_path / "b", "world-impressions", {name: {"topic": f"world-{name}"} for name in names})
    for name in ("impressions", *names):
        brokers.topic(f"world-{name}", PARTITIONS)
    for n, day in enumerate((first, second)):
        tables = events.day(day)
        late = events.late(first, second) if n else {}
        assert tables is not None
        raw_writer.write_day(files.lake.raw, day, tables)
        if n:
            assert sum(map(len, late.values())), "the world has late events"
            raw_writer.write_late(files.lake.raw, first, second, late)
        for told in (late, tables):
            for name in ("impressions", *names):
                for partition in range(PARTITIONS):
                    rows = told[name].to_pylist()[partition::PARTITIONS] if name in told else []
                    brokers.produce(
                        f"world-{name}", [{k: v for k, v in row.items() if v is not None} for row in rows], partition
                    )
        for name in ("items", "users"):
            shutil.copytree(files.lake.raw / name, of.lake.raw / name, dirs_exist_ok=True)
        counts = collect(of)
        assert sum(table["late"] for table in counts.values()) == sum(map(len, late.values()))
        for one in (files, of):
            for stage in ("ingest", "validate"):
                run = Run(STAGES[stage], one, day)
                found = __import__(f"jobs.{stage}.job", fromlist=["run"]).run(run)
        assert found["revisited"] == ([first.isoformat()] if n else [])
    assert open_source(of).span() == (first, second)
    lakes = [Run(STAGES["validate"], one, second) for one in (files, of)]
    for name in (*names, "impressions", "items", "users", "quarantine"):
        left, right = (lake.read(name).to_pylist() for lake in lakes)
        by = sorted(RAW[name].key if name in RAW else ("row_key", "expectation", "payload"))
        assert sorted(left, key=lambda row: [str(row[k]) for k in by]) == sorted(
            right, key=lambda row: [str(row[k]) for k in by]
        ), name
        assert name == "quarantine" or left


# -- when a day is whole ----------------------------------------------------------------------------------------------
def test_a_partition_without_events_holds_a_day_back_for_a_while_and_one_with_events_as_long_as_it_takes(
    brokers: Cluster, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has passed the day by its events, the other is idle; a record that nobody has collected is waited for."""
    of = settings(brokers, tmp_path, topic)
    source = open_source(of)
    clock = [at(0.25, NEXT)]
    monkeypatch.setattr(kafka, "now", lambda: clock[0])
    brokers.produce(topic, [view("a"), view("b", 0.75, NEXT)], 0)
    with pytest.raises(
        NotReady, match=r"2026-03-02 needs all of its events; found that events of it may come until 03 M"
    ):
        source.day(DAY)
    clock[0] = at(0.75, NEXT)
    with pytest.raises(NotReady, match=r"raw impressions was never collected: python -m jobs collect"):
        source.day(DAY)
    collect(of)
    with pytest.raises(NotReady, match=rf"{topic}/1 read to its end, with no event .* waited for until 03 Mar 01:00$"):
        source.day(DAY)
    brokers.produce(topic, [view("c", 2)], 1)
    clock[0] = at(5, NEXT)
    with pytest.raises(NotReady, match=rf"{topic}/1 with 1 records that are not collected yet"):
        source.day(DAY)
    assert Collected(of.lake.raw, "impressions", RAW["impressions"].schema).made().handed_over is None
    collect(of)
    source.day(DAY)
    assert Collected(of.lake.raw, "impressions", RAW["impressions"].schema).made().handed_over == DAY
    assert ids(of) == ["a", "c"]


def test_late_rows_join_their_day_while_validate_looks_back_and_are_set_aside_after(
    brokers: Cluster, topic: str, tmp_path: Path
) -> None:
    """`late_days` is 2: of the handed day and the one before; each is counted, and kept with its bytes."""
    of = settings(brokers, tmp_path, topic)
    brokers.produce(topic, [view(f"{n}", day=DAY - timedelta(days=n)) for n in range(4)])
    collect(of)
    open_source(of).day(DAY)
    late = [view(f"late {n}", day=DAY - timedelta(days=n)) for n in range(4)]
    brokers.produce(topic, [*late, view("on time", day=NEXT)])
    assert collect(of) == {"impressions": {"rows": 3, "late": 2, "quarantined": {"too late": 2}}}
    assert [ids(of, DAY - timedelta(days=n)) for n in range(3)] == [["0", "late 0"], ["1", "late 1"], ["2"]]
    assert [json.loads(row["value"])["impression_id"] for row in quarantined(of)] == ["late 2", "late 3"]
    found = "needs to come before 2026-03-02 was published, or to be of a day after 2026-02-28"
    assert {(row["reason"], row["found"]) for row in quarantined(of)} == {("too late", found)}


def test_a_day_handed_over_while_a_batch_is_written_is_seen(
    brokers: Cluster, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the commit `validate` may have begun: a row put there would be looked at by nobody."""
    of = settings(brokers, tmp_path, topic)
    brokers.produce(topic, [view("kept"), view("too late", day=DAY - timedelta(days=2))])
    written = Collected.written
    handed: list[date] = []

    def meanwhile(self: Collected, rows: pa.Table, by: pa.Table) -> Any:
        if "impression_id" in rows.column_names and not handed:
            handed.append(DAY)
            Collected(of.lake.raw, "impressions", RAW["impressions"].schema).hand_over(DAY)
        return written(self, rows, by)

    monkeypatch.setattr(Collected, "written", meanwhile)
    assert collect(of) == {"impressions": {"rows": 1, "late": 1, "quarantined": {"too late": 1}}}
    assert raw.files(of.lake.raw, "impressions", DAY)
    with pytest.raises(NotReady):
        ids(of, DAY - timedelta(days=2))


def test_a_day_of_which_too_much_fits_no_row_is_refused(brokers: Cluster, topic: str, tmp_path: Path) -> None:
    """The stream goes on; the day waits for somebody to look."""
    of = settings(brokers, tmp_path, topic)
    brokers.produce(topic, [view(f"{n}") for n in range(9)], at=at(1))
    brokers.produce(topic, [b"{", view("x", position="first")], at=at(1))
    assert collect(of)["impressions"]["quarantined"] == {"unfit": 1, "unreadable": 1}
    with pytest.raises(
        Refused, match=r"at most 5% of the records of impressions .* found 2 beside 9 rows: see .*/quar"
    ):
        open_source(of).day(DAY)
    open_source(settings(brokers, tmp_path, topic, TIDEGATE__VALIDATION__MAX_QUARANTINE_SHARE="0.2")).day(DAY)


def test_a_new_column_widens_the_table_and_keeps_what_is_there(brokers: Cluster, topic: str, tmp_path: Path) -> None:
    """A column of one's own that comes one day is there from then on, in its type."""
    of = settings(brokers, tmp_path, topic)
    for n, more in enumerate(({}, {"context_depth": 2}, {"context_depth": "deep"}, {"context_depth": 2.5})):
        brokers.produce(topic, [view(f"{n}", **more)])
        collect(of)
    assert ids(of) == ["0", "1", "3"]
    assert aside(of) == {"unfit": 1}
    rows = pa.concat_tables(
        [part.rows for part in raw.read(of.lake.raw, "impressions", DAY).parts], promote_options="default"
    )
    assert sorted(rows["context_depth"].to_pylist(), key=str) == [2.0, 2.5, None]


# -- brokers ----------------------------------------------------------------------------------------------------------
def test_a_broker_that_is_gone_for_a_while_is_waited_for(brokers: Cluster, topic: str, tmp_path: Path) -> None:
    """What came before and after is there once; `--once` says that nobody answers, and so does ingest."""
    of = settings(brokers, tmp_path, topic)
    brokers.produce(topic, [view("before")])
    collector = job.Collector(of, once=False, why="")
    thread = threading.Thread(target=collector.run)
    thread.start()
    try:
        _until(lambda: ids(of) == ["before"])
        brokers.down()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("jobs.kafka.ANSWER_SECONDS", 1)
            with pytest.raises(NotReady, match="brokers need to answer for"):
                collect(of)
            with pytest.raises(NotReady, match="brokers need to answer for"):
                open_source(of).day(DAY)
        brokers.up()
        brokers.produce(topic, [view("after")], 1)
        _until(lambda: ids(of) == ["after", "before"])
    finally:
        brokers.up()
        collector.stop()
        thread.join(60)
    assert not thread.is_alive()
    told = {one.name: one.samples for one in runs.read(of.lake.runs)}
    assert told["tidegate_collect_rows"][0].value == 2


def _until(true: Any) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            if true():
                return
        except NotReady:
            pass
        assert time.monotonic() < until
        time.sleep(0.05)


def test_of_two_collectors_one_wins_and_the_other_says_so(
    brokers: Cluster, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have read the same records; each is there once."""
    of = settings(brokers, tmp_path, topic)
    brokers.produce(topic, [view("a"), b"{"])
    written = Collected.written
    others: list[Any] = []

    def meanwhile(self: Collected, rows: pa.Table, by: pa.Table) -> Any:
        if "impression_id" in rows.column_names and not others:
            others.append(None)
            brokers.produce(topic, [view("b")])
            others[0] = collect(of)
        return written(self, rows, by)

    monkeypatch.setattr(Collected, "written", meanwhile)
    with pytest.raises(NotReady, match=rf"another has read {topic}/0 up to 3, where this one began at None"):
        collect(of)
    assert others[0]["impressions"]["rows"] == 2
    assert ids(of) == ["a", "b"]
    assert aside(of) == {"unreadable": 1}
    assert collect(of) == {}


def test_records_that_brokers_deleted_are_missed_by_name(brokers: Cluster, topic: str, tmp_path: Path) -> None:
    """Retention overtook the collector: it stops until somebody says why, and that is on record."""
    of = settings(brokers, tmp_path, topic)
    brokers.produce(topic, [view("a")])
    collect(of)
    brokers.produce(topic, [view("gone"), view("gone too"), view("b")])
    brokers.delete(topic, 0, 3)
    with pytest.raises(
        Refused, match=rf"{topic}/0 needs its records from offset 1 on.* have those from 3 to 4: .*--why"
    ):
        collect(of)
    collect(of, why="a week's holiday")
    assert ids(of) == ["a", "b"]
    ((found),) = quarantined(of)
    assert (found["reason"], found["offset"], found["value"]) == ("gone", 1, None)
    assert found["found"].endswith("a week's holiday")


def test_partitions_that_are_new_are_read(
    brokers: Cluster, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A topic that grows while the collector runs: its look finds them."""
    of = settings(brokers, tmp_path, topic)
    brokers.produce(topic, [view("a")], 0)
    brokers.produce(topic, [view("b")], 1)
    known, ends = [1], Reader.ends

    def growing(self: Reader, name: str) -> dict[Partition, Ends]:
        return {partition: end for partition, end in ends(self, name).items() if partition.number < known[0]}

    monkeypatch.setattr(Reader, "ends", growing)
    monkeypatch.setattr(job, "LOOK_SECONDS", 0.1)
    collector = job.Collector(of, once=False, why="")
    thread = threading.Thread(target=collector.run)
    thread.start()
    try:
        _until(lambda: ids(of) == ["a"])
        known[0] = 2
        _until(lambda: ids(of) == ["a", "b"])
    finally:
        collector.stop()
        thread.join(60)


# -- where it lies ----------------------------------------------------------------------------------------------------
def test_on_s3_the_same(brokers: Cluster, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits are conditional puts; the raw day is what the log names."""
    with moto_server.serving() as moto:
        for name, value in moto.bucket("collected").items():
            monkeypatch.setenv(name, value)
        of = settings(brokers, "s3://collected", topic, TIDEGATE__BUNDLES="s3://collected/bundles")
        brokers.produce(topic, [view("a"), b"{"])
        collect(of)
        brokers.produce(topic, [view("b", context_depth=1)], 1)
        collect(of)
        assert ids(of) == ["a", "b"]
        assert isinstance(of.lake.raw, S3Path)
        (of.lake.raw / "impressions" / f"date={DAY}" / "hour=01" / "died.parquet").write_bytes(b"half")
        open_source(of).day(DAY)
        assert ids(of) == ["a", "b"]
        assert aside(of) == {"unreadable": 1}


def test_what_no_commit_names_is_no_row_and_goes_after_a_day(brokers: Cluster, topic: str, tmp_path: Path) -> None:
    """A collector that died has left a file; a source that writes days may not write here."""
    of = settings(brokers, tmp_path, topic)
    brokers.produce(topic, [view("a")])
    collect(of)
    assert isinstance(of.lake.raw, Path)
    hour = of.lake.raw / "impressions" / f"date={DAY}" / "hour=01"
    (file,) = hour.glob("*.parquet")
    for name in ("dead", "live"):
        shutil.copy(file, hour / f"{name}.parquet")
        shutil.copy(file, hour / f".{name}.parquet.1.draft")
        if name == "dead":
            for left in hour.glob("*dead*"):
                os.utime(left, (time.time() - 2 * 86_400,) * 2)
    assert ids(of) == ["a"]
    vacuum(of)
    assert {path.name for path in hour.iterdir()} == {file.name, "live.parquet", ".live.parquet.1.draft"}
    assert ids(of) == ["a"]
    with pytest.raises(Refused, match="needs a raw lake of its own; found impressions collected in"):
        raw_writer.write_day(of.lake.raw, DAY, {"impressions": RAW["impressions"].schema.empty_table()})


# -- settings ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "needs source.mapping.impressions.topic at least; found topics of none"),
        ({"mapping": {"clicks": {"topic": "c"}}}, "at least; found topics of clicks"),
        (
            {"mapping": {"impressions": {"topic": "a"}, "items": {"topic": "b"}}},
            "topics are of events, .*; found one of items",
        ),
        (
            {"mapping": {"impressions": {"topic": "a"}, "clicks": {"topic": "a"}}},
            "a topic is of one table; found clicks: a, ",
        ),
        (
            {"mapping": {"impressions": {"topic": "a"}, "clicks": {"files": "*.csv", "columns": {"click_id": "id"}}}},
            "reads topics; found files or queries of clicks",
        ),
        (
            {"mapping": {"impressions": {"topic": "a", "columns": {"item_id": "sku"}}}},
            "impressions.position: not mapped",
        ),
    ],
)
def test_settings_that_do_not_fit_are_named(source: dict[str, Any], message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        open_source(load({"TIDEGATE__SOURCE": json.dumps({"name": "kafka", **source})}))


def test_topics_are_not_of_files() -> None:
    mapping = {"impressions": {"topic": "a"}}
    with pytest.raises(
        Misconfigured, match=r"source\.name=mapped reads files and queries; found topics of impressions"
    ):
        open_source(load({"TIDEGATE__SOURCE": json.dumps({"name": "mapped", "mapping": mapping})}))


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"sasl.password": "hush", "security.protocl": "SSL"}, r'No such configuration property: "security.protocl"'),
        ({"sasl.password": "hush", "security.protocol": "hush"}, r'Invalid value "…" for configuration property'),
        ({"sasl.password": "hush", "group.id": "x"}, r"needs none of bootstrap.servers, .*; found group.id"),
    ],
)
def test_properties_of_librdkafka_are_passed_on_and_never_shown(properties: dict[str, Any], message: str) -> None:
    """Neither printed nor repeated by an error; the names are checked by librdkafka itself."""
    of = load({"TIDEGATE__SOURCE__KAFKA": json.dumps({"servers": "127.0.0.1:9", "properties": properties})})
    assert "hush" not in of.model_dump_json() + repr(of)
    with pytest.raises(Misconfigured, match=message) as raised:
        Reader(of.source.kafka)
    assert "hush" not in str(raised.value)
    good = {"servers": "127.0.0.1:9", "properties": {"sasl.password": "hush", "socket.timeout.ms": 900}}
    with Reader(load({"TIDEGATE__SOURCE__KAFKA": json.dumps(good)}).source.kafka):
        pass
    with pytest.raises(Misconfigured, match=r"source\.kafka\.properties: .*found what is not shown") as raised:
        load({"TIDEGATE__SOURCE__KAFKA__PROPERTIES": "sasl.password=hush"})
    assert "hush" not in str(raised.value)


def test_without_servers_nothing_is_read() -> None:
    with pytest.raises(Misconfigured, match=r"needs source\.kafka\.servers"):
        Reader(config.KafkaSettings())
