"""A log on S3 that is cut, and small objects that become one: as on a disk, by puts and deletes alone."""

import time
from collections.abc import Iterator
from datetime import date, timedelta

import pytest

from jobs.errors import Refused
from jobs.lake import expiry, small_files
from jobs.lake.store import Lake, Lineage
from jobs.lake.vacuum import vacuum_table
from jobs.places import S3Path, write_parquet
from tests import moto_server
from tests.jobs import aged_lake

DAY = date(2026, 1, 1)


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Path]:
    with moto_server.serving() as moto:
        for name, value in moto.bucket("years").items():
            monkeypatch.setenv(name, value)
        yield S3Path("years", "lake")


def test_what_is_kept_reads_as_before_and_no_object_is_too_many(root: S3Path) -> None:
    """A table there has a checkpoint every ten commits; objects say when they were put, so here the clock goes on."""
    lake = Lake(root)
    folder = lake.staging("labels", "spark") / f"day={DAY}"
    for number in range(2):
        write_parquet(aged_lake.rows("labels", 1, DAY, f"p{number}"), folder / f"part-{number}.parquet")
    lake.publish("labels", {"day": str(DAY)}, sorted(folder.rglob("*"), key=str), Lineage("attribute", "r", "c", "s"))
    for number in range(12):
        rows = aged_lake.rows("labels", 1, DAY, f"r{number}")
        lake.publish("labels", {"day": str(DAY + timedelta(days=1))}, rows, Lineage("attribute", "r", "c", "s"))
    assert small_files.compact(Lake(root), "labels", aged_lake.moment(time.time() + 2 * 86_400)) == 1
    before, newest = Lake(root), 13
    told = before.lineages("labels", before.days("labels"))
    rows, as_of = (before.read("labels", version=version).to_pylist() for version in (newest, 5))
    now = aged_lake.moment(time.time() + 10 * 86_400)
    assert expiry.expire(Lake(root), "labels", [5], now - timedelta(days=3), now) == 3
    vacuum_table(Lake(root), "labels", now.timestamp())
    lake = Lake(root)
    assert lake.read("labels").to_pylist() == rows
    assert lake.read("labels", version=5).to_pylist() == as_of
    assert lake.lineages("labels", list(told)) == told
    with pytest.raises(Refused, match="needs a log that reaches back to version 8"):
        lake.read("labels", version=8)
    readable = (*range(6), *range(9, newest + 1))
    named = {path for version in readable for path, _ in lake.files("labels", version=version)}
    assert {str(path) for path in (root / "labels" / "parts").rglob("*.parquet")} == named
