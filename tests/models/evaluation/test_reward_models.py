"""Cross-fitted reward models: against scikit-learn, with folds of one class, and on real logs against the reference."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

from models.evaluation.estimate import Estimate
from models.evaluation.hashing import hashed
from models.evaluation.off_policy import dm, dr, ips
from models.evaluation.reward_models import cross_fitted, logistic

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


@dataclass(frozen=True)
class Fitted:
    """Predictions (n,) for estimators with a model."""

    predicted_logged: np.ndarray
    predicted_target: np.ndarray
    notes: tuple[str, ...]


def fitted(log: dict[str, np.ndarray], target: np.ndarray, seed: int = 0) -> Fitted:
    users, liking = log["users"], log["liking"]
    taken = features(liking, log["action"])
    found = cross_fitted(reward=log["reward"], users=users, taken=taken, seed=seed)
    n = len(users)
    every = features(np.repeat(liking, ACTIONS), np.tile(np.arange(ACTIONS), n))
    expected = found.predict(np.repeat(users, ACTIONS), every).reshape(n, ACTIONS) @ target
    return Fitted(found.predict(users, taken), expected, found.notes)


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
    with pytest.raises(ValueError, match=r"^cross-fitting needs at least 2 folds; found 1$"):
        cross_fitted(reward=log["reward"], **given, folds=1)
    with pytest.raises(ValueError, match=r"^a reward model needs rewards that are 0 or 1; found others$"):
        cross_fitted(reward=log["reward"] * 2.5, **given)
    with pytest.raises(ValueError, match="one length"):
        cross_fitted(reward=log["reward"][1:], **given)


LOGS = [("random", "bts", "men"), ("random", "bts", "all"), ("bts", "random", "men")]
needs_open_bandit = pytest.mark.skipif(not OPEN_BANDIT.is_dir(), reason="needs ../shared/data/open_bandit")


@dataclass(frozen=True)
class RawLog:
    """A log's CSV files, what the reference says of it, and what it takes the target policy for."""

    rows: pd.DataFrame
    items: pd.DataFrame
    target: np.ndarray
    """(items, positions) probabilities, whatever the context."""
    reference: dict[str, Any]

    @classmethod
    def read(cls, behaviour: str, evaluation: str, campaign: str) -> "RawLog":
        folder, reference = OPEN_BANDIT / behaviour / campaign, OPEN_BANDIT / "reference"
        with np.load(reference / f"inputs_{behaviour}_to_{evaluation}_{campaign}.npz") as z:
            target = z["action_dist_single_round"]
        keys = {"behavior_policy": behaviour, "evaluation_policy": evaluation, "campaign": campaign}
        results = json.loads((reference / "obp_reference.json").read_text())["results"]
        (expected,) = [r for r in results if keys.items() <= r.items()]
        return cls(pd.read_csv(folder / f"{campaign}.csv"), pd.read_csv(folder / "item_context.csv"), target, expected)

    @property
    def context(self) -> np.ndarray:
        """(n, d) the user's features, each value a column but the first."""
        users = self.rows[[f"user_feature_{i}" for i in range(4)]]
        return pd.get_dummies(users, drop_first=True).to_numpy(dtype=float)

    @property
    def described(self) -> np.ndarray:
        """(items, 4) as the reference has them: a number, and three hashed codes by their alphabetical rank."""
        codes = [np.unique(self.items[f"item_feature_{i}"], return_inverse=True)[1] for i in (1, 2, 3)]
        return np.column_stack([*codes, self.items["item_feature_0"]])

    def inside(self, estimator: str, value: float) -> bool:
        """Whether a value lies in the reference's interval."""
        low, high = (self.reference["bootstrap_ci"][estimator][f"95.0% CI ({side})"] for side in ("lower", "upper"))
        return bool(low <= value <= high)

    def error(self, value: float) -> float:
        """How far a value is from what the target policy really earned, by its own log."""
        return abs(value - self.reference["ground_truth_on_policy_value"])

    def modelled(self, items: np.ndarray, folds_of: np.ndarray, seed: int = 0) -> tuple[Estimate, Estimate]:
        """DM and DR with items (items, d), a model for each position, three folds of the "users" `folds_of`."""
        position, action = self.rows["position"].to_numpy() - 1, self.rows["item_id"].to_numpy()
        reward, context = self.rows["click"].to_numpy(dtype=float), self.context
        predicted = {"predicted_logged": np.zeros(len(reward)), "predicted_target": np.zeros(len(reward))}
        for place in np.unique(position):
            at = np.flatnonzero(position == place)
            shown = np.column_stack([context[at], items[action[at]]])
            found = cross_fitted(reward=reward[at], users=folds_of[at], taken=shown, seed=seed)
            predicted["predicted_logged"][at] = found.predict(folds_of[at], shown)
            for item, chance in zip(items, self.target[:, place], strict=True):
                every = np.column_stack([context[at], np.tile(item, (len(at), 1))])
                predicted["predicted_target"][at] += chance * found.predict(folds_of[at], every)
        log = {
            "reward": reward,
            "logged": self.rows["propensity_score"].to_numpy(),
            "target": self.target[action, position],
        }
        return dm(**log, predicted_target=predicted["predicted_target"]), dr(**log, **predicted)


def reference_folds(n: int) -> np.ndarray:
    """(n,) a user for each fold of the reference's, one whose hash puts them there: its folds are of rows, shuffled."""
    in_fold = hashed(np.arange(100), 0) % np.uint64(3)
    users = np.zeros(n, dtype=np.int64)
    for fold, (_, rows) in enumerate(KFold(3, shuffle=True, random_state=12345).split(users)):
        users[rows] = np.flatnonzero(in_fold == fold)[0]
    return users


@needs_open_bandit
@pytest.mark.parametrize("log", LOGS)
def test_raw_logs_and_the_references_model_give_its_figures(log: tuple[str, str, str]) -> None:
    """From the CSV files alone, the model specified and its folds drawn as the reference's: DM and DR in its intervals.

    Its own for DM, which is a bootstrap of finished predictions and only 0.0001 wide. What is left, 0.00002 at most, is
    the reference's solver, which stops before the minimum.
    """
    raw = RawLog.read(*log)
    direct, robust = raw.modelled(raw.described, reference_folds(len(raw.rows)))
    assert raw.inside("dm", direct.value)
    assert raw.inside("dr", robust.value)
    assert direct.value == pytest.approx(raw.reference["estimates"]["dm"], abs=3e-5)
    assert robust.value == pytest.approx(raw.reference["estimates"]["dr"], abs=1e-5)


@needs_open_bandit
def test_which_rows_share_a_fold_moves_dm_more_than_the_references_interval_allows() -> None:
    """Our own folds: the mean of eight draws of them is inside, but single ones need not be; their spread says why.

    An interval for DM that knows neither of folds nor of the clicks the model learnt from is no measure of its error.
    """
    raw = RawLog.read(*LOGS[0])
    values = [raw.modelled(raw.described, np.arange(len(raw.rows)), seed)[0].value for seed in range(8)]
    assert raw.inside("dm", float(np.mean(values)))
    interval = raw.reference["bootstrap_ci"]["dm"]
    assert np.std(values) > (interval["95.0% CI (upper)"] - interval["95.0% CI (lower)"]) / (2 * 1.96)


@needs_open_bandit
@pytest.mark.parametrize("log", LOGS)
def test_items_by_identity_are_nearer_to_what_was_earned(log: tuple[str, str, str]) -> None:
    """Both policies were live, so the target's clicks are known: items by identity beat items by the rank of codes.

    That is why DM of our own model is not the reference's figure, in any log; DR is, since it corrects either.
    """
    raw = RawLog.read(*log)
    direct, robust = raw.modelled(np.eye(len(raw.items)), np.arange(len(raw.rows)))
    assert not raw.inside("dm", direct.value)
    assert raw.error(direct.value) < raw.error(raw.reference["estimates"]["dm"])
    assert raw.inside("dr", robust.value)
