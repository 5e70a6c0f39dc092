"""Logs of choices whose truth is known: small, drawn fast, and wrong only where a test says so."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, softmax

from models.evaluation.choices import Choices, Labels

ITEMS, CANDIDATES, PER_USER = 300, 8, 4


@dataclass(frozen=True)
class World:
    """What a log is drawn by; `value` of it is exact on the very requests.

    Rankers see logits through noise; `lift` of the challenger comes from less of it. `wrong`: by which factor the
    champion's favourite is likelier to be logged than its propensity says. `shock`: standard deviation of a log-odds
    shock by item and day, of which the true value knows nothing.
    """

    decisions: int = 4_000
    base: float = -1.5
    champion_noise: float = 0.8
    challenger_noise: float = 0.8
    temperature: float = 0.7
    wrong: float = 1.0
    shock: float = 0.0
    days: int = 1
    never: bool = False
    """Whether the logging policy never shows every third candidate of a list."""

    def log(self, seed: int) -> tuple[Choices, dict[str, float]]:
        """The choices, and the true reward a decision of `champion`, `challenger` and `logging`."""
        rng = np.random.default_rng(seed)
        m, k = self.decisions, CANDIDATES
        popular = rng.dirichlet(np.full(ITEMS, 0.5))
        items = rng.choice(ITEMS, (m, k), p=popular)
        days = rng.integers(self.days, size=m)
        users = np.arange(m) // PER_USER
        logit = self.base + 0.5 * rng.normal(size=ITEMS)[items] + 0.7 * rng.normal(size=(m, k))
        truth = expit(logit)
        common = rng.normal(size=(m, k))

        def ranked(noise: float) -> np.ndarray:
            seen = logit + noise * (0.9 * common + np.sqrt(1 - 0.81) * rng.normal(size=(m, k)))
            keep = 0.74 / (0.74 + noise**2)
            return expit(self.base + keep * (seen - self.base))

        predicted = {"champion": ranked(self.champion_noise), "challenger": ranked(self.challenger_noise)}
        chosen = {side: softmax(np.log(p) / self.temperature, axis=1) for side, p in predicted.items()}
        logging = softmax(0.6 * logit + 0.6 * rng.normal(size=(m, k)), axis=1)
        if self.never:
            logging[:, ::3] = 0.0
            logging /= logging.sum(axis=1, keepdims=True)
        really = logging.copy()
        really[np.arange(m), chosen["champion"].argmax(axis=1)] *= self.wrong
        really /= really.sum(axis=1, keepdims=True)
        shown = (np.cumsum(really, axis=1) < rng.random((m, 1))).sum(axis=1).clip(max=k - 1)
        at = (np.arange(m), shown)
        shocked = (
            truth
            if not self.shock
            else expit(logit + self.shock * rng.normal(size=(ITEMS, self.days))[items, days[:, None]])
        )
        found = Choices(
            offsets=np.arange(m + 1) * k,
            taken=np.eye(k, dtype=bool)[shown].ravel(),
            reward=(rng.random(m) < shocked[at]).astype(float),
            logged=np.minimum(logging[at], 1.0),
            chosen={side: p.ravel() for side, p in chosen.items()},
            predicted={side: p.ravel() for side, p in predicted.items()},
            users=users,
            items=items.ravel(),
            days=days,
            contexts={"surface": Labels.of(np.array(["home", "search"])[np.arange(m) % 2])},
            kinds={"item_category": Labels.of(items.ravel() % 5)},
        )
        value = {side: float((p * truth).sum() / m) for side, p in chosen.items()}
        return found, value | {"logging": float((logging * truth).sum() / m)}


def with_logged(choices: Choices, logged: np.ndarray) -> Choices:
    """The same with other propensities."""
    return replace(choices, logged=logged)
