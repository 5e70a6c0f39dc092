"""One clock: at any time of day a request is served, trained on and replayed with the very same columns."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.endpoint.decide import Decider
from infra.endpoint.request import RankRequest
from jobs.bundle import Bundle
from jobs.config import Config
from jobs.features import online, publish
from jobs.flow import FEATURES, STAGES
from jobs.lake.run import Run
from jobs.moment.decisions import candidate_columns, decisions, disagreement, first_placements, seen_by
from jobs.moment.known import known_before
from models.rankers.features import EVERYTHING, VECTORS, widened
from models.rankers.protocol import Columns, Predictions
from tests.jobs.assemble.assemble_world import DAY, TEST, World, at

ASKED = TEST[0]
"""The day of the requests, the 6th: before six in the morning it sees features of the 4th, from then on of the 5th."""
ITEMS = ["tea", "mug", "new", "nowhere"]
MINUTE, SIX, MIDNIGHT = 60_000_000, 6 * 3_600_000_000, 24 * 3_600_000_000
AROUND_SIX = st.integers(-3, 3).map(lambda n: SIX + n) | st.integers(-3, 3).map(lambda n: SIX + n * MINUTE)
MOMENTS = st.integers(0, MIDNIGHT - 1) | AROUND_SIX
"""Microseconds since midnight: of the whole day, and close to the moment at which the features count as known."""
REQUESTS = st.tuples(MOMENTS, st.sampled_from(["ann", "cat", "zed", None]), st.sampled_from(["home", "similar"]))


class Watched:
    """A ranker that remembers what it was shown."""

    kind = "watched"
    inputs = EVERYTHING

    def __init__(self) -> None:
        self.shown: Columns = {}

    def predict(self, features: Columns) -> Predictions:
        self.shown = features
        return Predictions(np.full(len(features["item_id"]), 0.5), np.full(len(features["item_id"]), 0.1))


class Shop:
    """A lake whose feature values name their day, two of its days online, and the endpoint that reads them."""

    def __init__(self, root: Path, popular: Bundle) -> None:
        self.world = World(root)
        features = self.world.config.features.model_copy(update={"online_path": root / "online"})
        self.world.config = self.world.config.model_copy(update={"features": features})
        self.world.fill()
        self.world.put(
            "users", date(2026, 1, 1), [{"user_id": u, "attributes": [("segment", u)]} for u in ("ann", "cat")]
        )
        tiers = [{"item_id": item, "attributes": [("tier", item)]} for item in ITEMS[:3]]
        self.world.put("items", date(2026, 1, 1), tiers)
        # On the 5th cat has left the window, the mug is out of the catalogue and a new item in it.
        self.world.features(date(2026, 1, 5), users=("ann", "bob"), items=("tea", "new"))
        for day in (date(2026, 1, 4), date(2026, 1, 5)):
            rows = {table: self.world.lake.read(table, [day]) for table in FEATURES}
            snapshots = (self.world.lake.read(table) for table in ("users", "items"))
            publish.publish(self.config, day, rows, *snapshots)
        self.ranker = Watched()
        self.decider = Decider(online.OnlineFeatures(self.config), 20_000, self.config.tasks)
        self.variant = self.decider.ready(replace(popular, ranker=self.ranker))

    @property
    def config(self) -> Config:
        return self.world.config

    def log(self, requests: list[tuple[int, str | None, str]]) -> list[dict[str, Any]]:
        """The impressions and requests of the day, as loggers would have written them."""
        shown, asked = [], []
        for n, (us, user, surface) in enumerate(requests):
            when = at(ASKED.day, 0) + timedelta(microseconds=us)
            keys = {"request_id": f"r{n}", "surface": surface, "position": 1}
            source = {"source_item_id": "mug"} if surface == "similar" else {}
            shown.append(self.world.impression(user, ITEMS[n % 3], when, impression_id=f"i{n}", **keys, **source))
            asked.append({**shown[-1], "candidates": ITEMS, "slate_size": 1})
        self.world.put("impressions", ASKED, shown)
        self.world.put("requests", ASKED, asked)
        labels = [self.world.label(row, click_matures_at=row["event_time"]) for row in shown]
        self.world.put("labels", ASKED, labels)
        return shown

    def served(self, row: dict[str, Any]) -> tuple[Columns, str | None]:
        """What the endpoint showed its ranker for a request, and the feature day it says it used."""
        request = RankRequest(
            request_id=row["request_id"],
            user_id=row["user_id"],
            surface=row["surface"],
            context={"daypart": "noon", "source_item_id": row.get("source_item_id")},
            candidates=ITEMS,
            k=1,
            event_time=row["event_time"].isoformat(),
        )
        answer = asyncio.run(self.decider.answer(self.variant, "a", request, time.monotonic() + 20))
        assert not answer.fallback
        return self.ranker.shown, answer.features_day


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, popular: Bundle) -> Iterator[Shop]:
    made = Shop(tmp_path_factory.mktemp("shop"), popular)
    yield made
    made.decider.close()


@settings(deadline=None, max_examples=15)
@given(requests=st.lists(REQUESTS, min_size=1, max_size=12))
def test_training_replay_monitoring_and_serving_see_the_same(
    shop: Shop, requests: list[tuple[int, str | None, str]]
) -> None:
    """Column by column, for every candidate; who or what the publication lacks is unknown to all of them."""
    shown = shop.log(requests)
    shop.world.assemble()
    test = shop.world.lake.read("examples", [DAY], {"mode": "full"})
    test = test.filter(pc.equal(test["split"], "test"))
    placed, _ = first_placements(test, shop.world.lake.read("requests", [ASKED]))
    assert len(placed) == len(shown)
    found = decisions(placed)
    before = known_before(Run(STAGES["backtest"], shop.config, DAY), ASKED, snapshots=DAY)
    replayed = candidate_columns(placed, found.row, found.item_ids[found.item], before)
    assert disagreement(placed, replayed, found.shown).differing == 0
    known = known_before(Run(STAGES["monitor"], shop.config, ASKED), ASKED, with_users=True)
    logged = shop.world.lake.read("impressions", [ASKED])
    for row in shown:
        columns, day = shop.served(row)
        n = placed["request_id"].to_pylist().index(row["request_id"])
        check_same(columns, {name: column[found.row == n] for name, column in replayed.items()}, row)
        mine = logged.filter(pc.equal(logged["request_id"], row["request_id"]))
        monitored = candidate_columns(mine, np.zeros(len(ITEMS), np.int64), np.array(ITEMS, dtype=object), known)
        check_same(columns, monitored, row)
        assert day == known[seen_by(mine, known)[0]].day.isoformat()
        assert day == ("2026-01-05" if row["event_time"].hour >= 6 else "2026-01-04")


def check_same(served: Columns, offline: Columns, row: dict[str, Any]) -> None:
    """Equal to the bit, examples' float64 included; an attribute that one side does not have at all is None there."""
    nobody = np.full(len(ITEMS), None, dtype=object)
    for name in {*served, *offline}:
        found, wanted = served.get(name, nobody), offline.get(name, nobody)
        if name in VECTORS:  # the offline ones may be as wide as another request's
            found = widened(found, wanted.shape[1])
        np.testing.assert_array_equal(found, wanted, err_msg=f"{name} at {row['event_time']}")


def test_the_law_can_tell_days_apart(shop: Shop) -> None:
    """A law over values that are the same every day would hold for any clock."""
    first, second = (shop.served(row)[0] for row in shop.log([(SIX - 1, "ann", "similar"), (SIX, "ann", "similar")]))
    np.testing.assert_array_equal(first["item_vector"][:3], [[4, 0.5, np.nan], [1, 2, 4], [np.nan] * 3])
    np.testing.assert_array_equal(second["item_vector"][:2], [[5, 0.5], [np.nan] * 2])
    names = ("user_impressions", "item_click_rate", "encoded_category", "user_item_interest")
    assert [float(first[name][0]) for name in names] == [4.0, 104.0, 0.04, 407.0]
    assert [float(second[name][0]) for name in names] == [5.0, 105.0, 0.05, 507.0]
    for name in ("item_category", "attributes.item.tier"):
        assert [value is None for value in first[name]] == [False, False, True, True]
        assert [value is None for value in second[name]] == [False, True, False, True]
    assert (first["source_same_category"][0], second["source_same_category"][0]) == (1.0, 0.0), (
        "its page's item is gone"
    )
