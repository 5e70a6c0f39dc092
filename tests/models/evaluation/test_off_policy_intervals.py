"""Error rates of every interval by simulation, and the laws of the ones that add or run on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation import weighting
from models.evaluation.intervals import PoissonBootstrap, poisson_counts
from models.evaluation.sufficient import SufficientStatistics
from models.evaluation.weighting import Log

CHANCES = np.array([0.5, 0.3, 0.2])
TARGET = np.array([0.2, 0.2, 0.6])
CLICK = np.array([0.1, 0.2, 0.4])
TRUTH = float(TARGET @ CLICK)


def logs(n: int, seed: int) -> Log:
    """n decisions of a policy that picks one of three."""
    rng = np.random.default_rng(seed)
    action = rng.choice(3, n, p=CHANCES)
    reward = (rng.random(n) < CLICK[action]).astype(float)
    return Log.checked(reward, CHANCES[action], TARGET[action], CLICK[action] + 0.05, np.full(n, TRUTH + 0.05))


def of_users(seed: int, users: int = 100, each: int = 6) -> tuple[Log, np.ndarray]:
    """Users whose decisions go together: half of them click twice as often, half never."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(users), each)
    action = rng.choice(3, users * each, p=CHANCES)
    keen = rng.choice([0.0, 2.0], users)[who]
    reward = (rng.random(len(who)) < CLICK[action] * keen).astype(float)
    return Log.checked(reward, CHANCES[action], TARGET[action]), who


@pytest.mark.parametrize("name", ["ips", "snips", "dr", "sndr"])
def test_analytic_intervals_cover_the_truth(name: str) -> None:
    """A nominal 95% interval holds the true value about 95 times in 100, and misses about alike on either side."""
    runs = 500
    found = [SufficientStatistics.of(getattr(weighting, name)(logs(300, s))).estimate() for s in range(runs)]
    below, above = (sum(f.high < TRUTH for f in found), sum(f.low > TRUTH for f in found))
    assert 0.925 <= 1 - (below + above) / runs <= 0.975
    assert max(below, above) <= 0.05 * runs


def test_the_difference_of_two_policies_is_covered() -> None:
    """What the gate asks: challenger minus champion, paired."""
    gain, runs, held = float((TARGET - CHANCES) @ CLICK), 500, 0
    for seed in range(runs):
        log = logs(300, seed)
        logging = Log.checked(log.reward, log.logged, log.logged)
        found = SufficientStatistics.of(weighting.snips(logging), weighting.snips(log)).estimate()
        held += found.low <= gain <= found.high
    assert 0.925 <= held / runs <= 0.975


def test_clustered_intervals_cover_the_truth() -> None:
    """By rows the interval would be far too narrow; by users the analytic and the bootstrap one both hold."""
    runs, held = 300, {"users": 0, "bootstrap": 0, "rows": 0}
    for seed in range(runs):
        log, users = of_users(seed)
        terms = weighting.snips(log)
        for name, found in (
            ("users", SufficientStatistics.of(terms, clusters=users).estimate()),
            ("rows", SufficientStatistics.of(terms).estimate()),
            ("bootstrap", PoissonBootstrap.of(terms, users=users, replicates=400, seed=seed).estimate()),
        ):
            held[name] += found.low <= TRUTH <= found.high
    assert 0.91 <= held["users"] / runs <= 0.985
    assert 0.91 <= held["bootstrap"] / runs <= 0.985
    assert held["rows"] < 0.9 * runs


def test_bootstrap_agrees_with_the_analytic_error() -> None:
    """Two ways to one figure: value exactly, standard error within the draws' own noise; differences too."""
    log, users = of_users(1, users=500)
    logging = Log.checked(log.reward, log.logged, log.logged)
    for terms in ((weighting.snips(log),), (weighting.ips(log),), (weighting.snips(logging), weighting.snips(log))):
        analytic = SufficientStatistics.of(*terms, clusters=users).estimate()
        found = PoissonBootstrap.of(*terms, users=users, replicates=2_000, seed=3).estimate()
        assert found.value == pytest.approx(analytic.value, abs=1e-12)
        assert found.stderr == pytest.approx(analytic.stderr, rel=0.06)
        assert (found.n, found.effective_n) == (analytic.n, pytest.approx(analytic.effective_n))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), cut=st.integers(0, 600))
def test_bootstraps_of_partitions_add(seed: int, cut: int) -> None:
    """A user seen in two partitions is drawn alike in both, so the sums are those of the whole."""
    log, users = of_users(seed % 1_000)
    at = np.random.default_rng(seed).permutation(600)
    terms = weighting.snips(log)
    whole = PoissonBootstrap.of(terms, users=users, replicates=50, seed=seed)
    parts = [
        PoissonBootstrap.of(
            weighting.Terms(terms.plain[rows], terms.ratio[rows], terms.weight[rows]),
            users=users[rows], replicates=50, seed=seed,
        )
        for rows in (at[:cut], at[cut:])
    ]  # fmt: skip
    np.testing.assert_allclose((parts[0] + parts[1]).draws, whole.draws, rtol=1e-12, atol=1e-9)
    assert (parts[1] + parts[0]).estimate().value == pytest.approx(whole.estimate().value, abs=1e-12)


def test_poisson_counts_are_poisson_and_unrelated() -> None:
    """Mean and variance one; neighbours in key, replicate and seed uncorrelated; a key keeps its count."""
    counts, reseeded = (poisson_counts(np.arange(2_000), 200, seed) for seed in (1, 2))
    assert counts.mean() == pytest.approx(1, abs=0.01)
    assert counts.var() == pytest.approx(1, abs=0.02)
    for a, b in ((counts[:, 1:], counts[:, :-1]), (counts[1:], counts[:-1]), (counts, reseeded)):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.01
    assert (poisson_counts(np.array([-7, 1_999]), 200, 1)[:, 1] == counts[:, 1_999]).all()


def test_bootstraps_of_other_draws_do_not_add() -> None:
    """Another seed means other users: their sums are no resample of anything."""
    log, users = of_users(1)
    one, other = (PoissonBootstrap.of(weighting.ips(log), users=users, replicates=9, seed=s) for s in (1, 2))
    with pytest.raises(ValueError, match=r"one seed and shape; found 1 \(9, 4\) and 2 \(9, 4\)"):
        one + other
    one_user = PoissonBootstrap.of(weighting.snips(log), users=np.zeros(600, int), replicates=99, seed=1)
    with pytest.raises(ValueError, match="figure in every resample"):
        one_user.estimate()
