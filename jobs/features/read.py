"""Which features rankers read, so that the online store and Feast's definitions of it hold the same."""

from models.features import Feature, Of, declared

ONLINE: dict[Of, tuple[Feature, ...]] = {of: declared(of, lambda one: one.seen != "not") for of in ("user", "item")}
"""The features that rankers see, in whatever way: nothing else is put online."""
UNREAD: dict[str, tuple[str, ...]] = {
    **{f"{of}_features": tuple(one.name for one in declared(of) if one.seen == "not") for of in ONLINE},
    "encodings": ("impressions", "clicks"),
}
"""Columns of the feature tables that stay in the lake: Feast has a row for each value of each user."""
