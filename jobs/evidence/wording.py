"""What a person reads: names of rules and metrics, figures as text, and the sentence that sums up a verdict."""

from collections.abc import Callable, Mapping
from datetime import date, timedelta

from jobs.evidence.document import Document
from jobs.evidence.figures import Estimated, Finding, OutcomeFindings, Slice
from jobs.evidence.judgement import JudgedRule, Judgement
from models.evaluation.comparison import LOWER_IS_BETTER
from models.settings import METRICS_ONLY

METRICS = {
    "auc": ("AUC", "how often a clicked item is scored above one that was not"),
    "auc_pr": ("AUC-PR", "precision averaged over recall"),
    "log_loss": ("Log-loss", "surprise at what happened, in nats; lower is better"),
    "normalised_entropy": ("Normalised entropy", "log-loss against always saying the mean rate; lower is better"),
    "ndcg_at_10": ("NDCG@10", "clicked items near the top of their list"),
    "mrr_at_10": ("MRR@10", "how high the first clicked item stands"),
    "map_at_10": ("MAP@10", "how high all clicked items stand"),
    "recall_at_1": ("Recall@1", "the clicked item stands first"),
    "precision_at_3": ("Precision@3", "how much of the first three places was clicked"),
    "hit_rate_at_3": ("Hit rate@3", "a clicked item is among the first three"),
}
OUTCOMES_METRICS = {
    "auc": ("AUC", "how often a row with it is scored above one without"),
    "log_loss": ("Log-loss", "surprise at what happened, in nats; lower is better"),
    "auc_upper_half": ("AUC, upper half", "how often a value above the median is scored above one that is not"),
    "normalised_squared_error": ("Squared error", "over the variance: 1 is always the mean; lower is better"),
}
"""Of a further outcome."""
ESTIMATORS = {
    "snips": ("Self-normalised IPS", "clicks re-weighted to what each policy would show"),
    "dr": ("Doubly robust", "a click model, corrected by re-weighted clicks"),
    "sndr": ("Self-normalised doubly robust", "the same with weights that sum to one"),
    "marginal": ("One weight a kind of candidate", "narrow, and biased as far as kinds hide what the logs chose by"),
    "pages": ("Whole pages", "clicks on as many of a page's first places as the weights can carry"),
}
CURVE_OF = {"parent": "its parent's curve", "both": "its parent's curve, its first days by what is newer"}
"""Where a delay curve that is not its training's own comes from."""
KINDS = {"session_replay": "Session replay", "slate_re_ranking": "Slate re-ranking"}
RULES = {
    "test_rows": "Enough test rows",
    "label_maturity": "Clicks are known",
    "held_out": "The test is on rows nobody learned from",
    "different_model": "It is another model",
    "value": "Earns more clicks",
    "logging": "Earns what is shown now",
    "replayed_share": "Enough can be replayed",
    "conversions": "Conversions do not fall for sure",
    "conversions_so_far": "Nor will they, by the delay curve",
    "calibration_ratio": "Predicts as many clicks as come",
    "calibration": "Probabilities are right",
    "slices": "No slice is hurt",
    "simpson": "Parts agree with the whole",
    "popularity_bias": "Recommendations stay spread",
    "skew": "Features are those it learned from",
    "latency_ms": "Fast enough",
    "warm_parity": "Keeps up with the full training",
}
SETTINGS = {
    "label_maturity": "min_known_share",
    "replayed_share": "min_replayed_share",
    "logging": "max_loss_to_logging",
    "conversions": "max_conversion_drop",
    "conversions_so_far": "max_conversion_drop_so_far",
    **{name: f"must_not_fall.{name}" for name in METRICS},
    "calibration_ratio": "max_calibration_ratio",
    "calibration": "max_calibration_error",
    "slices": "max_slice_drop",
    "simpson": "max_slice_drop",
    "popularity_bias": "max_concentration_rise",
    "skew": "max_skew",
    "latency_ms": "max_latency_ms",
    "warm_parity": "max_warm_loss",
}
"""Of the gate: without it the rule is not asked."""
OF_REPLAYS = ("replayed_share", "logging", "conversions", "conversions_so_far", "popularity_bias", "skew")
"""Those that rest on replayed decisions."""
NO_VALUE = (
    "These logs cannot say what the challenger would earn, against the champion or against what users see now:"
    " that needs candidates and propensities, which a policy that explores logs. By the profile metrics-only it was"
    " judged on the lists that were shown, where a better order need not mean more clicks."
)
SLICED = {"user_known": "users", "item_age": "items"}
OF_ITEMS = ("item_category", "item_age")
"""Slices of the value by what is shown, not by the request."""
AT_MOST = {*LOWER_IS_BETTER, "calibration", "popularity_bias", "skew", "latency_ms", "warm_parity"}
SHARES = {"label_maturity", "replayed_share", "calibration", "popularity_bias", "skew"}
DIFFERENCES = {"value", "logging", "conversions", "conversions_so_far", "slices", "warm_parity"}
OUTCOMES = {"pass": "cleared", "hold": "not cleared", "refuse": "cannot tell", "unknown": "not known"}
VERDICTS = {"promote": "Promote", "hold": "Hold", "refuse": "Refuse", None: "Not judged yet"}


def number(figure: float, signed: bool = False) -> str:
    """Four digits after the point below 10, whole above 100, thousands apart, with a true minus sign."""
    size = abs(figure)
    if size >= 100 or figure == int(figure):
        text = f"{size:,.0f}"
    elif size >= 10:
        text = f"{size:,.2f}"
    else:
        text = f"{size:.4f}" if size >= 0.0001 else f"{size:.1g}"
    return _sign(figure, signed) + text


def setting(figure: float, signed: bool = False) -> str:
    """A bound as somebody set it, without zeros nobody wrote."""
    size = abs(figure)
    return _sign(figure, signed) + (f"{size:,.0f}" if size >= 100 else f"{size:.4g}")


def _sign(figure: float, signed: bool) -> str:
    return "−" if figure < 0 else "+" if signed and figure > 0 else ""


def signed(figure: float) -> str:
    """With its sign, as differences are read."""
    return number(figure, signed=True)


def share(figure: float, signed: bool = False) -> str:
    """A share in percent."""
    size = 100 * abs(figure)
    return _sign(figure, signed) + (f"{size:,.0f}%" if size >= 100 else f"{size:.3g}%")


def percent(figure: float, signed: bool = False) -> str:
    """A share in percent with about two digits, as lifts are read."""
    size = 100 * abs(figure)
    text = f"{size:,.0f}%" if size >= 100 else f"{size:.1f}%" if size >= 0.95 else f"{size:.2f}%"
    return _sign(figure, signed) + text


def rounded(figure: float, signed: bool = False) -> str:
    """About how many: whole from 10 on, two digits below, thousands apart."""
    size = abs(figure)
    text = f"{size:,.0f}" if size >= 9.95 else f"{size:.2g}"
    return _sign(figure, signed) + text


def chance(p: float | None) -> str:
    """A probability in [0, 1] as a bet: `1 in 40`; None is not known."""
    if p is None:
        return "not known"
    if p < 0.001:
        return "< 1 in 1,000"
    if p <= 0.1:
        return f"1 in {1 / p:,.0f}"
    return f"{100 * p:.0f} in 100" if p < 0.995 else "> 99 in 100"


def between(found: Estimated, *, sign: bool = False) -> str:
    """Both ends of the interval."""
    return f"{number(found.low, sign)} to {number(found.high, sign)}"


def slice_name(attribute: str, value: str) -> str:
    """`item category: shoes`."""
    words = SLICED.get(attribute) or attribute.removeprefix("attributes.").replace("_", " ")
    return f"{words}: {value.removesuffix('.0')}"


def slice_note(part: Slice) -> str:
    """How much of the traffic a slice of the value is."""
    if part.attribute in OF_ITEMS:
        return f"shown first in {share(part.share)} of decisions; clicks on them per request"
    return f"{part.n:,} decisions, {share(part.share)}"


def metric(name: str) -> str:
    """A metric as people call it."""
    return {**OUTCOMES_METRICS, **METRICS}.get(name, (name.replace("_", " "), ""))[0]


def mean_of(outcome: OutcomeFindings, mean: float) -> str:
    """A share of impressions, or an amount in its unit."""
    return share(mean) if outcome.kind == "binary" else f"{number(mean)} {outcome.unit}".rstrip()


def rule_name(name: str) -> str:
    """What a rule asks, in a few words."""
    base, _, kind = name.partition(".")
    outcome, _, figure = name.removesuffix(".rises").partition(".")
    if figure in OUTCOMES_METRICS:
        lower, rises = figure in LOWER_IS_BETTER, name.endswith(".rises")
        does = ("falls" if lower else "rises") if rises else ("does not rise" if lower else "does not fall")
        return f"{metric(figure)} of {outcome} {does}"
    if kind == "rises":
        return f"{metric(base)} rises" if base not in LOWER_IS_BETTER else f"{metric(base)} falls"
    if base == "value" and kind:
        return f"{RULES['value']}: {ESTIMATORS.get(kind, (kind, ''))[0].lower()}"
    if base in METRICS:
        return f"{metric(base)} does not {'rise' if base in LOWER_IS_BETTER else 'fall'}"
    return RULES.get(name, name.replace("_", " "))


def judged_on(document: Document) -> str:
    """Which days were judged, and on which of at most how many the challenger stands; empty where it stands for one."""
    days, most = document.days, document.gate.days
    if most == 1:
        return ""
    first, last = (date.fromisoformat(day) for day in (days[0], days[-1]))
    span = (str(first + timedelta(days=n)) for n in range((last - first).days + 1))
    without = [day for day in span if day not in days]
    lacking = f" without {_listed(without)}" if without else ""
    told = f"one day, {days[0]}" if len(days) == 1 else f"{len(days)} days, {days[0]} to {days[-1]}{lacking}"
    return f"Judged on {told}. This is day {document.number} of at most {most} that the challenger stands."


def apart(document: Document) -> str:
    """How far the biased second opinion is from the estimate that is believed."""
    found = None if document.marginal is None else document.marginal.apart
    if not isinstance(found, Estimated):
        return "how far off it is nothing can tell here"
    away = f"{number(found.value, signed=True)} ({between(found, sign=True)})"
    return f"{away} from the first estimate" + ("" if found.low <= 0 <= found.high else ", so biased here")


def not_asked(judgement: Judgement, document: Document) -> list[tuple[str, str]]:
    """Rules that the verdict does not have, with the setting that does not ask them.

    Only a warm start has a parity, and only who has a delay curve conversions by it.
    """
    asked = {rule.name for rule in judgement.rules} | ({"warm_parity"} if document.mode == "full" else set())
    asked |= {"conversions_so_far"} if document.conversions_so_far is None else set()
    left = set(OF_REPLAYS) if document.gate.profile == METRICS_ONLY else set()
    return [
        (rule_name(name), f"gate.profile is {METRICS_ONLY}" if name in left else f"gate.{setting} is none")
        for name, setting in SETTINGS.items()
        if name not in asked
    ]


def rule_figure(rule: JudgedRule) -> str:
    """What was found; empty where a rule has no figure."""
    return "" if rule.figure is None else _of_rule(rule, rule.figure, number)


def rule_needs(rule: JudgedRule) -> str:
    """The bound with the side of it that clears."""
    base = rule.name.partition(".")[0]
    if rule.bound is None:
        return ""
    bound = _of_rule(rule, rule.bound, setting)
    figure = rule.name.removesuffix(".rises").rpartition(".")[2]
    if base in ("value", "held_out") or rule.name.endswith(".rises"):
        return f"{'<' if figure in LOWER_IS_BETTER else '>'} {bound}"
    # A level may be off either way: the bound is the one that its worse end is held against.
    at_most = base in AT_MOST or figure in LOWER_IS_BETTER or (base == "calibration_ratio" and rule.bound > 1)
    return f"{'≤' if at_most else '≥'} {bound}"


def _of_rule(rule: JudgedRule, figure: float, written: Callable[[float, bool], str]) -> str:
    base = rule.name.partition(".")[0]
    if base in SHARES:
        return share(figure)
    if base == "calibration_ratio":
        return f"{figure:.3g}"
    if base == "latency_ms":
        return f"{figure:.3g} ms"
    if base == "held_out":
        return f"{figure:.4g} h" if abs(figure) >= 0.01 or not figure else f"{_sign(figure, False)}< 0.01 h"
    return written(figure, base in METRICS or base in DIFFERENCES)


def headline(document: Document, judgement: Judgement | None) -> str:
    """The verdict's reason in a sentence or two."""
    if judgement is None:
        return "The evidence is complete. The gate judges it next, in the stage promote, where latency is measured."
    against = [rule for rule in judgement.rules if rule.outcome == judgement.verdict]
    cleared = sum(rule.outcome == "pass" for rule in judgement.rules)
    if judgement.verdict == "promote":
        unknown = _listed([f"“{rule_name(rule.name)}”" for rule in judgement.rules if rule.outcome == "unknown"])
        if cleared < len(judgement.rules):
            return f"All {cleared} rules that can be asked are cleared; not known: {unknown}. {_gain(document)}"
        return f"All {cleared} rules are cleared. {_gain(document)}"
    names = _listed([f"“{rule_name(rule.name)}”" for rule in against])
    if judgement.verdict == "refuse":
        return f"The evidence cannot carry a verdict on {names}. {sentence(against[0].reason)}"
    first = "" if len(against) == 1 else f"“{rule_name(against[0].name)}”: "
    why = _gain(document) if against[0].name == "value" else first + sentence(against[0].reason)
    asked = sum(rule.outcome != "unknown" for rule in judgement.rules)
    return f"{cleared} of {asked} rules that can be asked are cleared; not cleared: {names}. {why}"


def sentence(reason: str) -> str:
    """A reason as one."""
    return reason[:1].upper() + reason[1:] + ("" if reason.endswith(".") else ".")


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "anything"


def _gain(document: Document) -> str:
    found = document.value.difference
    if document.gate.profile == METRICS_ONLY:
        return f"No counterfactual value exists. {_risen(document)}"
    if not isinstance(found, Estimated):
        return sentence(found.refused)
    gain = f"{signed(found.value)} clicks per request against the champion"
    ends = f"{share(document.risk.confidence)} interval {between(found, sign=True)}"
    unsure = ", so it may be none" if found.low <= 0 <= found.high else ""
    return f"The challenger would earn {gain} ({ends}){unsure}."


def _risen(document: Document) -> str:
    """What must rise did, of metrics on what was shown."""
    told = []
    for name in document.gate.must_rise:
        found = document.comparison[name].difference if name in document.comparison else None
        if isinstance(found, Estimated):
            told.append(f"{metric(name)} {signed(found.value)} ({between(found, sign=True)})")
    return f"On what was shown, challenger minus champion: {_listed(told)}." if told else "Nor has a metric a figure."


def of_side(finding: Finding, sign: bool = False) -> str:
    """A finding as text: the value, or that it was refused."""
    return number(finding.value, sign) if isinstance(finding, Estimated) else "refused"


def level(ratio: Finding) -> str:
    """How many clicks are predicted for one that comes."""
    if isinstance(ratio, Estimated):
        return f"predicts {ratio.value:.3g} × the clicks [{ratio.low:.3g}, {ratio.high:.3g}]"
    return "clicks predicted for each that came: refused"


def replayed(requests: Mapping[str, int]) -> str:
    """How many requests allow which kind of replay."""
    parts = [f"{requests['session_replay']:,} of {sum(requests.values()):,} requests are replayed"]
    if requests["slate_re_ranking"]:
        parts.append(f"{requests['slate_re_ranking']:,} are re-ranked only, without candidates or a usable propensity")
    if requests["click_unknown"]:
        parts.append(f"of {requests['click_unknown']:,} the first click is not known yet")
    return "; ".join(parts) + "."


def not_replayed(left_out: Mapping[str, int], total: str = "requests") -> str:
    """Why requests were left out of the replay, most first: `12 no propensity, 3 no candidates of 90`."""
    reasons = {reason: n for reason, n in left_out.items() if n and reason != total}
    told = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    words = ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in told) or "none"
    return f"{words} of {left_out.get(total, 0):,}"
