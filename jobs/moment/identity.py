"""Items that are the same item under several ids share one identity; examples keep the id that was shown."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from jobs.asof.core import Indices
from jobs.config import SelectionSettings
from jobs.lake.tables import STR
from jobs.moment.columns import attribute_columns

CANONICAL = "canonical_item_id"
"""The attribute (raw column `feature_canonical_item_id`) that names the item a copy stands for."""
IDENTIFYING = ["item_id", "category", "price", "title", "attributes"]
IDENTITY = pa.schema([("item_id", STR), ("identity", STR)])
LINKS = pa.schema([("item_id", STR), ("same_as", STR)])
"""Two ids of one item."""
DESCRIBED = pa.schema([("item_id", STR), ("title", STR), ("category", STR), ("price", pa.float64())])
"""What makes items equal by content, none of it missing."""


def identities(items: pa.Table, settings: SelectionSettings) -> pa.Table:
    """`IDENTITY` of the items that have another id's identity: the smallest id of all that are the same.

    `items`: item_id, category, price, title, attributes of a snapshot. Two ids are the same if one names the other as
    its canonical item, and with `same_items = "content"` if title (case and spaces apart), category and price are equal
    and none is missing; also over several steps. A canonical id the snapshot lacks still joins those that name it.
    """
    if settings.same_items == "item_id" or not len(items):
        return IDENTITY.empty_table()
    found = [links(items)]
    if settings.same_items == "content":
        found.append(alike(described(items)))
    return joined(pa.concat_tables(found))


def links(items: pa.Table) -> pa.Table:
    """`LINKS` of items that name another as their canonical one."""
    named = pa.array(attribute_columns(items.column("attributes"), [CANONICAL])[f"attributes.{CANONICAL}"], STR)
    return _apart(pa.table([items.column("item_id").cast(STR), named], schema=LINKS).drop_null())


def described(items: pa.Table) -> pa.Table:
    """`DESCRIBED`: the title without case and doubled spaces."""
    words = pc.split_pattern_regex(pc.utf8_trim_whitespace(pc.utf8_lower(items.column("title"))), r"\s+")
    title = pc.binary_join(words, " ")
    title = pc.if_else(pc.equal(title, ""), None, title)
    columns = {name: items.column(name) for name in DESCRIBED.names} | {"title": title}
    return pa.table(columns).cast(DESCRIBED).drop_null()


def alike(items: pa.Table) -> pa.Table:
    """`LINKS` of each item of `DESCRIBED` with the first of equal title, category and price, which must be together."""
    first = items.group_by(["title", "category", "price"]).aggregate([("item_id", "min")])
    met = items.join(first, ["title", "category", "price"])
    return _apart(met.select(["item_id", "item_id_min"]).rename_columns(LINKS.names).cast(LINKS))


def joined(links: pa.Table) -> pa.Table:
    """`IDENTITY` of all `LINKS`, over any number of steps."""
    ids = pc.unique(pa.chunked_array([*links.column(0).chunks, *links.column(1).chunks], STR)).sort()
    if not len(ids):
        return IDENTITY.empty_table()
    left, right = (pc.index_in(links.column(n), ids).to_numpy() for n in range(2))
    graph = coo_matrix((np.ones(len(links), bool), (left, right)), shape=(len(ids), len(ids)))
    component: Indices = connected_components(graph, directed=False)[1].astype(np.int64)
    # `ids` are sorted: the first of a component is its smallest.
    first: NDArray[np.int64] = np.unique(component, return_index=True)[1]
    found = pa.table({"item_id": ids, "identity": ids.take(pa.array(first[component]))}, schema=IDENTITY)
    return found.filter(pc.not_equal(found.column("item_id"), found.column("identity")))


def _apart(links: pa.Table) -> pa.Table:
    """Those of two ids: nearly every item is only itself."""
    return links.filter(pc.not_equal(links.column("item_id"), links.column("same_as")))
