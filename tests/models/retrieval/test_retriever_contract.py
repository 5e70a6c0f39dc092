"""One contract that every retriever passes, on groups of users with items of their own."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from models.retrieval import RETRIEVERS, Retriever
from models.retrieval.interactions import Interactions
from models.retrieval.protocol import VectorRetriever, candidates
from models.settings import RetrievalSettings
from tests.models.retrieval.worlds import GROUPS, ITEMS_PER_GROUP, grouped

SETTINGS = RetrievalSettings(
    ease={"l2": 5},
    item_cf={"shrinkage": 1},
    ials={"dimensions": 8, "unobserved": 0.1, "l2": 0.01},
    content={"dimensions": 8},
    two_tower={"batch": 64, "epochs": 10},
    skip_gram={"batch": 64, "epochs": 5},
)
ITEMS = GROUPS * ITEMS_PER_GROUP


@pytest.fixture(scope="module")
def data() -> Interactions:
    return grouped()


@pytest.fixture(scope="module", params=list(RETRIEVERS))
def kind(request: pytest.FixtureRequest) -> type[Retriever]:
    return RETRIEVERS[request.param]


@pytest.fixture(scope="module")
def retriever(kind: type[Retriever], data: Interactions) -> Retriever:
    return kind.fit(data, SETTINGS)


def of(*histories: tuple[int, ...]) -> csr_array:
    rows = [row for row, items in enumerate(histories) for _ in items]
    columns = [item for items in histories for item in items]
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(histories), ITEMS))


def test_a_history_brings_items_of_its_own_group(retriever: Retriever) -> None:
    """A retriever that mixes groups sends everyone the same; popularity is the one that does, by definition."""
    histories = of(*((group, group + GROUPS) for group in range(GROUPS)))
    found = candidates(retriever, histories, 5)
    own = (found % GROUPS == np.arange(GROUPS)[:, None]).mean()
    if retriever.kind == "popularity":
        assert own < 0.5
    else:
        assert own > 0.9


def test_users_never_seen_get_an_answer(retriever: Retriever) -> None:
    """Without a history the most popular items come, in their order; an item is never offered to who has it."""
    found = candidates(retriever, of((), (0, 5)), 10)
    assert found[0].tolist() == np.argsort(-retriever.popular, kind="stable")[:10].tolist()
    assert not {0, 5} & set(found[1].tolist())


def test_removed_items_never_come_back_whatever_is_asked(retriever: Retriever) -> None:
    """A deleted item that is offered is an incident; where too few are left, -1 says so."""
    rng = np.random.default_rng(3)
    for share in (0.1, 0.5, 0.95, 1.0):
        removed = rng.random(ITEMS) < share
        for k in (1, 7, ITEMS, ITEMS + 9):
            found = candidates(retriever, of((), (1, 2), tuple(range(20))), k, removed)
            assert found.shape == (3, k)
            assert not removed[found[found >= 0]].any()
            assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in found)
            assert (found[0] >= 0).sum() == min(k, (~removed).sum())


def test_a_history_scores_the_same_alone_as_in_a_batch(retriever: Retriever, data: Interactions) -> None:
    """The endpoint asks for one user, the evaluation for thousands."""
    histories = data.matrix()
    batch = retriever.scores(histories)
    assert batch.shape == (data.users, ITEMS)
    assert np.isfinite(batch).all()
    for row in (0, 17, 99):
        np.testing.assert_allclose(retriever.scores(histories[[row]])[0], batch[row], rtol=1e-9, atol=1e-12)


def test_the_vector_of_one_history_is_that_of_its_row(retriever: Retriever) -> None:
    """The same formula without a matrix; of an empty history too."""
    if isinstance(retriever, VectorRetriever):
        histories = ((), (3,), (0, 5, 7))
        whole = retriever.user_vectors(of(*histories))
        for history, row in zip(histories, whole, strict=True):
            found = retriever.user_vector(np.array(history, dtype=np.int64))
            np.testing.assert_allclose(found, row, rtol=1e-9, atol=1e-12)


def test_saving_and_loading_changes_nothing(kind: type[Retriever], retriever: Retriever, data: Interactions) -> None:
    """A bundle holds the very retriever that was judged."""
    files = retriever.to_files()
    loaded = kind.from_files(files)
    assert loaded.to_files() == files
    assert np.array_equal(loaded.scores(data.matrix()), retriever.scores(data.matrix()))
    assert np.array_equal(loaded.popular, retriever.popular)


def test_same_interactions_in_any_order_give_the_same_bytes(
    kind: type[Retriever], retriever: Retriever, data: Interactions
) -> None:
    """A bundle's sha256 is its identity; the order of rows is an accident (sums of popularity aside)."""
    even = Interactions(data.user, data.item, np.zeros(len(data.time)), data.weight, data.users, data.items, data.text)
    shuffled = even.at(np.random.default_rng(1).permutation(len(data.user)))
    assert kind.fit(shuffled, SETTINGS).to_files() == kind.fit(even, SETTINGS).to_files()
    assert kind.fit(data, SETTINGS).to_files() == retriever.to_files()


def test_a_second_fit_is_independent_of_the_first(kind: type[Retriever], retriever: Retriever) -> None:
    """State shared between fits would let one day's model leak into another's."""
    before = retriever.to_files()
    kind.fit(grouped(seed=5), SETTINGS)
    assert retriever.to_files() == before


def test_nothing_to_learn_from_is_an_error(kind: type[Retriever], data: Interactions) -> None:
    """A day without interactions must not become a retriever that offers item 0."""
    with pytest.raises(ValueError, match="needs interactions with a weight"):
        kind.fit(data.at(np.zeros(0, dtype=np.int64)), SETTINGS)


def test_histories_of_other_items_are_refused(retriever: Retriever) -> None:
    """A catalogue that grew needs a retriever that knows it: codes would mean other items."""
    with pytest.raises(ValueError, match="a column for each of 48 items; found 49"):
        retriever.scores(csr_array((2, ITEMS + 1)))
    with pytest.raises(ValueError, match="k >= 1"):
        candidates(retriever, of(()), 0)
