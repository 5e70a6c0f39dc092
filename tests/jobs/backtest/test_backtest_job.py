"""`backtest`: both sides on the same rows, honest refusals, a truth the gate never sees."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.backtest import job
from jobs.config import Config
from jobs.errors import NotReady, Refused
from jobs.evidence import pack
from jobs.lake.store import Lake
from jobs.lake.tables import LAKE
from models.policies.choice import first_choice
from tests.jobs.evidence.evidence_documents import seen_by_the_gate
from tests.jobs.small_candidates import linear, live, popularity, publish_candidates, publish_ledger
from tests.jobs.small_lake import DAY, TEST_DAY, World, a_run, publish, publish_all, settings


@pytest.fixture
def config(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    made = settings(tmp_path, tmp_path_factory.getbasetemp(), gate__bootstrap_replicates="50")
    publish_all(made, World(), n=150)
    return made


def document(config: Config, mode: str = "full") -> dict[str, Any]:
    """The one published, which is of the schema whatever the data was."""
    row = Lake(config.lake.root).read("evidence", [DAY], where={"mode": mode}).to_pylist()[0]
    assert pack.text(pack.parsed(row["document"], "test")) == row["document"]
    return dict(json.loads(row["document"]))


RANKERS = {"popularity": popularity(), "logistic": linear(1.0)}


def test_popularity_stands_in_where_nobody_was_ever_deployed(config: Config) -> None:
    publish_candidates(config, RANKERS, "logistic")
    report = job.run(a_run("backtest", config))
    found = document(config)
    assert report["champion"] == found["champion"]["candidate_id"] == "popularity-full-2026-01-08"
    assert not found["champion"]["deployed"]
    assert found["challenger"]["candidate_id"] == "logistic-full-2026-01-08"
    assert (found["diagnostics"]["skew"], found["diagnostics"]["differing_columns"]) == (
        0.0,
        {},
    )  # replay and examples agree on every column
    for metric in ("auc", "ndcg_at_10"):
        assert found["comparison"][metric]["difference"]["low"] > 0  # it knows what users like
    assert found["value"]["difference"]["low"] > 0
    folder = config.bundles / "logistic-full-2026-01-08.evidence"
    assert sorted(path.name for path in folder.iterdir()) == ["evidence.html", "evidence.json"]
    assert json.loads((folder / "evidence.json").read_text()) == found
    assert "Not judged yet" in (folder / "evidence.html").read_text()


def test_the_same_evidence_twice(config: Config) -> None:
    """The approval hangs on the document's sha: a rerun must not ask again."""
    publish_candidates(config, RANKERS, "logistic")
    job.run(a_run("backtest", config))
    first = document(config)
    job.run(a_run("backtest", config))
    assert document(config) == first


def test_the_estimate_is_near_the_truth_of_the_world_that_made_the_logs(config: Config) -> None:
    """SNIPS of both policies covers their exact value, computed here from the world's own click probabilities."""
    publish_candidates(config, RANKERS, "logistic")
    job.run(a_run("backtest", config))
    world, found = World(), document(config)
    drawn = world.requests(TEST_DAY, 300)
    user, candidates = drawn["user"], drawn["candidates"]
    truth = world.p_click(user[:, None], candidates, np.ones_like(candidates))
    interest = np.where(world.taste[user][:, None] == world.category[candidates], 3.0, 1.0)
    scores = {"challenger": 1 / (1 + np.exp(3.2 - interest)), "champion": np.full(candidates.shape, 0.2)}
    offsets = np.arange(0, candidates.size + 1, candidates.shape[1])
    for side, score in scores.items():
        chosen = first_choice(score.ravel(), offsets, config.policy)
        exact = float((chosen * truth.ravel()).sum() / len(user))
        estimate = found["value"][side]
        assert abs(estimate["value"] - exact) < 4 * estimate["stderr"], side


def test_the_opponent_is_what_serves_whatever_its_day(config: Config) -> None:
    """A later day's model was live and is no more, an older day's serves: the reader of a backfill sees it, too."""
    older = publish_candidates(
        config, {"popularity": popularity(), "logistic": linear(0.5)}, "logistic", day="2026-01-05"
    )[1] | {"day": "2026-01-05"}
    later = publish_candidates(
        config, {"popularity": popularity(), "logistic": linear(0.2)}, "logistic", day="2026-01-11"
    )[1] | {"day": "2026-01-11"}
    publish_candidates(config, RANKERS, "logistic")
    first = live(later)
    for steps, champion in (
        ([first], later),
        ([first, live(older, before=later["candidate_id"])], older),
        ([live(older), live(later, before=older["candidate_id"])], later),
    ):
        publish_ledger(config, *steps)
        job.run(a_run("backtest", config))
        assert document(config)["champion"]["candidate_id"] == champion["candidate_id"]
        assert document(config)["champion"]["deployed"]


def test_a_challenger_that_serves_is_compared_with_what_it_replaced(config: Config) -> None:
    """Judged again it is not its own champion, nor is that a model that was rolled back before it went live."""
    days = ("2026-01-05", "2026-01-06")
    earlier, gone = (
        publish_candidates(config, {"popularity": popularity(), "logistic": linear(x)}, "logistic", day=day)[1]
        for x, day in zip((0.5, 0.2), days, strict=True)
    )
    own = publish_candidates(config, RANKERS, "logistic")[1]
    publish_ledger(
        config,
        live(earlier),
        live(gone, before=earlier["candidate_id"]),
        live(gone, step="rolled back"),
        live(earlier),
        live(own, before=earlier["candidate_id"]),
    )
    job.run(a_run("backtest", config))
    assert document(config)["champion"]["candidate_id"] == earlier["candidate_id"]


def test_without_propensities_the_value_is_refused_and_the_rest_goes_on(config: Config) -> None:
    """A source like KuaiRand: no propensity was ever logged, and none is invented."""
    rows = Lake(config.lake.root).read("examples", [DAY]).drop_columns(["day", "mode"])
    none = pa.nulls(len(rows), pa.float64())
    publish(
        config,
        "examples",
        rows.set_column(rows.column_names.index("propensity"), "propensity", none),
        day=str(DAY),
        mode="full",
    )
    publish_candidates(config, RANKERS, "logistic")
    job.run(a_run("backtest", config))
    found = document(config)
    for side in ("champion", "challenger", "difference"):
        assert "300 no propensity" in found["value"][side]["refused"]
    assert "value" in found["comparison"]["auc"]["difference"]
    assert "truth" not in found


@pytest.mark.parametrize("published", [True, False])
def test_without_requests_the_value_is_refused(config: Config, published: bool) -> None:
    """An empty day of requests, or a source that has no such table at all."""
    publish(config, "requests", LAKE["requests"].schema.empty_table(), day=str(TEST_DAY if published else DAY))
    if not published:
        import shutil

        shutil.rmtree(config.lake.root / "requests")
    publish_candidates(config, RANKERS, "logistic")
    job.run(a_run("backtest", config))
    assert "300 no candidates" in document(config)["value"]["difference"]["refused"]


def test_a_tampered_challenger_is_refused(config: Config) -> None:
    publish_candidates(config, RANKERS, "logistic")
    file = config.bundles / "logistic-full-2026-01-08" / "ranker" / "logistic.json"
    file.write_text(file.read_text().replace("1.0", "2.0"))
    with pytest.raises(Refused, match="unchanged"):
        job.run(a_run("backtest", config))
    assert Lake(config.lake.root).version("evidence") is None


def test_without_a_challenger_there_is_nothing_to_do(config: Config) -> None:
    """A day on which nobody was trained, as most are of full trainings: no red task, no evidence, no look.

    With a dataset of the mode somebody is still to be trained, and that is waited for.
    """
    assert job.run(a_run("backtest", config, mode="warm")) == {"challenger": None}
    with pytest.raises(NotReady, match="needs one of 2026-01-08, full, or one that stands; found none: run train"):
        job.run(a_run("backtest", config))
    for table in ("evidence", "looks"):
        assert Lake(config.lake.root).version(table) is None


def test_the_gate_never_sees_the_truth(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The simulated world's truth is in the document for people; its mere presence must change no verdict."""
    made = settings(
        tmp_path,
        tmp_path_factory.getbasetemp(),
        source__name="simulated",
        gate__bootstrap_replicates="50",
        world__first_day="2026-01-01",
    )
    publish_all(made, World(), n=60)
    publish_candidates(made, RANKERS, "logistic")
    job.run(a_run("backtest", made))
    found = document(made)
    assert set(found["truth"]) == {"champion", "challenger", "difference", "logging", "p_click", "p_conversion"}
    assert 0 < found["truth"]["logging"] < 1
    assert 0 < found["truth"]["p_conversion"] < found["truth"]["p_click"] < 1
    without = {key: value for key, value in found.items() if key != "truth"}
    assert seen_by_the_gate(found) == seen_by_the_gate(without)
    assert str(found["truth"]["challenger"]) not in repr(seen_by_the_gate(found))


def test_logs_of_another_world_are_judged_without_a_truth(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Settings of the world were changed after its logs were made: no reason to judge nothing."""
    made = settings(
        tmp_path,
        tmp_path_factory.getbasetemp(),
        source__name="simulated",
        gate__bootstrap_replicates="50",
        world__users="50",
    )
    publish_all(made, World(), n=60)
    publish_candidates(made, RANKERS, "logistic")
    job.run(a_run("backtest", made))
    assert "truth" not in document(made)


def test_both_sides_tell_what_they_predict_of_clicks_and_conversions(config: Config) -> None:
    """Mean probabilities of the rows as shown, to be held against what is true or what comes."""
    publish_candidates(config, RANKERS, "logistic")
    job.run(a_run("backtest", config))
    found = document(config)["calibration"]
    assert found["challenger"]["predicted_conversion"] == pytest.approx(0.1 * found["challenger"]["predicted"])
    assert found["champion"]["predicted_conversion"] == 0.0, "it never heard of a conversion"


@pytest.mark.parametrize("full", [True, False])
def test_a_warm_start_is_held_against_the_newest_full_training(config: Config, full: bool) -> None:
    """Not against the champion alone: warm starts drift from what a whole window of data would give."""
    rows = Lake(config.lake.root).read("examples", [DAY]).drop_columns(["day", "mode"])
    publish(config, "examples", rows, day=str(DAY), mode="warm")
    if full:
        publish_candidates(config, {"popularity": popularity(), "logistic": linear(0.2)}, "logistic", day="2026-01-05")
        publish_candidates(config, RANKERS, "logistic")
    publish_candidates(config, {"popularity": popularity(), "logistic": linear(0.2)}, "logistic", mode="warm")
    job.run(a_run("backtest", config, mode="warm"))
    found = document(config, "warm")["parity"]
    if full:
        assert found["low"] > 0  # it knows less than the full training of that very day
    else:
        assert "found none" in found["refused"]
