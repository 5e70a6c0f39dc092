"""The real processes: `python -m infra.endpoint` with the real online store, and SageMaker's container contract."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from infra.endpoint.__main__ import POOLS, one_thread_per_pool
from infra.stack.processes import free_ports
from jobs import bundle, config
from jobs.bundle import Bundle
from jobs.config import ROOT
from jobs.features.publish import publish
from jobs.moment.columns import encodings_of, item_arrays, user_arrays
from models.rankers import fit
from models.rankers.features import decision_columns
from models.settings import PolicySettings, RankerSettings, TaskSettings, XGBoostSettings
from tests.infra.endpoint.rig import Client, training_data
from tests.jobs import small_lake


@contextmanager
def process(module: str, environ: dict[str, str], *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A module as a child on a free port, ready (it answered /ping) and ended with SIGTERM."""
    [port] = free_ports(1)
    command = [sys.executable, "-m", module, "--port", str(port), *words]
    child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environ}, stderr=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"{url}/ping", timeout=60) as answer:
                    assert answer.status == 200
                break
            except OSError:
                assert child.poll() is None, child.stderr and child.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield child, url
    finally:
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=60)
        assert child.returncode in (0, -signal.SIGTERM)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small world's features of one day online."""
    root = tmp_path_factory.mktemp("process")
    world, day = small_lake.World(), small_lake.TEST_DAY
    publish(config.load(environment(root)), day, small_lake.feature_tables(world, day), None, small_lake.items(world))
    return root


def environment(root: Path) -> dict[str, str]:
    return {
        "TIDEGATE_ENV": "test",
        "TIDEGATE__ENDPOINT__STATE": str(root / "state"),
        "TIDEGATE__ENDPOINT__TIMEOUT_MS": "5000",
        "TIDEGATE__FEATURES__ONLINE_PATH": str(root / "online"),
    }


@pytest.fixture(scope="module")
def greedy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle whose scores can be recomputed outside."""
    data, rules = training_data(5), RankerSettings(xgboost=XGBoostSettings(rounds=5))
    ranker, fallback = (fit(kind, data, rules) for kind in ("xgboost", "popularity"))
    folder = tmp_path_factory.mktemp("judged")
    return bundle.write(folder, "xgboost-full-2026-01-08", ranker, fallback, None, PolicySettings(kind="greedy"), {})


def test_the_process_serves_what_the_lake_says(home: Path, greedy: Bundle) -> None:
    """From Feast's store to the answer: every probability equals the bundle's own on the lake's rows."""
    with process("infra.endpoint", environment(home)) as (_, url):
        client = Client(url)
        client.serve(greedy)
        candidates = [*small_lake.item_ids(np.arange(8)), "unknown"]
        answer = client.invoke(user_id="u000003", candidates=candidates, k=9, context={"device": "phone"})
        assert (answer["fallback"], answer["features_day"]) == (False, small_lake.TEST_DAY.isoformat())
    world, day = small_lake.World(), small_lake.TEST_DAY
    columns = offline_columns(world, day, 3, candidates)
    said = greedy.ranker.predict(columns)
    for name in ("p_click", "p_conversion"):
        expected = dict(zip(candidates, getattr(said, name), strict=True))
        assert {i["item_id"]: i[name] for i in answer["items"]} == pytest.approx(expected, rel=1e-12)


def offline_columns(world: small_lake.World, day: Any, user: int, candidates: list[str]) -> dict[str, Any]:
    """The decision's columns straight from the tables, the last candidate unknown."""
    rows = np.array([*range(len(candidates) - 1), -1])
    n = len(candidates)
    tables = small_lake.feature_tables(world, day)
    tiers = [dict(row["attributes"])["tier"] for row in small_lake.items(world).to_pylist()]
    context = {name: np.full(n, None, dtype=object) for name in ("user_id", "region", "query", "source_category")}
    context["surface"], context["device"] = np.full(n, "home", dtype=object), np.full(n, "phone", dtype=object)
    context["attributes.item.tier"] = np.array([*tiers, None], dtype=object)[rows]
    items = {**item_arrays(tables["item_features"], rows), "item_id": np.array(candidates, dtype=object)}
    users = user_arrays(tables["user_features"], np.full(n, user))
    return decision_columns(users, items, context, encodings_of(tables["encodings"]), TaskSettings())


def test_a_taken_port_is_misconfigured(tmp_path: Path) -> None:
    """One sentence and the exit code of a wrong setting, before anything heavy is loaded."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "infra.endpoint", "--port", str(taken.getsockname()[1])]
        environ = {**os.environ, **environment(tmp_path)}
        found = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)
    assert found.returncode == 78
    assert "needs a free port" in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_the_container_serves_one_judged_bundle(tmp_path: Path, greedy: Bundle) -> None:
    """Ping, invocations, a 400 with a sentence; `serve` as SageMaker passes it; SIGTERM ends it."""
    environ = {**environment(tmp_path), "TIDEGATE_BUNDLE_SHA256": greedy.sha256}
    with process("infra.endpoint.container", environ, "serve", "--model", str(greedy.path)) as (_, url):

        def post(body: bytes) -> tuple[int, dict[str, Any]]:
            asked = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(asked, timeout=30) as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                return error.code, json.load(error)

        status, answer = post(b'{"request_id": "r", "surface": "home", "k": 2, "candidates": ["i1", "i2", "i3"]}')
        assert (status, answer["bundle_sha256"], len(answer["items"])) == (200, greedy.sha256, 2)
        status, answer = post(b'{"request_id": "r", "surface": "home", "k": 2}')
        assert (status, answer["items"]) == (200, []), "no index, no features yet: no item is made up"
        status, answer = post(b'{"surface": "home", "k": 2}')
        assert status == 400
        assert "request_id: Field required" in answer["error"]
        status, answer = post(b'{"request_id": "r", "surface": "home", "k": 2, "context": {"surface": "search"}}')
        assert status == 400
        assert 'context: may not hold "surface"' in answer["error"]
        with urllib.request.urlopen(f"{url}/metrics", timeout=30) as found:
            assert f'{{bundle="{greedy.candidate_id}",outcome="ranked"}} 2.0\n' in found.read().decode()


def test_the_container_refuses_another_bundle(tmp_path: Path, greedy: Bundle) -> None:
    """The sha the platform passes is the judged one; anything else never starts."""
    command = [
        sys.executable,
        "-m",
        "infra.endpoint.container",
        "--port",
        str(*free_ports(1)),
        "--model",
        str(greedy.path),
    ]
    environ = {**os.environ, **environment(tmp_path), "TIDEGATE_BUNDLE_SHA256": "0" * 64}
    found = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)
    assert found.returncode == 65
    assert "must be the one that was judged" in found.stderr


def test_libraries_that_are_loaded_have_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container has loaded numpy before it reads its settings: its products once took a thread of every core, which
    waited for each other on a busy machine."""
    for pool in POOLS:
        monkeypatch.setenv(pool, "2")
    with threadpool_limits(limits=2):
        assert {of["num_threads"] for of in threadpool_info()} == {2}
        one_thread_per_pool()
        assert {of["num_threads"] for of in threadpool_info()} == {1}
