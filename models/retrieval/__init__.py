"""Which items are worth ranking at all. Importing this loads none of faiss, scipy and torch.

What a bundle holds today is `ItemIndex`; the retrievers of `RETRIEVERS`, their evaluation and `VectorIndex` are not
wired into training or serving yet.
"""

from models.retrieval.content import ContentRetriever
from models.retrieval.ease import Ease
from models.retrieval.ials import Ials
from models.retrieval.index import ItemIndex
from models.retrieval.item_cf import ItemCF
from models.retrieval.popularity import PopularityRetriever
from models.retrieval.protocol import Retriever
from models.retrieval.skip_gram import SkipGram
from models.retrieval.two_tower import TwoTower

RETRIEVERS: dict[str, type[Retriever]] = {
    retriever.kind: retriever
    for retriever in (PopularityRetriever, ItemCF, Ease, Ials, SkipGram, ContentRetriever, TwoTower)
}
"""Simplest first: the first of two that are as good is chosen."""

__all__ = ["RETRIEVERS", "ItemIndex", "Retriever"]
