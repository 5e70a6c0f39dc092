"""Worlds whose true lift is known, for counting how often the gate is wrong: whole logs, the product's own evidence.

A request has a user and some candidates; a candidate's click probability is sigmoid(logit). In most laws logits differ
by user and by candidate, normally; one takes users, candidates, click probabilities and logging policy from the
product's simulated world (`models.world`), a fresh one per seed. A ranker sees a logit through noise and predicts about
the posterior mean, so it is calibrated, and better the less noise it has. Champion and challenger share a part of their
noise, as two trainings on overlapping data do; an older policy did the logging. Policies are those of
`models.policies.choice`.

A challenger with as much noise as the champion is exactly as good, by symmetry; for another lift its noise is searched
for on a large sample, where values are expectations over policy and clicks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from models.evaluation.calibration import calibration_error, calibration_ratio
from models.evaluation.comparison import compare
from models.evaluation.estimate import Finding
from models.evaluation.gate import Evidence, Verdict, judge
from models.evaluation.off_policy import snips_difference
from models.policies.choice import first_choice
from models.settings import GateSettings, Margins, PolicySettings, WorldSettings
from models.world.day import draw_requests
from models.world.policy import softmax
from models.world.world import World

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SEARCHED = 100_000
"""Requests whose expected values a lift is searched on: the lift's standard error is below 0.1 % of the value."""
BLOCK = 50_000
"""Requests drawn at once; in the simulated world they are a day."""
PER_USER = 4
PLACKETT_LUCE = PolicySettings()


@dataclass(frozen=True)
class Law:
    """What a world's logs are drawn by."""

    name: str
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
    simulated: bool = False
    """Requests of `models.world`; then only `champion_noise`, `shared` and `policy` count."""


LAWS = (
    Law("plain"),
    Law("rare clicks, 20 candidates", base=-3.2, candidate_sd=1.2, candidates=20),
    Law("models less alike", shared=0.8, champion_noise=0.5, logging_noise=0.8),
    Law("near uniform policy", base=-1.5, user_sd=0.8, policy=PolicySettings(temperature=1.0)),
    Law("simulated world", simulated=True),
    Law("epsilon-greedy", policy=PolicySettings(kind="epsilon_greedy", epsilon=0.2), shared=0.95),
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
    users: Ints
    value: tuple[float, float, float]
    """Expected clicks per request of champion, challenger and logging policy on these very requests."""


@dataclass(frozen=True)
class Requests:
    """n requests: true click `p` of each candidate and the `logging` policy's choice, (n, candidates) each.

    `mean` (n, 1) and `sd`: what is known of a request's logits without looking at a candidate. `users` (n,).
    """

    p: Floats
    mean: Floats
    sd: float
    logging: Floats
    users: Ints

    @property
    def logit(self) -> Floats:
        """(n, candidates)."""
        found: Floats = np.log(self.p / (1 - self.p))
        return found


def _normal(rng: np.random.Generator, *shape: int) -> Floats:
    return rng.standard_normal(shape, dtype=np.float32).astype(np.float64)


def _scores(logit: Floats, requests: Requests, noise: float, noise_drawn: Floats) -> Floats:
    """The probability a calibrated ranker predicts from a logit seen through noise (probit approximation)."""
    keep = requests.sd**2 / (requests.sd**2 + noise**2)
    left = requests.sd**2 * (1 - keep)
    expected = requests.mean + keep * (logit + noise * noise_drawn - requests.mean)
    found: Floats = 1 / (1 + np.exp(-expected / np.sqrt(1 + np.pi * left / 8)))
    return found


def _blocks(law: Law, n: int, seed: int, rng: np.random.Generator) -> Iterator[Requests]:
    """The requests of one world, `BLOCK` at a time."""
    sizes = [min(BLOCK, n - start) for start in range(0, n, BLOCK)]
    if law.simulated:
        world = World(WorldSettings(seed=seed, requests_per_day=min(n, BLOCK), days=max(3, len(sizes))))
        for day, size in enumerate(sizes):
            yield _simulated(world, day, size)
        return
    for block, size in enumerate(sizes):
        users = -(-size // PER_USER)
        mean = law.base + law.user_sd * np.repeat(_normal(rng, users, 1), PER_USER, axis=0)[:size]
        p = 1 / (1 + np.exp(-(mean + law.candidate_sd * _normal(rng, size, law.candidates))))
        at = np.arange(size) // PER_USER + block * BLOCK
        found = Requests(p, mean, law.candidate_sd, np.zeros_like(p), at)
        older = _scores(found.logit, found, law.logging_noise, _normal(rng, *p.shape))
        settings = law.policy.model_copy(update={"temperature": law.logging_temperature})
        yield Requests(p, mean, law.candidate_sd, _policy(older, settings), at)


def _simulated(world: World, day: int, size: int) -> Requests:
    drawn = draw_requests(world, day)
    user, surface, candidates = drawn.user[:size], drawn.surface[:size], drawn.candidates[:size]
    p = world.click_probability(day, user, candidates, surface)
    logit = np.log(p / (1 - p))
    mean = logit.mean(axis=1, keepdims=True)
    scores = world.logging_scores(day, user, candidates)
    logging = softmax(scores, world.settings.logging_temperature)
    return Requests(p, mean, float((logit - mean).std()), logging, user)


def _policy(scores: Floats, settings: PolicySettings) -> Floats:
    n, k = scores.shape
    return first_choice(scores.ravel(), np.arange(n + 1) * k, settings).reshape(n, k)


def _rankers(law: Law, requests: Requests, challenger_noise: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """What champion and challenger predict for each candidate."""
    common, own = (_normal(rng, *requests.p.shape) for _ in range(2))
    challenging = law.shared * common + np.sqrt(1 - law.shared**2) * own
    logit = requests.logit
    return (
        _scores(logit, requests, law.champion_noise, common),
        _scores(logit, requests, challenger_noise, challenging),
    )


@cache
def challenger_noise(law: Law, lift: float) -> float:
    """The noise that makes the challenger's value (1 + lift) times the champion's; raises ValueError if none does."""
    if lift == 0:
        return law.champion_noise

    def found(noise: float) -> float:
        before = after = 0.0
        rng = np.random.default_rng(1)
        for requests in _blocks(law, SEARCHED, 1, rng):
            champion, challenger = (_policy(s, law.policy) for s in _rankers(law, requests, noise, rng))
            before += float((champion * requests.p).sum())
            after += float((challenger * requests.p).sum())
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
    parts = [_part(law, requests, noise, rng) for requests in _blocks(law, decisions, seed, rng)]

    def column(name: str) -> Floats:
        return np.concatenate([getattr(part, name) for part in parts])

    first, second = (np.concatenate([part.scores[side] for part in parts]) for side in (0, 1))
    sizes = [len(part.clicked) for part in parts]
    return Log(
        *(column(name) for name in ("clicked", "logged", "champion", "challenger")),
        scores=(first, second),
        users=column("users").astype(np.int64),
        value=tuple(np.average([part.value for part in parts], axis=0, weights=sizes).tolist()),
    )


def _part(law: Law, requests: Requests, noise: float, rng: np.random.Generator) -> Log:
    before, after = _rankers(law, requests, noise, rng)
    champion, challenger = _policy(before, law.policy), _policy(after, law.policy)
    n, k = requests.p.shape
    rows = np.arange(n)
    taken = (np.cumsum(requests.logging, axis=1) < rng.random((n, 1))).sum(axis=1).clip(max=k - 1)
    return Log(
        clicked=(rng.random(n) < requests.p[rows, taken]).astype(np.float64),
        logged=np.minimum(1.0, requests.logging[rows, taken]),
        champion=champion[rows, taken],
        challenger=challenger[rows, taken],
        scores=(before[rows, taken], after[rows, taken]),
        users=requests.users,
        value=tuple(float((policy * requests.p).sum() / n) for policy in (champion, challenger, requests.logging)),  # type: ignore[arg-type]
    )


METRICS = ("auc", "log_loss")
"""One placement a request: list metrics would be 1 or nothing."""
GATE = GateSettings(
    must_not_fall=Margins(ndcg_at_10=None),
    # What a log of decisions alone cannot show is not asked; every other rule is, at its default.
    max_conversion_drop=None,
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
        held_out_hours={"challenger": 1.0},  # rankers here know logits, and learn from no rows
        calibration_ratio=calibration_ratio(log.clicked, challenger, settings=settings, clusters=log.users),
        calibration=calibration_error(log.clicked, challenger, settings=settings, clusters=log.users),
        click_rate=float(log.clicked.mean()),
    )
    return judge(evidence, settings)
