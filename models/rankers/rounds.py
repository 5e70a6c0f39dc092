"""What boosting says while it learns: the losses that xgboost itself measures, some rounds apart."""

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xgboost.callback import TrainingCallback

log = logging.getLogger(__name__)
REPORTS = 10
"""Lines of progress a fit."""
TRAIN, HELD_OUT = "train", "held_out"
"""Names of xgboost's `evals`: the rows learned from, and later ones."""


def reported(rows: int, rounds: int) -> "TrainingCallback":
    """A callback that logs the newest losses of `TRAIN` and `HELD_OUT`, where they are measured; each round is a pass
    over `rows` rows."""
    from xgboost.callback import TrainingCallback

    class Reported(TrainingCallback):  # type: ignore[misc] # xgboost's base is untyped
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002 - xgboost's interface
            done = self.rounds = getattr(self, "rounds", 0) + 1
            if done % max(1, rounds // REPORTS) and done != rounds:
                return False
            losses = {name: next(iter(of.values()))[-1] for name, of in evals_log.items()}
            found = {"loss": losses.get(TRAIN), "validation_log_loss": losses.get(HELD_OUT)}
            words = ", ".join(
                f"{name.replace('_', ' ')} {loss:.5f}" for name, loss in found.items() if loss is not None
            )
            log.info("xgboost: %d of %d rounds, %s", done, rounds, words, extra={"rows": done * rows, **found})
            return False

    return Reported()
