"""Candidates in halves are scored as whole rows are: whoever asks, for whatever items, on whatever surface."""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.endpoint.catalogue import Catalogue
from infra.endpoint.decide import Decider
from infra.endpoint.lane import at_once
from infra.endpoint.ranking import halves, ranked
from infra.endpoint.request import RankRequest, ScoreRequest
from infra.endpoint.variant import Offer, Scored
from jobs import bundle
from jobs.bundle import Bundle, Light
from jobs.features.online import Published
from models.features import ENCODINGS, INTEREST_BUCKETS, LAST_ITEMS, SESSION_EVENTS, declared, read
from models.rankers import exported, fit
from models.rankers.features import CATEGORICAL, NO_BUCKET, SEPARATOR, Encodings, is_of_item
from models.rankers.served import CLOSE, furthest
from models.settings import PolicySettings, TaskSettings
from tests.models.rankers.test_ranker_contract import SETTINGS, checkerboard

DAY = date(2026, 1, 8)
ITEMS = [f"i{n}" for n in range(40)]
"""The last of them are not in the catalogue."""
KNOWN = 30
RNG = np.random.default_rng(5)
RATES = {
    name: {
        SEPARATOR.join(["home", "tea"][-len(of) :]): np.array([0.3]),
        SEPARATOR.join(["tea"] * len(of)): np.array([0.2]),
    }
    for name, of in ENCODINGS.items()
}


def items() -> dict[str, Any]:
    """A catalogue in which much is unknown, with an attribute and given vectors."""
    columns: dict[str, Any] = {"item_id": np.array(ITEMS[:KNOWN], dtype=object)}
    for feature in read("item"):
        numbers = RNG.random(KNOWN)
        columns[feature.name] = np.where(numbers < 0.2, np.nan, numbers) if feature.kind == "number" else None
    columns["category"] = np.array(["tea", "mug", None] * (KNOWN // 3), dtype=object)
    columns["interest_bucket"] = np.array([3, 7, NO_BUCKET] * (KNOWN // 3))
    columns["interest_bucket"][:6] = 4  # a category that moved to another bucket
    columns["vector"] = np.where(RNG.random((KNOWN, 1)) < 0.5, np.nan, RNG.random((KNOWN, 3))).astype(np.float32)
    columns["attributes.item.colour"] = np.array([None, "a", "b"] * (KNOWN // 3), dtype=object)
    return columns


CATALOGUE = items()


def user(rng: np.random.Generator) -> dict[str, Any]:
    """One who is known, with some of the items and some of what nobody has among the last."""
    found: dict[str, Any] = {f.name: float(rng.random()) for f in declared("user") if f.kind == "number"}
    found["interests"] = rng.random(INTEREST_BUCKETS)
    found["last_items"] = [*rng.choice(ITEMS, 4, replace=False).tolist(), "gone"][:LAST_ITEMS]
    found["last_buckets"] = rng.integers(-1, 8, LAST_ITEMS).tolist()
    found["session_buckets"] = rng.integers(-1, 8, SESSION_EVENTS).tolist()
    return found | {"attributes": {"plan": "a"}}


class Day:
    """One day's items; every user is known but "nobody"."""

    def refresh(self) -> bool:
        return False

    def user(self, user_id: str, day: date) -> Mapping[str, Any] | None:
        return None if user_id == "nobody" else user(np.random.default_rng(int(user_id)))

    def published(self) -> list[Published]:
        return [Published(DAY, CATALOGUE, Encodings(RATES, np.array([0])), datetime(2026, 1, 8, tzinfo=UTC))]


@pytest.fixture(scope="module")
def networked(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A network that has learned to look at everything that the day has."""
    data = checkerboard()
    rng, n = np.random.default_rng(2), len(data.clicked)
    features: dict[str, Any] = {**data.features, "item_id": rng.choice(np.array(ITEMS, dtype=object), n)}
    for name in (*CATEGORICAL, "item_category"):
        features[name] = np.where(rng.random(n) < 0.5, "tea", features[name])
    for name in ("attributes.item.colour", "attributes.user.plan"):
        features[name] = rng.choice(np.array([None, "a", "b"], dtype=object), n)
    features["item_vector"] = rng.random((n, 3)).astype(np.float32)
    data = replace(data, features=features)
    some = {name: column[:200] for name, column in data.features.items()}
    ranker, fallback = exported(fit("mmoe", data, SETTINGS), some), fit("popularity", data, SETTINGS)
    folder = tmp_path_factory.mktemp("networked")
    return bundle.write(folder, "mmoe-full-2026-01-08", ranker, fallback, None, PolicySettings(), {"seed": 0})


@pytest.fixture(scope="module")
def deciders(networked: Bundle) -> Iterator[tuple[Offer, Offer]]:
    """What the day offers in halves, and in whole rows as `precomputed_mib` asks for."""
    both = [Decider(Day(), 5000, TaskSettings(), precomputed_mib=mib) for mib in (1, 0)]
    yield tuple(decider.ready(networked).offers[0] for decider in both)  # type: ignore[misc]
    for decider in both:
        decider.close()


def said(judged: Bundle, offer: Offer, asked: RankRequest) -> Scored:
    """Of the candidates in the request's order."""
    assert asked.candidates is not None
    of = None if asked.user_id in (None, "nobody") else user(np.random.default_rng(int(str(asked.user_id))))
    rows = offer.catalogue.rows(asked.candidates)
    return at_once(ranked(judged, offer, asked.candidates, of, asked, rows, lambda _: nullcontext()))


REQUESTS = st.builds(
    ScoreRequest,
    request_id=st.just("r1"),
    surface=st.sampled_from(["home", "similar", "never seen"]),
    user_id=st.none() | st.just("nobody") | st.integers(0, 50).map(str),
    candidates=st.lists(st.sampled_from(ITEMS), min_size=1, max_size=40, unique=True),
    context=st.fixed_dictionaries({}, optional={"source_item_id": st.sampled_from(ITEMS), "query": st.just("tea")}),
)


@given(REQUESTS)
@settings(max_examples=60, deadline=None)
def test_candidates_in_halves_are_scored_as_whole_rows(
    networked: Bundle, deciders: tuple[Offer, Offer], asked: ScoreRequest
) -> None:
    in_halves, whole = deciders
    assert in_halves.halves is not None
    assert whole.halves is None
    one, other = (said(networked, offer, asked) for offer in deciders)
    assert one.item_ids.tolist() == other.item_ids.tolist() == asked.candidates
    assert furthest(one.predictions, other.predictions) < CLOSE
    assert np.ptp(other.predictions.p_click) > 0 or len(asked.candidates or ()) < 5


@given(REQUESTS)
@settings(max_examples=60, deadline=None)
def test_what_is_made_once_for_items_that_are_alike_is_what_each_has(
    deciders: tuple[Offer, Offer], asked: ScoreRequest
) -> None:
    """Features say which of the item's they see (`Feature.sees`); one that saw more would differ here."""
    catalogue = deciders[0].catalogue
    of = None if asked.user_id in (None, "nobody") else user(np.random.default_rng(int(str(asked.user_id))))
    rows = catalogue.rows(asked.candidates)
    at, kind = catalogue.kinds(rows, of)
    every = catalogue.columns(asked.candidates, of, asked, rows)
    some = catalogue.columns([asked.candidates[place] for place in at], of, asked, rows[at])
    assert {*some} - {"item_vector"} == {*every} - {"item_vector"}
    for name, column in every.items():
        if not is_of_item(name):
            np.testing.assert_array_equal(some[name][kind], column, err_msg=name)
        elif name in catalogue.known and name not in ("item_id", "item_vector"):
            np.testing.assert_array_equal(catalogue.known[name][rows], column, err_msg=name)


def test_alike_are_many(deciders: tuple[Offer, Offer]) -> None:
    """It would be true and of no use if every item were of a kind of its own."""
    catalogue = deciders[0].catalogue
    at, _ = catalogue.kinds(np.arange(KNOWN), None)
    assert len(at) == len({*zip(CATALOGUE["category"], CATALOGUE["interest_bucket"].tolist(), strict=True)})


def test_memory_and_a_light_stage_say_whether_there_are_halves(networked: Bundle) -> None:
    catalogue = Catalogue(CATALOGUE, Encodings.unknown(), TaskSettings())
    million = SimpleNamespace(ids=range(10**6), known=catalogue.known)
    assert halves(networked, catalogue, 1) is not None
    assert halves(networked, million, 64) is None  # type: ignore[arg-type]
    light = Light(networked.fallback, 5)
    assert halves(Bundle(**{**vars(networked), "light": light}), catalogue, 1) is None


def test_a_bundle_without_the_graph_of_halves_ranks_whole_rows(networked: Bundle, tmp_path: Path) -> None:
    """As those did that were written before there was one."""
    from models.rankers import load
    from models.rankers.served import HALVES_FILE

    files = {name: content for name, content in networked.ranker.to_files().items() if name != HALVES_FILE}
    older = Bundle(**{**vars(networked), "ranker": load("mmoe", files)})
    assert halves(older, Catalogue(CATALOGUE, Encodings.unknown(), TaskSettings()), 1) is None
