"""`deploy` against a real endpoint: train, backtest and promote on a small lake, then what may and may not go live."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from mlflow import MlflowClient

from jobs import bundle, tracking
from jobs.backtest import job as backtest
from jobs.config import Config
from jobs.deploy import reject, rollback
from jobs.deployments import ledger
from jobs.errors import NotReady, Refused
from jobs.lake.run import Approval
from jobs.lake.store import Lake
from jobs.lake.tables import LAKE
from jobs.promote import job as promote
from jobs.serving.sagemaker import Endpoint
from tests.jobs.deploy.deploy_world import (
    NEXT,
    champions,
    deployed,
    judge,
    noes,
    rolled_back,
    serving,
    steps,
    verdict,
    yes,
)
from tests.jobs.small_lake import DAY, a_run, publish


def rewritten(tree: Config, **changes: Any) -> None:
    """The verdict of the first day says something else."""
    row = {name: {**verdict(tree), **changes}[name] for name in LAKE["promotions"].columns}
    publish(tree, "promotions", pa.Table.from_pylist([row], LAKE["promotions"].schema), day=str(DAY), mode="full")


def test_from_verdict_to_traffic(world: Config) -> None:
    """Approved, in service, champion and on record; run again nothing changes; the next day updates the endpoint."""
    with serving(world) as tree:
        first, second = verdict(tree), verdict(tree, NEXT)
        deployed(tree)  # the endpoint lost its state: what the ledger says serves is put back
        assert champions(tree) == (first["candidate_id"],) * 3
        assert len(steps(tree)) == 2
        report = deployed(tree, NEXT)
        name = second["candidate_id"]
        assert report.pop("tell") == f"{name}, approved by alice, is at live (it is better)"
        assert report == {
            "endpoint": "tidegate",
            "variant": second["candidate_id"],
            "bundle_sha256": second["bundle_sha256"],
            "approved_by": "alice",
        }
        assert champions(tree) == (second["candidate_id"],) * 3
        assert Endpoint(tree.endpoint).serving() == f"{second['candidate_id']}-{second['bundle_sha256'][:12]}"
        found = ledger.steps(Lake(tree.lake.root), "tidegate")
        before = f"{first['candidate_id']}-{first['bundle_sha256'][:12]}"
        assert [(row["step"], row["before"], row["by"], row["why"]) for row in found] == [
            *[(step, None, "alice", "it is better") for step in ("approved", "live")],
            *[(step, before, "alice", "it is better") for step in ("approved", "live")],
        ]
        assert {row["evidence_sha256"] for row in found[2:]} == {second["evidence_sha256"]}
        versions = len(Lake(tree.lake.root).history("deployments"))
        again = deployed(tree, NEXT, yes(tree, NEXT, by="bob"))
        assert again == report, "the deployment on record is the one that happened"
        assert len(Lake(tree.lake.root).history("deployments")) == versions
        tracking.move_champion(tree, first["candidate_id"])
        [[told]] = deployed(tree, NEXT)["alarmed"].values()
        assert told == (f"MLflow's alias names {first['candidate_id']}, moved by hand: {name} is champion, and serves")
        assert champions(tree) == (name,) * 3
        assert len(Lake(tree.lake.root).history("deployments")) == versions


def test_without_a_yes_nothing_moves(waiting: Config) -> None:
    """No person, no deployment; the ledger stays empty."""
    with serving(waiting) as tree:
        for nobody in (Approval(), yes(tree, by=""), yes(tree, by="  ")):
            with pytest.raises(Refused, match="a person's yes"):
                deployed(tree, approval=nobody)
        assert champions(tree) == (None, None, None)
        assert steps(tree) == []
        [no] = noes(tree)
        assert (no["step"], no["by"], no["evidence_sha256"]) == ("refused", "", verdict(tree)["evidence_sha256"])


def test_a_hold_is_never_deployed_whoever_asks(waiting: Config) -> None:
    """The gate's word binds the person too, and a yes from before it changed; the reasons are in the refusal."""
    said = yes(waiting)
    rewritten(waiting, verdict="hold", reasons=["lift may be nil"])
    with serving(waiting) as tree, pytest.raises(Refused, match="has hold: lift may be nil"):
        deployed(tree, approval=said)


def test_a_tampered_bundle_is_refused(waiting: Config, tmp_path: Path) -> None:
    """One byte more in the ranker after the verdict, and nothing is deployed."""
    row = verdict(waiting)
    copy = tmp_path / "bundles" / row["candidate_id"]
    shutil.copytree(row["bundle"], copy)
    victim = next(p for p in (copy / "ranker").iterdir())
    victim.write_bytes(victim.read_bytes() + b" ")
    rewritten(waiting, bundle=str(copy))
    with serving(waiting) as tree:
        with pytest.raises(Refused, match="unchanged; differing"):
            deployed(tree)
        assert champions(tree) == (None, None, None)


# -- what a yes is bound to ----------------------------------------------------------------------------------------
def test_of_two_questions_open_the_first_answered_makes_the_second_stale(waiting: Config) -> None:
    """An older day's model, compared with a stand-in, once replaced the newer one in 46 seconds."""
    with serving(waiting) as tree:
        older, newer = yes(tree, DAY), yes(tree, NEXT)
        deployed(tree, NEXT, newer)
        name = verdict(tree, NEXT)["candidate_id"]
        sentence = f"a stand-in, since no model was live; {name} .* serves now: run backtest and promote again"
        with pytest.raises(Refused, match=sentence):
            deployed(tree, DAY, older)
        with pytest.raises(Refused, match="run backtest again"):
            promote.run(a_run("promote", tree, DAY))
        assert champions(tree) == (name,) * 3
        backtest.run(a_run("backtest", tree, DAY))  # what the sentence says
        report = promote.run(a_run("promote", tree, DAY))
        assert report["verdict"] == "refuse"
        assert any(reason.startswith("held_out") for reason in report["reasons"]), "the newer learned its test day"
        with pytest.raises(Refused, match="needs the verdict promote"):
            deployed(tree, DAY)
        assert champions(tree) == (name,) * 3


def test_evidence_computed_again_needs_a_yes_again(waiting: Config) -> None:
    """The gate says promote both times, and that is not what the person read."""
    said = yes(waiting)
    gate = waiting.gate.model_copy(update={"bootstrap_replicates": 60})
    backtest.run(a_run("backtest", waiting.model_copy(update={"gate": gate})))
    with serving(waiting) as tree:
        with pytest.raises(Refused, match=r"needs the evidence its verdict rests on .* run promote again"):
            deployed(tree, approval=said)
        promote.run(a_run("promote", tree))
        with pytest.raises(Refused, match="read the newest evidence"):
            deployed(tree, approval=said)
        for name in ("evidence_sha256", "bundle_sha256", "champion_sha256"):
            with pytest.raises(Refused, match="found none"):
                deployed(tree, approval=replace(yes(tree), **{name: ""}))
        assert champions(tree) == (None, None, None)
        deployed(tree)


def test_an_endpoint_that_somebody_switched_is_not_overwritten(world: Config) -> None:
    """The ledger says one thing and the endpoint another: what the challenger would replace was never compared."""
    with serving(world) as tree:
        deployed(tree)
        champion = champions(tree)[0]
        endpoint = Endpoint(tree.endpoint)
        own = replace(_release(tree, DAY), candidate_id="made by hand")
        endpoint.prepare(own)
        endpoint.switch(own.config)
        with pytest.raises(Refused, match=f"must serve {champion}.* it serves made-by-hand-.* deploy {champion} again"):
            deployed(tree, NEXT)
        assert endpoint.serving() == own.config
        assert len(steps(tree)) == 2
        deployed(tree)
        assert champions(tree) == (champion,) * 3
        deployed(tree, NEXT)


def test_a_first_model_takes_no_endpoint_that_is_anothers(waiting: Config) -> None:
    """A team's own model behind that name: nobody said that it may go."""
    with serving(waiting) as tree:
        own = replace(_release(tree, DAY), candidate_id="made by hand")
        Endpoint(tree.endpoint).prepare(own)
        Endpoint(tree.endpoint).switch(own.config)
        with pytest.raises(Refused, match=r"must serve nothing, .* delete that endpoint, or name another"):
            deployed(tree)
        assert Endpoint(tree.endpoint).serving() == own.config


def _release(tree: Config, day: Any) -> Any:
    from jobs.deployments.release import approved

    evidence = Lake(tree.lake.root).read("evidence").to_pylist()
    return approved(verdict(tree, day), evidence, yes(tree, day))


def test_a_dead_champion_does_not_stand_in_the_way(world: Config) -> None:
    """The endpoint is gone altogether: the next model, judged against what the ledger says, can still go live."""
    with serving(world) as tree:
        assert Endpoint(tree.endpoint).serving() is None
        deployed(tree, NEXT)
        assert champions(tree) == (verdict(tree, NEXT)["candidate_id"],) * 3


# -- what fails on the way -----------------------------------------------------------------------------------------
def test_an_endpoint_that_is_down_is_not_ready(waiting: Config) -> None:
    """Retry later; nobody's approval is recorded for something that could not start."""
    dead = waiting.model_copy(update={"endpoint": waiting.endpoint.model_copy(update={"url": "http://127.0.0.1:9"})})
    with pytest.raises(NotReady, match=re.escape("the endpoint at http://127.0.0.1:9 must answer")):
        deployed(dead)
    assert steps(dead) == []


def test_a_failure_after_the_switch_puts_the_champion_back(world: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoint, alias and ledger as before, and the ledger says what was tried; then it can be tried again."""
    with serving(world) as tree:
        deployed(tree)
        champion, challenger = champions(tree)[0], verdict(tree, NEXT)["candidate_id"]

        def broken(*_: Any) -> None:
            raise NotReady("MLflow must answer")

        monkeypatch.setattr(tracking, "move_champion", broken)
        with pytest.raises(NotReady, match="MLflow must answer"):
            deployed(tree, NEXT)
        monkeypatch.undo()
        assert champions(tree) == (champion,) * 3
        assert steps(tree)[2:] == [(challenger, "approved"), (challenger, "rolled back")]
        assert ledger.steps(Lake(tree.lake.root), "tidegate")[-1]["why"] == "MLflow must answer"
        deployed(tree, NEXT)
        assert champions(tree) == (challenger,) * 3


def test_a_first_model_that_fails_late_leaves_no_alias(waiting: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The alias once stayed on a model whose endpoint had been deleted."""
    append = ledger.append

    def full(run: Any, known: Any, *new: Any) -> Any:
        if new[0]["step"] == "live":
            raise OSError("No space left on device")
        return append(run, known, *new)

    with serving(waiting) as tree:
        monkeypatch.setattr(ledger, "append", full)
        with pytest.raises(OSError, match="No space left"):
            deployed(tree)
        assert champions(tree) == (None, None, None)
        assert [step for _, step in steps(tree)] == ["approved", "rolled back"]
        monkeypatch.undo()
        deployed(tree)
        assert champions(tree) == (verdict(tree)["candidate_id"],) * 3


def test_a_bundle_that_only_falls_back_fails_its_smoke_test(waiting: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers while it is brought up and raises afterwards: not deployed, and no endpoint is left behind."""
    answered: list[int] = []
    ranker = type(bundle.load(Path(verdict(waiting)["bundle"])).ranker)
    predict = ranker.predict

    def once(self: Any, features: Any) -> Any:
        answered.append(1)
        if len(answered) > 1:
            raise RuntimeError("out of cheese")
        return predict(self, features)

    with serving(waiting) as tree:
        monkeypatch.setattr(ranker, "predict", once)
        with pytest.raises(Refused, match="not with the fallback"):
            deployed(tree)
        assert champions(tree) == (None, None, None)


def test_one_release_at_a_time(world: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one's must end first; its own deploy goes on with it, rollback ends it."""
    with serving(world) as tree:
        deployed(tree)
        champion, challenger = champions(tree)[0], verdict(tree, NEXT)["candidate_id"]
        monkeypatch.setattr(Endpoint, "smoke", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            deployed(tree, NEXT)
        monkeypatch.undo()
        with pytest.raises(NotReady, match=f"{challenger}, approved by alice at .* rollback --day {NEXT} --mode full"):
            deployed(tree)
        report = rolled_back(tree)
        assert report["serves"] == champion
        assert report["tell"].startswith(f"the release of {challenger} was ended by bob, who gave no reason; ")
        assert champions(tree) == (champion,) * 3
        last = all_rows(tree)[-1]
        assert (last["candidate_id"], last["step"], last["by"]) == (challenger, "rolled back", "bob")
        deployed(tree)


def test_what_another_run_has_gone_on_with_is_left_to_it(world: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that was taken for dead lives on beside its retry, and fails: the retry's model stays."""
    answer = Endpoint.smoke

    def overtaken(self: Endpoint, release: Any) -> None:
        monkeypatch.setattr(Endpoint, "smoke", answer)
        deployed(tree, NEXT)
        raise Refused("too late to matter")

    with serving(world) as tree:
        deployed(tree)
        challenger = verdict(tree, NEXT)["candidate_id"]
        monkeypatch.setattr(Endpoint, "smoke", overtaken)
        with pytest.raises(Refused, match="too late to matter") as caught:
            deployed(tree, NEXT)
        assert "another run has gone on with it" in caught.value.__notes__[0]
        assert champions(tree) == (challenger,) * 3
        assert steps(tree)[2:] == [(challenger, "approved"), (challenger, "live")]


def test_a_release_that_may_no_longer_go_on_goes_back(world: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the switch, and judged to hold since: it must not stay where the kill left it."""
    with serving(world) as tree:
        deployed(tree)
        champion, said = champions(tree)[0], yes(tree, NEXT)
        monkeypatch.setattr(Endpoint, "smoke", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            deployed(tree, NEXT)
        monkeypatch.undo()
        gate = tree.gate.model_copy(update={"min_lift": 1e9})
        assert promote.run(a_run("promote", tree.model_copy(update={"gate": gate}), NEXT))["verdict"] == "hold"
        with pytest.raises(Refused, match="has hold"):
            deployed(tree, NEXT, said)
        assert champions(tree) == (champion,) * 3
        assert "has hold" in ledger.steps(Lake(tree.lake.root), "tidegate")[-1]["why"]


# -- a no ----------------------------------------------------------------------------------------------------------
def rejected(tree: Config, day: Any = NEXT, **said: str) -> dict[str, Any]:
    approval = replace(yes(tree, day, by="bob"), **{"why": "too many cats", **said})
    return reject.run(replace(a_run("deploy", tree, day), approval=approval))


def tags(tree: Config, row: dict[str, Any]) -> dict[str, str]:
    """Of MLflow's version of a bundle."""
    client = MlflowClient(tracking_uri=tree.tracking.uri, registry_uri=tree.tracking.uri)
    [found] = client.search_model_versions(f"tags.bundle_sha256 = '{row['bundle_sha256']}'")
    return dict(found.tags)


def test_a_persons_no_is_on_record_and_changes_nothing(world: Config) -> None:
    """Who, why and of what; a no in the middle of a release ends nothing, and the same candidate may be approved."""
    with serving(world) as tree:
        deployed(tree)
        before, row = champions(tree), verdict(tree, NEXT)
        for _ in range(2):
            report = rejected(tree)
            assert report["tell"] == f"{row['candidate_id']} was rejected by bob: too many cats"
        [no] = noes(tree)
        assert {name: no[name] for name in ("step", "by", "why", "candidate_id")} == {
            **{"step": "rejected", "by": "bob", "why": "too many cats", "candidate_id": row["candidate_id"]}
        }
        assert (no["bundle_sha256"], no["evidence_sha256"]) == (row["bundle_sha256"], row["evidence_sha256"])
        assert tags(tree, row)["rejected"] == "bob: too many cats"
        assert champions(tree) == before
        with pytest.raises(Refused, match=r"bob said no to .* with evidence dddddddddddd"):
            rejected(tree, evidence_sha256="d" * 64)
        with pytest.raises(Refused, match="needs who says no"):
            rejected(tree, by=" ")
        deployed(tree, NEXT)
        rejected(tree, why="still too many")
        assert champions(tree) == (row["candidate_id"],) * 3
        assert rolled_back(tree)["serves"] == before[0]


def test_only_named_approvers_say_yes(world: Config) -> None:
    """Another name is refused, on record, and ends nobody's release; where none is named everybody's counts."""
    with serving(world) as tree:
        named = tree.model_copy(update={"release": tree.release.model_copy(update={"approvers": ("alice", "carol")})})
        deployed(named)
        row = verdict(tree, NEXT)
        with pytest.raises(Refused, match=r"one of release\.approvers, alice, carol; found mallory"):
            deployed(named, NEXT, yes(tree, NEXT, by="mallory"))
        [no] = noes(tree)
        assert (no["step"], no["by"], no["bundle_sha256"]) == ("refused", "mallory", row["bundle_sha256"])
        assert tags(tree, row)["refused"].startswith("mallory: a yes must come")
        begun = ledger.append(a_run("deploy", tree, NEXT), all_rows(tree), _release(tree, NEXT).step("approved", None))
        with pytest.raises(Refused, match="found mallory"):
            deployed(named, NEXT, yes(tree, NEXT, by="mallory"))
        assert ledger.under_way(all_rows(tree)) == begun[-1]
        deployed(named, NEXT, yes(tree, NEXT, by="carol"))
        assert champions(tree) == (row["candidate_id"],) * 3


def all_rows(tree: Config) -> list[dict[str, Any]]:
    return ledger.steps(Lake(tree.lake.root), "tidegate")


# -- and back ------------------------------------------------------------------------------------------------------
def test_a_way_back_makes_the_one_before_champion_for_everybody(world: Config) -> None:
    """Endpoint, alias and ledger; a second time it changes nothing, and the next challenger is judged against it."""
    with serving(world) as tree:
        deployed(tree)
        first, second = champions(tree)[0], verdict(tree, NEXT)["candidate_id"]
        deployed(tree, NEXT)
        tell = f"{second} was rolled back by bob, who gave no reason; {first} serves again"
        for told in ({"tell": tell}, {}):
            assert rolled_back(tree) == {"endpoint": "tidegate", "serves": first, "approved_by": "bob", **told}
            assert champions(tree) == (first,) * 3
            assert steps(tree)[4:] == [(second, "rolled back"), (first, "live")]
        with pytest.raises(Refused, match="it is the first"):
            rolled_back(tree, DAY)
        judge(tree, NEXT)
        [row] = Lake(tree.lake.root).read("evidence", where={"day": str(NEXT), "mode": "full"}).to_pylist()
        assert json.loads(row["document"])["champion"]["candidate_id"] == first
        deployed(tree, NEXT)
        assert champions(tree) == (second,) * 3


def test_who_names_no_day_takes_the_newest_release_back_once(world: Config) -> None:
    """Twice is once: a second call must not take the one before back too; with nothing to take back it says so."""

    def newest() -> Any:
        return rollback.newest(Lake(tree.lake.root), "tidegate")

    with serving(world) as tree:
        assert rollback.newest(Lake(tree.lake.root), "elsewhere") == "nothing to roll back: no release was ever begun"
        deployed(tree)
        first, second = champions(tree)[0], verdict(tree, NEXT)["candidate_id"]
        assert newest() == f"nothing to roll back: nothing served before {first}"
        deployed(tree, NEXT)
        assert newest()["day"] == str(NEXT)
        rolled_back(tree)
        rejected(tree)
        assert newest() == f"nothing to roll back: {second}, the newest release, has left already; {first} serves"
        ledger.append(a_run("deploy", tree, NEXT), all_rows(tree), _release(tree, NEXT).step("approved", None))
        assert newest()["step"] == "approved"


def test_a_candidate_of_an_earlier_day_goes_live_on_what_was_found_since(waiting: Config) -> None:
    """It stood for a second day: the yes, the ledger and the way back are of the evidence's day."""
    with serving(waiting) as tree:
        tree = tree.model_copy(update={"gate": tree.gate.model_copy(update={"days": 2})})
        rewritten(tree, verdict="hold")
        first = verdict(tree)["candidate_id"]
        report = judge(tree, NEXT)
        assert report["candidate_id"] == verdict(tree, NEXT)["candidate_id"] == first
        deployed(tree, NEXT)
        assert champions(tree) == (first,) * 3
        [step] = {(row["day"], row["evidence_sha256"]) for row in ledger.steps(Lake(tree.lake.root), "tidegate")}
        assert step == (str(NEXT), report["evidence_sha256"])
        with pytest.raises(Refused, match="it is the first"):
            rolled_back(tree, NEXT)


def test_only_what_serves_can_be_taken_back_and_only_by_somebody(world: Config) -> None:
    with serving(world) as tree:
        with pytest.raises(Refused, match=r"found .* of 2026-01-08, full"):
            rolled_back(tree)
        with pytest.raises(Refused, match="rollback needs a person's yes"):
            rolled_back(tree, by=" ")


def test_a_way_back_to_a_model_that_does_not_answer_is_not_taken(
    world: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(world) as tree:
        deployed(tree)
        deployed(tree, NEXT)
        second = champions(tree)[0]
        monkeypatch.setattr(Endpoint, "smoke", lambda *_: (_ for _ in ()).throw(Refused("it falls back")))
        with pytest.raises(Refused, match="it falls back"):
            rolled_back(tree)
        assert champions(tree) == (second,) * 3
        assert len(steps(tree)) == 4
