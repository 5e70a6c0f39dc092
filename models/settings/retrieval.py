"""The first stage: retrievers, their index, and the light stage behind it."""

from typing import Literal

from pydantic import Field

from models.settings.base import Settings


class ItemCFSettings(Settings):
    """Which items count as neighbours."""

    neighbours: int = Field(100, ge=1, description="neighbours kept per item")
    shrinkage: float = Field(
        10.0, ge=0, description="added to a cosine's denominator, since few users are little evidence"
    )


class EaseSettings(Settings):
    """Regularisation, and the maximum number of items."""

    l2: float = Field(1_000.0, gt=0, description="penalty on all weights")
    max_items: int = Field(
        5_000, ge=2, description="maximum items with interactions; a matrix of their square is kept and inverted"
    )


class IalsSettings(Settings):
    """The recipe of Rendle et al. (2021)."""

    dimensions: int = Field(32, ge=1, description="of a vector")
    iterations: int = Field(12, ge=1, description="passes over users and items")
    unobserved: float = Field(0.03, gt=0, description="weight of a pair that was not observed; tune with l2")
    l2: float = Field(0.03, gt=0, description="penalty on all vectors; tune with unobserved")
    l2_exponent: float = Field(1.0, ge=0, le=1, description="0: the same for all; 1: in proportion to frequency")
    start: float = Field(0.1, gt=0, description="standard deviation of the initial vectors' lengths")


class ContentSettings(Settings):
    """How words become vectors."""

    dimensions: int = Field(32, ge=1, description="of a vector")
    buckets: int = Field(4_096, ge=16, description="number of columns into which words are hashed")


class SkipGramSettings(Settings):
    """How items learn from their neighbours in a session."""

    dimensions: int = Field(32, ge=1, description="of a vector")
    window: int = Field(5, ge=1, description="neighbours on either side in a session")
    pause_days: float = Field(7.0, gt=0, description="a longer pause of the user ends a session")
    epochs: int = Field(2, ge=1, description="passes over the sessions")
    batch: int = Field(1_024, ge=2, description="pairs per step")
    rate: float = Field(0.05, gt=0, description="learning rate")


class TwoTowerSettings(Settings):
    """How histories are matched with what came next."""

    dimensions: int = Field(32, ge=1, description="of a vector")
    hidden: int = Field(64, ge=1, description="width of each tower's hidden layer")
    history: int = Field(50, ge=1, description="previous items that training looks at for an interaction")
    epochs: int = Field(2, ge=1, description="passes over the interactions")
    batch: int = Field(512, ge=2, description="interactions per step, used as each other's negatives")
    rate: float = Field(0.05, gt=0, description="learning rate")
    dropout: float = Field(
        0.1, ge=0, lt=1, description="share of items whose own vector is left out, so that words alone must do"
    )


class IndexSettings(Settings):
    """How vectors are indexed, and what an index must find."""

    kind: Literal["auto", "exact", "ivf", "pq", "hnsw"] = Field(
        "auto", description="auto: exact up to exact_max_items vectors, ivf above"
    )
    exact_max_items: int = Field(
        100_000, ge=1, description="with so many items a scan takes twice as long as lists, with a million ten times"
    )
    ivf_probed: int = Field(
        128,
        ge=1,
        description="lists probed per search, of about 2 sqrt(vectors); with a million vectors this finds 0.96 of "
        "the 1,000 nearest",
    )
    pq_refine: int = Field(8, ge=1, description="so many times k codes are re-scored in half precision")
    hnsw_links: int = Field(32, ge=4, description="links of each vector in the graph")
    hnsw_breadth: int = Field(
        200, ge=1, description="search breadth when the graph is built, and at least k when it is searched"
    )
    canary_queries: int = Field(64, ge=1, description="searches whose exact answers are stored with the index")
    canary_min_recall: float = Field(
        0.9, gt=0, le=1, description="share of the exact answers to find, when built and when loaded"
    )


class LightSettings(Settings):
    """The stage between retrieval and a bundle's ranker, off by default: a quick ranker leaves it fewer candidates.

    It cuts everything that is to be ranked, retrieved or brought by the request, and in a replay what was logged.
    """

    ranker: Literal["popularity", "logistic"] | None = Field(None, description="fitted in the same training; none: off")
    keeps: int = Field(200, ge=1, description="candidates of a request that it keeps")


class RetrievalSettings(Settings):
    """The first stage: how each retriever learns, how vectors are indexed, what a retriever must show to be chosen.

    Popularity is always one of them, and is served unless another is significantly better.
    """

    kinds: tuple[Literal["item_cf", "ease", "ials", "skip_gram", "content", "two_tower"], ...] = Field(
        ("item_cf", "ease", "content", "two_tower"),
        description="fitted beside popularity; ials and skip_gram are slow, and nowhere better than two_tower yet",
    )
    seed: int = Field(7, description="seed of every random draw")
    k: int = Field(100, ge=1, description="candidates that a retriever offers for ranking, and is judged by: recall@k")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of every interval; challengers share the remaining risk")
    half_life_days: float = Field(7.0, gt=0, description="popularity: an interaction this old counts half")
    item_cf: ItemCFSettings = ItemCFSettings()
    ease: EaseSettings = EaseSettings()
    ials: IalsSettings = IalsSettings()
    content: ContentSettings = ContentSettings()
    skip_gram: SkipGramSettings = SkipGramSettings()
    two_tower: TwoTowerSettings = TwoTowerSettings()
    index: IndexSettings = IndexSettings()
    light: LightSettings = LightSettings()
