"""Which columns a ranker sees, and how a user's and an item's feature rows become them.

One definition for training, backtest and serving: `jobs.assemble`, `jobs.backtest` and the endpoint all call
`interest_of` and use these names, so what is trained on is what is served.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.rankers.protocol import Columns, Floats

NUMERIC = (
    "position",
    "user_impressions",
    "user_click_rate",
    "user_days_since_click",
    "user_item_interest",
    "item_impressions",
    "item_click_rate",
    "item_click_rate_7d",
    "item_click_rate_1d",
    "item_purchase_rate",
    "item_age_days",
    "item_price",
)
USER_NUMBERS = ("impressions", "click_rate", "days_since_click")
ITEM_NUMBERS = ("impressions", "click_rate", "click_rate_7d", "click_rate_1d", "purchase_rate", "age_days", "price")
"""The numbers of a user's and an item's feature row that `decision_columns` takes, in training and in serving."""
CATEGORICAL = ("surface", "item_category", "device", "region")
ATTRIBUTE_PREFIX = "attributes."
"""Every key of the `attributes` map becomes one more categorical column `attributes.<key>`."""
IDENTITY = ("item_id",)
"""Rankers that remember items (popularity) may use it; it is never fed to a model as a number."""

SERVING_POSITION = 1
"""Position is a feature when learning (people look at the top) and fixed to this when scores are compared."""


def interest_of(interests: NDArray[np.float64], bucket: NDArray[np.int64]) -> Floats:
    """Each row's interest in its item's category bucket: (n, buckets) and (n,) give (n,).

    NaN where the user is unknown (a row of NaN) or the item has no category (bucket < 0).
    """
    known = bucket >= 0
    found = np.full(len(bucket), np.nan)
    rows = np.flatnonzero(known)
    found[rows] = interests[rows, bucket[rows]]
    return found


def decision_columns(users: Columns, items: Columns, context: Columns) -> dict[str, NDArray[Any]]:
    """Row-aligned user features, item features and context become a ranker's columns; n rows in, n rows out.

    `users`: impressions, click_rate, days_since_click (n,), interests (n, buckets); NaN where the user is unknown.
    `items`: item_id, impressions, click_rate, click_rate_7d, click_rate_1d, purchase_rate, age_days, price, category,
    interest_bucket (-1 where there is no category).
    `context`: surface, device, region and any `attributes.<key>`; `position` where it is known, else the serving one.
    """
    n = len(items["item_id"])
    columns: dict[str, NDArray[Any]] = {
        "item_id": items["item_id"],
        "position": context.get("position", np.full(n, float(SERVING_POSITION))),
        "user_impressions": users["impressions"],
        "user_click_rate": users["click_rate"],
        "user_days_since_click": users["days_since_click"],
        "user_item_interest": interest_of(users["interests"], items["interest_bucket"]),
        "item_category": items["category"],
    }
    for name in ITEM_NUMBERS:
        columns[f"item_{name}"] = items[name]
    for name, column in context.items():
        if name in ("surface", "device", "region") or name.startswith(ATTRIBUTE_PREFIX):
            columns[name] = column
    return columns
