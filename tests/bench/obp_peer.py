"""Open Bandit Pipeline's estimates of a log, run by the interpreter of a side environment: `obp_peer.py FOLDER OUT`.

Its numpy is older than ours, so it never runs in our process. It imports torch for neural policies alone; an empty
stand-in saves the side environment two gigabytes and changes no estimator.
"""

import json
import sys
import time
from pathlib import Path
from types import ModuleType


class StandIn(ModuleType):
    """A module in which every name is an empty class."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


stand_in = StandIn("torch")
for name in ("torch", "torch.nn", "torch.nn.functional", "torch.optim", "torch.utils", "torch.utils.data"):
    sys.modules[name] = stand_in
    setattr(stand_in, name.rpartition(".")[2], stand_in)

import numpy as np  # noqa: E402 - after the stand-in
from obp import ope  # noqa: E402 - after the stand-in
from own_memory import Grown  # noqa: E402 - beside this file, whose folder is the first on the path

ESTIMATORS = {
    "ips": ope.InverseProbabilityWeighting(),
    "clipped_ips": ope.InverseProbabilityWeighting(lambda_=10.0),
    "snips": ope.SelfNormalizedInverseProbabilityWeighting(),
    "dm": ope.DirectMethod(),
    "dr": ope.DoublyRobust(),
    "sndr": ope.SelfNormalizedDoublyRobust(),
    "switch_dr": ope.SwitchDoublyRobust(lambda_=10.0),
    "dros": ope.DoublyRobustWithShrinkage(lambda_=10.0),
}


SELF_NORMALISED = ("snips", "sndr")
"""Their draws keep the normaliser as it was in the log: theirs is another standard error."""
DRAWS = 100
CONFIDENCE = 0.95


def main(folder: Path, out: Path, intervals: bool) -> None:
    """Write the estimates, and the seconds and memory from files on disk to figures, imports left out."""
    for name, estimator in ESTIMATORS.items():
        estimator.estimator_name = name
    grown, started, before = Grown(), time.perf_counter(), time.process_time()
    log = {path.stem: np.load(path) for path in folder.glob("*.npy")}
    context = log["context"]
    feedback = {
        "n_rounds": len(context),
        "n_actions": log["policy"].shape[1],
        "action": log["action"],
        "reward": log["reward"],
        "pscore": log["logged"],
        "position": None,
        "context": context[:, None],
    }
    dense = {
        "action_dist": log["policy"][context][:, :, None],
        "estimated_rewards_by_reg_model": log["model"][context][:, :, None],
    }
    evaluation = ope.OffPolicyEvaluation(bandit_feedback=feedback, ope_estimators=list(ESTIMATORS.values()))
    found = {"figures": {name: float(value) for name, value in evaluation.estimate_policy_values(**dense).items()}}
    if intervals:
        drawn = evaluation.estimate_intervals(**dense, alpha=1 - CONFIDENCE, n_bootstrap_samples=DRAWS, random_state=1)
        found["intervals"] = {name: limits(drawn[name]) for name in ESTIMATORS}
    found |= {
        "seconds": time.perf_counter() - started,
        "processor_seconds": time.process_time() - before,
        "mib": grown.mib(),
    }
    if intervals:
        found["stderr"] = stderrs(feedback, dense)
    out.write_text(json.dumps(found))


def limits(found: dict[str, float]) -> tuple[float, float]:
    """The lower and the upper one, as the peer names them."""
    low, high = (next(value for name, value in found.items() if side in name) for side in ("lower", "upper"))
    return float(low), float(high)


def stderrs(feedback: dict[str, np.ndarray], dense: dict[str, np.ndarray]) -> dict[str, float]:
    """What the peer's draws tend to the more there are: of the mean of what it takes each round to be worth.

    Not timed: it is for the comparison alone.
    """
    rounds = len(feedback["reward"])
    names = ("action", "reward", "pscore")
    given = {name: feedback[name] for name in names} | dense | {"position": np.zeros(rounds, dtype=int)}
    found = {}
    for name, estimator in ESTIMATORS.items():
        if name not in SELF_NORMALISED:
            worth = estimator._estimate_round_rewards(**given)
            found[name] = float(np.std(worth, ddof=1) / np.sqrt(rounds))
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "intervals")
