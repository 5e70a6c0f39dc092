"""One assembler: moments, and what was known at them, become a ranker's columns.

Three kinds of knowledge stand behind one protocol: as-of (`jobs.assemble.core.AsOf`, datasets: rows that were joined by
time), midnight (`jobs.moment.decisions.Midnight`, replay and monitoring: one publication, whole) and online
(`infra.endpoint.catalogue.Online`, serving: one publication, packed). What each must know follows from the features
that are declared, so one that is added is missing nowhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from jobs.moment.columns import Columns
from models.rankers.features import Encodings, Strings, decision_columns
from models.rankers.protocol import Floats
from models.settings import TaskSettings


@dataclass(frozen=True)
class Moments:
    """n times that an item was shown to somebody, or might have been: what the request itself said."""

    item_id: Strings
    words: Mapping[str, Strings]
    """user_id, surface, device, region, query, and any `attributes.<key>`; (n,) each, None where nothing was said."""
    position: Floats | None = None
    """As it was shown; None: the one at which items are compared."""


class Knowledge(Protocol):
    """What was known at n moments, a row each; NaN, None or `NO_BUCKET` where it was not."""

    @property
    def encodings(self) -> Encodings:
        """Of the publication that each moment sees."""
        ...

    def users(self) -> Columns:
        """By `models.features.read("user")`."""
        ...

    def items(self) -> Columns:
        """By `models.features.read("item")`."""
        ...

    def source_category(self) -> Strings:
        """(n,) the category of the item whose page it is; None off such a page."""
        ...

    def attributes(self) -> Columns:
        """`attributes.user.<key>` and `attributes.item.<key>`; none where they are kept as maps beside the columns."""
        ...


def assembled(moments: Moments, known: Knowledge, tasks: TaskSettings, whole: bool = True) -> Columns:
    """n rows of `models.rankers.features.EVERYTHING`, with the attributes that moments and knowledge have.

    Not `whole`: see `decision_columns`.
    """
    context = {**moments.words, **known.attributes(), "source_category": known.source_category()}
    if moments.position is not None:
        context["position"] = moments.position
    items = {**known.items(), "item_id": moments.item_id}
    return decision_columns(known.users(), items, context, known.encodings, tasks, whole)
