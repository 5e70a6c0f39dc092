"""List metrics against their textbook definitions, averaged over every order of tied scores by brute force."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.estimate import Estimate, Refusal
from models.evaluation.lists import FIGURES, list_metric, of_requests
from models.evaluation.ranking import auc, auc_pr, log_loss, normalised_entropy, weighted_auc_pr
from models.settings import GateSettings

GATE = GateSettings(bootstrap_replicates=60)
LISTS = st.lists(st.tuples(st.booleans(), st.integers(0, 2)), min_size=1, max_size=5)


def textbook(metric: str, labels: list[bool], k: int) -> float:
    """The figure of one list in a strict order."""
    top = labels[:k]
    clicks = sum(labels)
    places = [place for place, clicked in enumerate(top) if clicked]
    return {
        "ndcg": sum(1 / np.log2(p + 2) for p in places) / sum(1 / np.log2(p + 2) for p in range(min(clicks, k))),
        "mrr": 1 / (places[0] + 1) if places else 0.0,
        "map": sum(sum(labels[: p + 1]) / (p + 1) for p in places) / min(clicks, k),
        "recall": len(places) / clicks,
        "precision": len(places) / k,
        "hit_rate": float(bool(places)),
    }[metric]


def over_all_orders(metric: str, rows: list[tuple[bool, int]], k: int) -> float:
    orders = [p for p in permutations(rows) if all(a[1] >= b[1] for a, b in pairwise(p))]
    return float(np.mean([textbook(metric, [clicked for clicked, _ in order], k) for order in orders]))


@pytest.mark.parametrize("metric", FIGURES)
@given(requests=st.lists(LISTS, min_size=1, max_size=4), k=st.integers(1, 6))
@settings(deadline=None, max_examples=40)
def test_a_list_metric_is_its_definition_over_all_orders_of_ties(
    metric: str, requests: list[list[tuple[bool, int]]], k: int
) -> None:
    """A tie broken by row order would hand a constant score whatever order the log is in."""
    labels = np.array([row[0] for rows in requests for row in rows], float)
    scores = np.array([row[1] for rows in requests for row in rows], float)
    groups = np.repeat(np.arange(len(requests)), [len(rows) for rows in requests])
    first, found = of_requests(metric, labels, scores, groups, k)  # type: ignore[arg-type]
    clicked = [n for n, rows in enumerate(requests) if any(c for c, _ in rows)]
    assert groups[first].tolist() == clicked
    np.testing.assert_allclose(found, [over_all_orders(metric, requests[n], k) for n in clicked], atol=1e-12)


@pytest.mark.parametrize("metric", FIGURES)
def test_list_metrics_are_order_free_and_lie_in_their_range(metric: str) -> None:
    """Partitions are read in any order; the better ranker scores higher on every one of them."""
    rng = np.random.default_rng(0)
    p = rng.beta(1, 3, 2000)
    labels, groups, at = (rng.random(2000) < p).astype(float), np.arange(2000) // 8, rng.permutation(2000)
    arguments = {"settings": GATE, "k": 3}
    found = list_metric(metric, labels, p, groups, clusters=groups // 2, **arguments)  # type: ignore[arg-type]
    mixed = list_metric(metric, labels[at], p[at], groups[at], clusters=groups[at] // 2, **arguments)  # type: ignore[arg-type]
    worse = list_metric(metric, labels, rng.random(2000), groups, clusters=groups // 2, **arguments)  # type: ignore[arg-type]
    assert isinstance(found, Estimate)
    assert isinstance(worse, Estimate)
    np.testing.assert_allclose(list(found.as_dict().values()), list(mixed.as_dict().values()))  # type: ignore[union-attr]
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert worse.value < found.low


def test_an_unknown_list_metric_and_k_of_zero_are_errors() -> None:
    """A misspelt metric in a gate must not come out as zero."""
    one = np.ones(1)
    with pytest.raises(ValueError, match=r"one of ndcg, mrr.*found 'ndgc'"):
        of_requests("ndgc", one, one, one.astype(int), 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k >= 1; found 0"):
        of_requests("map", one, one, one.astype(int), 0)


@given(
    rows=st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=20).filter(
        lambda rows: any(clicked for clicked, _, _ in rows)
    )
)
@settings(deadline=None, max_examples=60)
def test_auc_pr_is_recall_gained_times_precision_with_weights_as_copies(rows: list[tuple[bool, int, int]]) -> None:
    """A weight of two is the row twice: the bootstrap rests on it."""
    y, s, w = (np.array([row[i] for row in rows], float) for i in range(3))
    found = weighted_auc_pr(y, s)(w)
    clicks = (w * y).sum()
    if not clicks:
        assert np.isnan(found)
        return
    total = 0.0
    for cut in sorted(set(s), reverse=True):
        above, here = s >= cut, s == cut
        if (w * above).sum():
            total += (w * y * here).sum() / clicks * (w * y * above).sum() / (w * above).sum()
    assert found == pytest.approx(total)


def test_normalised_entropy_is_one_for_the_click_rate_and_lower_for_the_truth() -> None:
    """Its scale is what makes days and surfaces comparable."""
    rng = np.random.default_rng(0)
    p = rng.beta(1, 4, 5000)
    y = (rng.random(5000) < p).astype(float)
    constant = normalised_entropy(y, np.full(5000, y.mean()), settings=GATE)
    truth, loss = (metric(y, p, settings=GATE) for metric in (normalised_entropy, log_loss))
    assert isinstance(constant, Estimate)
    assert isinstance(truth, Estimate)
    assert isinstance(loss, Estimate)
    assert constant.value == pytest.approx(1.0)
    assert constant.stderr < 1e-3
    assert truth.high < 1
    assert truth.value == pytest.approx(
        loss.value / -(y.mean() * np.log(y.mean()) + (1 - y.mean()) * np.log1p(-y.mean()))
    )


def test_one_class_is_refused() -> None:
    """A day without clicks is an empty finding, not a crash."""
    none, half = np.zeros(5), np.full(5, 0.5)
    assert isinstance(auc_pr(none, half, settings=GATE, seed=1), Refusal)
    assert isinstance(normalised_entropy(none, half, settings=GATE), Refusal)


@pytest.mark.parametrize("metric", ["auc", "auc_pr", "normalised_entropy", "mrr", "recall"])
def test_intervals_cover_the_figure_of_a_long_log(metric: str) -> None:
    """Nominal 95 % intervals, users resampled whole, hold the figure of a much longer log."""
    rng = np.random.default_rng(3)

    def log(users: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        p = np.clip(rng.beta(1, 3, (users, 1, 1)) + 0.3 * rng.beta(1, 3, (users, 3, 4)), 0, 1)
        return p.ravel(), (rng.random(p.shape) < p).astype(float).ravel(), np.repeat(np.arange(users), 12)

    def figure(p: np.ndarray, y: np.ndarray, users: np.ndarray, seed: int) -> Estimate:
        noisy = np.clip(p * 0.8 + 0.05, 0, 1)
        if metric in FIGURES:
            found = list_metric(metric, y, noisy, np.arange(len(p)) // 4, 2, clusters=users, settings=GATE)  # type: ignore[arg-type]
        elif metric == "auc_pr":
            found = auc_pr(y, noisy, clusters=users, settings=GATE, seed=seed)
        else:
            found = {"auc": auc, "normalised_entropy": normalised_entropy}[metric](
                y, noisy, clusters=users, settings=GATE
            )
        assert isinstance(found, Estimate)
        return found

    long = figure(*log(30_000), 0).value
    held = [(e := figure(*log(300), seed)).low <= long <= e.high for seed in range(200)]
    assert 0.90 <= np.mean(held) <= 0.99
