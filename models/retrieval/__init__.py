"""Which items are worth ranking at all. Importing this loads none of faiss, scipy and torch.

Training fits `RETRIEVERS`, chooses one by its evidence (`evaluation`) and bundles it as a `FirstStage`.
"""

from models.retrieval.first_stage import RETRIEVERS, FirstStage, Found
from models.retrieval.protocol import Retriever

__all__ = ["RETRIEVERS", "FirstStage", "Found", "Retriever"]
