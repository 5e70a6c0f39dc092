"""A training that is killed is resumed by the next one, to the bytes of one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.config import ROOT, Config
from jobs.lake import vacuum
from jobs.lake.store import Lake
from jobs.train import job
from tests.jobs.small_lake import DAY, World, a_run, publish_all, settings

QUICK = {"ranker__logistic__steps": "5", "ranker__xgboost__rounds": "8"}


@pytest.fixture
def config(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    made = settings(tmp_path / "one", tmp_path_factory.getbasetemp(), **QUICK)
    publish_all(made, World(), n=100)
    return made


def of(config: Config) -> dict[str, str]:
    rows = Lake(config.lake.root).read("candidates", [DAY]).to_pylist()
    return {row["ranker"]: row["bundle_sha256"] for row in rows}


def heard(config: Config) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A training as Airflow runs it, and its lines as they come."""
    known = {
        "TIDEGATE_ENV": "test",
        "TIDEGATE__LAKE__ROOT": str(config.lake.root),
        "TIDEGATE__BUNDLES": str(config.bundles),
        "TIDEGATE__TRACKING__URI": config.tracking.uri,
        "TIDEGATE__TRACKING__ARTIFACTS": str(config.tracking.artifacts),
        **{f"TIDEGATE__{name.upper()}": value for name, value in QUICK.items()},
    }
    command = [sys.executable, "-m", "jobs", "train", "--day", str(DAY)]
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | known, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as training:
        assert training.stderr is not None
        for line in training.stderr:
            yield training, line


def test_a_killed_training_is_resumed_to_the_same_bytes(
    config: Config, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed while the network learns; what was finished is not fitted again, and nothing is left in the end."""
    awaited = {"popularity", "logistic", "xgboost"}
    for training, line in heard(config):
        awaited -= {kind for kind in awaited if f"{kind} fitted" in line}
        if not awaited:
            training.send_signal(signal.SIGKILL)
    assert training.returncode == -signal.SIGKILL
    assert Lake(config.lake.root).version("candidates") is None
    job.run(a_run("train", config))
    said = capsys.readouterr().err
    for kind in ("popularity", "logistic", "xgboost"):
        assert f"{kind} was finished by a try that was ended" in said
    assert not list(config.bundles.glob(".*"))
    other = settings(tmp_path / "two", tmp_path_factory.getbasetemp(), **QUICK)
    publish_all(other, World(), n=100)
    job.run(a_run("train", other))
    assert of(config) == of(other)


def test_what_was_finished_of_other_data_or_settings_is_not_taken(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor what is not whole; what nobody comes back to is vacuumed."""
    down = config.model_copy(update={"tracking": config.tracking.model_copy(update={"uri": "http://127.0.0.1:9"})})

    def tried(config: Config) -> set[str]:
        """The kinds that were fitted by a try that MLflow stops."""
        with pytest.raises(Exception, match="MLflow must answer"):
            job.run(a_run("train", config))
        said = capsys.readouterr().err
        return {kind for kind in ("popularity", "logistic", "xgboost", "mmoe") if f"s] {kind} fitted in" in said}

    assert tried(down) == {"popularity", "logistic", "xgboost", "mmoe"}
    assert tried(down) == set()
    tuned = down.ranker.model_copy(update={"xgboost": down.ranker.xgboost.model_copy(update={"depth": 3})})
    assert tried(down.model_copy(update={"ranker": tuned})) == {"xgboost"}
    [record] = config.bundles.glob(".checkpoints-*/logistic-*/record.json")
    record.write_text(json.dumps({**json.loads(record.read_text()), "files": {"logistic.json": "0" * 64}}))
    assert tried(down) == {"logistic"}
    publish_all(config, World(seed=1), n=100)
    assert tried(down) == {"popularity", "logistic", "xgboost", "mmoe"}
    assert vacuum.vacuum(config)["bundle_drafts"] == 0, "somebody may come back"
    later: Any = time.time() + 2 * 24 * 3600
    monkeypatch.setattr(vacuum.time, "time", lambda: later)
    assert vacuum.vacuum(config)["bundle_drafts"] == 1
