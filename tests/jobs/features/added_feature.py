"""A feature of users and one of items are added as anybody would, and followed to where a ranker sees them.

Run by `test_added_feature` in a process of its own, because declarations are read when modules are imported. Prints
what became of them as JSON.
"""

import json
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import models.features as declarations
from models.features import Feature

declarations.FEATURES += (
    Feature("user", "clicks_2d", "clicks of the last two days", heavy_tailed=True),
    Feature("item", "weekday", "of its creation, 0 is Monday", "word", unknown=True, recounted=False),
)

import numpy as np  # noqa: E402 - from here on as in any other process
import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402

from infra.endpoint.decide import Decider  # noqa: E402
from infra.endpoint.request import RankRequest  # noqa: E402
from jobs import bundle  # noqa: E402
from jobs.assemble import job as assemble  # noqa: E402
from jobs.attribute import job as attribute  # noqa: E402
from jobs.features.online import OnlineFeatures  # noqa: E402
from jobs.featurize import audit, items, users  # noqa: E402
from jobs.flow import STAGES  # noqa: E402
from jobs.lake.run import Run  # noqa: E402
from jobs.moment.columns import ranker_columns, strings  # noqa: E402
from jobs.moment.decisions import candidate_columns, disagreement  # noqa: E402
from jobs.moment.known import known_before  # noqa: E402
from models.rankers import fit  # noqa: E402
from models.rankers.features import EVERYTHING, HEAVY_TAILED  # noqa: E402
from models.rankers.protocol import Columns, Predictions, TrainingData  # noqa: E402
from models.rankers.words import unpacked  # noqa: E402
from tests.jobs.featurize.conftest import OUTCOMES, World, fill  # noqa: E402

users.RULES["clicks_2d"] = lambda of: of.counted(clicked=True, days=2).astype(np.float64)
items.RULES["weekday"] = lambda of: pc.cast(pc.day_of_week(of.snapshot["created_at"]), pa.string())
audit.OF_USERS["clicks_2d"] = lambda of: sum(e["event_time"] >= of.end - 2 * audit.DAY for e in of.clicks)
CANDIDATES = ["i01", "i06", "nowhere"]


class Watched:
    """A ranker that remembers what it was shown."""

    kind, inputs = "watched", EVERYTHING

    def predict(self, features: Columns) -> Predictions:
        self.shown = features
        return Predictions(np.full(len(CANDIDATES), 0.5), np.full(len(CANDIDATES), 0.1))


def main(root: Path) -> dict[str, Any]:
    """The new columns where they arrive, and in how many rows two sides differ in any column."""
    world = World(root, features__online="true", outcomes=OUTCOMES)
    fill(world)
    days = [world.first + timedelta(days=n) for n in range(6)]
    world.run(days[-1], since=days[0])
    for day in days:
        attribute.run(Run(STAGES["attribute"], world.config, day))
    assemble.run(Run(STAGES["assemble"], world.config, days[-1], mode="full"))
    rows = world.lake.read("examples", [days[-1]], {"mode": "full"})
    test = rows.filter(pc.equal(rows["split"], "test")).combine_chunks()
    known = known_before(Run(STAGES["backtest"], world.config, days[-1]), days[-2], snapshots=days[-1])
    everywhere = np.arange(len(test))
    replayed = candidate_columns(test, everywhere, strings(test["item_id"]), known)
    found: dict[str, Any] = {"heavy": "user_clicks_2d" in HEAVY_TAILED}
    found["replay"] = [len(test), disagreement(test, replayed, everywhere).differing]
    trained = {name: unpacked(column) for name, column in ranker_columns(rows, inputs=EVERYTHING).items()}
    found["trained"] = {name: sorted(set(map(str, trained[name]))) for name in ("user_clicks_2d", "item_weekday")}
    told = [f"attributes.{of}.outcomes.{name}" for of in ("user", "item") for name in ("like", "watch")]
    found["learned"] = {name: len(set(trained[name].tolist())) for name in told}
    served, monitored = served_and_monitored(world, root)
    found["columns"] = sorted({*served} ^ {*monitored})
    found["differ"] = [name for name in monitored if not same(served[name], monitored[name])]
    found["served"] = {name: list(map(str, served[name])) for name in ("user_clicks_2d", "item_weekday")}
    found["told"] = [[word is not None for word in served[name]] for name in told]
    found["by_hand"] = clicks_before(world, "u03", days=2)
    return found


def clicks_before(world: World, user: str, days: int) -> int:
    """Of the user, that happened in so many days before the seventh and were known by then."""
    end = world.at(6, 0)
    clicks = [row for n in range(6) for row in world.rows("clicks", world.first + timedelta(days=n))]
    mine = [row for row in clicks if row["user_id"] == user and row["ingested_at"] < end]
    return sum(end - timedelta(days=days) <= row["event_time"] < end for row in mine)


def served_and_monitored(world: World, root: Path) -> tuple[Columns, Columns]:
    """What the endpoint shows its ranker at noon of the seventh day, and what monitoring computes of it again."""
    asked = world.first + timedelta(days=6)
    clicked = np.array([0.0, 1.0])
    data = TrainingData({"item_id": np.array(["a", "b"], dtype=object)}, clicked, clicked, np.ones(2))
    popular = fit("popularity", data, world.config.ranker)
    made = bundle.write(root / "bundles", "popularity", popular, popular, None, world.config.policy, {})
    decider = Decider(OnlineFeatures(world.config), 20_000, world.config.tasks)
    request = RankRequest(request_id="r", user_id="u03", surface="home", k=1, candidates=CANDIDATES,
                          event_time=world.at(6).isoformat())  # fmt: skip
    ranker = Watched()
    variant = decider.ready(made)
    decider.by_ranker(replace(made, ranker=ranker), variant.offer(request.at()), request)
    decider.close()
    world.put("impressions", asked, [world.event("u03", item, world.at(6)) for item in CANDIDATES])
    logged = world.lake.read("impressions", [asked])
    known = known_before(Run(STAGES["monitor"], world.config, asked), asked, with_users=True)
    monitored = candidate_columns(logged, np.arange(len(logged)), strings(logged["item_id"]), known)
    return ranker.shown, monitored


def same(one: Any, other: Any) -> bool:
    """Equal to the bit; NaN equals itself."""
    return np.array_equal(one, other, equal_nan=one.dtype != object)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
