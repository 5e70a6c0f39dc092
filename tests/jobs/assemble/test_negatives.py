"""Random negatives for retrieval: drawn as they say, never one that was seen, never from a later catalogue."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.asof.clock import instants
from jobs.assemble import negatives
from jobs.config import RetrievalNegativeSettings
from jobs.moment.identity import IDENTITY
from tests.jobs.assemble.selection_rows import at, labelled

ALONE = IDENTITY.empty_table()


PUBLISHED = instants([at(day, 6) for day in (27, 28, 29)])


def catalogue(day: int, **impressions: float) -> pa.Table:
    """Items with their impressions, available at six in the morning of `day` of January."""
    rows = [{"item_id": item, "available_at": at(day, 6), "impressions": n} for item, n in impressions.items()]
    return pa.Table.from_pylist(rows, negatives.CATALOGUE)


def clicks(n: int, **more: Any) -> pa.Table:
    return negatives.clicked(labelled([{"clicked": True} | more] * n), PUBLISHED)


@pytest.mark.parametrize(("exponent", "wanted"), [(0.0, [1, 1, 1]), (1.0, [1, 10, 100]), (0.5, [1, 10**0.5, 10])])
def test_items_are_drawn_as_often_as_their_probability_says(exponent: float, wanted: list[float]) -> None:
    """(impressions + 1) to a power, within four standard errors of 6,000 draws; the recorded q adds up to 1."""
    rules = RetrievalNegativeSettings(per_click=3, popularity_exponent=exponent)
    found = negatives.drawn(clicks(2000), catalogue(28, a=0, b=9, c=99), rules)
    assert len(found) == 6000
    items = found.group_by("item_id").aggregate([("draw", "count"), ("probability", "mean")]).sort_by("item_id")
    share = np.array(wanted) / sum(wanted)
    assert items["probability_mean"].to_numpy() == pytest.approx(share)
    error = 4 * np.sqrt(share * (1 - share) / 6000)
    assert (np.abs(items["draw_count"].to_numpy() / 6000 - share) < error).all()


def test_fewer_draws_are_the_first_of_more_and_order_does_not_matter() -> None:
    """Each draw is the click's own: datasets that differ by `per_click` alone are nested."""
    rows, items = clicks(50), catalogue(28, a=1, b=2, c=3, d=4)
    more = negatives.drawn(rows, items, RetrievalNegativeSettings(per_click=4))
    reverse = (table.take(pa.array(np.arange(len(table))[::-1])) for table in (rows, items))
    few = negatives.drawn(*reverse, RetrievalNegativeSettings(per_click=2))  # type: ignore[call-arg]
    order = [("impression_id", "ascending"), ("draw", "ascending")]
    assert few.sort_by(order).equals(more.filter(pa.array(more["draw"].to_numpy() < 2)).sort_by(order))


def test_a_click_draws_from_the_catalogue_it_was_served_from() -> None:
    """An item of tomorrow would be a negative nobody could have been shown; before the first catalogue are none."""
    times = [at(26), at(27, 5), at(27, 6), at(28, 5.99), at(28, 6), at(30)]
    rows = pa.concat_tables([clicks(20, event_time=time) for time in times])
    items = pa.concat_tables([catalogue(27, old=1), catalogue(28, new=1), catalogue(29, later=1)])
    found = negatives.drawn(rows, items, RetrievalNegativeSettings(per_click=1))
    pairs = set(zip(found["event_time"].to_pylist(), found["item_id"].to_pylist(), strict=True))
    assert pairs == {(at(27, 6), "old"), (at(28, 5.99), "old"), (at(28, 6), "new"), (at(30), "later")}


def test_what_a_user_was_shown_is_no_negative_under_any_id() -> None:
    """Clicked or not, on any train day, by this user: the rest of the draws stays as it was."""
    rows = pa.concat_tables([clicks(40), clicks(40, user_id="bob")])
    rows = rows.set_column(0, "impression_id", pa.array([f"c{n}" for n in range(80)]))
    found = negatives.drawn(rows, catalogue(28, tea=1, mug=1, cup=1, pot=1), RetrievalNegativeSettings(per_click=5))
    saw = [
        {"user_id": "ann", "item_id": "tea", "clicked": True},
        {"user_id": "ann", "item_id": "mug-copy", "event_time": at(3)},
        {"user_id": "bob", "item_id": "cup", "split": "validate"},
    ]
    same = pa.table({"item_id": ["mug-copy"], "identity": ["mug"]}, schema=IDENTITY)
    left = negatives.unseen(found, negatives.shown(labelled(saw)), same)
    who = {(row["user_id"], row["item_id"]) for row in left.to_pylist()}
    assert who == {("ann", "cup"), ("ann", "pot"), *(("bob", item) for item in ("tea", "mug", "cup", "pot"))}
    wanted = [r for r in found.to_pylist() if r["user_id"] == "bob" or r["item_id"] in ("cup", "pot")]
    assert sorted(left.to_pylist(), key=str) == sorted(wanted, key=str)


def test_negatives_stand_against_train_clicks_of_known_users() -> None:
    """Held-out clicks and anonymous ones have none."""
    rows = [{"clicked": True}, {"clicked": True, "user_id": None}, {"clicked": True, "split": "test"}, {}]
    unknown = {"clicked": None}
    assert negatives.clicked(labelled([*rows, unknown]), PUBLISHED)["impression_id"].to_pylist() == ["i00000"]
