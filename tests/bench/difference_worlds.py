"""Two arms whose users are alike or weigh very unlike: what intervals of a difference are tried on."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from models.experiments.switchback import treated as in_treated_block
from tests.bench.switchback_worlds import HOUR, PLAN

Arms = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]
"""Numerators, denominators, who is treated, and figures from before."""
LOOKS, CLICK_RATE, BUYS, SPENT = 7, 1 / 9, 0.25, float(np.exp(2.0 + 0.9**2 / 2))


@dataclass(frozen=True)
class World:
    """`figure` of so many users, a share of them treated, who click or buy `lift` more."""

    figure: str
    users: int
    share: float = 0.5
    heavy: float = 0.0
    """Deviation of the logarithm of how active users are."""
    lift: float = 0.0
    keen: float = 0.0
    """Who is twice as active clicks 2 ** keen as often."""
    adjusted: bool = False

    @property
    def truth(self) -> float:
        """The difference of the arms' means."""
        active = float(np.exp(1.0 + self.heavy**2 / 2))
        levels = {"rate": CLICK_RATE, "clicks": active * CLICK_RATE, "revenue": active * BUYS * CLICK_RATE * SPENT}
        return self.lift * levels[self.figure]

    def looks(self, rng: np.random.Generator, times: int = 1) -> Iterator[Arms]:
        """What is known after each of so many days, of users who come on any of them."""
        n, days = self.users, np.arange(times)
        active = rng.lognormal(1.0, self.heavy, n)
        taste = np.minimum(0.9, rng.beta(1, 8, n) * (active / np.e) ** self.keen)
        treated = rng.random(n) < self.share
        from_day = np.minimum(rng.integers(0, times, n), rng.integers(0, times, n))
        often = np.where(days[:, None] >= from_day, active / (times - from_day), 0.0)
        shown, past = rng.poisson(often), rng.poisson(active)
        clicks = rng.binomial(shown, np.minimum(1, taste * (1 + self.lift * treated)))
        before = np.column_stack([rng.binomial(past, taste), past]).astype(float)
        before[rng.random(n) < 0.2] = np.nan
        spent = np.zeros(clicks.shape)
        if self.figure == "revenue":
            spent = rng.binomial(clicks, BUYS) * rng.lognormal(2.0, 0.9, clicks.shape)
        for day in days:
            there = from_day <= day
            of = (spent if self.figure == "revenue" else clicks)[: day + 1].sum(axis=0)[there].astype(float)
            trials = shown[: day + 1].sum(axis=0)[there] if self.figure == "rate" else np.ones(there.sum())
            yield of, trials.astype(float), treated[there], before[there] if self.adjusted else None


SMALL = {"users": 1000, "share": 0.15}
ALIKE = {
    "click rate, alike": World("rate", 1000),
    "click rate, alike, adjusted, +20 %": World("rate", 1000, lift=0.2, adjusted=True),
    "clicks, alike, 15 % treated": World("clicks", **SMALL),
    "clicks, alike, 130 an arm, adjusted": World("clicks", 260, adjusted=True),
}
UNEVEN = {
    "click rate, 130 an arm": World("rate", 260, heavy=1.3),
    "click rate, 130 an arm, the few heavier": World("rate", 260, heavy=1.6),
    "click rate, 15 % treated": World("rate", **SMALL, heavy=1.3),
    "click rate, 15 % treated, the few heavier": World("rate", **SMALL, heavy=1.6),
    "click rate, 85 % treated, +20 %": World("rate", 1000, 0.85, heavy=1.3, lift=0.2),
    "click rate, 15 % treated, adjusted, +20 %": World("rate", **SMALL, heavy=1.3, lift=0.2, adjusted=True),
    "click rate, 15 % treated, the active click more": World("rate", **SMALL, heavy=1.3, keen=0.3),
    "the same, adjusted": World("rate", **SMALL, heavy=1.3, keen=0.3, adjusted=True),
    "click rate, 5,000 users, 15 % treated": World("rate", 5000, 0.15, heavy=1.3),
    "clicks, 130 an arm, adjusted, +20 %": World("clicks", 260, heavy=1.3, lift=0.2, adjusted=True),
    "clicks, half treated": World("clicks", 1000, heavy=1.3),
    "clicks, 15 % treated": World("clicks", **SMALL, heavy=1.3),
    "clicks, 15 % treated, adjusted": World("clicks", **SMALL, heavy=1.3, adjusted=True),
    "clicks, 5,000 users, 15 % treated, +20 %": World("clicks", 5000, 0.15, heavy=1.3, lift=0.2),
    "revenue, half treated": World("revenue", 1000, heavy=1.0),
    "revenue, 15 % treated, +20 %": World("revenue", **SMALL, heavy=1.0, lift=0.2),
    "revenue, 15 % treated, adjusted": World("revenue", **SMALL, heavy=1.0, adjusted=True),
    "revenue, 5,000 users, 85 % treated": World("revenue", 5000, 0.85, heavy=1.3),
}
READ_DAILY = ("click rate, alike", "click rate, 15 % treated", "the same, adjusted", "revenue, 15 % treated, +20 %")
BLOCKS = {
    "40 pairs alike": (40, 0.0, 0.0),
    "40 pairs, a few have most of the requests": (40, 1.3, 0.0),
    "40 pairs, a few blocks have": (40, 1.0, 1.0),
    "168 pairs, a few have most of the requests": (168, 1.6, 0.0),
    "168 pairs, a few blocks have": (168, 1.0, 1.0),
}
"""Pairs, and how far they, and blocks within them, differ in size (deviations of logarithms)."""
SHARED = {"by request": 1.0, "by user, one in twenty in both arms": 0.05}
"""Shares of users that meet both arms."""


def by_delta_method(
    y: np.ndarray, x: np.ndarray, treated: np.ndarray, before: np.ndarray | None
) -> tuple[float, float]:
    """Welch's limits of linearised figures at 95 %, CUPED taken for known: as they were once told."""
    value, parts, raw = 0.0, [], np.zeros(len(y))
    for side, sign in ((~treated, -1), (treated, 1)):
        rate = y[side].sum() / x[side].sum()
        value, raw[side] = value + sign * rate, (y[side] - rate * x[side]) / x[side].mean()
    if before is not None:
        new = np.isnan(before)
        columns = np.column_stack([np.where(new, np.nanmean(before, axis=0), before), new.any(axis=1)])
        means = [columns[side].mean(axis=0) for side in (~treated, treated)]
        own = columns - np.where(treated[:, None], means[1], means[0])
        weight = np.where(treated, 1 / treated.sum(), 1 / (~treated).sum())[:, None]
        theta = np.linalg.lstsq(own * weight, raw * weight[:, 0])[0]
        value, raw = value - float((means[1] - means[0]) @ theta), raw - own @ theta
    for side in (~treated, treated):
        parts.append((raw[side].var(ddof=1) / side.sum(), side.sum() - 1))
    variance = sum(v for v, _ in parts)
    reach = float(student.ppf(0.975, variance**2 / sum(v**2 / n for v, n in parts)) * variance**0.5)
    return value - reach, value + reach


def pairs_of_blocks(rng: np.random.Generator, pairs: int, heavy: float, within: float) -> tuple[np.ndarray, ...]:
    """Seconds, clicks and trials of a row per block, whose rate walks; what is treated clicks as often."""
    blocks = 2 * pairs
    size = 20 * np.repeat(rng.lognormal(0, heavy, pairs), 2) * rng.lognormal(0, within, blocks)
    trials = rng.poisson(size) + 1
    rate = np.clip(0.3 + 0.12 * np.sin(np.cumsum(rng.normal(0, 0.8, blocks))), 0.02, 0.9)
    # Of an effect that is one pair's good and another's harm, and none on average.
    mood = np.repeat(rng.normal(0, 0.05, pairs), 2) * (in_treated_block(PLAN, np.arange(blocks)) - 0.5)
    return HOUR * (np.arange(blocks) + 0.5), rng.binomial(trials, rate + mood).astype(float), trials.astype(float)


def shared_users(rng: np.random.Generator, both: float) -> dict[str, np.ndarray]:
    """Rows of 300 users, some of whom meet both arms, without a difference: as `difference_of_rates` takes them."""
    n, users = rng.poisson(rng.lognormal(1.0, 1.3, 300)) + 1, np.arange(300)
    user, variant = np.repeat(users, n), rng.random(300) < 0.5
    mixes = rng.random(300) < both
    treated = np.where(mixes[user], rng.random(len(user)) < 0.5, variant[user])
    successes = (rng.random(len(user)) < rng.beta(1, 8, 300)[user]).astype(float)
    return {"successes": successes, "trials": np.ones(len(user)), "variant": treated, "users": user}
