"""Which train examples are kept and what they weigh: the laws that keep probabilities right, and no look ahead."""

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from jobs.asof.coins import uniform
from jobs.assemble import selection
from jobs.config import SelectionSettings
from jobs.errors import Refused
from jobs.moment.identity import IDENTITY
from models.rankers import fit
from models.rankers.features import CATEGORICAL, IDS, NUMERIC
from models.rankers.protocol import TrainingData
from models.settings import RankerSettings
from tests.jobs.assemble.selection_rows import LAST, at, clicks, labelled, many

NOBODY, ALONE = clicks([]), IDENTITY.empty_table()
RULES = SelectionSettings(active_clicks=1, duplicates="per_outcome", negative_rate=0.4, max_train_rows=150)
USERS, ITEMS = st.sampled_from(["ann", "bob", None]), st.sampled_from(["tea", "mug"])
SHOWN = st.tuples(USERS, ITEMS, st.integers(20, 29), st.sampled_from([True, False, None]))
CLICKED = st.tuples(USERS, ITEMS, st.integers(10, 31))


def chosen(rows: pa.Table, rules: SelectionSettings, known: pa.Table = NOBODY, identity: pa.Table = ALONE) -> pa.Table:
    return selection.selected(rows, known, identity, rules, LAST)[0]


def weights(rows: pa.Table, rules: SelectionSettings, **more: Any) -> dict[str, float]:
    found = chosen(rows, rules, **more)
    return dict(zip(found["impression_id"].to_pylist(), found["weight"].to_pylist(), strict=True))


def test_nothing_is_left_out_by_default() -> None:
    """A dataset is all impressions of its days, each once, unless a team asks for something else."""
    rows = many(200)
    found, left_out = selection.selected(rows, NOBODY, ALONE, SelectionSettings(), LAST)
    assert found.column("impression_id").equals(rows.column("impression_id"))
    assert set(found["weight"].to_pylist()) == {1.0}
    assert len(left_out) == 0


def test_held_out_days_are_never_touched() -> None:
    """What is judged is all traffic: every rule at once leaves validate and test as they are."""
    rows = many(400)
    split = pa.array(np.resize(["validate", "test"], len(rows)))
    rows = rows.set_column(rows.schema.get_field_index("split"), "split", split)
    found, left_out = selection.selected(rows, NOBODY, ALONE, RULES, LAST)
    assert len(found) == len(rows)
    assert set(found["weight"].to_pylist()) == {1.0}
    assert len(left_out) == 0


def test_every_row_is_kept_or_left_out_for_a_reason() -> None:
    """Nothing is lost: the counts of the card add up to the impressions."""
    rows = many(1000)
    known = clicks([(user, "tea", at(10)) for user in ("u1", "u2", "u3")])
    found, left_out = selection.selected(rows, known, ALONE, RULES, LAST)
    assert len(found) + pc.sum(left_out["rows"]).as_py() == len(rows)
    assert set(left_out["left_out"].to_pylist()) <= set(selection.REASONS.to_pylist()[1:])
    assert len(set(found["impression_id"].to_pylist())) == len(found)


@given(st.permutations(range(60)), st.integers(1, 4))
@settings(deadline=None, max_examples=20)
def test_neither_order_nor_buckets_change_what_is_kept(order: list[int], buckets: int) -> None:
    """Bucketed by user as Spark does, in any order: the same rows with the same weights."""
    rules = RULES.model_copy(update={"max_train_rows": 20})
    rows = many(60)
    known = clicks([(f"u{n}", "tea", at(14 + n)) for n in range(12)])
    whole = weights(rows, rules, known=known)
    spread = {user: zlib for zlib, user in enumerate(sorted(set(rows["user_id"].to_pylist()) - {None}))}
    bucket = np.array([spread.get(user, 0) % buckets for user in rows["user_id"].to_pylist()])[order]
    shuffled = rows.take(pa.array(order))
    marked = [
        selection.marked(shuffled.filter(pa.array(bucket == b)), known, ALONE, rules, LAST) for b in range(buckets)
    ]
    summed = pa.concat_tables([selection.totals(part) for part in marked]).group_by("surface")
    total = summed.aggregate([("rows", "sum"), ("revenue_micros", "sum")]).rename_columns(selection.TOTALS.names)
    rates = selection.surface_rates(total, rules)
    parts = pa.concat_tables([selection.kept(selection.thinned(part, rates, rules.seed)) for part in marked])
    assert dict(zip(parts["impression_id"].to_pylist(), parts["weight"].to_pylist(), strict=True)) == whole


# -- negatives ------------------------------------------------------------------------------------
def test_negatives_are_sampled_and_weigh_what_they_stand_for() -> None:
    """Clicked and unknown rows stay with weight 1; a quarter of the unclicked stays, each for four."""
    rows = labelled([{"clicked": (True, None, False, False, False, False)[n % 6]} for n in range(12_000)])
    found = chosen(rows, SelectionSettings(negative_rate=0.25))
    by_label = {row["clicked"]: row for row in found.group_by("clicked").aggregate([("weight", "sum")]).to_pylist()}
    assert by_label[True]["weight_sum"] == by_label[None]["weight_sum"] == 2000
    # 8000 coins of 1/4: the weighted count is 8000 with a standard deviation of sqrt(8000 * 3 / 4 / (1 / 4)) = 155.
    assert by_label[False]["weight_sum"] == pytest.approx(8000, abs=4 * 155)
    assert set(found.filter(pc.equal(found["clicked"], False))["weight"].to_pylist()) == {4.0}


def test_a_smaller_rate_keeps_a_part_of_what_a_larger_one_keeps() -> None:
    """Two datasets differ by the rate alone: their samples are nested, so figures of them compare."""
    rows = many(2000)
    kept = [set(weights(rows, SelectionSettings(negative_rate=rate))) for rate in (0.1, 0.3, 0.9, 1.0)]
    assert all(fewer < more for fewer, more in itertools.pairwise(kept))


def test_another_seed_keeps_other_rows_and_other_purposes_do_not_follow() -> None:
    """Coins of surfaces are not those of negatives: thinning twice by one coin would keep too many."""
    ids = pa.chunked_array([[f"i{n}" for n in range(20_000)]])
    coins = [uniform(ids, *key) for key in (("negative", 0), ("negative", 1), ("surface", 0))]
    for coin in coins:
        # Kolmogorov's bound at 1e-6 for n = 20000 is 2.69 / sqrt(n) = 0.019.
        assert np.abs(np.sort(coin) - (np.arange(20_000) + 0.5) / 20_000).max() < 0.019
        assert coin.min() >= 0
        assert coin.max() < 1
    assert np.abs(np.corrcoef(coins) - np.eye(3)).max() < 0.04


def test_the_coin_is_pinned() -> None:
    """Another hash would silently make other datasets of the same days: a rerun must give the same rows for years."""
    found = uniform(pa.chunked_array([["i0", "i1"]]), "negative", 7)
    assert found == pytest.approx([0.312044422104, 0.776597851378], abs=1e-12)


def test_weights_keep_a_rankers_probabilities_calibrated() -> None:
    """A logistic ranker from a tenth of the negatives with weights says what one from all rows says; without, not.

    60,000 rows, p(click) = sigmoid(-2.5 + x): the mean prediction on all rows is the click rate within four standard
    errors of the sampling, in every fifth of x, where the unweighted ranker is far off.
    """
    rng = np.random.default_rng(3)
    n = 60_000
    x = rng.normal(size=n)
    clicked = rng.random(n) < 1 / (1 + np.exp(2.5 - x))
    rows = labelled([{}]).take(pa.array(np.zeros(n, int)))
    for name, values in (("impression_id", pa.array([f"i{k}" for k in range(n)])), ("clicked", pa.array(clicked))):
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), values)
    found = chosen(rows, SelectionSettings(negative_rate=0.1))
    at_ = np.array([int(name[1:]) for name in found["impression_id"].to_pylist()])
    weight = found["weight"].to_numpy()
    assert weight.sum() == pytest.approx(n, rel=0.01)
    everything = {name: np.full(n, None, object) for name in (*IDS, *CATEGORICAL)}
    everything |= {name: np.zeros(n) for name in NUMERIC} | {"user_click_rate": x}

    def predicted(weight: np.ndarray) -> np.ndarray:
        train = {name: column[at_] for name, column in everything.items()}
        data = TrainingData(train, clicked[at_].astype(float), np.full(len(at_), np.nan), weight)
        return np.asarray(fit("logistic", data, RankerSettings()).predict(everything).p_click)

    weighted, unweighted = predicted(weight), predicted(np.ones(len(at_)))
    fifth = np.digitize(x, np.quantile(x, [0.2, 0.4, 0.6, 0.8]))
    for part in range(5):
        rate, size = clicked[fifth == part].mean(), (fifth == part).sum()
        error = 4 * np.sqrt(rate / size * (1 + 10))
        assert weighted[fifth == part].mean() == pytest.approx(rate, abs=error)
        assert unweighted[fifth == part].mean() > 2 * rate


# -- active users ---------------------------------------------------------------------------------
@given(
    st.lists(SHOWN, max_size=12), st.lists(CLICKED, max_size=12), st.integers(1, 3), st.integers(1, 9), st.booleans()
)
@settings(deadline=None)
def test_a_user_is_active_by_clicks_known_before_the_day(
    shown: list[Any], clicked: list[Any], least: int, window: int, keep_anonymous: bool
) -> None:
    """Counted one by one: different items whose click was known in the days before the impression's own day."""
    rows = labelled([{"user_id": u, "item_id": i, "event_time": at(d), "clicked": c} for u, i, d, c in shown])
    known = clicks([(user, item, at(day, 23.9)) for user, item, day in clicked])
    rules = SelectionSettings(active_clicks=least, active_days=window, keep_anonymous=keep_anonymous)
    wanted = []
    for n, (user, _, day, _) in enumerate(shown):
        items = {item for who, item, when in clicked if who == user and day - window <= when < day}
        if keep_anonymous if user is None else len(items) >= least:
            wanted.append(f"i{n:05d}")
    assert list(weights(rows, rules, known=known)) == wanted


def test_no_row_is_selected_by_its_own_click_or_a_later_one() -> None:
    """The planted leak: keeping the users who clicked during the window would raise the click rate for no reason."""
    rows = labelled([{"clicked": True, "event_time": at(20)}, {"event_time": at(21)}, {"event_time": at(22)}])
    own = clicks([("ann", "tea", at(20)), ("ann", "mug", at(22, 1)), ("ann", "cup", at(29))])
    assert list(weights(rows, SelectionSettings(active_clicks=1), known=own)) == ["i00001", "i00002"]
    assert list(weights(rows, SelectionSettings(active_clicks=2), known=own)) == []


def test_two_ids_of_one_item_are_one_clicked_item() -> None:
    """Counting copies twice would make a user of one item look like one of two."""
    rows, known = labelled([{}]), clicks([("ann", "tea", at(20)), ("ann", "tea-copy", at(21))])
    same = pa.table({"item_id": ["tea-copy"], "identity": ["tea"]}, schema=IDENTITY)
    rules = SelectionSettings(active_clicks=2)
    assert len(chosen(rows, rules, known)) == 1
    assert len(chosen(rows, rules, known, same)) == 0


# -- duplicates -----------------------------------------------------------------------------------
REPEATS: list[dict[str, Any]] = [
    {"event_time": at(28, 8)},
    {"event_time": at(28, 9), "clicked": True},
    {"event_time": at(28, 10), "clicked": True},
    {"event_time": at(28, 11)},
    {"event_time": at(28, 12)},
    {"event_time": at(27)},  # another day
    {"user_id": "bob"},
    {"item_id": "mug"},
    {"user_id": None},
    {"user_id": None},
]


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        ("all", {0: 1, 1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1, 7: 1, 8: 1, 9: 1}),
        ("last", {4: 5, 5: 1, 6: 1, 7: 1, 8: 1, 9: 1}),
        ("per_outcome", {2: 2, 4: 3, 5: 1, 6: 1, 7: 1, 8: 1, 9: 1}),
        ("clicked_else_last", {2: 1, 5: 1, 6: 1, 7: 1, 8: 1, 9: 1}),
    ],
)
def test_what_is_kept_of_the_same_item_shown_again(policy: Any, wanted: dict[int, int]) -> None:
    """A row weighs the impressions it stands for; unknown users' impressions are never taken for repeats."""
    found = weights(labelled(REPEATS), SelectionSettings(duplicates=policy))
    assert found == {f"i{n:05d}": weight for n, weight in wanted.items()}


def test_per_outcome_keeps_weighted_clicks_and_impressions_exactly() -> None:
    """So the mean of any function of user, item and block, and with it calibration, is that of all rows."""
    rows = many(3000)
    found = chosen(rows, SelectionSettings(duplicates="per_outcome", duplicate_days=28))
    assert len(found) < 0.8 * len(rows)
    for keys in (["user_id"], ["item_id", "clicked"], ["clicked"]):
        before = (
            rows.group_by(keys).aggregate([("impression_id", "count")]).sort_by([(key, "ascending") for key in keys])
        )
        after = found.group_by(keys).aggregate([("weight", "sum")]).sort_by([(key, "ascending") for key in keys])
        assert after["weight_sum"].to_pylist() == before["impression_id_count"].to_pylist()


def test_days_of_duplicates_are_counted_back_from_the_last_train_day() -> None:
    """A warm start then sees the same blocks as the full training."""
    rows = labelled([{"event_time": at(day)} for day in (25, 26, 27, 28)])
    found = weights(rows, SelectionSettings(duplicates="last", duplicate_days=2))
    assert found == {"i00001": 2.0, "i00003": 2.0}


def test_two_ids_of_one_item_are_duplicates_and_keep_the_shown_id() -> None:
    rows = labelled([{"item_id": "tea"}, {"item_id": "tea-copy"}])
    same = pa.table({"item_id": ["tea-copy"], "identity": ["tea"]}, schema=IDENTITY)
    found = chosen(rows, SelectionSettings(duplicates="last"), identity=same)
    assert found["item_id"].to_pylist() == ["tea-copy"]
    assert found["weight"].to_pylist() == [2.0]


# -- surfaces -------------------------------------------------------------------------------------
def total(**surfaces: tuple[int, int]) -> pa.Table:
    rows = [{"surface": name, "rows": n, "revenue_micros": money} for name, (n, money) in surfaces.items()]
    return pa.Table.from_pylist(rows, selection.TOTALS)


@pytest.mark.parametrize(
    ("shares", "wanted"),
    [
        ("traffic", {"home": 0.25, "mail": 0.25, "search": 0.25}),
        # 250 rows by revenue 0.04 : 1 : 3: home earns nothing and gets a hundredth, mail has but 50 rows to give.
        ("revenue", {"home": 200 * 0.04 / 3.04 / 700, "mail": 1.0, "search": 200 * 3 / 3.04 / 250}),
        ({"search": 1.0, "home": 3.0}, {"home": 187.5 / 700, "mail": 0.0, "search": 62.5 / 250}),
        ({"search": 9.0, "home": 1.0}, {"home": 25 / 700, "mail": 0.0, "search": 225 / 250}),
    ],
)
def test_rows_are_shared_out_among_the_surfaces(shares: Any, wanted: dict[str, float]) -> None:
    """By traffic, by revenue or by name; what a surface has no rows for goes to the others."""
    found = selection.surface_rates(
        total(search=(250, 3_000_000), home=(700, 0), mail=(50, 1_000_000)),
        SelectionSettings(max_train_rows=250, surface_shares=shares),
    )
    assert found == pytest.approx(wanted)


def test_a_budget_above_what_there_is_keeps_all_and_half_keeps_about_half() -> None:
    """The union is cut to about `max_train_rows`, and weights undo it surface by surface."""
    rows = many(4000)
    assert weights(rows, SelectionSettings(max_train_rows=4000)) == weights(rows, SelectionSettings())
    found = chosen(rows, SelectionSettings(max_train_rows=1000, surface_shares="revenue"))
    assert len(found) == pytest.approx(1000, abs=4 * np.sqrt(1000))
    before = {r["surface"]: r for r in rows.group_by("surface").aggregate([("item_id", "count")]).to_pylist()}
    for row in found.group_by("surface").aggregate([("weight", "sum"), ("weight", "max")]).to_pylist():
        n = before[row["surface"]]["item_id_count"]
        assert row["weight_sum"] == pytest.approx(n, abs=4 * np.sqrt(n * row["weight_max"]))


def test_rows_by_surfaces_that_are_not_there_are_refused() -> None:
    """A misspelt surface would otherwise train on nothing."""
    rules = SelectionSettings(max_train_rows=10, surface_shares={"hme": 1.0})
    with pytest.raises(Refused, match=r"a surface that has train rows; found \['home'\]"):
        chosen(labelled([{}]), rules)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"surface_shares": "revenue"}, "share out max_train_rows; it is not set"),
        ({"surface_shares": {"home": 0.0}, "max_train_rows": 5}, "must be above 0"),
        ({"negative_rate": 0.0}, "greater than 0"),
        ({"duplicates": "first"}, "Input should be"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        SelectionSettings.model_validate(wrong)
