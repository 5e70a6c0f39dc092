"""What a request is exposed to is in its answer and in the capture; an arm may name the variant that answers."""

import json
from pathlib import Path

from infra.endpoint.exposed import Exposed
from infra.endpoint.request import RankRequest
from jobs.bundle import Bundle
from models.experiments.settings import ExperimentSettings
from tests.infra.endpoint.rig import running, settings

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


def test_nobodys_request_is_marked_and_an_unknown_variant_leaves_the_choice(tmp_path: Path) -> None:
    exposed = Exposed([ExperimentSettings.model_validate(one) for one in DATED])
    asked = RankRequest(request_id="r", surface="search", event_time="2026-02-01T10:00:00Z")
    seen = exposed.of(asked)
    assert [(of.experiment, of.unit) for of in seen] == [("models", "request"), ("colours", "request")]
    assert exposed.variant(seen, {"a", "b"}) in {"a", "b"}
    assert exposed.variant(seen, {"other"}) is None
