"""Trees that Spark grows are those of one process, but for rounding: from scratch, stopped early, and continued."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs import bundle
from jobs.config import Config
from jobs.lake.store import Lake
from jobs.train import job
from tests.jobs.small_lake import DAY, World, a_run, publish_all, settings

NEXT = DAY + timedelta(days=1)
FEW = {"ranker__kinds": '["xgboost"]', "ranker__xgboost__rounds": "12", "ranker__xgboost__stop_after": "3"}


def trained(config: Config) -> dict[str, dict[str, Any]]:
    """The candidate of trees by mode: a full training, and a warm start the day after."""
    publish_all(config, World(), n=200)
    job.run(a_run("train", config))
    publish_all(config, World(), day=NEXT, mode="warm", n=200)
    job.run(a_run("train", config, day=NEXT, mode="warm"))
    rows = Lake(config.lake.root).read("candidates").to_pylist()
    return {row["mode"]: row for row in rows if row["ranker"] == "xgboost"}


def trees(row: dict[str, Any]) -> int:
    ranker: Any = bundle.load(Path(row["bundle"]), row["bundle_sha256"]).ranker
    return int(getattr(ranker, "ranker", ranker)._click.num_boosted_rounds())


@pytest.mark.spark
def test_spark_grows_the_trees_that_one_process_does(tmp_path: Path, tmp_path_factory: Any, capsys: Any) -> None:
    session = tmp_path_factory.getbasetemp()
    here = trained(settings(tmp_path / "here", session, **FEW))
    assert "Spark grows trees" not in capsys.readouterr().err
    there = settings(tmp_path / "there", session, **FEW, spark__from_rows="0")
    found = trained(there)
    assert capsys.readouterr().err.count("Spark grows trees") == 2
    for mode in ("full", "warm"):
        for figure in ("validation_auc", "validation_log_loss"):
            assert found[mode][figure] == pytest.approx(here[mode][figure], abs=0.005)
        assert found[mode]["validation_auc"] > 0.6
        assert abs(trees(found[mode]) - trees(here[mode])) <= 3
    assert found["warm"]["started_from"] == found["full"]["candidate_id"]
    assert trees(found["full"]) < 12, "the held-out rows told when to stop"
    assert not list((there.lake.root / "candidates" / "parts").glob("*/rows.parquet"))
