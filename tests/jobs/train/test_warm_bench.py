"""A small version of `tests/bench/bench_warm.py`: who learns on which day, what is compared, what it costs."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest

from jobs import config
from jobs.config import Config
from jobs.lake.store import midnight
from models.evaluation.estimate import Refusal
from models.evaluation.linear import Linear
from models.evaluation.ranking import auc_influence, row_losses
from tests.bench.bench_warm import TRUTH, Judged, apart, auc, fortnight, goals, lived, log_loss, told
from tests.bench.warm_days import Day
from tests.jobs.small_lake import DAY, ITEMS, World, examples, item_ids

DAYS, TRAIN_DAYS, REQUESTS = 4, 3, 200
KIND = "logistic"
SETTINGS = {
    "TIDEGATE_ENV": "test",
    "TIDEGATE__DATASET__TRAIN_DAYS": str(TRAIN_DAYS),
    "TIDEGATE__DATASET__WARM_TRAIN_DAYS": "1",
    "TIDEGATE__WARM__MAX_DEPTH": "1",
    "TIDEGATE__RANKER__LOGISTIC__STEPS": "15",
}
TURNED = DAY - timedelta(days=2)
"""The newest day that a training of the day after `DAY` learns from."""


class TurnedWorld(World):
    """What was liked most is liked least."""

    def p_click(self, user: np.ndarray, item: np.ndarray, position: np.ndarray) -> np.ndarray:
        return 1 - super().p_click(user, item, position)


class SmallDay(Day):
    """A day of `World`, or of `TurnedWorld` from `TURNED` on."""

    def truth(self, rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        user, item = (np.array([int(name[1:]) for name in rows[of].to_pylist()]) for of in ("user_id", "item_id"))
        position = rows["position"].to_numpy()
        world = of_day(self.day - timedelta(days=1))
        return world.p_click(user, item, position), world.p_click(user, item, np.ones(len(position)))


def of_day(shown: date) -> World:
    return (TurnedWorld if shown >= TURNED else World)()


def some_days(conf: Config) -> Iterator[Day]:
    """Datasets of days in a row; item 0 is older than all of them, the others were created on `DAY`."""
    created = [midnight(DAY - timedelta(days=30 * (n == 0))) for n in range(ITEMS)]
    items = pa.table({"item_id": item_ids(np.arange(ITEMS)), "created_at": created})
    for day in (DAY + timedelta(days=n) for n in range(DAYS)):
        rows = []
        for back in range(TRAIN_DAYS + 2, 0, -1):
            shown, split = day - timedelta(days=back), {1: "test", 2: "validate"}.get(back, "train")
            rows.append(examples(of_day(shown), shown, split, REQUESTS))
        yield SmallDay(day, pa.concat_tables(rows), items, conf)


@pytest.fixture(scope="module")
def judged() -> dict[date, Judged]:
    """By day, of a chain that may be one warm start deep, in a world that turns at once."""
    return {day.day: found for _, day, found in lived(some_days(config.load(SETTINGS)), [KIND])}


def test_every_day_is_one_more_warm_start_until_a_full_training(judged: dict[date, Judged]) -> None:
    """The first day only begins the chain; a full training of the chain is that day's own, and costs what it costs."""
    days = [DAY + timedelta(days=n) for n in range(1, DAYS)]
    assert list(judged) == days
    assert [judged[day].depth for day in days] == [1, 0, 1]
    again = judged[days[1]]
    assert (again.first["warm"] == again.first["full"]).all()
    assert again.seconds["warm"] == again.seconds["full"]
    first = judged[days[0]]
    assert (first.first["warm"] != first.first["full"]).any()


def test_all_are_judged_on_the_day_that_none_has_seen(judged: dict[date, Judged]) -> None:
    """The rows of the test day, with what is true of them; items as old as they then were."""
    found, shown = judged[DAY + timedelta(days=2)], DAY + timedelta(days=1)
    rows = examples(TurnedWorld(), shown, "test", REQUESTS)
    clicked = np.array(rows["clicked"].to_pylist(), float)
    assert abs((clicked - found.shown[TRUTH]).mean()) < 0.05
    assert np.corrcoef(clicked, found.shown[TRUTH])[0, 1] > 0.3
    old = np.array(rows["item_id"].to_pylist()) == item_ids(np.array([0]))[0]
    assert found.age_days[old].min() >= 31
    assert 1 <= found.age_days[~old].min() < found.age_days[~old].max() < 2
    assert (found.newer == ~old).all()


def test_who_learned_the_turn_beats_who_did_not(judged: dict[date, Judged]) -> None:
    """A row of the table says so, with a sure interval; against itself nothing differs."""
    days = list(judged.values())
    row = fortnight(KIND, [days])
    assert row["auc_over_stale"][1] > 0.2
    assert row["auc_warm"] - row["auc_stale"] == pytest.approx(row["auc_over_stale"][0], abs=1e-5)
    assert row["one"] > 0
    assert row["cost"] == pytest.approx(sum(d.seconds["warm"] for d in days) / sum(d.seconds["full"] for d in days))
    same = apart([days], "log_loss", "full", "full")
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert set(told(KIND, DAY, days[0])) >= {"auc_full", "log_loss_warm", "ratio_stale"}


def test_figures_are_expectations_over_clicks(judged: dict[date, Judged]) -> None:
    """Against clicks drawn many times; and of clicks that are certain they are the figures of the evidence."""
    found, rng = judged[DAY + timedelta(days=1)], np.random.default_rng(0)
    truth, said = found.shown[TRUTH], found.shown["warm"]
    draws = [(rng.random(len(truth)) < truth).astype(float) for _ in range(200)]
    for figure, drawn in ((auc, auc_influence), (log_loss, lambda y, s: Linear.mean(row_losses(y, s)))):
        values = [drawn(clicked, said).value for clicked in draws]
        assert figure(truth, said).value == pytest.approx(np.mean(values), abs=4 * np.std(values) / np.sqrt(200))
        certain, known = figure(draws[0], said), drawn(draws[0], said)
        assert certain.value == pytest.approx(known.value)
        np.testing.assert_allclose(certain.influence, known.influence, atol=1e-12)


def test_another_world_has_other_users(judged: dict[date, Judged]) -> None:
    """Of two worlds alike the variance of a difference is half."""
    found = judged[DAY + timedelta(days=1)]
    once, twice = (apart([[found]] * n, "auc", "warm", "stale") for n in (1, 2))
    assert twice.value == pytest.approx(once.value)
    assert twice.stderr == pytest.approx(once.stderr / np.sqrt(2), rel=0.02)


def test_a_day_without_such_rows_has_no_say(judged: dict[date, Judged]) -> None:
    """Items are young on one day only here."""
    found = judged[DAY + timedelta(days=1)]
    older = replace(found, age_days=found.age_days + 30)
    assert apart([[found, older]], "auc_young", "warm", "stale") == apart([[found]], "auc_young", "warm", "stale")
    assert isinstance(apart([[older]], "auc_young", "warm", "stale"), Refusal)


def test_goals_are_of_either_side() -> None:
    """Just met, and just missed."""
    row = {"table": "fortnight", "ranker": KIND, "drift": "slow", "auc_over_full": [-0.001, 0, 0], "cost": 0.25}
    met = goals([{**row, "auc_young_over_stale": [0.001, 0, 0]}])
    assert [goal["met"] for goal in met] == [True, True, True]
    missed = goals([{**row, "auc_over_full": [-0.0011, 0, 0], "cost": 0.26, "auc_young_over_stale": [0, 0, 0]}])
    assert [goal["met"] for goal in missed] == [False, False, False]
