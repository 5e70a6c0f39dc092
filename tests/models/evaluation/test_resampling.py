"""Resamples of users: drawn once, held small, the same for whoever asks for them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.resampling import Bootstrap, drawn


@given(clusters=st.integers(0, 600), replicates=st.integers(1, 8), seed=st.integers(0, 2**32))
def test_every_draw_takes_as_many_users_as_there_are(clusters: int, replicates: int, seed: int) -> None:
    """With replacement, each as likely as any other: the very counts of one multinomial draw of all replicates."""
    found = drawn(clusters, replicates, seed)
    assert found.shape == (replicates, clusters)
    assert (found.sum(axis=1) == clusters).all()
    if clusters:
        expected = np.random.default_rng(seed).multinomial(clusters, np.full(clusters, 1 / clusters), size=replicates)
        np.testing.assert_array_equal(found, expected)


def test_counts_take_a_byte_and_are_shared() -> None:
    """200 resamples of a million users are 1.6 GB in integers of eight bytes, once for every metric that draws."""
    users = np.arange(5_000)
    one, two = Bootstrap(users, 50, 0.95, 3), Bootstrap(np.repeat(users, 2), 50, 0.9, 3)
    assert one._draws is two._draws
    assert one._draws.nbytes == 50 * 5_000
    with pytest.raises(ValueError, match="read-only"):
        one._draws[0, 0] = 9
    assert Bootstrap(users, 50, 0.95, 4)._draws is not one._draws


def test_a_ratio_and_sums_in_every_draw_are_those_of_the_rows_that_came() -> None:
    """Rows of a user come and go together; a few draws at a time give what all at once would."""
    rng = np.random.default_rng(0)
    users, x, y = rng.integers(0, 70_000, 90_000), rng.random(90_000), rng.random(90_000)
    bootstrap = Bootstrap(users, 40, 0.95, 5)
    names, at = np.unique(users, return_inverse=True)
    counts = drawn(len(names), 40, 5)[:, at].astype(float)
    value, draws = bootstrap.ratio(x, y)
    assert value == pytest.approx(x.sum() / y.sum())
    np.testing.assert_allclose(draws, (counts @ x) / (counts @ y))
    item = rng.integers(0, 6, 90_000)
    whole, by_item = bootstrap.by(item, x, 6)
    np.testing.assert_allclose(whole, np.bincount(item, weights=x))
    np.testing.assert_allclose(by_item, [np.bincount(item, weights=x * c, minlength=6) for c in counts])
