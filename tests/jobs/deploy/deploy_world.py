"""Two days trained and judged on a small lake, and a real local endpoint: what the tests of `deploy` start from."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import uvicorn

from infra.endpoint.__main__ import listen
from infra.endpoint.app import Server
from jobs import config, tracking
from jobs.backtest import job as backtest
from jobs.config import Config
from jobs.deploy import job as deploy
from jobs.deploy import rollback
from jobs.deployments import ledger
from jobs.deployments.release import opponent_sha256
from jobs.features.online import OnlineFeatures
from jobs.lake.run import Approval
from jobs.lake.store import Lake
from jobs.promote import job as promote
from jobs.serving.sagemaker import Endpoint
from jobs.train import job as train
from tests.exactly_once.forks import Forks
from tests.infra.endpoint.rig import threads
from tests.jobs.small_lake import DAY, World, a_run, publish_all, settings

LENIENT = {
    "gate__min_lift": "-1",
    "gate__must_not_fall__log_loss": "1",
    "gate__must_not_fall__auc": "1",
    "gate__must_not_fall__ndcg_at_10": "1",
    "gate__max_weight_share": "1",
    "gate__min_effective_n": "1",
    "gate__min_test_rows": "1",
    "gate__max_calibration_ratio": "1000",
    "gate__max_calibration_error": "1000",
    "gate__max_slice_drop": "1",
    "gate__max_concentration_rise": "1",
    "gate__max_latency_ms": "10000",
    "ranker__xgboost__rounds": "5",
}
NEXT = DAY + timedelta(days=1)


def judge(tree: Config, day: date) -> dict[str, Any]:
    """Evidence on the challenger of a day against what serves now, and the gate's word."""
    backtest.run(a_run("backtest", tree, day))
    found = promote.run(a_run("promote", tree, day))
    assert found["verdict"] == "promote"
    return found


def judged_twice(root: Path, session: Path) -> Path:
    """Two days trained and judged, both while nothing serves."""
    tree = settings(root, session, **LENIENT)
    for day in (DAY, NEXT):
        publish_all(tree, World(), day, n=150)
        train.run(a_run("train", tree, day))
        judge(tree, day)
    return root


def judged_in_turn(judged: Path, root: Path) -> Path:
    """The first day's model deployed, the second day's judged against it."""
    with serving(copied(judged, root)) as tree:
        deployed(tree)
        judge(tree, NEXT)
    return root


def copied(judged: Path, root: Path) -> Config:
    """Settings on a copy of a judged lake; bundles stay where they are, what the endpoint serves is not copied."""
    root.mkdir(parents=True, exist_ok=True)
    for name in ("lake", "artifacts"):
        if (judged / name).exists():
            shutil.copytree(judged / name, root / name)
    shutil.copy(judged / "mlflow.db", root / "mlflow.db")
    found = settings(root, root, **LENIENT, features__online_path=str(root / "online"))
    first = Lake(found.lake.root).read("candidates").to_pylist()[0]
    return found.model_copy(update={"bundles": Path(first["bundle"]).parent})


@contextmanager
def serving(tree: Config) -> Iterator[Config]:
    """The local endpoint over HTTP on a free port; the settings with its URL."""
    listener = listen(0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    tree = tree.model_copy(update={"endpoint": tree.endpoint.model_copy(update={"url": url, "timeout_ms": 5000})})
    server = Server(tree, threads(tree, OnlineFeatures(tree)))
    web = uvicorn.Server(uvicorn.Config(server.app, log_level="warning", access_log=False))
    thread = threading.Thread(target=web.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield tree
    finally:
        web.should_exit = True
        thread.join(20)


def verdict(tree: Config, day: date = DAY) -> dict[str, Any]:
    [row] = Lake(tree.lake.root).read("promotions", where={"day": str(day), "mode": "full"}).to_pylist()
    return dict(row)


def yes(tree: Config, day: date = DAY, by: str = "alice", **changes: str) -> Approval:
    """A person's yes to what there is to read about a day's challenger just now."""
    [evidence] = Lake(tree.lake.root).read("evidence", where={"day": str(day), "mode": "full"}).to_pylist()
    champion = opponent_sha256(json.loads(evidence["document"]))
    read = Approval(by, "it is better", evidence["document_sha256"], evidence["bundle_sha256"], champion)
    return replace(read, **changes)


def deployed(tree: Config, day: date = DAY, approval: Approval | None = None) -> dict[str, Any]:
    return deploy.run(replace(a_run("deploy", tree, day), approval=approval or yes(tree, day)))


def rolled_back(tree: Config, day: date = NEXT, by: str = "bob") -> dict[str, Any]:
    return rollback.run(replace(a_run("deploy", tree, day), approval=Approval(by)))


def steps(tree: Config) -> list[tuple[str, str]]:
    """The steps of releases in short."""
    found = ledger.moves(ledger.steps(Lake(tree.lake.root), tree.endpoint.name))
    return [(row["candidate_id"], row["step"]) for row in found]


def noes(tree: Config) -> list[dict[str, Any]]:
    """What was refused or rejected."""
    found = ledger.steps(Lake(tree.lake.root), tree.endpoint.name)
    return [row for row in found if row["step"] in ledger.NOTED]


def champions(tree: Config) -> tuple[str | None, str | None, str | None]:
    """Who is champion by the ledger, by MLflow's alias and by what the endpoint serves; equal where all is well."""
    row = ledger.champion(Lake(tree.lake.root), tree.endpoint.name)
    config = Endpoint(tree.endpoint).serving()
    known = {r["config"]: r["candidate_id"] for r in ledger.steps(Lake(tree.lake.root), tree.endpoint.name)}
    serves = None if config is None else known.get(config, config)
    return None if row is None else row["candidate_id"], tracking.champion(tree), serves


class Forked:
    """`deploy` and `rollback`, forked."""

    def __init__(self, forks: Forks) -> None:
        self._forks = forks

    def __call__(self, tree: Config, stage: str, day: date, approval: Approval, **variables: str) -> int:
        """Run one on a world; returns its exit status, negative where a signal ended it."""
        words = [stage, "--day", day.isoformat(), f"--approved-by={approval.by}"]
        for name in ("evidence", "bundle", "champion") if stage == "deploy" else ():
            words.append(f"--{name}-sha={getattr(approval, f'{name}_sha256')}")
        if stage == "rollback" and approval.why:
            words.append(f"--why={approval.why}")
        log = tree.lake.root.parent / "stage.log"
        return self._forks(words, {**_environment(tree), **variables}, log, log)


def _environment(tree: Config) -> dict[str, str]:
    """The variables that give these settings; of an Airflow that another test has made up they say nothing."""
    home = tree.lake.root.parent
    places = {
        "source.name": "parquet",
        "lake.root": home / "lake",
        "bundles": tree.bundles,
        "features.online_path": home / "online",
        "tracking.uri": tree.tracking.uri,
        "tracking.artifacts": home / "artifacts",
        "endpoint.url": tree.endpoint.url,
        "endpoint.name": tree.endpoint.name,
        "endpoint.state": home / "endpoint",
    }
    chosen = {**{name.replace("__", "."): value for name, value in LENIENT.items()}}
    ours = config.environment({**chosen, **{name: str(value) for name, value in places.items()}})
    return {
        **{name: value for name, value in ours.items() if not name.startswith("AIRFLOW_")},
        "TIDEGATE_ENV": "test",
        "OMP_NUM_THREADS": "1",
    }
