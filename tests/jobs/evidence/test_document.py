"""The document as a typed value: nothing is lost on the way to its text and back, and nothing unsound gets in."""

import json
import math
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from jobs.evidence import core, pack
from jobs.evidence.document import Document
from jobs.evidence.figures import Earned, Estimated, Sides, stated
from models.evaluation.estimate import Estimate, Finding, Refusal
from models.evaluation.gate import Evidence, judge
from tests.jobs.evidence.evidence_documents import Tree, complete, judged, seen_by_the_gate, troubled, written_once
from tests.jobs.evidence.evidence_documents import without_replay as bare

FINITE = st.floats(-1e9, 1e9)
ESTIMATES = st.builds(
    lambda v, r, n: Estimate(v, r, v - r, v + r, n, float(n)), FINITE, st.floats(0, 1e6), st.integers(0, 10**9)
)
FINDINGS = st.one_of(ESTIMATES, st.builds(Refusal, st.text(), st.integers(0, 10**9), st.floats(0, 1e9)))


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return written_once(tmp_path_factory.getbasetemp())


@given(FINDINGS)
def test_a_finding_comes_back_as_it_was_stated(found: Finding) -> None:
    assert stated(found).measured() == found
    tree = json.loads(json.dumps(stated(found).model_dump(mode="json")))
    assert tree == found.as_dict()
    assert type(stated(found)).model_validate(tree).measured() == found


@given(st.fixed_dictionaries(dict.fromkeys(Earned.model_fields, FINDINGS)))
def test_sides_are_kept_apart(found: dict[str, Finding]) -> None:
    assert Earned.of(found).measured() == found
    assert Sides.of(found).measured() == {side: found[side] for side in Sides.model_fields}


@pytest.mark.parametrize("shape", [lambda d: d, complete, troubled, lambda d: bare(d, "none")])
def test_text_and_value_are_the_same_whichever_way_they_go(document: Tree, shape: Any) -> None:
    """The approval hangs on the sha of the text: reading and writing again must not move a byte."""
    text = json.dumps(shape(document), sort_keys=True)
    found = pack.parsed(text, "promote")
    assert pack.text(found) == text
    assert pack.parsed(pack.text(found), "promote") == found
    assert pack.text(Document.model_validate(dict(reversed(dict(found).items())))) == text


def test_what_is_unknown_is_null_and_what_only_a_simulation_knows_is_absent(document: Tree) -> None:
    found = Document.model_validate(document).model_copy(update={"truth": None, "parity": None})
    tree = found.model_dump(mode="json")
    assert "truth" in document
    assert "truth" not in tree
    assert tree["parity"] is None


@pytest.mark.parametrize(
    "change",
    [{"value": math.nan}, {"low": 0.3}, {"high": 0.1}, {"stderr": -0.1}, {"effective_n": math.inf}, {"surprise": 1}],
)
def test_a_figure_that_is_not_sound_is_no_figure(document: Tree, change: Tree) -> None:
    """Neither a page nor a gate ever sees one: it would compare as neither above nor below a bound."""
    sound = {"value": 0.2, "stderr": 0.1, "low": 0.0, "high": 0.4, "n": 9, "effective_n": 9.0}
    assert Estimated.model_validate(sound).measured() == Estimate(**sound)
    with pytest.raises(ValidationError):
        Document.model_validate(document | {"parity": sound | change})


def test_what_either_side_is_worth_is_among_the_few_figures_that_mlflow_shows(document: Tree) -> None:
    """To be compared over weeks: two hundred columns were read by nobody."""
    found = core.figures(Document.model_validate(document))
    assert len(found) <= 24
    for side, prefix in (("champion", "champion."), ("challenger", "")):
        assert found[f"calibration_ratio.{side}"] == document["calibration"][side]["ratio"]["value"]
        assert found[f"{prefix}test.auc"] == document["comparison"]["auc"][side]["value"]
    gain = document["value"]["difference"]
    told = [found[f"value.difference{end}"] for end in ("", ".low", ".high")]
    assert told == [gain["value"], gain["low"], gain["high"]]


def test_the_gate_sees_every_figure_it_asks_for(document: Tree) -> None:
    """By an account of its own, from the JSON."""
    found = seen_by_the_gate(document)
    value = {side: Estimate(**finding) for side, finding in document["value"].items()}
    assert dict(found.value) == value
    assert found.comparison["auc"]["difference"] == Estimate(**document["comparison"]["auc"]["difference"])
    assert found.calibration == Estimate(**document["calibration"]["challenger"]["error"])
    assert found.calibration_ratio == Estimate(**document["calibration"]["challenger"]["ratio"])
    assert found.click_rate == document["calibration"]["challenger"]["observed"]
    assert found.known_share == document["test_rows"] / document["data"]["test_rows"]
    assert len(found.slices or ()) == len(document["slices"]["slices"])
    asked = {name for name, part in vars(found).items() if part is None}
    assert asked == {"latency_ms", "parity"}  # measured where the gate runs; and a full training has no other
    assert isinstance(found, Evidence)
    verdict = judge(found.with_latency(3.21), Document.model_validate(document).gate)
    told = judged(document)
    assert (told["verdict"], told["reasons"]) == (verdict.verdict, verdict.reasons)
    assert told["rules"] == [asdict(rule) for rule in verdict.rules]
