"""`train` on a small lake: same inputs, same bytes; no half candidates; warm starts continue the champion."""

from pathlib import Path
from typing import Any

import pytest

from jobs import bundle
from jobs.config import Config
from jobs.errors import NotReady, Refused
from jobs.lake.run import now
from jobs.lake.store import Lake
from jobs.lake.tables import LAKE
from jobs.train import job
from tests.jobs.small_lake import DAY, World, a_run, publish, publish_all, settings

QUICK = {"ranker__logistic_steps": "5", "ranker__xgboost_rounds": "8"}


@pytest.fixture
def config(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    made = settings(tmp_path / "one", tmp_path_factory.getbasetemp(), **QUICK)
    publish_all(made, World(), n=100)
    return made


def candidates(config: Config, mode: str = "full") -> list[dict[str, Any]]:
    return Lake(config.lake.root).read("candidates", [DAY], where={"mode": mode}).to_pylist()


def deploy(config: Config, row: dict[str, Any], day: str, mode: str = "full") -> None:
    """What `deploy` leaves in the ledger."""
    import pyarrow as pa

    entry = {
        **{name: row[name] for name in ("candidate_id", "bundle", "bundle_sha256")},
        **{"champion_id": "x", "evidence_sha256": "x", "verdict": "promote", "reasons": []},
        **{"decided_at": now(), "approved_by": "me", "approved_at": now(), "endpoint": "e", "deployed_at": now()},
    }
    publish(config, "promotions", pa.Table.from_pylist([entry], LAKE["promotions"].schema), day=day, mode=mode)


def test_full_training_is_the_same_to_the_byte(config: Config, tmp_path: Path, tmp_path_factory: Any) -> None:
    """At another place the same bundles; at the same place the very same rows, MLflow runs included."""
    report = job.run(a_run("train", config))
    first = candidates(config)
    assert {row["ranker"] for row in first} == {"popularity", "logistic", "xgboost"}
    assert [row["candidate_id"] for row in first if row["chosen"]] == [report["chosen"]]
    measured = {row["ranker"]: (row["validation_log_loss"], row["validation_auc"]) for row in first}
    assert {k: (v["log_loss"], v["auc"]) for k, v in report["validation"].items()} == measured
    assert all(0.5 < v["ndcg_at_10"] < 1 for v in report["validation"].values())
    job.run(a_run("train", config))
    assert candidates(config) == first
    other = settings(tmp_path / "two", tmp_path_factory.getbasetemp(), **QUICK)
    publish_all(other, World(), n=100)
    job.run(a_run("train", other))
    assert [row["bundle_sha256"] for row in candidates(other)] == [row["bundle_sha256"] for row in first]
    for row in first:
        found = bundle.load(Path(row["bundle"]), row["bundle_sha256"])
        assert found.fallback.kind == "popularity"
        assert found.index is not None
        assert "user_item_interest" in found.manifest["lineage"]["columns"]


def test_a_dead_mlflow_leaves_no_half_candidate(config: Config) -> None:
    """The orchestrator retries; until then neither the table nor the bundles folder knows of it."""
    down = config.model_copy(update={"tracking": config.tracking.model_copy(update={"uri": "http://127.0.0.1:9"})})
    with pytest.raises(NotReady, match="MLflow must answer"):
        job.run(a_run("train", down))
    assert Lake(config.lake.root).version("candidates") is None
    assert list(config.bundles.iterdir()) == []


def test_no_examples_yet_is_not_ready(config: Config) -> None:
    with pytest.raises(NotReady, match="2026-01-08"):
        job.run(a_run("train", config, mode="warm"))


def test_a_warm_start_without_a_champion_starts_afresh(config: Config) -> None:
    publish_all(config, World(), mode="warm", n=100)
    job.run(a_run("train", config, mode="warm"))
    rows = candidates(config, "warm")
    assert {row["ranker"]: row["started_from"] for row in rows} == {"popularity": None, "xgboost": None}


def test_a_warm_start_continues_the_deployed_champion(config: Config) -> None:
    """Not the newest candidate and not the best one: the one that serves."""
    job.run(a_run("train", config))
    champion = next(row for row in candidates(config) if row["ranker"] == "xgboost")
    deploy(config, champion, "2026-01-08")
    publish_all(config, World(), mode="warm", n=100)
    job.run(a_run("train", config, mode="warm"))
    rows = {row["ranker"]: row for row in candidates(config, "warm")}
    assert set(rows) == {"popularity", "xgboost"}
    assert rows["xgboost"]["started_from"] == rows["popularity"]["started_from"] == champion["candidate_id"]
    origin = bundle.load(Path(rows["xgboost"]["bundle"])).manifest["lineage"]["started_from"]
    assert origin == {"candidate_id": champion["candidate_id"], "sha256": champion["bundle_sha256"]}
    # Again, after the warm candidate itself was deployed: it does not continue itself.
    deploy(config, rows["xgboost"], "2026-01-08", "warm")
    job.run(a_run("train", config, mode="warm"))
    assert {row["ranker"]: row for row in candidates(config, "warm")} == rows


def test_a_tampered_champion_is_not_continued(config: Config) -> None:
    job.run(a_run("train", config))
    champion = next(row for row in candidates(config) if row["ranker"] == "xgboost")
    deploy(config, {**champion, "bundle_sha256": "0" * 64}, "2026-01-07")
    publish_all(config, World(), mode="warm", n=100)
    with pytest.raises(Refused, match="must be the one that was judged"):
        job.run(a_run("train", config, mode="warm"))


def test_a_deployed_bundle_is_never_replaced_by_another(config: Config) -> None:
    """The data changed after deployment: training again under the same name would change what serves."""
    job.run(a_run("train", config))
    before = candidates(config)
    deploy(config, next(row for row in before if row["chosen"]), "2026-01-08")
    job.run(a_run("train", config))  # the same data: fine
    publish_all(config, World(seed=1), n=100)
    with pytest.raises(Refused, match="train a later day"):
        job.run(a_run("train", config))
    assert candidates(config) == before
    for row in before:
        bundle.load(Path(row["bundle"]), row["bundle_sha256"])
