"""What a further outcome is judged by: right on hand-made rows, refused where nothing can be told; and its gate."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.evaluation.comparison import compare
from models.evaluation.estimate import Estimate, Finding, Refusal
from models.evaluation.gate import judge
from models.evaluation.outcomes import compare_outcome, ratio
from models.evaluation.rules import Outcome
from models.settings import OUTCOME_METRICS, GateSettings
from tests.models.evaluation.test_gate import evidence, interval

SETTINGS = GateSettings()
USERS = np.arange(8)
CAME = np.array([0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0])
GOOD, BAD = np.linspace(0.1, 0.8, 8), np.linspace(0.8, 0.1, 8)
SECONDS = np.array([0.0, 0.0, 0.0, 4.0, 1.0, 10.0, 20.0, 5.0])


def value(found: Finding) -> float:
    assert isinstance(found, Estimate), found
    return found.value


def test_a_binary_outcome_is_judged_as_a_click_is() -> None:
    """The same figures, intervals and differences to the last bit."""
    found = compare_outcome("binary", CAME, {"champion": BAD, "challenger": GOOD}, USERS, SETTINGS)
    clicks = compare(CAME, BAD, GOOD, USERS, USERS, SETTINGS, ["auc", "log_loss"])
    assert found == clicks
    assert value(found["auc"]["challenger"]) == pytest.approx(15 / 16)


def test_a_value_is_judged_by_order_and_by_distance() -> None:
    """Above the median (2.5) are four rows; the mean of all explains nothing of the variance, the truth all of it."""
    mean = np.full(8, SECONDS.mean())
    found = compare_outcome("value", SECONDS, {"champion": mean, "challenger": SECONDS}, USERS, SETTINGS)
    assert value(found["auc_upper_half"]["champion"]) == 0.5
    assert value(found["auc_upper_half"]["challenger"]) == 1.0
    assert value(found["normalised_squared_error"]["champion"]) == pytest.approx(1.0)
    assert value(found["normalised_squared_error"]["difference"]) == pytest.approx(-1.0)


def test_the_interval_of_an_error_holds_it_as_often_as_it_says() -> None:
    """By simulation: both the error and the variance it is measured by are of the same rows."""
    rng, held, draws = np.random.default_rng(0), 0, 400
    for _ in range(draws):
        mean = rng.gamma(2.0, 1.0, 300)
        came, said = mean * rng.gamma(2.0, 0.5, 300), 0.8 * mean
        # Of mean: E 2, E² 6; of came given it: variance mean² / 2.
        truth = (6.0 / 2 + 0.04 * 6.0) / (6.0 / 2 + 2.0)
        found = compare_outcome("value", came, {"champion": said, "challenger": said}, np.arange(300), SETTINGS)
        one = found["normalised_squared_error"]["challenger"]
        assert isinstance(one, Estimate)
        held += one.low <= truth <= one.high
    assert held / draws > 0.88


def test_a_ratio_is_what_was_said_over_what_came() -> None:
    """1.0 where the level is right; nothing to divide by is a refusal."""
    assert value(ratio(SECONDS, 2 * SECONDS, USERS, SETTINGS)) == 2.0
    assert isinstance(ratio(np.zeros(8), SECONDS, USERS, SETTINGS), Refusal)


@pytest.mark.parametrize(
    ("kind", "came", "champion", "reason"),
    [
        ("binary", CAME, None, "the champion does not predict it"),
        ("binary", CAME, GOOD + 1, "the champion predicts what is no probability"),
        ("value", SECONDS, -GOOD, "the champion predicts what is no value from 0 up"),
        ("binary", np.ones(8), GOOD, "needs rows of both kinds; found 8 of 8"),
        ("value", np.zeros(8), GOOD, "needs rows of both kinds; found 0 of 8"),
    ],
)
def test_what_cannot_be_told_is_refused_with_the_reason(kind: Any, came: Any, champion: Any, reason: str) -> None:
    """The difference too; the other side keeps its figure where the rows carry one."""
    found = compare_outcome(kind, came, {"champion": champion, "challenger": GOOD}, USERS, SETTINGS)
    for metric in OUTCOME_METRICS[kind]:
        for side in ("champion", "difference"):
            refused = found[metric][side]
            assert isinstance(refused, Refusal)
            assert reason in refused.reason
        assert isinstance(found[metric]["challenger"], Refusal) is ("both kinds" in reason)


BETTER, WORSE, NONE = interval(0.01, 0.03), interval(-0.03, -0.01), Refusal("none")


@pytest.mark.parametrize(
    ("asked", "champion", "challenger", "difference", "outcome"),
    [
        ({"must_rise": ("like.auc",)}, BETTER, BETTER, BETTER, "pass"),
        ({"must_rise": ("like.auc",)}, BETTER, BETTER, WORSE, "hold"),
        ({"must_rise": ("like.log_loss",)}, BETTER, BETTER, WORSE, "pass"),
        ({"must_rise": ("like.log_loss",)}, BETTER, BETTER, BETTER, "hold"),
        ({"must_rise": ("like.auc",)}, NONE, BETTER, NONE, "unknown"),
        ({"must_rise": ("like.auc",)}, BETTER, NONE, NONE, "refuse"),
        ({"must_rise": ("like.auc",)}, NONE, NONE, NONE, "refuse"),
        ({"outcomes_must_not_fall": {"like.auc": 0.02}}, BETTER, BETTER, WORSE, "hold"),
        ({"outcomes_must_not_fall": {"like.auc": 0.05}}, BETTER, BETTER, WORSE, "pass"),
        ({"outcomes_must_not_fall": {"like.normalised_squared_error": 0.02}}, BETTER, BETTER, BETTER, "hold"),
        ({"outcomes_must_not_fall": {"like.auc": 0.02}}, NONE, BETTER, NONE, "unknown"),
        ({"outcomes_must_not_fall": {"like.auc": 0.02}}, NONE, NONE, NONE, "unknown"),
        ({"outcomes_must_not_fall": {"like.auc": 0.02}}, BETTER, NONE, NONE, "refuse"),
    ],
)
def test_a_rule_may_name_a_metric_of_a_further_outcome(
    asked: dict[str, Any], champion: Finding, challenger: Finding, difference: Finding, outcome: Outcome
) -> None:
    """By its direction; a challenger that forgot what the champion can do is refused, one that learned it is not."""
    name = next(iter(asked.get("must_rise") or asked["outcomes_must_not_fall"]))
    found = evidence()
    sides = {"champion": champion, "challenger": challenger, "difference": difference}
    verdict = judge(replace(found, comparison={**found.comparison, name: sides}), GateSettings(**asked))
    [rule] = [rule for rule in verdict.rules if rule.name.startswith("like.")]
    assert rule.outcome == outcome
    assert (verdict.verdict == "promote") is (outcome in ("pass", "unknown"))


def test_a_metric_nobody_has_is_refused_by_the_gate() -> None:
    """A rule for an outcome of which the document says nothing must not pass in silence."""
    verdict = judge(evidence(), GateSettings(outcomes_must_not_fall={"like.auc": 0.01}))
    assert [rule.outcome for rule in verdict.rules if rule.name == "like.auc"] == ["refuse"]
