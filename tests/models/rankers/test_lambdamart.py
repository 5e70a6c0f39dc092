"""Trees that order lists: by pairs of one list alone, beside a level that moves no item past another."""

from dataclasses import replace

import numpy as np
import pytest

from models.rankers.labels import Label
from models.rankers.lambdamart import LEVEL_FILE, LambdaMARTRanker, Lists, _line, _scores
from models.rankers.protocol import Floats, TrainingData
from models.rankers.xgboost import CLICK_FILE, Rows
from models.settings import LambdaMARTSettings
from tests.models.rankers.test_ranker_contract import SHOWN, checkerboard

SETTINGS = LambdaMARTSettings(rounds=20, depth=3)
SEED = 7


def moody(n: int, seed: int) -> tuple[TrainingData, Floats]:
    """Lists of a good or a bad mood, which `surface` tells, and the true P(click): `item_price` says what is better."""
    data = checkerboard(n, seed)
    rng = np.random.default_rng([seed, 1])
    mood = np.repeat(rng.integers(0, 2, n // SHOWN), SHOWN)
    price = rng.standard_normal(n)
    p = 1 / (1 + np.exp(1.5 - 1.5 * mood - price))
    features = {**data.features, "item_price": price, "surface": np.array(["a", "b"], dtype=object)[mood]}
    return replace(data, features=features, clicked=(rng.random(n) < p) * 1.0, converted=np.full(n, np.nan)), p


def test_probabilities_are_right_on_rows_that_nobody_learned() -> None:
    """What trees say of their own rows is far too sure; the slope is learned from other lists' trees."""
    (data, _), (fresh, p) = moody(2_000, 1), moody(8_000, 2)
    settings = LambdaMARTSettings(rounds=60, depth=5)
    found = LambdaMARTRanker.fit(data, settings, SEED)
    rows = Rows.of(data, settings, None)
    assert _line(_scores(found._click, rows.table), rows.click)[0] > 1.5 * found._line[0]
    said = found.predict(fresh.features).p_click
    logit, truth = (np.log(of / (1 - of)) for of in (said, p))
    assert np.polyfit(logit, truth, 1)[0] == pytest.approx(1.0, abs=0.2)
    for mood in ("a", "b"):
        here = fresh.features["surface"] == mood
        assert said[here].mean() == pytest.approx(p[here].mean(), abs=0.04)


def test_what_a_request_is_like_moves_no_item_past_another() -> None:
    """The level sees what all items have in common and no more."""
    data, _ = moody(1_000, 1)
    found = LambdaMARTRanker.fit(data, SETTINGS, SEED)
    few = data.where(np.arange(SHOWN))
    features = {**few.features, "surface": np.full(SHOWN, "a", dtype=object)}
    one, other = (found.predict({**features, "region": np.full(SHOWN, of, dtype=object)}).p_click for of in ("a", "b"))
    assert (np.argsort(one) == np.argsort(other)).all()
    named = dict.fromkeys(found._shared.encoding.numeric) | found._shared.encoding.vocabularies
    assert {"user_impressions", "surface", "region", "attributes.hour"} <= set(named)
    assert not [name for name in named if name == "position" or "item" in name]


def test_lists_without_a_click_teach_no_order_and_every_row_how_likely_one_is() -> None:
    data, _ = moody(2_000, 1)
    lists = Lists.of(Label.of(data.clicked, data.weight), data.groups)  # type: ignore[arg-type]
    silent = replace(data, clicked=np.zeros(2_000))
    joined = {name: np.concatenate([of, silent.features[name]]) for name, of in data.features.items()}
    clicked, unknown = np.concatenate([data.clicked, silent.clicked]), np.full(4_000, np.nan)
    both = TrainingData(joined, clicked, unknown, np.ones(4_000), groups=np.arange(4_000) // SHOWN)
    more = Lists.of(Label.of(both.clicked, both.weight), both.groups)  # type: ignore[arg-type]
    assert 0 < len(lists.weight) < 500
    np.testing.assert_array_equal(more.rows, lists.rows)
    one, other = (LambdaMARTRanker.fit(of, SETTINGS, SEED) for of in (data, both))
    assert one.to_files()[CLICK_FILE] == other.to_files()[CLICK_FILE]
    assert other.predict(both.features).p_click.mean() == pytest.approx(both.clicked.mean(), rel=0.02)


def test_lists_by_hand() -> None:
    """Rows of one list need not be neighbours; its weight is that of its clicks."""
    label = Label.of(np.array([1.0, 0, 0, 1, 1, 0, 0]), np.array([3.0, 9, 1, 1, 5, 1, 1]))
    found = Lists.of(label, np.array([9, 4, 9, 4, 9, 7, 7]))
    assert found.rows.tolist() == [1, 3, 0, 2, 4]
    assert found.ids.tolist() == [0, 0, 1, 1, 1]
    assert found.weight.tolist() == [1.0, 4.0]
    scores = np.array([0.0, np.log(3), 0, 0, 0])
    assert found.loss(scores) == pytest.approx((np.log(4 / 3) + 4 * np.log(3)) / 5)


def test_unclicked_rows_that_were_left_out_are_not_missed() -> None:
    """A quarter of them, four times the weight: as likely as before, and in the same order by and large."""
    data, _ = moody(6_000, 1)
    kept = np.flatnonzero((data.clicked > 0) | (np.random.default_rng(1).random(6_000) < 0.25))
    sampled = data.where(kept)
    sampled = replace(sampled, weight=np.where(sampled.clicked > 0, 1.0, 4.0))
    whole, part = (LambdaMARTRanker.fit(of, SETTINGS, SEED).predict(data.features).p_click for of in (data, sampled))
    assert part.mean() == pytest.approx(whole.mean(), rel=0.05)
    assert np.corrcoef(whole, part)[0, 1] > 0.9


def test_without_a_list_to_learn_from_there_is_the_level_alone() -> None:
    data, p = moody(2_000, 1)
    alone = replace(data, groups=np.arange(2_000))
    said = LambdaMARTRanker.fit(alone, SETTINGS, SEED).predict(data.features).p_click
    bad, good = (said[data.features["surface"] == mood].mean() for mood in ("a", "b"))
    assert good - bad == pytest.approx(np.diff([p[data.features["surface"] == m].mean() for m in "ab"])[0], abs=0.06)
    full = LambdaMARTRanker.fit(data, SETTINGS, SEED)
    warm = LambdaMARTRanker.fit(alone, SETTINGS, SEED, full)
    assert warm.to_files()[CLICK_FILE] == full.to_files()[CLICK_FILE]


def test_rows_of_unknown_lists_are_refused() -> None:
    with pytest.raises(ValueError, match=r"list that each row was shown in \(groups\); found none"):
        LambdaMARTRanker.fit(replace(checkerboard(400), groups=None), SETTINGS, SEED)


def test_held_out_lists_say_when_to_stop_and_which_warm_trees_help() -> None:
    """Turned round they keep one tree; of a warm start none."""
    (data, _), (later, _) = moody(3_000, 1), moody(1_500, 2)
    turned = replace(later, clicked=1 - later.clicked)

    def trees(of: LambdaMARTRanker) -> int:
        return of._click.num_boosted_rounds()

    many = LambdaMARTSettings(rounds=80, depth=4)
    stopped = LambdaMARTRanker.fit(replace(data, held_out=later), many, SEED)
    assert 3 < trees(stopped) < 80
    assert trees(LambdaMARTRanker.fit(replace(data, held_out=turned), many, SEED)) == 1
    warm = LambdaMARTRanker.fit(replace(data, held_out=turned), many, SEED, stopped)
    assert warm.to_files()[CLICK_FILE] == stopped.to_files()[CLICK_FILE]
    assert warm.to_files()[LEVEL_FILE] == stopped.to_files()[LEVEL_FILE]
