"""Further outcomes of the network, in a world that knows the truth: with and without a click, binary and amounts."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.rankers import RANKERS, fit
from models.rankers.mmoe import MMoERanker
from models.rankers.protocol import Floats, FurtherOutcome, TrainingData
from models.settings import MMoESettings, OutcomeSettings, RankerSettings
from tests.models.rankers.id_world import IdWorld, excess

SETTINGS = MMoESettings(
    experts=3, expert_width=16, tower_width=8, embedding_dimensions=8, batch_size=512, learning_rate=5e-3,
    embedding_learning_rate=0.1, epochs=3,
)  # fmt: skip
LIKE, SHARE = OutcomeSettings(), OutcomeSettings(through="clicked")
WATCH, READ = OutcomeSettings(kind="value", unit="seconds"), OutcomeSettings(kind="value", through="clicked")
DECLARED = {"like": LIKE, "share": SHARE, "watch": WATCH, "read": READ}
N = 12_000


class Told:
    """Rows with four further outcomes, and the truth of each given the impression."""

    def __init__(self, seed: int, n: int = N) -> None:
        world = IdWorld(users=300, items=150)
        drawn = world.rows(n, seed)
        rng = np.random.default_rng([seed, 1])
        item = np.array([int(name[1:]) for name in drawn.data.features["item_id"]])
        p_like = 1 / (1 + np.exp(1.5 - 1.5 * world.item[item]))
        p_given = 1 / (1 + np.exp(0.5 - world.buys[item]))
        mean = 20 * np.exp(0.8 * world.buys[item])
        clicked = drawn.data.clicked
        labels = {
            "like": (rng.random(n) < p_like) * 1.0,
            "share": clicked * (rng.random(n) < p_given),
            "watch": mean * rng.gamma(0.5, 2.0, n) * (rng.random(n) < 0.6),
            "read": clicked * mean * rng.gamma(0.5, 2.0, n),
        }
        self.truth: dict[str, Floats] = {
            "like": p_like,
            "share": drawn.p_click * p_given,
            "watch": 0.6 * mean,
            "read": drawn.p_click * mean,
        }
        outcomes = {name: FurtherOutcome(DECLARED[name], label) for name, label in labels.items()}
        self.data = replace(drawn.data, outcomes=outcomes)


@pytest.fixture(scope="module")
def told() -> Told:
    return Told(2)


@pytest.fixture(scope="module")
def later() -> Told:
    return Told(3)


@pytest.fixture(scope="module")
def ranker(told: Told) -> MMoERanker:
    return MMoERanker.fit(told.data, SETTINGS, 7)


def shuffled(data: TrainingData, name: str, label: Floats) -> TrainingData:
    return replace(data, outcomes={**data.outcomes, name: FurtherOutcome(DECLARED[name], label)})


@pytest.mark.parametrize("name", ["like", "share"])
def test_a_probability_is_nearer_the_truth_than_the_rate(ranker: MMoERanker, later: Told, name: str) -> None:
    """Of rows nobody has learned from; the better part of what there is to learn."""
    said = ranker.predict(later.data.features).outcomes[name]
    truth = later.truth[name]
    assert ((said > 0) & (said < 1)).all()
    assert excess(truth, said) < 0.5 * excess(truth, np.full(N, truth.mean()))
    assert said.mean() == pytest.approx(truth.mean(), rel=0.1)


@pytest.mark.parametrize("name", ["watch", "read"])
def test_an_amount_is_right_in_the_mean_and_orders_items(ranker: MMoERanker, later: Told, name: str) -> None:
    """A long tail and many zeros, which a logarithm would put too low by far."""
    said = ranker.predict(later.data.features).outcomes[name]
    truth = later.truth[name]
    assert said.mean() == pytest.approx(truth.mean(), rel=0.1)
    assert np.corrcoef(np.log(said), np.log(truth))[0, 1] > 0.7
    known = told_label(later, name)
    ours, constant = (float(np.mean((known - guess) ** 2)) for guess in (said, known.mean()))
    assert ours < constant


def told_label(of: Told, name: str) -> Floats:
    return of.data.outcomes[name].label


def test_what_goes_through_a_click_is_never_likelier_than_it(ranker: MMoERanker, later: Told) -> None:
    """p(share) = p(click) × p(share | click)."""
    found = ranker.predict(later.data.features)
    assert (found.outcomes["share"] <= found.p_click).all()


def test_levels_are_those_of_the_training_rows(ranker: MMoERanker, told: Told) -> None:
    """As much is promised of all rows as came of them: of those through a click, of the clicked ones."""
    found = ranker.predict(told.data.features)
    clicked = told.data.clicked == 1
    for name in DECLARED:
        label, said = told_label(told, name), found.outcomes[name]
        if DECLARED[name].through:
            label, said = label[clicked], (said / found.p_click)[clicked]
        assert said.sum() == pytest.approx(label.sum(), rel=1e-3), name


def test_an_unknown_label_teaches_nothing(told: Told) -> None:
    """Whatever lies behind a NaN: only which rows are known can matter, never what the others would have said."""
    early = np.arange(N) < N // 2
    known = shuffled(told.data, "like", np.where(early, told_label(told, "like"), np.nan))
    first = MMoERanker.fit(known, SETTINGS, 7).predict(told.data.features)
    other = MMoERanker.fit(told.data, SETTINGS, 7).predict(told.data.features)
    assert not np.array_equal(first.outcomes["like"], other.outcomes["like"])
    assert first.outcomes["like"].mean() == pytest.approx(told_label(told, "like").mean(), rel=0.1)


def test_with_none_declared_the_network_is_the_one_it_was(told: Told) -> None:
    """No task, no byte, no draw more; and its files do not say that there could be."""
    plain = MMoERanker.fit(replace(told.data, outcomes={}), SETTINGS, 7)
    few = shuffled(
        replace(told.data, outcomes={}), "like", np.where(np.arange(N) < 40, told_label(told, "like"), np.nan)
    )
    assert MMoERanker.fit(few, SETTINGS, 7).to_files() == plain.to_files()
    assert not plain.predict(told.data.features).outcomes
    assert b"heads" not in plain.to_files()["layout.json"]


def test_files_bring_back_every_task(ranker: MMoERanker, later: Told) -> None:
    """Bit for bit, by numpy alone."""
    again = MMoERanker.from_files(ranker.to_files())
    one, other = (of.predict(later.data.features).outcomes for of in (ranker, again))
    assert all(np.array_equal(one[name], other[name]) for name in DECLARED)
    assert again.to_files() == ranker.to_files()


def test_a_warm_start_goes_on_with_the_tasks_it_has(ranker: MMoERanker, later: Told) -> None:
    """What is declared anew waits for a full training; what is no longer declared, or otherwise, keeps its task."""
    no_epochs = SETTINGS.model_copy(update={"warm_epochs": 0})
    data = replace(later.data, outcomes={"like": later.data.outcomes["like"], "new": later.data.outcomes["like"]})
    warm = MMoERanker.fit(data, SETTINGS, 7, ranker)
    assert set(warm.predict(later.data.features).outcomes) == set(DECLARED)
    assert MMoERanker.fit(data, no_epochs, 7, ranker).predict(later.data.features).outcomes.keys() == DECLARED.keys()
    otherwise = {"watch": FurtherOutcome(LIKE, told_label(later, "like"))}
    kept = MMoERanker.fit(replace(later.data, outcomes=otherwise), SETTINGS, 7, ranker)
    assert kept.predict(later.data.features).outcomes["watch"].mean() > 1


@pytest.mark.parametrize("kind", [kind for kind, of in RANKERS.items() if not of.inputs.outcomes])
def test_other_rankers_take_no_notice(kind: str, told: Told) -> None:
    """They say that they predict none, and learn the same bytes with them or without."""
    some = RankerSettings.model_validate(
        {"xgboost": {"rounds": 3}, "lambdamart": {"rounds": 3}, "logistic": {"steps": 5}}
    )
    short: Any = replace(told.data.where(np.arange(2_000)), groups=np.arange(2_000) // 4)
    one, other = (fit(kind, data, some) for data in (short, replace(short, outcomes={})))
    assert one.to_files() == other.to_files()
    assert not one.predict(short.features).outcomes


def test_a_label_of_another_length_is_refused(told: Told) -> None:
    """Rows are told apart by their place."""
    with pytest.raises(ValueError, match=r"columns of one length; found clicked 12000, .*'like': 5"):
        shuffled(told.data, "like", np.ones(5))
