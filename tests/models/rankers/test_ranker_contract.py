"""One contract that every ranker passes, on data whose right answer is known: items alternate, good and bad."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from jobs.lake.tables import SUPERSEDED, TIME
from jobs.moment.columns import numbers
from jobs.outcomes import as_known
from models.delays.curve import DelayCurve
from models.delays.methods import METHODS, SEVERAL, as_seen, plug_in
from models.delays.methods import taught as asked
from models.delays.observed import Observed
from models.delays.targets import Targets
from models.features import LAST_ITEMS
from models.rankers import RANKERS, fit
from models.rankers.features import ATTRIBUTE_PREFIX, CATEGORICAL, NUMERIC
from models.rankers.protocol import Ranker, Scorer, TrainingData
from models.rankers.vectors import VectorRanker
from models.settings import RankerSettings

TREES = {"rounds": 15, "warm_rounds": 5, "warm_eta": 0.15, "depth": 3}
SETTINGS = RankerSettings.model_validate(
    {
        "popularity": {"prior_impressions": 5},
        "logistic": {"steps": 40, "warm_memory": 0.5},
        "crosses": {"warm_memory": 0.5},
        "xgboost": TREES,
        "lambdamart": TREES,
        "factorization": {"batch_size": 64, "rate": 0.07, "linear_rate": 0.03},
        "mmoe": {"batch_size": 64, "experts": 2, "expert_width": 16, "tower_width": 8, "learning_rate": 0.01},
        "single_task": {"batch_size": 64, "expert_width": 16, "tower_width": 8, "learning_rate": 0.01},
    }
)
LARGE = SETTINGS.model_copy(
    update={
        name: getattr(SETTINGS, name).model_copy(update={"batch_size": 128})
        for name in ("factorization", "single_task", "mmoe")
    }
)
"""For tens of thousands of rows: half as many steps, which is enough."""
ITEMS = 20
SHOWN = 4
"""Items a request."""
NETWORKS = ("single_task", "mmoe")
LESS_CLOSE = {"xgboost": 0.04, "lambdamart": 0.06, "factorization": 0.08} | dict.fromkeys(NETWORKS, 0.08)


def checkerboard(n: int = 2000, seed: int = 0, odd_is_good: bool = True) -> TrainingData:
    """Items of one parity are clicked half of the time, of the other hardly ever; a tenth of clicks convert."""
    rng = np.random.default_rng(seed)
    item = rng.integers(0, ITEMS, n)
    good = (item % 2 == 1) == odd_is_good
    features: dict[str, Any] = {name: rng.standard_normal(n) for name in NUMERIC}
    features |= {name: np.array([None, "a", "b"], dtype=object)[rng.integers(0, 3, n)] for name in CATEGORICAL}
    features["position"] = rng.integers(1, 5, n).astype(float)
    features["item_id"] = np.array([f"i{k:03d}" for k in item], dtype=object)
    features["item_category"] = np.where(good, "good", "bad").astype(object)
    features["item_click_rate"] = good * 0.3 + rng.random(n) * 0.1
    features["user_click_rate"] = np.where(rng.random(n) < 0.2, np.nan, rng.random(n))
    features["attributes.hour"] = np.array([f"h{k}" for k in rng.integers(0, 24, n)], dtype=object)
    clicked = (rng.random(n) < np.where(good, 0.5, 0.05)).astype(float)
    converted = clicked * (rng.random(n) < 0.1)
    names = np.array([None, *(f"i{k:03d}" for k in range(ITEMS))], dtype=object)
    features["user_id"] = np.array([None, "ann", "bob"], dtype=object)[rng.integers(0, 3, n)]
    features["last_items"] = names[rng.integers(0, ITEMS + 1, (n, LAST_ITEMS))]
    return TrainingData(features, clicked, converted, np.ones(n), groups=np.arange(n) // SHOWN)


def rows(data: TrainingData, where: slice | NDArray[np.int64]) -> TrainingData:
    return data.where(np.arange(len(data.clicked))[where])


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return checkerboard()


@pytest.fixture(scope="module", params=list(RANKERS))
def kind(request: pytest.FixtureRequest) -> type[Ranker]:
    return RANKERS[request.param]


@pytest.fixture(scope="module")
def ranker(kind: type[Ranker], data: TrainingData) -> Ranker:
    return fit(kind.kind, data, SETTINGS)


def same(a: Scorer, b: Scorer, data: TrainingData) -> bool:
    found, expected = a.predict(data.features), b.predict(data.features)
    return np.array_equal(found.p_click, expected.p_click) and np.array_equal(found.p_conversion, expected.p_conversion)


def test_good_items_score_above_bad_ones(ranker: Ranker) -> None:
    """A ranker that learns nothing, or the wrong way round, must not pass for one that works."""
    fresh = checkerboard(600, seed=9)
    good = fresh.features["item_category"] == "good"
    scores = ranker.predict(fresh.features)
    assert (scores.p_click[good] > 0.25).mean() > 0.95
    assert (scores.p_click[~good] < 0.25).mean() > 0.95
    assert scores.p_click[good].mean() == pytest.approx(0.5, abs=0.08)
    assert scores.p_click[~good].mean() == pytest.approx(0.05, abs=0.03)
    assert scores.p_conversion[good].mean() == pytest.approx(0.05, abs=0.025)


def test_what_it_says_it_needs_is_all_it_needs(kind: type[Ranker], ranker: Ranker, data: TrainingData) -> None:
    """Training, evidence and the latency probe make these columns and no others."""
    declared = {name: data.features[name] for name in kind.inputs.named}
    if kind.inputs.attributes:
        declared |= {name: column for name, column in data.features.items() if name.startswith(ATTRIBUTE_PREFIX)}
    found = fit(kind.kind, replace(data, features=declared), SETTINGS)
    assert found.to_files() == ranker.to_files()
    np.testing.assert_array_equal(found.predict(declared).p_click, ranker.predict(data.features).p_click)


def test_scores_are_probabilities(ranker: Ranker, data: TrainingData) -> None:
    """Policies take logarithms of these and the gate takes their log-loss."""
    scores = ranker.predict(data.features)
    for p in (scores.p_click, scores.p_conversion):
        assert p.shape == data.clicked.shape
        assert p.dtype == np.float64
        assert ((p >= 0) & (p <= 1)).all()


def test_a_row_scores_the_same_alone_as_in_a_batch(ranker: Ranker, data: TrainingData) -> None:
    """The endpoint scores a handful, the backtest thousands: what is judged must be what is served.

    To the last bit but for a network's, whose products some processors add in an order that depends on the place.
    """
    batch, least = ranker.predict(data.features), 1e-6 * isinstance(ranker, VectorRanker)
    for at in range(0, 50, 7):
        alone = ranker.predict(rows(data, slice(at, at + 1)).features)
        assert abs(alone.p_click[0] - batch.p_click[at]) <= least
        assert abs(alone.p_conversion[0] - batch.p_conversion[at]) <= least


def test_no_rows_give_no_scores(ranker: Ranker, data: TrainingData) -> None:
    """A request without candidates is answered, not crashed on."""
    assert ranker.predict(rows(data, slice(0, 0)).features).p_click.shape == (0,)


def test_saving_and_loading_changes_nothing(kind: type[Ranker], ranker: Ranker, data: TrainingData) -> None:
    """The bundle holds the very model that was judged."""
    files = ranker.to_files()
    loaded = kind.from_files(files)
    assert loaded.to_files() == files
    assert same(loaded, ranker, data)


def test_same_seed_same_bytes(kind: type[Ranker], ranker: Ranker, data: TrainingData) -> None:
    """A bundle's sha256 is its identity: a re-run must give the same one."""
    assert fit(kind.kind, data, SETTINGS).to_files() == ranker.to_files()


def test_a_second_fit_is_independent_of_the_first(kind: type[Ranker], ranker: Ranker, data: TrainingData) -> None:
    """State shared between fits would let one day's model leak into another's."""
    before = ranker.to_files()
    fit(kind.kind, checkerboard(seed=5, odd_is_good=False), SETTINGS)
    assert ranker.to_files() == before
    assert fit(kind.kind, data, SETTINGS).to_files() == before


def test_an_unknown_column_is_ignored(kind: type[Ranker], ranker: Ranker, data: TrainingData) -> None:
    """Examples carry more columns than a ranker knows."""
    more = {**data.features, "unheard_of": np.arange(len(data.clicked))}
    assert fit(kind.kind, replace(data, features=more), SETTINGS).to_files() == ranker.to_files()
    assert np.array_equal(ranker.predict(more).p_click, ranker.predict(data.features).p_click)


def test_a_missing_column_is_an_error(kind: type[Ranker], ranker: Ranker, data: TrainingData) -> None:
    """A dropped column must stop the run, not turn into scores made of defaults."""
    name = "item_id" if kind.kind == "popularity" else "item_category"
    less = {column: values for column, values in data.features.items() if column != name}
    with pytest.raises(ValueError, match=name):
        ranker.predict(less)
    with pytest.raises(ValueError, match=name):
        fit(kind.kind, replace(data, features=less), SETTINGS)


def test_unknown_labels_teach_nothing(kind: type[Ranker], ranker: Ranker, data: TrainingData) -> None:
    """An unknown outcome read as zero would teach that new items are never clicked."""
    strange = checkerboard(500, seed=3, odd_is_good=False)
    unknown = np.full(500, np.nan)
    features = {name: np.concatenate([column, strange.features[name]]) for name, column in data.features.items()}
    # Item ids that only unknown rows have would show up in popularity's table; the checkerboard has none.
    more = TrainingData(
        features,
        np.concatenate([data.clicked, unknown]),
        np.concatenate([data.converted, unknown]),
        np.ones(len(data.clicked) + 500),
        groups=np.arange(len(data.clicked) + 500) // SHOWN,
    )
    found, expected = fit(kind.kind, more, SETTINGS).predict(data.features), ranker.predict(data.features)
    np.testing.assert_allclose(found.p_click, expected.p_click, atol=1e-6)
    np.testing.assert_allclose(found.p_conversion, expected.p_conversion, atol=1e-6)


def test_a_weight_counts_as_so_many_rows(kind: type[Ranker], data: TrainingData) -> None:
    """Sampled negatives carry weights: a row of weight two must teach what two rows teach."""
    few = rows(data, slice(0, 1000))
    first = np.arange(1000) < 500
    twice = rows(few, np.concatenate([np.arange(1000), np.flatnonzero(first)]))
    weighted = fit(kind.kind, replace(few, weight=1.0 + first), SETTINGS).predict(data.features)
    repeated = fit(kind.kind, twice, SETTINGS).predict(data.features)
    # Trees place their bins by rows, not by weight, and minibatches deal other rows: they agree less closely.
    assert np.abs(weighted.p_click - repeated.p_click).mean() < LESS_CLOSE.get(kind.kind, 0.002)


def test_a_warm_start_changes_the_challenger_and_not_the_champion(
    kind: type[Ranker], ranker: Ranker, data: TrainingData
) -> None:
    """The champion serves while its successor is trained from it."""
    before = ranker.to_files()
    challenger = fit(kind.kind, checkerboard(seed=2), SETTINGS, ranker)
    assert ranker.to_files() == before
    assert not same(challenger, ranker, data)
    good = data.features["item_category"] == "good"
    scores = challenger.predict(data.features).p_click
    assert scores[good].mean() > 3 * scores[~good].mean()


def test_a_warm_start_follows_a_change(kind: type[Ranker], ranker: Ranker, data: TrainingData) -> None:
    """Daily warm starts exist to follow drift: after the tastes flip, they move towards the new ones."""
    flipped = checkerboard(seed=4)
    flipped = replace(flipped, clicked=np.where(flipped.features["item_category"] == "good", 0.0, 1.0))
    flipped.clicked[::10] = 1 - flipped.clicked[::10]
    good = data.features["item_category"] == "good"

    def gap(r: Ranker) -> float:
        scores = r.predict(data.features).p_click
        return float(scores[good].mean() - scores[~good].mean())

    assert gap(fit(kind.kind, flipped, SETTINGS, ranker)) < gap(ranker) - 0.2


@pytest.mark.parametrize("label", [0.0, 1.0, np.nan])
def test_one_class_of_clicks_is_refused(kind: type[Ranker], data: TrainingData, label: float) -> None:
    """A day whose clicks went missing must not become a model."""
    with pytest.raises(ValueError, match="clicked and unclicked"):
        fit(kind.kind, replace(data, clicked=np.full(len(data.clicked), label)), SETTINGS)


@pytest.mark.parametrize("converted", [0.0, np.nan])
def test_without_conversions_none_are_promised(kind: type[Ranker], data: TrainingData, converted: float) -> None:
    """Real logs may have no conversions at all (Open Bandit): the ranker still fits."""
    ranker = fit(kind.kind, replace(data, converted=np.full(len(data.clicked), converted)), SETTINGS)
    assert ranker.predict(data.features).p_conversion.max() == 0.0
    assert same(kind.from_files(ranker.to_files()), ranker, data)


def test_too_few_conversions_give_a_constant_rate_per_click(kind: type[Ranker], data: TrainingData) -> None:
    """A handful of conversions is a rate, not a model."""
    converted = np.zeros(len(data.clicked))
    converted[np.flatnonzero(data.clicked)[:5]] = 1.0
    scores = fit(kind.kind, replace(data, converted=converted), SETTINGS).predict(data.features)
    assert scores.p_conversion.mean() == pytest.approx(5 / len(data.clicked), rel=0.1)


def bought(data: TrainingData, seed: int, days: tuple[int, int]) -> TrainingData:
    """`data` shown evenly over `days`, its clicks bought from within a week, as a dataset of the end of day `CUT_DAY`
    holds it: what comes later has not been heard of. Converts `CONVERTS` of a good item's clicks, and of a bad one's.
    """
    rng, n = np.random.default_rng(seed), len(data.clicked)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    shown = [start + timedelta(days=float(at)) for at in np.sort(rng.uniform(*days, n))]
    good = data.features["item_category"] == "good"
    happened = (data.clicked == 1.0) & (rng.random(n) < np.where(good, *CONVERTS))
    known = [at + timedelta(days=float(7 * wait)) for at, wait in zip(shown, rng.random(n) ** 3, strict=True)]
    labels = pa.table(
        {
            "converted": happened,
            "conversion_known_at": pa.array(known, TIME),
            "conversion_superseded": pa.nulls(n, SUPERSEDED),
            "matures_at": pa.array([at + timedelta(days=8) for at in shown], TIME),
        }
    )
    return replace(data, converted=numbers(as_known(labels, "converted", start + timedelta(days=CUT_DAY), 2)))


@cache
def sold(n: int, seed: int, days: tuple[int, int]) -> TrainingData:
    """`bought` of a checkerboard, made once for every kind."""
    return bought(checkerboard(n, seed), seed, days)


CONVERTS = (0.3, 0.15)
CUT_DAY = 20
TRUTH = (0.5 * 0.3 + 0.05 * 0.15) / (0.5 + 0.05)
"""Conversions per click of the checkerboard, half of whose items are good."""


def per_click(ranker: Ranker, data: TrainingData) -> float:
    scores = ranker.predict(data.features)
    return float(scores.p_conversion.mean() / scores.p_click.mean())


def test_early_conversions_among_open_labels_teach_nothing(kind: type[Ranker], data: TrainingData) -> None:
    """Of the newest days only purchases are heard of, never that there will be none. Who learns from them promises too
    much; the days of a warm start are all of that kind, and then what is known of conversions stays as it was.
    """
    full = fit(kind.kind, sold(30_000, 1, (0, CUT_DAY)), LARGE)
    assert per_click(full, data) == pytest.approx(TRUTH, rel=0.05)
    warm = fit(kind.kind, sold(9_000, 2, (CUT_DAY - 3, CUT_DAY)), LARGE, full)
    assert per_click(warm, data) == pytest.approx(TRUTH, rel=0.05)
    before, after = (r.predict(data.features).p_conversion_given_click for r in (full, warm))
    # Experts that clicks go on teaching are held to what they said of conversions, not frozen.
    np.testing.assert_allclose(after, before, rtol=0.2 if kind.kind in NETWORKS else 1e-12)


@cache
def waiting(n: int, seed: int, days: tuple[float, float]) -> tuple[TrainingData, Observed]:
    """Rows bought as in `bought`, and what a cut sees of their clicks: how old, and what has been heard of so far."""
    data, rng = checkerboard(n, seed), np.random.default_rng(seed)
    age = CUT_DAY - np.sort(rng.uniform(*days, n))
    good = data.features["item_category"] == "good"
    happened = (data.clicked == 1.0) & (rng.random(n) < np.where(good, *CONVERTS))
    delay = np.where(happened, 7 * rng.random(n) ** 3, np.nan)
    clicks = np.flatnonzero(data.clicked == 1.0)
    observed = Observed.of(age, np.where(delay <= age, delay, np.nan), 7.0).rows(clicks)
    return replace(data, converted=np.full(n, np.nan)), observed


def taught(data: TrainingData, targets: Targets) -> TrainingData:
    """With the rows of clicks as rows of all."""
    return replace(data, conversion=replace(targets, rows=np.flatnonzero(data.clicked == 1.0)[targets.rows]))


def test_open_conversions_teach_by_how_they_are_delayed(kind: type[Ranker], data: TrainingData) -> None:
    """A full training of all days, then a warm start of three whose every conversion is open and whose rate has fallen
    by half: read by the delay curve both find the truth. As seen, "not yet" read as "no", the warm start falls too far.
    """
    rows, observed = waiting(30_000, 1, (0, CUT_DAY))
    curve = DelayCurve.fit(observed)
    full = fit(kind.kind, taught(rows, plug_in(observed, curve)), LARGE)
    assert per_click(full, data) == pytest.approx(TRUTH, rel=0.05)
    rows, observed = waiting(30_000, 2, (CUT_DAY - 3, CUT_DAY))
    assert not observed.closed.any()
    half = observed.come & (np.random.default_rng(0).random(len(observed.age)) < 0.5)
    observed = replace(observed, delay=np.where(half, np.nan, observed.delay))
    groups = {"xgboost": {"warm_rounds": 40}, "lambdamart": {"warm_rounds": 40}, "popularity": {"prior_clicks": 1.0}}
    settings = LARGE.model_copy(
        update={name: getattr(LARGE, name).model_copy(update=of) for name, of in groups.items()}
    )
    warm = fit(kind.kind, taught(rows, plug_in(observed, curve)), settings, full)
    assert per_click(warm, data) == pytest.approx(TRUTH / 2, rel=0.1)
    assert per_click(fit(kind.kind, taught(rows, as_seen(observed)), settings, full), data) < 0.42 * TRUTH
    assert same(kind.from_files(warm.to_files()), warm, data)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("as_seen", "waited")])
def test_every_way_to_read_open_conversions_can_be_asked(kind: type[Ranker], data: TrainingData, method: str) -> None:
    """As training asks it: right on average and by item, whole on disk, and a warm start goes on from it.

    Fake negatives of a snapshot learn what has been heard so far; a ranker that has one label a click says no to what
    needs several.
    """
    rows, observed = waiting(20_000, 1, (0, CUT_DAY))
    clicks = np.flatnonzero(rows.clicked == 1.0)
    known = rows.converted.copy()
    known[clicks] = np.where(observed.closed, observed.come, np.nan)
    made = asked(method, observed)
    stages = made if isinstance(made, tuple) else (made,)
    placed = tuple(replace(stage, rows=clicks[stage.rows]) for stage in stages)
    rows = replace(rows, converted=known, conversion=placed if len(placed) > 1 else placed[0])
    if method in SEVERAL and not kind.several_labels:
        with pytest.raises(ValueError, match="one conversion label a click"):
            fit(kind.kind, rows, LARGE)
        return
    found = fit(kind.kind, rows, LARGE)
    expected = observed.come.mean() if method == "fake_negatives" else TRUTH
    assert per_click(found, data) == pytest.approx(expected, rel=0.15 if method == "em" else 0.06)
    good = data.features["item_category"] == "good"
    given = found.predict(data.features).p_conversion_given_click
    assert given[good].mean() > 1.05 * given[~good].mean()
    assert same(kind.from_files(found.to_files()), found, data)
    warm = fit(kind.kind, rows, LARGE, found)
    assert per_click(warm, data) == pytest.approx(per_click(found, data), rel=0.1)
    if method == "hazards":  # the last week's clicks are past the first stages only: it keeps what it knew of the last
        young = rows.where(np.arange(int(0.65 * len(rows.clicked)) + 1, len(rows.clicked)))
        assert per_click(fit(kind.kind, young, LARGE, found), data) == pytest.approx(TRUTH, rel=0.1)


def test_where_all_is_closed_open_conversions_change_nothing(kind: type[Ranker], data: TrainingData) -> None:
    """To the byte: a method that waits is the ranker that knows of no methods."""
    targets = Targets.of(np.arange(len(data.clicked)), data.converted == 1.0, data.weight)
    clicks = np.flatnonzero(data.clicked == 1.0)
    found = fit(kind.kind, replace(data, conversion=targets.take(clicks)), SETTINGS)
    assert found.to_files() == fit(kind.kind, data, SETTINGS).to_files()


def test_conversions_of_rows_that_were_not_clicked_are_refused(kind: type[Ranker], data: TrainingData) -> None:
    """P(conversion | click) is learned from clicks: any other row would make it smaller."""
    targets = Targets.of(np.arange(len(data.clicked)), data.converted == 1.0, data.weight)
    with pytest.raises(ValueError, match="those of clicked rows"):
        fit(kind.kind, replace(data, conversion=targets), SETTINGS)


def test_a_warm_start_learns_from_conversions_that_are_closed(kind: type[Ranker], data: TrainingData) -> None:
    """Where purchases come within the day there is no reason to wait for the next full training."""
    full = fit(kind.kind, sold(20_000, 1, (0, CUT_DAY)), LARGE)
    eager = checkerboard(20_000, seed=2)
    warm = fit(kind.kind, replace(eager, converted=eager.clicked * (np.arange(20_000) % 3 > 0)), LARGE, full)
    assert per_click(warm, data) > 1.5 * per_click(full, data)


def test_a_warm_start_keeps_a_constant_rate_per_click(kind: type[Ranker], data: TrainingData) -> None:
    """A log with few conversions has a rate instead of a model; three days that know of none must not forget it."""
    converted = np.where(np.cumsum(data.clicked) <= 10, data.clicked, 0.0)
    full = fit(kind.kind, replace(data, converted=converted), SETTINGS)
    assert per_click(full, data) == pytest.approx(10 / data.clicked.sum(), rel=0.15)
    unknown = replace(checkerboard(seed=2), converted=np.full(len(data.clicked), np.nan))
    warm = fit(kind.kind, unknown, SETTINGS, full)
    assert per_click(warm, data) == pytest.approx(per_click(full, data), rel=0.15)


def test_a_warm_start_of_a_ranker_that_knew_no_conversions_takes_the_rate_it_sees(
    kind: type[Ranker], data: TrainingData
) -> None:
    """The first full training of a new log has no closed label at all: nothing is no knowledge worth keeping."""
    silent = fit(kind.kind, replace(data, converted=np.full(len(data.clicked), np.nan)), SETTINGS)
    converted = np.where(np.cumsum(data.clicked) <= 10, data.clicked, 0.0)
    warm = fit(kind.kind, replace(data, converted=converted), SETTINGS, silent)
    assert per_click(warm, data) == pytest.approx(10 / data.clicked.sum(), rel=0.2)


@pytest.mark.parametrize("share", [0.1, 0.999, 1.0])
def test_no_conversion_is_likelier_than_its_click(kind: type[Ranker], share: float) -> None:
    """A conversion is paid to a click: p(conversion) above p(click) is no probability of anything, by however little,
    and whoever divides one by the other is told of more purchases than clicks.
    """
    busy, quiet = checkerboard(seed=1), checkerboard(seed=2)
    busy = replace(busy, converted=busy.clicked * (np.random.default_rng(0).random(len(busy.clicked)) < share))
    quiet.clicked[np.random.default_rng(1).random(len(quiet.clicked)) < 0.9] = 0.0
    quiet = replace(quiet, converted=np.full(len(quiet.clicked), np.nan))
    full = fit(kind.kind, busy, SETTINGS)
    for ranker in (full, fit(kind.kind, quiet, SETTINGS, full)):
        for rows_of in (busy, quiet, checkerboard(seed=3)):
            scores = ranker.predict(rows_of.features)
            assert (scores.p_conversion <= scores.p_click).all()
            assert (scores.p_conversion >= 0).all()


@pytest.mark.parametrize(("name", "value"), [("clicked", 0.5), ("clicked", -1.0), ("weight", -1.0), ("weight", np.nan)])
def test_impossible_labels_and_weights_are_refused(
    kind: type[Ranker], data: TrainingData, name: str, value: float
) -> None:
    """Bad input is an error here, not a slightly wrong model later."""
    column = getattr(data, name).copy()
    column[3] = value
    with pytest.raises(ValueError, match=r"label|weights"):
        fit(kind.kind, replace(data, **{name: column}), SETTINGS)


def test_trees_see_positions_where_pages_are_as_long_as_the_step_of_evenly_spaced_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bins read off every eighth row of pages of four knew one position: no tree asked for it, which cost 0.02 AUC."""
    monkeypatch.setattr("models.rankers.bins.CUT_ROWS", 500)
    data = checkerboard(n=4_000)
    position = np.tile([1.0, 2.0, 3.0, 4.0], 1_000)
    clicked = (np.random.default_rng(1).random(4_000) < np.where(position == 1, 0.6, 0.1)).astype(float)
    data = replace(data, features={**data.features, "position": position}, clicked=clicked, converted=clicked * 0)
    ranker = fit("xgboost", data, RankerSettings())
    said = ranker.predict(data.features).p_click
    assert said[position == 1].mean() > 2 * said[position > 1].mean()
