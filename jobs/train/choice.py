"""Which of the rankers just fitted becomes the challenger: by what it will be judged by. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from jobs.evidence.scored import CHOSEN_BY, MEASURED, Scored, compared
from models.evaluation.comparison import LOWER_IS_BETTER
from models.evaluation.estimate import Estimate, Finding, Refusal
from models.rankers import BASELINE
from models.settings import GateSettings

BASE_RATE = "train rate"
"""A ranker of one number."""


def figures(rows: Scored, settings: GateSettings) -> dict[str, dict[str, Finding]]:
    """Each ranker's figures on the validation rows, as a backtest on them would find them."""
    found: dict[str, dict[str, Finding]] = {}
    for kind in rows.as_shown:
        of_itself = compared(rows, kind, kind, settings, metrics=MEASURED)
        found[kind] = {metric: sides["challenger"] for metric, sides in of_itself.items()}
    return found


def choose(
    rows: Scored, found: Mapping[str, Mapping[str, Finding]], settings: GateSettings, rate: float
) -> tuple[str, str]:
    """The challenger and why; `rows` has the rankers simplest first, `found` their `figures`.

    None is offered whose log-loss is above that of `rate`, the train rows' own, said of every row: such a one has
    learned nothing that holds. Where none is below it the baseline stands, which serves without a ranker anyway.

    By each of `CHOSEN_BY` in turn the best is kept, and who equals it: worse by at most one standard error of the
    paired difference (the one-standard-error rule, Breiman et al. 1984, section 3.4.3). Of those left the simplest is
    taken. Beforehand goes whose log-loss is for sure higher than the baseline's by more than the gate lets it be.

    A refused figure (NaN scores, a fold without clicks) never wins; where every ranker has one the baseline is chosen:
    a challenger nobody has measured is no challenger.
    """
    known = {kind: {m: f.value for m, f in found[kind].items() if isinstance(f, Estimate)} for kind in rows.as_shown}
    kept = [kind for kind in known if set(CHOSEN_BY) <= set(known[kind])]
    if not kept:
        reasons = sorted({f.reason for of in found.values() for f in of.values() if isinstance(f, Refusal)})
        return BASELINE, f"no validation figures ({'; '.join(reasons)}): the baseline stands"

    def worse(kind: str, other: str, metric: str) -> Worse:
        return Worse.of(compared(rows, other, kind, settings, metrics=[metric])[metric], metric)

    constant = {BASE_RATE: np.full(len(rows), rate)}
    with_rate = replace(rows, as_shown={**rows.as_shown, **constant}, as_first={**rows.as_first, **constant})
    lost = [
        kind for kind in kept
        if Worse.of(compared(with_rate, BASE_RATE, kind, settings, metrics=["log_loss"])["log_loss"], "log_loss").by > 0
    ]  # fmt: skip
    kept = [kind for kind in kept if kind not in lost]
    margin, said = settings.must_not_fall.log_loss, []
    said += [f"log_loss of {kind}, {known[kind]['log_loss']:.6f}, is above the train rate's" for kind in lost]
    if not kept:
        return BASELINE, f"none is better than the train rate, {rate:.6f}: {'; '.join(said)}: the baseline stands"
    if BASELINE in kept and margin is not None:
        wrong = [kind for kind in kept if worse(kind, BASELINE, "log_loss").at_least > margin]
        kept = [kind for kind in kept if kind not in wrong]
        said += [f"log_loss of {kind} is above the baseline's for sure" for kind in wrong]
    for metric in CHOSEN_BY:
        best = kept[0]
        for kind in kept[1:]:
            best = kind if worse(kind, best, metric).by < 0 else best
        kept = [kind for kind in kept if worse(kind, best, metric).within_noise]
        others = ", ".join(kind for kind in kept if kind != best)
        equalled = f", equalled by {others} within a standard error" if others else ""
        said.append(f"best {metric} {best} {known[best][metric]:.6f}{equalled}")
    return kept[0], f"{kept[0]} of {', '.join(rows.as_shown)}: {'; '.join(said)}"


@dataclass(frozen=True)
class Worse:
    """By how much one ranker is worse than another in a metric, its standard error, and by how much for sure."""

    by: float
    stderr: float
    at_least: float

    @classmethod
    def of(cls, sides: Mapping[str, Finding], metric: str) -> "Worse":
        """Of the challenger against the champion; raises ValueError where their difference is refused."""
        found = sides["difference"]
        if isinstance(found, Refusal):
            raise ValueError(f"rankers with figures of {metric} need a difference; found {found.reason}")
        if metric in LOWER_IS_BETTER:
            return cls(found.value, found.stderr, found.low)
        return cls(-found.value, found.stderr, -found.high)

    @property
    def within_noise(self) -> bool:
        """Not worse by more than one standard error."""
        return self.by <= self.stderr
