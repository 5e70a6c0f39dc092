"""The gate: what promotes, what holds, what refuses, and that nothing else ever promotes."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.estimate import Estimate, Finding, Refusal
from models.evaluation.gate import Evidence, SliceFinding, Verdict, judge
from models.evaluation.rules import Rule
from models.settings import GateSettings, Margins

GATE = GateSettings()
EVERY_METRIC = GateSettings(
    must_not_fall=Margins(auc_pr=0.01, normalised_entropy=0.01, mrr_at_10=0.01, map_at_10=0.01, recall_at_1=0.01),
    must_rise=("auc", "log_loss"),
    estimators=("dr",),
)


def interval(low: float, high: float) -> Estimate:
    return Estimate((low + high) / 2, (high - low) / 4, low, high, 5000, 3000.0)


GAIN, LOWER_LOSS, NO_LOWER = interval(0.001, 0.01), interval(-0.01, 0.001), interval(-0.004, 0.02)


def sides(difference: Finding | None) -> dict[str, Finding]:
    found: dict[str, Finding] = {"champion": interval(0.1, 0.2), "challenger": interval(0.1, 0.2)}
    return found if difference is None else {**found, "difference": difference}


def evidence(
    value: Finding | None = GAIN,
    log_loss: Finding | None = LOWER_LOSS,
    auc: Finding | None = NO_LOWER,
    ndcg: Finding | None = NO_LOWER,
) -> Evidence:
    comparison = {"auc": sides(auc), "log_loss": sides(log_loss), "ndcg_at_10": sides(ndcg)}
    return Evidence(
        comparison,
        sides(value),
        test_rows=5000,
        held_out_hours={"champion": 12.0, "challenger": 0.001},
        conversions=sides(interval(-0.05, 0.02)),
        known_share=1.0,
        logging=interval(0.1, 0.2),
        against_logging=GAIN,
        replayed_share=1.0,
        calibration_ratio=interval(0.98, 1.05),
        calibration=interval(0.0, 0.01),
        click_rate=0.1,
        slices=(SliceFinding("device", "ios", interval(-0.1, 0.1)), SliceFinding("device", "tv", Refusal("one class"))),
        concentration_rise=interval(0.2, 0.3),
        skew=0.0,
        latency_ms=3.0,
    )


def test_a_challenger_that_clears_every_rule_is_promoted_and_each_rule_says_so() -> None:
    """The person who approves reads these sentences."""
    verdict = judge(evidence(), GATE)
    assert verdict.verdict == "promote"
    names = ["test_rows", "label_maturity", "held_out", "different_model", "replayed_share", "value", "logging"]
    names += ["conversions", "auc", "log_loss", "ndcg_at_10"]
    names += ["calibration_ratio", "calibration", "slices", "simpson", "popularity_bias", "skew", "latency_ms"]
    assert [rule.name for rule in verdict.rules] == names
    assert {rule.outcome for rule in verdict.rules} == {"pass"}
    assert all(rule.reason for rule in verdict.rules)
    assert len(verdict.reasons) == len(names)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("value", evidence(value=interval(-0.001, 0.02))),
        ("value", evidence(value=interval(-0.02, -0.01))),
        ("log_loss", evidence(log_loss=interval(-0.01, 0.0021))),
        ("auc", evidence(auc=interval(-0.0051, 0.02))),
        ("ndcg_at_10", evidence(ndcg=interval(-0.0051, 0.02))),
    ],
)
def test_one_bound_that_does_not_clear_holds_and_is_named(name: str, change: Evidence) -> None:
    """Overlapping intervals, a loss hidden behind gains elsewhere: hold, with that rule as the only reason."""
    verdict = judge(change, GATE)
    assert verdict.verdict == "hold"
    assert [rule.name for rule in verdict.rules if rule.outcome == "hold"] == [name]
    assert len(verdict.reasons) == 1
    assert verdict.reasons[0].startswith(name)


@pytest.mark.parametrize(
    ("name", "outcome", "change"),
    [
        ("label_maturity", "refuse", {"known_share": 0.89}),
        ("held_out", "refuse", {"held_out_hours": {"champion": 12.0, "challenger": -0.001}}),
        ("held_out", "refuse", {"held_out_hours": {"champion": 0.0, "challenger": 12.0}}),
        ("replayed_share", "refuse", {"replayed_share": 0.79}),
        ("logging", "hold", {"against_logging": interval(-0.0031, 0.01)}),
        ("conversions", "hold", {"conversions": sides(interval(-0.05, -0.0151))}),
        ("calibration_ratio", "hold", {"calibration_ratio": interval(1.1, 1.21)}),
        ("calibration", "hold", {"calibration": interval(0.0, 0.031)}),
        ("slices", "hold", {"slices": (SliceFinding("device", "ios", interval(-0.2, -0.051)),)}),
        ("simpson", "hold", {"reversals": ("device",)}),
        ("popularity_bias", "hold", {"concentration_rise": interval(0.4, 0.51)}),
        ("skew", "refuse", {"skew": 0.002}),
        ("latency_ms", "hold", {"latency_ms": 50.1}),
        ("warm_parity", "hold", {"mode": "warm", "parity": interval(-0.01, 0.0021)}),
    ],
)
def test_every_further_rule_can_stand_in_the_way_alone(name: str, outcome: str, change: dict[str, object]) -> None:
    """Each limit of the settings, broken by a little, and nothing else."""
    verdict = judge(replace(evidence(), **change), GATE)  # type: ignore[arg-type]
    assert verdict.verdict == outcome
    assert [rule.name for rule in verdict.rules if rule.outcome != "pass"] == [name]


@pytest.mark.parametrize(
    "missing",
    [
        "known_share",
        "replayed_share",
        "logging",
        "against_logging",
        "calibration_ratio",
        "calibration",
        "click_rate",
        "slices",
        "concentration_rise",
        "skew",
        "latency_ms",
    ],
)
def test_a_rule_that_is_asked_and_finds_no_figure_refuses(missing: str) -> None:
    """Evidence of an older schema, or a part that was not computed, must not read as a pass."""
    assert judge(replace(evidence(), **{missing: None}), GATE).verdict == "refuse"  # type: ignore[arg-type]


@pytest.mark.parametrize("missing", ["held_out_hours", "conversions"])
def test_an_empty_part_is_missing_too(missing: str) -> None:
    """Nobody looked when the models had learned, or at conversions: that is no pass."""
    verdict = judge(replace(evidence(), **{missing: {}}), GATE)  # type: ignore[arg-type]
    assert [rule.name for rule in verdict.rules if rule.outcome == "refuse"] == [missing.removesuffix("_hours")]
    spoilt = replace(evidence(), held_out_hours={"champion": math.nan, "challenger": 12.0})
    assert judge(spoilt, GATE).verdict == "refuse"


def test_what_is_not_known_yet_stands_in_nobodys_way_and_says_why() -> None:
    """A guardrail on labels that are open for days: neither a pass nor a hold; `reevaluate` asks again."""
    open_ = dict.fromkeys(("champion", "challenger", "difference"), Refusal("the last closes at the end of Friday"))
    verdict = judge(replace(evidence(), conversions=open_), GATE)
    assert verdict.verdict == "promote"
    assert [rule for rule in verdict.rules if rule.outcome != "pass"] == [
        Rule("conversions", None, None, "unknown", "the last closes at the end of Friday")
    ]
    assert "conversions: the last closes at the end of Friday" in verdict.reasons
    assert judge(replace(evidence(value=NO_LOWER), conversions=open_), GATE).verdict == "hold"


@pytest.mark.parametrize("missing", ["known_share", "replayed_share", "skew", "latency_ms"])
def test_a_nan_limit_figure_refuses(missing: str) -> None:
    """NaN is neither above nor below a limit."""
    assert judge(replace(evidence(), **{missing: math.nan}), GATE).verdict == "refuse"  # type: ignore[arg-type]


def test_a_warm_start_without_a_full_training_to_hold_it_against_is_refused() -> None:
    """Warm starts drift: each looks like yesterday's, none like the model a week of data would give."""
    verdict = judge(replace(evidence(), mode="warm"), GATE)
    assert [rule.name for rule in verdict.rules if rule.outcome == "refuse"] == ["warm_parity"]


def test_a_rule_that_is_not_asked_is_not_judged() -> None:
    """None switches a rule off, by name; nothing else does."""
    names = (
        "min_known_share",
        "min_replayed_share",
        "max_loss_to_logging",
        "max_conversion_drop",
        "max_calibration_ratio",
        "max_calibration_error",
        "max_slice_drop",
        "max_concentration_rise",
        "max_skew",
    )
    quiet = GATE.model_copy(update=dict.fromkeys((*names, "max_latency_ms")))
    bare = Evidence(evidence().comparison, evidence().value, 5000, held_out_hours={"challenger": 1.0})
    verdict = judge(bare, quiet)
    assert verdict.verdict == "promote"
    assert len(verdict.rules) == 7
    assert judge(bare, GATE).verdict == "refuse"


def test_metrics_and_estimators_that_the_settings_name_are_asked() -> None:
    """A margin on a further metric, a metric that must rise, a second estimator's bound: each is a rule of its own."""
    better, lower = interval(0.001, 0.02), interval(-0.02, -0.001)
    comparison = {
        metric: sides(lower if metric in ("log_loss", "normalised_entropy") else better)
        for metric in Margins.model_fields
    }
    found = replace(evidence(), comparison=comparison, estimators={"dr": sides(GAIN)})
    verdict = judge(found, EVERY_METRIC)
    assert verdict.verdict == "promote", verdict.reasons
    assert {"auc.rises", "log_loss.rises", "value.dr", "recall_at_1"} <= {rule.name for rule in verdict.rules}
    flat = {**comparison, "log_loss": sides(interval(-0.01, 0.0005))}
    assert judge(replace(found, comparison=flat), EVERY_METRIC).verdict == "hold"
    assert judge(replace(found, estimators={"dr": sides(interval(-0.001, 0.02))}), EVERY_METRIC).verdict == "hold"
    assert judge(replace(found, estimators={}), EVERY_METRIC).verdict == "refuse"


def test_no_rules_is_no_verdict() -> None:
    """An empty policy promotes nothing."""
    assert Verdict.of([]).verdict == "refuse"
    assert Verdict.of([Rule("a", None, None, "unknown", "")]).verdict == "refuse", "nor one without an answer"
    assert Verdict.of([Rule("a", None, None, "pass", "")]).verdict == "promote"


def test_a_tie_holds() -> None:
    """An identical challenger differs by exactly nothing: equal to the bound is not above it."""
    tie = interval(0, 0)
    assert judge(evidence(tie, tie, tie, tie), GATE).verdict == "hold"


def test_the_champion_is_not_promoted_over_itself() -> None:
    """Even with evidence that would promote it."""
    verdict = judge(replace(evidence(), same_candidate=True), GATE)
    assert verdict.verdict == "hold"
    assert "champion itself" in verdict.reasons[0]


@pytest.mark.parametrize("name", ["value", "log_loss", "auc", "ndcg"])
@pytest.mark.parametrize("found", [None, Refusal("12 of 12 decisions have no propensity", 12)])
def test_missing_and_refused_figures_refuse(name: str, found: Finding | None) -> None:
    """No evidence is not weak evidence: refuse, whatever the other rules say, with the reason passed on."""
    verdict = judge(evidence(**{name: found}), GATE)
    assert verdict.verdict == "refuse"
    assert len(verdict.reasons) == 1
    assert ("12 of 12" if found else "no such figure") in verdict.reasons[0]


def test_no_metrics_at_all_refuse() -> None:
    """An empty evidence pack."""
    assert judge(Evidence({}, {}, 0), GATE).verdict == "refuse"


def test_too_few_rows_refuse() -> None:
    """A nearly empty test day proves nothing."""
    assert judge(replace(evidence(), test_rows=999), GATE).verdict == "refuse"
    assert judge(replace(evidence(), test_rows=1000), GATE).verdict == "promote"


def test_refuse_outweighs_hold() -> None:
    """A challenger that looks worse on evidence that cannot be trusted is refused, not held."""
    verdict = judge(evidence(value=Refusal("too few"), auc=interval(-0.2, -0.1)), GATE)
    assert verdict.verdict == "refuse"
    assert verdict.reasons == ["value: too few"]


@pytest.mark.parametrize("name", ["value", "log_loss", "auc", "ndcg"])
@pytest.mark.parametrize("figure", ["value", "low", "high"])
def test_nan_never_promotes(name: str, figure: str) -> None:
    """Every comparison with NaN is false: a rule written the wrong way round would wave it through."""
    spoilt = interval(0.001, 0.0015)
    object.__setattr__(spoilt, figure, math.nan)  # an Estimate refuses NaN; a later one might not
    assert judge(evidence(**{name: spoilt}), GATE).verdict == "refuse"


BOUNDS = st.tuples(st.floats(-0.02, 0.02), st.floats(-0.02, 0.02)).map(sorted)


@given(value=BOUNDS, log_loss=BOUNDS, auc=BOUNDS, ndcg=BOUNDS, rows=st.integers(0, 3000), same=st.booleans())
@settings(deadline=None, max_examples=300)
def test_it_promotes_exactly_when_every_bound_clears(
    value: list[float], log_loss: list[float], auc: list[float], ndcg: list[float], rows: int, same: bool
) -> None:
    """The whole policy in one line: no combination of good and bad news adds up to a promotion."""
    found = evidence(*(interval(*bounds) for bounds in (value, log_loss, auc, ndcg)))
    verdict = judge(replace(found, test_rows=rows, same_candidate=same), GATE).verdict
    point = value[0] > 0 and value[1] - value[0] <= 1e-9 * value[0]
    gains = value[0] > 0 and sum(value) / 2 >= GATE.min_lift * 0.15
    clears = gains and log_loss[1] <= 0.002 and auc[0] >= -0.005 and ndcg[0] >= -0.005 and not same
    assert verdict == ("refuse" if rows < 1000 or (point and not same) else "promote" if clears else "hold")
