"""The first stage of a training: chosen by evidence, judged as served, kept by warm starts, the same to the byte."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.config import Config
from jobs.errors import Misconfigured
from jobs.lake.tables import TIME
from jobs.train import retrieval
from models.retrieval.interactions import Interactions
from models.settings import RetrievalSettings
from tests.jobs.small_lake import World, a_run, items, publish, settings
from tests.models.retrieval.worlds import GROUPS, grouped

QUICK = RetrievalSettings(
    kinds=("item_cf", "ials", "content"), k=10, item_cf={"shrinkage": 1},
    ials={"dimensions": 8, "unobserved": 0.1, "l2": 0.01}, content={"dimensions": 4},
)  # fmt: skip
REMOVED = {5, 9}
DAY_US = 86_400_000_000


@pytest.fixture
def config(tmp_path: Path, tmp_path_factory: Any) -> Config:
    return settings(tmp_path, tmp_path_factory.getbasetemp()).model_copy(update={"retrieval": QUICK})


def clicks(data: Interactions, cut: float = 8.0) -> pa.Table:
    """As `clicks_of` gives them: days before the cut are train, the rest validate."""
    when = (data.time * DAY_US).astype(np.int64)
    return pa.table(
        {
            "split": np.where(data.time < cut, "train", "validate").tolist(),
            "user_id": [f"u{user:03d}" for user in data.user],
            "item_id": [f"i{item:06d}" for item in data.item],
            "event_time": pa.array(when, pa.int64()).cast(TIME),
        }
    )


def catalogue(config: Config, data: Interactions, vectors: dict[int, list[float]] | None = None) -> None:
    rows = items(World()).slice(0, 0)
    words = [
        {
            **{"item_id": f"i{n:06d}", "title": text, "attributes": [], "removed": n in REMOVED or None},
            "feature_vector": (vectors or {}).get(n),
        }
        for n, text in enumerate(data.text)
    ]
    publish(config, "items", pa.Table.from_pylist(words, rows.schema), day="2026-01-06")


def fitted(config: Config, data: Interactions) -> retrieval.Trained:
    catalogue(config, data)
    return retrieval.fitted(a_run("train", config), clicks(data))


def test_the_best_by_evidence_retrieves_and_says_by_how_much(config: Config) -> None:
    """Groups with items of their own: who knows neighbours beats popularity for sure, and every figure is told."""
    found = fitted(config, grouped(users=400))
    assert found.stage is not None
    chosen = found.lineage["chosen"]
    assert found.stage.kind == chosen != "popularity"
    assert set(found.figures) == {"popularity", "item_cf", "ials", "content"}
    best = found.figures[chosen]
    assert best["gain_low"] is not None
    assert best["gain_low"] > 0
    assert best["recall"] - found.figures["popularity"]["recall"] == pytest.approx(best["gain"])  # type: ignore[operator]
    assert found.metrics["retrieval.recall"] == best["recall"]
    assert f"{chosen} {best['gain']:+.4f}" in found.lineage["why"]
    assert found.stage.removed == {f"i{n:06d}" for n in REMOVED}
    assert not found.stage.removed & set(found.stage.search(["i000001"]).items), "removed before it was trained"
    own = found.stage.search(["i000000", "i000004"])
    assert (own.by, {int(item[1:]) % GROUPS for item in own.items[:5]}) == (chosen, {0})


def test_without_neighbourhoods_popularity_stands(config: Config) -> None:
    """Users who take up anything: no retriever is better for sure, and none is served."""
    found = fitted(config, grouped(users=300, stray=1.0))
    assert found.lineage["chosen"] == "popularity"
    assert found.stage is not None
    assert found.stage.kind == "popularity"
    assert all(of.get("gain_low", -1) <= 0 for of in found.figures.values())  # type: ignore[operator]


def test_nobody_held_out_is_no_evidence(config: Config) -> None:
    """No click on the validation day: popularity, and it is said why."""
    data = grouped()
    found = fitted(config, data.at(data.time < 8))
    assert found.lineage["chosen"] == "popularity"
    assert "no validation figures" in found.lineage["why"]
    assert found.metrics == {}


def test_the_same_clicks_in_any_order_give_the_same_stage(config: Config) -> None:
    """Rows come as files happen to lie."""
    data = grouped()
    catalogue(config, data)
    even = Interactions(data.user, data.item, np.floor(data.time), data.weight, data.users, data.items, data.text)
    first, second = (
        retrieval.fitted(a_run("train", config), clicks(even.at(order)))
        for order in (np.arange(len(data.user)), np.random.default_rng(1).permutation(len(data.user)))
    )
    assert first.stage is not None
    assert second.stage is not None
    assert first.stage.to_files() == second.stage.to_files()
    assert first.report == second.report


def test_given_vectors_of_the_catalogue_are_content(config: Config) -> None:
    """Of the length that most have, and finite; another model's are not compared to them."""
    ids = [f"i{n}" for n in range(7)]
    given = [[1, 2], None, [3, 4], [5.0], [float("nan"), 1], [None, 1], []]
    rows = pa.table({"item_id": ids, "feature_vector": pa.array(given, pa.list_(pa.float64()))})
    assert (
        retrieval._vectors(rows, ["i2", "i0", "i6", "i3", "i4", "i5", "x"]).tolist() == [[3, 4], [1, 2]] + [[0, 0]] * 5
    )
    assert retrieval._vectors(rows.slice(1, 1), ids).shape == (7, 0)
    data = grouped(users=100)
    catalogue(
        config,
        replace(data, text=("",) * data.items),
        {n: [float(n % GROUPS == g) for g in range(GROUPS)] for n in range(data.items)},
    )
    stage = retrieval.fitted(a_run("train", config), clicks(data)).stage
    assert stage is not None
    assert "content" in stage.canary_recalls


def test_settings_of_an_index_that_cannot_be_are_misconfigured(config: Config) -> None:
    """Trained lists need vectors; a retry cannot help."""
    lists = config.retrieval.model_copy(update={"index": config.retrieval.index.model_copy(update={"kind": "ivf"})})
    with pytest.raises(Misconfigured, match=r"retrieval\.index\.\*"):
        fitted(config.model_copy(update={"retrieval": lists}), grouped(users=400))


def test_without_a_known_user_there_is_no_retriever(config: Config) -> None:
    none = clicks(grouped()).slice(0, 0)
    assert retrieval.first_stage(a_run("train", config), none, {}).stage is None
