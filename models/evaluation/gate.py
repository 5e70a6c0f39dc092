"""The gate: promote, hold or refuse, one rule at a time, each with a reason a person can read at 3 a.m.

`refuse`: the evidence does not support a verdict. `hold`: it does, and the challenger does not pass every rule.
`promote`: every rule is passed. A person is asked only after a promote.

Multiple comparisons: a promotion needs every rule to pass, so a challenger that is no better passes with at most the
probability of its most lenient rule for gain, however many rules there are (intersection-union test, Berger 1982): the
lower bound of a two-sided interval at `confidence` errs in (1 - confidence) / 2 of cases. Slices are a search for harm,
so their intervals are simultaneous (`models.evaluation.slices`). Judging again tomorrow, or another challenger today,
is a new test and a new risk: `models.evaluation.risk` gives its confidence. `tests/bench/bench_gate.py` counts the
errors in worlds whose truth is known.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from models.evaluation.comparison import LOWER_IS_BETTER, lower_is_better
from models.evaluation.estimate import Estimate, Finding, Refusal
from models.evaluation.rules import (
    NO_FIGURE,
    Rule,
    above,
    at_least,
    at_most,
    below,
    interval,
    no_higher,
    no_lower,
    usable,
)  # fmt: skip
from models.settings import METRICS_ONLY, GateSettings

VALUE = "value"
LOGGING = "logging"
NO_VALUE = (
    "no counterfactual value exists (gate.profile is metrics-only): nobody can tell what the challenger would earn, "
    "against the champion or against what is shown now; it was judged by metrics on what was shown"
)
POINT = 1e-9
"""An interval narrower than this, relative to its value, is not an interval."""


@dataclass(frozen=True)
class Verdict:
    """The verdict and every rule behind it, including the passed ones."""

    verdict: Literal["promote", "hold", "refuse"]
    rules: tuple[Rule, ...]

    @classmethod
    def of(cls, rules: Iterable[Rule]) -> Self:
        """Refuse if any rule refuses, else hold if any holds, else promote; refuse if no rule has an answer."""
        every = tuple(rules)
        outcomes = {rule.outcome for rule in every} - {"unknown"}
        if "refuse" in outcomes or not outcomes:
            return cls("refuse", every)
        return cls("hold" if "hold" in outcomes else "promote", every)

    @property
    def reasons(self) -> list[str]:
        """What prevents a promotion, one sentence per rule; for a promote, what was shown."""
        against = [f"{r.name}: {r.reason}" for r in self.rules if r.outcome == self.verdict]
        return against or [f"{r.name}: {r.reason}" for r in self.rules]


@dataclass(frozen=True)
class SliceFinding:
    """Challenger minus champion on one slice; the intervals of all slices are simultaneous."""

    attribute: str
    value: str
    difference: Finding


@dataclass(frozen=True)
class Evidence:
    """The input of the gate; None or an empty mapping is missing evidence, and a rule that needs it refuses.

    `comparison`: metric to champion, challenger, difference, as `comparison.compare` returns it. `value`: the same
    three for the counterfactual value per decision. `estimators`: the same of further estimators, by name. `logging`:
    what was earned per decision by what was shown; `against_logging`: the challenger's value minus that.
    `replayed_share`: of the requests with a known click, how many could be replayed.
    `conversions`: as `value`, in conversions instead of clicks, once their labels are closed; else refused.
    `conversions_so_far`: the same by the delay curve, before they are; empty without one.
    `held_out_hours`: side to how long before the first test row the last one was that it learned from.
    `test_rows`: impressions the comparison rests on; `known_share`: share of test impressions with a known click.
    `calibration_ratio` and `calibration`: the challenger's `calibration_ratio` and `calibration_error`; `click_rate`:
    the share of the test rows that were clicked. `slices` and `reversals` (attributes with a Simpson's paradox):
    differences in `settings.slice_metric`. `concentration_rise`: by which share the items behind 80 % of the
    recommendations become fewer. `skew`: share of replayed decisions whose features differ from those trained on.
    `latency_ms`: p99 of one request's scoring. `parity`: a warm start's log-loss minus that of the full training it
    started from; None for a full training. `same_candidate`: champion and challenger are one and the same model.
    """

    comparison: Mapping[str, Mapping[str, Finding]]
    value: Mapping[str, Finding]
    test_rows: int
    held_out_hours: Mapping[str, float] = field(default_factory=dict)
    same_candidate: bool = False
    estimators: Mapping[str, Mapping[str, Finding]] = field(default_factory=dict)
    logging: Finding | None = None
    against_logging: Finding | None = None
    replayed_share: float | None = None
    conversions: Mapping[str, Finding] = field(default_factory=dict)
    conversions_so_far: Mapping[str, Finding] = field(default_factory=dict)
    known_share: float | None = None
    calibration_ratio: Finding | None = None
    calibration: Finding | None = None
    click_rate: float | None = None
    slices: tuple[SliceFinding, ...] | None = None
    reversals: tuple[str, ...] = ()
    concentration_rise: Finding | None = None
    skew: float | None = None
    latency_ms: float | None = None
    mode: Literal["full", "warm"] = "full"
    parity: Finding | None = None

    def with_latency(self, latency_ms: float) -> Self:
        """The same, with the latency measured where the gate runs."""
        return replace(self, latency_ms=latency_ms)


def judge(evidence: Evidence, settings: GateSettings) -> Verdict:
    """The verdict on the evidence: every rule of `settings`, in the order a person reads them.

    A rule for gain uses the unfavourable end of an interval, so wide intervals hold and never promote. For a metric
    that must rise this end must be above the bound; for one that must not fall it must be within the margin. A rule
    whose setting is None is skipped; a rule without a figure refuses. For a challenger that is the champion itself no
    further rule is checked: there is no difference.
    """
    first = [
        _enough_rows(evidence.test_rows, settings.min_test_rows),
        *_asked(_known_share, evidence.known_share, settings.min_known_share),
        _held_out(evidence.held_out_hours),
        _another_model(evidence.same_candidate),
    ]
    if evidence.same_candidate:
        return Verdict.of(first)
    replayed = settings.profile != METRICS_ONLY
    return Verdict.of(
        [
            *first,
            *(_of_replay(evidence, settings) if replayed else _without_value(evidence)),
            *_metrics(evidence, settings),
            *_asked(_level, evidence.calibration_ratio, settings.max_calibration_ratio),
            *_calibrated(evidence, settings),
            *_slices(evidence, settings),
            *(_of_choices(evidence, settings) if replayed else ()),
            *_asked(_fast, evidence.latency_ms, settings.max_latency_ms),
            *_parity(evidence, settings),
        ]
    )


def _of_replay(evidence: Evidence, settings: GateSettings) -> Iterator[Rule]:
    """What the challenger would earn, in clicks and conversions, on enough of the requests."""
    yield from _asked(_replayed, evidence.replayed_share, settings.min_replayed_share)
    yield from _value(evidence, settings)
    yield from _asked(_as_good_as_shown, evidence, settings.max_loss_to_logging)
    yield from _asked(_converts, evidence.conversions, settings.max_conversion_drop)
    yield from _will_convert(evidence.conversions_so_far, settings.max_conversion_drop_so_far)


def _of_choices(evidence: Evidence, settings: GateSettings) -> Iterator[Rule]:
    """What it would choose from logged candidates, and whether the features there are those of training."""
    yield from _asked(_spread, evidence.concentration_rise, settings.max_concentration_rise)
    yield from _asked(_no_skew, evidence.skew, settings.max_skew)


def _without_value(evidence: Evidence) -> Iterator[Rule]:
    """A missing value is reported and prevents nothing, but a significant loss in the logs does.

    The gain must be shown by `must_rise`, at the look's own risk.
    """
    found = evidence.value.get("difference")
    if isinstance(found, Estimate) and found.high < 0:
        said = f"the challenger may not earn less for sure, whatever the profile; found {interval(found)}"
        yield Rule(VALUE, found.high, 0.0, "hold", said)
    else:
        yield Rule(VALUE, None, None, "unknown", NO_VALUE)


def _enough_rows(found: int, needed: int) -> Rule:
    enough = found >= needed
    return Rule(
        "test_rows", found, needed, "pass" if enough else "refuse", f"needs at least {needed} test rows; found {found}"
    )


def _known_share(found: float | None, needed: float) -> Rule:
    """A click that may still come is unknown, and a test day of mostly unknown labels is not a test."""
    return at_least("label_maturity", found, needed, "of the test impressions' clicks known", "refuse")


def _held_out(hours: Mapping[str, float]) -> Rule:
    """A model that learned from the test rows, itself or through its parent, is not tested by them."""
    if not hours or not all(math.isfinite(between) for between in hours.values()):
        return Rule("held_out", None, 0.0, "refuse", NO_FIGURE)
    side = min(hours, key=hours.__getitem__)
    between = hours[side]
    when = f"{abs(between):.4g} hours {'before' if between > 0 else 'after'}" if between else "at the moment of"
    reason = f"each side's last row it learned from must be before the first test row; the {side}'s is {when} it"
    return Rule("held_out", between, 0.0, "pass" if between > 0 else "refuse", reason)


def _another_model(same: bool) -> Rule:
    reason = "the challenger is the champion itself" if same else "challenger and champion are different models"
    return Rule("different_model", None, None, "hold" if same else "pass", reason)


def _replayed(found: float, needed: float) -> Rule:
    """Requests that cannot be replayed may lose what the others gain."""
    return at_least("replayed_share", found, needed, "of the requests replayed", "refuse")


def _value(evidence: Evidence, settings: GateSettings) -> Iterator[Rule]:
    """The counterfactual value must rise by the main estimator and by each further one in the settings."""
    yield _gains(VALUE, evidence.value, settings.min_lift)
    for name in settings.estimators:
        yield _gains(f"{VALUE}.{name}", evidence.estimators.get(name, {}), settings.min_lift)


def _gains(name: str, sides: Mapping[str, Finding], lift: float) -> Rule:
    """A significant gain that is worth having: at least `lift` of what the champion earns.

    The lower end of the interval must be above 0, and the value itself at least `lift` (a dual criterion, as in
    Roychoudhury, Scheuer & Neuenschwander 2018), so a minimum gain costs no power. A `lift` below 0 is a loss that is
    accepted, and the lower end must be above it.
    """
    champion, difference = (usable(name, sides.get(side), lift) for side in ("champion", "difference"))
    if isinstance(champion, Rule):
        return champion
    if isinstance(difference, Rule):
        return difference
    if difference.low > 0 and difference.high - difference.low <= POINT * difference.value:
        said = f"a gain needs an interval; found {interval(difference)}, which is a point: nothing tells its error"
        return Rule(name, difference.low, 0.0, "refuse", said)
    worth = lift * max(0.0, champion.value)
    sure = min(0.0, worth)
    reason = (
        f"challenger - champion must be above {sure:g} for sure, and itself at least {worth:g} ({lift:.2%} of the"
        f" champion's {champion.value:.5f}); found {interval(difference)}"
    )
    if difference.low > sure and difference.value < worth:
        return Rule(name, difference.value, worth, "hold", reason)
    return Rule(name, difference.low, sure, "pass" if difference.low > sure else "hold", reason)


def _as_good_as_shown(evidence: Evidence, share: float) -> Rule:
    """Whatever the champion is, users must not get less than what they are shown now."""
    logging, difference = (usable(LOGGING, found, -share) for found in (evidence.logging, evidence.against_logging))
    if isinstance(logging, Rule):
        return logging
    if isinstance(difference, Rule):
        return difference
    bound = -share * max(0.0, logging.value)
    reason = (
        f"the challenger may earn at most {share:.2%} less than what is shown now, {logging.value:.5f};"
        f" challenger - shown is {interval(difference)}"
    )
    return Rule(LOGGING, difference.low, bound, "pass" if difference.low >= bound else "hold", reason)


def _converts(found: Mapping[str, Finding], drop: float) -> Rule:
    """A guardrail: a significant loss of more than `drop` of the champion's conversions holds, an uncertain one not.

    Conversions are rare and late: most days cannot show that there is no loss, and none can before labels are closed.
    """
    return _no_sure_loss("conversions", "conversions per request", found, drop)


def _will_convert(found: Mapping[str, Finding], drop: float | None) -> Iterator[Rule]:
    """The same guardrail before the labels are closed, with an interval that includes the delay curve's error.

    It can hold but never promotes: without an interval it is unknown, and without a curve it is not checked.
    """
    if found and drop is not None:
        yield _no_sure_loss("conversions_so_far", "conversions per request, by the delay curve,", found, drop)


def _no_sure_loss(name: str, what: str, found: Mapping[str, Finding], drop: float) -> Rule:
    refused = [of for side, of in found.items() if side in ("champion", "difference") and isinstance(of, Refusal)]
    if refused:
        return Rule(name, None, None, "unknown", refused[0].reason)
    champion, difference = (usable(name, found.get(side), None) for side in ("champion", "difference"))
    if isinstance(champion, Rule):
        return champion
    if isinstance(difference, Rule):
        return difference
    bound = -drop * champion.value
    reason = (
        f"{what} may not fall for sure by more than {drop:.0%} of the champion's {champion.value:.5f};"
        f" challenger - champion is {interval(difference)}"
    )
    return Rule(name, difference.high, bound, "pass" if difference.high >= bound else "hold", reason)


def _metrics(evidence: Evidence, settings: GateSettings) -> Iterator[Rule]:
    """Non-inferiority for every metric with a margin, superiority for every one that must rise."""
    differences = {name: sides.get("difference") for name, sides in evidence.comparison.items()}
    for name, margin in settings.must_not_fall.model_dump().items():
        if margin is not None:
            rule = no_higher if lower_is_better(name) else no_lower
            yield rule(name, differences.get(name), margin)
    for name, margin in settings.outcomes_must_not_fall.items():
        rule = no_higher if lower_is_better(name) else no_lower
        yield _unless_new(name, evidence, rule(name, differences.get(name), margin), or_open=True)
    for name in settings.must_rise:
        rises = below if lower_is_better(name) else above
        yield _unless_new(name, evidence, rises(f"{name}.rises", differences.get(name), 0.0))


def _unless_new(name: str, evidence: Evidence, rule: Rule, or_open: bool = False) -> Rule:
    """The rule, or unknown for a further outcome that only the challenger predicts.

    `or_open`: for a guardrail also unknown if neither side has a figure, since labels are not closed yet.
    """
    sides = evidence.comparison.get(name, {})
    champion, challenger = sides.get("champion"), sides.get("challenger")
    if "." in name and isinstance(champion, Refusal) and (or_open or not isinstance(challenger, Refusal)):
        return replace(rule, outcome="unknown", reason=champion.reason)
    return rule


def _level(found: Finding | None, limit: float) -> Rule:
    """Predicted clicks per observed click: neither end may be off by more than the factor; shows the worse end."""
    estimate = usable("calibration_ratio", found, limit)
    if isinstance(estimate, Rule):
        return estimate
    too_few = estimate.low * estimate.high < 1
    figure, bound = (estimate.low, 1 / limit) if too_few else (estimate.high, limit)
    passed = figure >= bound if too_few else figure <= bound
    said = f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}], n {estimate.n}"
    asked = f"{1 / limit:.3g} to {limit:g} clicks for each that came, for sure"
    reason = f"the challenger must predict {asked}; found {said}"
    return Rule("calibration_ratio", figure, bound, "pass" if passed else "hold", reason)


def _calibrated(evidence: Evidence, settings: GateSettings) -> Iterator[Rule]:
    """As a share of the click rate: an error of 0.05 is small at a click rate of 50 %, and total at 5 %."""
    limit, rate = settings.max_calibration_error, evidence.click_rate
    if limit is None:
        return
    estimate = usable("calibration", evidence.calibration, limit)
    if isinstance(estimate, Rule):
        yield estimate
    elif rate is None or not 0 < rate <= 1:
        yield Rule("calibration", None, limit, "refuse", f"needs a click rate above 0; found {rate}")
    else:
        share = estimate.high / rate
        reason = (
            f"the challenger's calibration error may be at most {limit:.3g} of the click rate, {limit * rate:.5f}; "
            f"found {interval(estimate, sign='')}"
        )
        yield Rule("calibration", share, limit, "pass" if share <= limit else "hold", reason)


def _slices(evidence: Evidence, settings: GateSettings) -> Iterator[Rule]:
    """No slice may be significantly worse by more than the limit, and the whole may not contradict its parts.

    Figure and bound are gains: for a metric that is better when lower, the negative difference.
    """
    limit = settings.max_slice_drop
    if limit is None:
        return
    metric, lower = settings.slice_metric, settings.slice_metric in LOWER_IS_BETTER
    every = evidence.slices or ()
    looked_at = [(s, usable("slices", s.difference, -limit)) for s in every]
    refused = [rule for _, rule in looked_at if isinstance(rule, Rule)]
    best = [(s, e, -e.low if lower else e.high) for s, e in looked_at if isinstance(e, Estimate)]
    if evidence.slices is None or (refused and not best):
        reason = f"none of {len(every)} slices has a figure: {refused[0].reason}" if refused else NO_FIGURE
        yield Rule("slices", None, -limit, "refuse", reason)
        return
    worse = [f"{s.attribute}={s.value} {interval(e)}" for s, e, gain in best if gain < -limit]
    lowest = min((gain for _, _, gain in best), default=None)
    what = f"no slice may lose more than {limit:g} {metric} for sure"
    if lower:
        what = f"in no slice may {metric} rise by more than {limit:g} for sure"
    said = f"{what}; found {'; '.join(worse)}" if worse else f"{what}; none of {len(best)} does"
    yield Rule("slices", lowest, -limit, "hold" if worse else "pass", said)
    names = ", ".join(evidence.reversals)
    said = f"better overall but worse in every large slice, or the reverse, by {names}" if names else "no reversal"
    yield Rule("simpson", None, None, "hold" if names else "pass", said)


def _spread(found: Finding | None, limit: float) -> Rule:
    """Popularity bias: how much smaller the set of items behind 80 % of the recommendations may become."""
    estimate = usable("popularity_bias", found, limit)
    if isinstance(estimate, Rule):
        return estimate
    passed = estimate.high <= limit
    reason = (
        f"the items behind 80% of the recommendations may become fewer by at most {limit:.0%}; "
        f"found {estimate.value:+.2%} [{estimate.low:+.2%}, {estimate.high:+.2%}]"
    )
    return Rule("popularity_bias", estimate.high, limit, "pass" if passed else "hold", reason)


def _no_skew(found: float | None, limit: float) -> Rule:
    return at_most("skew", found, limit, "of the replayed decisions with other features than trained on", "refuse")


def _fast(found: float | None, limit: float) -> Rule:
    """The reason states the figure only if the rule fails, so that a passing rerun gives the same text."""
    rule = at_most("latency_ms", found, limit, "ms at p99 for one request's scores", "hold")
    return replace(rule, reason=rule.reason.partition(";")[0] + "; it is faster") if rule.outcome == "pass" else rule


def _parity(evidence: Evidence, settings: GateSettings) -> Iterator[Rule]:
    """A warm start may not lose more than the margin against the full training it started from."""
    if evidence.mode == "warm" and settings.max_warm_loss is not None:
        yield no_higher("warm_parity", evidence.parity, settings.max_warm_loss)


def _asked(rule: Any, found: Any, limit: float | None) -> Iterator[Rule]:
    """The rule's answer, unless the settings switch it off."""
    if limit is not None:
        yield rule(found, limit)
