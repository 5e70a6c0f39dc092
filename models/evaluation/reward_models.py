"""Cross-fitted reward models for the direct and doubly robust estimators: no model predicts users it learned from.

The features of an action decide the direct method (DM); doubly robust corrects for them. On 10,000 decisions of Open
Bandit's men campaign, logged by its uniform policy, a logistic model with Open Bandit Pipeline's item features (the
alphabetical rank of three hashed codes) gives DM 0.0041, and one with the item's identity 0.0045, with Newton's method
here and with scikit-learn alike; doubly robust gives 0.0046 with both. The target policy earned 0.0069 +- 0.0008, and
identity was closer in all three logs that could be compared: give the model identities if actions recur.

DM's own interval does not show this, because it treats the predictions as fixed (0.0041 to 0.0042). The assignment to
folds moves DM by 0.00005 there, and the sample of decisions (a bootstrap that refits) by 0.0007 to 0.0010.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from models.evaluation.choices import SIDES, Choices
from models.evaluation.hashing import hashed
from models.evaluation.weighting import Floats, need_one_length

Ints = NDArray[np.int64]
STEPS = 25
CONVERGED = 1e-10
FOLDS = 3
SURE = 1e-6
"""Predictions are clipped this far from 0 and 1 before their log-odds are taken."""
Model = Callable[[Floats], Floats]
"""From features (m, d) to expected rewards (m,)."""


@dataclass(frozen=True)
class CrossFitted:
    """One model per fold of users, fitted on the other folds' rows, and notes about the folds."""

    models: tuple[Model, ...]
    seed: int
    notes: tuple[str, ...]

    def predict(self, users: Ints, features: Floats) -> Floats:
        """(m,) the expected reward of rows with `features` (m, d), each from the model that never saw its user (m,)."""
        fold, expected = _folds(users, len(self.models), self.seed), np.zeros(len(users))
        for number, model in enumerate(self.models):
            own = np.flatnonzero(fold == number)
            expected[own] = model(features[own])
        return expected


def cross_fitted(
    *, reward: Floats, users: Ints, taken: Floats, folds: int = FOLDS, penalty: float = 1.0, seed: int = 0
) -> CrossFitted:
    """Models of the reward (n,) 0.0 or 1.0 of what was taken, `taken` (n, d) features of decision and action together.

    `users` (n,) integers: a user's fold is a hash, the same in every run and partition. The model is `logistic` with
    `penalty`. Where a fold's training rows have one class only, a constant stands in, and `notes` says so. Raises
    ValueError for fewer than 2 folds, unequal lengths, or rewards other than 0 and 1.
    """
    rewards, features = np.asarray(reward, dtype=np.float64), np.asarray(taken, dtype=np.float64)
    need_one_length({"reward": rewards, "users": np.asarray(users), "taken": features[:, 0]})
    if folds < 2:
        raise ValueError(f"cross-fitting needs at least 2 folds; found {folds}")
    if not np.isin(rewards, (0.0, 1.0)).all():
        raise ValueError("a reward model needs rewards that are 0 or 1; found others")
    fold = _folds(users, folds, seed)
    found = [_of_others(features[fold != number], rewards[fold != number], penalty) for number in range(folds)]
    notes = [f"fold {number + 1} of {folds}: {note}" for number, (_, note) in enumerate(found) if note]
    return CrossFitted(tuple(model for model, _ in found), seed, tuple(notes))


def expected_rewards(choices: Choices) -> Floats | None:
    """(n,) the expected reward of each candidate, cross-fitted by user from the log-odds of both rankers.

    None if a ranker predicts nothing, or rewards are other than 0 and 1.
    """
    if set(choices.predicted) != set(SIDES) or not np.isin(choices.reward, (0.0, 1.0)).all():
        return None
    said = np.column_stack([logit(np.clip(choices.predicted[side], SURE, 1 - SURE)) for side in SIDES])
    found = cross_fitted(reward=choices.reward, users=choices.users, taken=said[choices.shown])
    return found.predict(choices.users[choices.row], said)


def _folds(users: Ints, folds: int, seed: int) -> Ints:
    return (hashed(users, seed) % np.uint64(folds)).astype(np.int64)


def _of_others(features: Floats, reward: Floats, penalty: float) -> tuple[Model, str | None]:
    """The model of these rows; a constant, and why, where they cannot carry one."""
    clicks, n = int(reward.sum()), len(reward)
    if 0 < clicks < n:
        return logistic(features, reward, penalty), None
    constant = (clicks + 0.5) / (n + 1.0)
    note = f"{clicks} of {n} rewards are 1, so the constant {constant:.2g} stands in for a model"
    return lambda rows: np.full(len(rows), constant), note


def logistic(features: Floats, reward: Floats, penalty: float) -> Model:
    """Logistic regression by Newton's method: summed log-loss plus penalty / 2 |weights|², intercept not penalised.

    `features` (n, d), `reward` (n,) 0.0 or 1.0 with both classes, `penalty` > 0. Raises ValueError for a penalty that
    is not above 0: separable rows would have no solution.
    """
    if not penalty > 0:
        raise ValueError(f"a logistic model needs a penalty above 0; found {penalty:g}")
    design = np.column_stack([np.ones(len(features)), features])
    shrink = np.full(design.shape[1], penalty)
    shrink[0] = 0.0
    weights = np.zeros(design.shape[1])
    weights[0] = np.log(reward.mean() / (1.0 - reward.mean()))

    def loss(w: Floats) -> float:
        score = design @ w
        return float((np.logaddexp(0.0, score) - reward * score).sum() + (shrink * w * w).sum() / 2)

    current = loss(weights)
    for _ in range(STEPS):
        p = expit(design @ weights)
        gradient = design.T @ (p - reward) + shrink * weights
        curvature = (design * (p * (1.0 - p))[:, None]).T @ design + np.diag(shrink)
        step, size = np.linalg.solve(curvature + 1e-9 * np.eye(len(weights)), gradient), 1.0
        previous, nearer = current, loss(weights - step)
        while size > 1e-6 and nearer > previous:
            size /= 2
            nearer = loss(weights - size * step)
        weights, current = weights - size * step, nearer
        if previous - current <= CONVERGED * abs(current):
            break
    return lambda rows: expit(weights[0] + rows @ weights[1:])
