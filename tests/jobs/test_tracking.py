"""MLflow behind one file: repeated calls add nothing twice, a dead server is a retry, the alias moves when told."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs import tracking
from jobs.config import Config
from jobs.errors import Misconfigured, NotReady, Refused
from jobs.tracking import owner, runs
from tests.jobs.small_lake import settings

ID = "xgboost-full-2026-01-08"
BEGAN = datetime(2026, 1, 9, 4, tzinfo=UTC)
ENDED = BEGAN + timedelta(seconds=90)


@pytest.fixture
def config(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    return settings(tmp_path, tmp_path_factory.getbasetemp())


def log(config: Config, folder: Path, sha: str = "sha-1", candidate: str = ID) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text("{}")
    figures = {"validation.auc": 0.7}
    return tracking.log_ranker(config, candidate, folder, None, {"depth": 5}, figures, {"bundle_sha256": sha})


def test_a_retried_stage_finds_its_run_again(config: Config, tmp_path: Path) -> None:
    first = log(config, tmp_path / "bundle")
    assert log(config, tmp_path / "bundle") == first
    again = log(config, tmp_path / "bundle", sha="sha-2")
    with tracking.reached(config) as client:
        names = {run: client.get_run(run).info.run_name for run in (first, again)}
        assert names == {first: f"{ID}, replaced", again: ID}, "a name is of one thing"
        client.update_run(again, status="RUNNING")
        client.set_tag(again, owner.OWNER, dead())  # as a try that was killed leaves it
    last = log(config, tmp_path / "bundle", sha="sha-2")
    with tracking.reached(config) as client:
        [experiment] = [e for e in client.search_experiments() if e.name == config.tracking.experiment]
        assert experiment.tags["mlflow.experimentKind"] == "custom_model_development", "else runs are not what one sees"
        runs = client.search_runs([experiment.experiment_id])
        models = client.search_logged_models([experiment.experiment_id])
    assert {run.info.run_id for run in runs} == {model.source_run_id for model in models} == {first, last}


def dead() -> str:
    """A process of this machine that has ended."""
    return subprocess.run(
        [sys.executable, "-c", "from jobs.tracking import owner; print(owner.me())"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip


def test_of_two_trainings_at_a_time_neither_deletes_the_run_of_the_other(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second came while the first saved its model, deleted that run, and the first crashed."""
    saved, second = runs.saved, list[str]()

    @contextmanager
    def meanwhile(*of: Any) -> Iterator[Path]:
        with saved(*of) as folder:
            if not second:
                second.append("")
                with ThreadPoolExecutor(1) as other:
                    second[0] = other.submit(log, config, tmp_path / "other").result()
            yield folder

    monkeypatch.setattr(runs, "saved", meanwhile)
    first = log(config, tmp_path / "bundle")
    with tracking.reached(config) as client:
        for run in (first, *second):
            found = client.get_run(run)
            assert (found.info.status, found.info.lifecycle_stage) == ("FINISHED", "active")
            assert client.get_logged_model(found.outputs.model_outputs[0].model_id).status == "READY"
    assert second != [first]
    assert log(config, tmp_path / "bundle") in (first, *second), "a retry finds one of the two"


def test_a_run_of_another_machine_is_shown_as_killed_until_it_finishes(config: Config, tmp_path: Path) -> None:
    """Nobody here can know whether its process lives: it stays, with its model, and may still finish."""
    elsewhere = log(config, tmp_path / "bundle")
    with tracking.reached(config) as client:
        client.update_run(elsewhere, status="RUNNING")
        client.set_tag(elsewhere, owner.OWNER, "algo-1/another-boot 15 1767945600")
        mine = log(config, tmp_path / "bundle")
        assert client.get_run(elsewhere).info.status == "KILLED"
        client.set_terminated(elsewhere)
        assert {client.get_run(run).info.status for run in (mine, elsewhere)} == {"FINISHED"}


def test_whether_a_process_has_ended_is_known_of_this_boot_only() -> None:
    machine, pid, began = owner.me().rsplit(" ", 2)
    assert owner.ended(owner.me()) is False
    assert owner.ended(dead()) is True
    assert owner.ended(f"{machine} {pid} {int(began) - 60}") is True, "its id went to another process"
    assert owner.ended(f"{machine}x {pid} {began}") is None
    assert owner.ended(None) is None, "a run from before runs had an owner"


def test_a_version_is_registered_once_and_its_verdict_follows(config: Config, tmp_path: Path) -> None:
    run = log(config, tmp_path / "bundle")
    first = tracking.register(config, run, ID, "sha-1", "hold")
    assert tracking.register(config, run, ID, "sha-1", "promote") == first
    assert tracking.champion(config) is None  # a verdict alone moves no alias


def test_the_newest_judged_version_is_challenger_until_it_serves(config: Config, tmp_path: Path) -> None:
    """With where its evidence is; aliases of one name say who serves and who wants to."""
    other = "logistic-full-2026-01-08"
    first = tracking.register(config, log(config, tmp_path / "a"), ID, "sha-1", "promote", {"evidence": "runs:/1/page"})
    assert aliases(config) == {"challenger": str(first)}
    tracking.move_champion(config, ID)
    assert aliases(config) == {"champion": str(first)}
    second = tracking.register(config, log(config, tmp_path / "b", "sha-2", other), other, "sha-2", "hold")
    assert aliases(config) == {"champion": str(first), "challenger": str(second)}
    tracking.register(config, log(config, tmp_path / "a"), ID, "sha-1", "hold")
    tracking.move_champion(config, other)
    assert aliases(config) == {"champion": str(second), "challenger": str(first)}
    with tracking.reached(config) as client:
        found = client.get_model_version(config.tracking.model, str(first))
    assert (found.tags["verdict"], found.tags["evidence"]) == ("hold", "runs:/1/page")


def aliases(config: Config) -> dict[str, str]:
    with tracking.reached(config) as client:
        found = client.get_registered_model(config.tracking.model).aliases
        return {alias: str(version) for alias, version in found.items()}


def test_a_training_is_found_again_with_its_rankers_below_it(config: Config, tmp_path: Path) -> None:
    """Its own run has the figures of the challenger; curves go by rows, the dataset is a version of a Delta table."""
    (tmp_path / "bundle").mkdir()
    training = tracking.begin_training(config, "full-2026-01-08", {"day": "2026-01-08"}, BEGAN)
    assert tracking.begin_training(config, "full-2026-01-08", {}, ENDED) == training
    assert tracking.begin_training(config, "warm-2026-01-08", {}, BEGAN) != training
    curve = [tracking.Point(n, {"curve.loss": 1 / n}) for n in range(1, 1_200)]
    many = {f"ranker.{n}": n for n in range(130)}
    data = tracking.Dataset("examples", "d" * 64, tmp_path / "examples", 3, {"rows": 9.0})
    sha = {"bundle_sha256": "sha-1"}
    child = tracking.log_ranker(
        config, ID, tmp_path / "bundle", None, many, {"a": 1.0}, sha, training, curve, data, (BEGAN, ENDED)
    )
    tracking.end_training(config, training, {"a": 1.0}, {"chosen": "xgboost"}, data)
    tracking.log_evidence(config, child, {"value.difference": 0.1}, {})
    with tracking.reached(config) as client:
        found = client.get_run(child)
        assert found.data.tags["mlflow.parentRunId"] == training
        assert len(found.data.params) == 130
        steps = [(m.step, m.value) for m in client.get_metric_history(child, "curve.loss")]
        assert sorted(steps) == [(n, 1 / n) for n in range(1, 1_200)]
        [given] = found.inputs.dataset_inputs
        assert given.dataset.digest == "d" * 36
        assert '"delta_table_version": 3' in given.dataset.source
        told = client.get_run(training)
        figures = {"a": 1.0, "value.difference": 0.1}
        assert (told.info.status, told.data.metrics, told.data.tags["chosen"]) == ("FINISHED", figures, "xgboost")
        assert told.inputs.dataset_inputs
        assert found.info.end_time - found.info.start_time == 90_000
        model = client.get_logged_model(found.outputs.model_outputs[0].model_id)
        assert {metric.key: metric.value for metric in model.metrics} == figures


def test_the_alias_moves_to_the_right_candidate_not_to_the_newest(config: Config, tmp_path: Path) -> None:
    other = "logistic-full-2026-01-08"
    tracking.register(config, log(config, tmp_path / "a"), ID, "sha-1", "promote")
    tracking.register(config, log(config, tmp_path / "b", "sha-2", other), other, "sha-2", "promote")
    tracking.move_champion(config, ID)
    assert tracking.champion(config) == ID
    tracking.move_champion(config, other, "sha-2")
    assert tracking.champion(config) == other


def test_the_alias_can_be_taken_away_and_that_twice(config: Config, tmp_path: Path) -> None:
    """A first model that did not go live after all; without any model there is nothing to take away."""
    tracking.remove_champion(config)
    tracking.register(config, log(config, tmp_path / "a"), ID, "sha-1", "promote")
    tracking.move_champion(config, ID)
    for _ in range(2):
        tracking.remove_champion(config)
        assert tracking.champion(config) is None
    tracking.move_champion(config, ID)
    assert tracking.champion(config) == ID


def test_an_unregistered_candidate_cannot_become_champion(config: Config, tmp_path: Path) -> None:
    tracking.register(config, log(config, tmp_path / "a"), ID, "sha-1", "promote")
    with pytest.raises(Refused, match="found none"):
        tracking.move_champion(config, ID, "sha-other")


def test_the_experiment_is_created_once_by_many(config: Config, tmp_path: Path) -> None:
    """Two first trainings at once: one of them used to fail with RESOURCE_ALREADY_EXISTS."""
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda n: log(config, tmp_path / f"b{n}", sha=f"sha-{n}"), range(4)))
    assert len(set(runs)) == 4


def test_a_server_that_is_down_is_not_ready_and_quick(config: Config, tmp_path: Path) -> None:
    """MLflow's own patience is minutes; the orchestrator has that."""
    down = config.model_copy(update={"tracking": config.tracking.model_copy(update={"uri": "http://127.0.0.1:9"})})
    started = time.monotonic()
    with pytest.raises(NotReady, match=r"MLflow must answer at http://127\.0\.0\.1:9"):
        log(down, tmp_path / "bundle")
    assert time.monotonic() - started < 60


def test_what_mlflow_will_never_accept_is_a_setting(config: Config, tmp_path: Path) -> None:
    """Retrying an impossible name for hours helps nobody."""
    wrong = config.model_copy(update={"tracking": config.tracking.model_copy(update={"model": "no/slashes:allowed"})})
    with pytest.raises(Misconfigured, match="MLflow at"):
        tracking.register(wrong, log(config, tmp_path / "bundle"), ID, "sha-1", "hold")


def test_evidence_lands_in_the_challengers_run(config: Config, tmp_path: Path) -> None:
    run = log(config, tmp_path / "bundle")
    for text in ("old", "{}"):
        tracking.log_evidence(config, run, {"value.challenger": 0.2}, {"evidence.json": text})
    assert [(p.name, p.read_text()) for p in config.tracking.artifacts.rglob("evidence/*")] == [("evidence.json", "{}")]
    assert tracking.artifact_url(config, run, "evidence/evidence.html") is None  # nobody serves a bare database
