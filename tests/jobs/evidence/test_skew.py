"""Features at replay other than trained on: of which share of the decisions, whatever the day and the column."""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from jobs import bundle
from models.evaluation.gate import judge
from models.settings import GateSettings
from tests.jobs.evidence.evidence_documents import of_rows, seen_by_the_gate
from tests.jobs.small_candidates import linear, popularity, publish_candidates
from tests.jobs.small_lake import (
    TEST_DAY,
    USERS,
    World,
    a_run,
    examples,
    item_features,
    known_from,
    publish,
    publish_all,
    publish_features,
    requests_table,
    settings,
    times,
    user_features,
)

EARLY = TEST_DAY - timedelta(days=1)
DAYS = {EARLY: 200, TEST_DAY: 400}
"""Test days and their requests."""


@dataclass(frozen=True)
class Damage:
    """Item prices below and user click rates above are other ones than the dataset was made from."""

    items: int
    users: int


def raised(table: pa.Table, name: str, wanted: np.ndarray) -> pa.Table:
    """One more in a column, where it is wanted."""
    values = pc.add(table[name], pa.array(wanted * 1.0))
    return table.set_column(table.schema.get_field_index(name), table.schema.field(name), values)


def shown(day: date) -> tuple[np.ndarray, np.ndarray]:
    """Item and user of each first placement of a day, as the world drew them."""
    drawn = World().requests(day, DAYS[day])
    return drawn["item"][:, 0], drawn["user"]


def seen(day: date, damaged: dict[date, Damage]) -> tuple[np.ndarray, np.ndarray]:
    """Of each request of a day, by the features it saw: below which item and from which user on they are damaged."""
    own, before = (damaged.get(one, Damage(0, USERS)) for one in (day, day - timedelta(days=1)))
    late = np.array([at >= known_from(day - timedelta(days=1)) for at in times(day, DAYS[day])])
    return np.where(late, own.items, before.items), np.where(late, own.users, before.users)


def document(tmp_path: Path, session: Path, damaged: dict[date, Damage]) -> dict[str, Any]:
    """The evidence on two test days, the features before some of them published again since."""
    config, world = settings(tmp_path, session, gate__bootstrap_replicates="50"), World()
    publish_all(config, world, n=DAYS[TEST_DAY] // 2)
    publish(config, "requests", requests_table(world, EARLY, DAYS[EARLY]), day=str(EARLY))
    for back in (1, 2):
        publish_features(config, world, EARLY - timedelta(days=back))
    for day, damage in damaged.items():
        before = day - timedelta(days=1)
        items, users = item_features(world, before), user_features(world, before)
        publish(config, "item_features", raised(items, "price", np.arange(len(items)) < damage.items), day=str(before))
        publish(
            config, "user_features", raised(users, "click_rate", np.arange(len(users)) >= damage.users), day=str(before)
        )
    made = publish_candidates(config, {"popularity": popularity(), "logistic": linear(1.0)}, "logistic")
    champion, challenger = (bundle.load(Path(row["bundle"]), row["bundle_sha256"]) for row in made)
    test = pa.concat_tables([examples(world, day, "test", n) for day, n in DAYS.items()])
    return of_rows(a_run("backtest", config), test, (champion, challenger))


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        {EARLY: Damage(8, 110)},  # a share of that day alone would be another
        {TEST_DAY: Damage(8, 110)},
        {EARLY: Damage(3, 120), TEST_DAY: Damage(0, 100)},  # another column on each day
        {EARLY: Damage(20, 40), TEST_DAY: Damage(20, 40)},  # either, both or none in a decision
    ],
    ids=["none", "first day", "last day", "a column a day", "columns overlap"],
)
def test_skew_is_the_share_of_decisions_of_all_days_in_which_any_column_differs(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, damaged: dict[date, Damage]
) -> None:
    found = document(tmp_path, tmp_path_factory.getbasetemp(), damaged)
    n, prices, rates, anywhere = sum(DAYS.values()), 0, 0, 0
    for day in DAYS:
        item, user = shown(day)
        items_below, users_from = seen(day, damaged)
        price, rate = (item < items_below) & (item % 5 > 0), user >= users_from  # every fifth item has no price
        prices, rates, anywhere = prices + price.sum(), rates + rate.sum(), anywhere + (price | rate).sum()
    diagnostics = found["diagnostics"]
    assert found["data"]["decisions"] == n
    assert diagnostics["skew"] == pytest.approx(anywhere / n)
    expected = {name: k / n for name, k in (("item_price", prices), ("user_click_rate", rates)) if k}
    assert diagnostics["differing_columns"] == pytest.approx(expected)
    evidence = seen_by_the_gate(found).with_latency(1.0)
    assert evidence.skew == diagnostics["skew"]
    [rule] = [rule for rule in judge(evidence, GateSettings()).rules if rule.name == "skew"]
    assert rule.outcome == ("refuse" if damaged else "pass")
