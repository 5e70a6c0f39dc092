"""kill -9 at every step of `deploy` and `rollback`: endpoint, ledger and alias agree once it is run again.

The stages are forked from a warm process and killed by the shim of `tests/exactly_once`; the endpoint is real.
"""

import signal
from pathlib import Path
from typing import Any

import pytest

from jobs import tracking
from jobs.config import Config
from jobs.deployments import ledger
from jobs.errors import Refused
from jobs.lake.store import Lake
from jobs.serving.sagemaker import Endpoint
from tests.jobs.deploy.deploy_world import (
    NEXT,
    Forked,
    champions,
    deployed,
    rolled_back,
    serving,
    steps,
    verdict,
    yes,
)
from tests.jobs.small_lake import DAY

pytestmark = pytest.mark.timeout(900)

STEPS = {
    "commit:1": "approved, not on record",
    "committed:1": "the way back is on record",
    "send:9": "the model is created, its config not",
    "send:13": "the endpoint is about to be switched",
    "send:15": "the endpoint is being switched",
    "sql:1": "it answers, the alias names the champion still",
    "commit:2": "the alias names it, the ledger not yet",
}
"""A moment of an undisturbed `deploy`, as the shim counts them: two `send` a request."""


def killed(forked: Forked, tree: Config, stage: str, day: Any, moment: str) -> None:
    home = str(tree.lake.root.parent)
    status = forked(tree, stage, day, yes(tree, day), KILL_AT=moment, KILL_BELOW=home)
    assert status == -signal.SIGKILL, (moment, Path(home, "stage.log").read_text()[-3000:])


def failing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """From now on the model of this name answers no smoke request."""
    smoke = Endpoint.smoke

    def falls_back(self: Endpoint, release: Any) -> None:
        if release.candidate_id == name:
            raise Refused(f"{name} only falls back")
        smoke(self, release)

    monkeypatch.setattr(Endpoint, "smoke", falls_back)


def test_killed_again_and_again_something_judged_serves_and_a_rerun_completes_it(world: Config, forked: Forked) -> None:
    """Never nothing, never a third; the ledger has one approval and one live row for it all."""
    with serving(world) as tree:
        deployed(tree)
        champion, challenger = champions(tree)[0], verdict(tree, NEXT)["candidate_id"]
        for moment in (
            "mkdir:1",
            "half:1",
            "commit:1",
            "committed:1",
            "send:3",
            "send:5",
            "send:9",
            "send:13",
            "sql:1",
        ):
            killed(forked, tree, "deploy", NEXT, moment)
            recorded, alias, serves = champions(tree)
            assert recorded == champion, moment
            assert {alias, serves} <= {champion, challenger}, moment
        deployed(tree, NEXT)
        assert champions(tree) == (challenger,) * 3
        assert steps(tree)[2:] == [(challenger, "approved"), (challenger, "live")]


@pytest.mark.parametrize("moment", STEPS)
def test_killed_and_run_again_it_goes_on_or_goes_back_to_what_served_before(
    world: Config, forked: Forked, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model turns out not to answer: it once went back to itself, for it was what served when it was run again."""
    with serving(world) as tree:
        deployed(tree)
        champion, challenger = champions(tree)[0], verdict(tree, NEXT)["candidate_id"]
        killed(forked, tree, "deploy", NEXT, moment)
        failing(monkeypatch, challenger)
        with pytest.raises(Refused, match="only falls back"):
            deployed(tree, NEXT)
        assert champions(tree) == (champion,) * 3
        assert steps(tree)[2:] == [(challenger, "approved"), (challenger, "rolled back")]
        monkeypatch.undo()
        deployed(tree, NEXT)
        assert champions(tree) == (challenger,) * 3


@pytest.mark.parametrize("moment", ["half:1", "send:5", "send:15", "sql:1", "commit:1"])
def test_a_first_model_killed_and_then_failing_leaves_nothing_behind(
    waiting: Config, forked: Forked, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No endpoint, no alias, no champion: as before it was approved. The shim does not count a table's first commit."""
    with serving(waiting) as tree:
        name = verdict(tree)["candidate_id"]
        killed(forked, tree, "deploy", DAY, moment)
        failing(monkeypatch, name)
        with pytest.raises(Refused, match="only falls back"):
            deployed(tree)
        assert champions(tree) == (None, None, None)
        assert steps(tree) == [(name, "approved"), (name, "rolled back")]
        monkeypatch.undo()
        deployed(tree)
        assert champions(tree) == (name,) * 3


def test_killed_after_its_last_step_it_is_live(world: Config, forked: Forked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left to do, and a model that fails later is an incident, not a release to be undone."""
    with serving(world) as tree:
        deployed(tree)
        challenger = verdict(tree, NEXT)["candidate_id"]
        killed(forked, tree, "deploy", NEXT, "committed:2")
        assert champions(tree) == (challenger,) * 3
        failing(monkeypatch, challenger)
        with pytest.raises(Refused, match="only falls back"):
            deployed(tree, NEXT)
        assert champions(tree) == (challenger,) * 3
        assert steps(tree)[-1] == (challenger, "live")


@pytest.mark.parametrize("moment", ["send:7", "send:11", "commit:1", "committed:1", "saved:2"])
def test_a_way_back_that_was_killed_is_completed(world: Config, forked: Forked, moment: str) -> None:
    with serving(world) as tree:
        deployed(tree)
        first, second = champions(tree)[0], verdict(tree, NEXT)["candidate_id"]
        deployed(tree, NEXT)
        killed(forked, tree, "rollback", NEXT, moment)
        assert set(champions(tree)) <= {first, second}
        rolled_back(tree)
        assert champions(tree) == (first,) * 3
        assert steps(tree)[4:] == [(second, "rolled back"), (first, "live")]


def test_killed_while_it_goes_back_it_goes_back(world: Config, forked: Forked, monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint is the champion's again, the alias the challenger's: by the ledger the release is not over."""
    with serving(world) as tree:
        deployed(tree)
        champion, challenger = champions(tree)[0], verdict(tree, NEXT)["candidate_id"]
        killed(forked, tree, "deploy", NEXT, "commit:2")
        row = ledger.champion(Lake(tree.lake.root), "tidegate")
        assert row is not None
        Endpoint(tree.endpoint).switch(row["config"])
        assert (tracking.champion(tree), champions(tree)[2]) == (challenger, champion)
        rolled_back(tree)
        assert champions(tree) == (champion,) * 3
