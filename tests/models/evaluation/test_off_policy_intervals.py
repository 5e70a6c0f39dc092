"""Error rates of every interval by simulation, and the laws of the ones that add or run on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation import weighting
from models.evaluation.intervals import ConfidenceSequence, PoissonBootstrap, empirical_bernstein, poisson_counts
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


def test_empirical_bernstein_never_misses_more_than_promised() -> None:
    """At n = 40, where nothing is normal yet, it still holds; it is wider than the analytic interval."""
    runs, clip = 400, 3.0
    for n in (40, 2_000):
        held = 0
        for seed in range(runs):
            statistics = SufficientStatistics.of(weighting.clipped_ips(clip)(logs(n, seed)))
            found = empirical_bernstein(statistics, (0.0, clip))
            held += found.low <= TRUTH <= found.high
        assert held >= 0.95 * runs
    assert found.high - found.low > statistics.estimate().high - statistics.estimate().low


def test_empirical_bernstein_by_hand_and_its_refusals() -> None:
    """Two contributions of 1 and 0: variance 1/2; wide enough to say nothing. Ratios and clusters are refused."""
    log = Log.checked(np.array([1.0, 0.0]), np.full(2, 0.5), np.full(2, 0.5))
    statistics = SufficientStatistics.of(weighting.ips(log))
    assert empirical_bernstein(statistics, (0.0, 1.0)).low == 0
    many = SufficientStatistics.of(weighting.ips(Log.checked(np.arange(1000) % 2 * 1.0, *[np.full(1000, 0.5)] * 2)))
    variance, doubt = 0.25 * 1000 / 999, np.log(4 / 0.05)
    reach = np.sqrt(2 * variance * doubt / 1000) + 7 * doubt / (3 * 999)
    assert empirical_bernstein(many, (0.0, 1.0)).high == pytest.approx(0.5 + reach)
    with pytest.raises(ValueError, match="plain mean of independent rows"):
        empirical_bernstein(SufficientStatistics.of(weighting.snips(log)), (0.0, 1.0))
    four = Log.checked(np.array([1.0, 0, 1, 0]), np.full(4, 0.5), np.full(4, 0.5))
    clusters = np.array([0, 0, 1, 1])
    with pytest.raises(ValueError, match="plain mean of independent rows"):
        empirical_bernstein(SufficientStatistics.of(weighting.ips(four), clusters=clusters), (0.0, 1.0))
    with pytest.raises(ValueError, match=r"values in \[0, 0.1\]; found a mean of 0.5"):
        empirical_bernstein(statistics, (0.0, 0.1))


def test_a_confidence_sequence_holds_at_every_look() -> None:
    """Looking after every decision: the sequence misses at most 5%, repeated 95% intervals miss far more often."""
    runs, n, missed, naive = 400, 1_000, 0, 0
    for seed in range(runs):
        log = logs(n, seed)
        low, high = ConfidenceSequence.starting().after(log).interval
        missed += not low <= TRUTH <= high
        x, t = log.weight * log.reward, np.arange(1, n + 1)
        mean = np.cumsum(x) / t
        reach = 1.96 * np.sqrt(np.maximum(np.cumsum(x**2) / t - mean**2, 1e-12) / t)
        naive += bool((np.abs(mean - TRUTH) > reach)[100:].any())
    assert missed <= 0.05 * runs
    assert naive > 0.15 * runs


def test_a_confidence_sequence_narrows_onto_the_truth() -> None:
    """With enough decisions it says something, and less than the analytic interval, which looks once."""
    log = logs(100_000, 1)
    found = ConfidenceSequence.starting(0.95).after(log).estimate()
    once = SufficientStatistics.of(weighting.ips(log)).estimate()
    assert found.low <= TRUTH <= found.high
    assert once.high - once.low < found.high - found.low < 4 * (once.high - once.low)
    assert (found.value, found.stderr, found.n) == (once.value, once.stderr, 100_000)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_confidence_sequence_runs_on(seed: int) -> None:
    """Day by day or all at once: the same limits, empty days included."""
    rng = np.random.default_rng(seed)
    log = logs(500, seed)
    days = np.split(np.arange(500), np.sort(rng.integers(0, 501, 5)))
    running = ConfidenceSequence.starting()
    widths = [1.0]
    for day in days:
        running = running.after(Log(*(a[day] for a in vars(log).values())))
        widths.append(running.interval[1] - running.interval[0])
    assert widths == sorted(widths, reverse=True)
    assert running.interval == pytest.approx(ConfidenceSequence.starting().after(log).interval, abs=1e-12)


def test_confidence_sequences_need_bounded_rewards() -> None:
    """Bets on w (1 - r) lose without limit when a reward exceeds one."""
    two = np.array([0.5, 0.5])
    with pytest.raises(ValueError, match=r"rewards in \[0, 1\]; found 0 to 2"):
        ConfidenceSequence.starting().after(Log.checked(np.array([0.0, 2.0]), two, two))
    with pytest.raises(ValueError, match=r"in \(0, 1\)"):
        ConfidenceSequence.starting(1.0)
    with pytest.raises(ValueError, match="found none"):
        ConfidenceSequence.starting().estimate()
