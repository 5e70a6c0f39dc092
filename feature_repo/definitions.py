"""Feast's view of the feature tables: entities, views, and one service per use. Imported only by code that needs Feast.

Offline the views read the lake itself (Delta: only the part files its log names are alive), by the time from which a
row counts as known (`jobs.asof.clock`). Tidegate's datasets are joined by `jobs.asof`; `get_historical_features` over
these views gives the same rows, slower, and a test holds the two together. Online rows come by
`jobs.features.online.publish`.

A view has the columns of its table, which are the features that `models.features` declares: one added there is served.
Feast does not enforce a TTL online; readers look at a row's `available_at` instead. Attributes and the
publication marker are written online only: the lake has no such columns.
"""

import hashlib
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import DeltaFormat
from feast.types import Array, Float32, Float64, Int32, String

from jobs.features.read import UNREAD
from jobs.flow import FEATURES
from jobs.lake.tables import LAKE, VALUES
from jobs.places import Place

AVAILABLE_AT = "available_at"
ONLINE_ONLY = timedelta(0)

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)
encoding = Entity(name="encoding", join_keys=["encoding"], value_type=ValueType.STRING)
value = Entity(name="value", join_keys=["value"], value_type=ValueType.STRING)
publication = Entity(name="publication", join_keys=["publication_id"], value_type=ValueType.STRING)


TYPES = {
    pa.float64(): Float64,
    pa.int32(): Int32,
    pa.string(): String,
    pa.list_(pa.float32()): Array(Float32),
    pa.list_(pa.int32()): Array(Int32),
    pa.list_(pa.string()): Array(String),
    VALUES: String,
}
"""A map of numbers is a JSON text online.

Rates are Float64 and interests Array(Float32), so that what is read online equals the lake bit by bit."""
KEEP = timedelta(days=1) - timedelta(microseconds=1)
"""From a row's `available_at` until the next day's; Feast's bound is inclusive.

Where a day has no publication Tidegate's own join keeps the one before, as serving does; a TTL cannot say that.
"""


def views(lake: Place) -> dict[str, FeatureView]:
    """Every view by name, over the lake at `lake`."""

    def view(name: str, entities: list[Entity], ttl: timedelta, schema: list[Field]) -> FeatureView:
        path = str(lake.absolute() / name)
        return FeatureView(
            name=name,
            entities=entities,
            schema=schema,
            source=FileSource(name=f"{name}_rows", path=path, file_format=DeltaFormat(), timestamp_field=AVAILABLE_AT),
            ttl=ttl,
            online=True,
        )

    words = {
        "day": String,
        "versions": String,
        "item_ids": Array(String),
        "removed": Array(String),
        "unlisted": Array(String),
        "encodings": Array(String),
        "values": Array(String),
    }
    found = (
        view("user_features", [user], KEEP, fields("user_features")),
        view("item_features", [item], KEEP, fields("item_features")),
        view("encodings", [encoding, value], KEEP, fields("encodings")),
        view("user_attributes", [user], ONLINE_ONLY, [Field(name="attributes", dtype=String)]),
        view("item_attributes", [item], ONLINE_ONLY, [Field(name="attributes", dtype=String)]),
        view(
            "publications", [publication], ONLINE_ONLY, [Field(name=name, dtype=dtype) for name, dtype in words.items()]
        ),
    )
    return {one.name: one for one in found}


def fields(table: str) -> list[Field]:
    """The columns of a feature table that the endpoint reads as Feast's fields, as the table declares them."""
    columns = LAKE[table].columns
    known = [name for name in columns if name not in (*LAKE[table].key, AVAILABLE_AT, *UNREAD[table])]
    return [Field(name=name, dtype=TYPES[columns[name].type]) for name in known]


def objects(lake: Place) -> list[Entity | FeatureView | FeatureService]:
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


def version(lake: Place) -> str:
    """Kept with the registered definitions: others, or those of another lake, are registered again."""
    columns = repr([LAKE[name].schema for name in FEATURES]).encode()
    return hashlib.sha256(Path(__file__).read_bytes() + columns + str(lake.absolute()).encode()).hexdigest()[:16]
