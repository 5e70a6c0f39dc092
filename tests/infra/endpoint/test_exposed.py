"""What a request is exposed to is in its answer and in the capture; an arm may name the variant that answers."""

import json
from pathlib import Path

from infra.endpoint.exposed import Exposed
from infra.endpoint.mixing import mix
from infra.endpoint.request import RankRequest
from jobs.bundle import Bundle
from jobs.serving.answer import Answer, Placement
from models.experiments.settings import ExperimentSettings
from tests.infra.endpoint.rig import IDS, running, settings

EXPERIMENTS = [
    {"name": "models", "layer": "m", "arms": {"control": {"variant": "a"}, "new": {"variant": "b"}}},
    {"name": "colours", "layer": "c", "arms": {"control": {}, "blue": {}}, "surface": "search"},
]
DATED = [{**one, "start": "2026-01-01", "days": 300} for one in EXPERIMENTS]


def test_arms_choose_the_variant_and_are_said_and_captured(tmp_path: Path, popular: Bundle, boosted: Bundle) -> None:
    given = settings(tmp_path, EXPERIMENTS=json.dumps(DATED))
    with running(given) as client:
        client.model(popular, "a")
        client.model(boosted, "b")
        client.control.create_endpoint(EndpointName="tidegate", EndpointConfigName=client.config("both", a=1.0, b=1e-9))
        client.settled()
        found = [client.invoke(f"r{n}", user_id=f"u{n}", event_time="2026-02-01T10:00:00Z") for n in range(12)]
        late = client.invoke("late", user_id="u1", event_time="2027-02-01T10:00:00Z")
    for answer in found:
        [seen] = answer["exposures"]
        assert (seen["experiment"], seen["unit"]) == ("models", "user")
        assert answer["variant"] == {"control": "a", "new": "b"}[seen["arm"]]
    assert {answer["variant"] for answer in found} == {"a", "b"}
    assert late["exposures"] is None
    lines = [json.loads(text) for path in given.endpoint.state.glob("capture/*/*.jsonl") for text in path.open()]
    assert sum(line["response"]["exposures"] is not None for line in lines) == len(found)


def test_an_experiment_that_interleaves_mixes_the_variants_and_says_whose_each_place_is(
    tmp_path: Path, popular: Bundle, boosted: Bundle
) -> None:
    mixing = {**DATED[0], "interleave": "team_draft", "percent": [0, 50]}
    given = settings(tmp_path, EXPERIMENTS=json.dumps([mixing]))
    with running(given) as client:
        client.model(popular, "a")
        client.model(boosted, "b")
        both = client.config("both", a=1.0, b=1e-9)
        client.control.create_endpoint(EndpointName="tidegate", EndpointConfigName=both)
        client.settled()
        asked = {"event_time": "2026-02-01T10:00:00Z", "k": 4, "candidates": IDS[:8]}
        found = [client.invoke(f"r{n}", user_id=f"u{n}", **asked) for n in range(16)]
        again = client.invoke("r0", user_id="u0", **asked)
    pages = [answer for answer in found if answer["mix"]]
    assert 2 < len(pages) < 14
    assert (again["items"], again["mix"]) == (found[0]["items"], found[0]["mix"])
    for answer in pages:
        assert answer["mix"]["arms"] == ["control", "new"]
        assert sum(map(sum, answer["mix"]["worth"])) == len(answer["items"]) == 4
        assert [item["position"] for item in answer["items"]] == [1, 2, 3, 4]
        assert len({item["item_id"] for item in answer["items"]}) == 4
        assert {item["propensity"] for item in answer["items"]} == {None}


def answer(bundle: str, items: str, fallback: bool = False) -> Answer:
    places = [Placement(item, at, 0.0, 0.1, 0.0, 0.5) for at, item in enumerate(items, 1)]
    return Answer("r1", places, bundle, "sha", bundle, fallback, None)


def test_a_page_says_whose_lists_it_is_mixed_of_and_what_clicks_are_worth() -> None:
    """Three rankers draft teams; of a balanced page, which has no worths, it says where either had each item."""
    arms = {"control": {"variant": "a"}, "new": {"variant": "b"}, "third": {"variant": "c"}}
    three = ExperimentSettings.model_validate({**DATED[0], "arms": arms, "interleave": "team_draft"})
    said = mix(three, [answer("a", "wxyz"), answer("b", "zyxw"), answer("c", "pqrs")])
    assert said.mix is not None
    assert said.mix.bundles == ["a", "b", "c"]
    assert sorted(map(sum, zip(*said.mix.worth, strict=True))) == [1, 1, 2]
    assert said.mix.ranks is None
    two = ExperimentSettings.model_validate({**DATED[0], "interleave": "balanced"})
    said = mix(two, [answer("a", "wxyz"), answer("b", "xwpq")])
    assert said.mix is not None
    assert {place.item_id for place in said.items[:2]} == {"w", "x"}
    ranks = {"w": [0, 1], "x": [1, 0], "y": [2, None], "p": [None, 2]}
    assert said.mix.ranks == [ranks[place.item_id] for place in said.items]
    assert mix(two, [answer("a", "wx"), answer("b", "yz", fallback=True)]).mix is None


def test_a_block_of_time_meets_one_arm_and_its_variant() -> None:
    divided = {**DATED[0], "switchback": {"block_minutes": 30}, "start": "2026-02-01", "days": 3}
    exposed = Exposed([ExperimentSettings.model_validate(divided)])
    for hour in range(8):
        at = f"2026-02-01T0{hour}:10:00Z"
        asked = [RankRequest(request_id=f"r{n}", user_id=f"u{n}", surface="home", event_time=at) for n in range(5)]
        seen = [exposed.of(one) for one in asked]
        assert len({(of.arm, of.unit) for [of] in seen}) == 1
        assert seen[0][0].unit == "block"
        assert exposed.variant(seen[0], {"a", "b"}) == {"control": "a", "new": "b"}[seen[0][0].arm]


def test_nobodys_request_is_marked_and_an_unknown_variant_leaves_the_choice(tmp_path: Path) -> None:
    exposed = Exposed([ExperimentSettings.model_validate(one) for one in DATED])
    asked = RankRequest(request_id="r", surface="search", event_time="2026-02-01T10:00:00Z")
    seen = exposed.of(asked)
    assert [(of.experiment, of.unit) for of in seen] == [("models", "request"), ("colours", "request")]
    assert exposed.variant(seen, {"a", "b"}) in {"a", "b"}
    assert exposed.variant(seen, {"other"}) is None
