"""The rankers in the simulated world, whose truth is known: what they promise is what comes, full and warm alike."""

import importlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from jobs import bundle
from jobs.config import Config
from jobs.flow import STAGES
from jobs.lake.run import Run
from jobs.lake.store import Lake, midnight
from jobs.moment.columns import ranker_columns, strings
from jobs.sources.world.truth import Probabilities, true_probabilities
from jobs.train import core
from models.rankers import fit
from models.rankers.protocol import Scorer
from models.settings import RankerSettings
from tests.jobs.small_lake import settings

WORLD = {
    "source__name": "simulated",
    "world__days": "20",
    "world__users": "1500",
    "world__items": "200",
    "world__requests_per_day": "2500",
    "world__base_click_logit": "-1",
    "world__purchase_rate": "0.3",
    "attribution__window_days": "3",
    "features__long_term_days": "6",
    "features__online": "false",
    "dataset__train_days": "12",
    "dataset__warm_train_days": "3",
    "ranker__xgboost__rounds": "60",
    "ranker__xgboost__warm_rounds": "10",
}
"""Nine days of closed conversions, 3,100 of 14,000 clicks: a standard error of 1.6 %. Features look back six days only:
purchases lag behind clicks when the world begins, and an item's purchase rate of a month would grow all the while."""
Trained = tuple[dict[str, Scorer], dict[str, np.ndarray], Probabilities]
"""Rankers, the columns of the test rows as shown, and what is true of these."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """By mode: the full training of a day, and the warm start of the next, which continues each of its rankers."""
    config = settings(tmp_path_factory.mktemp("world"), tmp_path_factory.getbasetemp(), **WORLD)
    first = config.world.first_day
    day = first + timedelta(days=18)
    for stage in ("ingest", "validate", "attribute", "featurize"):
        run(stage, config, day + timedelta(days=1), since=first)
    run("assemble", config, day)
    run("train", config, day)
    run("assemble", config, day + timedelta(days=1), mode="warm")
    rows = Lake(config.lake.root).read("candidates", [day]).to_pylist()
    bundles = {row["ranker"]: bundle.load(Path(row["bundle"]), row["bundle_sha256"]) for row in rows}
    full = {kind: found.ranker for kind, found in bundles.items()}
    examples, cut = Lake(config.lake.root).read("examples", where={"mode": "warm"}), midnight(day + timedelta(days=2))
    before = bundles["xgboost"].delays
    folds = core.folds([examples], cut, config.attribution, config.delays, before)
    assert np.isnan(folds.train.converted).all(), "of the days of a warm start no conversion is closed"
    assert folds.train.conversion is not None, "and yet they teach"
    warm = {kind: fit(kind, folds.train, config.ranker, full[kind]) for kind in full}
    return {mode: (rankers, *held_out(config, mode)) for mode, rankers in (("full", full), ("warm", warm))}


def run(stage: str, config: Config, day: Any, **more: Any) -> None:
    importlib.import_module(STAGES[stage].module).run(Run(STAGES[stage], config, day, **{"mode": "full"} | more))


def held_out(config: Config, mode: str) -> tuple[dict[str, np.ndarray], Probabilities]:
    examples = Lake(config.lake.root).read("examples", where={"mode": mode})
    rows = examples.filter(pc.equal(examples["split"], "test"))
    user, item, surface = (strings(rows[name]) for name in ("user_id", "item_id", "surface"))
    day = rows["event_time"][0].as_py().date()
    truth = true_probabilities(config, day, user, item, surface, rows["position"].to_numpy())
    assert truth is not None
    return ranker_columns(rows), truth


@pytest.mark.parametrize("kind", RankerSettings().kinds)
@pytest.mark.parametrize("mode", ["full", "warm"])
def test_mean_probabilities_are_true(trained: dict[str, Trained], mode: str, kind: str) -> None:
    """Training on early conversions promised four times those that come, and a warm start sixteen a click."""
    rankers, columns, truth = trained[mode]
    found = rankers[kind].predict(columns)
    assert found.p_click.mean() == pytest.approx(truth.click.mean(), rel=0.05)
    assert found.p_conversion.mean() == pytest.approx(truth.conversion.mean(), rel=0.05)
