"""The ledger of looks: each evidence spends its own part of one risk, once, in whatever order and however often."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.backtest import job as backtest
from jobs.backtest import looks
from jobs.config import Config
from jobs.errors import NotReady, Refused
from jobs.lake.run import Mode
from jobs.lake.store import Lake
from jobs.lake.tables import LAKE
from jobs.promote import job as promote
from tests.jobs.small_candidates import linear, popularity, publish_candidates
from tests.jobs.small_lake import DAY, World, a_run, publish, publish_all, settings

NOON = datetime(2026, 2, 1, 12, tzinfo=UTC)
ALPHA = 1 - 0.95
MODES: tuple[Mode, Mode] = ("full", "warm")


@pytest.fixture
def config(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Empty but for a ledger that is to be kept: two looks are expected, within fourteen days."""
    return settings(tmp_path, tmp_path_factory.getbasetemp(), gate__bootstrap_replicates="50")


@pytest.fixture
def lake(config: Config) -> Config:
    """Both modes of a day are trained; the challenger of either is better."""
    for mode in MODES:
        publish_all(config, World(), mode=mode, n=150, train_days=1)
        publish_candidates(config, {"popularity": popularity(), "logistic": linear(1.0)}, "logistic", mode=mode)
    return config


def clock(patch: pytest.MonkeyPatch, at: datetime) -> None:
    patch.setattr(looks, "now", lambda: at)


def ledger(config: Config) -> list[dict[str, Any]]:
    return sorted(Lake(config.lake.root).read("looks").to_pylist(), key=lambda row: int(row["number"]))


def evidence(config: Config, mode: Mode = "full", day: date = DAY) -> dict[str, Any]:
    [row] = Lake(config.lake.root).read("evidence", [day], where={"mode": mode}).to_pylist()
    return {**json.loads(row["document"]), "sha256": row["document_sha256"]}


def judge(config: Config, number: int, verdict: str, mode: Mode = "full", day: date = DAY, sha: str = "e") -> None:
    """What `promote` leaves of an evidence."""
    row = {
        **{"candidate_id": "c", "champion_id": "p", "bundle": "/b", "bundle_sha256": "b", "evidence_sha256": sha},
        **{"look": number, "verdict": verdict, "reasons": [], "decided_at": NOON},
    }
    publish(config, "promotions", pa.Table.from_pylist([row], LAKE["promotions"].schema), day=str(day), mode=mode)


def began(config: Config, day: date, mode: Mode = "full", bundle: str = "b") -> Any:
    return looks.begun(a_run("backtest", config, day, mode=mode), bundle)


# -- how much ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("order", [MODES, MODES[::-1]])
def test_both_modes_of_a_day_spend_from_one_risk_in_any_order(lake: Config, order: tuple[Mode, Mode]) -> None:
    """The second knows of the first though nobody has judged it yet, and says so; each is told at its own interval."""
    for mode in order:
        backtest.run(a_run("backtest", lake, mode=mode))
    for mode in order:
        assert promote.run(a_run("promote", lake, mode=mode))["verdict"] == "promote"
    first, second = (evidence(lake, mode) for mode in order)
    assert [look["risk"] for look in ledger(lake)] == pytest.approx([ALPHA / 3] * 2)
    assert first["risk"]["looks"] == []
    assert [(look["mode"], look["verdict"]) for look in second["risk"]["looks"]] == [(order[0], None)]
    third = began(lake, DAY + timedelta(days=1))
    assert [(look.number, look.mode, look.verdict) for look in third.looks] == [
        (1, order[0], "promote"),
        (2, order[1], "promote"),
    ]
    assert (third.spent, third.risk) == pytest.approx((2 * ALPHA / 3, ALPHA / 6))


def test_the_value_is_told_at_what_its_look_may_spend(lake: Config) -> None:
    """The wider interval stands in the document, and every other interval as it was."""
    backtest.run(a_run("backtest", lake))
    first = evidence(lake)
    for n in range(1, 4):
        began(lake, DAY - timedelta(days=n))
    publish_candidates(lake, {"popularity": popularity(), "logistic": linear(1.0)}, "logistic", mode="warm")
    backtest.run(a_run("backtest", lake, mode="warm"))
    later = evidence(lake, "warm")
    assert later["risk"]["risk"] < first["risk"]["risk"]
    for part in (lambda found: found["value"], lambda found: found["estimators"]["sndr"]):
        narrow, wide = part(first), part(later)
        assert wide["difference"]["value"] == narrow["difference"]["value"]
        assert wide["difference"]["low"] < narrow["difference"]["low"]
        assert wide["champion"] == narrow["champion"]
    assert later["comparison"] == first["comparison"]
    assert later["gate"] == first["gate"], "the settings are the same, whatever a look may spend"


def test_a_refusal_spends_nothing_and_an_evidence_nobody_judged_does(config: Config) -> None:
    """Somebody may still judge that, and would at the risk it was told for."""
    refused, open_, next_ = (DAY + timedelta(days=n) for n in range(3))
    began(config, refused)
    judge(config, 1, "refuse", day=refused)
    began(config, open_)
    third = began(config, next_)
    assert [(look.verdict, look.candidate_id) for look in third.looks] == [("refuse", "c"), (None, None)]
    assert third.spent == pytest.approx(ALPHA / 3)


def test_what_was_spent_longer_ago_than_the_window_is_free_again(config: Config, monkeypatch: Any) -> None:
    """By the wall clock: a backfill of fourteen days on one evening is fourteen looks of that evening."""
    clock(monkeypatch, NOON)
    for n in range(14):
        found = began(config, DAY + timedelta(days=n))
    assert len(found.looks) == 13
    clock(monkeypatch, NOON + timedelta(days=14) - timedelta(seconds=1))
    assert len(began(config, DAY + timedelta(days=20)).looks) == 14
    clock(monkeypatch, NOON + timedelta(days=14))
    assert len(began(config, DAY + timedelta(days=21)).looks) == 1
    assert [row["number"] for row in ledger(config)] == list(range(1, 17)), "the ledger keeps them all"


def test_a_clock_that_was_set_back_hides_no_look(config: Config, monkeypatch: Any) -> None:
    clock(monkeypatch, NOON)
    began(config, DAY)
    clock(monkeypatch, NOON - timedelta(days=365))
    assert len(began(config, DAY + timedelta(days=1)).looks) == 1
    assert {row["at"] for row in ledger(config)} == {NOON}


def test_a_risk_that_is_all_spent_is_one_sentence(config: Config) -> None:
    """Somebody raised the confidence: what was spent before is more than there is now."""
    began(config, DAY)
    strict = config.model_copy(update={"gate": config.gate.model_copy(update={"confidence": 0.999})})
    with pytest.raises(Refused, match=r"some risk left of 0\.001; found 0\.0166667 spent by 1 looks; each leaves"):
        began(strict, DAY + timedelta(days=1))


def test_endpoints_have_ledgers_of_their_own(config: Config) -> None:
    began(config, DAY)
    other = config.model_copy(update={"endpoint": config.endpoint.model_copy(update={"name": "other"})})
    found = began(other, DAY + timedelta(days=1))
    assert (found.look, found.looks) == (1, [])


# -- exactly once --------------------------------------------------------------------------------------------------
def test_a_run_that_died_after_its_look_began_goes_on_with_it(lake: Config, monkeypatch: Any) -> None:
    """Nothing was judged: the look is still to be used, whatever happened between."""
    with monkeypatch.context() as patch:
        patch.setattr(backtest, "_deliver", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            backtest.run(a_run("backtest", lake))
    [died] = ledger(lake)
    backtest.run(a_run("backtest", lake))
    assert ledger(lake) == [died]
    assert evidence(lake)["risk"]["look"] == 1


def test_the_same_evidence_judged_again_is_the_same_look(lake: Config) -> None:
    """A cleared task, days of other looks later: same document, same verdict, nothing spent."""
    backtest.run(a_run("backtest", lake))
    promote.run(a_run("promote", lake))
    first = evidence(lake)
    began(lake, DAY + timedelta(days=1))
    before = ledger(lake)
    backtest.run(a_run("backtest", lake))
    promote.run(a_run("promote", lake))
    assert evidence(lake) == first
    assert ledger(lake) == before


def test_another_evidence_of_a_day_that_was_judged_is_another_look(lake: Config) -> None:
    """Other test rows, or another challenger: a new chance to be wrong; the one before stays with its verdict."""
    backtest.run(a_run("backtest", lake))
    promote.run(a_run("promote", lake))
    first = evidence(lake)
    publish_all(lake, World(seed=3), n=150, train_days=1)
    backtest.run(a_run("backtest", lake))
    second = evidence(lake)
    promote.run(a_run("promote", lake))
    publish_candidates(lake, {"popularity": popularity(), "logistic": linear(0.9)}, "logistic")
    backtest.run(a_run("backtest", lake))
    assert [evidence(lake)["risk"]["look"], second["risk"]["look"], first["risk"]["look"]] == [3, 2, 1]
    kept = [(row["number"], row["verdict"], row["evidence_sha256"]) for row in ledger(lake)]
    promoted = Lake(lake.lake.root).read("promotions", [DAY]).to_pylist()[0]
    assert kept == [(1, "promote", first["sha256"]), (2, promoted["verdict"], second["sha256"]), (3, None, None)]


def test_evidence_that_was_not_judged_is_replaced_within_its_look(lake: Config) -> None:
    """Trained again before anybody looked."""
    backtest.run(a_run("backtest", lake))
    publish_candidates(lake, {"popularity": popularity(), "logistic": linear(0.9)}, "logistic")
    backtest.run(a_run("backtest", lake))
    assert [row["number"] for row in ledger(lake)] == [1]


def test_other_settings_of_the_risk_are_another_look(config: Config) -> None:
    """What the standing evidence says it shares would not be so."""
    publish_all(config, World(), n=150, train_days=1)
    publish_candidates(config, {"popularity": popularity(), "logistic": linear(1.0)}, "logistic")
    backtest.run(a_run("backtest", config))
    other = config.model_copy(update={"gate": config.gate.model_copy(update={"risk_days": 7})})
    backtest.run(a_run("backtest", other))
    assert (evidence(config)["risk"]["look"], evidence(config)["risk"]["days"]) == (2, 7)


def test_of_two_at_a_time_one_starts_over(lake: Config) -> None:
    """Full and warm at the same moment: else both would spend the same risk."""
    slow = a_run("backtest", lake, mode="warm")
    looks.begun(slow, "b")
    began(lake, DAY - timedelta(days=1))
    held = a_run("backtest", lake)
    began(lake, DAY - timedelta(days=2))
    with pytest.raises(NotReady, match="another writer committed first"):
        looks.begun(held, "b")
    assert [row["number"] for row in ledger(lake)] == [1, 2, 3]


# -- what promote refuses ------------------------------------------------------------------------------------------
def test_a_look_that_judged_another_evidence_judges_no_second(lake: Config) -> None:
    """The evidence was replaced while `promote` judged the one before."""
    backtest.run(a_run("backtest", lake))
    judge(lake, 1, "hold", sha="of the one before")
    with pytest.raises(Refused, match="look 1 must judge one evidence; it has judged of the one b: run backtest again"):
        promote.run(a_run("promote", lake))
    backtest.run(a_run("backtest", lake))
    promote.run(a_run("promote", lake))
    assert [row["verdict"] for row in ledger(lake)] == ["hold", None]


def test_what_was_refused_is_not_promoted_under_other_settings(lake: Config) -> None:
    """Its risk was given back, and others may have spent it since: it needs a new look."""
    strict = lake.model_copy(update={"gate": lake.gate.model_copy(update={"min_test_rows": 10**6})})
    backtest.run(a_run("backtest", strict))
    assert promote.run(a_run("promote", strict))["verdict"] == "refuse"
    with pytest.raises(Refused, match=r"was refused, so look 1 spends no risk; .* promote: run backtest again"):
        promote.run(a_run("promote", lake))
    backtest.run(a_run("backtest", lake))
    assert promote.run(a_run("promote", lake))["verdict"] == "promote"
    assert [(row["risk"], row["verdict"]) for row in ledger(lake)] == [
        (pytest.approx(ALPHA / 3), "refuse"),
        (pytest.approx(ALPHA / 3), None),
    ]
