"""The funnel: each look's word, who agreed, what is pooled, and a page that says whether to trust the backtests."""

import copy
import json
from typing import Any

import numpy as np
import pytest

from jobs.experiment import funnel, page
from jobs.experiment.core import EXPERIMENT
from jobs.experiment.funnel import Candidate
from tests.jobs.evidence.evidence_documents import written_once

CONFIDENCE = 0.95


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return written_once(tmp_path_factory.getbasetemp())


def evidence(document: dict[str, Any], name: str, lift: float | None, stderr: float = 0.02) -> dict[str, Any]:
    """Of a candidate that earns so much more than logging, relatively; None: refused."""
    told = copy.deepcopy(document)
    level = told["logging"]["value"]["value"]
    if lift is None:
        told["logging"]["difference"] = {"refused": "no propensities", "n": 0, "effective_n": 0.0}
    else:
        figures = (level * of for of in (lift, stderr, lift - 1.96 * stderr, lift + 1.96 * stderr))
        told["logging"]["difference"] = {**dict(zip(("value", "stderr", "low", "high"), figures, strict=True)),
                                         "n": 100, "effective_n": 90.0}  # fmt: skip
    return {"candidate_id": name, "day": f"2026-03-{len(name):02d}", "document": json.dumps(told)}


def day(
    name: str, lift: float, stderr: float = 0.03, on: str = "2026-03-20", level: float = 0.5
) -> list[dict[str, Any]]:
    row = {"experiment": EXPERIMENT, "variant": f"{name}, {name}+fallback", "day": on, "n": 50, "effective_n": 40.0,
           "candidate_id": None, "opponent_id": None}  # fmt: skip
    return [
        {**row, "metric": "clicks_per_request", "value": lift * level, "stderr": stderr * level},
        {**row, "metric": "clicks_per_request.control", "value": level, "stderr": 0.01},
    ]


def steps(name: str, *names: str) -> list[dict[str, Any]]:
    return [{"candidate_id": name, "number": n, "step": step, "why": f"because of {n}"} for n, step in enumerate(names)]


def of(found: list[Candidate], name: str) -> Candidate:
    return next(one for one in found if one.candidate_id == name)


def test_each_look_says_what_it_would_have_decided(document: dict[str, Any]) -> None:
    judged = [("good", "hold"), ("good", "promote"), ("broken", "promote"), ("unknown", "refuse")]
    found = funnel.candidates(
        [evidence(document, "good", 0.1), evidence(document, "broken", 0.1), evidence(document, "unknown", None)],
        [{"candidate_id": name, "verdict": word, "decided_at": n}
         for n, (name, word) in enumerate(judged)],
        [*steps("good", "approved", "shadow", "canary", "canary", "live"),
         *steps("broken", "approved", "shadow", "canary", "rolled back")],
        [*day("good", 0.2), *day("broken", -0.3)],
        CONFIDENCE,
    )  # fmt: skip
    assert [one.candidate_id for one in found] == ["good", "broken", "unknown"]
    good, broken, unknown = (of(found, name) for name in ("good", "broken", "unknown"))
    assert good.said == {**dict.fromkeys(funnel.LOOKS, "yes"), "interleaving": "not run", "a_b": "not run"}
    assert good.agreed is True
    assert (broken.said["shadow"], broken.said["canary"], broken.said["online"]) == ("yes", "no", "no")
    assert broken.why["canary"] == "because of 3"
    assert good.why["shadow"] == "went on to canary: because of 2"
    assert broken.agreed is False
    assert set(unknown.said.values()) == {"no", "not run"}
    assert unknown.agreed is None


def test_days_are_pooled_by_what_they_are_worth_and_a_mixed_day_is_nobodys(document: dict[str, Any]) -> None:
    other = [{**row, "variant": "good, other"} for row in day("good", 9.0, on="2026-03-22")]
    rows = [*day("good", 0.1, 0.03), *day("good", 0.4, 0.06, on="2026-03-21", level=2.0), *other]
    [found] = funnel.candidates([evidence(document, "good", 0.1)], [], [], rows, CONFIDENCE)
    assert found.online is not None
    assert found.online.value == pytest.approx((0.1 * 4 + 0.4) / 5)
    assert found.online.stderr == pytest.approx((1 / 0.03**2 + 1 / 0.06**2) ** -0.5)


def test_the_page_says_whether_to_trust_the_backtests(document: dict[str, Any]) -> None:
    lifts = np.linspace(-0.2, 0.3, 8)
    names = [f"c{'x' * n}" for n in range(8)]
    few = funnel.candidates([evidence(document, "<b>", 0.1)], [], [], [], CONFIDENCE)
    known = funnel.candidates(
        [evidence(document, name, lift) for name, lift in zip(names, lifts, strict=True)],
        [],
        [],
        [row for name, lift in zip(names, lifts, strict=True) for row in day(name, 0.8 * lift + 0.01)],
        CONFIDENCE,
    )
    told = shown(known)
    assert "Over 8 candidates, offline estimates and online results correlate at 1.00" in told
    assert told.count("<tr>") == 9
    assert "cannot be told yet: a correlation needs 5 candidates" in shown(few)
    assert "&lt;b&gt;" in shown(few)
    assert "correlation needs" in shown([])


def ab(document: dict[str, Any], name: str, lift: float, experiment: str, on: str, **more: Any) -> list[dict[str, Any]]:
    """An A/B test of a candidate against the one that its evidence compares with: 0.2 clicks an impression."""
    row = {"experiment": experiment, "variant": "new", "control": "old", "day": on, "n": 500, "effective_n": 500.0}
    row |= {"candidate_id": name, "opponent_id": document["champion"]["candidate_id"], "closes_on": None}
    row |= {"note": "", "value": None}
    around = {end: 0.2 * (lift + side * 0.05) for end, side in (("low", -1), ("high", 1))}
    always = {end: 0.2 * (lift + side * 0.08) for end, side in (("always_low", -1), ("always_high", 1))}
    gap = {"metric": "click_rate", "value": 0.2 * lift, "stderr": 0.2 * 0.025}
    level = {"metric": "click_rate.control", "value": 0.2, "stderr": 0.01, "low": 0.18, "high": 0.22}
    word = more.get("word", "ship: click_rate rose")
    said = {"metric": "verdict", "verdict": word, "note": word.partition(": ")[2], "closes_on": "2026-04-14"}
    ratio = {"metric": "sample_ratio", "note": "users are divided as they were drawn"}
    return [{**row, **ratio}, {**row, **gap, **around, **always}, {**row, **level}, {**row, **said}]


def interleaved(name: str, low: float, high: float) -> dict[str, Any]:
    row = {"experiment": "mix", "variant": "new", "control": "old", "day": "2026-03-18", "metric": "preference"}
    figures = {
        "value": (low + high) / 2,
        "low": low,
        "high": high,
        "always_low": low - 0.01,
        "always_high": high + 0.01,
    }
    return {**row, **figures, "n": 90, "note": "", "candidate_id": name, "opponent_id": "before", "closes_on": None}


def test_tests_and_mixed_pages_are_looks_too_and_the_newest_day_counts(document: dict[str, Any]) -> None:
    """Of arms that are not as drawn nothing is said; a candidate in both arms tells nothing of itself."""
    misdrawn = "stop: arms are not as they were drawn: bots; no figure of this experiment counts"
    rows = [
        *ab(document, "good", -0.3, "ab", "2026-03-19", word="go on until 2026-03-30: click_rate is open"),
        *ab(document, "good", 0.2, "ab", "2026-03-20"),
        *ab(document, "off", 0.2, "ab2", "2026-03-20", word=misdrawn),
        *ab(document, "bad", -0.2, "ab3", "2026-03-20", word="stop: click_rate fell"),
        *[{**row, "opponent_id": "same"} for row in ab(document, "same", 0.2, "ab4", "2026-03-20")],
        interleaved("good", 0.05, 0.2), interleaved("bad", -0.2, -0.1), interleaved("off", -0.1, 0.1),
    ]  # fmt: skip
    names = ("good", "off", "bad", "same")
    found = funnel.candidates([evidence(document, name, 0.1) for name in names], [], [], rows, CONFIDENCE)
    told = {name: of(found, name) for name in names}
    assert {name: one.said["a_b"] for name, one in told.items()} == dict(
        zip(names, ("yes", "unsure", "no", "not run"), strict=True)
    )
    assert {name: one.said["interleaving"] for name, one in told.items()} == dict(
        zip(names, ("yes", "unsure", "no", "not run"), strict=True)
    )
    assert told["bad"].agreed is False  # the estimate said yes
    assert told["good"].why["a_b"] == f"ab, over {document['champion']['candidate_id']}: ship: click_rate rose"
    offline, lift = told["good"].against or (None, None)
    assert offline is not None
    assert lift is not None
    assert (lift.value, lift.stderr) == pytest.approx((0.2, 0.025))
    assert told["same"].against is None
    page_of = shown(found, rows)
    assert "A/B tests against the same opponent cannot be told yet: a correlation needs 5 candidates" in page_of
    assert "The last label of what was shown so far closes on 2026-04-14." in page_of
    assert "+20.0% (+15.0% to +25.0%)" in page_of
    assert "go on until" not in page_of
    assert "preference, new over old" in page_of


def shown(known: list[Candidate], readouts: Any = ()) -> str:
    """The page."""
    both = funnel.trusted(known, CONFIDENCE), funnel.trusted_ab(known, CONFIDENCE)
    return page.html(known, *both, funnel.read_last(readouts))


def test_evidence_of_another_schema_has_no_figure(document: dict[str, Any]) -> None:
    old = {**evidence(document, "old", 0.1), "document": '{"schema_version": 1}'}
    [found] = funnel.candidates([old], [], [], [], CONFIDENCE)
    assert found.offline is None
