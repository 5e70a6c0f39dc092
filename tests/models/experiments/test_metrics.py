"""Figures of users, by hand: what is unknown is not zero, and what is heard of late is neither lost nor doubled."""

import numpy as np
import pytest

from models.experiments.metrics import DAY, Shown, by_impression, figures
from models.experiments.rules import BLOCK_METRICS, METRICS

HOUR = 3600.0


def shown(**changes: object) -> Shown:
    """User 0 comes twice on day 0 and once on day 2; user 1 once on day 3; user 2 never."""
    columns = {
        "users": 3,
        "user": np.array([0, 0, 0, 1]),
        "time": np.array([0.0, 2 * HOUR, 2 * DAY, 3 * DAY]),
        "request": np.arange(4),
        "clicked": np.array([1.0, 0.0, 1.0, 1.0]),
        "conversions": np.array([1.0, 0.0, 0.0, 1.0]),
        "value": np.array([10.0, 0.0, 0.0, 4.0]),
        "heard_share": np.array([1.0, 1.0, 1.0, 0.5]),
        "now": 4 * DAY,
    }
    return Shown(**{**columns, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metric", "numerators", "denominators"),
    [
        ("click_rate", [2, 1, 0], [3, 1, 0]),
        ("clicks_per_user", [2, 1, 0], [1, 1, 1]),
        ("conversions_per_user", [1, 2, 0], [1, 1, 1]),
        ("conversion_rate", [1, 2, 0], [2, 1, 0]),
        ("revenue_per_user", [10, 8, 0], [1, 1, 1]),
        ("sessions_per_user", [3, 1, 0], [1, 1, 1]),
        ("retention", [1, np.nan, np.nan], [1, 1, 1]),
        ("first_value", [10, np.nan, np.nan], [1, 1, 1]),
    ],
)
def test_by_hand(metric: str, numerators: list[float], denominators: list[float]) -> None:
    found = figures(metric, shown(), retention_days=3, value_days=4)
    np.testing.assert_allclose(found, [numerators, denominators])


@pytest.mark.parametrize(
    ("metric", "numerators", "denominators"),
    [
        ("click_rate", [1, 0, 1, 1], [1, 1, 1, 1]),
        ("clicks_per_request", [1, 0, 1, 1], [1, 0, 1, 1]),
        ("conversion_rate", [1, 0, 0, 2], [1, 0, 1, 1]),
        ("conversions_per_request", [1, 0, 0, 2], [1, 0, 1, 1]),
        ("revenue_per_request", [10, 0, 0, 8], [1, 0, 1, 1]),
    ],
)
def test_what_an_impression_adds_by_hand(metric: str, numerators: list[float], denominators: list[float]) -> None:
    """The first two are of one request; the last is heard of by half."""
    one = shown(request=np.array([0, 0, 1, 2]))
    np.testing.assert_allclose(by_impression(metric, one), [numerators, denominators])
    if metric not in ("click_rate", "clicks_per_request"):
        young = by_impression(metric, shown(request=np.array([0, 0, 1, 2]), heard_share=np.array([1.0, 1, 1, 0.1])))
        np.testing.assert_allclose([column[3] for column in young], [0, 0])


def test_a_row_too_young_to_tell_is_left_out_yes_or_no() -> None:
    young = shown(heard_share=np.array([1.0, 1.0, 1.0, 0.1]))
    np.testing.assert_allclose(figures("conversion_rate", young), [[1, 0, 0], [2, 0, 0]])


def test_what_is_heard_of_so_far_is_right_on_average() -> None:
    """Conversions that are heard of after an exponential wait: dividing by the share heard takes the bias out."""
    rng = np.random.default_rng(0)
    n, age = 200_000, rng.uniform(0, 5 * DAY, 200_000)
    converted = rng.random(n) < 0.1
    heard = converted & (rng.exponential(DAY, n) < age)
    rows = Shown(n, np.arange(n), 5 * DAY - age, np.arange(n), np.ones(n), heard * 1.0, heard * 2.0,
                 1 - np.exp(-age / DAY), 5 * DAY)  # fmt: skip
    y, x = figures("conversion_rate", rows)
    assert heard.sum() / n < 0.09
    assert y.sum() / x.sum() == pytest.approx(0.1, abs=0.003)


def test_every_metric_of_every_set_is_known() -> None:
    for metric in METRICS:
        assert len(figures(metric, shown())[0]) == 3
    for metric in BLOCK_METRICS:
        assert len(by_impression(metric, shown())[0]) == 4
    with pytest.raises(ValueError, match=r"metrics of blocks are .*clicks_per_request"):
        by_impression("retention", shown())
    with pytest.raises(ValueError, match=r"metrics are .*click_rate"):
        figures("joy", shown())


def test_wrong_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        shown(user=np.array([0]))
    with pytest.raises(ValueError, match="heard_share"):
        shown(heard_share=np.array([1.0, 1.0, 1.0, 2.0]))
