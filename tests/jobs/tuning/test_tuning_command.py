"""Arms of heuristics over a trained ranker, weighed on the logged pages of a small lake."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs import bundle
from jobs.config import Config
from jobs.errors import NotReady, Refused, UsageError
from jobs.tuning import __main__ as command
from jobs.tuning.core import PRESENT, arm, heuristics_tuned
from models.evaluation.estimate import Estimate
from models.settings import HeuristicSettings, PolicySettings
from tests.jobs.small_candidates import linear, popularity, publish_candidates
from tests.jobs.small_lake import DAY, World, a_run, publish_all, settings

ARMS = {
    "one of each": {"caps": [{"most": 1}]},
    "less of the same": {"repeats": [{"times": 0.5}]},
    "more of one": {"boosts": [{"word": "category-1", "times": 1.5}]},
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = settings(tmp_path_factory.mktemp("lake"), tmp_path_factory.getbasetemp())
    publish_all(config, World(), n=300)
    publish_candidates(config, {"popularity": popularity(), "logistic": linear(1.0)}, "logistic")
    return config


def test_the_command_tells_every_arm_and_the_same_again(
    lake: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command.config, "load", lambda: lake)
    file = tmp_path / "arms.json"
    file.write_text(json.dumps(ARMS))
    words = ["--day", str(DAY), "--arms", str(file)]
    told = []
    for more in ([], [], ["--surface", "home"]):
        assert command.main([*words, *more]) == 0
        told.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    first, again, home = told
    assert first == again
    assert {**home, "surface": None} == first, "all of it is shown at home"
    assert first["candidate"].startswith("logistic")
    assert first["pages"] > 500
    assert set(first["arms"]) == set(ARMS)
    assert first["chosen"] in (PRESENT, *ARMS)
    assert first["propensity"] == first["chances"][first["drawn"]] > 0
    assert sum(first["chances"].values()) == pytest.approx(1)
    figures = [of for of in first["arms"].values() if "gain" in of]
    assert figures
    assert all(of["low"] < of["gain"] < of["high"] for of in figures)
    with pytest.raises(Refused, match="whole pages on search"):
        command.main([*words, "--surface", "search"])
    with pytest.raises(NotReady):
        command.main(["--day", "2025-01-01", "--arms", str(file)])
    file.write_text('{"a": {"boost": []}}')
    with pytest.raises(UsageError, match="--arms needs a JSON object of names to heuristics"):
        command.main(words)


def test_the_first_place_is_weighed_as_the_policy_would_choose_it(lake: Config) -> None:
    """A block moves it, by what snips says; a cap, which acts below, does not."""
    row: Any = a_run("backtest", lake).read("candidates", [DAY]).to_pylist()
    [chosen] = [of for of in row if of["chosen"]]
    side = bundle.load(Path(chosen["bundle"]), chosen["bundle_sha256"])
    arms = {name: HeuristicSettings.model_validate(of) for name, of in ARMS.items()}
    settings = lake.gate.model_copy(update={"min_effective_n": 20, "max_weight_share": 0.5, "max_tail_shape": 9.0})
    settings = settings.model_copy(update={"max_mean_weight_z": 20.0, "min_decisions_that_matter": 1.0})
    found = heuristics_tuned(a_run("backtest", lake), side, arms, None, settings)
    assert found.places == 3
    for of in found.tuned.arms.values():
        assert isinstance(of.champion, Estimate)
        assert 0 < of.champion.value < 3
    assert len({of.champion.value for of in found.tuned.arms.values() if of.places == 3}) <= 1, "of the same pages"
    with pytest.raises(Refused, match="arms by names other than present; found none"):
        heuristics_tuned(a_run("backtest", lake), side, {}, None, settings)


def test_an_arm_replaces_what_a_surface_has() -> None:
    """Wherever it is meant for, and nowhere else; what else differs there stays."""
    own = {"caps": [{"most": 3}]}
    policy = PolicySettings.model_validate(
        {"heuristics": own, "surfaces": {"home": {"temperature": 0.2, "heuristics": own}}}
    )
    rules = HeuristicSettings.model_validate({"caps": [{"most": 1}]})
    everywhere, home, search = (arm(policy, rules, surface) for surface in (None, "home", "search"))

    def caps(of: PolicySettings) -> list[int]:
        return [of.on(surface).heuristics.caps[0].most for surface in ("home", "search", "similar")]

    assert caps(everywhere) == [3, 1, 1]
    assert caps(home) == [1, 3, 3]
    assert caps(search) == [3, 1, 3]
    assert home.on("home").temperature == 0.2
    assert np.isclose(search.on("search").temperature, policy.temperature)
