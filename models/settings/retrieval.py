"""The first stage: retrievers, their index, and the light stage behind it."""

from typing import Literal

from pydantic import Field

from models.settings.base import Settings


class ItemCFSettings(Settings):
    """Which items count as neighbours."""

    neighbours: int = Field(100, ge=1, description="kept per item")
    shrinkage: float = Field(10.0, ge=0, description="added to a cosine's denominator: few users tell little")


class EaseSettings(Settings):
    """How far the weights may go, and up to how many items."""

    l2: float = Field(1_000.0, gt=0, description="of all weights")
    max_items: int = Field(5_000, ge=2, description="items with interactions; their square is kept and inverted")


class IalsSettings(Settings):
    """The recipe of Rendle et al. (2021)."""

    dimensions: int = Field(32, ge=1, description="of a vector")
    iterations: int = Field(12, ge=1, description="passes over users and items")
    unobserved: float = Field(0.03, gt=0, description="weight of a pair that was not seen together; tune with l2")
    l2: float = Field(0.03, gt=0, description="of all vectors; tune with unobserved")
    l2_exponent: float = Field(1.0, ge=0, le=1, description="0: the same for all; 1: in proportion to frequency")
    start: float = Field(0.1, gt=0, description="standard deviation of the first vectors' lengths")


class ContentSettings(Settings):
    """How words become vectors."""

    dimensions: int = Field(32, ge=1, description="of a vector")
    buckets: int = Field(4_096, ge=16, description="words are hashed into so many columns")


class SkipGramSettings(Settings):
    """How items learn from their neighbours in a session."""

    dimensions: int = Field(32, ge=1, description="of a vector")
    window: int = Field(5, ge=1, description="neighbours on either side in a session")
    pause_days: float = Field(7.0, gt=0, description="a longer pause of the user ends a session")
    epochs: int = Field(2, ge=1, description="passes over the sessions")
    batch: int = Field(1_024, ge=2, description="pairs a step")
    rate: float = Field(0.05, gt=0, description="of learning")


class TwoTowerSettings(Settings):
    """How histories learn to meet what came next."""

    dimensions: int = Field(32, ge=1, description="of a vector")
    hidden: int = Field(64, ge=1, description="width of either tower's hidden layer")
    history: int = Field(50, ge=1, description="items before an interaction that training looks at")
    epochs: int = Field(2, ge=1, description="passes over the interactions")
    batch: int = Field(512, ge=2, description="interactions a step, each other's negatives")
    rate: float = Field(0.05, gt=0, description="of learning")
    dropout: float = Field(0.1, ge=0, lt=1, description="items' own parts left out: words must do alone")


class IndexSettings(Settings):
    """How vectors are indexed, and what an index must find."""

    kind: Literal["auto", "exact", "ivf", "pq", "hnsw"] = Field(
        "auto", description="auto: exact up to exact_max_items vectors, ivf above"
    )
    exact_max_items: int = Field(
        100_000, ge=1, description="a scan of so many takes twice as long as lists, of a million ten times"
    )
    ivf_probed: int = Field(
        128,
        ge=1,
        description="lists a search looks into, of about 2 sqrt(vectors); of a million finds 0.96 of the 1,000 nearest",
    )
    pq_refine: int = Field(8, ge=1, description="so many times k codes are looked at again in half precision")
    hnsw_links: int = Field(32, ge=4, description="of each vector in the graph")
    hnsw_breadth: int = Field(200, ge=1, description="of the search when the graph is built, and at least k when asked")
    canary_queries: int = Field(64, ge=1, description="searches whose exact answers travel with the index")
    canary_min_recall: float = Field(0.9, gt=0, le=1, description="of the exact answers, when built and when loaded")


class LightSettings(Settings):
    """The stage between retrieval and a bundle's ranker, off by default: a quick ranker leaves it fewer candidates.

    It cuts whatever is to be ranked, retrieved or brought by the request, and so in a replay what was logged.
    """

    ranker: Literal["popularity", "logistic"] | None = Field(None, description="fitted in the same training; None: off")
    keeps: int = Field(200, ge=1, description="candidates of a request that it leaves; fewer are all left")


class RetrievalSettings(Settings):
    """The first stage: how each retriever learns, how vectors are indexed, what a retriever must show to be chosen.

    Popularity always is one of them, and is served unless another is better for sure.
    """

    kinds: tuple[Literal["item_cf", "ease", "ials", "skip_gram", "content", "two_tower"], ...] = Field(
        ("item_cf", "ease", "content", "two_tower"),
        description="fitted beside popularity; ials and skip_gram are slow, and nowhere better than two_tower yet",
    )
    seed: int = Field(7, description="of every draw")
    k: int = Field(100, ge=1, description="candidates a retriever is judged by, recall@k, and offers for ranking")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of every interval; challengers share what it leaves")
    half_life_days: float = Field(7.0, gt=0, description="popularity: an interaction this old counts half")
    item_cf: ItemCFSettings = ItemCFSettings()
    ease: EaseSettings = EaseSettings()
    ials: IalsSettings = IalsSettings()
    content: ContentSettings = ContentSettings()
    skip_gram: SkipGramSettings = SkipGramSettings()
    two_tower: TwoTowerSettings = TwoTowerSettings()
    index: IndexSettings = IndexSettings()
    light: LightSettings = LightSettings()
