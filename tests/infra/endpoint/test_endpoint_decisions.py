"""What an invocation answers: true propensities, the same slate for the same request, popularity in time."""

import asyncio
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from botocore.exceptions import ClientError

from infra.endpoint.decide import Decider
from infra.endpoint.popularity import by_popularity
from infra.endpoint.request import RankRequest
from infra.endpoint.retrieve import candidates
from infra.endpoint.serving import Serving
from jobs.bundle import Bundle, Light
from jobs.features.online import Published
from models.policies.choice import placed_choice
from models.rankers.features import EVERYTHING
from models.settings import PolicySettings, SurfaceSettings, TaskSettings
from tests.infra.endpoint.rig import DAY, IDS, POLICY, Awkward, Client, Memory, first_stage, running, settings


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, boosted: Bundle) -> Any:
    with running(settings(tmp_path_factory.mktemp("decisions"))) as client:
        client.serve(boosted)
        yield client


def conditional(p_click: np.ndarray, temperature: float) -> np.ndarray:
    """The oracle: Plackett-Luce by its definition, each place a softmax over what is left."""
    weight = p_click ** (1 / temperature)
    return np.array([weight[place] / weight[place:].sum() for place in range(len(weight))])


def test_propensities_are_plackett_luce_given_everything_above(served: Client) -> None:
    """Backtests divide by them: with the whole list placed, the formula can be checked item by item."""
    answer = served.invoke(candidates=IDS[:15], k=15, user_id="u1")
    assert sorted(item["item_id"] for item in answer["items"]) == IDS[:15]
    assert [item["position"] for item in answer["items"]] == list(range(1, 16))
    p_click = np.array([item["p_click"] for item in answer["items"]])
    found = [item["propensity"] for item in answer["items"]]
    np.testing.assert_allclose(found, conditional(p_click, POLICY.temperature), rtol=1e-9)


def test_the_first_place_is_drawn_as_often_as_its_propensity_says(popular: Bundle) -> None:
    """A formula may be right and the draw wrong: 2,000 requests, chi-square over the candidates (p about 1e-4)."""
    decider = Decider(Memory(), 5000, TaskSettings())
    offer = decider.ready(popular).offer(datetime.now(UTC))
    drawn = dict.fromkeys(IDS[:8], 0)
    expected: dict[str, float] = {}
    for n in range(2000):
        asked = RankRequest(request_id=f"q{n}", surface="home", k=1, candidates=IDS[:8])
        items = decider.by_ranker(popular, offer, asked).items
        drawn[items[0].item_id] += 1
        expected[items[0].item_id] = items[0].propensity
    decider.close()
    assert sum(expected.values()) == pytest.approx(1.0)
    statistic = sum((drawn[item] - 2000 * p) ** 2 / (2000 * p) for item, p in expected.items())
    assert statistic < 28


def test_the_same_request_gets_the_same_slate(served: Client) -> None:
    """A retry shows the user the same page; another request is another draw."""
    body = {"candidates": IDS[:20], "user_id": "u7", "k": 5}
    first = served.invoke("same", **body)
    assert all(served.invoke("same", **body) == first for _ in range(5))
    others = {tuple(i["item_id"] for i in served.invoke(f"other{n}", **body)["items"]) for n in range(10)}
    assert len(others) > 1


def test_what_serves_says_what_was_judged(served: Client, boosted: Bundle) -> None:
    """Bundle, sha, variant and feature day are in every answer, so that no log has to guess."""
    answer = served.invoke()
    assert answer["bundle_version"] == boosted.candidate_id
    assert answer["bundle_sha256"] == boosted.sha256
    assert (answer["variant"], answer["fallback"], answer["features_day"]) == ("a", False, DAY.isoformat())


def test_unknown_user_item_and_context_are_ranked_all_the_same(served: Client) -> None:
    """A new user, a new item and a word nobody trained on are everyday, not errors."""
    answer = served.invoke(user_id="nobody", candidates=["new", IDS[0]], context={"device": "fridge", "x": None}, k=2)
    assert not answer["fallback"]
    assert {i["item_id"] for i in answer["items"]} == {"new", IDS[0]}


def test_without_candidates_retrieval_offers_old_and_newest_items(served: Client) -> None:
    """The youngest item has no clicks for an index to know; it must still have a chance to be shown."""
    answer = served.invoke(user_id="u1", k=200)
    assert not answer["fallback"]
    shown = [i["item_id"] for i in answer["items"]]
    assert len(set(shown)) == len(shown)
    assert IDS[-1] in shown, "age 0"


def test_who_retrieved_is_said_and_nobody_is_left_without_an_answer(served: Client) -> None:
    """The user's last items find neighbours; who is unknown, or knows only what nobody clicked, is told apart."""
    known, unknown, given = (
        served.invoke(user_id="u1", k=60), served.invoke(user_id="nobody", k=60), served.invoke(candidates=IDS[:3])
    )  # fmt: skip
    assert (known["retrieved_by"], unknown["retrieved_by"], given["retrieved_by"]) == ("item_cf", "popularity", None)
    assert not {item["item_id"] for item in known["items"]} & set(IDS[:2]), "the user has clicked these"
    assert given["candidates"] is None
    for answer in (known, unknown):  # k is more than there are: all of them are placed
        assert sorted(answer["candidates"]) == sorted(item["item_id"] for item in answer["items"])
    of_source = served.invoke(user_id="nobody", surface="similar", context={"source_item_id": IDS[55]}, k=60)
    assert of_source["retrieved_by"] == "content", "an item without clicks has words"
    with urlopen(f"{served.url}/metrics") as counted:
        assert b'by="content"} 1' in counted.read()
    found = {int(item["item_id"][1:]) for item in of_source["items"]}
    assert {n for n in range(40) if n % 4 == 55 % 4} <= found


def test_k_is_cut_to_the_candidates(served: Client) -> None:
    """Fewer candidates than places is a short page; the last place left no choice."""
    answer = served.invoke(candidates=IDS[:2], k=5)
    assert len(answer["items"]) == 2
    assert answer["items"][-1]["propensity"] == 1.0


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "Invalid JSON"),
        (b"[]", "body: Input should be an object"),
        (b"{}", "request_id: Field required"),
        (b'{"request_id": 3, "surface": "home", "k": 1}', "request_id: Input should be a valid string, found 3"),
        (b'{"request_id": "r", "surface": "home", "k": 0}', "k: Input should be greater than or equal to 1, found 0"),
        (b'{"request_id": "r", "surface": "home", "k": 1, "usr": "u"}', "usr: Extra inputs are not permitted"),
        (b'{"request_id": "r", "surface": "home", "k": 1, "candidates": []}', "candidates: List should have at least"),
        (b'{"request_id": "r", "surface": "home", "k": 1, "candidates": ["i", "i"]}', "candidates: must be distinct"),
        (b'{"request_id": "r", "surface": "home", "k": 1, "event_time": "noon"}', "must be an ISO 8601 time"),
        (
            b'{"request_id": "r", "surface": "home", "k": 1, "context": {"age": [3]}}',
            "context.age: Input should be",
        ),
    ],
)
def test_a_bad_request_is_a_model_error_with_one_sentence(served: Client, body: bytes, sentence: str) -> None:
    """SageMaker's shape: the container's 400 arrives as 424 ModelError with the original status and message."""
    with pytest.raises(ClientError) as caught:
        served.runtime.invoke_endpoint(EndpointName="tidegate", Body=body)
    found = caught.value.response
    assert found["Error"]["Code"] == "ModelError"
    assert found["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert found["OriginalStatusCode"] == 400
    assert sentence in found["OriginalMessage"]
    assert "\n" not in found["OriginalMessage"]


def test_unknown_endpoint_and_variant_are_validation_errors(served: Client) -> None:
    """The platform's own refusals, not the model's."""
    with pytest.raises(ClientError, match=r"ValidationError.*none needs to exist"):
        served.invoke(endpoint="none")
    with pytest.raises(ClientError, match="TargetVariant must be one of a"):
        served.runtime.invoke_endpoint(EndpointName="tidegate", TargetVariant="z", Body=b"{}")


# -- the timer --------------------------------------------------------------------------------------------------------
def test_a_late_ranker_is_answered_for_by_popularity_within_the_promise(tmp_path: Path, awkward: Bundle) -> None:
    """The timer is 60 ms, the ranker takes a second: the answer comes long before it, with true propensities."""
    with running(settings(tmp_path, ENDPOINT__TIMEOUT_MS="60")) as client:
        client.serve(awkward)
        Awkward.seconds = 1.0
        client.invoke("warm up boto3")
        took = []
        for n in range(8):
            started = time.perf_counter()
            answer = client.invoke(f"r{n}", candidates=IDS[:10], k=10)
            took.append(time.perf_counter() - started)
            assert answer["fallback"]
            assert answer["bundle_sha256"] == awkward.sha256
            p_click = np.array([item["p_click"] for item in answer["items"]])
            popular = awkward.fallback.predict({"item_id": np.array([i["item_id"] for i in answer["items"]], object)})
            np.testing.assert_allclose(p_click, popular.p_click)
            found = [item["propensity"] for item in answer["items"]]
            np.testing.assert_allclose(found, conditional(p_click, POLICY.temperature), rtol=1e-9)
        assert min(took) < 0.5, "a busy test machine is not the promise, but a second's ranker was not waited for"
        Awkward.seconds = 0.0
        deadline = time.monotonic() + 120
        while client.invoke("again")["fallback"]:
            assert time.monotonic() < deadline, "the ranker is quick again and must be asked again"
            time.sleep(0.1)


def test_a_ranker_that_raises_is_answered_for_by_popularity(tmp_path: Path, awkward: Bundle) -> None:
    """A bug in a ranker is nobody's empty page."""
    with running(settings(tmp_path)) as client:
        client.serve(awkward)
        assert not client.invoke()["fallback"]
        Awkward.error = RuntimeError("out of cheese")
        answer = client.invoke(user_id="u1")
        assert answer["fallback"]
        assert len(answer["items"]) == 3


def test_a_ranker_that_cannot_answer_at_all_is_not_put_in_service(
    tmp_path: Path, awkward: Bundle, popular: Bundle
) -> None:
    """Better the old variant than popularity for ever."""
    with running(settings(tmp_path)) as client:
        client.serve(popular)
        client.config(client.model(awkward, "b"), b=1.0)
        Awkward.error = RuntimeError("out of cheese")
        client.control.update_endpoint(EndpointName="tidegate", EndpointConfigName="b")
        found = client.settled()
        assert (found["EndpointConfigName"], found["EndpointStatus"]) == ("a", "InService")
        assert "out of cheese" in found["FailureReason"]


class Nothing(Memory):
    """Before the first publication."""

    def published(self) -> Sequence[Published]:
        return []


def test_before_the_first_feature_day_the_endpoint_answers_and_says_so(boosted: Bundle) -> None:
    """No features at all: everything is unknown, nothing breaks, and `features_day` is null."""

    decider = Decider(Nothing(), 60_000, TaskSettings())
    variant = decider.ready(boosted)
    asked = RankRequest(request_id="r", surface="home", k=2, candidates=IDS[:4])
    answer = asyncio.run(decider.answer(variant, "a", asked, time.monotonic() + 60))
    decider.close()
    assert (len(answer.items), answer.fallback, answer.features_day) == (2, False, None)


class TwoDays(Memory):
    """The day of `Memory` and the one before it, which knows half of the items; a user has clicked the day's number."""

    def __init__(self) -> None:
        super().__init__()
        items = {name: column[: len(IDS) // 2] for name, column in self.publication.items.items()}
        before = DAY - timedelta(days=1)
        self.both = [
            replace(self.publication, available_at=KNOWN),
            Published(before, items, self.publication.encodings, KNOWN - timedelta(days=1)),
        ]

    def user(self, user_id: str, day: date) -> Any:
        return {**(super().user(user_id, day) or {}), "last_items": [IDS[day.day]]}

    def published(self) -> Sequence[Published]:
        return self.both


KNOWN = datetime(2026, 1, 10, 6, tzinfo=UTC)
"""From when the features of `DAY` count as known."""


@pytest.mark.parametrize(
    ("event_time", "day"),
    [
        ("2026-01-09T05:59:59.999999", None),
        ("2026-01-09T06:00:00", DAY - timedelta(days=1)),
        ("2026-01-10T05:59:59.999999Z", DAY - timedelta(days=1)),
        ("2026-01-10T06:59:59+01:00", DAY - timedelta(days=1)),
        ("2026-01-10T06:00:00Z", DAY),
        ("2026-01-12T00:00:00", DAY),
        (None, DAY),
    ],
)
def test_a_request_is_answered_with_what_counts_as_known_at_its_time(
    popular: Bundle, event_time: str | None, day: date | None
) -> None:
    """To the microsecond, by ranker and fallback alike; without a time it is now. A day that is late is waited for."""
    seen: list[Any] = []

    class Watched:
        kind = "watched"
        inputs = EVERYTHING

        def predict(self, features: Any) -> Any:
            seen.append(features)
            return popular.fallback.predict(features)

    decider = Decider(TwoDays(), 5000, TaskSettings())
    asked = RankRequest(request_id="r", user_id="u1", surface="home", k=1, candidates=IDS, event_time=event_time)
    variant = decider.ready(replace(popular, ranker=Watched()))
    in_time, late = (decider.answer(variant, "a", asked, time.monotonic() + left) for left in (60, -60))
    for answer, fallback in ((asyncio.run(in_time), False), (asyncio.run(late), True)):
        assert answer.fallback == fallback
        assert answer.features_day == (None if day is None else day.isoformat())
    decider.close()
    _, columns = seen  # the first one was to see whether it answers at all
    listed = 0 if day is None else len(IDS) if day == DAY else len(IDS) // 2
    assert np.count_nonzero(~np.isnan(columns["item_click_rate"])) == listed
    clicked = columns["item_id"][columns["user_clicked_item"] == 1.0].tolist()
    assert clicked == ([] if day is None else [IDS[day.day]])


def test_a_removed_item_never_comes_back_by_any_way(boosted: Bundle, popular: Bundle) -> None:
    """Own candidates, retriever, content, popularity, the newest, the fallback, before any publication; whatever the
    moment asked for: a block counts at once, and ends with the publication that lifts it.
    """
    gone = frozenset([IDS[n] for n in (0, 1, 7, 12, 40, 59)])

    class Blocked(TwoDays):
        removed = gone

        def published(self) -> Sequence[Published]:
            return [replace(self.both[0], removed=self.removed), self.both[1]]

    before = replace(boosted, retrieval=first_stage("ials", removed=sorted(gone)))
    features = Blocked()
    decider, nothing = Decider(features, 5000, TaskSettings()), Decider(Nothing(), 60_000, TaskSettings())
    asked = [
        {"candidates": [*sorted(gone), *IDS[2:6]]},
        {"candidates": sorted(gone)},
        {"user_id": "u1"},
        {"user_id": "nobody"},
        {"context": {"source_item_id": IDS[55]}, "surface": "similar"},
        {"user_id": "u1", "event_time": "2026-01-10T05:00:00"},
        {"user_id": "u1", "event_time": "2026-01-01T00:00:00"},
    ]
    shown = set()
    for maker, bundle in ((decider, boosted), (decider, popular), (decider, before), (nothing, before)):
        variant = maker.ready(bundle)
        for number, fields in enumerate(asked):
            request = RankRequest.model_validate({"request_id": f"r{number}", "surface": "home", "k": 200, **fields})
            for left in (60, -60):
                answer = asyncio.run(maker.answer(variant, "a", request, time.monotonic() + left))
                items = {item.item_id for item in answer.items}
                assert answer.fallback == (left < 0)
                assert bool(items) == (fields.get("candidates") != sorted(gone))
                assert not items & gone
                shown |= items
    assert len(shown) > 50
    features.removed = frozenset()
    variant = decider.ready(boosted)
    decider.refresh()
    request = RankRequest(request_id="r", surface="home", k=200, candidates=sorted(gone))
    assert len(asyncio.run(decider.answer(variant, "a", request, time.monotonic() + 60)).items) == len(gone)
    decider.close()
    nothing.close()


@pytest.mark.parametrize("fields", [{"candidates": IDS[:15]}, {"user_id": "u1"}])
def test_three_stages_serve_what_a_replay_judges(boosted: Bundle, fields: dict[str, Any]) -> None:
    """Candidates, the light ranker's six best, the ranker: every propensity is the one that evidence computes."""
    staged = replace(boosted, light=Light(boosted.fallback, 6))
    decider = Decider(Memory(), 5000, TaskSettings())
    asked = RankRequest.model_validate({"request_id": "r", "surface": "home", "k": 20, **fields})
    offer = decider.ready(staged).offer(asked.at())
    made = decider.by_ranker(staged, offer, asked)
    every, *_ = candidates(staged, offer, Memory().user("u1", DAY) if asked.user_id else None, asked)
    columns = offer.catalogue.columns(every, Memory().user("u1", DAY) if asked.user_id else None, asked)
    decider.close()
    offsets = np.array([0, len(every)])
    light, p_click = (ranker.predict(columns).p_click for ranker in (boosted.fallback, boosted.ranker))
    best = sorted(range(len(every)), key=lambda at: (-light[at], at))[:6]
    assert {item.item_id for item in made.items} == {every[at] for at in best}
    place = np.zeros(len(every), dtype=np.int64)
    for item in made.items:
        place[every.index(item.item_id)] = item.position
    judged = placed_choice(p_click, offsets, place, staged.policy, staged.kept(columns, offsets))
    for item in made.items:
        assert item.propensity == pytest.approx(judged[every.index(item.item_id)])


def test_epsilon_greedy_and_greedy_bundles_serve_their_own_policy(boosted: Bundle) -> None:
    """The policy travels in the bundle; a greedy slate is certain and says so."""
    decider = Decider(Memory(), 5000, TaskSettings())
    asked = RankRequest(request_id="r", surface="home", k=3, candidates=IDS[:9])
    variant = decider.ready(replace(boosted, policy=PolicySettings(kind="greedy")))
    greedy = decider.by_ranker(variant.bundle, variant.offer(asked.at()), asked).items
    decider.close()
    assert [i.p_click for i in greedy] == sorted((i.p_click for i in greedy), reverse=True)
    assert greedy[0].propensity > 0


def test_a_surface_is_explored_as_its_own_policy_says(boosted: Bundle) -> None:
    """By ranker and by fallback: every propensity is the one that evidence computes for the request's surface."""
    surfaces = {"search": SurfaceSettings(kind="epsilon_greedy", epsilon=0.3), "home": SurfaceSettings(temperature=2.0)}
    several = replace(boosted, policy=PolicySettings(surfaces=surfaces))
    decider, offsets = Decider(Memory(), 5000, TaskSettings()), np.array([0, 9])
    variant, logged = decider.ready(several), {}
    for surface in ("search", "home", "notification"):
        asked = RankRequest(request_id="r", surface=surface, k=9, candidates=IDS[:9])
        offer = variant.offer(asked.at())
        for made in (decider.by_ranker(several, offer, asked), by_popularity(several, offer, asked)):
            scores, place = np.zeros(9), np.zeros(9, dtype=np.int64)
            for item in made.items:
                scores[IDS.index(item.item_id)], place[IDS.index(item.item_id)] = item.score, item.position
            judged = placed_choice(scores, offsets, place, several.policy, None, np.array([surface], dtype=object))
            assert [item.propensity for item in made.items] == pytest.approx(judged[np.argsort(place)].tolist())
            logged.setdefault(surface, []).append(made.items[0].propensity)
    decider.close()
    assert len({tuple(of) for of in logged.values()}) == 3


def test_what_outcomes_are_worth_orders_the_items(boosted: Bundle) -> None:
    """By the bundle's own weights, the score and the probabilities it is made of in the answer."""
    decider = Decider(Memory(), 5000, TaskSettings())
    asked = RankRequest(request_id="r", surface="home", k=9, candidates=IDS[:9])
    weights = {"click": 1.0, "conversion": 1000.0}
    variant = decider.ready(replace(boosted, policy=PolicySettings(kind="greedy", score_weights=weights)))
    items = decider.by_ranker(variant.bundle, variant.offer(asked.at()), asked).items
    decider.close()
    scores = [item.score for item in items]
    assert scores == sorted(scores, reverse=True)
    assert scores == pytest.approx([(i.p_click + 1000 * i.p_conversion) / 1001 for i in items])
    assert scores != pytest.approx([i.p_click for i in items])


# -- variants and capture ---------------------------------------------------------------------------------------------
def test_users_keep_their_variant_and_weights_share_them_out() -> None:
    """A user does not change sides between requests; a new weight moves only the users between the borders."""
    keys = [f"u{n}" for n in range(4000)]
    even = Serving("e", {}, {"a": 1.0, "b": 1.0}, 0)
    other = [replace(even, config="another").choose(k) for k in keys]
    tilted = Serving("e", {}, {"a": 3.0, "b": 1.0}, 0)
    before, after = [even.choose(k) for k in keys], [tilted.choose(k) for k in keys]
    assert before == [even.choose(k) for k in keys]
    assert before.count("a") / 4000 == pytest.approx(0.5, abs=0.03)
    assert after.count("a") / 4000 == pytest.approx(0.75, abs=0.03)
    assert all(new == "a" for old, new in zip(before, after, strict=True) if old == "a")
    both = sum(one == two == "b" for one, two in zip(before, other, strict=True))
    assert both / 4000 == pytest.approx(0.25, abs=0.03), "another config's are others: no user is always the canary"
    assert {Serving("e", {}, {"a": 0.0, "b": 1.0, "c": 0.0}, 0).choose(k) for k in keys} == {"b"}


def test_weights_take_effect_at_once(tmp_path: Path, popular: Bundle, boosted: Bundle) -> None:
    """UpdateEndpointWeightsAndCapacities moves all traffic, and TargetVariant still reaches the other one."""
    with running(settings(tmp_path)) as client:
        client.model(popular, "a")
        client.model(boosted, "b")
        client.config("two", None, a=1.0, b=1.0)
        client.control.create_endpoint(EndpointName="tidegate", EndpointConfigName="two")
        client.settled()
        assert {client.invoke(user_id=f"u{n}")["variant"] for n in range(20)} == {"a", "b"}
        client.control.update_endpoint_weights_and_capacities(
            EndpointName="tidegate",
            DesiredWeightsAndCapacities=[
                {"VariantName": "a", "DesiredWeight": 0.0},
                {"VariantName": "b", "DesiredWeight": 1.0},
            ],
        )
        answers = [client.invoke(user_id=f"u{n}") for n in range(20)]
        assert {(a["variant"], a["bundle_sha256"]) for a in answers} == {("b", boosted.sha256)}
        body = json.dumps({"request_id": "r", "surface": "home", "k": 1})
        found = client.runtime.invoke_endpoint(EndpointName="tidegate", TargetVariant="a", Body=body)
        assert found["InvokedProductionVariant"] == "a"
    assert not list((tmp_path / "state" / "capture").rglob("*.jsonl")), "capture is off unless the config asks for it"


def test_a_shadow_is_asked_and_captured_and_shown_to_nobody(tmp_path: Path, popular: Bundle, awkward: Bundle) -> None:
    """One that raises too, and one that is late: who asks sees the shown variant alone, and is not kept waiting."""
    with running(settings(tmp_path)) as client:
        client.model(popular, "a")
        client.model(awkward, "b")
        variant = {"InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
        shown, shadow = (
            [{**variant, "VariantName": name, "ModelName": name, "InitialVariantWeight": weight}]
            for name, weight in (("a", 100.0), ("b", 50.0))
        )
        capture = {
            "EnableCapture": True,
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": "file:///capture",
            "CaptureOptions": [{"CaptureMode": "Output"}],
        }
        client.control.create_endpoint_config(
            EndpointConfigName="s",
            ProductionVariants=shown,
            ShadowProductionVariants=shadow,
            DataCaptureConfig=capture,
        )
        with pytest.raises(ClientError, match="must not be named by an endpoint config; found in s"):
            client.control.delete_model(ModelName="b")
        client.control.create_endpoint(EndpointName="tidegate", EndpointConfigName="s")
        described = client.settled()
        assert described["EndpointStatus"] == "InService", described.get("FailureReason")
        assert [v["VariantName"] for v in described["ProductionVariants"]] == ["a"]
        assert [(v["VariantName"], v["CurrentWeight"]) for v in described["ShadowProductionVariants"]] == [("b", 50.0)]
        Awkward.error = RuntimeError("out of cheese")
        answers = [client.invoke(f"r{n}", user_id=f"u{n}") for n in range(200)]
        Awkward.error, Awkward.free = None, threading.Event()
        took = []
        for n in range(3):
            began = time.monotonic()
            answers.append(client.invoke(f"late{n}"))
            took.append(time.monotonic() - began)
        assert min(took) < 4, "a shadow that hangs holds up nobody; its own timer is 5 s"
        Awkward.free.set()
        text = urlopen(f"{client.url}/metrics").read().decode()
    assert {(a["variant"], a["bundle_sha256"], a["fallback"]) for a in answers} == {("a", popular.sha256, False)}
    found = [json.loads(line) for p in (tmp_path / "state" / "shadows").rglob("*.jsonl") for line in p.open()]
    assert {line["response"]["bundle_sha256"] for line in found} == {awkward.sha256}
    failed = [line for line in found if line["response"]["fallback_reason"] == "failed"]
    assert 70 <= len(failed) <= 130, "half of the requests are its sample"
    assert all(line["ms"] > 0 for line in found)
    captured = [json.loads(line) for p in (tmp_path / "state" / "capture").rglob("*.jsonl") for line in p.open()]
    assert [line["response"]["bundle_sha256"] for line in captured] == [popular.sha256] * 203
    assert f'tidegate_answers_total{{bundle="{awkward.candidate_id}"' not in text, "what nobody saw is no answer"


def test_every_answer_is_captured_once_under_its_own_day(tmp_path: Path, popular: Bundle) -> None:
    """Monitoring stands on these lines: complete JSON, by the UTC day of the event, a file per server run."""
    days = ["2026-01-10T23:59:59+00:00", "2026-01-11T00:30:00+01:00", "2026-01-11T00:00:00Z", "2026-01-11T12:00:00"]
    answers: dict[str, Any] = {}
    for start in range(2):
        with running(settings(tmp_path)) as client:
            if not start:
                client.serve(popular)
            client.settled()
            for n, at in enumerate(days):
                name = f"r{start}-{n}"
                answers[name] = client.invoke(name, event_time=at, user_id=f"u{n}")
    folder = tmp_path / "state" / "capture"
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.jsonl"))
    assert files == [f"date=2026-01-{day}/{n}.jsonl" for day in (10, 11) for n in (0, 1)]
    lines = [json.loads(line) for file in files for line in (folder / file).read_text().splitlines()]
    assert {line["request"]["request_id"]: line["response"] for line in lines} == answers
    assert len(lines) == len(answers)
    first_day = {json.loads(line)["request"]["request_id"] for line in (folder / files[0]).read_text().splitlines()}
    assert first_day == {"r0-0", "r0-1"}
