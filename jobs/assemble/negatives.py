"""Random negatives for a retrieval model: items of the whole catalogue against each train click, in their own table.

A ranker learns from what was shown; a retrieval model must also tell the rest of the catalogue apart. Both never mix:
these rows are no impressions, so they live in `retrieval_negatives`, which no ranker, backtest or monitor reads.

A click's catalogue and popularity are those of the publication it sees (`jobs.asof.clock`). `probability` is that of
one draw bringing the item, the q of the logQ correction `score - log(q)` (Yi et al. 2019, "Sampling-Bias-Corrected
Neural Modeling for Large Corpus Item Recommendations", eq. 3). What the user was shown in the train days, clicked or
not, is taken out and not drawn again: a user has `per_click * q` rows of an unseen item per click in expectation,
exactly.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.asof.clock import seen
from jobs.asof.coins import uniform
from jobs.asof.core import ABSENT, Indices
from jobs.assemble.core import LABELLED
from jobs.assemble.selection import identified
from jobs.config import RetrievalNegativeSettings
from jobs.lake.tables import LAKE, TIME

CLICKED = pa.schema(
    [
        *(LABELLED.field(name) for name in ("impression_id", "event_time", "user_id", "item_id", "surface")),
        ("available_at", TIME),  # of the publication it sees; null where there was none
    ]
)
SHOWN = pa.schema([LABELLED.field(name) for name in ("user_id", "item_id")])
CATALOGUE = pa.schema([LAKE["item_features"].schema.field(name) for name in ("item_id", "available_at", "impressions")])
NEGATIVES = LAKE["retrieval_negatives"].schema
PURPOSE = "random"


def clicked(rows: pa.Table, publications: Indices) -> pa.Table:
    """`CLICKED`: the train clicks of known users among the rows that become examples; what negatives stand against."""
    train = pc.and_(pc.equal(rows.column("split"), "train"), pc.fill_null(rows.column("clicked"), False))
    found = rows.filter(pc.and_(train, rows.column("user_id").is_valid()))
    at = seen(publications, found.column("event_time"))
    available_at = pa.array(np.append(publications, 0)[at], mask=at == ABSENT).cast(TIME)
    return found.append_column("available_at", available_at).select(CLICKED.names).cast(CLICKED)


def shown(rows: pa.Table) -> pa.Table:
    """`SHOWN`: which known user saw what in the train days, whether or not the row becomes an example."""
    known = pc.and_(pc.equal(rows.column("split"), "train"), rows.column("user_id").is_valid())
    return rows.filter(known).select(SHOWN.names).cast(SHOWN)


def drawn(clicks: pa.Table, catalogue: pa.Table, settings: RetrievalNegativeSettings) -> pa.Table:
    """`NEGATIVES`: `per_click` draws against each click, with replacement; none where it sees no catalogue.

    Clicks must be together with the `CATALOGUE` rows of the publication they see.
    """
    parts = [NEGATIVES.empty_table()]
    for each in pc.drop_null(clicks.column("available_at").unique()).sort():
        items = catalogue.filter(pc.equal(catalogue.column("available_at"), each)).sort_by("item_id")
        if not len(items):
            continue
        weight = (items.column("impressions").to_numpy() + 1.0) ** settings.popularity_exponent
        probability = weight / weight.sum()
        reach = np.cumsum(probability)
        of_day = clicks.filter(pc.equal(clicks.column("available_at"), each))
        for draw in range(settings.per_click):
            coin = uniform(
                pc.binary_join_element_wise(of_day.column("impression_id"), str(draw), "#"), PURPOSE, settings.seed
            )
            # The last sum may fall short of 1 by rounding.
            at = np.minimum(np.searchsorted(reach, coin, side="right"), len(items) - 1)
            columns = {name: of_day.column(name) for name in ("impression_id", "event_time", "user_id", "surface")} | {
                "draw": pa.array(np.full(len(of_day), draw, np.int32)),
                "item_id": items.column("item_id").take(pa.array(at)),
                "probability": pa.array(probability[at]),
            }
            parts.append(pa.table({name: columns[name] for name in NEGATIVES.names}, schema=NEGATIVES))
    return pa.concat_tables(parts)


def unseen(negatives: pa.Table, seen: pa.Table, identity: pa.Table) -> pa.Table:
    """The `NEGATIVES` whose item the user was not shown under any of its ids, by click and draw.

    Rows of one user must be together; `identity` is `jobs.moment.identity.identities`.
    """
    pairs = seen.set_column(1, "identity", identified(seen.column("item_id"), identity))
    pairs = pairs.group_by(["user_id", "identity"]).aggregate([])
    items = identified(negatives.column("item_id"), identity)
    met = negatives.append_column("identity", items).join(pairs, ["user_id", "identity"], join_type="left anti")
    return met.select(NEGATIVES.names).cast(NEGATIVES).sort_by([("impression_id", "ascending"), ("draw", "ascending")])
