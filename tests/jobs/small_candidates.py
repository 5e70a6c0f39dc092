"""Candidates for the small lake that cost nothing to train: popularity, and a ranker that knows what users like."""

from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from jobs import bundle, tracking
from jobs.config import Config
from jobs.deployments.ledger import LIVE
from jobs.lake.run import now
from jobs.lake.store import midnight
from jobs.lake.tables import LAKE
from models.delays.curve import DelayCurve
from models.rankers import fit
from models.rankers.encoding import Encoding
from models.rankers.features import CATEGORICAL, NUMERIC
from models.rankers.logistic import LogisticRanker, Scaling
from models.rankers.protocol import Ranker, TrainingData
from models.settings import RankerSettings
from tests.jobs.small_lake import DAY, ITEMS, item_ids, publish


def popularity() -> Ranker:
    """Every item the same."""
    items = np.array(item_ids(np.arange(ITEMS)) * 2, dtype=object)
    clicked = np.repeat([0.0, 1.0], ITEMS)
    return fit(
        "popularity",
        TrainingData({"item_id": items}, clicked, np.full(2 * ITEMS, np.nan), np.repeat([4.0, 1.0], ITEMS)),
        RankerSettings(),
    )


def linear(interest: float, position: float = 0.0, age: float = 0.0) -> Ranker:
    """p_click rises with the user's interest in the item's category: positive is right, negative is wrong."""
    weights = np.zeros(1 + 2 * len(NUMERIC) + 2 * len(CATEGORICAL))
    weights[0] = -2.2 - interest  # an interest of 1 means no liking
    weights[1 + NUMERIC.index("user_item_interest")] = interest
    weights[1 + NUMERIC.index("position")] = position
    weights[1 + NUMERIC.index("item_age_days")] = age
    encoding = Encoding(NUMERIC, dict.fromkeys(CATEGORICAL, ()))
    ones = np.ones(len(NUMERIC))
    return LogisticRanker(encoding, Scaling(np.zeros(len(NUMERIC)), ones), weights, 0.1)


def publish_candidates(
    config: Config,
    rankers: dict[str, Ranker],
    chosen: str,
    mode: str = "full",
    day: str = str(DAY),
    learned_until: datetime | None = None,
    delays: DelayCurve | None = None,
    reference: bytes | None = None,
) -> list[dict[str, Any]]:
    """What `train` leaves: bundles, MLflow runs and the tables; learned until the end of the validation day."""
    rows = []
    until = learned_until or midnight(date.fromisoformat(day) - timedelta(days=1)) - timedelta(microseconds=1)
    lineage = {"day": day, "learned_until": until.isoformat()}
    for kind, ranker in rankers.items():
        made = bundle.write(
            config.bundles, f"{kind}-{mode}-{day}", ranker, rankers["popularity"], None, config.policy, lineage, delays,
            reference=reference,
        )  # fmt: skip
        run_id = tracking.log_ranker(config, made.candidate_id, made.path, None, {}, {}, {"bundle_sha256": made.sha256})
        rows.append(
            {
                "candidate_id": made.candidate_id,
                "ranker": kind,
                "chosen": kind == chosen,
                "bundle": str(made.path),
                "bundle_sha256": made.sha256,
                "run_id": run_id,
                "started_from": None,
                "validation_log_loss": None,
                "validation_auc": None,
            }
        )
    publish(config, "delay_curves", LAKE["delay_curves"].schema.empty_table(), day=day, mode=mode)
    publish(config, "candidates", pa.Table.from_pylist(rows, LAKE["candidates"].schema), day=day, mode=mode)
    return rows


def live(row: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A live row of the ledger, of a candidate or a verdict; put live now, after nothing, unless it says otherwise."""
    day = row.get("day", str(DAY))
    return {
        **{name: row[name] for name in ("candidate_id", "bundle", "bundle_sha256")},
        **{
            "step": LIVE,
            "share": 100.0,
            "day": day,
            "mode": row.get("mode", "full"),
            "at": now(),
            "by": "me",
            "why": "",
        },
        **{"evidence_sha256": row.get("evidence_sha256", "x"), "config": row["candidate_id"], "before": None},
        **changes,
    }


def publish_ledger(config: Config, *steps: dict[str, Any]) -> None:
    """Replace the ledger of the endpoint; steps are numbered as they come."""
    rows = [{"number": number, **step} for number, step in enumerate(steps, 1)]
    table = pa.Table.from_pylist(rows, LAKE["deployments"].schema)
    publish(config, "deployments", table, endpoint=config.endpoint.name)


def publish_verdicts(config: Config, *rows: dict[str, Any], day: str = str(DAY), mode: str = "full") -> None:
    """Replace the verdict of a day and mode."""
    names = LAKE["promotions"].columns
    table = pa.Table.from_pylist([{name: row[name] for name in names} for row in rows], LAKE["promotions"].schema)
    publish(config, "promotions", table, day=day, mode=mode)
