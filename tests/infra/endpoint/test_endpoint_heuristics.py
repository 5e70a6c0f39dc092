"""A surface's heuristics hold on whatever is answered, by whomever; every propensity is the one evidence computes."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from infra.endpoint.decide import Decider
from infra.endpoint.popularity import by_popularity, heard, told
from infra.endpoint.request import RankRequest
from infra.endpoint.variant import Variant, known_at
from jobs.bundle import Bundle
from models.policies.choice import placed_choice
from models.settings import HeuristicSettings, PolicySettings, TaskSettings
from tests.infra.endpoint.rig import IDS, Memory

RULES = HeuristicSettings.model_validate(
    {
        "boosts": [{"of": "item.tier", "word": "plus", "times": 3}],
        "blocks": [{"words": ["category-2"]}],
        "caps": [{"most": 2}],
        "repeats": [{"of": "item.tier", "times": 0.5}],
    }
)
CATEGORY = {item: f"category-{n % 4}" for n, item in enumerate(IDS)}
TIER = {item: ("basic", "plus")[n % 2] for n, item in enumerate(IDS)}


@pytest.fixture
def served(boosted: Bundle) -> Iterator[tuple[Decider, Variant]]:
    policy = PolicySettings.model_validate({"surfaces": {"home": {"heuristics": RULES}}})
    decider = Decider(Memory(), 5000, TaskSettings())
    yield decider, decider.ready(replace(boosted, policy=policy))
    decider.close()


@pytest.mark.parametrize("fields", [{"candidates": [*IDS[:15], "unheard-of"]}, {"user_id": "u1"}])
def test_they_hold_by_ranker_and_by_popularity_here_and_in_another_process(
    served: tuple[Decider, Variant], fields: dict[str, Any]
) -> None:
    """The platform's own popularity, which has no catalogue, blocks and caps as well."""
    decider, variant = served
    elsewhere = known_at(heard(variant.bundle, told(variant.offers)), datetime.now(UTC))
    for number in range(20):
        asked = RankRequest.model_validate({"request_id": f"r{number}", "surface": "home", "k": 10, **fields})
        offer = variant.offer(asked.at())
        made = decider.by_ranker(variant.bundle, offer, asked)
        popular = by_popularity(variant.bundle, offer, asked)
        assert popular.items == by_popularity(variant.bundle, elsewhere, asked).items
        for slate in (made, popular):
            shown = [item.item_id for item in slate.items]
            stand = Counter(CATEGORY[item] for item in shown if item in CATEGORY)
            assert stand
            assert "category-2" not in stand
            assert max(stand.values()) <= 2
            every = slate.candidates or list(fields["candidates"])
            if slate is popular and asked.candidates is None:
                every = offer.popular_ids
            assert [item.propensity for item in slate.items] == pytest.approx(
                judged(variant.bundle, decider, slate is made, every, asked, shown)
            )


def judged(
    bundle: Bundle, decider: Decider, ranked: bool, every: list[str], asked: RankRequest, shown: list[str]
) -> list[float]:
    """The propensities as a replay computes them, from the candidates' own words and scores."""
    whole = asked.model_copy(update={"k": len(every), "candidates": every, "surface": "search"})
    offer = decider.ready(bundle).offer(asked.at())
    made = decider.by_ranker(bundle, offer, whole) if ranked else by_popularity(bundle, offer, whole)
    score = {item.item_id: item.score for item in made.items}
    if ranked:  # what is said of an item depends on its request's surface
        columns = offer.catalogue.columns(every, decider.user(offer, asked.user_id), asked)
        score = dict(zip(every, bundle.ranker.predict(columns).p_click.tolist(), strict=True))
    place = np.array([shown.index(item) + 1 if item in shown else 0 for item in every])
    words = {
        "item_category": np.array([CATEGORY.get(item) for item in every], object),
        "attributes.item.tier": np.array([TIER.get(item) for item in every], object),
    }
    scores, offsets = np.array([score[item] for item in every]), np.array([0, len(every)])
    chance = placed_choice(scores, offsets, place, bundle.policy.on("home"), words=words)
    return [float(chance[every.index(item)]) for item in shown]


def test_another_surface_and_a_bundle_without_are_as_ever(served: tuple[Decider, Variant], boosted: Bundle) -> None:
    """Not a byte: same draw, same propensities; and its processes tell each other no word more."""
    decider, variant = served
    plain = decider.ready(replace(boosted, policy=PolicySettings()))
    asked = RankRequest(request_id="r", surface="search", k=10, candidates=IDS[:15])
    offers = [one.offer(asked.at()) for one in (variant, plain)]
    made = [decider.by_ranker(one.bundle, of, asked) for one, of in zip((variant, plain), offers, strict=True)]
    assert made[0] == made[1]
    assert {item.item_id for item in made[0].items} & {item for item, word in CATEGORY.items() if word == "category-2"}
    assert all(not offer.words for offer in plain.offers)
