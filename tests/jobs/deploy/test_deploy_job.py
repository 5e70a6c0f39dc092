"""`deploy` against a real endpoint: train, backtest and promote on a small lake, then what may and may not go live."""

import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import uvicorn

from infra.endpoint.__main__ import listen
from infra.endpoint.app import Server
from jobs import bundle, tracking
from jobs.backtest import job as backtest
from jobs.config import Config
from jobs.deploy import job as deploy
from jobs.errors import NotReady, Refused
from jobs.features.online import OnlineFeatures
from jobs.lake.store import Lake
from jobs.lake.tables import LAKE
from jobs.promote import job as promote
from jobs.serving.sagemaker import Endpoint
from jobs.train import job as train
from models.rankers import RANKERS
from tests.jobs.small_lake import DAY, World, a_run, publish, publish_all, settings

LENIENT = {
    "gate__min_lift": "-1",
    "gate__must_not_fall__log_loss": "1",
    "gate__must_not_fall__auc": "1",
    "gate__must_not_fall__ndcg_at_10": "1",
    "gate__max_weight_share": "1",
    "gate__min_effective_n": "1",
    "gate__min_test_rows": "1",
    "gate__max_calibration_error": "1",
    "gate__max_slice_drop": "1",
    "gate__max_concentration_rise": "1",
    "gate__max_latency_ms": "10000",
    "ranker__xgboost_rounds": "5",
}
NEXT = DAY + timedelta(days=1)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days trained, judged and promoted; nothing deployed. Tests work on copies."""
    session = tmp_path_factory.mktemp("session")
    root = session / "judged"
    tree = settings(root, session, **LENIENT)
    for day in (DAY, NEXT):
        publish_all(tree, World(), day, n=150)
        for module, name in ((train, "train"), (backtest, "backtest"), (promote, "promote")):
            module.run(a_run(name, tree, day))
    assert [row["verdict"] for row in Lake(tree.lake.root).read("promotions").to_pylist()] == ["promote", "promote"]
    return root


@contextmanager
def serving(tree: Config) -> Iterator[Config]:
    """The local endpoint over HTTP on a free port; the settings with its URL."""
    listener = listen(0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    tree = tree.model_copy(update={"endpoint": tree.endpoint.model_copy(update={"url": url, "timeout_ms": 5000})})
    web = uvicorn.Server(uvicorn.Config(Server(tree, OnlineFeatures(tree)).app, log_level="warning", access_log=False))
    thread = threading.Thread(target=web.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield tree
    finally:
        web.should_exit = True
        thread.join(20)


@pytest.fixture
def world(judged: Path, tmp_path: Path) -> Config:
    """A copy of the judged lake; bundles stay where they are unless a test moves them."""
    for name in ("lake", "artifacts"):
        if (judged / name).exists():
            shutil.copytree(judged / name, tmp_path / name)
    shutil.copy(judged / "mlflow.db", tmp_path / "mlflow.db")
    found = settings(tmp_path, tmp_path, **LENIENT, features__online_path=str(tmp_path / "online"))
    return found.model_copy(update={"bundles": judged / "bundles"})


def deployed(tree: Config, day: Any = DAY, by: str | None = "alice") -> dict[str, Any]:
    return deploy.run(replace(a_run("deploy", tree, day), approved_by=by))


def ledger(tree: Config, day: Any = DAY) -> dict[str, Any]:
    rows = Lake(tree.lake.root).read("promotions", where={"day": str(day), "mode": "full"}).to_pylist()
    assert len(rows) == 1
    return dict(rows[0])


def test_from_verdict_to_traffic(world: Config) -> None:
    """Approved, in service, champion and on record; run again nothing changes; the next day updates the endpoint."""
    with serving(world) as tree:
        report = deployed(tree)
        row = ledger(tree)
        assert report == {
            "endpoint": "tidegate",
            "variant": row["candidate_id"],
            "bundle_sha256": row["bundle_sha256"],
            "approved_by": "alice",
        }
        assert (row["approved_by"], row["endpoint"]) == ("alice", "tidegate")
        assert row["approved_at"] <= row["deployed_at"]
        assert tracking.champion(tree) == row["candidate_id"]
        versions = len(Lake(tree.lake.root).history("promotions"))
        assert deployed(tree, by="bob") == {**report, "approved_by": "bob"}
        assert ledger(tree) == row, "the deployment on record is the one that happened"
        assert len(Lake(tree.lake.root).history("promotions")) == versions
        first = Endpoint(tree.endpoint).serving()
        deployed(tree, NEXT)
        second = ledger(tree, NEXT)
        assert tracking.champion(tree) == second["candidate_id"]
        assert Endpoint(tree.endpoint).serving() == f"{second['candidate_id']}-{second['bundle_sha256'][:12]}"
        Endpoint(tree.endpoint).roll_back(first)
        assert Endpoint(tree.endpoint).serving() == first, "old configs are kept for this"


def test_without_a_yes_nothing_moves(world: Config) -> None:
    """No person, no deployment; the ledger stays as promote wrote it."""
    with serving(world) as tree:
        with pytest.raises(Refused, match="a person's yes"):
            deployed(tree, by=None)
        assert ledger(tree)["approved_by"] is None
        assert Endpoint(tree.endpoint).serving() is None


def test_a_hold_is_never_deployed_whoever_asks(world: Config) -> None:
    """The gate's word binds the person too; the reasons are in the refusal."""
    row = {**ledger(world), "verdict": "hold", "reasons": ["lift may be nil"]}
    publish(world, "promotions", pa.Table.from_pylist([row], LAKE["promotions"].schema), day=str(DAY), mode="full")
    with serving(world) as tree, pytest.raises(Refused, match="has hold: lift may be nil"):
        deployed(tree)


def test_a_tampered_bundle_is_refused(world: Config, judged: Path, tmp_path: Path) -> None:
    """One byte more in the ranker after the verdict, and nothing is deployed."""
    row = ledger(world)
    copy = tmp_path / "bundles" / row["candidate_id"]
    shutil.copytree(row["bundle"], copy)
    victim = next(p for p in (copy / "ranker").iterdir())
    victim.write_bytes(victim.read_bytes() + b" ")
    moved = pa.Table.from_pylist([{**row, "bundle": str(copy)}], LAKE["promotions"].schema)
    publish(world, "promotions", moved, day=str(DAY), mode="full")
    with serving(world) as tree:
        with pytest.raises(Refused, match="unchanged; differing"):
            deployed(tree)
        assert Endpoint(tree.endpoint).serving() is None
        assert ledger(tree)["deployed_at"] is None


def test_an_endpoint_that_is_down_is_not_ready(world: Config) -> None:
    """Retry later; nobody's approval is recorded for something that could not start."""
    dead = world.model_copy(update={"endpoint": world.endpoint.model_copy(update={"url": "http://127.0.0.1:9"})})
    with pytest.raises(NotReady, match=re.escape("must answer at http://127.0.0.1:9")):
        deployed(dead)
    assert ledger(dead)["approved_by"] is None


def test_a_failure_after_the_switch_puts_the_champion_back(world: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new bundle answers only by its fallback: the old config serves again, alias and ledger as before."""
    with serving(world) as tree:
        deployed(tree)
        before = Endpoint(tree.endpoint).serving()
        champion = ledger(tree)["candidate_id"]

        def broken(*_: Any) -> None:
            raise NotReady("MLflow must answer")

        monkeypatch.setattr(tracking, "move_champion", broken)
        with pytest.raises(NotReady, match="MLflow must answer"):
            deployed(tree, NEXT)
        monkeypatch.undo()
        assert Endpoint(tree.endpoint).serving() == before
        assert tracking.champion(tree) == champion
        row = ledger(tree, NEXT)
        assert (row["approved_by"], row["deployed_at"]) == ("alice", None)
        deployed(tree, NEXT)
        assert ledger(tree, NEXT)["deployed_at"] is not None


def test_a_bundle_that_only_falls_back_fails_its_smoke_test(world: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers while it is brought up and raises afterwards: not deployed, and no endpoint is left behind."""
    answered: list[int] = []
    ranker = RANKERS[bundle.load(Path(ledger(world)["bundle"])).ranker.kind]
    predict = ranker.predict

    def once(self: Any, features: Any) -> Any:
        answered.append(1)
        if len(answered) > 1:
            raise RuntimeError("out of cheese")
        return predict(self, features)

    with serving(world) as tree:
        monkeypatch.setattr(ranker, "predict", once)
        with pytest.raises(Refused, match="not with the fallback"):
            deployed(tree)
        assert Endpoint(tree.endpoint).serving() is None
        assert ledger(tree)["deployed_at"] is None
