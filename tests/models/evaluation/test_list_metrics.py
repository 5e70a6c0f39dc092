"""List metrics against their textbook definitions, averaged over every order of tied scores by brute force."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.comparison import compare
from models.evaluation.estimate import Estimate, Refusal
from models.evaluation.gate import Evidence, judge
from models.evaluation.lists import FIGURES, list_metric, of_requests
from models.evaluation.ranking import auc, auc_pr, auc_pr_influence, log_loss, normalised_entropy
from models.settings import GateSettings, Margins

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


def order_matters(metric: str, labels: list[bool], k: int) -> bool:
    """Whether any two orders of the list differ: a list without a click never does, it has no figure at all."""
    return any(labels) and len({round(textbook(metric, list(order), k), 12) for order in set(permutations(labels))}) > 1


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
    found = of_requests(metric, labels, scores, groups, k)  # type: ignore[arg-type]
    told = [n for n, rows in enumerate(requests) if order_matters(metric, [clicked for clicked, _ in rows], k)]
    assert groups[found.rows].tolist() == told
    np.testing.assert_allclose(found.values, [over_all_orders(metric, requests[n], k) for n in told], atol=1e-12)
    assert sum(found.left_out.values()) == len(requests) - len(told)


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


@pytest.mark.parametrize("metric", FIGURES)
def test_lists_that_are_the_same_for_every_ranker_change_no_figure(metric: str) -> None:
    """Nine notifications of one item for each list of eight: the figure and its interval are those of the lists."""
    rng = np.random.default_rng(1)
    p = rng.beta(1, 3, 1_600)
    labels, lists = (rng.random(1_600) < p).astype(float), np.arange(1_600) // 8
    alone = of_requests(metric, labels, p, lists, 3)  # type: ignore[arg-type]
    silent = [[1.0]] * 1_800 + [[0.0]] * 7 + [[0.0] * 5] * 11 + [[1.0] * 4] * 13
    more = np.concatenate([np.full(len(rows), n) for n, rows in enumerate(silent, start=200)])
    everything = (np.concatenate([labels, *silent]), np.append(p, rng.random(len(more))), np.append(lists, more))
    mixed = of_requests(metric, *everything, 3)  # type: ignore[arg-type]
    np.testing.assert_array_equal(mixed.values, alone.values)
    assert (mixed.left_out["of one item"], mixed.left_out["without a click"] - alone.left_out["without a click"]) == (
        1_807, 11,
    )  # fmt: skip
    assert mixed.left_out["the same in every order"] == alone.left_out["the same in every order"] + 13
    found, expected = (
        list_metric(metric, y, s, g, 3, settings=GATE)  # type: ignore[arg-type]
        for y, s, g in (everything, (labels, p, lists))
    )
    assert isinstance(found, Estimate)
    assert found == expected


@pytest.mark.parametrize("metric", FIGURES)
@pytest.mark.parametrize(
    ("size", "clicks", "k", "reason"),
    [
        (1, 1, 10, "found none: 30 of one item"),
        (4, 0, 10, "found none: 30 without a click"),
        (3, 3, 10, "found none: 30 the same in every order"),
    ],
)
def test_a_figure_that_any_ranker_would_have_is_refused(
    metric: str, size: int, clicks: int, k: int, reason: str
) -> None:
    """Both sides at 1.0 with no doubt about it would clear every margin."""
    labels = np.tile(np.arange(size) < clicks, 30).astype(float)
    lists, scores = np.repeat(np.arange(30), size), np.random.default_rng(0).random(30 * size)
    found = list_metric(metric, labels, scores, lists, k, settings=GATE)  # type: ignore[arg-type]
    assert isinstance(found, Refusal)
    assert found.reason == f"{metric}_at_{k} needs lists whose order can change it; {reason}"


@pytest.mark.parametrize(("metric", "k"), [("recall", 4), ("precision", 4), ("hit_rate", 4), ("hit_rate", 3)])
def test_a_page_that_is_shown_whole_has_its_click_wherever_it_stands(metric: str, k: int) -> None:
    """Of four items with two clicks, three places hold a click in any order; two do not."""
    labels, lists = np.tile([1.0, 0, 0, 1], 30), np.repeat(np.arange(30), 4)
    scores = np.random.default_rng(0).random(120)
    assert isinstance(list_metric(metric, labels, scores, lists, k, settings=GATE), Refusal)  # type: ignore[arg-type]
    assert isinstance(list_metric(metric, labels, scores, lists, 2, settings=GATE), Estimate)  # type: ignore[arg-type]


def test_pages_of_one_item_clear_no_rule_of_the_gate() -> None:
    """Notifications: NDCG, MRR and their kin are 1 for champion and challenger alike, and that is no evidence."""
    rng = np.random.default_rng(2)
    p = rng.beta(1, 3, 3_000)
    y, rows = (rng.random(3_000) < p).astype(float), np.arange(3_000)
    found = compare(y, p * 0.9, p, rows, rows, GATE)
    listed = [metric for metric in found if "_at_" in metric]
    assert len(listed) == 6
    gate = GateSettings(must_not_fall=Margins(**dict.fromkeys(listed, 0.5)))
    outcomes = {rule.name: rule.outcome for rule in judge(Evidence(found, {}, 3_000), gate).rules}
    assert {outcomes[metric] for metric in listed} == {"refuse"}
    assert outcomes["auc"] == "pass"


def test_an_unknown_list_metric_and_k_of_zero_are_errors() -> None:
    """A misspelt metric in a gate must not come out as zero."""
    one = np.ones(1)
    with pytest.raises(ValueError, match=r"one of ndcg, mrr.*found 'ndgc'"):
        of_requests("ndgc", one, one, one.astype(int), 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k >= 1; found 0"):
        of_requests("map", one, one, one.astype(int), 0)


@given(
    rows=st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=20).filter(
        lambda rows: any(clicked for clicked, _ in rows)
    )
)
@settings(deadline=None, max_examples=60)
def test_auc_pr_is_recall_gained_times_precision_and_moves_with_each_row_as_it_says(
    rows: list[tuple[bool, int]],
) -> None:
    """By its definition, ties one step; and its influence is the derivative by the row's weight."""
    y, s = (np.array([row[i] for row in rows], float) for i in range(2))

    def by_definition(w: np.ndarray) -> float:
        cuts = [(s >= cut, s == cut) for cut in set(s)]
        gained = [(w * y * here).sum() * (w * y * above).sum() / (w * above).sum() for above, here in cuts]
        return float(sum(gained) / (w * y).sum())

    found, one = auc_pr_influence(y, s), np.ones(len(y))
    assert found.value == pytest.approx(by_definition(one))
    assert found.influence.sum() == pytest.approx(0, abs=1e-12)
    step = 1e-6 * np.eye(len(y))
    slope = [(by_definition(one + e) - by_definition(one - e)) / 2e-6 for e in step]
    np.testing.assert_allclose(found.influence, slope, atol=1e-7)


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
    assert isinstance(auc_pr(none, half, settings=GATE), Refusal)
    assert isinstance(normalised_entropy(none, half, settings=GATE), Refusal)


@pytest.mark.parametrize("metric", ["auc", "auc_pr", "normalised_entropy", "mrr", "recall"])
def test_intervals_cover_the_figure_of_a_long_log(metric: str) -> None:
    """Nominal 95 % intervals, users resampled whole, hold the figure of a much longer log."""
    rng = np.random.default_rng(3)

    def log(users: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        p = np.clip(rng.beta(1, 3, (users, 1, 1)) + 0.3 * rng.beta(1, 3, (users, 3, 4)), 0, 1)
        return p.ravel(), (rng.random(p.shape) < p).astype(float).ravel(), np.repeat(np.arange(users), 12)

    def figure(p: np.ndarray, y: np.ndarray, users: np.ndarray) -> Estimate:
        noisy = np.clip(p * 0.8 + 0.05, 0, 1)
        if metric in FIGURES:
            found = list_metric(metric, y, noisy, np.arange(len(p)) // 4, 2, clusters=users, settings=GATE)  # type: ignore[arg-type]
        elif metric == "auc_pr":
            found = auc_pr(y, noisy, clusters=users, settings=GATE)
        else:
            found = {"auc": auc, "normalised_entropy": normalised_entropy}[metric](
                y, noisy, clusters=users, settings=GATE
            )
        assert isinstance(found, Estimate)
        return found

    long = figure(*log(30_000)).value
    held = [(e := figure(*log(300))).low <= long <= e.high for _ in range(200)]
    assert 0.90 <= np.mean(held) <= 0.99
