"""What `monitor`, `reevaluate` and `ingest` hold of a day that grows: the peak of their process, and its seconds.

A small lake is made once and stands beside itself 1, 4 and 16 times, every request, impression and user of a copy its
own: a day of 100,000, 400,000 and 1.6 million impressions, two in five of which an endpoint decided and captured, and
as many test rows whose labels close. Each stage runs as its command does, in one process. `peak_mib` is the kernel's
own mark of resident pages (`VmHWM`), imports and Arrow's pools included; `cpu_seconds` are user and system time.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs import config
from jobs.backtest import job as backtest
from jobs.config import ROOT, Config
from jobs.lake.store import Lake
from jobs.promote import job as promote
from tests.jobs import small_lake
from tests.jobs.reevaluate import closing_lake
from tests.jobs.small_candidates import linear, live, popularity, publish_candidates, publish_ledger
from tests.jobs.small_lake import DAY, SLATE, TEST_DAY, World, a_run, publish

REQUESTS, TIMES, SMALL_TIMES = 33_334, (1, 4, 16), (1,)
USERS = 4_000
LIVE_DAY = DAY + timedelta(days=1)
OWN = ("impression_id", "request_id", "user_id")
"""What a copy has of its own."""
MARK = "%MARK%"
"""Of a copy, in a line."""
MOST_GROWTH_MIB = 1024
Row = dict[str, Any]


def prove(small: bool) -> Iterator[tuple[str, Row]]:
    """A row a stage and size."""
    small_lake.USERS = USERS
    requests = 2_000 if small else REQUESTS
    with tempfile.TemporaryDirectory() as folder:
        for times in SMALL_TIMES if small else TIMES:
            home = Path(folder) / f"x{times}"
            laid(home, requests, times)
            for stage, day in (("monitor", LIVE_DAY), ("reevaluate", closing_lake.CLOSING), ("ingest", LIVE_DAY)):
                yield stage, {"impressions": requests * SLATE * times, **measured(home, stage, day)}
            shutil.rmtree(home)


def goals(rows: list[Row]) -> list[Row]:
    """How much more a process may need for sixteen times the rows."""
    found = []
    for stage in ("monitor", "ingest"):
        peaks = [row["peak_mib"] for row in rows if row["table"] == stage]
        goal = f"{stage}: at most {MOST_GROWTH_MIB} MiB more for {TIMES[-1]} times the rows"
        found.append({"goal": goal, "found": peaks[-1] - peaks[0], "met": peaks[-1] - peaks[0] <= MOST_GROWTH_MIB})
    return found


def environment(home: Path) -> dict[str, str]:
    """Of a stage's process."""
    columns = {
        name: name
        for name in ("impression_id", "request_id", "event_time", "user_id", "item_id", "surface", "position", "policy")
    }
    mapping = {"impressions": {"files": "views/*.parquet", "columns": columns}}
    given = {
        "TIDEGATE_ENV": "test",
        "TIDEGATE__LAKE__ROOT": str(home / "lake"),
        "TIDEGATE__LAKE__RAW": str(home / "raw"),
        "TIDEGATE__LAKE__RESULTS": str(home / "results"),
        "TIDEGATE__BUNDLES": str(home / "bundles"),
        "TIDEGATE__TRACKING__URI": f"sqlite:///{home / 'mlflow.db'}",
        "TIDEGATE__TRACKING__ARTIFACTS": str(home / "artifacts"),
        "TIDEGATE__ENDPOINT__STATE": str(home / "endpoint"),
        "TIDEGATE__GATE__BOOTSTRAP_REPLICATES": "50",
        "TIDEGATE__GATE__MAX_LATENCY_MS": "10000",
        "TIDEGATE__SOURCE": json.dumps({"name": "mapped", "data": str(home / "shop"), "mapping": mapping}),
        "OMP_NUM_THREADS": "1",
    }
    return {**os.environ, **given}


def measured(home: Path, stage: str, day: date) -> Row:
    """One command, watched."""
    command = [sys.executable, "-m", "jobs", stage, "--day", str(day)]
    with (home / f"{stage}.log").open("w") as log:
        child = subprocess.Popen(command, cwd=ROOT, env=environment(home), stdout=subprocess.DEVNULL, stderr=log)
        process, peak, seconds = psutil.Process(child.pid), 0, 0.0
        while child.poll() is None:
            try:
                status = Path(f"/proc/{child.pid}/status").read_text()
                peak = int(status.partition("VmHWM:")[2].split()[0])
                seconds = sum(process.cpu_times()[:2])
            except (OSError, IndexError, psutil.Error):
                pass  # it has just ended
            time.sleep(0.02)
    if child.returncode:
        raise SystemExit(f"{stage}: {(home / f'{stage}.log').read_text()[-3000:]}")
    return {"peak_mib": round(peak / 1024), "cpu_seconds": round(seconds, 1)}


# -- the lake ---------------------------------------------------------------------------------------------------------
def laid(home: Path, requests: int, times: int) -> None:
    """A judged and deployed model, a day it served, and the labels of its test day."""
    settings = _config(home)
    world = World()
    test = small_lake.examples(world, TEST_DAY, "test", requests)
    before = {"train": TEST_DAY - timedelta(days=2), "validate": TEST_DAY - timedelta(days=1)}
    rest = [small_lake.examples(world, day, split, 100) for split, day in before.items()]
    examples = pa.concat_tables([*rest, many(test, times)])
    publish(settings, "examples", examples, day=str(DAY), mode="full")
    publish(settings, "requests", many(small_lake.requests_table(world, TEST_DAY, requests), times), day=str(TEST_DAY))
    for day in (TEST_DAY - timedelta(days=2), TEST_DAY - timedelta(days=1), TEST_DAY, DAY):
        for name, rows in small_lake.feature_tables(world, day).items():
            publish(settings, name, many(rows, times) if name == "user_features" else rows, day=str(day))
        publish(settings, "items", small_lake.items(world), day=str(day))
        publish(settings, "users", many(small_lake.users(world), times), day=str(day))
    rankers = {"popularity": popularity(), "logistic": linear(1.0)}
    publish_candidates(settings, rankers, "logistic")
    backtest.run(a_run("backtest", settings))
    promote.run(a_run("promote", settings))
    [row] = Lake(settings.lake.root).read("promotions", [DAY]).to_pylist()
    publish_ledger(settings, live(row))
    closing_lake.publish_labels(settings, many(closing_lake.labels(test, late=range(0, 600, 3)), times))
    shown, labels = small_lake.publish_served(settings, world, LIVE_DAY, requests, row["candidate_id"], 0.4)
    publish(settings, "impressions", many(shown, times), day=str(LIVE_DAY))
    publish(settings, "labels", many(labels, times), day=str(LIVE_DAY))
    publish(settings, "requests", many(small_lake.requests_table(world, LIVE_DAY, requests), times), day=str(LIVE_DAY))
    _capture(settings, world, shown, requests, row, times)
    _shop(home, shown, times)


def _config(home: Path) -> Config:
    home.mkdir(parents=True)
    shutil.copy(small_lake.empty_mlflow(home), home / "mlflow.db")
    given = {name: value for name, value in environment(home).items() if name.startswith("TIDEGATE")}
    return config.load(given | {"TIDEGATE__SOURCE": '{"name": "parquet"}'})


def many(rows: pa.Table, times: int) -> pa.Table:
    """Copies beside one another."""
    return pa.concat_tables([_copy(rows, f"x{number}") for number in range(times)])


def _copy(rows: pa.Table, mark: str) -> pa.Table:
    for n, name in enumerate(rows.column_names):
        if name in OWN:
            rows = rows.set_column(n, rows.schema.field(n), pc.binary_join_element_wise(rows[name], mark, ""))
    return rows


def _capture(settings: Config, world: World, shown: pa.Table, requests: int, row: Row, times: int) -> None:
    """What an endpoint would have written, with the probabilities that the bundle says."""
    drawn = world.requests(LIVE_DAY, requests)["candidates"]
    candidates = dict(zip(small_lake.request_ids(LIVE_DAY, requests), drawn, strict=True))
    same = float(popularity().predict({"item_id": np.array(["i000000"], dtype=object)}).p_click[0])
    answers: dict[str, Row] = {}
    for place in shown.select(["request_id", "event_time", "user_id", "item_id", "policy", "position"]).to_pylist():
        if place["policy"] == "logging":
            continue
        asked = place["request_id"]
        answer = answers.setdefault(asked, _answer(settings, place, row, small_lake.item_ids(candidates[asked])))
        likes = world.taste[int(place["user_id"][1:])] == world.category[int(place["item_id"][1:])]
        p_click = same if answer["response"]["fallback"] else float(1 / (1 + np.exp(0.2 if likes else 2.2)))
        scores = dict.fromkeys(("score", "p_click"), p_click) | {"p_conversion": 0.0, "propensity": 0.5}
        answer["response"]["items"].append({"item_id": place["item_id"], "position": place["position"], **scores})
    text = "".join(json.dumps(answer) + "\n" for answer in answers.values())
    folder = settings.endpoint.state / "capture" / f"date={LIVE_DAY}"
    folder.mkdir(parents=True)
    for number in range(times):
        (folder / f"{number}.jsonl").write_text(text.replace(MARK, f"x{number}"))


def _answer(settings: Config, place: Row, row: Row, candidates: list[str]) -> Row:
    """Without the items yet."""
    at, features = place["event_time"].isoformat(), small_lake.known_from(DAY)
    request = {"request_id": place["request_id"] + MARK, "user_id": place["user_id"] + MARK, "surface": "home"}
    response = {"request_id": place["request_id"] + MARK, "items": [], "variant": "live"}
    response |= {"bundle_version": row["candidate_id"], "bundle_sha256": row["bundle_sha256"]}
    response |= {"fallback": place["policy"].endswith("+fallback")}
    response |= {"features_day": str(DAY if place["event_time"] >= features else TEST_DAY)}
    asked = {**request, "k": SLATE, "candidates": candidates, "context": {}, "event_time": at}
    return {"endpoint": settings.endpoint.name, "request": asked, "response": response, "ms": 5.0, "at": at}


def _shop(home: Path, shown: pa.Table, times: int) -> None:
    """A team's own files of the same day."""
    (home / "shop" / "views").mkdir(parents=True)
    for number in range(times):
        rows = _copy(shown, f"x{number}").drop_columns(["attributes"])
        pq.write_table(rows, home / "shop" / "views" / f"{number}.parquet")
