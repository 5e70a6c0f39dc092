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


def main(folder: Path, out: Path, intervals: bool) -> None:
    """Write the estimates and the seconds from files on disk to figures, imports left out."""
    for name, estimator in ESTIMATORS.items():
        estimator.estimator_name = name
    started = time.perf_counter()
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
    figures = {name: float(value) for name, value in evaluation.estimate_policy_values(**dense).items()}
    if intervals:
        evaluation.estimate_intervals(**dense, random_state=1)
    seconds = time.perf_counter() - started
    out.write_text(json.dumps({"figures": figures, "seconds": seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "intervals")
