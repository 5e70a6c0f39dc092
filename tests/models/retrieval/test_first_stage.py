"""What a bundle's first stage answers: by whom, never what is barred, the same after a trip to disk."""

import numpy as np
import pytest

from models.retrieval import RETRIEVERS, FirstStage
from models.retrieval.first_stage import POPULARITY
from models.retrieval.interactions import Interactions
from models.retrieval.protocol import candidates
from models.settings import RetrievalSettings
from tests.models.retrieval.worlds import GROUPS, grouped

SETTINGS = RetrievalSettings(
    k=8, ease={"l2": 5}, item_cf={"shrinkage": 1}, ials={"dimensions": 8, "unobserved": 0.1, "l2": 0.01},
    content={"dimensions": 8},
)  # fmt: skip
UNSEEN = 44
"""The first item of the last four, one of each group, that nobody ever took up."""


@pytest.fixture(scope="module")
def data() -> Interactions:
    found = grouped()
    return found.at(found.item < UNSEEN)


def names(codes: object) -> list[str]:
    return [f"i{code:02d}" for code in np.asarray(codes).tolist()]


def stage(data: Interactions, *kinds: str, removed: object = None) -> FirstStage:
    retrievers = [RETRIEVERS[kind].fit(data, SETTINGS) for kind in kinds]
    gone = np.isin(np.arange(data.items), removed or [])
    return FirstStage.build(names(np.arange(data.items)), retrievers, data.matrix(), SETTINGS, gone)


@pytest.mark.parametrize("kind", ["item_cf", "ease", "ials", "content"])
def test_what_is_served_is_what_was_judged(data: Interactions, kind: str) -> None:
    """The evaluation ranks by `candidates`; the endpoint asks this one, through an index where there are vectors."""
    retriever, made = RETRIEVERS[kind].fit(data, SETTINGS), stage(data, kind)
    rows = data.matrix()
    same = []
    for user in range(0, data.users, 9):
        history = rows[[user]]
        judged = candidates(retriever, history, SETTINGS.k)[0]
        found = made.search(names(history.indices))
        assert found.by == kind
        same.append(np.isin(names(judged), found.items).mean())
    assert np.mean(same) > (0.999 if kind in ("item_cf", "ease") else 0.9), "half precision breaks a tie otherwise"


@pytest.mark.parametrize("kind", ["item_cf", "ials"])
def test_a_history_the_retriever_knows_nothing_of_is_answered_by_content_and_none_by_popularity(
    data: Interactions, kind: str
) -> None:
    """A user never seen in training, whose only click is on an item younger than the training, still gets a page."""
    made = stage(data, kind, "content")
    of_new = made.search(names([UNSEEN]))
    assert of_new.by == "content"
    assert {int(item[1:]) % GROUPS for item in of_new.items} == {UNSEEN % GROUPS}
    by_popularity = names(np.argsort(-RETRIEVERS[kind].fit(data, SETTINGS).popular, kind="stable"))
    for history in ([], ["of another catalogue"]):
        found = made.search(history)
        assert (found.by, found.items) == (POPULARITY, by_popularity[: SETTINGS.k])
    assert stage(data, kind).search(names([UNSEEN])).by == POPULARITY, "no content in this one"


@pytest.mark.parametrize("kinds", [("popularity",), ("item_cf", "content"), ("ials", "content")])
def test_what_is_barred_never_comes_back(data: Interactions, kinds: tuple[str, ...]) -> None:
    """By retriever, content and popularity alike, whatever share of the catalogue is gone, and none of the history."""
    made = stage(data, *kinds)
    rng = np.random.default_rng(0)
    for share in (0.1, 0.6, 0.97, 1.0):
        removed = names(np.flatnonzero(rng.random(data.items) < share))
        left = sorted(set(made.items) - set(removed))
        for barred in (made.barred(removed), made.barred((), left)):
            for history in ([], names([0, 4]), names([UNSEEN])):
                found = made.search(history, barred).items
                assert not set(found) & {*removed, *history}
                assert len(set(found)) == len(found)
                assert bool(found) == bool(set(left) - set(history))


def test_items_removed_when_it_was_built_are_in_no_index(data: Interactions) -> None:
    made = stage(data, "ials", removed=[0, 1, 2, 3])
    found = [made.search(names([item])).items for item in range(4, 12)]
    assert not set(names(range(4))) & {item for items in found for item in items}


def test_it_comes_back_from_disk_as_it_was(data: Interactions) -> None:
    """And the same interactions give the same bytes: a bundle's sha256 rests on them."""
    made = stage(data, "ials", "content")
    files = made.to_files()
    found = FirstStage.from_files(files)
    assert found.to_files() == files == stage(data, "ials", "content").to_files()
    assert found.kind == "ials"
    assert set(found.canary_recalls) == {"ials", "content"}
    for history in ([], names([0, 4]), names([UNSEEN])):
        assert found.search(history) == made.search(history)


def test_an_index_of_other_embeddings_is_refused(data: Interactions) -> None:
    """Queries of one training against vectors of another would bring items without any meaning."""
    other = stage(grouped(seed=3), "ials").to_files()
    mixed = {name: other[name] if "vectors" in name or "canary" in name else content
             for name, content in stage(data, "ials").to_files().items()}  # fmt: skip
    with pytest.raises(ValueError, match="queries of the embeddings it was built from"):
        FirstStage.from_files(mixed)
