"""What open conversions teach: only what the cut has heard, by the days' own delay curve or their predecessor's."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from jobs.config import AttributionSettings
from jobs.errors import Refused
from jobs.evidence.data_warnings import html, of_delays
from jobs.lake.tables import ATTRIBUTES, TIME
from jobs.train import core
from jobs.train.delays import Conversions, conversions, horizon_days, observed_at
from models.delays.curve import DelayCurve, Drift
from models.delays.methods import Taught, taught
from models.delays.targets import Targets
from models.evaluation.estimate import Refusal
from models.rankers.protocol import Inputs, TrainingData
from models.settings import DelaySettings

CUT = datetime(2026, 2, 1, tzinfo=UTC)
WINDOWS = AttributionSettings()
HORIZON = horizon_days(WINDOWS)
ROWS, RATE = 20_000, 0.2
SHOWN = pa.schema([("event_time", TIME), ("conversion_heard_at", TIME), ("surface", pa.string())])


def train_fold(seed: int = 0, days: tuple[float, float] = (3, 28), slow: float = 1.0) -> tuple[pa.Table, TrainingData]:
    """Rows shown so many days before the cut, half of them clicked, on two surfaces; closed after ten days and what was
    left of the day. Conversions take up to ten days, `slow` times as long on search.
    """
    rng = np.random.default_rng(seed)
    age, surface = rng.uniform(*days, ROWS), rng.integers(0, 2, ROWS)
    clicked, converts = rng.random(ROWS) < 0.5, rng.random(ROWS) < RATE
    delay = 10 * rng.random(ROWS) ** np.where(surface == 1, 4 / slow, 4.0)
    heard = clicked & converts & (delay < age)
    times = [CUT - timedelta(days=float(at)) for at in age]
    come = zip(times, delay, heard, strict=True)
    told = [at + timedelta(days=float(wait)) if yes else None for at, wait, yes in come]
    shown = pa.table([times, told, np.array(["home", "search"])[surface]], SHOWN)
    closed = np.ceil(age) >= 11  # whole days from the midnight before the row to the cut, which is one
    converted = np.where(closed, heard.astype(float), np.nan)
    return shown, TrainingData({}, clicked.astype(float), converted, np.ones(ROWS))


def learned(rows: tuple[pa.Table, TrainingData], before: DelayCurve | None = None, **settings: Any) -> Conversions:
    return conversions(*rows, CUT, WINDOWS, DelaySettings(**settings), before)


def rate(targets: Taught | None) -> float:
    assert isinstance(targets, Targets)
    return targets.rate()


def test_clicks_teach_as_far_as_they_were_to_be_seen() -> None:
    """Every click once, closed ones in full, and together the true rate, where what has been heard falls short."""
    rows = train_fold()
    found = learned(rows)
    data, targets = rows[1], found.targets
    assert isinstance(targets, Targets)
    assert np.array_equal(targets.rows, np.flatnonzero(data.clicked == 1.0))
    closed = ~np.isnan(data.converted[targets.rows])
    assert 0 < closed.mean() < 1
    assert (targets.seen[closed] == 1).all()
    assert np.array_equal(targets.label[closed], data.converted[targets.rows][closed])
    assert (targets.seen[~closed] < 1).mean() > 0.9
    assert rate(targets) == pytest.approx(RATE, abs=0.012)


def test_the_newest_days_teach_by_the_curve_of_their_predecessor() -> None:
    """Three days of which nothing is closed: waiting knows nothing, and what has been heard is a third too little."""
    before = learned(train_fold(1, slow=2.0)).curve
    assert before is not None
    assert set(before.groups) == {"home", "search"}
    fresh = train_fold(2, (0, 3), slow=2.0)
    found = learned(fresh, DelayCurve.from_json(before.to_json()))
    assert found.curve is not None
    assert found.why == "open conversions are read by the predecessor's delay curve"
    assert rate(found.targets) == pytest.approx(RATE, abs=0.015)
    _, observed = observed_at(*fresh, CUT, WINDOWS)
    assert observed.come.mean() < 0.75 * RATE
    assert learned(fresh).targets is None
    assert learned(fresh, replace(before, horizon=before.horizon + 1)).targets is None, "of another window"


def test_the_curve_is_published_on_a_grid_of_ages() -> None:
    """What a dashboard plots: true shares of each surface, the counts behind them, and whose curve it is."""
    rows = train_fold()
    found = learned(rows)
    table = found.published.to_pandas()
    assert set(table.origin) == {"own"}
    assert table.groupby("group").size().to_dict() == dict.fromkeys(("all", "surface: home", "surface: search"), 44)
    assert table.age_days.max() == HORIZON
    for group in ("surface: home", "surface: search"):
        mine = table[table.group == group].set_index("age_days")
        assert mine.share.loc[[1.0, 4.0, 9.0]].to_list() == pytest.approx((np.array([1, 4, 9]) / 10) ** 0.25, abs=0.04)
        assert mine.share.is_monotonic_increasing
        assert mine.share.iloc[-1] == 1.0
    _, observed = observed_at(*rows, CUT, WINDOWS)
    last = table[(table.group == "all") & (table.age_days == HORIZON)].iloc[0]
    assert last.at_risk == (observed.come & observed.closed).sum()
    assert last.reverse_hazard == last.came / last.at_risk
    assert isinstance(found.drift, Drift)
    assert last.drift_log_ratio == found.drift.longer.value
    young = learned(train_fold(2, (0, 3)), found.curve).published.to_pandas()
    assert set(young.origin) == {"parent"}
    pooled = young[young.group == "all"].share.to_numpy()
    assert pooled == pytest.approx(table[table.group == "all"].share.to_numpy())
    assert (young[young.age_days > 3].at_risk == 0).all(), "counts are of these days"
    assert learned(train_fold(2, (0, 3))).published.num_rows == 0


def test_a_setting_says_how() -> None:
    """Waiting is what a ranker does by itself; censoring weights use closed rows and early conversions."""
    rows = train_fold()
    assert learned(rows, conversion="waited").targets is None
    weighted = learned(rows, conversion="censoring_weights").targets
    assert isinstance(weighted, Targets)
    assert (weighted.seen == 1).all()
    assert float(np.average(weighted.label, weights=weighted.weight)) == pytest.approx(RATE, abs=0.012)


def test_further_settings_are_the_methods_of_the_bench() -> None:
    """Placed on the rows of clicks; fake negatives are told to be no more than what has been heard."""
    rows = train_fold()
    data, (of_clicks, observed) = rows[1], observed_at(*rows, CUT, WINDOWS)
    for method in ("em", "censoring_weights", "hazards", "fake_negatives"):
        found, made = learned(rows, conversion=method), taught(method, observed)
        assert isinstance(found.targets, tuple) == isinstance(made, tuple) == (method == "hazards")
        pairs = zip(*(of if isinstance(of, tuple) else (of,) for of in (found.targets, made)), strict=True)
        for placed, plain in pairs:
            assert type(placed) is type(plain)
            assert np.array_equal(placed.rows, of_clicks[plain.rows])
            assert (data.clicked[placed.rows] == 1.0).all()
            assert np.array_equal(placed.seen, plain.seen)
        assert found.curve is not None, "published whatever is learned by"
    fake = learned(rows, conversion="fake_negatives")
    assert rate(fake.targets) == pytest.approx(observed.come.mean(), rel=1e-6)
    assert "what has been heard so far, which is too little" in fake.why
    young = train_fold(2, (0, 3))
    assert learned(young, conversion="hazards").targets is None
    assert learned(young, conversion="em").targets is not None, "it needs no closed label"


def test_a_warm_start_renews_what_its_days_contradict() -> None:
    """Of days that wait three times as long as their parent's, up to their own age; and says so."""
    before = learned(train_fold(1)).curve
    slower = learned(train_fold(2, (0, 6), slow=4.0), before)
    assert before is not None
    assert slower.curve is not None
    assert set(slower.published["origin"].to_pylist()) == {"both"}
    assert slower.why.endswith("read by the predecessor's delay curve, renewed where these days contradict it")
    at = np.array([2.0])
    assert slower.curve.seen(at, np.array(["search"])) < before.seen(at, np.array(["search"])) - 0.1
    assert slower.curve.seen(at, np.array(["home"])) == before.seen(at, np.array(["home"]))


def test_a_conversion_heard_of_after_the_cut_is_refused() -> None:
    """The dataset holds none; one that leaked in must stop the run, not teach."""
    shown, data = train_fold()
    times = shown["conversion_heard_at"].to_pylist()
    times[int(np.flatnonzero(data.clicked == 1.0)[0])] = CUT + timedelta(seconds=1)
    leaking = shown.set_column(1, "conversion_heard_at", pa.array(times, TIME))
    with pytest.raises(Refused, match=r"heard of before the cut, .*; found 1 heard of later"):
        learned((leaking, data))


def test_a_log_without_conversions_waits() -> None:
    """Real logs may have none (KuaiRand): there is no curve, and nothing to learn by one."""
    shown, data = train_fold()
    silent = shown.set_column(1, "conversion_heard_at", pa.nulls(ROWS, TIME))
    found = learned((silent, replace(data, converted=np.where(np.isnan(data.converted), np.nan, 0.0))))
    assert (found.targets, found.curve) == (None, None)
    assert isinstance(found.drift, Refusal)
    assert found.warning is None


def folded(rows: pa.Table, before: DelayCurve | None = None) -> core.Folds:
    return core.folds([rows], CUT, WINDOWS, DelaySettings(), before, Inputs(categories=("surface",)))


def in_examples(*parts: tuple[tuple[pa.Table, TrainingData], str]) -> pa.Table:
    """Training folds as rows of `examples`, each of a split."""
    tables = []
    for (shown, data), split in parts:
        users = pa.array([f"u{k % 5_000}" for k in range(len(shown))])
        made = {"split": [split] * len(shown), "user_id": users, "item_id": users, "request_id": users}
        made |= {
            "weight": data.weight,
            "clicked": pa.array(data.clicked == 1.0),
            "attributes": pa.nulls(len(shown), ATTRIBUTES),
        }
        made["converted"] = pa.array(np.where(np.isnan(data.converted), None, data.converted == 1.0), pa.bool_())
        tables.append(pa.table({**{name: shown[name] for name in shown.column_names}, **made}))
    return pa.concat_tables(tables)


def test_the_last_days_clicks_tell_the_level_learned_from_or_held_out() -> None:
    """Those of seven days, none that is judged; and what was heard of them is what was to be."""
    rows = in_examples((train_fold(1, (3, 28)), "train"), (train_fold(2, (2, 3)), "validate"))
    judged = in_examples((train_fold(3, (1, 2)), "test"))
    found = folded(pa.concat_tables([rows, judged]))
    newest = found.newest
    assert newest is not None
    recent = pc.greater_equal(rows["event_time"], pa.scalar(CUT - timedelta(days=7), TIME))
    clicked = rows.filter(pc.and_(recent, rows["clicked"]))
    assert 0 < pc.sum(pc.equal(clicked["split"], "train")).as_py() < len(clicked)
    assert len(newest) == len(clicked)
    assert newest.came.tolist() == clicked["conversion_heard_at"].is_valid().to_pylist()
    assert newest.features["surface"].strings().tolist() == clicked["surface"].to_pylist()
    assert len(set(newest.users)) == len(pc.unique(clicked["user_id"]))
    assert (RATE * newest.seen).mean() == pytest.approx(newest.came.mean(), rel=0.04)
    assert newest.came.mean() < 0.9 * RATE


def test_the_last_days_tell_no_level_where_their_curve_is_in_doubt() -> None:
    """While delays drift, where no curve is known, and where they contradict their predecessor's."""
    old, slower = (train_fold(1, (7, 28)), "train"), (train_fold(2, (0, 7), slow=2.0), "train")
    drifting = folded(in_examples(old, slower))
    assert drifting.conversions.curve is not None, "and training goes on by it"
    assert (drifting.newest, drifting.conversions.doubt) == (None, "delays drift")
    alone = folded(in_examples((train_fold(2, (0, 6)), "train")))
    assert (alone.newest, alone.conversions.doubt) == (None, "no delay curve is known")
    before = learned(train_fold(1)).curve
    assert folded(in_examples((train_fold(2, (0, 6)), "train")), before).newest is not None
    renewed = folded(in_examples((train_fold(2, (0, 6), slow=4.0), "train")), before)
    assert renewed.newest is None
    assert renewed.conversions.doubt == "the newest days contradict the predecessor's delay curve"


def test_drift_is_looked_for_in_the_last_days() -> None:
    """Rows of the last week that wait twice as long as those before."""
    (old, old_data), (new, new_data) = train_fold(1, (7, 28)), train_fold(2, (0, 7), slow=2.0)

    def both(name: str) -> np.ndarray:
        return np.concatenate([getattr(old_data, name), getattr(new_data, name)])

    data = TrainingData({}, both("clicked"), both("converted"), both("weight"))
    found = learned((pa.concat_tables([old, new]), data))
    assert isinstance(found.drift, Drift)
    assert found.drift.longer.low > 0
    assert found.warning is not None
    assert "recent conversions take longer than before" in found.warning
    assert found.warning.endswith("promises too few")
    still = learned(train_fold(3))
    assert (still.warning, still.drifted) == (None, None)
    (warned,) = of_delays({"day": "2026-01-31", "delay_drift": found.drifted})
    assert warned.days[0].found == pytest.approx(found.drift.longer.value, abs=1e-6)
    assert found.warning in html([warned])
    assert of_delays({"day": "2026-01-31", "delay_drift": still.drifted}) == of_delays({}) == []
