"""Units on their way through an experiment, sound or with one fault planted, each as the literature has seen it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from models.experiments.causes import STEPS, Units

WEIGHTS = np.array([1.0, 1.0])
DAYS = 14
ALL = len(STEPS)
Fault = Callable[[np.random.Generator, Units], Units]


def sound(rng: np.random.Generator, n: int) -> Units:
    """Everybody in the arm that was drawn; a few leave at every step, of both arms alike."""
    arm = rng.integers(0, 2, n)
    slow, nobody = rng.random(n) < 0.1, rng.random(n) < 0.04
    rates = np.array([0.01, 0.01, 0.005, 0.005, 0.01, 0.03, 0.2])
    fails = rng.random((n, ALL)) < rates
    fails[:, 0] |= slow & (rng.random(n) < 0.05)
    day = np.minimum(rng.geometric(0.1, n) - 1, DAYS - 1)
    fails[:, STEPS.index("joined")] |= (day == day.max()) & (rng.random(n) < 0.1)
    return Units(
        arm=arm,
        drawn=arm.copy(),
        day=day,
        left=np.where(fails.any(axis=1), fails.argmax(axis=1), ALL),
        nobody=nobody,
        both=rng.random(n) < 0.06,
        slow=slow,
        segments={
            "device": rng.choice(["phone", "desk", "tablet"], n, p=[0.6, 0.3, 0.1]).astype(object),
            "surface": rng.choice(["home", "search"], n).astype(object),
        },
        before={"last-autumn": rng.choice([None, "control", "treated"], n, p=[0.5, 0.25, 0.25]).astype(object)},
        beside={"buttons": rng.choice(["control", "treated"], n).astype(object)},
    )


def only(units: Units, rows: np.ndarray) -> Units:
    """The units that are left."""
    lists = {
        name: {key: of[rows] for key, of in getattr(units, name).items()} for name in ("segments", "before", "beside")
    }
    plain = ("arm", "drawn", "day", "left", "nobody", "both", "slow")
    return Units(**{name: getattr(units, name)[rows] for name in plain}, **lists)


def _gone(rng: np.random.Generator, units: Units, touched: np.ndarray, share: float) -> Units:
    """So much of the treated among those touched was never seen."""
    return only(units, ~(touched & (units.arm == 1) & (rng.random(len(units.arm)) < share)))


def _leave(rng: np.random.Generator, units: Units, step: str, touched: np.ndarray, share: float) -> Units:
    """So much of the treated among those touched does not pass a step."""
    at = STEPS.index(step)
    lost = touched & (units.arm == 1) & (units.left > at) & (rng.random(len(units.arm)) < share)
    return replace(units, left=np.where(lost, at, units.left))


def _moved(units: Units, touched: np.ndarray, *, drawn: bool) -> Units:
    """Those touched lie in the treated arm, by the hash too or only in the logs."""
    arm = np.where(touched, 1, units.arm)
    return replace(units, arm=arm, drawn=arm if drawn else units.drawn)


def _all(units: Units) -> np.ndarray:
    return np.ones(len(units.arm), bool)


@dataclass(frozen=True)
class Planted:
    """A fault, and the name under which it should be found."""

    name: str
    plant: Fault


FAULTS = (
    Planted("other assigner", lambda rng, u: _moved(u, rng.random(len(u.arm)) < 0.05, drawn=False)),
    Planted("other weights", lambda rng, u: _moved(u, rng.random(len(u.arm)) < 0.05, drawn=True)),
    Planted("nobody's ids", lambda _, u: _moved(u, u.nobody, drawn=True)),
    Planted("changing ids", lambda _, u: _moved(u, u.both, drawn=True)),
    Planted("carry-over", lambda rng, u: _gone(rng, u, u.before["last-autumn"] == "treated", 0.35)),
    Planted("crossed experiment", lambda rng, u: _gone(rng, u, u.beside["buttons"] == "treated", 0.15)),
    Planted("late start", lambda rng, u: _gone(rng, u, u.day == 0, 0.8)),
    Planted("early end", lambda rng, u: _gone(rng, u, u.day >= 9, 0.5)),
    Planted("one segment", lambda rng, u: _gone(rng, u, u.segments["device"] == "tablet", 0.7)),
    Planted("answers lost", lambda rng, u: _leave(rng, u, "answered", _all(u), 0.1)),
    Planted("slow answers", lambda rng, u: _leave(rng, u, "answered", u.slow, 0.9)),
    Planted("telemetry lost", lambda rng, u: _leave(rng, u, "logged", _all(u), 0.1)),
    Planted("telemetry lost in one segment",
            lambda rng, u: _leave(rng, u, "logged", u.segments["device"] == "tablet", 0.9)),
    Planted("late logs", lambda rng, u: _leave(rng, u, "joined", u.day == u.day.max(), 0.9)),
    Planted("rows set aside", lambda rng, u: _leave(rng, u, "valid", _all(u), 0.1)),
    Planted("lossy join", lambda rng, u: _leave(rng, u, "joined", _all(u), 0.1)),
    Planted("duplicates dropped", lambda rng, u: _leave(rng, u, "once", _all(u), 0.1)),
    Planted("bot filter", lambda rng, u: _leave(rng, u, "human", _all(u), 0.1)),
    Planted("trigger condition", lambda rng, u: _leave(rng, u, "triggered", _all(u), 0.1)),
)  # fmt: skip
