"""A value learned as its quantile within a group, in a world where most of it is how long the item is."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.policies.score import score
from models.rankers import heads
from models.rankers.heads import RUNGS, Ladder
from models.rankers.mmoe import MMoERanker
from models.rankers.protocol import Floats, FurtherOutcome, TrainingData
from models.settings import OutcomeSettings, PolicySettings
from tests.models.rankers.id_world import IdWorld
from tests.models.rankers.test_heads import SETTINGS

SECONDS = {"short": 10.0, "long": 100.0}
BY = "attributes.item.duration"
DEBIASED = OutcomeSettings(kind="value", unit="seconds", quantiles_by="item.duration")
PLAIN = OutcomeSettings(kind="value", unit="seconds")
N = 8_000


class Watched:
    """Items are short or long by a coin; people watch the share of them that they like, so long ones longer."""

    def __init__(self, seed: int, declared: OutcomeSettings = DEBIASED) -> None:
        world = IdWorld(users=200, items=100)
        drawn = world.rows(N, seed)
        rng = np.random.default_rng([seed, 2])
        item = np.array([int(name[1:]) for name in drawn.data.features["item_id"]])
        self.long = np.random.default_rng(5).random(100)[item] < 0.5
        duration = np.where(self.long, "long", "short").astype(object)
        self.liked = 1 / (1 + np.exp(-1.5 * world.buys[item]))
        watched = np.where(self.long, SECONDS["long"], SECONDS["short"]) * rng.beta(2 * self.liked, 2 - 2 * self.liked)
        features = {**drawn.data.features, BY: duration}
        self.watched: Floats = watched
        self.data: TrainingData = replace(
            drawn.data, features=features, outcomes={"watch": FurtherOutcome(declared, watched)}
        )


@pytest.fixture(scope="module")
def ranker() -> MMoERanker:
    return MMoERanker.fit(Watched(1).data, SETTINGS, 7)


@pytest.fixture(scope="module")
def later() -> Watched:
    return Watched(2)


def test_the_quantile_is_of_the_liking_not_of_the_length(ranker: MMoERanker, later: Watched) -> None:
    """Where the value itself says little more than how long an item is."""
    plain = MMoERanker.fit(Watched(1, PLAIN).data, SETTINGS, 7).predict(later.data.features)
    quantile = ranker.predict(later.data.features).quantiles["watch"]
    assert plain.quantiles == {"watch": None}
    assert quantile is not None
    assert ((quantile >= 0) & (quantile <= 1)).all()
    assert np.corrcoef(quantile, later.liked)[0, 1] > 0.8
    assert abs(np.corrcoef(quantile, later.long)[0, 1]) < 0.2
    assert np.corrcoef(plain.outcomes["watch"], later.long)[0, 1] > 0.7


def test_the_value_is_right_in_the_sum_and_in_each_group(ranker: MMoERanker, later: Watched) -> None:
    """Quantiles are told in seconds again: of rows nobody learned from."""
    said = ranker.predict(later.data.features).outcomes["watch"]
    assert said.mean() == pytest.approx(later.watched.mean(), rel=0.1)
    for rows in (later.long, ~later.long):
        assert said[rows].mean() == pytest.approx(later.watched[rows].mean(), rel=0.15)


def test_scores_weigh_the_quantile_never_the_seconds(ranker: MMoERanker, later: Watched) -> None:
    """A score stays within [0, 1]; a value that has no quantile has no say."""
    weights = PolicySettings(score_weights={"click": 1.0, "watch": 1.0})
    said = ranker.predict(later.data.features)
    quantile = said.quantiles["watch"]
    assert quantile is not None
    assert np.allclose(score(said, weights), (said.p_click + quantile) / 2)
    assert np.array_equal(score(replace(said, quantiles={"watch": None}), weights), said.p_click)


def test_files_bring_back_the_groups(ranker: MMoERanker, later: Watched) -> None:
    """Bit for bit; and a group that nobody has seen, or none, is read from all rows' ladder."""
    again = MMoERanker.from_files(ranker.to_files())
    one, other = (of.predict(later.data.features).outcomes["watch"] for of in (ranker, again))
    assert np.array_equal(one, other)
    assert again.to_files() == ranker.to_files()
    (head,) = again._heads
    group = np.array(["long", "endless", None], dtype=object)
    whole = head.at(np.full(3, 0.5), {})
    found = head.at(np.full(3, 0.5), {BY: group})
    assert found[0] > whole[0]
    assert np.array_equal(found[1:], whole[1:])


def test_a_head_of_values_is_not_taught_quantiles(ranker: MMoERanker, later: Watched) -> None:
    """Declared otherwise since: a warm start keeps the task as it was, until the next full training."""
    rows = np.arange(N)
    assert np.isfinite(heads.labels(ranker._heads, later.data, rows)).all()
    assert np.isnan(heads.labels(ranker._heads, Watched(2, PLAIN).data, rows)).all()


@given(values=st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_a_ladder_goes_up_and_down_again(values: list[float]) -> None:
    """Ranks are the shares of rows below, ties in the middle; the way back is theirs."""
    known = np.array(values)
    ladder = Ladder.of(known)
    assert len(ladder.values) <= RUNGS
    exact = np.array([(known < v).mean() + (known == v).mean() / 2 for v in ladder.values])
    assert np.allclose(ladder.shares, exact)
    assert np.allclose(ladder.value(ladder.quantile(np.array(ladder.values))), ladder.values)
    assert (np.diff(ladder.quantile(np.sort(known))) >= 0).all()


def test_only_a_value_has_quantiles() -> None:
    """Of a like there is nothing to rank."""
    with pytest.raises(ValueError, match="a binary outcome has no quantiles"):
        OutcomeSettings(quantiles_by="item.duration")
