"""Metrics against their definitions, written out the slow way, and what they do with data that cannot carry them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.comparison import METRICS, compare, figure_of
from models.evaluation.estimate import Estimate, Refusal
from models.evaluation.lists import list_metric, of_requests
from models.evaluation.ranking import auc, auc_influence, auc_pr, log_loss
from models.settings import GateSettings
from tests.bench.bench_calibration import two_rankers
from tests.bench.click_worlds import ClickWorld, true_auc_pr

GATE = GateSettings(bootstrap_replicates=60)
ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=2, max_size=30).filter(
    lambda rows: 0 < sum(clicked for clicked, _ in rows) < len(rows)
)


def sound(found: object) -> Estimate:
    assert isinstance(found, Estimate), found
    return found


@given(rows=ROWS)
@settings(deadline=None, max_examples=60)
def test_auc_is_the_share_of_pairs_in_order(rows: list[tuple[bool, int]]) -> None:
    """Ties count half; a row's influence is what leaving its user out would show, and influences sum to nothing."""
    y, s = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows], float)
    pairs = [
        1.0 if s[i] > s[j] else 0.5 if s[i] == s[j] else 0.0
        for i in np.flatnonzero(y > 0)
        for j in np.flatnonzero(y == 0)
    ]
    found = auc_influence(y, s)
    assert found.value == pytest.approx(np.mean(pairs))
    assert found.influence.sum() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("metric", ["auc", "auc_pr", "log_loss", "normalised_entropy", "ndcg_at_3", "map_at_3"])
def test_the_influences_are_the_derivative_of_the_figure(metric: str) -> None:
    """The interval rests on them: repeating 1 % of the rows must move the figure as they say, to first order."""
    p, y = logged(6_000)
    requests = np.arange(len(p)) // 4
    whole = figure_of(metric, y, requests)(p)
    again = np.random.default_rng(5).choice(1_500, 15, replace=False)
    rows = np.concatenate([np.arange(len(p)), *(np.flatnonzero(requests == g) for g in again)])
    moved = figure_of(metric, y[rows], np.arange(len(rows)) // 4)(p[rows]).value - whole.value
    told = whole.influence[np.isin(requests[whole.rows], again)].sum()
    assert moved == pytest.approx(told, rel=0.1)


def test_ndcg_by_hand() -> None:
    """Group 1: the click is second of two. Group 2: no click, left out. Group 3: two clicks, cut at two places."""
    labels = np.array([0, 1, 0, 0, 1, 0, 1], float)
    scores = np.array([0.9, 0.8, 0.5, 0.4, 0.9, 0.8, 0.7])
    found = of_requests("ndcg", labels, scores, np.array([1, 1, 2, 2, 3, 3, 3]), 2)
    second = 1 / np.log2(3)
    np.testing.assert_allclose(found.values, [second, 1 / (1 + second)])
    assert found.rows.tolist() == [0, 4]


def test_ndcg_of_tied_scores_is_the_mean_over_their_orders() -> None:
    """Logs list the top first: ties in row order would credit a constant score with the logging policy's work."""
    labels, groups = np.array([1, 0, 0, 0], float), np.zeros(4, int)
    found = of_requests("ndcg", labels, np.full(4, 0.5), groups, 10)
    np.testing.assert_allclose(found.values, [np.mean(1 / np.log2(np.arange(4) + 2))])


def test_metrics_do_not_depend_on_the_order_of_rows() -> None:
    """Partitions are read in any order."""
    rng = np.random.default_rng(0)
    labels, scores, groups = (rng.random(300) < 0.3).astype(float), rng.integers(1, 9, 300) / 10, np.arange(300) // 5
    at = rng.permutation(300)
    for metric in (auc, log_loss):
        a, b = (metric(labels[i], scores[i], clusters=groups[i], settings=GATE) for i in (slice(None), at))
        np.testing.assert_allclose(list(sound(a).as_dict().values()), list(sound(b).as_dict().values()))
    a, b = (
        list_metric("ndcg", labels[i], scores[i], groups[i], clusters=groups[i], settings=GATE)
        for i in (slice(None), at)
    )
    np.testing.assert_allclose(list(sound(a).as_dict().values()), list(sound(b).as_dict().values()))


def test_clustered_rows_give_a_wider_interval() -> None:
    """A user's rows resemble one another: counting them as independent would make the gate too sure."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(100), 20)
    taste = rng.beta(0.5, 0.5, 100)[users]
    labels = (rng.random(2000) < taste).astype(float)
    scores = np.full(2000, 0.5) + rng.random(2000) * 0.01
    alone = sound(log_loss(labels, 0.3 + 0.4 * scores, settings=GATE))
    together = sound(log_loss(labels, 0.3 + 0.4 * scores, clusters=users, settings=GATE))
    assert alone.value == pytest.approx(together.value)
    skewed = sound(log_loss(labels, np.full(2000, 0.2), clusters=users, settings=GATE))
    assert skewed.stderr > 2 * sound(log_loss(labels, np.full(2000, 0.2), settings=GATE)).stderr


def test_log_loss_interval_covers_the_truth() -> None:
    """A 95% interval must hold the true value about 95 times in 100, a user's rows alike."""
    rng, held, truth = np.random.default_rng(0), 0, -(0.3 * np.log(0.25) + 0.7 * np.log(0.75))
    for _ in range(300):
        users = np.repeat(np.arange(80), 5)
        labels = (rng.random(400) < rng.beta(0.6, 1.4, 80)[users]).astype(float)
        found = sound(log_loss(labels, np.full(400, 0.25), clusters=users, settings=GATE))
        held += found.low <= truth <= found.high
    assert 0.91 <= held / 300 <= 0.985


@pytest.mark.parametrize(
    ("labels", "scores", "reason"),
    [([], [], "found none"), ([1, 1], [0.1, 0.2], "clicked"), ([1, 0], [np.nan, 0.2], "finite")],
)
def test_auc_refuses_what_the_data_cannot_carry(labels: list[float], scores: list[float], reason: str) -> None:
    """A day without clicks is an empty finding, not a crash and not a 0.5."""
    found = auc(np.array(labels), np.array(scores), settings=GATE)
    assert isinstance(found, Refusal)
    assert reason in found.reason


def test_ndcg_without_clicks_and_metrics_of_one_user_are_refused() -> None:
    """One user's rows say nothing of other users: no interval, hence no estimate."""
    zeros = np.zeros(4)
    assert isinstance(list_metric("ndcg", zeros, zeros, np.arange(4), settings=GATE), Refusal)
    one = log_loss(np.array([0.0, 1]), np.array([0.5, 0.5]), clusters=np.zeros(2, int), settings=GATE)
    assert isinstance(one, Refusal)
    assert "2 users" in one.reason


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [([0.5, 1], [0.5, 0.5], "0 or 1"), ([np.nan, 1], [0.5, 0.5], "0 or 1"), ([0, 1], [0.5], "one length"),
     ([0, 1], [1.5, 0.5], r"\[0, 1\]")],
)  # fmt: skip
def test_impossible_arguments_are_errors(labels: list[float], scores: list[float], message: str) -> None:
    """Labels that are unknown must be dropped by the caller, who knows why they are."""
    with pytest.raises(ValueError, match=message):
        log_loss(np.array(labels), np.array(scores), settings=GATE)


def logged(n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.beta(1, 4, n)
    return p, (rng.random(n) < p).astype(float)


def test_the_better_ranker_wins_every_metric_wherever_it_stands() -> None:
    """The difference is challenger minus champion: swapping them flips the sign and nothing else."""
    p, y = logged()
    poor = np.clip(p * np.exp(np.random.default_rng(1).standard_normal(len(p))), 0, 1)
    requests, users = np.arange(len(p)) // 4, np.arange(len(p)) // 12
    won, lost = compare(y, poor, p, requests, users, GATE), compare(y, p, poor, requests, users, GATE)
    for metric, sign in (("auc", 1), ("log_loss", -1), ("ndcg_at_10", 1)):
        difference, flipped = sound(won[metric]["difference"]), sound(lost[metric]["difference"])
        assert min(sign * difference.low, sign * difference.high) > 0
        assert difference.value == pytest.approx(-flipped.value)
        assert difference.stderr == pytest.approx(flipped.stderr)
        apart = sound(won[metric]["challenger"]).value - sound(won[metric]["champion"]).value
        assert difference.value == pytest.approx(apart)


def test_a_ranker_does_not_differ_from_itself() -> None:
    """Influences cancel: an identical challenger differs by exactly nothing, with no doubt about it."""
    p, y = logged()
    for sides in compare(y, p, p, np.arange(len(p)) // 4, np.arange(len(p)), GATE).values():
        difference = sound(sides["difference"])
        assert difference.value == difference.low == difference.high == 0


def test_compare_agrees_with_the_single_metrics() -> None:
    """The evidence pack shows both: they must not contradict each other."""
    p, y = logged()
    requests, users = np.arange(len(p)) // 4, np.arange(len(p)) // 12
    found = compare(y, p / 2, p, requests, users, GATE)
    assert found["auc"]["challenger"] == auc(y, p, clusters=users, settings=GATE)
    assert found["auc_pr"]["challenger"] == auc_pr(y, p, clusters=users, settings=GATE)
    assert found["log_loss"]["challenger"] == log_loss(y, p, clusters=users, settings=GATE)
    assert found["ndcg_at_10"]["challenger"] == list_metric("ndcg", y, p, requests, clusters=users, settings=GATE)


@pytest.mark.parametrize("blur", [(0.3, 0.3), (3.0, 0.6)], ids=["equals", "better"])
@pytest.mark.parametrize(
    "world",
    [ClickWorld(0.1, 0.5, 100, 5, 1.0), ClickWorld(0.02, 1.5, 2_000, 1, 1.0), ClickWorld(0.2, 1.0, 200, 20, 1.0)],
    ids=str,
)
def test_auc_pr_of_few_clicks_holds_the_truth_alone_and_in_pairs(world: ClickWorld, blur: tuple[float, float]) -> None:
    """40 clicks of users who differ: value +- z times the deviation of resamples held as few as 88 %."""
    truths, held, logs = [true_auc_pr(world, b) for b in blur], np.zeros(2), 200
    for seed in range(logs):
        log = world.draw(seed)
        sides = two_rankers(log, *blur, step=0.0)
        found = compare(log.clicked, *sides, log.users, log.users, GATE, ["auc_pr"])["auc_pr"]
        value, difference = sound(found["challenger"]), sound(found["difference"])
        held += value.low <= truths[1] <= value.high, difference.low <= truths[1] - truths[0] <= difference.high
    assert (held / logs >= 0.91).all(), held / logs


def test_auc_pr_of_a_perfect_order_is_one_and_of_a_constant_the_click_rate() -> None:
    """The two ends of its scale; at 1 there is no logit."""
    labels = np.tile([1.0, 0, 0, 0], 50)
    assert sound(auc_pr(labels, labels, settings=GATE)).value == 1.0
    constant = sound(auc_pr(labels, np.full(200, 0.5), settings=GATE))
    assert constant.value == pytest.approx(0.25)
    assert constant.low < 0.25 < constant.high


@pytest.mark.parametrize("spoil", ["nan", "clicks", "empty"])
def test_compare_refuses_everything_it_cannot_compare(spoil: str) -> None:
    """The gate reads a refusal as refuse; half a comparison could read as a pass."""
    p, y = logged(100)
    bad = p.copy()
    if spoil == "nan":
        bad[3] = np.nan
    n = 0 if spoil == "empty" else 100
    y = y * 0 if spoil == "clicks" else y
    found = compare(y[:n], p[:n], bad[:n], np.arange(n), np.arange(n), GATE)
    assert set(found) == set(METRICS)
    assert all(isinstance(side, Refusal) for sides in found.values() for side in sides.values())
