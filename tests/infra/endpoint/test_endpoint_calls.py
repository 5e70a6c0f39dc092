"""The calls beside invocations: what is found, scored and placed, each by the bundle's own numbers."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobs.bundle import Bundle
from jobs.config import Config
from jobs.errors import Misconfigured
from jobs.serving.answer import answer_of
from models.retrieval.vector_index import embeddings_version
from tests.infra.endpoint import rig
from tests.infra.endpoint.container_rig import Contained, contained
from tests.infra.endpoint.rig import IDS, Awkward, first_stage

REMOVED = IDS[7]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return rig.settings(tmp_path_factory.mktemp("calls"))


@pytest.fixture(scope="module")
def placing(boosted: Bundle, settings: Config) -> Iterator[Contained]:
    """A bundle with two spaces of vectors; one item is removed."""

    class Less(rig.Memory):
        def __init__(self) -> None:
            super().__init__()
            self.publication = replace(self.publication, removed=frozenset([REMOVED]))

    with contained(replace(boosted, retrieval=first_stage("ials", "content")), settings, Less()) as made:
        yield made


# -- rank ---------------------------------------------------------------------------------------------------------
def test_rank_scores_every_candidate_and_draws_nothing(placing: Contained, boosted: Bundle) -> None:
    """All of them by score, whatever the request id; the same probabilities as an invocation gives, no propensity."""
    fields: dict[str, Any] = {"user_id": "u1", "candidates": IDS[10:40]}
    ranked, again = (placing.answer("/rank", request_id=name, **fields) for name in ("r1", "r2"))
    drawn = placing.answer("/invocations", k=30, **fields)
    assert ranked["items"] == again["items"]
    assert [item["score"] for item in ranked["items"]] == sorted((i["score"] for i in ranked["items"]), reverse=True)
    assert {item["item_id"] for item in ranked["items"]} == {*IDS[10:40]}
    assert {item["propensity"] for item in ranked["items"]} == {None}
    said = {item["item_id"]: (item["p_click"], item["p_conversion"]) for item in drawn["items"]}
    assert {item["item_id"]: (item["p_click"], item["p_conversion"]) for item in ranked["items"]} == said
    assert answer_of(ranked).bundle_sha256 == boosted.sha256
    few = placing.answer("/rank", k=5, **fields)
    assert few["items"] == ranked["items"][:5]


def test_rank_explores_as_an_invocation_does_where_it_is_asked_to(placing: Contained) -> None:
    fields: dict[str, Any] = {"user_id": "u1", "candidates": IDS[10:40], "k": 7}
    assert placing.answer("/rank", explore=True, **fields) == placing.answer("/invocations", **fields)


def test_what_nobody_knows_is_ranked_and_marked(placing: Contained) -> None:
    """A user and items without features: scores for all, and the answer says who and which."""
    known = placing.answer("/rank", user_id="u1", candidates=IDS[:3])
    assert (known["user_known"], known["unknown_items"]) == (True, [])
    nobody = placing.answer("/rank", user_id="somebody", candidates=[IDS[0], "new1", IDS[1], "new2"])
    assert (nobody["user_known"], nobody["unknown_items"]) == (False, ["new1", "new2"])
    assert len(nobody["items"]) == 4
    assert placing.answer("/rank", candidates=IDS[:3])["user_known"] is None


# -- candidates ---------------------------------------------------------------------------------------------------
def test_candidates_are_those_an_invocation_ranks(placing: Contained) -> None:
    """With the retriever's own scores, best first; then the newest, which it cannot know; none that is removed."""
    found = placing.answer("/candidates", user_id="u1")
    ranked = placing.answer("/invocations", user_id="u1")
    ids = [one["item_id"] for one in found["candidates"]]
    assert ids == ranked["candidates"]
    assert (found["retrieved_by"], found["user_known"], found["fallback"]) == ("ials", True, False)
    scored = [one for one in found["candidates"] if one["found_by"] == "ials"]
    newest = found["candidates"][len(scored) :]
    assert len(scored) == rig.RETRIEVAL.k
    assert {(one["score"], one["found_by"]) for one in newest} == {(None, "newest")}
    first = first_stage("ials", "content")
    user = first.of_history(IDS[:2])
    assert user is not None
    expected = [float(user.values @ first.of_item(one["item_id"]).values) for one in scored]  # type: ignore[union-attr]
    assert [one["score"] for one in scored] == pytest.approx(expected, abs=2e-3), "the index is in half precision"
    assert expected == sorted(expected, reverse=True) or np.allclose(
        expected, sorted(expected, reverse=True), atol=2e-3
    )
    assert REMOVED not in ids


def test_candidates_of_items_count_instead_of_the_user(placing: Contained) -> None:
    """So many as are wanted, none of those given; which of them nobody knows is said."""
    found = placing.answer("/candidates", user_id="u1", items=[IDS[20], "new"], k=6)
    assert len(found["candidates"]) == 6
    assert IDS[20] not in [one["item_id"] for one in found["candidates"]]
    assert (found["unknown_items"], found["user_known"]) == (["new"], None)
    assert found["candidates"] != placing.answer("/candidates", user_id="u1", k=6)["candidates"]


@pytest.mark.parametrize(
    ("fields", "by"),
    [
        ({"user_id": "nobody"}, "popularity"),
        ({}, "popularity"),
        ({"items": ["new"]}, "popularity"),
        ({"items": [IDS[55]]}, "content"),
        ({"items": [IDS[20]]}, "ials"),
    ],
)
def test_content_and_popularity_find_for_whom_the_retriever_cannot(
    placing: Contained, fields: dict[str, Any], by: str
) -> None:
    """The last ten items were never clicked: only their words place them."""
    found = placing.answer("/candidates", **fields)
    assert found["retrieved_by"] == by
    assert {one["found_by"] for one in found["candidates"]} <= {by, "newest"}
    assert found["candidates"]


def test_candidates_come_from_memory_where_retrieval_fails(
    settings: Config, popular: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same fallback as an invocation's, marked alike; and vectors, which have none, are refused for now."""
    first = first_stage("ials")
    with contained(replace(popular, retrieval=first), settings) as container:
        monkeypatch.setattr(first, "search", lambda *_: 1 / 0)
        monkeypatch.setattr(first, "of_history", lambda *_: 1 / 0)
        found = container.answer("/candidates", user_id="u1", k=5)
        assert (found["fallback"], found["fallback_reason"], found["retrieved_by"]) == (True, "failed", "popularity")
        assert len(found["candidates"]) == 5
        status, refused = container.ask("/embed", {"request_id": "r", "users": ["u1"]})
        assert (status, "ask again" in refused["error"]) == (503, True)
        assert container.answer("/rank", candidates=IDS[:3])["fallback"] is False


def test_a_ranker_that_fails_ranks_by_popularity(settings: Config, awkward: Bundle) -> None:
    """Whether an invocation or a bare ranking is asked for."""
    with contained(awkward, settings) as container:
        Awkward.error = RuntimeError("out of cheese")
        for path in ("/invocations", "/rank"):
            found = container.answer(path, candidates=IDS[:9])
            assert (found["fallback"], found["fallback_reason"], len(found["items"])) == (True, "failed", 9)


# -- embed ----------------------------------------------------------------------------------------------------------
def test_vectors_are_the_retrievers_and_say_of_which_space(placing: Contained, boosted: Bundle) -> None:
    """Products within a space are retrieval's scores; an item that only words place is in the other space."""
    stage = first_stage("ials", "content")
    items = [IDS[3], IDS[55], "new"]
    found = placing.placed(users=["u1", "nobody"], items=items)
    assert found["bundle_sha256"] == boosted.sha256
    assert [one["id"] for one in found["items"]] == items
    assert [one["space"] for one in found["items"]] == ["ials", "content", None]
    assert found["items"][2]["vector"] is None
    known, unknown = found["users"]
    assert (known["space"], unknown["space"], unknown["vector"]) == ("ials", None, None)
    assert {kind: of["dimensions"] for kind, of in found["spaces"].items()} == {
        kind: len(next(one for one in found["items"] if one["space"] == kind)["vector"]) for kind in ("ials", "content")
    }
    versions = {kind: version for kind, (version, _) in stage.spaces.items()}
    assert {kind: of["version"] for kind, of in found["spaces"].items()} == versions
    everything = placing.placed(items=IDS)
    content = np.array([stage.of_item(one).values for one in IDS if stage.of_item(one).space == "content"])  # type: ignore[union-attr]
    assert np.allclose([one["vector"] for one in everything["items"] if one["space"] == "content"], content)
    assert versions["ials"] == embeddings_version(stage._finders[0].retriever.item_vectors)  # type: ignore[attr-defined]
    by_score = {one["item_id"]: one["score"] for one in placing.answer("/candidates", user_id="u1")["candidates"]}
    user = np.array(known["vector"])
    products = {one["id"]: user @ one["vector"] for one in everything["items"] if one["space"] == "ials"}
    shared = [item for item, score in by_score.items() if score is not None]
    assert [by_score[item] for item in shared] == pytest.approx([products[item] for item in shared], abs=2e-3)


@pytest.mark.parametrize("kinds", [(), ("item_cf",), ("popularity",)])
def test_a_bundle_without_vectors_says_so(popular: Bundle, settings: Config, kinds: tuple[str, ...]) -> None:
    """409: it cannot be asked this, however the request is put."""
    bundle = replace(popular, retrieval=first_stage(*kinds) if kinds else None)
    with contained(bundle, settings) as container:
        status, found = container.ask("/embed", {"request_id": "r", "items": [IDS[0]]})
        assert status == 409
        assert f"a bundle whose retrieval has some; {popular.candidate_id} has" in found["error"]
        assert container.answer("/candidates", user_id="u1")["candidates"]


# -- surfaces ---------------------------------------------------------------------------------------------------------
def served(folder: Path, surfaces: str) -> Config:
    return rig.settings(folder, ENDPOINT__SURFACES=surfaces)


def test_a_surface_has_its_own_sizes(tmp_path: Path, boosted: Bundle) -> None:
    """How many are shown where the request does not say, the most there may be, and how many are looked for."""
    settings = served(tmp_path, '{"home": {"k": 4, "most_k": 6, "retrieve": 5}, "search": {"k": 2}}')
    with contained(boosted, settings) as container:
        home, search = (container.answer("/invocations", user_id="u1", surface=name) for name in ("home", "search"))
        assert (len(home["items"]), len(search["items"])) == (4, 2)
        assert len(search["candidates"]) > len(home["candidates"])
        assert len(container.answer("/candidates", user_id="u1")["candidates"]) == len(home["candidates"])
        status, found = container.ask("/invocations", {"request_id": "r", "surface": "home", "k": 7})
        assert (status, found["error"]) == (400, 'k must be at most 6 on surface "home"; found 7')
        assert len(container.answer("/invocations", user_id="u1", surface="similar")["items"]) == 10


def test_a_surface_that_nobody_knows_is_refused(tmp_path: Path, boosted: Bundle) -> None:
    """Known is what the bundle learned from and what settings name; a bundle that does not say takes any."""
    settings = served(tmp_path, '{"letter": {"k": 2}}')
    knows = replace(boosted, manifest={**boosted.manifest, "lineage": {"surfaces": ["home", "search"]}})
    with contained(knows, settings) as container:
        for path in ("/invocations", "/rank", "/candidates"):
            body = {"request_id": "r", "surface": "hmoe"} | ({"candidates": IDS[:2]} if path == "/rank" else {})
            status, found = container.ask(path, body)
            assert (status, found["error"]) == (400, 'surface must be one of home, letter, search; found "hmoe"')
        for surface in ("home", "search", "letter"):
            assert container.answer("/invocations", surface=surface)["items"]
    with contained(boosted, settings) as container:
        assert container.answer("/invocations", surface="hmoe")["items"]


def test_a_surface_with_less_time_is_answered_sooner(tmp_path: Path, awkward: Bundle) -> None:
    """The others still wait for the ranker."""
    settings = served(tmp_path, '{"home": {"timeout_ms": 200}}')
    with contained(awkward, settings) as container:
        Awkward.seconds = 0.6
        found = container.answer("/invocations", candidates=IDS[:3])
        assert (found["fallback"], found["fallback_reason"]) == (True, "late")
        assert container.answer("/invocations", candidates=IDS[:3], surface="search")["fallback"] is False


def test_scores_are_held_and_draws_are_not(tmp_path: Path, awkward: Bundle) -> None:
    """A page that is loaded anew costs no ranking: the same probabilities, a slate of its own by the same policy."""
    settings = served(tmp_path, '{"home": {"cached": 2}}')
    with contained(awkward, settings) as container:
        asked = Awkward.asked
        same: dict[str, Any] = {"user_id": "u1", "candidates": IDS[:30], "k": 5}
        slates = [container.answer("/invocations", request_id=f"r{n}", **same)["items"] for n in range(8)]
        assert Awkward.asked == asked + 1
        assert len({tuple(item["item_id"] for item in slate) for slate in slates}) > 1
        for other in ({"user_id": "u2"}, {"context": {"device": "phone"}}, {"candidates": IDS[:29]}):
            container.answer("/invocations", **{**same, **other})
        assert Awkward.asked == asked + 4, "another user, word or candidate is another question"
        container.answer("/invocations", **same)
        assert Awkward.asked == asked + 5, "two are held, the oldest went"
        container.answer("/invocations", surface="search", **same)
        container.answer("/invocations", surface="search", **same)
        assert Awkward.asked == asked + 7, "a surface that holds nothing ranks each time"


def test_what_is_held_ends_with_its_publication(tmp_path: Path, awkward: Bundle) -> None:
    settings, features = served(tmp_path, '{"home": {"cached": 9}}'), rig.Turning()
    with contained(awkward, settings, features) as container:
        first = container.answer("/invocations", user_id="u1")
        features.turn()
        for _ in range(100):
            second = container.answer("/invocations", user_id="u1")
            if second["features_day"] != first["features_day"]:
                break
            time.sleep(0.1)
        assert second["features_day"] > first["features_day"]
        assert not {*second["candidates"]} & {*first["candidates"]}


@pytest.mark.parametrize(
    ("surfaces", "sentence"),
    [
        ('{"home": {"k": 9, "most_k": 8}}', "k must be at most most_k; found 9 and 8"),
        ('{"home": {"timeout_ms": 5001}}', "must be at most timeout_ms, 5000; found 5001"),
        ('{"home": {"retrieve": 1001}}', "less than or equal to 1000"),
        ('{"home": {"keeps": 3}}', "Extra inputs are not permitted"),
        ('{" ": {}}', "surfaces need names"),
    ],
)
def test_settings_of_a_surface_make_sense(tmp_path: Path, surfaces: str, sentence: str) -> None:
    with pytest.raises(Misconfigured, match=sentence):
        served(tmp_path, surfaces)


# -- metrics --------------------------------------------------------------------------------------------------------
def test_every_call_is_counted_and_timed_by_its_steps(boosted: Bundle, awkward: Bundle, settings: Config) -> None:
    """As invocations are: how many, what became of them, how long they took; a refusal and a late ranker too."""
    retrieval = first_stage("ials", "content")
    with contained(replace(boosted, retrieval=retrieval), settings) as made:
        for path, fields in (
            ("/invocations", {}),
            ("/rank", {"candidates": IDS[:3]}),
            ("/rank", {"candidates": "none"}),
            ("/candidates", {"user_id": "u1"}),
            ("/candidates", {"items": IDS[:2]}),
        ):
            made.ask(path, {"request_id": "r", "surface": "home", **fields})
        made.placed(users=["u1", "somebody"], items=IDS[:2])
        families = {family.name: family.samples for family in text_string_to_metric_families(made.get("/metrics")[1])}
        counted = {(s.labels["call"], s.labels["outcome"]): s.value for s in families["tidegate_calls"]}
        assert counted == {
            ("invocations", "answered"): 1,
            ("rank", "answered"): 1,
            ("rank", "refused with 400"): 1,
            ("candidates", "answered"): 2,
            ("embed", "answered"): 1,
        }
        timed = {
            (s.labels["call"], s.labels["stage"]): s.value
            for s in families["tidegate_call_seconds"]
            if s.name.endswith("_count")
        }
        steps = {("candidates", "features"): 2, ("candidates", "retrieve"): 2, ("embed", "features"): 1}
        whole = {(call, "whole"): n for call, n in (("invocations", 1), ("rank", 2), ("candidates", 2), ("embed", 1))}
        assert timed == {**steps, ("embed", "vectors"): 1, **whole}
    with contained(awkward, settings) as made:
        Awkward.error = RuntimeError("out of cheese")
        made.answer("/rank", candidates=IDS[:3])
        assert '{call="rank",outcome="failed"} 1.0' in made.get("/metrics")[1]
