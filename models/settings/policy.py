"""How what a ranker says becomes a page."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from models.settings.base import Settings

PolicyKind = Literal["greedy", "epsilon_greedy", "plackett_luce", "thompson"]
EXPLORED_BY = {"epsilon": "epsilon_greedy", "temperature": "plackett_luce", "evidence": "thompson"}
"""Which kind of policy a setting is of."""


class OfItems(Settings):
    """Items grouped by one of their values."""

    of: str = Field(
        "category", description="`category`, or an attribute of the item: `item.brand` is attributes.item.brand"
    )

    @field_validator("of")
    @classmethod
    def _is_of_items(cls, name: str) -> str:
        if name != "category" and not (name.startswith("item.") and name != "item."):
            raise ValueError(f"must be category or item.<attribute>; not {name}")
        return name

    @property
    def column(self) -> str:
        """The ranker column that has the word."""
        return "item_category" if self.of == "category" else f"attributes.{self.of}"


class BoostSettings(OfItems):
    """Items with one value count more, or less, than predicted."""

    word: str = Field(description="value that an item must have")
    times: float = Field(gt=0, description="multiplies the odds of the score, which stays a probability; 1: nothing")


class BlockSettings(OfItems):
    """Items with these values are not shown."""

    words: tuple[str, ...] = Field(min_length=1, description="values of which an item has one")


class CapSettings(OfItems):
    """A limit per page for items with the same value; a page may end early because of it."""

    most: int = Field(ge=1, description="maximum items with the same value on one page")


class RepeatSettings(OfItems):
    """What an item is worth after items with the same value above it on the page."""

    times: float = Field(gt=0, description="multiplies the odds of the score, once for each; below 1: diversity")


class HeuristicSettings(Settings):
    """What somebody wants for a surface's pages whatever is predicted; see `models.policies.heuristics`."""

    boosts: tuple[BoostSettings, ...] = Field((), description="items worth more or less: of, word, times the odds")
    blocks: tuple[BlockSettings, ...] = Field((), description="items that are not shown: of, words")
    caps: tuple[CapSettings, ...] = Field((), description="limits on one value per page: of, most")
    repeats: tuple[RepeatSettings, ...] = Field(
        (), description="diversity, the effect of each item above with the same value: of, times the odds"
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """The ranker columns whose words they look at, each once."""
        rules: tuple[OfItems, ...] = (*self.boosts, *self.blocks, *self.caps, *self.repeats)
        return tuple(dict.fromkeys(rule.column for rule in rules))


class SurfaceSettings(Settings):
    """How a surface's policy differs; what is not given is as for all surfaces."""

    kind: PolicyKind | None = None
    temperature: float | None = Field(None, gt=0)
    epsilon: float | None = Field(None, ge=0, le=1)
    evidence: float | None = Field(None, gt=0)
    heuristics: HeuristicSettings | None = Field(None, description="replaces all of the general ones")


class PolicySettings(Settings):
    """How scores become a slate, and the probabilities that are logged."""

    kind: PolicyKind = "plackett_luce"
    temperature: float = Field(0.5, gt=0, description="Plackett-Luce: probability is proportional to score ** (1 / T)")
    epsilon: float = Field(0.1, ge=0, le=1, description="epsilon-greedy: share of uniform choices")
    evidence: float = Field(
        200.0, gt=0, description="Thompson: number of impressions that a score is treated as evidence from"
    )
    surfaces: dict[str, SurfaceSettings] = Field(
        {}, description="surfaces that explore more, less or differently; a mapping, given whole"
    )
    score_weights: dict[str, float] = Field(
        {"click": 1.0},
        description="value of a click, a conversion or a further binary outcome relative to each other: items rank "
        "by the weighted mean of their probabilities; a mapping, given whole",
    )
    heuristics: HeuristicSettings = Field(
        HeuristicSettings(), description="boosts, blocks, caps and diversity of every surface that has none of its own"
    )

    @field_validator("score_weights")
    @classmethod
    def _weigh_something(cls, weights: dict[str, float]) -> dict[str, float]:
        if (
            not weights
            or not all(0 <= weight < float("inf") for weight in weights.values())
            or not any(weights.values())
        ):
            raise ValueError(f"weights of a score need to be finite, at least 0 and one of them above; found {weights}")
        return dict(sorted(weights.items()))

    @model_validator(mode="after")
    def _surfaces_set_what_their_kind_reads(self) -> Self:
        for surface, own in sorted(self.surfaces.items()):
            kind = own.kind or self.kind
            idle = [name for name, of in EXPLORED_BY.items() if getattr(own, name) is not None and of != kind]
            if idle:
                raise ValueError(f"surface {surface} has a policy of kind {kind}, which reads no {', '.join(idle)}")
        return self

    def on(self, surface: str | None) -> Self:
        """The policy of one surface, the same on all; None: a surface that was not told."""
        if not self.surfaces:
            return self
        own = {name: of for name, of in self.surfaces.get(surface or "", SurfaceSettings()) if of is not None}
        return self.model_copy(update={**own, "surfaces": {}})

    @property
    def plain(self) -> Self:
        """The same without heuristics."""
        return self.model_copy(update={"heuristics": HeuristicSettings()})

    @property
    def columns(self) -> tuple[str, ...]:
        """The ranker columns of items that the heuristics of any surface look at."""
        every = (self.heuristics, *(own.heuristics for own in self.surfaces.values() if own.heuristics))
        return tuple(dict.fromkeys(column for heuristics in every for column in heuristics.columns))
