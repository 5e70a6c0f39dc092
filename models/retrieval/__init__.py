"""Which items are worth ranking at all. Importing this does not load faiss."""

from models.retrieval.index import ItemIndex

__all__ = ["ItemIndex"]
