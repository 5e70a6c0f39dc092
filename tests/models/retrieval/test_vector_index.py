"""The index of every kind on vectors in clusters: near enough to exact, and never a removed item."""

import json
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.retrieval.ials import Ials
from models.retrieval.vector_index import CODES_FILE, FACTS_FILE, VectorIndex, embeddings_version
from models.settings import RetrievalSettings
from tests.models.retrieval.worlds import grouped

KINDS = ("exact", "ivf", "pq", "hnsw")
ITEMS, D = 1_500, 15


def vectors(seed: int = 0, n: int = ITEMS) -> np.ndarray:
    """(n, 15): sixty clusters of vectors of very different lengths; every fifth item has none."""
    rng = np.random.default_rng(seed)
    found = rng.standard_normal((60, D))[rng.integers(0, 60, n)] + 0.3 * rng.standard_normal((n, D))
    found *= rng.lognormal(0, 0.3, (n, 1)) * 1e-4
    found[::5] = 0
    return found


QUERIES = vectors(seed=0, n=400)[1::5] * 1e6


def of(kind: str, **change: float) -> RetrievalSettings:
    return RetrievalSettings(k=20, index={"kind": kind, **change})  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=KINDS)
def index(request: pytest.FixtureRequest) -> VectorIndex:
    return VectorIndex.build(vectors(), QUERIES, of(request.param))


def exact(queries: np.ndarray, k: int, barred: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    scores = queries @ vectors().T
    scores[:, ::5] = -np.inf
    if barred is not None:
        scores[:, barred] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return best, np.take_along_axis(scores, best, axis=1)


def test_answers_are_nearly_the_exact_ones(index: VectorIndex) -> None:
    """Recall at 20, and inner products in the units they were asked in."""
    codes, scores = index.search(QUERIES, 20)
    best, products = exact(QUERIES, 20)
    recall = np.mean([len(set(a) & set(b)) / 20 for a, b in zip(codes.tolist(), best.tolist(), strict=True)])
    assert recall >= (0.99 if index.kind == "exact" else 0.93)
    np.testing.assert_allclose(scores[:, 0], products[:, 0], rtol=5e-3)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert not (codes % 5 == 0).any()


@settings(max_examples=25, deadline=None)
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_removed_items_never_come_back_whatever_is_asked(data: st.DataObject, kind: str) -> None:
    """Removed when it was built or since, few or all, for any k: none, no item twice, and -1 only at the end.

    Nor one of the user's own, which need not be marked among a million to be told.
    """
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32), label="seed"))
    index = built(kind)
    removed = rng.random(ITEMS) < data.draw(st.sampled_from([0.0, 0.01, 0.5, 0.99, 1.0]), label="share")
    k = data.draw(st.sampled_from([1, 20, 700, ITEMS, ITEMS + 50]), label="k")
    queries = rng.standard_normal((3, D)) * data.draw(st.sampled_from([0.0, 1e-6, 1.0, 1e6]), label="length")
    own = rng.choice(ITEMS, data.draw(st.sampled_from([0, 3]), label="own"), replace=False)
    removed.setflags(write=data.draw(st.booleans(), label="may change"))
    for _ in range(2):  # how many are removed is counted once where that cannot change
        codes, scores = index.search(queries, k, removed, own)
    removed = removed | np.isin(np.arange(ITEMS), own)
    held = index.search(QUERIES[:1], ITEMS)[0]
    left = np.count_nonzero((held >= 0) & ~removed[held])
    assert kind != "exact" or ((codes >= 0).sum(axis=1) == min(k, left)).all()
    assert codes.shape == scores.shape == (3, k)
    for row, products in zip(codes, scores, strict=True):
        kept = row[row >= 0]
        assert not removed[kept].any()
        assert not REMOVED_BEFORE[kept].any()
        assert len(set(kept.tolist())) == len(kept)
        assert (row[len(kept) :] == -1).all()
        assert (products[len(kept) :] == -np.inf).all()


REMOVED_BEFORE = np.arange(ITEMS) % 7 == 2


@cache
def built(kind: str) -> VectorIndex:
    return VectorIndex.build(vectors(), QUERIES, of(kind), REMOVED_BEFORE)


def test_what_is_removed_makes_room_for_the_next(index: VectorIndex) -> None:
    """Nobody gets fewer answers because much was removed since the index was built."""
    barred = np.zeros(ITEMS, dtype=bool)
    barred[np.unique(exact(QUERIES, 20)[0])] = True
    codes, _ = index.search(QUERIES[:20], 10, barred)
    assert (codes >= 0).all()
    if index.kind == "exact":
        best, _ = exact(QUERIES[:20], 10, barred)
        assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(codes.tolist(), best.tolist(), strict=True)]) > 0.99


def test_saving_and_loading_changes_nothing(index: VectorIndex) -> None:
    """The settings of the search travel with the bytes."""
    loaded = VectorIndex.from_files(index.to_files())
    assert loaded.to_files() == index.to_files()
    for found, expected in zip(loaded.search(QUERIES, 30), index.search(QUERIES, 30), strict=True):
        assert np.array_equal(found, expected)
    assert loaded.canary_recall == index.canary_recall


def test_same_vectors_same_bytes(index: VectorIndex) -> None:
    """A bundle's sha256 is its identity."""
    assert VectorIndex.build(vectors(), QUERIES, of(index.kind)).to_files() == index.to_files()


def test_the_canary_dies_of_a_wrong_index(index: VectorIndex) -> None:
    """Bytes of other vectors, or items in another order, are found out when the bundle is loaded."""
    other = VectorIndex.build(vectors(seed=9), QUERIES, of(index.kind))
    files = index.to_files() | {name: content for name, content in other.to_files().items() if "faiss" in name}
    with pytest.raises(ValueError, match=f"exact answers to its canary's 64 queries; {index.kind} found 0.0"):
        VectorIndex.from_files(files)
    shifted = built(index.kind).to_files()[CODES_FILE]
    with pytest.raises(ValueError, match=r"an item for each of its 1200 rows; found \d+"):
        VectorIndex.from_files(index.to_files() | {CODES_FILE: shifted})


def test_the_canary_dies_of_too_coarse_an_approximation() -> None:
    """One list of dozens probed, and no candidates looked at again: refused when built, with the figure."""
    with pytest.raises(ValueError, match=r"needs to find 0.9 of the exact .* ivf found 0\.\d+"):
        VectorIndex.build(vectors(), QUERIES, of("ivf", ivf_probed=1))
    coarse = VectorIndex.build(vectors(), QUERIES, of("ivf", ivf_probed=1, canary_min_recall=0.01))
    files = coarse.to_files()
    facts = json.loads(files[FACTS_FILE]) | {"min_recall": 0.9}
    with pytest.raises(ValueError, match="ivf found"):
        VectorIndex.from_files(files | {FACTS_FILE: json.dumps(facts).encode()})


def test_a_catalogue_of_twins_has_many_right_answers() -> None:
    """Items with the same words have the same vector: any of them is right, and the canary must not die of it."""
    twins = np.repeat(np.eye(4), 100, axis=0)
    found = VectorIndex.build(twins, np.eye(4), of("exact"))
    assert found.canary_recall == 1.0


def test_the_kind_goes_by_size_unless_asked_for() -> None:
    """Exact while a scan is affordable; and a kind that cannot be trained says so."""
    auto = RetrievalSettings(k=20)
    assert VectorIndex.build(vectors(), QUERIES, auto).kind == "exact"
    assert (
        VectorIndex.build(vectors(), QUERIES, RetrievalSettings(k=20, index={"exact_max_items": 1_000})).kind == "ivf"
    )
    with pytest.raises(ValueError, match="at least 1000 vectors; found 80: use auto"):
        VectorIndex.build(vectors()[:100], QUERIES, of("pq"))


def test_other_embeddings_are_refused_by_their_version(index: VectorIndex) -> None:
    """Queries of yesterday's model against today's vectors are numbers without a meaning."""
    index.need_version(embeddings_version(vectors()))
    with pytest.raises(ValueError, match="embeddings it was built from"):
        index.need_version(embeddings_version(vectors() * 1.01))


def test_bad_arguments_are_errors(index: VectorIndex) -> None:
    """faiss itself answers some of these with garbage or an abort."""
    with pytest.raises(ValueError, match="k >= 1"):
        index.search(QUERIES, 0)
    with pytest.raises(ValueError, match=r"finite numbers of shape \(n, 15\)"):
        index.search(QUERIES[:, :3], 5)
    with pytest.raises(ValueError, match="finite numbers"):
        index.search(np.full((1, D), np.nan), 5)
    with pytest.raises(ValueError, match=r"an entry for each item up to 1499; found 3"):
        index.search(QUERIES, 5, np.zeros(3, dtype=bool))
    with pytest.raises(ValueError, match="0 with a direction"):
        VectorIndex.build(np.zeros((5, 3)), np.ones((1, 3)), of("exact"))


def test_it_serves_what_the_retriever_would_rank() -> None:
    """From interactions to an answer: the exact index of iALS vectors has the order of iALS's own scores."""
    data = grouped()
    retriever = Ials.fit(data, RetrievalSettings(ials={"dimensions": 8}))
    history = data.matrix()
    queries = retriever.user_vectors(history)
    index = VectorIndex.build(retriever.item_vectors, queries, of("exact"))
    codes, _ = index.search(queries, 10)
    best = np.argsort(-retriever.scores(history), axis=1, kind="stable")[:, :10]
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(codes.tolist(), best.tolist(), strict=True)]) > 0.99
