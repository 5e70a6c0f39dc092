"""A training by several processes is the one process's: the same curve, one that publishes, no more."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs import tracking
from jobs.config import ROOT, Config
from jobs.errors import Misconfigured
from jobs.lake.store import Lake
from jobs.train import job, processes
from models.rankers import RANKERS
from models.rankers.vectors import VectorRanker
from tests.jobs.small_lake import DAY, World, a_run, publish_all, settings

ONLY = {"ranker__kinds": '["mmoe"]', "ranker__mmoe__batch_size": "64"}


def made(folder: Path, session: Path) -> Config:
    found = settings(folder, session, **ONLY)
    publish_all(found, World(), n=60)
    return found


def curve(config: Config) -> list[float]:
    """The losses of the network, as MLflow has them."""
    with tracking.reached(config) as client:
        [experiment] = [e for e in client.search_experiments() if e.name == config.tracking.experiment]
        [mine] = [r for r in client.search_runs([experiment.experiment_id]) if r.data.tags.get("ranker") == "mmoe"]
        return [point.value for point in client.get_metric_history(mine.info.run_id, "curve.loss")]


def test_torchrun_trains_what_one_process_does(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    session = tmp_path_factory.getbasetemp()
    one, two = made(tmp_path / "one", session), made(tmp_path / "two", session)
    job.run(a_run("train", one))
    known = {
        "OMP_NUM_THREADS": "1",
        "TIDEGATE_ENV": "test",
        "TIDEGATE__LAKE__ROOT": str(two.lake.root),
        "TIDEGATE__BUNDLES": str(two.bundles),
        "TIDEGATE__TRACKING__URI": two.tracking.uri,
        "TIDEGATE__TRACKING__ARTIFACTS": str(two.tracking.artifacts),
        **{f"TIDEGATE__{name.upper()}": value for name, value in ONLY.items()},
    }
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    found = subprocess.run(
        [*torchrun, "-m", "jobs", "train", "--day", str(DAY)],
        cwd=ROOT, env=os.environ | known, capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert "learns on cpu, 2 processes together" in found.stderr
    reports = sorted(map(json.loads, found.stdout.splitlines()), key=lambda report: report["rows"])
    assert (reports[0]["process"], reports[0]["learned"], reports[0]["rows"]) == (1, 1, 0)
    assert found.stderr.count("training rows, ") == 1, "who is not the first reads no example"
    assert len(reports) == 2
    rows = [
        {row["ranker"]: row for row in Lake(of.lake.root).read("candidates", [DAY]).to_pylist()} for of in (one, two)
    ]
    assert set(rows[0]) == set(rows[1]) == {"popularity", "mmoe"}
    assert rows[1]["mmoe"]["validation_log_loss"] == pytest.approx(rows[0]["mmoe"]["validation_log_loss"], abs=1e-4)
    assert len(curve(one)) > 5
    assert curve(two) == pytest.approx(curve(one), abs=1e-4)
    assert not list(two.bundles.glob(".*"))


def test_every_network_is_learned_together_and_nothing_else() -> None:
    assert {kind for kind, of in RANKERS.items() if issubclass(of, VectorRanker)} == set(processes.TOGETHER)


def test_a_device_that_is_not_there_is_a_wrong_setting(tmp_path: Path, tmp_path_factory: Any) -> None:
    config = made(tmp_path, tmp_path_factory.getbasetemp())
    network = config.ranker.mmoe.model_copy(update={"device": "cuda"})
    asked = config.model_copy(update={"ranker": config.ranker.model_copy(update={"mmoe": network})})
    with pytest.raises(Misconfigured, match=r"ranker.mmoe.\*.*device = cuda needs a CUDA device; found none"):
        job.run(a_run("train", asked))
