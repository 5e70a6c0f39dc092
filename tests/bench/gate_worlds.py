"""Worlds whose true lift is known, for counting how often the gate is wrong: whole logs, the product's own evidence.

A request has a user and some candidates; a candidate's click probability is sigmoid(logit), and logits differ by user
and by candidate. A ranker sees a logit through noise and predicts the posterior mean, so it is calibrated, and better
the less noise it has. Champion and challenger share a part of their noise, as two trainings on overlapping data do; an
older ranker with a noise of its own did the logging. Policies are `models.policies.choice`'s.

A challenger with as much noise as the champion is exactly as good, by symmetry; for another lift its noise is searched
for on a large sample, where values are expectations over policy and clicks.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from models.evaluation.calibration import calibration_error
from models.evaluation.comparison import compare
from models.evaluation.estimate import Finding
from models.evaluation.gate import Evidence, Verdict, judge
from models.evaluation.off_policy import snips_difference
from models.policies.choice import first_choice
from models.settings import GateSettings, Margins, PolicySettings

Floats = NDArray[np.float64]
SEARCHED = 100_000
"""Requests whose expected values a lift is searched on: the lift's standard error is below 0.1 % of the value."""
PER_USER = 4
PLACKETT_LUCE = PolicySettings()


@dataclass(frozen=True)
class Law:
    """What a world's logs are drawn by."""

    base: float = -2.4
    """Mean logit."""
    user_sd: float = 0.4
    candidate_sd: float = 1.0
    candidates: int = 12
    champion_noise: float = 0.6
    shared: float = 0.9
    """Correlation of champion's and challenger's noise."""
    logging_noise: float = 1.0
    logging_temperature: float = 0.8
    policy: PolicySettings = PLACKETT_LUCE


LAWS = (
    Law(),
    Law(base=-3.2, candidate_sd=1.2, candidates=20),
    Law(shared=0.8, champion_noise=0.5, logging_noise=0.8),
    Law(base=-1.5, user_sd=0.8, policy=PolicySettings(temperature=1.0)),
    Law(policy=PolicySettings(kind="epsilon_greedy", epsilon=0.2), shared=0.95),
)
"""Different click rates, candidates, similarity of the two models, and policies; a row of the table mixes them."""


@dataclass(frozen=True)
class Log:
    """Decisions of a logging policy, and what champion and challenger would have made of them; (n,) each."""

    clicked: Floats
    logged: Floats
    champion: Floats
    challenger: Floats
    """Probabilities of the logged choice under the two policies."""
    scores: tuple[Floats, Floats]
    """Both rankers' p_click of what was shown."""
    users: NDArray[np.int64]
    value: tuple[float, float, float]
    """Expected clicks per request of champion, challenger and logging policy on these very requests."""


def _scores(seen: Floats, mean: Floats, law: Law, noise: float) -> Floats:
    """The probability a calibrated ranker predicts from a logit seen through noise (probit approximation)."""
    keep = law.candidate_sd**2 / (law.candidate_sd**2 + noise**2)
    left = law.candidate_sd**2 * (1 - keep)
    logit = (mean + keep * (seen - mean)) / np.sqrt(1 + np.pi * left / 8)
    found: Floats = 1 / (1 + np.exp(-logit))
    return found


def _requests(law: Law, challenger_noise: float, n: int, rng: np.random.Generator) -> tuple[Floats, ...]:
    """True click probabilities and the three rankers' predictions, (n, candidates) each."""

    def normal(*shape: int) -> Floats:
        return rng.standard_normal(shape, dtype=np.float32).astype(np.float64)

    users = -(-n // PER_USER)
    mean = law.base + law.user_sd * np.repeat(normal(users, 1), PER_USER, axis=0)[:n]
    logit = mean + law.candidate_sd * normal(n, law.candidates)
    common, own, old = (normal(n, law.candidates) for _ in range(3))
    challenging = law.shared * common + np.sqrt(1 - law.shared**2) * own
    return (
        1 / (1 + np.exp(-logit)),
        _scores(logit + law.champion_noise * common, mean, law, law.champion_noise),
        _scores(logit + challenger_noise * challenging, mean, law, challenger_noise),
        _scores(logit + law.logging_noise * old, mean, law, law.logging_noise),
    )


def _policy(scores: Floats, settings: PolicySettings) -> Floats:
    n, k = scores.shape
    return first_choice(scores.ravel(), np.arange(n + 1) * k, settings).reshape(n, k)


@cache
def challenger_noise(law: Law, lift: float) -> float:
    """The noise that makes the challenger's value (1 + lift) times the champion's; raises ValueError if none does."""
    if lift == 0:
        return law.champion_noise

    def found(noise: float) -> float:
        p, *predicted = _requests(law, noise, SEARCHED, np.random.default_rng(1))
        before, after = (float((_policy(s, law.policy) * p).sum()) for s in predicted[:2])
        return after / before - 1 - lift

    low, high = 0.0, 4 * law.champion_noise
    if found(low) < 0 or found(high) > 0:
        raise ValueError(f"no challenger of {law} has a lift of {lift:+.1%}")
    for _ in range(11):
        middle = (low + high) / 2
        low, high = (middle, high) if found(middle) > 0 else (low, middle)
    return (low + high) / 2


def drawn(law: Law, noise: float, decisions: int, seed: int) -> Log:
    """The log of one world whose challenger sees through `noise`; see `challenger_noise`."""
    rng = np.random.default_rng([seed, 7])
    p, before, after, old = _requests(law, noise, decisions, rng)
    logging = _policy(old, law.policy.model_copy(update={"temperature": law.logging_temperature}))
    champion, challenger = _policy(before, law.policy), _policy(after, law.policy)
    rows = np.arange(decisions)
    taken = (np.cumsum(logging, axis=1) < rng.random((decisions, 1))).sum(axis=1).clip(max=law.candidates - 1)
    return Log(
        clicked=(rng.random(decisions) < p[rows, taken]).astype(np.float64),
        logged=np.minimum(1.0, logging[rows, taken]),
        champion=champion[rows, taken],
        challenger=challenger[rows, taken],
        scores=(before[rows, taken], after[rows, taken]),
        users=rows // PER_USER,
        value=tuple(float((policy * p).sum() / decisions) for policy in (champion, challenger, logging)),  # type: ignore[arg-type]
    )


METRICS = ("auc", "log_loss")
"""One placement a request: list metrics would be 1 or nothing."""
GATE = GateSettings(
    must_not_fall=Margins(ndcg_at_10=None),
    # What a log of decisions alone cannot show is not asked; every other rule is, at its default.
    max_slice_drop=None,
    max_concentration_rise=None,
    max_skew=None,
    max_latency_ms=None,
    min_known_share=None,
)


def difference(log: Log, settings: GateSettings = GATE) -> Finding:
    """The estimated value of the challenger minus the champion's, per decision."""
    return snips_difference(
        reward=log.clicked,
        logged=log.logged,
        champion=log.champion,
        challenger=log.challenger,
        clusters=log.users,
        settings=settings,
    )


def verdict(log: Log, settings: GateSettings = GATE) -> Verdict:
    """The gate's verdict on the log, from the evidence the product computes."""
    champion, challenger = log.scores
    evidence = Evidence(
        comparison=compare(log.clicked, champion, challenger, log.users, log.users, settings, metrics=METRICS),
        value={"difference": difference(log, settings)},
        test_rows=len(log.clicked),
        calibration=calibration_error(log.clicked, challenger, settings=settings, clusters=log.users),
    )
    return judge(evidence, settings)
