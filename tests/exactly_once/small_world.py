"""A tiny simulated world on disk, run by the very command Airflow runs: what the tests of this folder kill and race."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path

from infra.stack.processes import free_ports
from jobs import config
from jobs.deployments.release import opponent_sha256
from jobs.lake.store import Lake
from jobs.places import Place, S3Path
from tests.exactly_once.forks import Forks
from tests.moto_server import Moto

SHIM = Path(__file__).with_name("shim")
FIRST = date(2026, 1, 1)
TRAINED = FIRST + timedelta(days=5)
"""The champion's day; everything is killed on the day after."""
DAY = TRAINED + timedelta(days=1)
DATA = ("ingest", "validate", "attribute", "featurize")
MODEL = ("assemble", "train", "backtest", "promote")
SERVING = ("monitor", "experiment", "reevaluate")
OTHER_CLICKS = {"world.base_click_logit": "-1.4"}
"""The same requests, clicked more: what a run under it publishes differs from what lies there, in every table."""
BUCKET = "small-world"
EARLY = {"TIDEGATE__ATTRIBUTION__LATE_DAYS": "0"}
"""The backtest of `TRAINED` runs under it, and `reevaluate`: then the labels of its test day close on `DAY`."""
TINY = {
    "world.seed": "3",  # so small a world shows by luck alone that a learned ranker beats the baseline
    "world.days": "8",
    "world.users": "150",
    "world.items": "60",
    "world.requests_per_day": "300",
    "world.late_share": "0.05",
    "world.live_share": "0.3",
    "attribution.window_days": "1",
    "dataset.train_days": "3",
    "dataset.warm_train_days": "2",
    "ranker.xgboost.rounds": "10",
    "gate.min_lift": "-1",
    "gate.max_loss_to_logging": "1",
    "gate.must_not_fall.log_loss": "1",
    "gate.must_not_fall.auc": "1",
    "gate.must_not_fall.ndcg_at_10": "1",
    "gate.max_weight_share": "1",
    "gate.min_effective_n": "1",
    "gate.min_test_rows": "1",
    "gate.max_calibration_ratio": "1000",
    "gate.max_calibration_error": "1000",
    "gate.max_slice_drop": "1",
    "gate.max_concentration_rise": "1",
    "gate.max_latency_ms": "10000",
    "gate.bootstrap_replicates": "50",
    "validation.max_quarantine_share": "0.5",
    "endpoint.timeout_ms": "5000",
}


@dataclass
class SmallWorld:
    """Everything below `home`, and an endpoint's address."""

    home: Path
    port: int = 9
    more: dict[str, str] = field(default_factory=dict)
    """Settings on top, by dotted name."""
    forks: Forks | None = None
    """What runs that nobody kills or holds are forked from; without it they are processes of their own too."""
    s3: Moto | None = None
    """Where lake, raw days and bundles are, in the bucket `BUCKET`; else below `home`."""

    @property
    def root(self) -> Place:
        """Of what lies on S3, where anything does."""
        return self.home if self.s3 is None else S3Path(BUCKET, "world")

    def env(self, **variables: str) -> dict[str, str]:
        """A child's environment."""
        places = {
            "lake.root": self.root / "lake",
            "lake.raw": self.root / "raw",
            "lake.runs": self.home / "runs",
            "bundles": self.root / "bundles",
            "features.online_path": self.home / "online",
            "tracking.uri": f"sqlite:///{self.home / 'mlflow.db'}",
            "tracking.artifacts": self.home / "artifacts",
            "endpoint.url": f"http://127.0.0.1:{self.port}",
            "endpoint.state": self.home / "endpoint",
        }
        settings = {**TINY, **{key: str(value) for key, value in places.items()}, **self.more}
        own = {"TIDEGATE_ENV": "test", "OMP_NUM_THREADS": "1"}
        if self.s3 is not None:
            own["TMPDIR"] = str(self.home)  # a stage that is killed leaves its copies of logs there
        return {**config.environment(settings), **own, **variables}

    @cached_property
    def lake(self) -> Lake:
        """As somebody sees it who looks again and again."""
        return Lake(self.root / "lake")

    def start(self, stage: str, day: date, *words: str, **variables: str) -> "subprocess.Popen[str]":
        """`python -m jobs …` in a process group of its own, as Airflow starts it, under the shim if it is to die."""
        env = self.env(**_windows(stage), **variables)
        if "KILL_BELOW" in variables:
            env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SHIM), str(config.ROOT), env.get("PYTHONPATH")]))
        return subprocess.Popen(
            [sys.executable, "-m", "jobs", *self.command(stage, day, *words)],
            cwd=config.ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, stage: str, day: date, *words: str) -> str:
        """A stage that must end well; returns the last line of its stdout."""
        if self.forks is None:
            child = self.start(stage, day, *words)
            out, err = child.communicate(timeout=300)
            code = child.returncode
        else:
            paths = self.home / "stage.out", self.home / "stage.err"
            code = self.forks(self.command(stage, day, *words), self.env(**_windows(stage)), *paths)
            out, err = (path.read_text() for path in paths)
        assert code == 0, f"{stage} {day} {words}\n{out}\n{err[-4000:]}"
        return out.splitlines()[-1]

    def command(self, stage: str, day: date, *words: str) -> list[str]:
        """The words after `python -m jobs`; a deployment has the yes of somebody who has read what there is."""
        return [stage, "--day", day.isoformat(), *words, *(self._approval(day) if stage == "deploy" else ())]

    def _approval(self, day: date) -> list[str]:
        where = {"day": day.isoformat(), "mode": "full"}
        [row] = self.lake.read("evidence", where=where).to_pylist()
        champion = opponent_sha256(json.loads(row["document"]))
        read = {"evidence": row["document_sha256"], "bundle": row["bundle_sha256"], "champion": champion}
        return ["--approved-by=alice", *(f"--{name}-sha={sha256}" for name, sha256 in read.items())]

    def kept(self) -> list[str]:
        """What a stage may change, the endpoint's own state excluded."""
        on_s3 = ["lake", "raw", "bundles"] if self.s3 is None else []
        return [*on_s3, "online", "artifacts", "mlflow.db"]

    def save(self, folder: Path) -> None:
        """Copy all that stages wrote."""
        for name in self.kept():
            copy(self.home / name, folder / name)
        self._objects = self.s3.objects(BUCKET) if self.s3 else {}

    def restore(self, folder: Path) -> None:
        """Put a copy back."""
        for name in self.kept():
            target = self.home / name
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
            copy(folder / name, target)
        if self.s3 is not None:
            self.s3.restore(BUCKET, self._objects)
        self.__dict__.pop("lake", None)  # what it has seen is no more

    @contextmanager
    def endpoint(self) -> Iterator[None]:
        """The local endpoint in a process of its own."""
        [self.port] = free_ports(1)
        with (self.home / "endpoint.log").open("w") as log:
            words = [sys.executable, "-m", "infra.endpoint", "--port", str(self.port)]
            child = subprocess.Popen(words, cwd=config.ROOT, env=self.env(), stdout=log, stderr=log)
            try:
                yield
            finally:
                child.terminate()
                child.wait(30)


class Warm:
    """The stages of a small world, forked."""

    def __init__(self, world: SmallWorld, forks: Forks) -> None:
        self.world = world
        self._forks = forks

    def __call__(self, stage: str, day: date, *words: str, **variables: str) -> int:
        """Run one stage; returns its exit status, negative where a signal ended it."""
        env = self.world.env(**_windows(stage), **variables)
        return self._forks(self.world.command(stage, day, *words), env, self.out, self.out)

    def well(self, stage: str, day: date, *words: str, **variables: str) -> None:
        """Run one stage that must end well."""
        code = self(stage, day, *words, **variables)
        assert code == 0, f"{stage} {day} {words}: {code}\n{self.out.read_text()[-4000:]}"

    @property
    def out(self) -> Path:
        """What the last stage printed."""
        return self.world.home / "stage.log"


def _windows(stage: str) -> dict[str, str]:
    return EARLY if stage == "reevaluate" else {}


def kill(child: "subprocess.Popen[str]") -> None:
    """SIGKILL to the whole process group: the stage, its JVM, its workers."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def copy(source: Path, target: Path) -> None:
    """A file or a whole folder; nothing where there is none."""
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
