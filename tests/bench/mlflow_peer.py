"""The bundle of `bench_serving` behind `mlflow models serve`: a model of MLflow's pyfunc flavour, and its process.

It reads features, retrieves, ranks and draws as the container does, by the same functions; what it has not is the
container's own HTTP, its queue and its timer. A request is a row with the container's body as text, an answer a text.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from jobs.config import ROOT

ABOUT = "about.json"


class Peer:
    """What MLflow calls."""

    def __init__(self, path: str, sha256: str, items: int) -> None:
        from infra.endpoint.decide import Decider
        from jobs import bundle, config
        from tests.bench.bench_serving import Catalogue

        settings = config.load()
        self._bundle = bundle.load(Path(path), sha256)
        self._decider = Decider(Catalogue(settings, items), settings.endpoint.timeout_ms, settings.tasks)
        self._variant = self._decider.ready(self._bundle)

    def predict(self, rows: pd.DataFrame, params: dict[str, Any] | None = None) -> list[str]:
        """An answer for each row."""
        return [self._answer(body.encode()) for body in rows["body"]]

    def _answer(self, body: bytes) -> str:
        from infra.endpoint.calls import said
        from infra.endpoint.popularity import RANKED, answered
        from infra.endpoint.request import RankRequest, parse

        asked = self._decider.admitted(self._bundle, parse(body, RankRequest))
        offer = self._variant.offer(asked.at())
        made = self._decider.by_ranker(self._bundle, offer, asked)
        answer = answered(self._bundle, "mlflow", asked, offer, made, RANKED)
        return said(answer).decode()


def _load_pyfunc(path: str) -> Peer:
    """MLflow's own name for what loads a model."""
    return Peer(**json.loads((Path(path) / ABOUT).read_text()))


def saved(folder: Path, path: Path, sha256: str, items: int) -> Path:
    """The bundle as a model of MLflow's in `folder`."""
    import mlflow

    data = folder / "data"
    data.mkdir(parents=True)
    (data / ABOUT).write_text(json.dumps({"path": str(path), "sha256": sha256, "items": items}))
    model = folder / "model"
    mlflow.pyfunc.save_model(str(model), loader_module=__name__, data_path=str(data), pip_requirements=["mlflow"])
    return model


def served(model: Path, port: int, environ: dict[str, str]) -> "subprocess.Popen[bytes]":
    """`mlflow models serve` with one worker; what it says goes to a file beside the model."""
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model), "-p", str(port)]
    command += ["-h", "127.0.0.1", "-w", "1", "--env-manager", "local"]
    paths = os.pathsep.join([str(ROOT), str(Path(sys.executable).parent)])
    environ = environ | {"PYTHONPATH": str(ROOT), "PATH": f"{paths}{os.pathsep}{os.environ['PATH']}"}
    with (model.parent / "mlflow.log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=ROOT, env=environ, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


def wrapped(body: bytes) -> bytes:
    """The container's body as MLflow's."""
    return json.dumps({"dataframe_records": [{"body": body.decode()}]}).encode()
