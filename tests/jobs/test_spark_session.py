"""What Spark is told: paths that mean one file, whatever people call it; whose session it is, and its settings."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jobs.spark
from jobs.config import SparkSettings
from jobs.errors import Misconfigured
from jobs.spark import as_named, options, refuse_connect, session

ODD = ("run[1]", "a{b,c}d", "st*r", "wh?t", "back\\slash", "per%20cent", "hash#", "day=2026-01-01", "^{-}!(x)", "10:30")


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    """One session for the file, of somebody else as soon as a test opens its own."""
    with session(SparkSettings(driver_memory_mb=768), "test-session") as spark:
        yield spark


@pytest.mark.spark
def test_a_path_is_read_as_itself_and_never_as_a_pattern(tmp_path: Path, spark: Any) -> None:
    """`run[1]` is no pattern for the `run1` beside it, whose rows Spark would read in silence."""
    decoys = ("run1", "ab", "acd", "star", "what", "back", "backslash")
    for n, name in enumerate((*ODD, *decoys)):
        folder = tmp_path / name
        folder.mkdir()
        pq.write_table(pa.table({"v": [n]}), folder / "part-0.parquet")
    for n, name in enumerate(ODD):
        folder = tmp_path / name
        for path in (folder, folder / "part-0.parquet"):
            assert [row.v for row in spark.read.parquet(as_named(path)).collect()] == [n], path


def test_an_archive_of_classes_is_for_sessions_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is one; flags of one's own stay as they are, and a cluster's machines have none."""
    flags, archive = "spark.driver.extraJavaOptions", tmp_path / "spark.jsa"
    monkeypatch.setattr(jobs.spark, "ARCHIVE", archive)
    assert "SharedArchiveFile" not in options(SparkSettings(), {})[flags]
    archive.touch()
    assert f'"-XX:SharedArchiveFile={archive}"' in options(SparkSettings(), {})[flags]
    assert options(SparkSettings(conf={flags: "-Xss4m"}), {})[flags] == "-Xss4m"
    assert flags not in options(SparkSettings(master="yarn"), {})


@pytest.mark.spark
def test_a_session_of_somebody_else_is_used_and_left_as_it_was(spark: Any) -> None:
    """A notebook's: a stage has settings of its own beside it, brings its code, and stops nothing."""
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    given = SparkSettings(master="", conf={"spark.sql.shuffle.partitions": 3})
    with session(given, "test-beside") as beside:
        assert beside.sparkContext is spark.sparkContext
        assert (beside.conf.get("spark.sql.session.timeZone"), spark.conf.get("spark.sql.session.timeZone")) == (
            "UTC",
            "Asia/Tokyo",
        )
        assert beside.conf.get("spark.sql.shuffle.partitions") == "3"
        assert any("tidegate-" in file for file in beside.sparkContext.listFiles)
    assert spark.range(3).count() == 3
    with (
        pytest.raises(
            Misconfigured, match=r"needs to be empty .* found spark://host:7077 beside a session on local\[2\]"
        ),
        session(SparkSettings(master="spark://host:7077"), "test-other"),
    ):
        pass
    with (
        pytest.raises(Misconfigured, match=r"a running session lets change; found spark\.executor\.memory"),
        session(SparkSettings(master="", conf={"spark.executor.memory": "1g"}), "test-static"),
    ):
        pass


def test_spark_s_own_settings_come_last_and_only_local_is_small() -> None:
    """A team's word counts over ours; a cluster keeps its own addresses, page and partitions, and gets our keys."""
    ours = {"AWS_REGION": "eu-central-1", "HOME": "/root"}
    conf = {"spark.driver.host": "10.0.0.1", "spark.ui.enabled": True, "spark.executor.instances": 4}
    here = options(SparkSettings(partitions=7, conf=conf), ours)
    assert here["spark.driver.bindAddress"] == "127.0.0.1"
    assert (here["spark.driver.host"], here["spark.ui.enabled"], here["spark.executor.instances"]) == (
        "10.0.0.1",
        "true",
        "4",
    )
    assert here["spark.sql.shuffle.partitions"] == "7"
    assert not [key for key in here if key.startswith("spark.executorEnv.AWS_")]
    there = options(SparkSettings(master="yarn"), ours)
    assert there["spark.executorEnv.AWS_REGION"] == "eu-central-1"
    assert "spark.executorEnv.HOME" not in there
    assert "spark.executorEnv.MIMALLOC_PURGE_DELAY" not in there
    assert not set(there) & {"spark.driver.host", "spark.ui.enabled", "spark.sql.shuffle.partitions"}
    assert there["spark.sql.session.timeZone"] == "UTC"
    assert not {"spark.master", "spark.driver.memory"} & set(options(SparkSettings(master=""), ours))


@pytest.mark.parametrize(
    ("master", "local"),
    [("local", True), ("local[2]", True), ("local[*]", True), ("local-cluster[2,1,1024]", False), ("", False)],
)
def test_local_is_one_jvm(master: str, local: bool) -> None:
    """`local-cluster` has executors of their own, which nothing here reaches but what is sent."""
    assert SparkSettings(master=master).local is local


@pytest.mark.parametrize("conf", [{"executor.memory": "4g"}, {"spark.master": "yarn"}])
def test_a_name_that_spark_does_not_know_is_said(conf: dict[str, str]) -> None:
    """Spark would ignore the first with a warning, and two masters are one too many."""
    with pytest.raises(ValueError, match=f"its master is spark.master; found {next(iter(conf))}"):
        SparkSettings(conf=conf)


@pytest.mark.parametrize(
    ("given", "variable", "found"),
    [
        ({"master": "sc://host:15002"}, "", "spark.master = sc://host:15002"),
        ({"master": ""}, "sc://host:15002", "SPARK_REMOTE=sc://host:15002"),
        ({"conf": {"spark.api.mode": "connect"}}, "", "spark.api.mode in spark.conf"),
    ],
)
def test_spark_connect_is_refused_by_name(
    given: dict[str, Any], variable: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would fail somewhere in a stage: there is no context to give code to."""
    monkeypatch.setenv("SPARK_REMOTE", variable)
    with pytest.raises(Misconfigured, match=rf"a classic Spark session.*found Spark Connect: {re.escape(found)}"):
        refuse_connect(SparkSettings(**given))


def test_under_spark_submit_the_master_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours would win over `--master yarn` in silence."""
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    monkeypatch.setattr("jobs.spark.SparkSession.getActiveSession", lambda: None)
    with (
        pytest.raises(Misconfigured, match=r"needs to be empty under spark-submit; found local\[2\]"),
        session(SparkSettings(), "test-submit"),
    ):
        pass


@pytest.mark.parametrize("path", ["/data/2026-01-01T10:30.parquet", "/data/10:30/run[1]/part-0.parquet"])
def test_a_colon_that_hadoop_cannot_read_is_said_in_a_sentence(path: str) -> None:
    """Hadoop's own words for it are `Relative path in absolute URI` and a stack of forty lines."""
    with pytest.raises(Misconfigured, match=r"without a colon, which Hadoop takes for a scheme; found /data/"):
        as_named(path)


def test_a_relative_path_has_no_scheme(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`run:1/part` alone would be a file system called `run`."""
    monkeypatch.chdir(tmp_path)
    assert as_named("run:1/part") == f"{tmp_path}/run:1/part"
