"""Laws that every counterfactual estimate obeys, on random logs: scale, shift, order, merge, limits of the options."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation import off_policy, weighting
from models.evaluation.estimate import Estimate
from models.evaluation.moments import ClusterSums, Moments
from models.evaluation.sufficient import SufficientStatistics
from models.evaluation.weighting import Estimator, Log

Arrays = dict[str, np.ndarray]
ROWWISE: dict[str, Estimator] = {
    "ips": weighting.ips, "clipped_ips": weighting.clipped_ips(2.0), "snips": weighting.snips, "dm": weighting.dm,
    "dr": weighting.dr, "sndr": weighting.sndr, "switch_dr": weighting.switch_dr(2.0), "dros": weighting.dros(3.0),
}  # fmt: skip
SHIFTS_ALONE = ("snips",)
SHIFTS_WITH_MODEL = ("dm", "dr", "sndr", "switch_dr", "dros")
seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=30, deadline=None)


def logs(seed: int, n: int = 0, users: int = 0) -> Arrays:
    """A random log of n decisions (2 to 400 by default), with a reward model that is off; `clusters` of random size."""
    rng = np.random.default_rng(seed)
    n = n or int(rng.integers(2, 400))
    logged = rng.uniform(0.05, 1, n)
    clusters = np.concatenate([[0, 1], rng.integers(0, users or max(2, n // 3), n - 2)])
    return {
        "reward": rng.normal(1.0, 2.0, n),
        "logged": logged,
        "target": np.minimum(1.0, logged * rng.uniform(0.1, 3, n)),
        "predicted_logged": rng.normal(1.0, 1.0, n),
        "predicted_target": rng.normal(1.0, 1.0, n),
        "clusters": rng.permutation(clusters),
    }


def found(name: str, arrays: Arrays, clustered: bool = False) -> Estimate:
    return statistics(name, arrays, clustered).estimate()


def statistics(name: str, arrays: Arrays, clustered: bool = False) -> SufficientStatistics:
    log = Log.checked(**{key: a for key, a in arrays.items() if key != "clusters"})
    return SufficientStatistics.of(ROWWISE[name](log), clusters=arrays["clusters"] if clustered else None)


def close(a: Estimate, b: Estimate, tolerance: float = 1e-12) -> None:
    """All six figures, to within the tolerance of their own size."""
    size = max(abs(a.value), a.stderr, 1e-300)
    for one, other in zip((a.value, a.stderr, a.low, a.high), (b.value, b.stderr, b.low, b.high), strict=True):
        assert abs(one - other) <= tolerance * 10 * max(size, abs(one))
    assert a.n == b.n
    assert a.effective_n == pytest.approx(b.effective_n, rel=tolerance)


@pytest.mark.parametrize("name", [name for name in ROWWISE if name != "dm"])
@quick
@given(seed=seeds)
def test_the_logging_policy_is_worth_the_mean_reward(name: str, seed: int) -> None:
    """Target = logging, and a model that knows the mean of what it would do: every estimator gives the plain mean."""
    arrays = logs(seed)
    arrays["target"] = arrays["logged"]
    mean = arrays["reward"].mean()
    arrays["predicted_target"] = arrays["predicted_logged"]
    expected = mean
    if name == "dros":  # a weight of 1 is shrunk to 3 / 4, so a quarter of the model stays
        expected = 0.75 * mean + 0.25 * arrays["predicted_logged"].mean()
    assert found(name, arrays).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("name", list(ROWWISE))
@quick
@given(seed=seeds, scale=st.floats(1e-3, 1e3))
def test_scale_passes_through(name: str, clustered: bool, seed: int, scale: float) -> None:
    """Euros or cents: value and error scale with the reward and the model of it, n and effective n do not."""
    arrays = logs(seed)
    before = found(name, arrays, clustered)
    scaled = {key: a * scale if key.startswith(("reward", "predicted")) else a for key, a in arrays.items()}
    after = found(name, scaled, clustered)
    back = Estimate(
        *(x / scale for x in (after.value, after.stderr, after.low, after.high)), after.n, after.effective_n
    )
    close(before, back, 1e-11)


@pytest.mark.parametrize("name", [*SHIFTS_ALONE, *SHIFTS_WITH_MODEL])
@quick
@given(seed=seeds, shift=st.floats(-100, 100))
def test_shift_passes_through_where_it_should(name: str, seed: int, shift: float) -> None:
    """A constant added to reward and model is added to the value and widens nothing; plain IPS has no such law."""
    arrays = logs(seed)
    before = found(name, arrays)
    after = found(name, {k: a + shift if k.startswith(("reward", "predicted")) else a for k, a in arrays.items()})
    assert after.value == pytest.approx(before.value + shift, abs=1e-9)
    assert after.stderr == pytest.approx(before.stderr, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("name", list(ROWWISE))
@quick
@given(seed=seeds)
def test_order_means_nothing(name: str, clustered: bool, seed: int) -> None:
    """Partitions are read in any order, and rows within them."""
    arrays = logs(seed)
    at = np.random.default_rng(seed + 1).permutation(len(arrays["reward"]))
    close(found(name, arrays, clustered), found(name, {key: a[at] for key, a in arrays.items()}, clustered))


def pieces(arrays: Arrays, seed: int) -> Iterator[Arrays]:
    """The rows cut at random places, empty pieces included, in random order."""
    rng = np.random.default_rng(seed)
    n = len(arrays["reward"])
    cuts = np.sort(rng.integers(0, n + 1, rng.integers(1, 9)))
    columns = [np.split(a, cuts) for a in arrays.values()]
    parts = [dict(zip(arrays, cut, strict=True)) for cut in zip(*columns, strict=True)]
    for i in rng.permutation(len(parts)):
        yield parts[i]


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("name", list(ROWWISE))
@quick
@given(seed=seeds)
def test_any_split_gives_the_same_estimate(name: str, clustered: bool, seed: int) -> None:
    """The merge law: batches, partitions and the whole agree to 1e-12, users cut across pieces included."""
    arrays = logs(seed)
    parts = [statistics(name, part, clustered) for part in pieces(arrays, seed)]
    left = parts[0]
    for part in parts[1:]:
        left = left + part
    right = parts[-1]
    for part in parts[-2::-1]:
        right = part + right
    whole = found(name, arrays, clustered)
    close(whole, left.estimate())
    close(whole, right.estimate())


@quick
@given(seed=seeds)
def test_partitions_by_user_merge_at_a_fixed_size(seed: int) -> None:
    """Where every user sits in one partition, each may be settled to a few hundred numbers before it is sent."""
    arrays = logs(seed)
    side = arrays["clusters"] % 3
    settled = [statistics("snips", {k: a[side == s] for k, a in arrays.items()}, True).settled() for s in range(3)]
    assert all(isinstance(part.units, Moments) for part in settled)
    close(found("snips", arrays, True), (settled[0] + settled[1] + settled[2]).estimate())


def test_a_stream_of_arrow_batches_gives_the_same_figure() -> None:
    """The adapter is three lines: columns of a record batch are the arrays."""
    arrays = logs(3, n=5_000, users=400)
    reader = pa.table(arrays).to_batches(max_chunksize=700)
    total: SufficientStatistics | None = None
    for batch in reader:
        part = statistics("sndr", {name: batch[name].to_numpy() for name in batch.schema.names}, clustered=True)
        total = part if total is None else total + part
    assert total is not None
    close(found("sndr", arrays, True), total.estimate())


@quick
@given(seed=seeds)
def test_differences_merge_and_are_paired(seed: int) -> None:
    """A difference is the difference of the values, exactly 0 +- 0 for one policy twice, and splits like all else."""
    arrays = logs(seed)
    del arrays["clusters"]
    log, other = Log.checked(**arrays), Log.checked(**{**arrays, "target": arrays["logged"]})
    both = SufficientStatistics.of(weighting.snips(log), weighting.dr(other)).estimate()
    a, b = (SufficientStatistics.of(t).estimate() for t in (weighting.snips(log), weighting.dr(other)))
    assert both.value == pytest.approx(b.value - a.value, abs=1e-12)
    none = SufficientStatistics.of(weighting.snips(log), weighting.snips(log)).estimate()
    assert (none.value, none.stderr, none.low, none.high) == (0.0, 0.0, 0.0, 0.0)


@quick
@given(seed=seeds, clustered=st.booleans())
def test_signs_choose_and_add_estimators(seed: int, clustered: bool) -> None:
    """One of several sums holds as much as each alone: any of them, their sum, a difference."""
    arrays = logs(seed)
    users = arrays.pop("clusters") if clustered else None
    arrays.pop("clusters", None)
    log = Log.checked(**arrays)
    terms = [weighting.snips(log), weighting.dr(log), weighting.ips(log)]
    every = SufficientStatistics.of(*terms, clusters=users)
    for at, term in enumerate(terms):
        alone = SufficientStatistics.of(term, clusters=users).estimate()
        close(every.estimate(signs=[float(at == other) for other in range(3)]), alone, 1e-9)
    apart = SufficientStatistics.of(terms[0], terms[2], clusters=users).estimate()
    close(every.estimate(signs=[-1, 0, 1]), apart, 1e-9)
    total = every.estimate(signs=[1, 1, 1])
    assert total.value == pytest.approx(sum(SufficientStatistics.of(t).estimate().value for t in terms), abs=1e-9)


@quick
@given(seed=seeds, k=st.integers(1, 4), shift=st.sampled_from([0.0, 1e3, -1e6]))
def test_moments_equal_the_sums_they_stand_for(seed: int, k: int, shift: float) -> None:
    """Merged moments against the plain sums of powers of centred projections, far from zero too."""
    rng = np.random.default_rng(seed)
    rows = rng.gamma(1.0, 1.0, (int(rng.integers(2, 300)), k)) + shift
    cut = int(rng.integers(0, len(rows)))
    merged = Moments.of(rows[:cut]) + Moments.of(rows[cut:])
    v = rng.normal(size=k)
    d = (rows - rows.mean(axis=0)) @ v
    for power, sum_ in zip((2, 3, 4), merged.along(v), strict=True):
        assert sum_ == pytest.approx((d**power).sum(), rel=1e-6, abs=1e-6 * (np.abs(d) ** power).sum())
    direct = ClusterSums(np.arange(len(rows)), rows).along(v)
    assert direct == pytest.approx(merged.along(v), rel=1e-5, abs=1e-5 * float((np.abs(d) ** 2).sum()) ** 2)


def test_cluster_sums_know_who_came_back() -> None:
    """A user in two batches is one unit, not two."""
    a, b = ClusterSums.of(np.array([7, 3, 7]), np.eye(3)), ClusterSums.of(np.array([9, 3]), np.ones((2, 3)))
    both = a + b
    assert both.keys.tolist() == [3, 7, 9]
    assert both.sums.tolist() == [[1, 2, 1], [1, 0, 1], [1, 1, 1]]
    assert both.moments().units == 3
    with pytest.raises(ValueError, match="both have clusters or neither"):
        statistics("ips", logs(1)) + statistics("ips", logs(1), clustered=True)


@quick
@given(seed=seeds)
def test_clipping_is_monotone(seed: int) -> None:
    """For rewards >= 0 a larger clip gives a larger value, never above plain IPS, which is the limit."""
    arrays = logs(seed)
    given_ = {key: arrays[key] for key in ("logged", "target")} | {"reward": np.abs(arrays["reward"])}
    values = [off_policy.clipped_ips(**given_, clip=clip).value for clip in (0.1, 0.5, 1.0, 2.0, 1e9)]
    assert values == sorted(values)
    plain = off_policy.ips(**given_).value
    assert values[-1] == pytest.approx(plain)
    chosen = off_policy.smallest_error_clip(Log.checked(**given_))
    assert 1.0 <= chosen <= max(1.0, float((given_["target"] / given_["logged"]).max()) * (1 + 1e-12))
    assert off_policy.clipped_ips(**given_).value == off_policy.clipped_ips(**given_, clip=chosen).value


def test_the_chosen_clip_weighs_bias_against_variance() -> None:
    """One absurd weight among many is clipped; weights without a tail are left alone; more data clip less."""
    rng = np.random.default_rng(0)

    def log(n: int, rare: float) -> Log:
        logged = np.where(np.arange(n) % 100 == 0, rare, 0.5)
        return Log.checked((rng.random(n) < 0.3).astype(float), logged, np.full(n, 0.5))

    assert off_policy.smallest_error_clip(log(1_000, 0.5)) == 1.0
    few, many = log(1_000, 0.001), log(200_000, 0.001)
    assert off_policy.smallest_error_clip(few) < few.weight.max()
    assert off_policy.smallest_error_clip(few) < off_policy.smallest_error_clip(many)


@quick
@given(seed=seeds)
def test_limits_of_switch_and_shrinkage(seed: int) -> None:
    """0 is the direct method, infinity doubly robust, for both; their values agree to rounding, so do their errors."""
    arrays = logs(seed)
    del arrays["clusters"]
    ends: dict[float, Callable[..., Estimate]] = {
        0.0: partial(off_policy.dm, **{k: a for k, a in arrays.items() if k != "predicted_logged"}),
        np.inf: partial(off_policy.dr, **arrays),
    }
    for end, expected in ends.items():
        for limit in (off_policy.switch_dr(**arrays, threshold=end), off_policy.dros(**arrays, shrinkage=end)):
            assert limit.value == pytest.approx(expected().value, abs=1e-12)
            assert limit.stderr == pytest.approx(expected().stderr, abs=1e-12)


@quick
@given(seed=seeds)
def test_doubly_robust_stands_between_its_two_legs(seed: int) -> None:
    """Without weights it is the model, without a model it is IPS; self-normalised alike."""
    arrays = logs(seed)
    del arrays["clusters"]
    none = {**arrays, "target": np.zeros(len(arrays["target"]))}
    model = off_policy.dm(**{k: a for k, a in none.items() if k != "predicted_logged"})
    weighted = {k: arrays[k] for k in ("reward", "logged", "target")}
    blank = {**arrays, "predicted_logged": none["target"], "predicted_target": none["target"]}
    for robust, plain in ((off_policy.dr, off_policy.ips), (off_policy.sndr, off_policy.snips)):
        assert robust(**none).value == pytest.approx(model.value, abs=1e-12)
        assert robust(**none).stderr == pytest.approx(model.stderr, abs=1e-12)
        close(robust(**blank), plain(**weighted), 1e-11)


@pytest.mark.parametrize("name", list(ROWWISE))
def test_more_data_give_a_narrower_interval_and_copies_of_a_user_do_not(name: str) -> None:
    """Logging every decision twice must not make the gate surer."""
    once = logs(5, n=400, users=150)
    more = found(name, logs(6, n=40_000, users=15_000), True)
    base = found(name, once, True)
    assert more.stderr < base.stderr / 5
    assert more.high - more.low < (base.high - base.low) / 5
    twice = found(name, {key: np.tile(a, 2) for key, a in once.items()}, True)
    assert twice.stderr == pytest.approx(base.stderr)
    assert (twice.low, twice.high) == (pytest.approx(base.low), pytest.approx(base.high))
