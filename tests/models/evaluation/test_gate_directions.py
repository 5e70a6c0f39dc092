"""Every rule of the gate with figures that are better when higher and with those that are better when lower."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from pydantic import ValidationError

from models.evaluation.comparison import LOWER_IS_BETTER, figure_of
from models.evaluation.estimate import Estimate, Finding, Refusal
from models.evaluation.gate import Evidence, SliceFinding, judge
from models.evaluation.rules import Rule
from models.evaluation.slices import Slice, reversals
from models.settings import GateSettings, Margins

METRICS = tuple(Margins.model_fields)
SLICED = (*METRICS, "ndcg_at_5", "hit_rate_at_1")
MARGIN = 0.02
CLICK_RATE = 0.04
SETTINGS = GateSettings(
    must_not_fall=Margins(**dict.fromkeys(METRICS, MARGIN)),
    must_rise=METRICS,
    estimators=("dr", "sndr", "pages"),
    max_conversion_drop=MARGIN,
    max_slice_drop=MARGIN,
    max_warm_loss=MARGIN,
    max_calibration_ratio=1.25,
    max_calibration_error=MARGIN,
    max_concentration_rise=MARGIN,
)


def around(value: float, reach: float = 0.001) -> Estimate:
    return Estimate(value, reach / 2, value - reach, value + reach, 5_000, 3_000.0)


def gained(metric: str, gain: float, reach: float = 0.001) -> Estimate:
    """Challenger minus champion for a challenger that is better by `gain`."""
    return around(-gain if metric in LOWER_IS_BETTER else gain, reach)


def sides(difference: Finding) -> dict[str, Finding]:
    return {"champion": around(0.5), "challenger": around(0.5), "difference": difference}


def evidence(gain: float) -> Evidence:
    """A challenger that is better by `gain` in everything that can be better or worse; good in all else."""
    return Evidence(
        {metric: sides(gained(metric, gain)) for metric in METRICS},
        sides(around(gain)),
        test_rows=5_000,
        estimators={name: sides(around(gain)) for name in SETTINGS.estimators},
        logging=around(0.5),
        against_logging=around(gain),
        replayed_share=1.0,
        conversions=sides(around(gain)),
        held_out_hours={"champion": 1.0, "challenger": 1.0},
        known_share=1.0,
        calibration_ratio=around(1.0),
        calibration=around(0.01 * CLICK_RATE, 0.001 * CLICK_RATE),
        click_rate=CLICK_RATE,
        slices=(SliceFinding("device", "ios", gained(SETTINGS.slice_metric, gain)),),
        concentration_rise=around(-gain),
        skew=0.0,
        latency_ms=1.0,
        mode="warm",
        parity=around(-gain),
    )


def rule(found: Evidence, name: str, settings: GateSettings = SETTINGS) -> Rule:
    (wanted,) = (r for r in judge(found, settings).rules if r.name == name)
    return wanted


def test_a_challenger_that_is_better_in_everything_is_promoted_and_one_that_is_worse_in_everything_clears_nothing() -> (
    None
):
    """Log-loss and its kin go down in the first and up in the second: a sign turned round anywhere shows here."""
    assert judge(evidence(0.05), SETTINGS).verdict == "promote"
    asked_of_models = {
        "test_rows",
        "label_maturity",
        "held_out",
        "replayed_share",
        "different_model",
        "calibration_ratio",
        "calibration",
        "simpson",
        "skew",
        "latency_ms",
    }
    worse = [r for r in judge(evidence(-0.05), SETTINGS).rules if r.name not in asked_of_models]
    assert len(worse) == 2 * len(METRICS) + 1 + len(SETTINGS.estimators) + 5
    assert {r.outcome for r in worse} == {"hold"}


@pytest.mark.parametrize("metric", METRICS)
def test_what_must_not_fall_may_be_worse_by_the_margin_and_no_more(metric: str) -> None:
    """In the metric's own direction; what is unsure may be worse by more and is held."""
    for gain, reach, outcome in (
        (0.5, 0.001, "pass"), (0.0, 0.001, "pass"), (-0.018, 0.001, "pass"), (-0.0195, 0.001, "hold"),
        (-0.5, 0.001, "hold"), (0.01, 0.04, "hold"), (0.03, 0.04, "pass"),
    ):  # fmt: skip
        found = replace(evidence(0.05), comparison={metric: sides(gained(metric, gain, reach))})
        assert rule(found, metric).outcome == outcome, (gain, reach)


@pytest.mark.parametrize("metric", METRICS)
def test_what_must_rise_is_better_for_sure(metric: str) -> None:
    """Log-loss `rises` by going down."""
    for gain, reach, outcome in (
        (0.5, 0.001, "pass"), (0.002, 0.001, "pass"), (0.0005, 0.001, "hold"), (0.0, 0.001, "hold"),
        (-0.002, 0.001, "hold"), (-0.5, 0.001, "hold"), (0.03, 0.04, "hold"),
    ):  # fmt: skip
        found = replace(evidence(0.05), comparison={metric: sides(gained(metric, gain, reach))})
        assert rule(found, f"{metric}.rises").outcome == outcome, (gain, reach)


@pytest.mark.parametrize("metric", SLICED)
def test_no_slice_may_be_worse_by_more_than_the_limit_for_sure(metric: str) -> None:
    """A slice whose log-loss rises is hurt, one whose log-loss falls is helped; the figure is of what is gained."""
    settings = SETTINGS.model_copy(update={"slice_metric": metric})
    for gain, reach, outcome in (
        (0.5, 0.001, "pass"), (0.0, 0.001, "pass"), (-0.0195, 0.001, "pass"), (-0.022, 0.001, "hold"),
        (-0.5, 0.001, "hold"), (-0.03, 0.02, "pass"),
    ):  # fmt: skip
        slices = (
            SliceFinding("device", "tv", gained(metric, 0.3)),
            SliceFinding("os", "x", gained(metric, gain, reach)),
        )
        found = rule(replace(evidence(0.05), slices=slices), "slices", settings)
        assert found.outcome == outcome, (gain, reach)
        assert found.bound == -MARGIN
        assert found.figure == pytest.approx(min(gain + reach, 0.301))
        assert ("os=x" in found.reason) == (outcome == "hold")
        assert f"{metric} rise" in found.reason if metric in LOWER_IS_BETTER else f"{MARGIN} {metric}" in found.reason


def test_slices_that_are_all_refused_clear_nothing() -> None:
    """No figure in any slice is no evidence that none is hurt; some figures are, for the slices that have them."""
    none = SliceFinding("position", "1", Refusal("ndcg needs lists whose order can matter"))
    found = rule(replace(evidence(0.05), slices=(none, none)), "slices")
    assert (found.outcome, found.figure) == ("refuse", None)
    assert found.reason == "none of 2 slices has a figure: ndcg needs lists whose order can matter"
    some = (none, SliceFinding("device", "tv", gained("auc", 0.0)))
    assert rule(replace(evidence(0.05), slices=some), "slices").outcome == "pass"
    assert rule(replace(evidence(0.05), slices=()), "slices").outcome == "pass", "no slice has rows enough"


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
@pytest.mark.parametrize("gain", [0.01, -0.01])
def test_a_reversal_holds_whichever_way_is_better(metric: str, gain: float) -> None:
    """Better overall but worse in every part, or the reverse: nobody knows which of the two to believe."""
    parts = [Slice("device", name, 500, 0.5, gained(metric, -2 * gain)) for name in ("ios", "tv")]
    (found,) = reversals(gained(metric, gain), parts)
    assert rule(replace(evidence(0.05), reversals=(found.attribute,)), "simpson").outcome == "hold"
    assert reversals(gained(metric, gain), [replace(p, difference=gained(metric, gain)) for p in parts]) == []


Change = Callable[[float], Evidence]
BETTER_WHEN_LOWER: dict[str, Change] = {
    "calibration": lambda x: replace(evidence(0.05), calibration=around(x * CLICK_RATE, 0.001 * CLICK_RATE)),
    "popularity_bias": lambda x: replace(evidence(0.05), concentration_rise=around(x)),
    "warm_parity": lambda x: replace(evidence(0.05), parity=around(x)),
}
BETTER_WHEN_HIGHER: dict[str, Change] = {
    "value": lambda x: replace(evidence(0.05), value=sides(around(x))),
    "value.dr": lambda x: replace(evidence(0.05), estimators={"dr": sides(around(x))}),
    "value.sndr": lambda x: replace(evidence(0.05), estimators={"sndr": sides(around(x))}),
    "value.pages": lambda x: replace(evidence(0.05), estimators={"pages": sides(around(x))}),
    "logging": lambda x: replace(evidence(0.05), against_logging=around(x)),
}
LIMITS = {
    "test_rows": (1_000, "refuse", lambda x: replace(evidence(0.05), test_rows=int(x))),
    "label_maturity": (0.9, "refuse", lambda x: replace(evidence(0.05), known_share=x)),
    "replayed_share": (0.8, "refuse", lambda x: replace(evidence(0.05), replayed_share=x)),
}
CEILINGS = {
    "skew": (0.001, "refuse", lambda x: replace(evidence(0.05), skew=x)),
    "latency_ms": (50.0, "hold", lambda x: replace(evidence(0.05), latency_ms=x)),
}


@pytest.mark.parametrize("name", BETTER_WHEN_LOWER)
def test_what_may_not_be_high_is_held_when_it_may_be_high(name: str) -> None:
    """The upper end decides: an error, a concentration or a warm loss that may be above its limit is not cleared."""
    change = BETTER_WHEN_LOWER[name]
    for value, outcome in ((-0.5, "pass"), (0.0, "pass"), (0.0185, "pass"), (0.0195, "hold"), (0.5, "hold")):
        assert rule(change(value), name).outcome == outcome, value


@pytest.mark.parametrize(
    ("low", "high", "outcome", "figure", "bound"),
    [
        (0.98, 1.03, "pass", 1.03, 1.25), (0.9, 1.0, "pass", 0.9, 0.8), (0.8, 1.25, "pass", 1.25, 1.25),
        (0.9, 1.2501, "hold", 1.2501, 1.25), (0.7999, 1.1, "hold", 0.7999, 0.8), (0.5, 1.9, "hold", 0.5, 0.8),
        (2.8, 3.3, "hold", 3.3, 1.25), (0.0, 0.01, "hold", 0.0, 0.8), (0.0, 0.0, "hold", 0.0, 0.8),
        (0.3, 0.5, "hold", 0.3, 0.8),
    ],
)  # fmt: skip
def test_clicks_may_be_predicted_too_many_or_too_few_by_the_factor_and_no_more(
    low: float, high: float, outcome: str, figure: float, bound: float
) -> None:
    """The end that is off by the larger factor decides, whichever side of one it is on, and is what a person reads."""
    found = rule(
        replace(evidence(0.05), calibration_ratio=Estimate((low + high) / 2, 0.1, low, high, 90, 90.0)),
        "calibration_ratio",
    )
    assert (found.outcome, found.figure, found.bound) == (outcome, figure, pytest.approx(bound))
    assert "must predict 0.8 to 1.25 clicks for each that came, for sure" in found.reason
    assert f"found {(low + high) / 2:.3f} [{low:.3f}, {high:.3f}]" in found.reason


@pytest.mark.parametrize("rate", [None, 0.0, float("nan")])
def test_an_error_without_a_click_rate_to_hold_it_against_is_refused(rate: float | None) -> None:
    """Nobody clicked, or nobody knows: no share of nothing is small."""
    found = rule(replace(evidence(0.05), click_rate=rate), "calibration")
    assert (found.outcome, found.figure) == ("refuse", None)


@pytest.mark.parametrize("name", BETTER_WHEN_HIGHER)
def test_what_may_not_be_low_is_held_when_it_may_be_low(name: str) -> None:
    """The lower end decides: a value must rise for sure, and may be below what is shown by a margin."""
    bound = {"logging": -SETTINGS.max_loss_to_logging * 0.5}.get(name, 0.0)
    for away, outcome in ((0.5, "pass"), (0.0015, "pass"), (0.0005, "hold"), (-0.5, "hold")):
        assert rule(BETTER_WHEN_HIGHER[name](bound + away), name).outcome == outcome, away


@pytest.mark.parametrize("reach", [0.0, 0.002, 0.3])
def test_conversions_hold_where_they_fell_too_far_for_sure(reach: float) -> None:
    """The upper end decides, at a share of the champion's: 2 % of 0.5."""
    for high, outcome in ((0.5, "pass"), (0.0, "pass"), (-0.0099, "pass"), (-0.0101, "hold"), (-0.4, "hold")):
        found = replace(evidence(0.05), conversions=sides(around(high - reach, reach)))
        assert rule(found, "conversions").outcome == outcome, high
    assert rule(found, "conversions").bound == -0.01


@pytest.mark.parametrize("name", [*LIMITS, *CEILINGS])
def test_a_plain_limit_is_on_its_right_side(name: str) -> None:
    """At the limit is allowed; beyond it is not."""
    limit, otherwise, change = {**LIMITS, **CEILINGS}[name]
    good, bad = (1.1 * limit, 0.9 * limit) if name in LIMITS else (0.9 * limit, 1.1 * limit)
    assert [rule(change(x), name).outcome for x in (good, limit, bad)] == ["pass", "pass", otherwise]


@pytest.mark.parametrize("metric", SLICED)
def test_every_metric_that_slices_may_be_compared_in_is_one_that_they_are_compared_in(metric: str) -> None:
    """`jobs` asks `figure_of` for it in each slice."""
    import numpy as np

    assert GateSettings(slice_metric=metric).slice_metric == metric
    labels, lists = np.arange(24) % 12 == 1, np.arange(24) // 12
    assert np.isfinite(figure_of(metric, labels.astype(float), lists)(np.linspace(0.1, 0.9, 24)).value)


@pytest.mark.parametrize(
    "name", ["", "AUC", "auc-pr", "acu", "ndcg", "ndcg_at_", "ndcg_at_0", "ndcg_at_²", "auc_at_10"]
)
def test_a_slice_metric_that_does_not_exist_is_an_error_that_names_the_choices(name: str) -> None:
    """Found when the settings are read, not in the middle of a backtest, or never."""
    choices = "auc, auc_pr, log_loss, normalised_entropy, ndcg_at_<k>, mrr_at_<k>, map_at_<k>, recall_at_<k>"
    with pytest.raises(
        ValidationError,
        match=f"slice_metric\n.*must be one of {choices}, precision_at_<k>, hit_rate_at_<k>.*; not {name}",
    ):
        GateSettings(slice_metric=name)


@pytest.mark.parametrize("name", ["value", "value.dr"])
def test_a_point_is_no_gain(name: str) -> None:
    """However high: contributions that do not differ say nothing of their error, and rounding is no gain."""
    for value, outcome in ((0.3, "refuse"), (1e-17, "refuse"), (0.0, "hold"), (-0.3, "hold")):
        point = Estimate(value, 0.0, value, value, 5_000, 3_000.0)
        change = {"value": lambda f: {"value": sides(f)}, "value.dr": lambda f: {"estimators": {"dr": sides(f)}}}[name]
        assert rule(replace(evidence(0.05), **change(point)), name).outcome == outcome, value  # type: ignore[arg-type]


def test_a_gain_must_be_worth_having() -> None:
    """0.1 % of what the champion earns by default, by the estimate itself; and what it earns must be known."""
    worth = SETTINGS.min_lift * 0.5
    for value, outcome in ((0.9 * worth, "hold"), (1.1 * worth, "pass")):
        tiny = replace(evidence(0.05), value=sides(Estimate(value, value / 8, value / 2, 2 * value, 5_000, 3_000.0)))
        assert rule(tiny, "value").outcome == outcome
        assert rule(tiny, "value", SETTINGS.model_copy(update={"min_lift": 0.0})).outcome == "pass"
    unknown = replace(tiny, value={"difference": tiny.value["difference"]})
    assert rule(unknown, "value").outcome == "refuse"


def test_a_loss_that_may_be_made_is_asked_of_the_lower_end() -> None:
    """With a lift below 0 the rule is one of non-inferiority."""
    lenient = SETTINGS.model_copy(update={"min_lift": -0.02})
    for low, outcome in ((-0.009, "pass"), (-0.011, "hold")):
        found = replace(evidence(0.05), value=sides(Estimate(0.0, 0.005, low, 0.01, 5_000, 3_000.0)))
        assert rule(found, "value", lenient).outcome == outcome
