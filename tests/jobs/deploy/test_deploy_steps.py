"""A release by steps against a real endpoint: shadow, canary, live; and what an alarm, silence and a kill make of it.

The limits are loose, so that a dozen answers decide: what the strict ones find is counted in `test_sequential`.
"""

import json
import signal
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from jobs import bundle
from jobs.config import Config, ReleaseSettings
from jobs.deploy import job as deploy
from jobs.deploy import traffic, watch
from jobs.deployments import ledger
from jobs.deployments.release import endpoint_name, of_step
from jobs.errors import NotReady, Refused
from jobs.lake.store import Lake
from jobs.serving import sagemaker
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
from tests.jobs.small_lake import a_run

pytestmark = pytest.mark.timeout(600)

LIMITS = {f"{end}_{what}": share for what in ("failed", "fallback", "slow") for end, share in
          (("tolerated", 0.2), ("alarming", 0.7))}  # fmt: skip
BY_STEPS = {"shadow_percent": 50.0, "canary_percent": (20.0, 60.0), "watch_seconds": 0, "slow_ms": 5000, **LIMITS}
"""Some nine good answers pass a step; four bad ones fail it."""


def by_steps(tree: Config, **changes: Any) -> Config:
    return tree.model_copy(update={"release": ReleaseSettings(**{**BY_STEPS, **changes})})


def step(tree: Config, name: str | None = None) -> dict[str, Any]:
    """`deploy` as far as a step."""
    run = a_run("deploy", tree, NEXT)
    run.approval, run.step = yes(tree, NEXT), name
    return deploy.run(run)


def watched(tree: Config, name: str | None = None) -> dict[str, Any]:
    run = a_run("deploy", tree, NEXT)
    run.step = name
    return watch.run(run)


class People:
    """Ask, as anybody would: each request of another user."""

    def __init__(self, tree: Config) -> None:
        keys = {"region_name": "eu-central-1", "aws_access_key_id": "local", "aws_secret_access_key": "local"}
        self.client = boto3.client("sagemaker-runtime", endpoint_url=tree.endpoint.url, **keys)
        self.asked = 0

    def ask(self, n: int) -> Counter[str]:
        """Who answered, by the bundle's name."""
        found: Counter[str] = Counter()
        for _ in range(n):
            self.asked += 1
            body = {"request_id": f"p{self.asked}", "user_id": f"p{self.asked}", "surface": "home", "k": 2}
            said = self.client.invoke_endpoint(EndpointName="tidegate", Body=json.dumps(body))
            found[json.loads(said["Body"].read())["bundle_version"]] += 1
        return found


def ledger_of(tree: Config) -> list[dict[str, Any]]:
    return ledger.steps(Lake(tree.lake.root), "tidegate")


def test_shadow_canary_canary_live(world: Config) -> None:
    """Each share is what people meet, each step waits for what was seen of the last one, and each is safe to repeat."""
    with serving(by_steps(world)) as tree:
        deployed(tree)  # nothing serves: there is no traffic to share, and the ledger says it is live
        first, second = champions(tree)[0], verdict(tree, NEXT)["candidate_id"]
        people = People(tree)
        for _ in range(2):
            step(tree, "shadow")
            assert steps(tree)[2:] == [(second, "approved"), (second, "shadow")]
        assert people.ask(1) == {first: 1}
        for early in (lambda: step(tree, "canary-20"), lambda: step(tree), lambda: watched(tree, "shadow")):
            with pytest.raises(
                NotReady, match=f"{second} as shadow must be watched on; inconclusive .* answers 0 failed"
            ):
                early()
        assert people.ask(60) == {first: 60}, "a shadow is shown to nobody"
        assert watched(tree, "shadow")["found"] == "passed"
        for _ in range(2):
            step(tree, "canary-20")
            assert steps(tree)[4:] == [(second, "canary")]
        met = people.ask(120)
        assert 10 <= met[second] <= 40
        assert champions(tree)[:2] == (first, first), "most people's model is the champion still"
        assert watched(tree, "canary-20")["step"] == "canary-20"
        step(tree, "canary-60")
        met = people.ask(60)
        assert 24 <= met[second] <= 48
        assert watched(tree, "shadow")["step"] == "canary-60", "a step that is behind is not watched again"
        assert step(tree)["approved_by"] == "alice"
        assert people.ask(20) == {second: 20}
        assert champions(tree) == (second,) * 3
        assert [(row["step"], row["share"]) for row in ledger_of(tree)[2:]] == [
            *(("approved", 0), ("shadow", 0), ("canary", 20), ("canary", 60), ("live", 100))
        ]
        for again in ("shadow", "canary-20", "canary-60", "live"):
            step(tree, again)
            assert watched(tree, again)["found"] is None
        assert len(steps(tree)) == 7
        assert rolled_back(tree)["serves"] == first
        with pytest.raises(Refused, match=f"{second} was rolled back: bob went back"):
            watched(tree, "canary-60")


def test_an_alarm_goes_back_and_so_does_silence_once_patience_is_over(
    world: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ranker that begins to raise: popularity answers, nobody goes without, and it is gone at the next look."""
    with serving(by_steps(world, shadow_percent=0.0)) as tree:
        deployed(tree)
        first, second = champions(tree)[0], verdict(tree, NEXT)["candidate_id"]
        people = People(tree)
        step(tree, "canary-20")
        ranker = bundle.load(Path(verdict(tree, NEXT)["bundle"])).ranker
        kind, sick = type(ranker), ranker.to_files()
        predict = kind.predict

        def raises(self: Any, features: Any) -> Any:
            if self.to_files() == sick:
                raise RuntimeError("out of cheese")
            return predict(self, features)

        monkeypatch.setattr(kind, "predict", raises)
        assert sum(people.ask(60).values()) == 60
        with pytest.raises(
            Refused, match=r"canary-20 of .* was rolled back: of \d+ answers \d+ failed .*alarming: failed"
        ):
            watched(tree, "canary-20")
        monkeypatch.undo()
        assert people.ask(20) == {first: 20}
        assert champions(tree) == (first,) * 3
        assert steps(tree)[2:] == [(second, "approved"), (second, "canary"), (second, "rolled back")]
        with pytest.raises(Refused, match="was rolled back: of"):
            watched(tree)

        step(tree, "canary-20")
        with pytest.raises(NotReady, match=r"inconclusive after \d+ s: of 0 answers"):
            watched(tree)
        impatient = by_steps(tree, shadow_percent=0.0, patience_seconds=0)
        with pytest.raises(Refused, match="as canary-20; inconclusive after"):
            step(impatient)  # whoever looks first, the task that watches or the one that would go on
        assert champions(tree) == (first,) * 3


def test_answers_that_the_judged_bundle_would_not_give_go_back(world: Config) -> None:
    """What was served is answered again offline: alike it passes and says so; one number in a hundred off goes back."""
    with serving(by_steps(world, shadow_percent=0.0)) as tree:
        deployed(tree)
        first, second = champions(tree)[0], verdict(tree, NEXT)
        step(tree, "canary-20")
        met = People(tree).ask(100)[second["candidate_id"]]
        assert f"replayed offline {met} of {met} answers: 0 differ, 0 in their items" in watched(tree)["why"]
        for path in (tree.endpoint.state / "capture").glob("date=*/*.jsonl"):
            lines = [json.loads(text) for text in path.read_text().splitlines()]
            for line in lines:
                if line["response"]["bundle_sha256"] == second["bundle_sha256"]:
                    line["response"]["items"][0]["p_click"] += 0.25
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        with pytest.raises(
            Refused, match=rf"must serve what was judged; replayed .*: {met} differ, .* by 0\.25 at most"
        ):
            watched(tree)
        assert champions(tree) == (first,) * 3


def test_no_step_passes_before_its_time(world: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(by_steps(world, shadow_percent=0.0, watch_seconds=600)) as tree:
        deployed(tree)
        step(tree, "canary-20")
        People(tree).ask(100)
        with pytest.raises(NotReady, match=r"inconclusive .*; watched for 600 s at least"):
            step(tree)
        at = ledger_of(tree)[-1]["at"]
        monkeypatch.setattr(watch, "now", lambda: at + timedelta(seconds=601))
        step(tree, "canary-60")
        assert steps(tree)[-1] == (verdict(tree, NEXT)["candidate_id"], "canary")


def test_some_users_stay_with_the_old_model_until_it_is_taken_back_or_the_next_one_comes(world: Config) -> None:
    """The same ones each time they come; a deploy that is cleared leaves them, and the ledger's live row says it."""
    with serving(by_steps(world, shadow_percent=0.0, canary_percent=(), holdout_percent=20.0)) as tree:
        deployed(tree)
        first, second = champions(tree)[0], verdict(tree, NEXT)["candidate_id"]
        assert ledger_of(tree)[-1]["share"] == 100, "nothing was before it"
        people, met = People(tree), []
        for _ in range(2):
            step(tree)
            people.asked = 0
            met.append([people.ask(1)[first] for _ in range(60)])
        assert met[0] == met[1]
        assert 4 <= sum(met[0]) <= 24
        live = ledger_of(tree)[-1]
        assert (live["step"], live["share"], champions(tree)[:2]) == ("live", 80, (second, second))
        assert len(ledger_of(tree)) == 4
        assert Endpoint(tree.endpoint).serving() in traffic.configs(ledger_of(tree))
        assert rolled_back(tree)["serves"] == first
        assert people.ask(20) == {first: 20}
        assert champions(tree) == (first,) * 3


def test_a_person_ends_a_canary_and_the_next_release_has_other_users(world: Config) -> None:
    """The same users would else be the canary every time."""
    with serving(by_steps(world, shadow_percent=0.0)) as tree:
        deployed(tree)
        first, second = champions(tree)[0], verdict(tree, NEXT)["candidate_id"]
        people, met = People(tree), []
        for _ in range(2):
            step(tree, "canary-20")
            people.asked = 0
            met.append([people.ask(1)[second] for _ in range(100)])
            assert rolled_back(tree)["serves"] == first
            assert people.ask(10) == {first: 10}
        assert met[0] != met[1]


def test_an_endpoint_that_somebody_changed_is_no_watch(world: Config) -> None:
    """Nothing can be said of a canary that is not there: it waits, and goes back when patience is over."""
    with serving(by_steps(world, shadow_percent=0.0)) as tree:
        deployed(tree)
        config = Endpoint(tree.endpoint).serving()
        step(tree, "canary-20")
        Endpoint(tree.endpoint).switch(str(config))
        with pytest.raises(NotReady, match=f"error after .* must serve .*-canary-3; found {config}"):
            watched(tree)


MOMENTS = {
    "send:15": "the canary's config is there, the endpoint's is the champion's",
    "send:17": "the endpoint is being switched, and the canary has no share",
    "commit:2": "it has its share, and the ledger does not say so",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_in_a_step_a_rerun_takes_it_and_a_person_can_go_back(world: Config, moment: str, forked: Forked) -> None:
    with serving(by_steps(world, shadow_percent=0.0)) as tree:
        deployed(tree)
        first, second = champions(tree)[0], verdict(tree, NEXT)["candidate_id"]
        shares = json.dumps(tree.release.model_dump(mode="json"))
        home = str(tree.lake.root.parent)
        told = {"TIDEGATE__RELEASE": shares, "KILL_AT": moment, "KILL_BELOW": home}
        status = forked(tree, "deploy", NEXT, yes(tree, NEXT), **told)
        assert status == -signal.SIGKILL, Path(home, "stage.log").read_text()[-3000:]
        assert People(tree).ask(40).keys() <= {first, second}
        assert champions(tree)[0] == first
        step(tree, "canary-20")
        assert steps(tree)[2:] == [(second, "approved"), (second, "canary")]
        assert rolled_back(tree)["serves"] == first
        assert champions(tree) == (first,) * 3


def test_a_config_of_that_name_with_other_models_is_refused(world: Config) -> None:
    """A ledger that was lost begins its numbers anew; the endpoint remembers the names."""
    with serving(by_steps(world, shadow_percent=0.0)) as tree:
        deployed(tree)
        champion = of_step(ledger_of(tree)[-1])
        row = verdict(tree, NEXT)
        canary = endpoint_name(row["candidate_id"], f"{row['bundle_sha256'][:12]}-canary-3")
        endpoint = sagemaker.Endpoint(tree.endpoint)
        endpoint._config(canary, ProductionVariants=[endpoint._variant(champion, champion.config, 1.0)])
        with pytest.raises(Refused, match=f"endpoint config {canary} must have the ProductionVariants .*; it has"):
            step(tree, "canary-20")
        assert champions(tree) == (champion.candidate_id,) * 3
        step(tree, "canary-20")  # another release, another name
