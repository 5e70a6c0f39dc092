"""Logs whose every expectation is known: what the worlds of `tests/bench/worlds` are put together from.

A request has a user, a surface and candidates from a catalogue: a candidate's click probability is sigmoid(logit) of
what its user, its item and the two together make of it. A ranker sees a logit through noise (partly one error per
item, as a model that learnt too little of that item has) and predicts about the posterior mean, so it is calibrated,
and better the less noise it has. Champion and challenger share a part of their noise, as two trainings on overlapping
data do; an older ranker did the logging. Policies are those of `models.policies.choice`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.evaluation.choices import SIDES, Choices, Labels, Side
from models.policies.choice import first_choice
from models.settings import PolicySettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
SURFACES = ("home", "search", "similar")
SURFACE_LOGITS = np.array([0.0, 0.15, -0.1])
KIND = tuple("abcdefghij")
KINDS = {"item_category": 1, "item_age": 7}
"""What items can be told apart by, and how many of them in a row are of one kind."""
NEWTON_STEPS = 12
MOST_SURE = 0.999
PLACKETT_LUCE = PolicySettings()


@dataclass(frozen=True)
class Law:
    """What requests and rankers are drawn by; standard deviations are of logits."""

    base: float = -2.4
    """Mean logit."""
    user_sd: float = 0.4
    hidden_user_sd: float = 0.0
    """Of what a user adds that no ranker knows."""
    item_sd: float = 0.5
    match_sd: float = 0.87
    """Of what user and item together make."""
    rise: float = 0.0
    """By how much logits rise from the first request to the last; rankers know it."""
    fewest: int = 12
    candidates: int = 12
    """Of a request, from `fewest` up to these."""
    items: int = 600
    per_user: int = 4
    days: int = 1
    champion_noise: float = 0.6
    challenger_noise: float = 0.6
    shared: float = 0.9
    """Correlation of champion's and challenger's noise."""
    item_noise: float = 0.0
    """Share of the rankers' noise that is one error per item."""
    logging_noise: float = 1.0
    logging_temperature: float = 0.8
    policy: PolicySettings = PLACKETT_LUCE


@dataclass(frozen=True)
class Requests:
    """m requests and their n candidates, laid end to end."""

    offsets: Ints
    items: Ints
    """(n,)"""
    mean: Floats
    """(m,) what a ranker knows of the logits without looking at a candidate."""
    appeal: Floats
    """(n,) the logit without what is hidden."""
    hidden: Floats
    """(m,) what no ranker can know of a request's logits."""
    sd: float
    """Of the appeals about their mean."""
    users: Ints
    days: Ints
    surfaces: Ints
    """(m,) each."""

    def __len__(self) -> int:
        return len(self.users)

    @cached_property
    def sizes(self) -> Ints:
        """(m,)"""
        return np.diff(self.offsets)

    def spread(self, figure: NDArray) -> NDArray:
        """(n,) a figure (m,) of each request, for its candidates."""
        return np.repeat(figure, self.sizes)

    @cached_property
    def p(self) -> Floats:
        """(n,) click probabilities."""
        return sigmoid(self.appeal + self.spread(self.hidden)) if self.hidden.any() else sigmoid(self.appeal)

    def best(self, figure: Floats) -> Bools:
        """(n,) the candidates with the largest figure of their request."""
        return figure == self.spread(np.maximum.reduceat(figure, self.offsets[:-1]))

    def rescaled(self, figure: Floats) -> Floats:
        """(n,) figures >= 0 as probabilities: each request's divided by their sum."""
        return figure / self.spread(np.add.reduceat(figure, self.offsets[:-1]))


def sigmoid(logit: NDArray) -> NDArray:
    """1 / (1 + exp(-logit))."""
    return 1 / (1 + np.exp(-logit))


def normal(rng: np.random.Generator, n: int) -> NDArray:
    """(n,) standard normal, in single precision: half the time, and a log shows no difference."""
    return rng.standard_normal(n, dtype=np.float32)


def requests(law: Law, m: int, rng: np.random.Generator) -> Requests:
    """Those of one log, in order of time; every candidate comes from a channel of its own, so none comes twice."""
    # Evenly in the logarithm: there are more short lists than long ones.
    sizes = np.floor(law.fewest * ((law.candidates + 1) / law.fewest) ** rng.random(m)).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    n, depth = int(offsets[-1]), law.items // law.candidates
    channel = np.arange(n) - np.repeat(offsets[:-1], sizes)
    items = channel + law.candidates * (depth * rng.random(n, dtype=np.float32) ** 2).astype(np.int64)
    users = np.arange(m) // law.per_user
    surfaces = rng.choice(len(SURFACES), m, p=[0.6, 0.25, 0.15])
    mean = law.base + law.user_sd * normal(rng, users[-1] + 1)[users] + SURFACE_LOGITS[surfaces]
    mean += law.rise * (np.arange(m) / m - 0.5)
    appeal = np.repeat(mean, sizes) + law.item_sd * _quality(law, rng)[items] + law.match_sd * normal(rng, n)
    hidden = law.hidden_user_sd * normal(rng, users[-1] + 1)[users] if law.hidden_user_sd else np.zeros(m)
    sd = float(np.hypot(law.item_sd, law.match_sd))
    return Requests(offsets, items, mean, appeal, hidden, sd, users, np.arange(m) * law.days // m, surfaces)


def popularity(law: Law) -> Floats:
    """(items,) how likely each is a candidate; the lower its number the likelier."""
    place = np.arange(law.items) // law.candidates
    return np.sqrt(place + 1) - np.sqrt(place)


def _quality(law: Law, rng: np.random.Generator) -> Floats:
    """(items,) of mean 0 and variance 1 over candidates; popular items are better, other things apart."""
    weight = popularity(law) / popularity(law).sum()

    def standard(x: Floats) -> Floats:
        x = x - weight @ x
        return x / np.sqrt(weight @ x**2)

    return standard(standard(np.log(weight)) + 1.7 * normal(rng, law.items))


def noise(law: Law, found: Requests, rng: np.random.Generator) -> Floats:
    """(n,) standard normal: what a ranker takes each candidate's logit to be above what it is, in units of its own."""
    own = normal(rng, len(found.items))
    if not law.item_noise:
        return own
    of_items = normal(rng, int(found.items.max()) + 1)[found.items]
    return np.sqrt(law.item_noise) * of_items + np.sqrt(1 - law.item_noise) * own


def predicted(law: Law, found: Requests, size: float, unit: Floats) -> Floats:
    """(n,) what a calibrated ranker predicts from logits seen through noise of this size (probit approximation)."""
    keep = found.sd**2 / (found.sd**2 + size**2)
    left = found.sd**2 * (1 - keep) + law.hidden_user_sd**2
    mean = found.spread(found.mean)
    expected = mean + keep * (found.appeal + size * unit - mean)
    return sigmoid(expected / np.sqrt(1 + np.pi * left / 8))


def worth(found: Requests, chosen: Floats, p: Floats) -> float:
    """Expected clicks per request of a policy's choices (n,)."""
    return float(chosen @ p) / len(found)


@dataclass(frozen=True)
class Log:
    """Decisions of a logging policy, what both models would have made of them, and the truth.

    `worth`: expected clicks per request, over every request answered, of champion, challenger and logging policy.
    `unreplayed`: the decisions of those requests that have no propensity, and `unreplayed_worth` that of them alone.
    """

    choices: Choices
    worth: Mapping[str, float]
    unreplayed: Choices | None = None
    unreplayed_worth: Mapping[str, float] | None = None
    calibration: float | None = None
    """The challenger's true calibration error on what was shown, where a world tells it."""
    least_stderr: float | None = None
    """That of the gain by the best unbiased estimator there can be, where a world tells it (`Day.least_stderr`)."""

    @property
    def gain(self) -> float:
        """The challenger's expected clicks per request less the champion's."""
        return self.worth["challenger"] - self.worth["champion"]

    @property
    def lift(self) -> float:
        """The same as a share of the champion's."""
        return self.gain / self.worth["champion"]

    @property
    def left_out(self) -> int:
        """How many requests cannot be replayed."""
        return 0 if self.unreplayed is None else len(self.unreplayed)


@dataclass(frozen=True)
class Day:
    """Requests, what both rankers and policies make of them, and how the logging policy answers; all (n,).

    A world changes what it is about (`dataclasses.replace`) and draws the log.
    """

    law: Law
    requests: Requests
    logging: Floats
    noise: Floats
    """What the champion takes each logit to be above what it is, in units of its noise."""
    predicted: Mapping[Side, Floats] = field(default_factory=dict)
    chosen: Mapping[Side, Floats] = field(default_factory=dict)

    @classmethod
    def of(cls, law: Law, m: int, rng: np.random.Generator) -> "Day":
        """Of m requests of a law."""
        found = requests(law, m, rng)
        older = predicted(law, found, law.logging_noise, normal(rng, len(found.items)))
        settings = law.policy.model_copy(update={"temperature": law.logging_temperature})
        return cls.answered(law, found, first_choice(older, found.offsets, settings), rng)

    @classmethod
    def answered(cls, law: Law, found: Requests, logging: Floats, rng: np.random.Generator) -> "Day":
        """Of these requests and the policy (n,) that answered them."""
        day = cls(law, found, logging, noise(law, found, rng))
        champion = predicted(law, found, law.champion_noise, day.noise)
        return day.with_rankers({"champion": champion}).challenged(noise(law, found, rng))

    def challenged(self, own: Floats, size: float | None = None) -> "Day":
        """With a challenger whose noise is partly the champion's, partly its `own` (n,), and of another `size`."""
        law = self.law
        unit = law.shared * self.noise + np.sqrt(1 - law.shared**2) * own
        scores = predicted(law, self.requests, law.challenger_noise if size is None else size, unit)
        return self.with_rankers({"challenger": scores}).trained()

    def trained(self) -> "Day":
        """With predictions scaled to as many clicks as are expected of what is shown, since rankers learn from that.

        Policies choose by the ratios of predictions, so their choices stay.
        """
        if self.law.hidden_user_sd:  # nobody can have learnt of what is hidden
            return self
        clicks = float(self.logging @ self.requests.p)
        scaled = {side: p * (clicks / float(self.logging @ p)) for side, p in self.predicted.items()}
        return replace(self, predicted={side: np.minimum(MOST_SURE, p) for side, p in scaled.items()})

    def with_rankers(self, scores: Mapping[Side, Floats]) -> "Day":
        """With other predictions of the sides given, and what their policy makes of them."""
        chosen = {side: first_choice(p, self.requests.offsets, self.law.policy) for side, p in scores.items()}
        return replace(
            self,
            predicted={**self.predicted, **{side: np.asarray(p, np.float64) for side, p in scores.items()}},
            chosen={**self.chosen, **chosen},
        )

    def tilted(self, lift: float, p: Floats | None = None, rows: Bools | None = None) -> Floats:
        """(n,) `p` moved until the challenger is worth exactly 1 + lift times the champion; of `rows` (m,) alone.

        Logits move along what the challenger takes more often than the champion: what is true turns out the more as
        it, or the champion, believed. Nothing moves where both choose alike.
        """
        p = self.requests.p if p is None else p
        return tilted(p, self.chosen["champion"], self.chosen["challenger"], lift, self._of(rows))

    def _of(self, rows: Bools | None) -> Ints | slice:
        return slice(None) if rows is None else np.flatnonzero(self.requests.spread(rows))

    def worth(self, p: Floats, rows: Bools | None = None) -> dict[str, float]:
        """Expected clicks per request of champion, challenger and logging, on `rows` (m,) by default on all."""
        at, m = self._of(rows), len(self.requests) if rows is None else int(rows.sum())
        return {name: float(of[at] @ p[at]) / m for name, of in (*self.chosen.items(), ("logging", self.logging))}

    def least_stderr(self) -> float:
        """The semiparametric efficiency bound of the difference's standard error, requests independent.

        sqrt(E[sum over candidates of (challenger - champion)² / logging x p (1 - p)] + the requests' own variance) over
        sqrt(m) (Hahn 1998; Dudík et al. 2014): no unbiased estimator that knows the propensities has a smaller one.
        """
        p, moved = self.requests.p, self.chosen["challenger"] - self.chosen["champion"]
        noise_of = np.divide(moved**2, self.logging, out=np.zeros_like(moved), where=moved != 0) * p * (1 - p)
        gains = np.add.reduceat(moved * p, self.requests.offsets[:-1])
        m = len(self.requests)
        return float(np.sqrt((noise_of.sum() / m + gains.var()) / m))

    def log(
        self,
        rng: np.random.Generator,
        p: Floats | None = None,
        *,
        expected: Floats | None = None,
        said: Floats | None = None,
    ) -> Log:
        """The log of this day when clicks follow `p` (n,), the requests' own by default.

        `expected`: (n,) click probabilities that the policies' worth is told by, where clicks follow something that
        will not come again. `said`: (n,) the propensities that are written down, where they are not those of `logging`.
        """
        p = self.requests.p if p is None else p
        shown = self.drawn(rng)
        clicked = (rng.random(len(shown)) < p[shown]).astype(np.float64)
        written = np.minimum(1.0, (self.logging if said is None else said)[shown])
        return Log(self.choices(shown, clicked, written), self.worth(p if expected is None else expected))

    def drawn(self, rng: np.random.Generator) -> Ints:
        """(m,) the candidate shown for each request."""
        upto, offsets = np.cumsum(self.logging), self.requests.offsets
        before = upto[offsets[:-1]] - self.logging[offsets[:-1]]
        whole = upto[offsets[1:] - 1] - before
        at = np.searchsorted(upto, before + whole * rng.random(len(self.requests)), side="right")
        # Sums of 50,000 ones round in the eleventh digit: a candidate of another request, or one without a chance.
        found: Ints = np.clip(at, offsets[:-1], offsets[1:] - 1)
        return found

    def choices(self, shown: Ints, clicked: Floats, written: Floats) -> Choices:
        """The decisions as a log has them."""
        found = self.requests
        taken = np.zeros(len(found.items), dtype=np.bool_)
        taken[shown] = True
        return Choices(
            offsets=found.offsets,
            taken=taken,
            reward=clicked,
            logged=written,
            chosen={side: self.chosen[side] for side in SIDES},
            predicted={side: self.predicted[side] for side in SIDES},
            users=found.users,
            items=found.items,
            days=found.days,
            contexts={"surface": Labels(found.surfaces, SURFACES)},
            kinds={name: Labels(found.items // step % len(KIND), KIND) for name, step in KINDS.items()},
        )


def tilted(p: Floats, lower: Floats, upper: Floats, lift: float, at: Ints | slice = slice(None)) -> Floats:
    """`p` moved at `at` until the choices `upper` (n,) are worth exactly 1 + lift times `lower` there; (n,).

    Raises ValueError where the two never differ enough.
    """
    towards, wanted = (upper - lower)[at], (upper - (1 + lift) * lower)[at]
    logit, by = np.log(p[at] / (1 - p[at])), 0.0
    worth = float(lower[at] @ p[at])
    for _ in range(NEWTON_STEPS):
        moved = sigmoid(logit + by * towards)
        excess = float(wanted @ moved)
        if abs(excess) < 1e-6 * worth:
            return _placed(p, at, moved)
        slope = float((wanted * towards) @ (moved * (1 - moved)))
        if not slope:
            break
        by -= float(np.clip(excess / slope, -10, 10))
    raise ValueError(f"no tilt found for a lift of {lift:+.2%}; {excess / worth:+.2%} is left after a tilt of {by:g}")


def _placed(p: Floats, at: Ints | slice, moved: Floats) -> Floats:
    found = p.copy()
    found[at] = moved
    return found
