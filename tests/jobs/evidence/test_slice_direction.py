"""Slices in a metric that is better when lower: computed, judged and drawn as what they are."""

import copy
import re

import numpy as np
import pytest

from jobs.evidence import page
from jobs.evidence.detail import sliced
from jobs.evidence.document import Document
from jobs.evidence.scored import Scored
from models.evaluation.gate import Evidence, SliceFinding, judge
from models.settings import GateSettings
from tests.jobs.evidence.evidence_documents import Tree, troubled, written_once


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return troubled(written_once(tmp_path_factory.getbasetemp()))


def mirrored(document: Tree) -> Tree:
    """The same gains and losses told in log-loss: every difference the other way round."""
    turned = copy.deepcopy(document)
    turned["slices"]["metric"] = "log_loss"
    for part in turned["slices"]["slices"]:
        found = part["difference"]
        if "value" in found:
            found |= {"value": -found["value"], "low": -found["high"], "high": -found["low"]}
    return turned


def places(chart: str | None) -> list[float]:
    """Where everything stands in a row, in percent of its width, from left to right; how wide what is shaded is."""
    return sorted(float(x) for x in re.findall(r'([\d.]+)%"', chart or ""))


def test_a_slice_is_drawn_and_flagged_the_same_whichever_way_its_metric_is_better(document: Tree) -> None:
    """Better is on the right, what is not allowed is shaded on the left, the worst comes first."""
    rows = [page.slice_rows(Document.model_validate(tree)) for tree in (document, mirrored(document))]
    assert any(row.flag == "worse than allowed" for row in rows[0])
    for one, other in zip(*rows, strict=True):
        assert (one.name, one.flag, one.note) == (other.name, other.flag, other.note)
        assert places(one.chart) == pytest.approx(places(other.chart), abs=0.02)


@pytest.mark.parametrize("metric", ["auc", "log_loss", "normalised_entropy", "ndcg_at_10"])
@pytest.mark.parametrize("hurt", [False, True])
def test_a_challenger_that_spoils_one_slice_is_held_in_every_metric(metric: str, hurt: bool) -> None:
    """From rows to the rule: on one device it says the opposite of what people want, elsewhere it is the champion."""
    rng = np.random.default_rng(0)
    n = 6_000
    p = rng.beta(1, 4, n)
    tv = np.arange(n) // 6 % 4 == 0
    sides = {"champion": p, "challenger": np.where(tv & hurt, 1 - p, p)}
    rows = Scored(
        clicked=(rng.random(n) < p).astype(float), users=np.arange(n) // 12, requests=np.arange(n) // 6,
        as_shown=sides, as_first=sides, p_conversion={},
        attributes={"device": np.where(tv, "tv", "phone").astype(object)},
    )  # fmt: skip
    settings = GateSettings(slice_metric=metric)
    slices = sliced(rows, settings).slices
    assert [part.value for part in slices] == ["phone", "tv"]
    parts = tuple(SliceFinding(part.attribute, part.value, part.difference.measured()) for part in slices)
    (rule,) = (r for r in judge(Evidence({}, {}, n, slices=parts), settings).rules if r.name == "slices")
    assert rule.outcome == ("hold" if hurt else "pass")
    assert ("device=tv" in rule.reason) == hurt
