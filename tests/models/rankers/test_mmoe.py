"""What the network promises beyond the contract: ids are learned, warm starts copy by row, both libraries agree."""

import logging
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.delays.targets import Targets
from models.rankers import network
from models.rankers.batches import Batch
from models.rankers.features import CATEGORICAL, NUMERIC
from models.rankers.gradients import looked_gradient, summed
from models.rankers.labels import click_label
from models.rankers.layout import Layout
from models.rankers.learner import Learner
from models.rankers.levels import believed
from models.rankers.logistic import LogisticRanker
from models.rankers.mmoe import MMoERanker
from models.rankers.protocol import Diverged, TrainingData
from models.rankers.single_task import SingleTaskRanker
from models.rankers.vectors import _batch
from models.settings import LogisticSettings, MMoESettings, SingleTaskSettings
from tests.models.rankers.id_world import Drawn, IdWorld, excess, log_loss

SEED = 7
SMALL: dict[str, Any] = {
    "experts": 3, "expert_width": 16, "tower_width": 8, "embedding_dimensions": 8,
    "batch_size": 512, "learning_rate": 5e-3, "embedding_learning_rate": 0.1,
}  # fmt: skip


def fit(data: TrainingData, start_from: MMoERanker | None = None, **of: Any) -> MMoERanker:
    return MMoERanker.fit(data, MMoESettings(**(SMALL | of)), SEED, start_from)


def part(data: TrainingData, where: Any) -> TrainingData:
    features = {name: column[where] for name, column in data.features.items()}
    return TrainingData(features, data.clicked[where], data.converted[where], data.weight[where])


def having(data: TrainingData, **columns: Any) -> TrainingData:
    return replace(data, features={**data.features, **columns})


@pytest.fixture(scope="module")
def world() -> IdWorld:
    return IdWorld(users=300, items=150)


@pytest.fixture(scope="module")
def drawn(world: IdWorld) -> Drawn:
    return world.rows(12_000, seed=2)


@pytest.fixture(scope="module")
def ranker(drawn: Drawn) -> MMoERanker:
    return fit(drawn.data)


def odd(world: IdWorld, n: int = 500) -> TrainingData:
    """Rows as bad as they come: unseen ids and categories, unknown ones, NaN and infinite numbers, an empty list."""
    data = world.rows(n, seed=11).data
    features = {name: column.copy() for name, column in data.features.items()}
    features["item_id"][::5] = "unheard"
    features["user_id"][::7] = None
    features["item_category"][::3] = "new category"
    features["last_items"][::4] = None
    features["last_items"][1::4] = "unheard"
    features["item_price"][::2] = np.nan
    features["user_impressions"][::9] = np.inf
    del features["attributes.hour"]
    return replace(data, features=features)


def test_ids_are_learned_and_come_near_the_truth() -> None:
    """Numbers tell little of who likes what: a ranker with ids closes most of what others leave, in one pass."""
    world = IdWorld()
    train, test = world.rows(150_000, seed=2), world.rows(20_000, seed=3)
    constant = excess(test.p_click, np.full(20_000, train.data.clicked.mean()))
    linear = LogisticRanker.fit(train.data, LogisticSettings(), SEED).predict(test.data.features)
    found = MMoERanker.fit(train.data, MMoESettings(), SEED).predict(test.data.features)
    assert excess(test.p_click, linear.p_click) > 0.6 * constant
    assert excess(test.p_click, found.p_click) < 0.3 * constant
    assert log_loss(test.data.clicked, found.p_click) < log_loss(test.data.clicked, linear.p_click)
    assert excess(test.p_conversion, found.p_conversion) < 0.5 * excess(test.p_conversion, linear.p_conversion)
    assert found.p_click.mean() == pytest.approx(test.p_click.mean(), rel=0.05)
    assert found.p_conversion.mean() == pytest.approx(test.p_conversion.mean(), rel=0.08)


def test_the_trainer_and_the_server_say_the_same(world: IdWorld, drawn: Drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch learned it and numpy serves it, from half-precision vectors: what was judged must be what answers."""
    kept: list[Learner] = []
    finished, exact = Learner.finished, []

    def watched(learner: Learner) -> Any:
        kept.append(learner)
        exact.append(learner.scored(batch_of(learner), 10))
        return finished(learner)

    monkeypatch.setattr(Learner, "finished", watched)
    data = odd(world)

    def batch_of(learner: Learner) -> Batch:
        click = click_label(data)
        return _batch(layout[0], learner._table, data, click, None, layout[0].hashed(data.features, click.rows))

    layout = [Layout.fit(drawn.data.features, np.arange(len(drawn.data.clicked)))]
    served = fit(drawn.data).predict(data.features)
    by_trainer = kept[0].scored(batch_of(kept[0]), 10)
    for of, p in zip(range(2), (served.p_click, served.p_conversion_given_click), strict=True):
        np.testing.assert_allclose(1 / (1 + np.exp(-by_trainer[of])), p, rtol=0, atol=1e-5)
        # What rounding the vectors to half precision changed at all.
        np.testing.assert_allclose(1 / (1 + np.exp(-exact[0][of])), p, rtol=0, atol=1e-3)
    assert np.ptp(served.p_click) > 0.1


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 399), min_size=1, max_size=200))
def test_a_row_scores_the_same_wherever_it_stands(world: IdWorld, ranker: MMoERanker, places: list[int]) -> None:
    """In a request of any size and order, but for the order in which a matrix product adds where it stands."""
    rows = world.rows(400, seed=5).data
    whole = ranker.predict(rows.features)
    some = ranker.predict(part(rows, places).features)
    for name in ("p_click", "p_conversion_given_click"):
        np.testing.assert_allclose(getattr(some, name), getattr(whole, name)[places], rtol=0, atol=1e-6)


def test_scoring_needs_no_torch(ranker: MMoERanker, tmp_path: Path) -> None:
    """The endpoint must not carry half a gigabyte of library, nor wait for it."""
    for name, content in ranker.to_files().items():
        (tmp_path / name).write_bytes(content)
    code = f"""
import sys, pathlib
from models.rankers.mmoe import MMoERanker
from tests.models.rankers.id_world import IdWorld
files = {{path.name: path.read_bytes() for path in pathlib.Path({str(tmp_path)!r}).iterdir()}}
print(len(MMoERanker.from_files(files).predict(IdWorld(300, 150).rows(7, 1).data.features).p_click))
print({{"torch", "xgboost", "scipy"}} & set(sys.modules))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split("\n")[:2] == ["7", "set()"]


def test_an_id_column_it_learned_is_needed_from_then_on(ranker: MMoERanker, drawn: Drawn) -> None:
    """A dropped id must stop the run, not make everybody unknown; who never had it does not miss it."""
    for name in ("user_id", "item_id", "last_items"):
        less = {column: values for column, values in drawn.data.features.items() if column != name}
        with pytest.raises(ValueError, match=name):
            ranker.predict(less)
    few = part(drawn.data, slice(0, 3000))
    without = {name: column for name, column in few.features.items() if name not in ("user_id", "last_items")}
    assert np.isfinite(fit(replace(few, features=without)).predict(without).p_click).all()


def test_a_weight_undoes_sampling(world: IdWorld, drawn: Drawn) -> None:
    """Of the rows without a click a quarter is kept, at four times the weight: the rate is that of all rows."""
    clicked = drawn.data.clicked == 1.0
    kept = clicked | (np.random.default_rng(0).random(len(clicked)) < 0.25)
    sampled = part(drawn.data, kept)
    weighted = replace(sampled, weight=np.where(sampled.clicked == 1.0, 1.0, 4.0))
    test = world.rows(5000, seed=4)
    rate = test.p_click.mean()
    assert fit(weighted).predict(test.data.features).p_click.mean() == pytest.approx(rate, rel=0.15)
    assert fit(sampled).predict(test.data.features).p_click.mean() > 1.5 * rate


# --- warm starts


def test_no_epochs_change_nothing(ranker: MMoERanker, drawn: Drawn) -> None:
    """Continuing with nothing to learn gives the parent's very bytes: copying rows loses no bit."""
    assert fit(drawn.data, ranker, warm_epochs=0).to_files() == ranker.to_files()


def test_no_rows_are_refused(ranker: MMoERanker, drawn: Drawn) -> None:
    """As the contract says: a day without clicks must not become a model, not even the parent's copy."""
    with pytest.raises(ValueError, match="clicked and unclicked"):
        fit(part(drawn.data, slice(0, 0)), ranker)


def test_ids_not_seen_keep_their_bytes(world: IdWorld, ranker: MMoERanker) -> None:
    """A user who stayed away a day is who she was: no momentum, no decay, no rounding moves her."""
    data = world.rows(4000, seed=6).data
    here = np.char.find(data.features["user_id"].astype(str), "u1") == 0
    # No row hidden either: whose value is hidden is drawn, and the rest's vector is then nobody's.
    warm = fit(part(data, here), ranker, id_dropout=0.0)
    before, after = ranker._table, warm._table
    away = [user for user in before.values["user_id"] if not user.startswith("u1")]
    there = [user for user in before.values["user_id"] if user.startswith("u1")]
    assert len(away) > 100
    assert len(there) > 50
    for user in away:
        old, new = before.row_of["user_id"][user], after.row_of["user_id"][user]
        assert before.rows[old].tobytes() == after.rows[new].tobytes()
        assert before.accumulators[old] == after.accumulators[new]
    moved = [
        before.rows[before.row_of["user_id"][u]].tobytes() != after.rows[after.row_of["user_id"][u]].tobytes()
        for u in there
    ]
    assert all(moved)
    grown = [
        after.accumulators[after.row_of["user_id"][u]] > before.accumulators[before.row_of["user_id"][u]] for u in there
    ]
    assert all(grown)


def test_a_new_item_begins_as_its_category_is(world: IdWorld, ranker: MMoERanker) -> None:
    """Through the ranker's own columns: the vectors of the category's known items, averaged, and a fresh start."""
    data = world.rows(3000, seed=7).data
    items = data.features["item_id"].copy()
    mine = data.features["item_category"] == "c3"
    items[np.flatnonzero(mine)[:20]] = "brand new"
    warm = fit(having(data, item_id=items), ranker, warm_epochs=0)
    before, after = ranker._table, warm._table
    known = sorted(set(items[mine]) - {"brand new"} | set())
    rows = [before.row_of["item_id"][item] for item in known if item in before.row_of["item_id"]]
    new = after.row_of["item_id"]["brand new"]
    np.testing.assert_allclose(after.rows[new], before.rows[rows].astype(np.float32).mean(axis=0), atol=1e-3)
    assert after.accumulators[new] == 0.0
    assert "brand new" not in before.row_of["item_id"]


def test_rare_ids_wait_and_old_ones_go(drawn: Drawn) -> None:
    """Memory is for who comes again; the day is the data's, not a clock's."""
    few = part(drawn.data, slice(0, 4000))
    users = few.features["user_id"].copy()
    users[:4], users[4:9] = "four rows", "five rows"
    first = fit(replace(having(few, user_id=users), days=np.full(4000, 100)))
    assert "five rows" in first._table.row_of["user_id"]
    assert "four rows" not in first._table.row_of["user_id"]
    later = part(drawn.data, slice(4000, 8000))
    for day, there in ((130, True), (131, False)):
        warm = fit(replace(later, days=np.full(4000, day)), first)
        assert ("five rows" in warm._table.row_of["user_id"]) is there
        assert set(later.features["user_id"]) & set(first._table.values["user_id"]) <= set(
            warm._table.row_of["user_id"]
        )
    capped = fit(few, max_ids=10)._table
    counts = {user: (few.features["user_id"] == user).sum() for user in set(few.features["user_id"])}
    assert sorted(capped.values["user_id"]) == sorted(sorted(counts, key=lambda u: (-counts[u], u))[:10])


def test_the_rest_is_learned_by_hiding_ids(world: IdWorld, drawn: Drawn) -> None:
    """Someone new is like the average of those known, not like a random vector."""
    test = world.rows(6000, seed=8)
    strangers = {name: column.copy() for name, column in test.data.features.items()}
    strangers["user_id"][:] = "stranger"
    strangers["item_id"][:] = "new"

    def misses(**of: Any) -> float:
        return excess(test.p_click, fit(drawn.data, **of).predict(strangers).p_click)

    constant = excess(test.p_click, np.full(6000, drawn.data.clicked.mean()))
    assert misses(id_dropout=0.05) < constant
    assert misses(id_dropout=0.05) < misses(id_dropout=0.0)


# --- learning


def test_a_loss_that_is_no_number_stops_the_fit(drawn: Drawn) -> None:
    """A model of NaN would be written, judged and only then found out."""
    with pytest.raises(Diverged, match=r"finite loss; found \S+ in epoch 1 after \d+ rows"):
        fit(part(drawn.data, slice(0, 3000)), learning_rate=1e30, batch_size=64)
    with pytest.raises(Diverged, match="finite scores in the end"):  # one step, whose loss came before it
        fit(part(drawn.data, slice(0, 3000)), learning_rate=1e30, batch_size=3000)


def test_later_passes_stop_when_held_out_rows_like_them_less(world: IdWorld, drawn: Drawn) -> None:
    """Ids are learned by heart in later passes: of twenty, the one before it got worse is kept."""
    few, later = part(drawn.data, slice(0, 2500)), world.rows(4000, seed=9).data
    many = {"epochs": 20, "batch_size": 64}
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("models.rankers")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        stopped = fit(replace(few, held_out=later), **many)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    figures = [float(line.rpartition(" ")[2]) for line in said if "held-out" in line]
    assert 2 <= len(figures) < 20
    assert figures[-1] >= figures[-2] == min(figures)
    by = {"stopped": stopped, "all": fit(few, **many)}
    losses = {name: log_loss(later.clicked, r.predict(later.features).p_click) for name, r in by.items()}
    assert losses["stopped"] == pytest.approx(figures[-2], abs=1e-3)  # intercepts are set afterwards
    assert losses["stopped"] < losses["all"]


def test_a_second_pass_is_a_loss_where_ids_are_many() -> None:
    """So there is one by default: what a few rows say of an id is learned in the first, and by heart in the next.
    Caution keeps most of that away.
    """
    assert MMoESettings().epochs == MMoESettings().warm_epochs == 1
    many = IdWorld(users=4000, items=1500)
    train, test = many.rows(20_000, seed=2), many.rows(10_000, seed=3)
    own = {"admit_after": 1, "batch_size": 256}
    once, thrice, careful = (
        excess(test.p_click, fit(train.data, **own, **of).predict(test.data.features).p_click)
        for of in ({}, {"epochs": 3}, {"epochs": 3, "embedding_caution": 1.0})
    )
    assert once < 0.9 * thrice
    assert careful < 0.6 * thrice


def test_progress_is_told(drawn: Drawn, caplog: pytest.LogCaptureFixture) -> None:
    """Ten lines an epoch with the rows done, the loss and that of rows held out; whoever listens has the time of each
    and so the rate. Watching changes nothing.
    """
    data = replace(drawn.data, held_out=part(drawn.data, slice(0, 1000)))
    with caplog.at_level(logging.INFO, "models.rankers"):
        watched = fit(data, batch_size=100)
    records = [record for record in caplog.records if hasattr(record, "rows")]
    assert watched.to_files() == fit(drawn.data, batch_size=100).to_files()
    told = [record.validation_log_loss for record in records]
    said = watched.predict(data.held_out.features).p_click
    assert told[-1] < told[0]
    assert told[-1] == pytest.approx(log_loss(data.held_out.clicked, said), abs=0.002), "but for the level set later"
    assert [record.rows for record in records] == [1200 * k for k in range(1, 11)]
    assert all(0 < record.loss < 3 for record in records)


# --- experts


def test_each_task_shares_out_its_gate(ranker: MMoERanker, drawn: Drawn) -> None:
    usage = ranker.gate_usage(drawn.data.features)
    assert usage.shape == (2, 3)
    np.testing.assert_allclose(usage.sum(axis=1), 1.0, atol=1e-6)
    # Of a batch and of its parts, by their sizes: the mean over rows, made-up ones not among them.
    parts = [ranker.gate_usage(part(drawn.data, at).features) for at in (slice(0, 100), slice(100, 400))]
    whole = ranker.gate_usage(part(drawn.data, slice(0, 400)).features)
    np.testing.assert_allclose((100 * parts[0] + 300 * parts[1]) / 400, whole, atol=1e-6)


def test_gates_look_at_the_task_and_the_surface(ranker: MMoERanker, drawn: Drawn) -> None:
    """One model serves all surfaces: which experts answer must be able to depend on what is asked."""
    rows = part(drawn.data, slice(0, 64))
    for name in ("task_type", "surface"):
        usage = [ranker.gate_usage(having(rows, **{name: np.full(64, value, dtype=object)}).features) for value in "ab"]
        assert np.abs(usage[0] - usage[1]).max() > 1e-4


def test_an_expert_nobody_asks_is_dropped_for_nothing(ranker: MMoERanker, drawn: Drawn) -> None:
    """And one that is used is paid for, in the log-loss that is reported."""
    weights = {name: value.copy() for name, value in ranker._weights.items()}
    weights["gates.bias"][:, 1] = -40.0
    lazy = MMoERanker(ranker._layout, weights, ranker._memory, ranker._table, ranker._conversion)
    fewer, cost = lazy.pruned(0.01, drawn.data)
    assert cost.kept == (0, 2)
    assert cost.usage[1] < 1e-6
    np.testing.assert_allclose(
        fewer.predict(drawn.data.features).p_click, lazy.predict(drawn.data.features).p_click, atol=1e-6
    )
    assert cost.log_loss_after == pytest.approx(cost.log_loss_before, abs=1e-6)
    assert MMoERanker.from_files(fewer.to_files()).to_files() == fewer.to_files()
    again = fit(part(drawn.data, slice(0, 2000)), fewer)
    assert again.gate_usage(drawn.data.features).shape == (2, 2)
    one, dear = ranker.pruned(0.999, drawn.data)
    assert 1 <= len(dear.kept) <= 2
    assert (
        dear.log_loss_after["click"]
        == log_loss(drawn.data.clicked, one.predict(drawn.data.features).p_click)
        != pytest.approx(dear.log_loss_before["click"], abs=1e-6)
    )


def test_tasks_apart_have_experts_of_their_own(drawn: Drawn) -> None:
    """Single-task: whatever the conversion's expert says, the click's answer is the same."""
    small = SingleTaskSettings(**{name: value for name, value in SMALL.items() if name != "experts"})
    apart = SingleTaskRanker.fit(part(drawn.data, slice(0, 3000)), small, SEED)
    shares = network.gates(np, apart._weights, next(iter(apart._blocks(drawn.data.features))))
    np.testing.assert_array_equal(shares, np.broadcast_to(np.eye(2)[..., None], shares.shape))
    weights = {name: value.copy() for name, value in apart._weights.items()}
    weights["experts.weight"][:, 1] = 1.0
    other = SingleTaskRanker(apart._layout, weights, {}, apart._table, None)
    found, changed = (r.predict(drawn.data.features) for r in (apart, other))
    assert np.array_equal(found.p_click, changed.p_click)
    assert not np.allclose(found.p_conversion_given_click, changed.p_conversion_given_click)


# --- size


def test_a_hundred_million_parameters_are_built_and_take_steps_in_four_gigabytes() -> None:
    """In a process of its own, whose peak is read; the sizes are settings and nothing else."""
    if psutil.virtual_memory().available < 5 * 2**30:
        pytest.skip("needs 5 GiB of memory that nobody else uses")
    code = """
import sys; sys.path.insert(0, ".")
from tests.models.rankers.test_mmoe import a_hundred_million
a_hundred_million()
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    parameters, steps, peak_mib = (float(word) for word in found.stdout.split()[-3:])
    assert parameters >= 100e6
    assert steps >= 2
    assert peak_mib < 4096


def a_hundred_million(n: int = 8192, listed: int = 100, dimensions: int = 121) -> None:
    """Prints the parameters, the steps taken and the peak memory in MiB of a fit where every id is another."""
    features: dict[str, Any] = {name: np.zeros(n) for name in NUMERIC}
    features |= {name: np.full(n, "a", dtype=object) for name in CATEGORICAL}
    features["item_id"] = np.array([f"i{k}" for k in range(n)], dtype=object)
    features["user_id"] = np.array([f"u{k}" for k in range(n)], dtype=object)
    features["last_items"] = np.array([f"l{k}" for k in range(n * listed)], dtype=object).reshape(n, listed)
    clicked = (np.arange(n) % 10 == 0).astype(float)
    data = TrainingData(features, clicked, np.full(n, np.nan), np.ones(n))
    size = {"embedding_dimensions": dimensions, "admit_after": 1, "batch_size": 2048}
    steps: list[float] = []
    step = Learner.step
    Learner.step = lambda *of: steps.append(step(*of)) or steps[-1]  # type: ignore[assignment,method-assign,func-returns-value]
    ranker = MMoERanker.fit(data, MMoESettings(**size), SEED)
    parameters = sum(weight.size for weight in ranker._weights.values()) + ranker._table.rows.size
    print(parameters, len(steps), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def test_a_warm_start_learns_no_day_twice(world: IdWorld, drawn: Drawn) -> None:
    """A second pass over rows learns their ids by heart, and most days of a warm start are its parent's too."""
    first = fit(replace(drawn.data, days=np.full(len(drawn.data.clicked), 100)))
    newer = world.rows(3_000, seed=31).data
    n = len(drawn.data.clicked)
    both = TrainingData(
        {name: np.concatenate([column, newer.features[name]]) for name, column in drawn.data.features.items()},
        np.concatenate([drawn.data.clicked, newer.clicked]),
        np.concatenate([drawn.data.converted, newer.converted]),
        np.concatenate([drawn.data.weight, newer.weight]),
        days=np.concatenate([np.full(n, 100), np.full(3_000, 101)]),
    )
    own = fit(replace(newer, days=np.full(3_000, 101)), first)
    assert fit(both, first).to_files() == own.to_files()
    assert own.to_files() != first.to_files()
    silent = replace(both, clicked=np.where(both.days == 101, 0.0, both.clicked))
    assert fit(silent, first).to_files() != first.to_files()  # a day without clicks teaches with the others


def test_only_these_rows_take_their_conversions_along() -> None:
    """What open conversions teach points at rows by their place, which moves."""
    taught = Targets.of(np.array([1, 3, 4]), np.array([True, False, True]), np.ones(3), np.array([1.0, 0.5, 1.0]))
    data = TrainingData({"x": np.arange(5.0)}, np.ones(5), np.full(5, np.nan), np.ones(5), taught, np.arange(5))
    found = data.where(np.array([0, 3, 4]))
    assert found.features["x"].tolist() == [0, 3, 4]
    assert found.days is not None
    assert found.days.tolist() == [0, 3, 4]
    assert found.conversion is not None
    assert (found.conversion.rows.tolist(), found.conversion.label.tolist()) == ([1, 2], [0, 1])
    assert found.conversion.seen.tolist() == [0.5, 1.0]


def test_few_conversions_move_the_level_of_a_warm_start_a_part_of_the_way() -> None:
    """A hundred are half believed; a cold start has nothing else to believe."""
    assert believed(100, goes_on=True) == pytest.approx(0.5)
    assert believed(0, goes_on=True) == 0.0
    assert believed(1, goes_on=False) == 1.0


# --- checkpoints


class Shelf:
    """Keeps what was saved last, and breaks after so many times."""

    def __init__(self, content: bytes | None = None, breaks_after: int | None = None) -> None:
        self.content, self.left = content, breaks_after

    def load(self) -> bytes | None:
        return self.content

    def save(self, content: bytes) -> None:
        self.content = content
        if self.left is not None:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt


class File:
    """A checkpoint as a file, replaced whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> bytes | None:
        return self.path.read_bytes() if self.path.exists() else None

    def save(self, content: bytes) -> None:
        self.path.with_suffix(".part").write_bytes(content)
        self.path.with_suffix(".part").replace(self.path)


def kept_fit(shelf: Any, data: TrainingData, **of: Any) -> MMoERanker:
    """Saves every third step."""
    from models.rankers import learner

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner, "EVERY", 3)
        return MMoERanker.fit(data, MMoESettings(**(SMALL | of)), SEED, None, shelf)


def steps_of(fit: Any) -> int:
    """How many steps it took."""
    taken, step = [0], Learner.step

    def counted(*of: Any) -> float:
        taken[0] += 1
        return step(*of)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "step", counted)
        fit()
    return taken[0]


SLOWLY = """
import sys, time, pathlib
from models.rankers.learner import Learner
from tests.models.rankers.test_mmoe import File, IdWorld, kept_fit
step = Learner.step
Learner.step = lambda *of: (time.sleep(0.02), step(*of))[1]
kept_fit(File(pathlib.Path(sys.argv[1])), IdWorld(users=300, items=150).rows(20_000, seed=2).data)
"""


def test_a_fit_that_was_killed_goes_on_to_the_same_bytes(world: IdWorld, tmp_path: Path) -> None:
    """SIGKILL at any time, by a machine that was taken away: the rerun ends where an undisturbed one does."""
    store = File(tmp_path / "checkpoint")
    with subprocess.Popen([sys.executable, "-c", SLOWLY, str(store.path)]) as process:
        while not store.path.exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    data = world.rows(20_000, seed=2).data
    whole = fit(data)
    found: list[MMoERanker] = []
    steps = steps_of(lambda: found.append(kept_fit(store, data)))
    assert 0 < steps <= 40 - 3
    assert found[0].to_files() == whole.to_files()


def test_a_fit_goes_on_in_any_pass(world: IdWorld, drawn: Drawn) -> None:
    """What it would go back to, when held-out rows like a pass less, is kept too."""
    data = replace(part(drawn.data, slice(0, 2500)), held_out=world.rows(2000, seed=9).data)
    many = {"epochs": 6, "batch_size": 256}
    whole = fit(data, **many)
    for times in (1, 4, 8):
        shelf = Shelf(breaks_after=times)
        with pytest.raises(KeyboardInterrupt):
            kept_fit(shelf, data, **many)
        assert kept_fit(Shelf(shelf.content), data, **many).to_files() == whole.to_files()


def test_a_checkpoint_of_another_fit_is_left_aside(drawn: Drawn) -> None:
    """Rows that changed since, or settings: to go on from there would be a model of nothing."""
    data = part(drawn.data, slice(0, 6000))
    shelf = Shelf(breaks_after=2)
    with pytest.raises(KeyboardInterrupt):
        kept_fit(shelf, data)
    assert steps_of(lambda: kept_fit(Shelf(shelf.content), data)) == 12 - 6
    relabelled = replace(data, clicked=np.roll(data.clicked, 1))
    for rows, of in ((relabelled, {}), (data, {"learning_rate": 1e-3}), (part(data, slice(0, 5900)), {})):
        found: list[MMoERanker] = []
        assert (
            steps_of(lambda found=found, rows=rows, of=of: found.append(kept_fit(Shelf(shelf.content), rows, **of)))
            == 12
        )
        assert found[0].to_files() == fit(rows, **of).to_files()


# --- what learning is made of


def test_the_gradient_by_hand_is_that_of_the_formula() -> None:
    """Of lists with and without entries, and of networks that have no lists."""
    torch.manual_seed(1)
    for words, listed in ((3, 4), (2, 0)):
        looked = torch.randn(7, words + listed, 5, requires_grad=True)
        present = (torch.rand(7, listed) < 0.6).float()
        present[0] = 0.0
        x = network.inputs(torch, torch.randn(7, 6), looked, present)
        gradient = torch.randn_like(x)
        x.backward(gradient)
        found = looked_gradient(gradient, looked.detach(), present)
        np.testing.assert_allclose(found.numpy(), looked.grad.numpy(), atol=1e-5)


def test_gradients_are_summed_by_the_row_they_are_of() -> None:
    slots = np.array([[0, 2], [2, 1], [0, 0]])
    gradient = torch.arange(12.0).reshape(3, 2, 2)
    expected = np.zeros((3, 2), np.float32)
    np.add.at(expected, slots, gradient.numpy())
    np.testing.assert_array_equal(summed(gradient, slots, 3), expected)


def test_many_rows_are_prepared_as_few_are(world: IdWorld, ranker: MMoERanker) -> None:
    """In blocks, for memory's sake: where one ends must not show."""
    features = world.rows(20_000, seed=3).data.features
    whole = ranker._layout.numbers(features)
    some = ranker._layout.numbers({name: column[8_000:8_400] for name, column in features.items()})
    assert np.array_equal(whole[8_000:8_400], some, equal_nan=True)
