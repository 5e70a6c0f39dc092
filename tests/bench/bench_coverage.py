"""How often nominal 95% intervals hold the truth over a thousand simulated logs, and how often the guard refuses.

Every log comes from a world of its own: 200 contexts, softmax logging and target policies whose spread makes weights
light or heavy, and click rates that differ by context and action. The guard runs at default settings; coverage counts
the logs it let pass. `clipped_ips`, `switch_dr` and `dros` are biased by design and promise no coverage: not listed.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.evaluation import weighting
from models.evaluation.diagnostics import WeightStatistics, guarded
from models.evaluation.estimate import Estimate
from models.evaluation.intervals import PoissonBootstrap
from models.evaluation.sufficient import SufficientStatistics
from models.evaluation.weighting import Log
from models.settings import GateSettings

FOUND = Path(__file__).resolve().parents[2] / "var" / "bench" / "coverage"
CONTEXTS = 200
REPLICATES = 200
SEED = 500_000
"""Of the first log; `sufficient.FREEDOM` was chosen on others."""
SETTINGS = GateSettings()
TIMES = {"tidegate": 1}


@dataclass(frozen=True)
class Setting:
    """Decisions per log, actions, spread of the policies' logits, usual click rate, decisions per user, logs."""

    decisions: int
    actions: int
    spread: float
    click_rate: float
    per_user: int = 1
    logs: int = 1_000


CASES = {
    "easy": Setting(2_000, 10, 0.7, 0.2),
    "small sample": Setting(400, 5, 0.4, 0.1),
    "heavy tails": Setting(5_000, 20, 1.3, 0.1),
    "hopeless tails": Setting(5_000, 20, 2.0, 0.1),
    "6 decisions a user": Setting(2_400, 10, 0.7, 0.2, per_user=6),
}
SMALL = {"small sample": Setting(400, 5, 0.4, 0.1, logs=30)}
HOPELESS = "hopeless tails"
"""No interval can be honest here: what counts is that nearly all logs are refused."""


@dataclass(frozen=True)
class Drawn:
    """A log, the logging policy's own view of it, who decided, and the true values of both policies."""

    log: Log
    logging: Log
    users: np.ndarray
    value: float
    logging_value: float


def draw(setting: Setting, seed: int) -> Drawn:
    """One log of one world."""
    rng = np.random.default_rng(seed)
    shape = (CONTEXTS, setting.actions)
    policies = np.exp(setting.spread * rng.normal(size=(2, *shape)))
    logging, target = policies / policies.sum(axis=-1, keepdims=True)
    click = np.clip(setting.click_rate * np.exp(0.5 * rng.normal(size=shape)), 0, 0.45)
    model = click * np.exp(0.3 * rng.normal(size=shape))
    users = np.arange(setting.decisions) // setting.per_user
    # A user keeps to one context and one mood: decisions of one user tell less than as many of many users.
    context = rng.integers(CONTEXTS, size=users[-1] + 1)[users]
    mood = rng.choice([0.2, 1.8], size=users[-1] + 1)[users] if setting.per_user > 1 else 1.0
    action = (rng.random(setting.decisions)[:, None] > logging.cumsum(axis=1)[context]).sum(axis=1)
    action = np.minimum(action, setting.actions - 1)
    reward = (rng.random(setting.decisions) < click[context, action] * mood).astype(float)
    foreseen = (target * model).sum(axis=1)[context]
    at = (context, action)
    return Drawn(
        Log.checked(reward, logging[at], target[at], model[at], foreseen),
        Log.checked(reward, logging[at], logging[at]),
        users,
        float((target * click).sum(axis=1).mean()),
        float((logging * click).sum(axis=1).mean()),
    )


def findings(drawn: Drawn, per_user: int) -> Iterator[tuple[str, Estimate | None, float]]:
    """Every interval of one log with the truth it should hold; None where refused."""
    log = drawn.log
    clusters = drawn.users if per_user > 1 else None
    weights = WeightStatistics.of(log.logged, log.target, clusters).diagnostics()

    def let_through(statistics: SufficientStatistics) -> Estimate | None:
        found = guarded(statistics, weights, SETTINGS)
        return found if isinstance(found, Estimate) else None

    for name in ("ips", "snips", "dr", "sndr"):
        statistics = SufficientStatistics.of(getattr(weighting, name)(log), clusters=clusters)
        yield name, let_through(statistics), drawn.value
    both = SufficientStatistics.of(weighting.snips(drawn.logging), weighting.snips(log), clusters=clusters)
    yield "snips difference", let_through(both), drawn.value - drawn.logging_value
    plain = let_through(SufficientStatistics.of(weighting.snips(log), clusters=clusters))
    draws = PoissonBootstrap.of(weighting.snips(log), users=drawn.users, replicates=REPLICATES, seed=1)
    yield "snips, bootstrap", draws.estimate() if plain else None, drawn.value


def prepare(folder: Path) -> None:
    """Forgets the last run; logs are drawn as they are needed."""
    FOUND.mkdir(parents=True, exist_ok=True)
    for old in FOUND.glob("*.json"):
        old.unlink()


def coverage(folder: Path, case: str) -> int:
    """Writes the shares of logs refused, covered and missed on either side, per kind of interval."""
    setting = CASES[case]
    kept: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    asked: dict[str, int] = defaultdict(int)
    for seed in range(SEED, SEED + setting.logs):
        for name, found, truth in findings(draw(setting, seed), setting.per_user):
            asked[name] += 1
            kept[name] += [(truth, found.low, found.high)] if found else []
    report = {}
    for name, count in asked.items():
        truth, low, high = np.array(kept[name]).reshape(-1, 3).T
        passed = max(1, len(truth))
        report[name] = {
            "refused": 1 - len(truth) / count,
            "covered": float(((low <= truth) & (truth <= high)).sum()) / passed,
            "truth below": float((truth < low).sum()) / passed,
            "truth above": float((truth > high).sum()) / passed,
        }
    (FOUND / f"{case}.json").write_text(json.dumps(report, indent=1) + "\n")
    return setting.logs


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """93-97% where not refused (at least 95% for bounds that promise it); nearly all refused where it is hopeless."""
    judged = []
    for case in dict.fromkeys(row["case"] for row in rows):
        for name, figures in json.loads((FOUND / f"{case}.json").read_text()).items():
            covered, refused = figures["covered"], figures["refused"]
            found = f"{covered:.1%} (truth below {figures['truth below']:.1%}, above {figures['truth above']:.1%})"
            goal, met = "93-97%", 0.93 <= covered <= 0.97
            if case == HOPELESS:
                goal, met, found = "95% refused", refused >= 0.95, ""
            judged.append({"goal": f"{case}, {name}: {goal}", "found": f"{found} refused {refused:.1%}", "met": met})
    return judged


PEERS = {"tidegate": coverage}
