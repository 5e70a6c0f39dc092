"""Feast's view of the feature tables: entities, views, and one service per use. Imported only by code that needs Feast.

The point-in-time join of Tidegate is `jobs.asof`, not Feast's historical retrieval: the file sources below say where a
view's rows come from and which column is the time they became available, but Feast never reads them (only the Delta
log knows which part files are alive). Rows reach the online store by `jobs.featurize.online.publish`.

Rates are Float64 and interests Array(Float32), as in `jobs.tables`: what is read online equals the lake bit by bit.
The TTL is not set: Feast does not enforce it online; readers look at the time a row became available instead.
"""

import hashlib
from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float32, Float64, Int32, String

AVAILABLE_AT = "available_at"
VERSION = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
"""Kept with the registered definitions: others are registered again."""

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)
encoding = Entity(name="encoding", join_keys=["encoding"], value_type=ValueType.STRING)
value = Entity(name="value", join_keys=["value"], value_type=ValueType.STRING)
publication = Entity(name="publication", join_keys=["publication_id"], value_type=ValueType.STRING)


def _view(name: str, entities: list[Entity], table: str, **fields: object) -> FeatureView:
    """A view over one table of the lake, in the order its fields are written."""
    return FeatureView(
        name=name,
        entities=entities,
        schema=[Field(name=column, dtype=dtype) for column, dtype in fields.items()],
        source=FileSource(name=f"{name}_rows", path=f"var/lake/{table}/parts", timestamp_field=AVAILABLE_AT),
        ttl=timedelta(0),
        online=True,
    )


user_features = _view(
    "user_features",
    [user],
    "user_features",
    impressions=Float64,
    clicks=Float64,
    click_rate=Float64,
    days_since_click=Float64,
    interests=Array(Float32),
    last_items=Array(String),
    last_buckets=Array(Int32),
    session_events=Float64,
    session_clicks=Float64,
    session_seconds=Float64,
    session_buckets=Array(Int32),
    days_since_session=Float64,
)
user_attributes = _view("user_attributes", [user], "users", attributes=String)
item_features = _view(
    "item_features",
    [item],
    "item_features",
    impressions=Float64,
    clicks=Float64,
    click_rate=Float64,
    click_rate_7d=Float64,
    click_rate_1d=Float64,
    click_rate_1h=Float64,
    purchase_rate=Float64,
    age_days=Float64,
    price=Float64,
    category=String,
    interest_bucket=Int32,
)
item_attributes = _view("item_attributes", [item], "items", attributes=String)
encodings = _view("encodings", [encoding, value], "encodings", impressions=Float64, clicks=Float64, click_rate=Float64)
publications = _view(
    "publications",
    [publication],
    "item_features",
    day=String,
    versions=String,
    item_ids=Array(String),
    encodings=Array(String),
    values=Array(String),
)

ranking = FeatureService(name="ranking", features=[user_features, user_attributes])
catalogue = FeatureService(name="catalogue", features=[item_features, item_attributes])
contexts = FeatureService(name="encodings", features=[encodings])
freshness = FeatureService(name="freshness", features=[publications], tags={"definitions": VERSION})

OBJECTS = [
    *(user, item, encoding, value, publication),
    *(user_features, user_attributes, item_features, item_attributes, encodings, publications),
    *(ranking, catalogue, contexts, freshness),
]
