"""The small lake over several days: a challenger trained on the first, datasets of the days after, verdicts at will."""

import json
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.backtest import job as backtest
from jobs.config import Config
from jobs.lake.store import Lake
from jobs.lake.tables import LAKE
from models.rankers.protocol import Ranker
from tests.jobs.small_candidates import linear, popularity, publish_candidates
from tests.jobs.small_lake import CANDIDATES, DAY, World, a_run, publish, publish_all

N = 60
"""Twice as many requests a test day."""
RANKERS: dict[str, Ranker] = {"popularity": popularity(), "logistic": linear(1.0)}
CANDIDATE = f"logistic-full-{DAY}"


def after(days: int) -> date:
    """So many days after the challenger's own."""
    return DAY + timedelta(days=days)


def trained(config: Config, day: date = DAY, mode: str = "full", interest: float = 1.0) -> list[dict[str, Any]]:
    """A dataset of the day with its test rows, and candidates; the chosen one knows what users like."""
    dataset(config, day, mode)
    return publish_candidates(config, RANKERS | {"logistic": linear(interest)}, "logistic", mode, str(day))


def dataset(config: Config, day: date, mode: str = "warm") -> None:
    """Examples of the day, and what the replay of its test day reads."""
    publish_all(config, World(), day, mode, n=N, train_days=1)


def without_test_rows(config: Config, day: date, mode: str = "warm") -> None:
    """The dataset of a day whose test day was lost."""
    rows = Lake(config.lake.root).read("examples", [day], where={"mode": mode}).drop_columns(["day", "mode"])
    kept = rows.filter(pa.array([split != "test" for split in rows["split"].to_pylist()]))
    publish(config, "examples", kept, day=str(day), mode=mode)


def judged(config: Config, day: date, mode: Any = "full") -> str | None:
    """The candidate that the backtest of a day judged."""
    found: str | None = backtest.run(a_run("backtest", config, day, mode))["challenger"]
    return found


def row_of(config: Config, day: date, mode: str = "full") -> dict[str, Any]:
    [row] = Lake(config.lake.root).read("evidence", [day], where={"mode": mode}).to_pylist()
    return dict(row)


def document(config: Config, day: date, mode: str = "full") -> dict[str, Any]:
    return dict(json.loads(row_of(config, day, mode)["document"]))


def verdict(config: Config, day: date, said: str, sha256: str | None = None) -> None:
    """What `promote` leaves of the evidence of a day, or of another one."""
    row = row_of(config, day)
    names = ("candidate_id", "champion_id", "bundle_sha256")
    judged = {
        **{name: row[name] for name in names},
        **{"bundle": "/b", "evidence_sha256": sha256 or row["document_sha256"]},
        **{"look": 1, "verdict": said, "reasons": [], "decided_at": datetime(2026, 2, 1)},
    }
    publish(config, "promotions", pa.Table.from_pylist([judged], LAKE["promotions"].schema), day=str(day), mode="full")


def snips(config: Config, days: list[date]) -> dict[str, float]:
    """Self-normalised IPS of both sides on test days pooled, from the world's own numbers alone."""
    world, weighted = World(), {"champion": [0.0, 0.0], "challenger": [0.0, 0.0]}
    for day in days:
        drawn = world.requests(day, 2 * N)
        user, candidates = drawn["user"], drawn["candidates"]
        interest = np.where(world.taste[user][:, None] == world.category[candidates], 3.0, 1.0)
        wanted = (1 / (1 + np.exp(3.2 - interest))) ** (1 / config.policy.temperature)
        taken = candidates == drawn["item"][:, [0]]
        chosen = {
            "challenger": (wanted * taken).sum(1) / wanted.sum(1),
            "champion": np.full(len(user), 1 / CANDIDATES),
        }
        for side, target in chosen.items():
            weight = target / drawn["propensity"][:, 0]
            weighted[side][0] += float((weight * drawn["clicked"][:, 0]).sum())
            weighted[side][1] += float(weight.sum())
    return {side: reward / of for side, (reward, of) in weighted.items()}
