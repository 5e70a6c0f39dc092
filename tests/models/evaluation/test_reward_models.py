"""Cross-fitted reward models: against scikit-learn, with folds of one class, and on real logs against the reference."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from models.evaluation.off_policy import dm, dr, ips
from models.evaluation.reward_models import CrossFitted, Options, cross_fitted, logistic

OPEN_BANDIT = Path(__file__).resolve().parents[4] / "shared" / "data" / "open_bandit"
RNG = np.random.default_rng(0)


def test_logistic_is_scikit_learns() -> None:
    """Same objective, same minimum: predictions agree to 1e-6 with a library everybody trusts."""
    x = RNG.normal(size=(400, 5))
    y = (RNG.random(400) < expit(x @ [1, -2, 0, 0.5, 0] - 1)).astype(float)
    for penalty in (0.1, 1.0, 30.0):
        theirs = LogisticRegression(C=1 / penalty, tol=1e-12, max_iter=5_000).fit(x, y)
        np.testing.assert_allclose(logistic(x, y, penalty)(x), theirs.predict_proba(x)[:, 1], atol=1e-6)


def test_logistic_survives_what_separates() -> None:
    """Perfectly separable rows, a duplicate column and a constant one: finite, and on the right side."""
    x = np.column_stack([np.arange(20.0) - 9.5, np.arange(20.0) - 9.5, np.ones(20)])
    y = (x[:, 0] > 0).astype(float)
    p = logistic(x, y, 1e-3)(x)
    assert np.isfinite(p).all()
    assert ((p > 0.5) == (y > 0)).all()
    with pytest.raises(ValueError, match=r"^a logistic model needs a penalty above 0; found 0$"):
        logistic(x, y, 0.0)


ACTIONS = 6
CHANCES = np.array([0.3, 0.25, 0.2, 0.15, 0.05, 0.05])


def world(n: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray, float]:
    """A log whose users differ and whose actions add to the logit; the target policy; its true value."""
    rng = np.random.default_rng(seed)
    users = rng.integers(n // 4, size=n)
    liking, worth = rng.normal(size=n // 4 + 1), rng.normal(size=ACTIONS) * 0.7
    action = rng.choice(ACTIONS, n, p=CHANCES)
    click = expit(liking[users][:, None] + worth - 1.5)
    target = np.roll(CHANCES, 2)
    log = {
        "reward": (rng.random(n) < click[np.arange(n), action]).astype(float),
        "users": users,
        "liking": liking[users],
        "action": action,
    }
    return log, target, float((click * target).sum(axis=1).mean())


def features(liking: np.ndarray, action: np.ndarray) -> np.ndarray:
    return np.column_stack([liking, np.eye(ACTIONS)[action]])


def fitted(log: dict[str, np.ndarray], target: np.ndarray, seed: int = 0) -> CrossFitted:
    def options(rows: np.ndarray) -> Options:
        decision = np.repeat(np.arange(len(rows)), ACTIONS)
        action = np.tile(np.arange(ACTIONS), len(rows))
        return Options(features(log["liking"][rows][decision], action), decision, target[action])

    return cross_fitted(
        reward=log["reward"],
        users=log["users"],
        taken=features(log["liking"], log["action"]),
        options=options,
        seed=seed,
    )


def test_a_cross_fitted_model_narrows_the_estimate() -> None:
    """With a model that explains users and actions, doubly robust covers the truth, and nearer than IPS does."""
    log, target, value = world(4_000, 1)
    found = fitted(log, target)
    weights = {"reward": log["reward"], "logged": CHANCES[log["action"]], "target": target[log["action"]]}
    robust = dr(**weights, predicted_logged=found.predicted_logged, predicted_target=found.predicted_target)
    plain = ips(**weights)
    assert found.notes == ()
    assert robust.low <= value <= robust.high
    assert robust.stderr < 0.95 * plain.stderr


def test_no_user_is_predicted_by_a_model_that_knows_them() -> None:
    """Changing every reward of one fold's users changes no prediction for them, only for the others."""
    log, target, _ = world(1_000, 2)
    before = fitted(log, target)
    victim = log["users"] == log["users"][0]
    after = fitted({**log, "reward": np.where(victim, 1 - log["reward"], log["reward"])}, target)
    np.testing.assert_array_equal(after.predicted_logged[victim], before.predicted_logged[victim])
    np.testing.assert_array_equal(after.predicted_target[victim], before.predicted_target[victim])
    assert (after.predicted_logged != before.predicted_logged).any()


def test_folds_are_of_users_not_of_rows_or_runs() -> None:
    """The order of rows means nothing: folds are hashes of users."""
    log, target, _ = world(1_000, 3)
    at = np.random.default_rng(0).permutation(1_000)
    straight, shuffled = fitted(log, target), fitted({key: a[at] for key, a in log.items()}, target)
    np.testing.assert_allclose(shuffled.predicted_logged, straight.predicted_logged[at], rtol=1e-5)
    other = fitted(log, target, seed=1)
    assert (other.predicted_logged != straight.predicted_logged).any()


@pytest.mark.parametrize("clicks", [0, 1])
def test_a_fold_of_one_class_gets_a_constant_and_says_so(clicks: int) -> None:
    """No clicks, or one: models of one class would crash or predict certainty; a smoothed constant stands in, aloud."""
    log, target, _ = world(300, 4)
    log["reward"] = np.zeros(300)
    log["reward"][:clicks] = 1.0
    found = fitted(log, target)
    assert len(found.notes) == (3 if clicks == 0 else 1)
    assert all("rewards are 1, so the constant" in note for note in found.notes)
    assert ((found.predicted_logged > 0) & (found.predicted_logged < 0.02)).all()
    estimate = dm(
        reward=log["reward"], logged=CHANCES[log["action"]], target=target[log["action"]],
        predicted_target=found.predicted_target,
    )  # fmt: skip
    assert 0 < estimate.value < 0.02


def test_impossible_folds_and_rewards_are_errors() -> None:
    """One fold is no cross-fitting; euros need another model than a logistic one."""
    log, _, _ = world(50, 5)
    given = {"users": log["users"], "taken": features(log["liking"], log["action"])}

    def options(rows: np.ndarray) -> Options:
        return Options(np.zeros((0, 7)), np.zeros(0, int), np.zeros(0))

    with pytest.raises(ValueError, match=r"^cross-fitting needs at least 2 folds; found 1$"):
        cross_fitted(reward=log["reward"], **given, options=options, folds=1)
    with pytest.raises(ValueError, match=r"^a reward model needs rewards that are 0 or 1; found others$"):
        cross_fitted(reward=log["reward"] * 2.5, **given, options=options)
    with pytest.raises(ValueError, match="one length"):
        cross_fitted(reward=log["reward"][1:], **given, options=options)


@pytest.mark.skipif(not OPEN_BANDIT.is_dir(), reason="needs ../shared/data/open_bandit")
def test_raw_logs_agree_with_the_reference() -> None:
    """From the CSV file alone: DM and DR of our own model lie inside the reference's interval for DR.

    The reference's interval for DM itself is a bootstrap of one model's predictions (0.0041 to 0.0042): it says nothing
    of what another model, as good, would predict.
    """
    rows = pd.read_csv(OPEN_BANDIT / "random" / "men" / "men.csv")
    with np.load(OPEN_BANDIT / "reference" / "inputs_random_to_bts_men.npz") as z:
        policy = z["action_dist_single_round"]
    actions = len(policy)
    position, action = rows["position"].to_numpy() - 1, rows["item_id"].to_numpy()
    context = pd.get_dummies(rows[[f"user_feature_{i}" for i in range(4)]], drop_first=True).to_numpy(dtype=float)
    context = np.column_stack([context, np.eye(3)[position]])

    def options(some: np.ndarray) -> Options:
        decision, item = np.repeat(np.arange(len(some)), actions), np.tile(np.arange(actions), len(some))
        features = np.column_stack([context[some][decision], np.eye(actions)[item]])
        return Options(features, decision, policy[item, position[some][decision]])

    reward = rows["click"].to_numpy(dtype=float)
    found = cross_fitted(
        reward=reward,
        users=np.arange(len(rows)),  # the log has no user ids
        taken=np.column_stack([context, np.eye(actions)[action]]),
        options=options,
        folds=2,
    )
    log = {
        "reward": reward, "logged": rows["propensity_score"].to_numpy(), "target": policy[action, position],
        "predicted_target": found.predicted_target,
    }  # fmt: skip
    results = json.loads((OPEN_BANDIT / "reference" / "obp_reference.json").read_text())["results"]
    (expected,) = [r for r in results if r["behavior_policy"] == "random" and r["campaign"] == "men"]
    low, high = (expected["bootstrap_ci"]["dr"][f"95.0% CI ({side})"] for side in ("lower", "upper"))
    assert low <= dm(**log).value <= high
    assert low <= dr(**log, predicted_logged=found.predicted_logged).value <= high
