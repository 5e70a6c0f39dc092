"""How an update's traffic moves from the old config to the new one: a pure rule over its plan, the time and its alarms.

    Creating -> ActivatingTraffic -> Baking -> ActivatingTraffic -> ... -> Done
        any of them, on an alarm or at the time limit -> RollingBack -> Back

A step is baked for the plan's wait, and passes only on a look that finds every alarm OK: an alarm without data, or one
that nobody can ask, holds the step until the limit, and then the old config has it all again. Silence is no pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

MOST_SECONDS = 28_800.0
"""SageMaker's own bound of `MaximumExecutionTimeoutInSeconds`; what holds where a policy names none."""
ROUNDING = 1e-9


class Phase(StrEnum):
    """Where an update is; the first three are also what SageMaker says of a variant that is coming in."""

    CREATING = "Creating"
    ACTIVATING = "ActivatingTraffic"
    BAKING = "Baking"
    ROLLING_BACK = "RollingBack"
    DONE = "Done"
    BACK = "Back"


class Alarms(StrEnum):
    """What CloudWatch says of a plan's alarms taken together."""

    OK = "OK"
    ALARM = "ALARM"
    SILENT = "INSUFFICIENT_DATA"


@dataclass(frozen=True)
class Plan:
    """What a `DeploymentConfig` means for an endpoint."""

    shares: tuple[float, ...] = (1.0,)
    """Of the requests that the new config answers, step by step; they rise to 1."""
    wait_seconds: float = 0.0
    """Each step is baked so long at least."""
    limit_seconds: float = MOST_SECONDS
    """Since the update was asked for; what has not ended by then is rolled back."""
    kept_seconds: float = 0.0
    """So long after its end the old config stays loaded."""
    alarms: tuple[str, ...] = ()
    back_share: float = 1.0
    """So much goes back at once; the rest in such parts, a wait apart."""

    @property
    def at_once(self) -> bool:
        """Whether there is nothing to wait for."""
        return len(self.shares) == 1 and not self.wait_seconds and not self.alarms


@dataclass(frozen=True)
class Shift:
    """Where an update is: `share` of the requests are the new config's since `since`, in seconds of the update."""

    phase: Phase = Phase.CREATING
    share: float = 0.0
    since: float = 0.0
    why: str | None = None
    """It goes back, or went."""

    @property
    def ended(self) -> bool:
        """One config has it all."""
        return self.phase in (Phase.DONE, Phase.BACK)


def moved(plan: Plan, at: Shift, seconds: float, alarms: Alarms) -> Shift:
    """Where the update is after a look at this second of it, the new config being loaded; at most one step further."""
    if at.ended:
        return at
    if at.phase is Phase.ROLLING_BACK:
        return _further_back(plan, at, seconds)
    if alarms is Alarms.ALARM:
        return _back(plan, at, seconds, f"an alarm of {', '.join(plan.alarms)} is in ALARM at {at.share:.0%}")
    if seconds >= plan.limit_seconds:
        found = f"; its alarms were {alarms} then" if alarms is Alarms.SILENT else ""
        return _back(plan, at, seconds, f"it must end within {plan.limit_seconds:.0f} s{found}")
    if at.phase is Phase.CREATING and plan.at_once:
        return Shift(Phase.DONE, 1.0, seconds)
    if at.phase is not Phase.CREATING:
        if seconds - at.since < plan.wait_seconds or alarms is Alarms.SILENT:
            return replace(at, phase=Phase.BAKING)
        if at.share >= 1:
            return Shift(Phase.DONE, 1.0, seconds)
    return Shift(Phase.ACTIVATING, next(s for s in plan.shares if s > at.share + ROUNDING), seconds)


def _back(plan: Plan, at: Shift, seconds: float, why: str) -> Shift:
    return Shift(Phase.ROLLING_BACK, _less(at.share, plan.back_share), seconds, why)


def _further_back(plan: Plan, at: Shift, seconds: float) -> Shift:
    if at.share <= 0:
        return replace(at, phase=Phase.BACK, since=seconds)
    if seconds - at.since < plan.wait_seconds:
        return at
    return replace(at, share=_less(at.share, plan.back_share), since=seconds)


def _less(share: float, by: float) -> float:
    return max(0.0, round(share - by, 9))


def together(names: Sequence[str], states: Mapping[str, str]) -> Alarms:
    """Of named alarms: one in ALARM is enough, and only where all are OK is that the word."""
    found = [states.get(name, Alarms.SILENT) for name in names]
    if Alarms.ALARM in found:
        return Alarms.ALARM
    return Alarms.OK if all(state == Alarms.OK for state in found) else Alarms.SILENT
