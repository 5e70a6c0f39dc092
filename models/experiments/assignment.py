"""Who is in which arm of which experiment: a function of names and ids alone, the same wherever it is asked.

A layer is a division of all users by a hash salted with the layer's name. Experiments of one layer take shares of it
that do not meet, so that nobody is in two of them; divisions of two layers know nothing of each other, so that
experiments of different layers run at once and each sees the others' arms alike in its own (Tang et al. 2010). Arms
within an experiment are drawn by a hash salted with the experiment's own name: who was treated by one that has ended is
spread over the arms of the next that takes its share.

Where users meet each other's arms (a price, a stock, a shared slate) time is divided instead of users: a switchback.
"""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import combinations
from typing import Literal

NOBODY = re.compile(r"|null|\(null\)|none|nil|nan|n/a|undefined|unknown|anonymous|guest|user|test|-1|0|[0-]{32,36}")
"""What loggers write where they do not know the user: one id, and many people."""


def unit_hash(text: str) -> float:
    """A number in [0, 1) that depends on nothing but the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") / 2**56


@dataclass(frozen=True)
class Unit:
    """Whose arm is drawn: a user's, as long as an experiment runs; or one request's, where nobody knows the user."""

    key: str
    kind: Literal["user", "request"]


@dataclass(frozen=True)
class Exposure:
    """An experiment that a request was part of, and what drew its arm."""

    experiment: str
    arm: str
    unit: Literal["user", "request", "block"]
    """`request`: no user is known, and no figure of users counts it. `block`: of time, whoever asks."""


@dataclass(frozen=True)
class Switchback:
    """Blocks of time in pairs, one of either arm, so that slow changes of the day meet both alike."""

    name: str
    """It draws the order in each pair."""
    block_seconds: float
    washout_seconds: float = 0.0
    """At the start of each block, in which the last one still works and nothing is read; shorter than the block."""

    def __post_init__(self) -> None:
        """Raises ValueError for a block that its washout fills."""
        if not 0 <= self.washout_seconds < self.block_seconds:
            raise ValueError(
                f"a washout must end within its block; found {self.washout_seconds} of {self.block_seconds} s"
            )

    def treated(self, block: int) -> bool:
        """Whether a block, counted from the start, is treated: of two that make a pair exactly one is."""
        first = unit_hash(f"switchback:{self.name}:{block // 2}") < 0.5
        return first == (block % 2 == 0)


@dataclass(frozen=True)
class Experiment:
    """What assignment must know of one."""

    name: str
    layer: str
    share: tuple[float, float]
    """Of the layer, from and to, within [0, 1]."""
    arms: Mapping[str, float]
    """Weights by arm, control first."""
    start: date
    days: int
    surface: str | None = None
    """None: all of them."""
    switchback: Switchback | None = None
    """None: users are divided."""

    @property
    def begin(self) -> datetime:
        """The midnight from which its seconds and its blocks count."""
        return datetime(self.start.year, self.start.month, self.start.day, tzinfo=UTC)

    @property
    def end(self) -> date:
        """Its last day."""
        return self.start + timedelta(days=self.days - 1)

    def runs_on(self, day: date, surface: str) -> bool:
        """Whether a request of that day and surface may be part of it."""
        return self.start <= day <= self.end and self.surface in (None, surface)

    def takes(self, key: str) -> bool:
        """Whether a unit is in the experiment's share of its layer."""
        low, high = self.share
        return low <= unit_hash(f"layer:{self.layer}:{key}") < high

    def block_arm(self, at: datetime) -> str:
        """Of a switchback, the arm that all requests of the time meet."""
        if self.switchback is None:
            raise ValueError(f"{self.name} divides users, not time")
        block = math.floor((at - self.begin).total_seconds() / self.switchback.block_seconds)
        return list(self.arms)[self.switchback.treated(block)]

    def arm_of(self, key: str) -> str | None:
        """The arm of a unit; None outside the experiment's share of its layer."""
        if not self.takes(key):
            return None
        point, passed = unit_hash(f"arm:{self.name}:{key}") * sum(self.arms.values()), 0.0
        for arm, weight in self.arms.items():
            passed += weight
            if point < passed:
                return arm
        return [arm for arm, weight in self.arms.items() if weight > 0][-1]


def unit_of(user_id: str | None, request_id: str, shared: Set[str] = frozenset()) -> Unit:
    """The user, where there is one; else the request, so that people without an id never all meet one arm.

    Ids that loggers write for nobody count as none, and so do `shared` ones, which are known to stand for many.
    """
    name = (user_id or "").strip()
    if NOBODY.fullmatch(name.lower()) or name in shared:
        return Unit(f"request {request_id}", "request")
    return Unit(name, "user")


def exposures(experiments: Sequence[Experiment], unit: Unit, surface: str, at: datetime) -> list[Exposure]:
    """Every experiment that a request is part of; at most one of a layer. `at` is in UTC."""
    running = [one for one in experiments if one.runs_on(at.date(), surface) and one.takes(unit.key)]
    return [
        Exposure(one.name, str(one.arm_of(unit.key)), unit.kind)
        if one.switchback is None
        else Exposure(one.name, one.block_arm(at), "block")
        for one in running
    ]


def conflicts(experiments: Sequence[Experiment]) -> list[str]:
    """What is wrong with running these: names given twice, and shares of a layer that meet on some day and surface."""
    names = [one.name for one in experiments]
    found = [f"two experiments are named {name}" for name in sorted({name for name in names if names.count(name) > 1})]
    for one, other in combinations(experiments, 2):
        meet = one.layer == other.layer and one.start <= other.end and other.start <= one.end
        overlap = max(one.share[0], other.share[0]), min(one.share[1], other.share[1])
        if meet and overlap[0] < overlap[1] and (one.surface is None or other.surface in (None, one.surface)):
            found.append(
                f"{one.name} and {other.name} share {100 * overlap[0]:g}-{100 * overlap[1]:g} % of layer {one.layer}"
                f" from {max(one.start, other.start)} to {min(one.end, other.end)}"
            )
    return found
