"""The section once every label was in: every figure first and matured, what became of the verdict, nobody's markup."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.evidence.document import Document
from jobs.evidence.judgement import Matured
from jobs.evidence.matured import section
from jobs.reevaluate import core
from tests.jobs.evidence.evidence_documents import Page, Tree, judged, written_once
from tests.jobs.evidence.evidence_documents import shown as shown_page
from tests.jobs.evidence.test_page_browser import CHROMIUM, FAINT, OUTSIDE, OVERFLOWING, browser

HOSTILE = '<script>alert("x")</script><img src=x onerror=y>\' {{ 7 * 7 }} %s'


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return written_once(tmp_path_factory.getbasetemp())


def changed(document: Tree) -> Tree:
    """The same evidence after labels that cost the challenger its gain, and told its conversions."""
    later: Tree = json.loads(json.dumps(document))
    later["value"]["difference"] |= {"value": -0.0123, "low": -0.0345, "high": 0.0099}
    later["comparison"]["auc"]["challenger"] |= {"value": 0.6111, "low": 0.5822, "high": 0.6433}
    later["estimators"]["dr"]["difference"] = {"refused": "too few decisions", "n": 3, "effective_n": 1.0}
    known = {"value": 0.0456, "stderr": 0.01, "low": 0.0211, "high": 0.0711, "n": 400, "effective_n": 200.0}
    later["conversions"]["difference"] = known
    return later


def matured(document: Tree, **changes: Any) -> Tree:
    """What `reevaluate` writes of it."""
    first, again = map(Document.model_validate, (document, changed(document)))
    told = {
        "evidence_sha256": "0" * 64,
        "day": "2026-01-17",
        "test_rows": 1234,
        "label_changes": [
            {"outcome": "clicked", "before": False, "after": True, "rows": 1017},
            {"outcome": "converted", "before": None, "after": False, "rows": 31},
        ],
        "figures": [moved.model_dump() for moved in core.moved(first, again)],
        "first_verdict": "promote",
        "matured_verdict": "hold",
        "changed": True,
        "matured_reasons": ["value: challenger - champion must be above 0 for sure"],
        "refused": None,
    }
    return Matured.model_validate(told | changes).model_dump(mode="json")


def shown(document: Tree, **changes: Any) -> str:
    text = Page(shown_page(document, judged(document), matured(document, **changes))).text
    return text[text.index("When every label was in") : text.index("What a request earns")]


def test_without_it_the_page_does_not_speak_of_it(document: Tree) -> None:
    assert "When every label was in" not in Page(shown_page(document, judged(document))).text


def test_first_and_matured_stand_side_by_side_with_what_moved_them(document: Tree) -> None:
    """Value, metrics, estimators and whatever else the document compares; refused where one was."""
    text = shown(document)
    assert "The verdict was Promote and is Hold now." in text
    assert "value: challenger - champion must be above 0 for sure" in text
    assert "At the end of 2026-01-17" in text
    assert "1,234 test impressions" in text
    assert "clicked: no → yes 1,017" in text
    assert "converted: unknown → no 31" in text
    first = document["value"]["difference"]["value"]
    assert f"Clicks per request challenger minus champion +{first:.4f} −0.0123 −{first + 0.0123:.4f}" in text
    for metric in document["comparison"].values():
        figure = metric["difference"].get("value")
        assert figure is None or abs(figure) < 1e-4 or f"{abs(figure):.4f}" in text
    doubly = document["estimators"]["dr"]["difference"]["value"]
    assert re.search(rf"Doubly robust challenger minus champion \+{doubly:.4f} refused", text)
    assert "Conversions per request challenger minus champion refused +0.0456" in text  # open at first
    assert "Clicks on the first 2 places challenger minus champion" in text
    assert "nan" not in text.lower()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"matured_verdict": "promote", "changed": False}, "The verdict stands: Promote."),
        (
            {"first_verdict": None, "changed": None},
            "Nobody had judged this evidence; with every label in the gate says",
        ),
        (
            {"matured_verdict": None, "changed": None, "refused": "no latency was found"},
            "The verdict was Promote; whether it lasts cannot be told: no latency was found.",
        ),
    ],
)
def test_what_became_of_the_verdict_is_one_sentence(document: Tree, changes: Tree, sentence: str) -> None:
    assert sentence in shown(document, **changes)


def test_labels_that_stayed_are_told_too(document: Tree) -> None:
    assert "No label changed." in shown(document, label_changes=[])


def test_each_figure_of_a_difference_is_one_line_whatever_its_group(document: Tree) -> None:
    told = matured(document)
    differences = [moved for moved in told["figures"] if moved["figure"].endswith(".difference")]
    found = section(Matured.model_validate(told)).lines
    assert len(found) == len(differences) + 2  # the value of either side
    assert [line.name for line in found[:3]] == ["Clicks per request"] * 3
    assert len({(line.name, line.note) for line in found}) == len(found)


def test_names_and_reasons_are_text(document: Tree) -> None:
    told = matured(document, matured_reasons=[HOSTILE])
    told["figures"][0]["figure"] = f"{HOSTILE}.difference"
    plain = Page(shown_page(document, judged(document), matured(document)))
    read = Page(shown_page(document, judged(document), told))
    assert {tag for tag, _ in read.tags} == {tag for tag, _ in plain.tags}
    assert HOSTILE in read.text


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")
def test_it_fits_and_is_legible_in_a_browser(document: Tree, tmp_path: Path) -> None:
    """On a desk and on a phone, light and dark: as the rest of the page, and in its colours."""
    path = tmp_path / "page.html"
    path.write_text(shown_page(document, judged(document), matured(document)))
    with browser(tmp_path / "profile") as tab:
        for width, scheme in ((1200, "light"), (390, "dark")):
            tab.show(path, width, scheme)
            assert tab.ask("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
            assert (tab.ask(OVERFLOWING), tab.ask(FAINT), tab.ask(OUTSIDE)) == ([], [], 0)
            assert tab.ask("document.querySelectorAll('.matured svg .dot').length") > 20
            assert tab.ask("getComputedStyle(document.querySelector('.matured .logging .dot')).fill") != tab.ask(
                "getComputedStyle(document.querySelector('.matured .challenger .dot')).fill"
            )


def test_what_is_not_of_the_schema_is_no_page(document: Tree) -> None:
    for change in ({"surprise": 1}, {"test_rows": None}, {"first_verdict": "maybe"}):
        with pytest.raises(ValidationError):
            shown_page(document, None, matured(document) | change)
