"""On a standalone cluster with the lake on S3, by settings alone: the rows are those of one process on a disk."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from importlib import import_module
from typing import Any

import pyarrow as pa
import pytest

from jobs import config
from jobs.config import Config
from jobs.flow import STAGES
from jobs.lake.run import Run
from jobs.lake.store import Lake
from jobs.places import Place, S3Path
from jobs.spark import session
from tests import moto_server
from tests.spark_cluster import EXECUTOR_MIB, SMALL, Cluster, standalone

pytestmark = [pytest.mark.e2e, pytest.mark.spark, pytest.mark.timeout(1500)]

FIRST, LAST = date(2026, 1, 1), date(2026, 1, 5)
DATA = ("validate", "attribute", "featurize")
COMPARED = {
    "validate": ("requests", "impressions", "clicks", "purchases", "users", "items", "quarantine"),
    "attribute": ("labels",),
    "featurize": ("user_features", "item_features", "encodings"),
    "assemble": ("examples", "retrieval_negatives"),
}
WORLD = {
    "world.days": "5",
    "world.users": "60",
    "world.items": "50",
    "world.requests_per_day": "60",
    "world.late_share": "0.1",
    "dataset.train_days": "2",
    "dataset.retrieval.per_click": "2",
    "attribution.window_days": "1",
    "validation.max_quarantine_share": "0.5",
}
LOOPBACK = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": False,
    "spark.executor.memory": f"{EXECUTOR_MIB}m",
    "spark.driver.extraJavaOptions": SMALL,
    "spark.executor.extraJavaOptions": SMALL,
    "spark.sql.shuffle.partitions": 2,
}


BUCKET = "cluster-bucket"


@dataclass
class Both:
    """A lake of one process and one of the cluster, over the same raw files."""

    here: Lake
    there: Lake
    results: Place
    cluster: Cluster
    url: str
    """Of S3."""
    application: str
    alive: bool
    """Whether the session that was there before the stages was still there after them."""
    on_executors: dict[str, Any]


def settings(root: Place, raw: Place, **more: Any) -> Config:
    """Of a lake at `root`."""
    results = str(root.parent / f"results-{root.name}")
    places = {"lake.root": str(root), "lake.raw": str(raw), "lake.results": results, "features.online": "false"}
    named = {key.upper().replace(".", "__"): value for key, value in {**WORLD, **places}.items()}
    tree = config.load({"TIDEGATE_ENV": "test", **{f"TIDEGATE__{key}": value for key, value in named.items()}})
    return tree.model_copy(update={"spark": tree.spark.model_validate({"driver_memory_mb": 768, **more})})


def run(stage: str, of: Config, day: date, since: date | None = None) -> None:
    import_module(STAGES[stage].module).run(Run(STAGES[stage], of, day, since))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """All days but the last in one process; the last, with what it changes of them and the dataset, in both ways."""
    home = tmp_path_factory.mktemp("cluster")
    here = settings(home / "here", home / "raw")
    run("ingest", here, LAST, FIRST)
    for stage in DATA:
        run(stage, here, LAST - timedelta(days=1), FIRST)
    with moto_server.serving() as moto, pytest.MonkeyPatch.context() as patch, standalone(home) as cluster:
        for name, value in moto.bucket(BUCKET).items():
            patch.setenv(name, value)
        patch.delenv("PYTHONPATH", raising=False)
        files = [path for name in ("here", "raw") for path in (home / name).rglob("*") if path.is_file()]
        moto.restore(BUCKET, {f"team/{path.relative_to(home).as_posix()}": path.read_bytes() for path in files})
        team = S3Path(BUCKET, "team")
        there = settings(
            team / "here", team / "raw", master=cluster.master, python=sys.executable, from_rows=0, conf=LOOPBACK
        )
        with session(there.spark, "test-cluster") as spark:
            for stage in (*DATA, "assemble"):  # each beside the session that is there
                run(stage, here, LAST)
                run(stage, there, LAST)
            found = seen(spark)
            application, alive = (
                spark.sparkContext.applicationId,
                spark.conf.get("spark.sql.adaptive.enabled") == "true",
            )
        lakes = Lake(home / "here"), Lake(there.lake.root)
        yield Both(*lakes, there.lake.results, cluster, moto.url, application, alive, found)


def seen(spark: Any) -> dict[str, Any]:
    """Where an executor has its code from, and a variable of its environment."""

    # Inside, so that it travels by value: nothing of these tests is there.
    def on_executor(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import os

        import jobs

        for _ in batches:
            columns = {"code": [jobs.__file__], "endpoint": [os.environ.get("AWS_ENDPOINT_URL")]}
            yield pa.RecordBatch.from_pydict(columns)

    return dict(spark.range(1).mapInArrow(on_executor, "code string, endpoint string").first().asDict())


@pytest.mark.parametrize("table", [table for tables in COMPARED.values() for table in tables])
def test_the_cluster_publishes_the_rows_of_one_process(both: Both, table: str) -> None:
    """Of every table; in which part file a row lies is each engine's own."""
    here, there = both.here.read(table), both.there.read(table)
    assert there.schema == here.schema
    assert sorted(map(repr, there.to_pylist())) == sorted(map(repr, here.to_pylist()))
    assert len(here) > 0
    assert both.there.lineage(table, both.there.partitions(table)[-1])["stage"] in COMPARED  # type: ignore[index]


def test_the_card_and_the_findings_are_those_of_one_process(both: Both) -> None:
    """Counts of users and items come from workers, findings lie beside the lake."""

    def card(lake: Lake) -> Any:
        lineage = lake.lineage("examples", {"day": str(LAST), "mode": "full"})
        assert lineage is not None
        return {**json.loads(json.loads(lineage["notes"])["card"]), "versions": None}

    assert card(both.there) == card(both.here)
    assert (both.results / "impressions" / f"{LAST}.json").is_file()


def test_both_workers_were_at_work_with_the_code_and_the_variables_of_the_driver(both: Both) -> None:
    """Nothing of Tidegate is installed there: the code came as a zip, AWS_* with the executors."""
    assert both.cluster.executors(both.application) == [1, 1]
    assert ".zip/jobs/" in both.on_executors["code"]
    assert both.on_executors["endpoint"] == both.url


def test_a_session_that_was_there_is_left_as_it_was(both: Both) -> None:
    """Four stages have used it: it still answers, and what they set was never set in it."""
    assert both.alive
