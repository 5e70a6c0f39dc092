"""Every feature, declared once: what it is of, its name, what kind of value it is, and who sees it.

From these lines come the columns of `user_features`, `item_features` and `examples` (`jobs.lake.tables`), Feast's
views, what is online, what a ranker is shown (`models.rankers.features`) and what the leak audit counts again. A
feature of a user or an item is counted by the rule of its name in `jobs.featurize.users` or `jobs.featurize.items`: to
add one is a line here and that rule, and a recount in `jobs.featurize.audit` unless the line says that there is none.

What is made of a user, an item and a request together is declared here too, and made in `models.rankers.features`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

INTEREST_BUCKETS = 32
"""Categories are hashed into this many buckets; a user's interests are one float per bucket."""
LAST_ITEMS = 10
"""How many of a user's last clicked items are known, newest first."""
SESSION_EVENTS = 20
"""How many of a session's events have their category known, newest first."""
ENCODINGS: dict[str, tuple[str, ...]] = {
    "category": ("item_category",),
    "surface_category": ("surface", "item_category"),
    "source_category": ("source_category", "item_category"),
    "query_category": ("query", "item_category"),
}
"""Target encodings: name to the columns whose joint value has a click rate; the first is what the others fall back to.

`source_category` is that of the item whose page it is, `query` what was searched for: context of one surface each.
"""
NUMBER = ":number"
"""Ends the key of an attribute that its logger wrote as a number: a text on its way, floats to a ranker."""

NUMBER = ":number"
"""Ends the key of an attribute that its logger wrote as a number: a text on its way, floats to a ranker."""

Of = Literal["user", "item", "decision"]
Kind = Literal["number", "word", "bucket", "vector", "given", "items", "buckets", "counts"]
Seen = Literal["itself", "within", "words", "not"]


@dataclass(frozen=True)
class Feature:
    """One line of `FEATURES`."""

    of: Of
    """The first two have a row a day in a table of theirs; the last is what it is only for an item shown to a user."""
    name: str
    doc: str
    kind: Kind = "number"
    """number: float; word: one of few strings; bucket: a hashed category; vector: floats; given: as many floats as
    the catalogue brings; items: ids of items; buckets: hashed categories; counts: a number by further outcome, of those
    that settings declare."""
    unknown: bool = False
    """Whether a row of its table may lack it; where there is no row all of them are unknown."""
    heavy_tailed: bool = False
    """A few values are far above the others: models of weights look at log(1 + x)."""
    width: int = 1
    """How many values a list or a vector has at most."""
    seen: Seen = "itself"
    """Whether rankers are shown it as a column, only what is made of it, words of it among the attributes of its user
    or item (`models.rankers.features.steps`), or nothing."""
    sees: tuple[str, ...] = ()
    """Of a decision: by which of the item's features it may differ between items of one request. `item_id`: by whether
    the item is among those of the user's lists. Two items alike in these have the same, so it is made once for both."""
    recounted: bool = True
    """Whether the leak audit counts it again, event by event; else it is made of what is, or is no count."""

    def __post_init__(self) -> None:
        shown = ("number", "word", *{"user": ("items",), "item": ("given",)}.get(self.of, ()))
        if self.seen == "itself" and self.kind not in shown:
            raise ValueError(
                f"a feature of {self.of} that rankers are shown needs to be one of {', '.join(shown)} so far; "
                f"found {self.name}, a {self.kind}"
            )
        if (self.seen == "words") != (self.kind == "counts"):
            raise ValueError(f"counts, and no other kind, are seen as words; found {self.name}, a {self.kind}")
        if self.sees and self.of != "decision":
            raise ValueError(f"a feature of {self.of} sees nothing else; found {self.name}, which sees {self.sees}")

    @cached_property
    def column(self) -> str:
        """What rankers and `examples` know it by: lists are of users alone, so they need no more than their name."""
        return self.name if self.of == "decision" or self.kind == "items" else f"{self.of}_{self.name}"


FEATURES: tuple[Feature, ...] = (
    Feature("decision", "position", "place on the page, 1 is the top; as served, where scores compare items",
            heavy_tailed=True),
    Feature("decision", "task_type", "what the surface asks for, see TaskSettings", "word"),
    Feature("decision", "surface", "home, search, similar, ...", "word"),
    # -- of a user, over the long-term window, at the end of a day ------------------------------------------------
    Feature("user", "impressions", "items shown", heavy_tailed=True),
    Feature("user", "clicks", "clicks made", seen="not"),
    Feature("user", "click_rate", "clicks per impression, smoothed"),
    Feature("user", "days_since_click", "from the last click to the midnight", unknown=True, heavy_tailed=True),
    Feature("user", "interests", "by interest bucket: smoothed click rate / the user's own", "vector",
            width=INTEREST_BUCKETS, seen="within", recounted=False),
    Feature("user", "last_items", "clicked items, newest first", "items", width=LAST_ITEMS),
    Feature("user", "last_buckets", "their interest buckets, -1 where there is no category", "buckets",
            width=LAST_ITEMS, seen="within", recounted=False),
    Feature("user", "session_events", "the last session: impressions and clicks without a long pause"),
    Feature("user", "session_clicks", "clicks among them"),
    Feature("user", "session_seconds", "from its first event to its last"),
    Feature("user", "session_buckets", "interest buckets of its newest events, newest first", "buckets",
            width=SESSION_EVENTS, seen="within", recounted=False),
    Feature("user", "days_since_session", "from its last event to the midnight"),
    Feature("user", "outcomes", "by further outcome: events, or the sum of their values", "counts", unknown=True,
            seen="words"),
    # -- of a user and an item ------------------------------------------------------------------------------------
    Feature("decision", "user_item_interest", "the user's interest in the item's bucket", unknown=True,
            sees=("interest_bucket",)),
    Feature("decision", "user_last5_share", "of the last 5 clicked items: in the item's bucket", unknown=True,
            sees=("interest_bucket",)),
    Feature("decision", "user_last10_share", "of the last 10 clicked items", unknown=True,
            sees=("interest_bucket",)),
    Feature("decision", "user_session_share", "of the last session's events", unknown=True,
            sees=("interest_bucket",)),
    Feature("decision", "user_clicked_item", "1 where the item is among the last 10 clicked", unknown=True,
            sees=("item_id",)),
    # -- of an item, likewise -------------------------------------------------------------------------------------
    Feature("item", "impressions", "times shown", heavy_tailed=True),
    Feature("item", "clicks", "times clicked", seen="not"),
    Feature("item", "click_rate", "clicks per impression, smoothed"),
    Feature("item", "click_rate_7d", "of the last 7 days"),
    Feature("item", "click_rate_1d", "of the last day"),
    Feature("item", "click_rate_1h", "of the hour before the midnight"),
    Feature("item", "purchase_rate", "purchases per click, smoothed, by when they were known"),
    Feature("item", "outcomes", "by further outcome, likewise", "counts", unknown=True, seen="words"),
    Feature("item", "age_days", "since its creation", unknown=True, heavy_tailed=True, recounted=False),
    Feature("item", "price", "as listed", unknown=True, heavy_tailed=True, recounted=False),
    Feature("item", "category", "as listed", "word", unknown=True, recounted=False),
    Feature("item", "vector", "as given, of its image say: items alike have vectors alike", "given", unknown=True,
            recounted=False),
    Feature("item", "interest_bucket", "the category, hashed", "bucket", unknown=True, seen="within", recounted=False),
    # -- of the request and the item ------------------------------------------------------------------------------
    *(Feature("decision", f"encoded_{name}", f"click rate by {', '.join(of)}", unknown=True,
              sees=("category",))
      for name, of in ENCODINGS.items()),
    Feature("decision", "source_same_category", "1 where the page's item is of the item's category",
            sees=("category",)),
    Feature("decision", "device", "as sent", "word", unknown=True),
    Feature("decision", "region", "as sent", "word", unknown=True),
)  # fmt: skip


OUTCOMES = "outcomes"
"""The name of the counts of users and of items."""


def declared(of: Of, where: Callable[[Feature], bool] = lambda _: True) -> tuple[Feature, ...]:
    """The features of one kind of thing that a condition holds for, as they are declared."""
    return tuple(feature for feature in FEATURES if feature.of == of and where(feature))


@cache
def read(of: Of) -> tuple[Feature, ...]:
    """Those that rankers see, themselves or within others; of counts they are told among the attributes."""
    return declared(of, lambda feature: feature.seen in ("itself", "within"))


def rule_of(rules: dict[str, Callable[..., Any]], feature: Feature, where: str) -> Callable[..., Any]:
    """The rule of a feature; raises ValueError where `rules`, those of the module `where`, have none of its name."""
    if feature.name not in rules:
        raise ValueError(
            f"{feature.of} feature {feature.name} is declared and needs a rule of its name in {where}; found {[*rules]}"
        )
    return rules[feature.name]
