"""What two policies would have earned on logged decisions, and their difference, as far as the logs show it.

There are two estimators: self-normalised IPS, and self-normalised doubly robust with a reward model that is
cross-fitted by user on the same decisions from both rankers' predictions (`models.evaluation.reward_models`). The
difference is taken from the narrower one. Doubly robust is seldom much narrower, since rare clicks are hard to predict.
Its advantage: propensities that are wrong by a few percent hardly affect it, if the model predicts the rewards of the
affected actions.

The difference has its own guards: two policies may differ in a hundredth of the decisions, and data that support both
estimates then need not support their difference.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from models.evaluation import weighting
from models.evaluation.balance import MOST_LABELS, Balance, balances
from models.evaluation.choices import AS_ONE, SIDES, Choices, Floats, Ints, Side
from models.evaluation.diagnostics import (
    Diagnostics,
    WeightStatistics,
    missing_propensities,
    tail_shape,
    weights_refused,
)
from models.evaluation.estimate import LARGEST, Finding, Refusal
from models.evaluation.linear import Linear
from models.evaluation.marginal import marginal_difference
from models.evaluation.moments import powers
from models.evaluation.reward_models import expected_rewards
from models.evaluation.slices import Slice
from models.evaluation.sufficient import Influence
from models.evaluation.weighting import Estimator, Log
from models.settings import GateSettings

ESTIMATORS = ("snips", "dr", "sndr")


@dataclass(frozen=True)
class Carried:
    """The data behind the difference of two policies: decisions they would make differently, and clicks on either side.

    `differing`: share of the logged decisions that one side is likelier to make. `gained`, `lost`: effective number of
    rewards (of as many users) on decisions that the challenger, or the champion, is likelier to make. `largest_share`:
    the largest share of one weight difference. `tail_shape`: that of the weight differences.
    """

    decisions: int
    differing: float
    gained: float
    lost: float
    largest_share: float
    tail_shape: float | None


@dataclass(frozen=True)
class Value:
    """Rewards per decision of both sides and of what was shown, and the differences, paired.

    `estimates`: estimator to side (or `difference`, or `against_logging`: challenger minus what was shown) to finding.
    `primary`: the estimator that is used.
    """

    estimates: Mapping[str, Mapping[str, Finding]]
    primary: str
    logging: Finding
    sides: Mapping[Side, Diagnostics] = field(default_factory=dict)
    carried: Carried | None = None
    balance: tuple[Balance, ...] = ()
    marginal: Mapping[str, Finding] = field(default_factory=dict)
    """A biased second opinion (`models.evaluation.marginal`): its `difference`, and how far it is `apart` from the
    primary one (refused if that is). It uses no propensities, so it exists even if they do not support a value."""

    def of(self, what: str) -> Finding:
        """The primary estimator's finding."""
        return self.estimates[self.primary][what]


FIGURES = (*SIDES, "difference", "against_logging")


def value_of(choices: Choices, settings: GateSettings) -> Value:
    """Every estimate of both sides on the decisions, or why they do not support it; the reward is any number.

    The reward model needs rewards of 0 and 1 and predictions of both sides; without them there is only `snips`. The
    difference's interval is at `settings.value_confidence`, all others at `settings.confidence`; those of differences
    include items' shocks. Raises ValueError as `models.evaluation.weighting.Log.checked` does.
    """
    _, users = np.unique(choices.users, return_inverse=True)
    shown = Linear.mean(choices.reward)
    logging = shown.estimate(settings.confidence, users)
    refusal = missing_propensities(choices.logged) or (logging if isinstance(logging, Refusal) else None)
    if refusal:
        return refused(refusal, logging)
    told = {side: _diagnosed(choices, side, users, settings) for side in SIDES}
    heaviest = next(
        (weights_refused(told[side], settings) for side in SIDES if told[side].largest_weight >= LARGEST), None
    )
    if heaviest:
        return replace(refused(Refusal(heaviest, len(choices)), logging), sides=told)
    expected = expected_rewards(choices)
    logs = {side: _log(choices, side, expected) for side in SIDES}
    moved = {
        "difference": logs["challenger"].weight - logs["champion"].weight,
        "against_logging": logs["challenger"].weight - 1.0,
    }
    balance = tuple(balances(choices, settings.balance_risk))
    carried = _carried(moved["difference"], choices.reward, users)
    reasons = _reasons(told, balance, carried, settings)
    shocks = None if expected is None else _Shocks.of(choices, expected)
    estimates: dict[str, dict[str, Finding]] = {}
    variance, differences = {}, {}
    for name in ESTIMATORS if expected is not None else ESTIMATORS[:1]:
        champion, challenger = (Linear.of_terms(_TERMS[name](logs[side])) for side in SIDES)
        lines = dict(zip(FIGURES, (champion, challenger, challenger - champion, challenger - shown), strict=True))
        found = {what: _influence(line, users, moved.get(what), shocks) for what, line in lines.items()}
        variance[name], differences[name] = found["difference"].second, lines["difference"]
        estimates[name] = {
            what: _guarded(replace(influence, effective_n=_worth_of(what, told)), reasons[what], settings, what)
            for what, influence in found.items()
        }
    primary = "sndr" if variance.get("sndr", math.inf) < variance["snips"] else "snips"
    second: dict[str, Finding] = {}
    if expected is not None:
        line, reason = marginal_difference(choices, expected), reasons["difference"]
        apart = Refusal(reason, len(choices)) if reason else None
        second = {"difference": line.estimate(settings.value_confidence, users)}
        second |= {"apart": apart or (line - differences[primary]).estimate(settings.value_confidence, users)}
    return Value(estimates, primary, logging, told, carried, balance, second)


def refused(reason: Refusal, logging: Finding) -> Value:
    """The same refusal for every figure except what was shown."""
    return Value({ESTIMATORS[0]: dict.fromkeys(FIGURES, reason)}, ESTIMATORS[0], logging)


_TERMS: Mapping[str, Estimator] = {"snips": weighting.snips, "dr": weighting.dr, "sndr": weighting.sndr}


def _log(choices: Choices, side: Side, expected: Floats | None) -> Log:
    if expected is None:
        return Log.checked(choices.reward, choices.logged, choices.target(side))
    of_all = choices.of_all(choices.chosen[side] * expected)
    return Log.checked(choices.reward, choices.logged, choices.target(side), expected[choices.shown], of_all)


def _diagnosed(choices: Choices, side: Side, users: Ints, settings: GateSettings) -> Diagnostics:
    """Of the side's weights; what they lack to a mean of one, for sure, the logging policy never took."""
    candidates = np.diff(choices.offsets)
    told = WeightStatistics.of(choices.logged, choices.target(side), users, candidates, day=choices.days).diagnostics()
    surely = 1.0 - told.mean_weight - settings.max_mean_weight_z * told.mean_weight_stderr
    return replace(told, unsupported_mass=max(0.0, surely))


def _worth_of(what: str, told: Mapping[Side, Diagnostics]) -> float:
    """Effective n of the weights that a figure rests on; of two sides the smaller."""
    sides = [side for side in SIDES if what in (side, "difference")] or ["challenger"]
    return min(told[side].effective_n for side in sides)


def _reasons(
    told: Mapping[Side, Diagnostics], balance: Sequence[Balance], carried: Carried, settings: GateSettings
) -> dict[str, str | None]:
    """Why the decisions carry no such figure, by figure; None where they do."""
    unfit = {side: weights_refused(told[side], settings) for side in SIDES}
    for group in balance:
        if group.off:
            unfit[group.side] = unfit[group.side] or group.reason
    either = next((f"{side}: {reason}" for side, reason in unfit.items() if reason), None)
    return {
        "champion": unfit["champion"],
        "challenger": unfit["challenger"],
        "difference": either or _not_carried(carried, settings),
        "against_logging": unfit["challenger"],
    }


def _carried(weights: Floats, reward: Floats, users: Ints) -> Carried:
    """From the weights' difference (m,), challenger's minus champion's."""
    size = np.abs(weights)
    differs = size > AS_ONE
    gained, lost = (_worth(np.maximum(sign * weights, 0.0) * np.abs(reward), users) for sign in (1.0, -1.0))
    return Carried(
        decisions=len(weights),
        differing=float(differs.mean()),
        gained=gained,
        lost=lost,
        largest_share=float(size.max(initial=0.0) / size.sum()) if differs.any() else 0.0,
        tail_shape=tail_shape(size[differs], int(differs.sum())),
    )


def _by(at: Ints, figure: Floats) -> Floats:
    """Its sums by an integer from 0."""
    return np.bincount(at, weights=figure).astype(np.float64, copy=False)


def _worth(rewards: Floats, users: Ints) -> float:
    """Kish's effective number of users' rewards."""
    sums = _by(users, rewards)
    squares = float((sums * sums).sum())
    return float(sums.sum()) ** 2 / squares if squares else 0.0


def _not_carried(carried: Carried, settings: GateSettings) -> str | None:
    """Why these decisions tell nothing of the difference; the plainest reason first."""
    if not carried.differing:
        return f"champion and challenger choose alike in all {carried.decisions} decisions; there is nothing to compare"
    of = f"among {carried.differing:.2%} of {carried.decisions} decisions, where the sides differ"
    for side, found in (("champion", carried.lost), ("challenger", carried.gained)):
        if found < settings.min_clicks_each_side:
            return (
                f"the difference needs at least {settings.min_clicks_each_side:g} clicks on what the {side} is likelier"
                f" to show; found {found:.1f} equally weighted ones {of}"
            )
    if carried.largest_share > settings.max_weight_share:
        return (
            f"no decision may hold more than {settings.max_weight_share:.1%} of the weights' difference;"
            f" found {carried.largest_share:.1%} in one {of}"
        )
    if settings.min_propensity is None and (carried.tail_shape or 0.0) > settings.max_tail_shape:
        return (
            f"the largest differences of weights need a Pareto shape of at most {settings.max_tail_shape:g}, or their"
            f" mean cannot be told; found {carried.tail_shape:.2f} {of}"
        )
    return None


@dataclass(frozen=True)
class _Shocks:
    """The correlation within users, and within an item's day.

    An item that is liked more, or less, on the day of the log than on other days moves all its clicks together. The
    reward model's residuals are summed by item and day; the amount by which these sums vary more than single users do
    is the shocks' part of the variance (two-way clustering, Cameron, Gelbach & Miller 2011, of the residual only, since
    an item that is liked more every day is not a shock).
    """

    surprise: Floats
    item_day: Ints
    both: Ints

    @classmethod
    def of(cls, choices: Choices, expected: Floats) -> Self:
        """Given what a model expects of each candidate (n,)."""
        item_day = choices.item_days
        pairs = np.unique(choices.users, return_inverse=True)[1] * (int(item_day.max(initial=0)) + 1) + item_day
        return cls(choices.reward - expected[choices.shown], item_day, np.unique(pairs, return_inverse=True)[1])

    def widened(self, of: Influence, weights: Floats) -> Influence:
        """A figure that multiplies rewards with `weights` (m,), with the shocks' part in its error."""
        moved = weights * self.surprise / len(weights)
        together, items = powers(_by(self.both, moved)), powers(_by(self.item_day, moved))
        shock = max(0.0, items[0] - together[0])
        if not (of.second and shock):
            return of
        return replace(of, second=of.second + shock, fourth=of.fourth + items[2] * (shock / items[0]) ** 2)


def _influence(line: Linear, users: Ints, weights: Floats | None, shocks: _Shocks | None) -> Influence:
    """Of a figure whose units are users; `weights` (m,) where it multiplies rewards that items' shocks move."""
    sums, rows = _by(users, line.influence), len(line.influence)
    found = Influence(line.value, len(sums), rows, float(rows), *powers(sums))
    return found if weights is None or shocks is None else shocks.widened(found, weights)


def _guarded(influence: Influence, reason: str | None, settings: GateSettings, what: str) -> Finding:
    """The estimate, unless there is a reason against one or too little to tell its error from."""
    if reason is None and influence.matter < settings.min_decisions_that_matter:
        reason = (
            f"the interval needs at least {settings.min_decisions_that_matter:g} decisions (or users) that matter;"
            f" found {influence.matter:.1f} among {influence.units}"
        )
    if reason:
        return Refusal(reason, influence.rows, influence.effective_n)
    return influence.estimate(settings.value_confidence if what == "difference" else settings.confidence)


def value_slices(choices: Choices, settings: GateSettings) -> list[Slice]:
    """Challenger minus champion on the decisions of each context, and in the rewards of each kind of candidate.

    A context's difference is on its own decisions. A kind's (such as new items) counts the rewards of that kind per
    decision, over all decisions: either side may show more or fewer of them. By `snips`; intervals are simultaneous, as
    in `models.evaluation.slices`; contexts and kinds with fewer than `settings.min_slice_rows` logged decisions have
    none.
    """
    parts = []
    for name, labels in choices.contexts.items():
        for code in labels.largest(settings.min_slice_rows, MOST_LABELS):
            rows = labels.codes == code
            parts.append((name, labels.names[code], rows, rows))
    for name, labels in choices.kinds.items():
        shown = replace(labels, codes=labels.codes[choices.shown])
        for code in shown.largest(settings.min_slice_rows, MOST_LABELS):
            parts.append((name, labels.names[code], np.ones(len(choices), bool), shown.codes == code))
    each = 1 - (1 - settings.confidence) / max(1, len(parts))
    _, users = np.unique(choices.users, return_inverse=True)
    targets = {side: choices.target(side) for side in SIDES}
    found = []
    for name, text, rows, rewarded in parts:
        reward, logged = (choices.reward * rewarded)[rows], choices.logged[rows]
        logs = {side: Log.checked(reward, logged, targets[side][rows]) for side in SIDES}
        champion, challenger = (Linear.of_terms(weighting.snips(logs[side])) for side in SIDES)
        carried = _carried(logs["challenger"].weight - logs["champion"].weight, reward, users[rows])
        reason = _not_carried(carried, settings)
        difference = (challenger - champion).estimate(each, users[rows])
        n = int(rewarded.sum())
        told = Refusal(reason, len(reward)) if reason else difference
        found.append(Slice(name, text, n, n / len(choices), told))
    return found
