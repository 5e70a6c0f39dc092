"""The lake on S3, moto's over HTTP: the laws of `test_store.py`, and of the raw lake without locks and swaps."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake.exceptions import DeltaError
from werkzeug.serving import WSGIRequestHandler

from jobs import bundle
from jobs.errors import Misconfigured, NotReady, Refused
from jobs.forget import raw_days
from jobs.lake import raw, raw_bucket, raw_writer, vacuum
from jobs.lake.store import NEVER, Lake, Lineage
from jobs.lake.swap import put_folder
from jobs.lake.tables import RAW, raw_tables
from jobs.places import S3Path, footer, parquet, place, remove, write_parquet
from jobs.s3 import arrow, storage_options
from tests import moto_server

DAY, NEXT = date(2026, 1, 1), date(2026, 1, 2)
LINEAGE = Lineage("validate", "run1", "abc", "cfg")


@pytest.fixture(scope="module")
def bucket() -> Iterator[S3Path]:
    with moto_server.serving() as moto, pytest.MonkeyPatch.context() as patch:
        for name, value in moto.bucket("lake-bucket").items():
            patch.setenv(name, value)
        yield S3Path("lake-bucket", "")


@pytest.fixture
def root(bucket: S3Path, request: pytest.FixtureRequest) -> S3Path:
    return bucket / request.node.name


def rows(*keys: str) -> pa.Table:
    n = len(keys)
    return pa.table({"row_key": list(keys), "expectation": ["e"] * n, "reason": [""] * n, "payload": ["{}"] * n})


def slot(day: int) -> dict[str, str]:
    return {"day": f"2026-01-{day:02}", "table": "clicks"}


def keys(lake: Lake, **where: Any) -> list[str]:
    return sorted(lake.read("quarantine", **where).column("row_key").to_pylist())


def by(run: str) -> Lineage:
    return Lineage("validate", run, "abc", "cfg")


def test_versions_are_whole_and_the_slower_of_two_writers_is_told(root: S3Path) -> None:
    """A partition is replaced, others stay, older versions can be read; who began before another's commit loses."""
    lake = Lake(root)
    assert (lake.version("quarantine"), lake.partitions("quarantine")) == (None, [])
    lake.publish("quarantine", slot(1), rows("a"), by("one"))
    lake.publish("quarantine", slot(2), rows("b", "c"), by("one"))
    lake.publish("quarantine", slot(2), rows("d"), by("two"))
    other = Lake(root)
    assert (other.version("quarantine"), keys(other), keys(other, version=1)) == (2, ["a", "d"], ["a", "b", "c"])
    assert other.lineage("quarantine", slot(2))["run_id"] == "two"  # type: ignore[index]
    with pytest.raises(NotReady, match="another writer committed first and stays"):
        other.publish("quarantine", slot(2), rows("e"), by("three"), base_version=1)
    other.publish("quarantine", slot(1), rows("f"), by("three"), base_version=1)
    assert keys(lake) == ["d", "f"], "an open lake sees what came since"
    # As others read it: the files the log names, by Arrow.
    paths = [path.removeprefix("s3://") for path, _ in lake.files("quarantine")]
    found = pa.concat_tables([pq.ParquetFile(path, filesystem=arrow()).read() for path in paths])
    assert sorted(found.column("row_key").to_pylist()) == ["d", "f"]
    frame = polars.scan_delta(str(root / "quarantine"), storage_options=storage_options()).collect()
    assert sorted(frame.get_column("row_key").to_list()) == ["d", "f"]


def test_of_writers_at_once_each_partition_has_one(root: S3Path) -> None:
    """Also the first publication: S3 takes an entry of the log only once."""

    def one(n: int) -> bool:
        lake = Lake(root)
        try:
            lake.publish("quarantine", slot(1), rows(f"shared {n}"), by(f"run{n}"), base_version=NEVER)
            won = True
        except NotReady:
            won = False
        lake.publish("quarantine", slot(2 + n), rows(f"own {n}"), by(f"run{n}"))
        return won

    with ThreadPoolExecutor(3) as pool:
        won = list(pool.map(one, range(3)))
    assert sum(won) == 1
    assert keys(Lake(root)) == ["own 0", "own 1", "own 2", f"shared {won.index(True)}"]


def test_a_death_before_the_commit_and_an_answer_lost_after_it(root: S3Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are there once or not at all; what the dead run left goes with `vacuum`, what any version names stays."""
    lake = Lake(root)
    lake.publish("quarantine", slot(1), rows("old"), by("one"))
    real = Lake._attempt
    with monkeypatch.context() as dying:
        dying.setattr(Lake, "_attempt", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            lake.publish("quarantine", slot(1), rows("dead"), by("two"))
    assert keys(Lake(root)) == ["old"]

    def unheard(self: Lake, *args: Any) -> None:
        real(self, *args)
        raise DeltaError("the answer was lost, and the put that was tried again found its own entry")

    with monkeypatch.context() as lost:
        lost.setattr(Lake, "_attempt", unheard)
        lake.publish("quarantine", slot(1), rows("new"), by("three"))
    assert (Lake(root).version("quarantine"), keys(Lake(root))) == (1, ["new"])
    monkeypatch.setattr(vacuum, "DEAD_AFTER_HOURS", 1)
    assert vacuum.vacuum_table(Lake(root), "quarantine") == 0, "it may be at work"
    monkeypatch.setattr(vacuum, "DEAD_AFTER_HOURS", -1)
    assert vacuum.vacuum_table(Lake(root), "quarantine") == 1
    assert (keys(Lake(root)), keys(Lake(root), version=0)) == (["new"], ["old"])


def test_what_an_opening_asks_for_does_not_grow_with_the_table(root: S3Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last checkpoint and the entries since, each once; a commit is two puts, a tenth one puts a checkpoint too."""
    asked: list[str] = []
    monkeypatch.setattr(WSGIRequestHandler, "log_request", lambda self, *_: asked.append(self.command))
    lake = Lake(root)
    for day in range(1, 29):
        lake.publish("quarantine", slot(day), rows("a"), LINEAGE, base_version=NEVER)
    assert (asked.count("PUT"), Lake(root).version("quarantine")) == (28 * 2 + 2 * 2, 27)
    asked.clear()
    other = Lake(root)
    assert (other.version("quarantine"), len(other.partitions("quarantine", version=27))) == (27, 28)
    assert len(asked) == 2 + 2 + 8, "a hint and a list; a checkpoint and its entry; entries 20 to 27"
    assert keys(other, version=25) == ["a"] * 26
    assert keys(other, version=7) == ["a"] * 8, "older than the checkpoint"
    frame = polars.scan_delta(str(root / "quarantine"), storage_options=storage_options()).collect()
    assert len(frame) == 28
    for day in (29, 30):
        other.publish("quarantine", slot(day), rows("a"), LINEAGE, base_version=27)
    assert len(keys(Lake(root))) == 30, "of a checkpoint alone"
    Lake(root).publish("quarantine", slot(31), rows("a"), LINEAGE, base_version=29)
    assert len(keys(other)) == 31


def test_a_log_that_others_keep_in_their_way_is_read_where_it_lies(root: S3Path) -> None:
    """Checkpoints in parts, entries that were cut off, deletion vectors: delta-rs knows them, a copy would not."""
    lake = Lake(root)
    for day in range(1, 12):
        lake.publish("quarantine", slot(day), rows(f"k{day:02}"), LINEAGE)
    log = root / "quarantine" / "_delta_log"
    checkpoint = log / f"{9:020}.checkpoint.parquet"
    (log / f"{9:020}.checkpoint.{1:010}.{1:010}.parquet").write_bytes(checkpoint.read_bytes())
    (log / "_last_checkpoint").write_text('{"version":9,"size":12,"parts":1}')
    checkpoint.unlink()
    other = Lake(root)
    assert keys(other) == [f"k{day:02}" for day in range(1, 12)]
    other.publish("quarantine", slot(3), rows("new"), by("two"), base_version=10)
    lake.publish("quarantine", slot(4), rows("newer"), by("three"), base_version=10)
    assert (
        keys(lake)
        == keys(Lake(root))
        == sorted({f"k{day:02}" for day in range(1, 12)} - {"k03", "k04"} | {"new", "newer"})
    )
    (log / f"{10:020}.json").unlink()
    with pytest.raises(Refused, match="table quarantine needs a readable log"):
        Lake(root).version("quarantine")


def day_of(clicks: int) -> dict[str, pa.Table]:
    times = [f"2026-01-01T{hour:02}:00:00+00:00" for hour in range(clicks)]
    shown = [{"impression_id": f"i{n}", "event_time": moment(at)} for n, at in enumerate(times)]
    clicked = [{"click_id": f"c{n}", "event_time": moment(at)} for n, at in enumerate(times)]
    return dict(raw_tables(impressions=shown, clicks=clicked))


def moment(text: str) -> Any:
    from datetime import datetime

    return datetime.fromisoformat(text)


def click_ids(root: S3Path) -> list[str]:
    return sorted(n for part in raw.read(root, "clicks", DAY).parts for n in part.rows.column("click_id").to_pylist())


def test_a_raw_day_is_its_manifest(root: S3Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are the old day's until one put makes them the new day's; the fingerprint is of what is read."""
    assert not raw_writer.has_day(root, DAY)
    with pytest.raises(NotReady, match="no such folder"):
        raw.files(root, "impressions", DAY)
    raw_writer.write_day(root, DAY, day_of(3))
    assert raw_writer.has_day(root, DAY)
    assert not raw_writer.has_day(root, NEXT)
    assert click_ids(root) == ["c0", "c1", "c2"]
    assert raw.fingerprint(root, "clicks", DAY) == raw.read(root, "clicks", DAY).fingerprint
    late = raw_tables(clicks=[{"click_id": "late", "event_time": moment("2026-01-01T05:00:00+00:00")}])
    with monkeypatch.context() as dying:
        dying.setattr(raw_bucket, "reveal", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            raw_writer.write_day(root, DAY, day_of(1))
    assert click_ids(root) == ["c0", "c1", "c2"]
    raw_writer.write_late(root, DAY, NEXT, late)
    assert click_ids(root) == ["c0", "c1", "c2", "late"]
    raw_writer.write_day(root, DAY, day_of(2))
    raw_writer.write_day(root, DAY, day_of(2))
    assert click_ids(root) == ["c0", "c1", "late"], "late events stay, hours that are no more go"
    monkeypatch.setattr(vacuum, "DEAD_AFTER_HOURS", -1)
    assert vacuum._vacuum_raw(root / "clicks") == 1
    assert click_ids(root) == ["c0", "c1", "late"]


@pytest.mark.parametrize("own", [True, False])
def test_a_fingerprint_reads_no_file(root: S3Path, monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    """Of days that a manifest names and of a team's own: it is that of the rows read, changes with any content, and
    what it will be is known before that is put.
    """
    asked: list[str] = []
    monkeypatch.setattr(WSGIRequestHandler, "log_request", lambda self, *_: asked.append(f"{self.command} {self.path}"))
    raw_writer.write_day(root, DAY, day_of(3))
    day = root / "clicks" / f"date={DAY}"
    if not own:
        for path in raw.files(root, "clicks", DAY):
            (day / "/".join(path.parts[-2:])).write_bytes(path.read_bytes())
        (day / raw_bucket.MANIFEST).unlink()
    asked.clear()
    before = raw.fingerprint(root, "clicks", DAY)
    assert not any(".parquet" in line for line in asked)
    assert before == raw.read(root, "clicks", DAY).fingerprint
    first, *_ = raw.files(root, "clicks", DAY)
    told = {first: raw.files(root, "clicks", DAY)[1].read_bytes()}
    wanted = raw.fingerprint(root, "clicks", DAY, told)
    raw_days._put(day, told)
    assert raw.fingerprint(root, "clicks", DAY) == wanted == raw.read(root, "clicks", DAY).fingerprint != before


def test_two_late_writers_lose_nothing_of_each_other(root: S3Path) -> None:
    """Nobody holds a lock: the slower one puts its manifest over the faster one's, which it has read."""
    raw_writer.write_day(root, DAY, day_of(1))

    def one(n: int) -> None:
        late = raw_tables(clicks=[{"click_id": f"late {n}", "event_time": moment("2026-01-01T05:00:00+00:00")}])
        raw_writer.write_late(root, DAY, date(2026, 1, 2 + n), late)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(4)))
    assert click_ids(root) == ["c0", *(f"late {n}" for n in range(4))]


def test_a_teams_own_raw_files_all_count(root: S3Path) -> None:
    """Without a manifest; what is no hour's Parquet is refused, what is still written is waited for, as on a disk."""
    day = root / "clicks" / f"date={DAY}"
    rows_ = raw_tables(clicks=[{"click_id": "c", "event_time": moment("2026-01-01T05:00:00+00:00")}])["clicks"]
    for name in ("hour=00/a.parquet", "hour=01/b.parquet", "hour=01/_hidden.parquet"):
        write_parquet(rows_, day / name)
    assert [path.name for path in raw.files(root, "clicks", DAY)] == ["a.parquet", "b.parquet"]
    (day / "notes.txt").write_text("hello")
    with pytest.raises(Refused, match=r"nothing but files hour=HH"):
        raw.files(root, "clicks", DAY)
    (root / "clicks" / "_delta_log" / "0.json").write_text("{}")
    with pytest.raises(Refused, match="Delta"):
        raw.files(root, "clicks", DAY)
    assert set(RAW) > {"clicks"}


def test_a_large_file_is_read_in_parts_and_folders_go_whole(root: S3Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose tail does not hold it all is Arrow's to read; of a put folder the manifest is there last."""
    table = pa.table({"n": list(range(50_000))})
    write_parquet(table, root / "large.parquet")
    monkeypatch.setattr("jobs.places.TAIL_BYTES", 4096)
    assert (root / "large.parquet").stat().st_size > 4096
    assert footer(root / "large.parquet").num_rows == 50_000
    assert parquet(str(root / "large.parquet")).read().equals(table)
    order: list[str] = []
    real = S3Path.write_bytes
    monkeypatch.setattr(S3Path, "write_bytes", lambda self, content: order.append(self.name) or real(self, content))
    put_folder(root / "pack", {"manifest": b"1", "a": b"a", "z": b"z"}, last="manifest")
    put_folder(root / "pack", {"manifest": b"2", "a": b"a"}, last="manifest")
    assert order == ["a", "z", "manifest", "a", "manifest"]
    assert [path.name for path in (root / "pack").iterdir()] == ["a", "manifest"]
    remove(root / "pack")
    assert not (root / "pack").exists()
    with pytest.raises(Refused, match=r"a bundle needs manifest\.json"):
        bundle.load(root / "pack")


def test_a_bucket_that_is_not_there_or_does_not_answer(bucket: S3Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To be put right, or to be tried again; never a crash."""
    with pytest.raises(Misconfigured, match="no-such-bucket"):
        raw.files(place("s3://no-such-bucket/raw"), "impressions", DAY)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(NotReady, match=r"S3 at http://127\.0\.0\.1:9"):
        raw.files(bucket / "raw", "impressions", DAY)
