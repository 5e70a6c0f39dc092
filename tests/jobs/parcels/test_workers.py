"""Whoever goes through the files of a run, what is left of them and every figure are the same."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.config import Config, SparkSettings
from jobs.errors import Refused
from jobs.lake.store import Lake
from jobs.lake.tables import LAKE
from jobs.monitor import job as monitor
from jobs.monitor import replay
from jobs.parcels.workers import workers
from jobs.reevaluate import job as reevaluate
from jobs.serving import answered
from jobs.spark import session
from tests.jobs.monitor.test_monitor_job import LIVE_DAY, deployed, report, serve
from tests.jobs.reevaluate.closing_lake import CLOSING, labels, publish_labels, rows_judged
from tests.jobs.small_lake import LINEAGE, a_run, item_ids, settings

CHUNK = 20_000
PARTS = 3


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A day that a model served, in several part files and captures; and evidence whose labels close."""
    gate = {"gate__bootstrap_replicates": "50"}
    made = settings(tmp_path_factory.mktemp("spread"), tmp_path_factory.getbasetemp(), **gate)
    deployed(made)
    publish_labels(made, labels(rows_judged(made), late=range(0, 90, 3)))
    serve(made)
    for table in ("impressions", "labels"):
        in_parts(made, table)
    whole_requests(made)
    return made


def in_parts(config: Config, table: str) -> None:
    """The live day again, in part files."""
    lake = Lake(config.lake.root)
    rows = lake.read(table, [LIVE_DAY]).select(list(LAKE[table].columns))
    folder, most = lake.staging(table, "parts") / f"day={LIVE_DAY}", -(-len(rows) // PARTS)
    folder.mkdir()
    paths = [folder / f"part-{n}.parquet" for n in range(PARTS)]
    for n, path in enumerate(paths):
        pq.write_table(rows.slice(n * most, most), path)
    lake.publish(table, {"day": str(LIVE_DAY)}, paths, LINEAGE)


def whole_requests(config: Config) -> None:
    """What was captured, as an endpoint writes it: with what was asked, and by whom; so it can be given again."""
    shown = Lake(config.lake.root).read("impressions", [LIVE_DAY], columns=["request_id", "user_id", "event_time"])
    asked = {row["request_id"]: row for row in shown.to_pylist()}
    folder = config.endpoint.state / "capture" / f"date={LIVE_DAY}"
    lines = []
    for text in (folder / "0.jsonl").read_text().splitlines():
        answer: dict[str, Any] = json.loads(text)["response"]
        row = asked[answer["request_id"]]
        at = row["event_time"].isoformat()
        request = {"request_id": row["request_id"], "user_id": row["user_id"], "surface": "home", "context": {}}
        request |= {"k": 3, "candidates": item_ids(range(8)), "event_time": at}
        lines.append({"endpoint": config.endpoint.name, "request": request, "response": answer, "ms": 1.0, "at": at})
    half = len(lines) // 2
    for number, some in enumerate((lines[:half], lines[half:])):
        (folder / f"{number}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in some))


def told(config: Config) -> dict[str, Any]:
    """All that the three publish, print or say of days that were closed."""
    monitored = monitor.run(a_run("monitor", config, LIVE_DAY))
    again = replay.run(a_run("monitor", config, LIVE_DAY))
    reevaluated = reevaluate.run(a_run("reevaluate", config, CLOSING))
    rows = Lake(config.lake.root).read("reevaluations", [CLOSING]).to_pylist()
    return {"monitored": monitored, "report": report(config), "again": again, "reevaluated": reevaluated, "rows": rows}


@pytest.mark.spark
def test_on_spark_every_figure_is_the_one_of_one_process(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of `monitor`, `replay` and `reevaluate`, to the last digit; a worker's refusal is the stage's."""
    monkeypatch.setattr(answered, "CHUNK_BYTES", CHUNK)
    assert len(answered.chunks(config.endpoint, LIVE_DAY)) > PARTS
    here = told(config)
    with session(SparkSettings(master="local[2]", driver_memory_mb=768, partitions=2), "test"):
        there = config.model_copy(update={"spark": SparkSettings(from_rows=0)})
        assert repr(told(there)) == repr(here)
        run = a_run("monitor", there, LIVE_DAY)
        with workers(run, 1, 1), pytest.raises(Refused, match="nothing of it"):
            list(run.each(refused, range(3)))
        assert run.each is map
    assert here["report"]["replay_differing_share"]["n"] > 50
    assert here["rows"][0]["test_rows"] > 100


def refused(number: int) -> pa.Table:
    raise Refused(f"{number}: nothing of it")
