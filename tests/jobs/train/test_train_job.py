"""`train` on a small lake: same inputs, same bytes; no half candidates; warm starts continue the champion."""

import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs import bundle, tracking
from jobs.config import Config
from jobs.errors import Misconfigured, NotReady, Refused
from jobs.lake.store import Lake
from jobs.train import core, job
from models.rankers import served
from models.settings import DelaySettings
from tests.jobs.kept_lake import Kept
from tests.jobs.small_candidates import live, publish_ledger
from tests.jobs.small_lake import DAY, World, a_run, publish_all, settings

QUICK = {"ranker__logistic__steps": "5", "ranker__xgboost__rounds": "8"}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    home, session = tmp_path_factory.mktemp("published"), tmp_path_factory.getbasetemp()
    return Kept.of(home, session, lambda made: publish_all(made, World(), n=100), **QUICK)


@pytest.fixture
def config(kept: Kept, tmp_path: Path) -> Config:
    return kept.again(tmp_path)


def candidates(config: Config, mode: str = "full", day: date = DAY) -> list[dict[str, Any]]:
    return Lake(config.lake.root).read("candidates", [day], where={"mode": mode}).to_pylist()


def test_a_graph_that_differs_from_its_ranker_leaves_no_candidate(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What serves would be another model than the one that was trained and chosen."""
    monkeypatch.setattr(served, "CLOSE", -1.0)
    with pytest.raises(Refused, match="a bundle must score as what was trained: the graph of logistic"):
        job.run(a_run("train", config))
    assert not list(config.bundles.rglob("manifest.json"))
    with pytest.raises(NotReady):
        candidates(config)


def test_full_training_is_the_same_to_the_byte(config: Config, tmp_path: Path, tmp_path_factory: Any) -> None:
    """At another place, under another gate and other alarms the same bundles; at the same place the very same rows."""
    report = job.run(a_run("train", config))
    first = candidates(config)
    assert {row["ranker"] for row in first} == {"popularity", "logistic", "xgboost", "mmoe"}
    assert [row["candidate_id"] for row in first if row["chosen"]] == [report["chosen"]]
    measured = {row["ranker"]: (row["validation_log_loss"], row["validation_auc"]) for row in first}
    assert {k: (v["log_loss"], v["auc"]) for k, v in report["validation"].items()} == measured
    assert all(0.5 < v["ndcg_at_10"] < 1 for v in report["validation"].values())
    references = {row["ranker"]: bundle.load(Path(row["bundle"])).reference for row in first}
    assert {"position", "surface", "clicked", "p_click"} <= references["logistic"].columns.keys()
    assert "position" not in references["popularity"].columns
    job.run(a_run("train", config))
    assert candidates(config) == first
    elsewhere = {
        "monitoring__max_skew": "0.5",
        "gate__expected_looks": "3",
        "spark__partitions": "3",
        "features__redis_url": "redis:1",
        "dataset__retrieval__seed": "9",
    }
    other = settings(tmp_path / "two", tmp_path_factory.getbasetemp(), **QUICK, **elsewhere)
    publish_all(other, World(), n=100)
    job.run(a_run("train", other))
    assert [row["bundle_sha256"] for row in candidates(other)] == [row["bundle_sha256"] for row in first]
    for row in first:
        found = bundle.load(Path(row["bundle"]), row["bundle_sha256"])
        assert found.fallback.kind == "popularity"
        assert found.retrieval is not None
        assert found.retrieval.kind == report["retrieval"]["chosen"]
        told = found.manifest["lineage"]["columns"]
        assert ("user_item_interest" in told) == (row["ranker"] != "popularity"), "what its bytes depend on"
        assert ("last_items" in told) == (row["ranker"] == "mmoe"), "the others do not look at them"
        assert found.manifest["lineage"]["surfaces"] == ["home"], "what the endpoint answers for"


def test_trainings_compare_in_one_table(config: Config) -> None:
    """A full training and a warm start: a run each, below it one per ranker, and no figure that some lack.

    What dropping experts costs stands in the run and the lineage of the network alone.
    """
    mmoe = config.ranker.mmoe.model_copy(update={"prune_below": 0.99})
    config = config.model_copy(update={"ranker": config.ranker.model_copy(update={"mmoe": mmoe})})
    job.run(a_run("train", config))
    publish_all(config, World(), day=DAY + timedelta(days=1), mode="warm", n=100)
    report = job.run(a_run("train", config, day=DAY + timedelta(days=1), mode="warm"))
    with tracking._reached(config) as client:
        [experiment] = [e for e in client.search_experiments() if e.name == config.tracking.experiment]
        runs = client.search_runs([experiment.experiment_id])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    parents = {run.info.run_id: run for run in runs if run not in children}
    assert sorted(run.data.tags["training"] for run in parents.values()) == ["full-2026-01-08", "warm-2026-01-09"]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == set(parents)
    of_some = ("curve.", "pruning.", "retrieval.")
    figures = [{name for name in run.data.metrics if not name.startswith(of_some)} for run in runs]
    assert {"validation.log_loss", "chain.log_loss_minus_full", "train.rows"} <= figures[0]
    assert all(names == figures[0] for names in figures)
    by_steps = {run.data.tags["ranker"] for run in children if "curve.loss" in run.data.metrics}
    assert by_steps == {"xgboost", "mmoe"}
    told = {run.data.tags["ranker"] for run in children if "curve.validation_log_loss" in run.data.metrics}
    assert told == by_steps
    pruned = [bundle.load(Path(row["bundle"])).manifest["lineage"].get("pruning") for row in candidates(config)]
    [cost] = [of for of in pruned if of]
    assert 1 <= len(cost["kept"]) <= 2 < len(cost["usage"])
    of_experts = [run.data.metrics for run in children if "pruning.experts" in run.data.metrics]
    rise = cost["log_loss_after"]["click"] - cost["log_loss_before"]["click"]
    assert [(of["pruning.experts"], of["pruning.click_log_loss"]) for of in of_experts] == [(len(cost["kept"]), rise)]
    challenger = {parent.data.tags["challenger"] for parent in parents.values()}
    assert report["chosen"] in challenger
    assert all(run.inputs.dataset_inputs for run in children)


def test_the_settings_of_one_ranker_change_no_other(config: Config) -> None:
    """Somebody tunes the trees: what else is trained must stay the bundle that was judged."""
    job.run(a_run("train", config))
    before = {row["ranker"]: row["bundle_sha256"] for row in candidates(config)}
    trees = config.ranker.xgboost.model_copy(update={"depth": 3})
    tuned = config.model_copy(update={"ranker": config.ranker.model_copy(update={"xgboost": trees})})
    job.run(a_run("train", tuned))
    after = {row["ranker"]: row["bundle_sha256"] for row in candidates(config)}
    assert {kind for kind in before if after[kind] != before[kind]} == {"xgboost"}


def test_a_light_stage_is_of_the_same_training_and_is_off_by_default(config: Config) -> None:
    """A warm start fits its kind too; the lineage says what it learned from and by which settings."""
    job.run(a_run("train", config))
    assert all(bundle.load(Path(row["bundle"])).light is None for row in candidates(config))
    publish_all(config, World(), mode="warm", n=100)
    light = config.retrieval.light.model_copy(update={"ranker": "logistic", "keeps": 7})
    staged = config.model_copy(update={"retrieval": config.retrieval.model_copy(update={"light": light})})
    job.run(a_run("train", staged, mode="warm"))
    rows = candidates(config, "warm")
    assert {row["ranker"] for row in rows} == {"popularity", "logistic", "xgboost"}
    logistic = next(row for row in rows if row["ranker"] == "logistic")
    for row in rows:
        made = bundle.load(Path(row["bundle"]), row["bundle_sha256"])
        assert made.light is not None
        assert made.light.keeps == 7
        assert made.light.ranker.to_files() == bundle.load(Path(logistic["bundle"])).ranker.to_files()
        assert "logistic.l2" in made.manifest["lineage"]["settings"]
        assert "user_item_interest" in made.manifest["lineage"]["columns"]


def test_a_method_that_a_ranker_cannot_carry(config: Config, capsys: Any) -> None:
    """A full training goes on without it and says so; a warm start of it can fit nothing, and fails before it tries."""
    staged = config.model_copy(update={"delays": DelaySettings(conversion="hazards")})
    job.run(a_run("train", staged))
    assert {row["ranker"] for row in candidates(config)} == {"popularity", "logistic", "xgboost"}
    assert "not trained: mmoe, which has one label a click" in capsys.readouterr().err
    said = r"delays\.conversion = fake_negatives needs a ranker that takes several labels a click; found mmoe"
    with pytest.raises(Misconfigured, match=said):
        core.carried(["popularity", "mmoe"], DelaySettings(conversion="fake_negatives"), print)
    assert core.carried(["popularity", "mmoe"], DelaySettings(conversion="em"), print) == ["popularity", "mmoe"]


def test_settings_that_make_learning_diverge_are_misconfigured(config: Config) -> None:
    """A retry cannot help, and it is not the data's fault."""
    wild = config.ranker.mmoe.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(Misconfigured, match=r"ranker\.mmoe\.\* must let it learn"):
        job.run(a_run("train", config.model_copy(update={"ranker": config.ranker.model_copy(update={"mmoe": wild})})))


def test_a_dead_mlflow_leaves_no_half_candidate(config: Config) -> None:
    """The orchestrator retries; until then neither the table nor the bundles folder knows of it."""
    down = config.model_copy(update={"tracking": config.tracking.model_copy(update={"uri": "http://127.0.0.1:9"})})
    with pytest.raises(NotReady, match="MLflow must answer"):
        job.run(a_run("train", down))
    assert Lake(config.lake.root).version("candidates") is None
    assert [path.name for path in config.bundles.iterdir()] == [f".checkpoints-full-{DAY}"], (
        "what the retry begins with"
    )


def test_no_examples_yet_is_not_ready(config: Config) -> None:
    with pytest.raises(NotReady, match="2026-01-08"):
        job.run(a_run("train", config, mode="warm"))


def test_a_warm_start_without_a_champion_starts_afresh(config: Config) -> None:
    publish_all(config, World(), mode="warm", n=100)
    job.run(a_run("train", config, mode="warm"))
    rows = candidates(config, "warm")
    assert {row["ranker"]: row["started_from"] for row in rows} == {"popularity": None, "xgboost": None}


def test_a_warm_start_continues_the_deployed_champion(config: Config) -> None:
    """The one that serves, where it is the newest of its kind."""
    job.run(a_run("train", config))
    champion = next(row for row in candidates(config) if row["ranker"] == "xgboost")
    publish_ledger(config, live(champion))
    publish_all(config, World(), mode="warm", n=100)
    job.run(a_run("train", config, mode="warm"))
    rows = {row["ranker"]: row for row in candidates(config, "warm")}
    assert set(rows) == {"popularity", "xgboost"}
    assert rows["xgboost"]["started_from"] == champion["candidate_id"]
    assert rows["popularity"]["started_from"] == f"popularity-full-{DAY}"
    origin = bundle.load(Path(rows["xgboost"]["bundle"])).manifest["lineage"]["started_from"]
    assert origin == {"candidate_id": champion["candidate_id"], "sha256": champion["bundle_sha256"]}
    warm, full = (bundle.load(Path(row["bundle"])) for row in (rows["xgboost"], champion))
    assert warm.retrieval is not None
    assert full.retrieval is not None
    assert warm.retrieval.to_files() == full.retrieval.to_files(), "a few days make no retriever: the parent's is kept"
    assert warm.manifest["lineage"]["retrieval"]["taken_from"]["candidate_id"] in {
        row["started_from"] for row in rows.values()
    }
    # Again, after the warm candidate itself was deployed: it does not continue itself.
    again = live(rows["xgboost"], before=champion["candidate_id"])
    publish_ledger(config, live(champion), again)
    job.run(a_run("train", config, mode="warm"))
    assert {row["ranker"]: row for row in candidates(config, "warm")} == rows


def test_a_warm_start_continues_the_newest_of_its_kind_deployed_or_not(config: Config) -> None:
    """What was learned since the last deployment is kept, chosen or not; a bundle that is gone is passed over."""
    job.run(a_run("train", config))
    champion = next(row for row in candidates(config) if row["ranker"] == "xgboost")
    publish_ledger(config, live(champion))
    for day in (DAY + timedelta(days=1), DAY + timedelta(days=2)):
        publish_all(config, World(), day=day, mode="warm", n=100)
        job.run(a_run("train", config, mode="warm", day=day))
    rows = {row["ranker"]: row for row in candidates(config, "warm", DAY + timedelta(days=2))}
    yesterday = {kind: f"{kind}-warm-{DAY + timedelta(days=1)}" for kind in ("popularity", "xgboost")}
    assert {kind: row["started_from"] for kind, row in rows.items()} == yesterday
    made = bundle.load(Path(rows["xgboost"]["bundle"]))
    origin = bundle.load(config.bundles / yesterday["xgboost"])
    assert made.manifest["lineage"]["started_from"]["sha256"] == origin.sha256
    assert made.learned_until >= origin.learned_until > bundle.load(Path(champion["bundle"])).learned_until
    shutil.rmtree(config.bundles / yesterday["xgboost"])
    job.run(a_run("train", config, mode="warm", day=DAY + timedelta(days=2)))
    rows = {row["ranker"]: row for row in candidates(config, "warm", DAY + timedelta(days=2))}
    assert rows["xgboost"]["started_from"] == champion["candidate_id"]
    assert rows["popularity"]["started_from"] == yesterday["popularity"]


def test_a_warm_start_of_an_older_day_continues_what_had_learnt_no_later_days(config: Config) -> None:
    """A backfill, or a cleared task: the champion knows the test day already, so what served before it is continued."""
    job.run(a_run("train", config))
    earlier = next(row for row in candidates(config) if row["ranker"] == "xgboost")
    later = {**earlier, "candidate_id": "xgboost-warm-2026-01-09", "bundle_sha256": "0" * 64, "mode": "warm"}
    publish_ledger(config, live(earlier), live(later, day="2026-01-09", before=earlier["candidate_id"]))
    publish_all(config, World(), mode="warm", n=100)
    job.run(a_run("train", config, mode="warm"))
    started = {row["started_from"] for row in candidates(config, "warm")}
    assert started == {earlier["candidate_id"], f"popularity-full-{DAY}"}


def test_a_tampered_champion_is_not_continued(config: Config) -> None:
    job.run(a_run("train", config))
    champion = next(row for row in candidates(config) if row["ranker"] == "xgboost")
    publish_ledger(config, live({**champion, "bundle_sha256": "0" * 64}, day="2026-01-07"))
    publish_all(config, World(), mode="warm", n=100)
    with pytest.raises(Refused, match="must be the one that was judged"):
        job.run(a_run("train", config, mode="warm"))


def test_a_deployed_bundle_is_never_replaced_by_another(config: Config) -> None:
    """The data changed after deployment: training again under the same name would change what serves."""
    job.run(a_run("train", config))
    before = candidates(config)
    publish_ledger(config, live(next(row for row in before if row["chosen"])))
    job.run(a_run("train", config))  # the same data: fine
    publish_all(config, World(seed=1), n=100)
    with pytest.raises(Refused, match="train a later day"):
        job.run(a_run("train", config))
    assert candidates(config) == before
    for row in before:
        bundle.load(Path(row["bundle"]), row["bundle_sha256"])
