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
    row = {"experiment": EXPERIMENT, "variant": f"{name}, {name}+fallback", "day": on, "n": 50, "effective_n": 40.0}
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
    assert good.said == {**dict.fromkeys(funnel.LOOKS, "yes"), "interleaving": "not run"}
    assert good.agreed is True
    assert (broken.said["shadow"], broken.said["canary"], broken.said["online"]) == ("yes", "no", "no")
    assert broken.why["canary"] == "because of 3"
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
    told = page.html(known, funnel.trusted(known, CONFIDENCE))
    assert "Over 8 candidates, offline estimates and online results correlate at 1.00" in told
    assert told.count("<tr>") == 9
    assert "cannot be told yet: a correlation needs 5 candidates" in page.html(few, funnel.trusted(few, CONFIDENCE))
    assert "&lt;b&gt;" in page.html(few, funnel.trusted(few, CONFIDENCE))
    assert "correlation needs" in page.html([], funnel.trusted([], CONFIDENCE))


def test_evidence_of_another_schema_has_no_figure(document: dict[str, Any]) -> None:
    old = {**evidence(document, "old", 0.1), "document": '{"schema_version": 1}'}
    [found] = funnel.candidates([old], [], [], [], CONFIDENCE)
    assert found.offline is None
