"""Feast's view of the feature tables: entities, views, and one service per use. Imported only by code that needs Feast.

Offline the views read the lake itself (Delta: only the part files its log names are alive), by the time a row became
available. Tidegate's datasets are joined by `jobs.asof`; `get_historical_features` over these views gives the same
rows, slower, and a test holds the two together. Online rows come by `jobs.features.online.publish`.

Rates are Float64 and interests Array(Float32), as in `jobs.lake.tables`: what is read online equals the
lake bit by bit.
Feast does not enforce a TTL online; readers look at the time a row became available instead. Attributes and the
publication marker are written online only: the lake has no such columns.
"""

import hashlib
from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import DeltaFormat
from feast.types import Array, Float32, Float64, Int32, String

AVAILABLE_AT = "available_at"
ONLINE_ONLY = timedelta(0)

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)
encoding = Entity(name="encoding", join_keys=["encoding"], value_type=ValueType.STRING)
value = Entity(name="value", join_keys=["value"], value_type=ValueType.STRING)
publication = Entity(name="publication", join_keys=["publication_id"], value_type=ValueType.STRING)


KEEP = timedelta(days=1) - timedelta(microseconds=1)
"""A feature row is known from its midnight until the next; Feast's bound is inclusive."""


def views(lake: Path) -> dict[str, FeatureView]:
    """Every view by name, over the lake at `lake`."""

    def view(name: str, entities: list[Entity], ttl: timedelta, **fields: object) -> FeatureView:
        """In the order its fields are written."""
        path = str(lake.absolute() / name)
        return FeatureView(
            name=name,
            entities=entities,
            schema=[Field(name=column, dtype=dtype) for column, dtype in fields.items()],
            source=FileSource(name=f"{name}_rows", path=path, file_format=DeltaFormat(), timestamp_field=AVAILABLE_AT),
            ttl=ttl,
            online=True,
        )

    counts = {"impressions": Float64, "clicks": Float64, "click_rate": Float64}
    found = (
        view(
            "user_features",
            [user],
            KEEP,
            **counts,
            days_since_click=Float64,
            interests=Array(Float32),
            last_items=Array(String),
            last_buckets=Array(Int32),
            session_events=Float64,
            session_clicks=Float64,
            session_seconds=Float64,
            session_buckets=Array(Int32),
            days_since_session=Float64,
        ),
        view(
            "item_features",
            [item],
            KEEP,
            **counts,
            click_rate_7d=Float64,
            click_rate_1d=Float64,
            click_rate_1h=Float64,
            purchase_rate=Float64,
            age_days=Float64,
            price=Float64,
            category=String,
            interest_bucket=Int32,
        ),
        view("encodings", [encoding, value], KEEP, **counts),
        view("user_attributes", [user], ONLINE_ONLY, attributes=String),
        view("item_attributes", [item], ONLINE_ONLY, attributes=String),
        view(
            "publications",
            [publication],
            ONLINE_ONLY,
            day=String,
            versions=String,
            item_ids=Array(String),
            encodings=Array(String),
            values=Array(String),
        ),
    )
    return {one.name: one for one in found}


def objects(lake: Path) -> list[Entity | FeatureView | FeatureService]:
    """All that is registered."""
    of = views(lake)
    services = {
        "ranking": ("user_features", "user_attributes"),
        "catalogue": ("item_features", "item_attributes"),
        "encodings": ("encodings",),
        "freshness": ("publications",),
    }
    return [
        *(user, item, encoding, value, publication),
        *of.values(),
        *(
            FeatureService(name=name, features=[of[one] for one in names], tags={"definitions": version(lake)})
            for name, names in services.items()
        ),
    ]


def version(lake: Path) -> str:
    """Kept with the registered definitions: others, or those of another lake, are registered again."""
    return hashlib.sha256(Path(__file__).read_bytes() + str(lake.absolute()).encode()).hexdigest()[:16]
