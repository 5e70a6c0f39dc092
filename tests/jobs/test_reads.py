"""`jobs.flow` says what each stage reads: held to the Parquet files and columns that a whole chain really opened.

The chain runs in this process, with a champion, live traffic and a warm start; every table's files are small, so each
stage takes its one-process way (Spark reads the same lists of columns, and its tests compare the rows).
"""

import importlib
import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs import config
from jobs.deployments import ledger
from jobs.errors import NotReady
from jobs.flow import STAGES
from jobs.lake.run import Approval, Run
from jobs.lake.tables import LAKE
from jobs.monitor import replay
from jobs.serving.sagemaker import Endpoint
from tests.exactly_once.small_world import DATA, DAY, EARLY, FIRST, MODEL, SERVING, TRAINED, SmallWorld
from tests.jobs.small_lake import empty_mlflow

DECLARED = {
    "TIDEGATE__EXPERIMENTS": json.dumps(
        [{"name": "any", "arms": {"control": {}, "other": {}}, "start": str(DAY), "before_days": 1}]
    )
}
"""An A/B test that begins on the day, so that `experiment` has one to read."""
READERS = ("read", "read_row_group", "read_row_groups", "iter_batches")


class Watched:
    """Every column of every lake file that `pyarrow.parquet` read, by stage, its run's day and the file's."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.seen: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.days: dict[tuple[str, str], set[tuple[date, str]]] = defaultdict(set)
        self.stage, self.day = "", FIRST
        self._root = root
        opened: dict[int, str] = {}
        open_file = pq.ParquetFile.__init__

        def noting(file: pq.ParquetFile, source: Any, *words: Any, **more: Any) -> None:
            opened[id(file)] = os.fspath(source) if isinstance(source, str | os.PathLike) else ""
            open_file(file, source, *words, **more)

        patch.setattr(pq.ParquetFile, "__init__", noting)
        for name in READERS:
            patch.setattr(pq.ParquetFile, name, self._watching(name, opened))

    def _watching(self, name: str, opened: dict[int, str]) -> Any:
        really = getattr(pq.ParquetFile, name)
        place = {"read": 0, "read_row_group": 1, "read_row_groups": 1}.get(name)

        def read(file: pq.ParquetFile, *words: Any, **more: Any) -> Any:
            columns = more.get("columns")
            if columns is None and place is not None and len(words) > place:
                columns = words[place]
            self._note(opened.get(id(file), ""), file.schema_arrow.names if columns is None else columns)
            return really(file, *words, **more)

        return read

    def _note(self, path: str, columns: list[str]) -> None:
        if not path.startswith(str(self._root)):
            return
        table, *parts = Path(path).relative_to(self._root).parts
        self.seen[self.stage, table].update(columns)
        self.days[self.stage, table] |= {(self.day, part[4:]) for part in parts if part.startswith("day=")}


def in_service(endpoint: Endpoint) -> None:
    """Wait until the process listens."""
    for _ in range(1500):
        with suppress(NotReady):
            endpoint.serving()
            return
        time.sleep(0.2)
    raise TimeoutError("the endpoint needs to listen within five minutes; it did not")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """What a chain of two days read."""
    world = SmallWorld(tmp_path_factory.mktemp("reads"))
    shutil.copy(empty_mlflow(tmp_path_factory.getbasetemp()), world.home / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        watch = Watched(world.home / "lake", patch)

        def run(stage: str, day: date, since: date | None = None, mode: Any = "full", **more: Any) -> Any:
            settings = config.load(world.env(**more.pop("variables", {})))
            watch.stage, watch.day = stage, day
            return importlib.import_module(STAGES[stage].module).run(
                Run(STAGES[stage], settings, day, since, mode, **more)
            )

        for stage in DATA:
            run(stage, TRAINED, FIRST)
        for stage in MODEL:
            told = run(stage, TRAINED, variables=EARLY if stage == "backtest" else {})
        with world.endpoint():
            in_service(Endpoint(config.load(world.env()).endpoint))
            names = ("evidence_sha256", "bundle_sha256", "champion_sha256")
            run("deploy", TRAINED, approval=Approval("alice", **{name: told[name] for name in names}))
            for stage in DATA:
                run(stage, DAY)
        # A watch, which runs as `deploy`, has the answers of its step given again; here they are the champion's.
        watch.stage, settings = "deploy", config.load(world.env())
        watching = Run(STAGES["deploy"], settings, DAY)
        [(_, again)] = replay.of_day(watching, DAY, ledger.released(watching)[-1:])
        assert again.compared, again
        assert again.share == 0, again
        for stage in MODEL:
            run(stage, DAY, mode="warm")
        for stage in SERVING:
            run(stage, DAY, variables={"reevaluate": EARLY, "experiment": DECLARED}.get(stage, {}))
        run("export", DAY, variables={"TIDEGATE__EXPORT__URL": f"duckdb://{world.home}/told.duckdb"})
        yield watch


FURTHER: dict[tuple[str, str], set[str]] = {
    ("attribute", "feedback"): set(LAKE["feedback"].columns),
    ("featurize", "feedback"): set(LAKE["feedback"].columns) - {"feedback_id", "impression_id"},
    ("train", "examples"): {"outcomes"},
}
"""Read where a further outcome is declared; here is none: `tests/e2e/test_added_outcome.py` follows one."""


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_the_columns_it_declares_and_no_other(watched: Watched, stage: str) -> None:
    """A page that promises less than is read hides a dependency; one that promises more hides that none is there."""
    for table, read in STAGES[stage].reads.items():
        if table != "raw":
            declared = {column for column in LAKE[table].columns if read.takes(column)}
            further = FURTHER.get((stage, table), set())
            assert watched.seen[stage, table] == declared - further, (stage, table)
    undeclared = {table for by, table in watched.seen if by == stage} - {*STAGES[stage].reads, *STAGES[stage].writes}
    assert not undeclared


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_no_day_it_does_not_declare(watched: Watched, stage: str) -> None:
    """The future is what must not be read."""
    for table, read in STAGES[stage].reads.items():
        found = watched.days[stage, table]
        if read.days in ("past", "newest"):
            assert all(day <= run_day.isoformat() for run_day, day in found), (stage, table)
        if read.days == "day":
            own = {FIRST.isoformat(), *(day.isoformat() for day, _ in found)}
            assert {day for _, day in found} <= own, (stage, table)


def test_every_column_of_the_lake_has_a_reader(watched: Watched) -> None:
    """What nobody reads is not kept; what is kept for people and monitoring is named here; `export` only passes on."""
    for_people = {"quarantine", "profiles", "retrieval_negatives", "serving_reports", "readouts", "reevaluations"}
    only_checked = {"requests": {"user_id", "surface", "policy"}, "users": {"created_at"}}  # by the suites
    only_checked["feedback"] = FURTHER["attribute", "feedback"] - {"feedback_id", "event_time"}
    for name, table in LAKE.items():
        if name not in for_people:
            read = {column for stage in STAGES if stage != "export" for column in watched.seen[stage, name]}
            assert set(table.columns) - read == only_checked.get(name, set()), name
