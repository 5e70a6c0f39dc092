"""The figures of one day's traffic and what each is held against: a reference, the days before, or a promise.

A figure that something is asked of has a p-value (of the figure being within its bound); which of all are alarms is
`models.monitoring.alarms.discoveries`'. The proof (`tests/bench/bench_monitor.py`) counts the alarms of these very
functions.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.calibration import calibration_ratio
from models.evaluation.estimate import Estimate, Finding, Refusal
from models.evaluation.linear import Linear
from models.monitoring.alarms import daily_risk, discoveries, p_beyond
from models.monitoring.drift import Drift, drift
from models.monitoring.expected import expected, shortfall
from models.monitoring.levels import Level, level
from models.monitoring.profile import EVERYWHERE, Profile
from models.monitoring.traffic import busiest_share, mean_weight, repeated_share
from models.settings import GateSettings, WatchSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
NEW_ITEM_DAYS = 7.0


@dataclass(frozen=True)
class Traffic:
    """n placements of a day, all (n,); a number that is not known is NaN, a word None.

    `features` are what the request saw; `keys` tell an event whatever its id; `candidates`: how many the policy chose
    from; `age_days`: the item's; `p_click`, `p_conversion`: of the model that is watched.
    """

    features: Mapping[str, NDArray[Any]]
    users: Ints
    requests: Ints
    surface: NDArray[Any]
    position: Floats
    clicked: Floats
    converted: Floats
    p_click: Floats
    p_conversion: Floats
    propensity: Floats
    candidates: Floats
    age_days: Floats
    waits: Mapping[str, tuple[Floats, Ints]]
    """Outcome to the seconds from impression to the news of it, of all news of the day, and whose it was."""
    keys: tuple[Ints, ...]

    def __len__(self) -> int:
        return len(self.users)

    def of(self, rows: NDArray[Any]) -> "Traffic":
        """Some of the placements."""
        of_features = {name: values[rows] for name, values in self.features.items()}
        whole = ("features", "keys", "waits")
        rest = {name: getattr(self, name)[rows] for name in self.__dataclass_fields__ if name not in whole}
        return Traffic(of_features, keys=tuple(key[rows] for key in self.keys), waits=self.waits, **rest)


@dataclass(frozen=True)
class Held:
    """A figure, what it is held against (`reference`, `bounds`), and how likely it is so far off by chance.

    `p_value` None: nothing is asked of it. `bounds`: beyond which it is further off than allowed, either may be None.
    """

    metric: str
    surface: str
    finding: Finding
    reference: str = ""
    expected: float | None = None
    bounds: tuple[float | None, float | None] = (None, None)
    p_value: float | None = None
    note: str = ""
    alarm: bool = False


Before = Callable[[str, str], Sequence[Finding]]
"""The days before of a metric on a surface, those with an incident open left out."""


def judged(held: Sequence[Held], settings: WatchSettings) -> list[Held]:
    """The same figures with their alarms: all that something is asked of share the day's risk."""
    asked = [number for number, one in enumerate(held) if one.p_value is not None]
    p_values = [p for one in held if (p := one.p_value) is not None]
    alarms = dict(zip(asked, discoveries(p_values, daily_risk(settings.false_alarms_a_month)), strict=True))
    return [replace(one, alarm=bool(alarms.get(number, False))) for number, one in enumerate(held)]


def surfaces(traffic: Traffic) -> Iterator[tuple[str, Traffic]]:
    """All of it, then each surface's."""
    yield EVERYWHERE, traffic
    for name, mine in _surface_rows(traffic).items():
        yield name, traffic.of(mine)


def drifts(traffic: Traffic, profile: Profile, settings: WatchSettings, confidence: float) -> Iterator[Held]:
    """Every column of the reference on every surface: its index, and where there are any its nulls and unseen words."""
    columns, everyone = {**traffic.features, "p_click": traffic.p_click}, np.arange(len(traffic))
    rows = {EVERYWHERE: everyone, **_surface_rows(traffic)}
    for name, column in profile.columns.items():
        # A column that the day lacks is null everywhere; an attribute that is rare may well be lacking.
        null = np.full(len(traffic), np.nan) if column.kind == "numbers" else np.full(len(traffic), None, object)
        values = columns.get(name, null)
        cell = column.cells(values)
        for surface, mine in rows.items():
            found = drift(
                column,
                values[mine],
                traffic.users[mine],
                bound=settings.max_drift,
                confidence=confidence,
                surface=surface,
                cell=cell[mine],
            )
            if isinstance(found, Refusal):
                yield Held(f"drift.{name}", surface, found, "training")
                continue
            yield _index(name, surface, found)
            if surface == EVERYWHERE:
                yield from _shares(name, surface, found, settings, len(values))


def _surface_rows(traffic: Traffic) -> dict[str, Ints]:
    """The rows of each surface, where there are several."""
    names = sorted({name for name in traffic.surface if name is not None})
    return {str(name): np.flatnonzero(traffic.surface == name) for name in names} if len(names) > 1 else {}


def _index(name: str, surface: str, found: Drift) -> Held:
    said = [f"Jensen-Shannon {found.shannon:.3f} bits"]
    if found.moved is not None:
        said.append(f"moved by {found.moved:.2f} interquartile ranges")
    if found.vanished:
        said.append(f"vanished: {', '.join(found.vanished[:5])}")
    bounds = (None, found.bound)
    if isinstance(found.index, Refusal):
        return Held(f"drift.{name}", surface, found.index, "training")
    return Held(f"drift.{name}", surface, found.index, "training", 0.0, bounds, found.p_beyond, "; ".join(said))


def _shares(name: str, surface: str, found: Drift, settings: WatchSettings, n: int) -> Iterator[Held]:
    for kind, share, bound in (
        ("nulls", found.nulls, settings.max_null_rise),
        ("unseen", found.unseen, settings.max_unseen),
    ):
        if share.found or share.expected:
            low, high = max(0.0, share.found - 2 * share.stderr), min(1.0, share.found + 2 * share.stderr)
            figure = Estimate(share.found, share.stderr, low, high, n, float(n))
            bounds = (None, share.expected + bound)
            yield Held(f"{kind}.{name}", surface, figure, "training", share.expected, bounds, share.p_beyond(bound))


def rates(traffic: Traffic, confidence: float) -> Iterator[tuple[str, str, Finding, str]]:
    """Metric, surface, figure, and which setting bounds its change from the days before."""
    for surface, part in surfaces(traffic):
        n = len(np.unique(part.requests))
        yield (
            "requests",
            surface,
            Estimate(float(n), 0.0, float(n), float(n), len(part), float(n)),
            "max_traffic_change",
        )
        for metric, values in (
            ("clicks_per_impression", part.clicked),
            ("conversions_per_impression", part.converted),
            ("predicted_clicks", part.p_click),
            ("predicted_conversions", part.p_conversion),
        ):
            yield metric, surface, _mean(values, part.users, confidence), "max_rate_change"
        first = part.of(np.flatnonzero(part.position == 1))
        yield "mean_propensity", surface, _mean(first.propensity, first.users, confidence), "max_rate_change"
        weight = mean_weight(first.propensity, first.candidates, confidence, first.users)
        yield "mean_weight", surface, weight, "max_weight_change"
    for outcome, (seconds, users) in traffic.waits.items():
        yield f"{outcome}_wait_seconds", EVERYWHERE, usual(seconds, users, confidence), "max_delay_change"
    yield "busiest_users_share", EVERYWHERE, busiest_share(traffic.users), "max_traffic_change"
    young = np.where(np.isfinite(traffic.age_days), traffic.age_days < NEW_ITEM_DAYS, np.nan)
    yield "new_item_share", EVERYWHERE, _mean(young, traffic.users, confidence), "max_share_change"


def usual(seconds: Floats, users: Ints, confidence: float) -> Finding:
    """The geometric mean of waits (n,) of at least a second each: what is usual, whatever a few weeks' wait adds."""
    found = Linear.mean(np.log(np.maximum(seconds, 1.0)), lacking="a usual wait needs news; found none")
    logs = found.estimate(confidence, users)
    if isinstance(logs, Refusal):
        return logs
    value, low, high = (float(np.exp(end)) for end in (logs.value, logs.low, logs.high))
    return Estimate(value, value * logs.stderr, low, high, logs.n, logs.effective_n)


def _mean(values: Floats, users: Ints, confidence: float) -> Finding:
    known = np.isfinite(values)
    return Linear.mean(values[known], lacking="a mean needs known values; found none").estimate(
        confidence, users[known]
    )


def levels(found: Iterator[tuple[str, str, Finding, str]], before: Before, settings: WatchSettings) -> Iterator[Held]:
    """Each figure against its own days before."""
    for metric, surface, today, bound_of in found:
        relative = bound_of not in ("max_share_change", "max_weight_change")
        bound = float(np.log1p(getattr(settings, bound_of))) if relative else float(getattr(settings, bound_of))
        yield held_to_days(metric, surface, today, level(today, before(metric, surface), bound, relative=relative))


def held_to_days(metric: str, surface: str, today: Finding, found: Level | Refusal, note: str = "") -> Held:
    """A figure with what the days before say of it."""
    if isinstance(found, Refusal):
        return Held(metric, surface, today, note=note or f"not held against days before: {found.reason}")
    reference = f"{found.days} days before"
    return Held(metric, surface, today, reference, found.expected, (found.low, found.high), found.p_value, note)


def repeats(traffic: Traffic, before: tuple[Ints, ...], settings: WatchSettings, confidence: float) -> Held:
    """The share of events that were there already, on this day or the one before."""
    found = repeated_share(traffic.keys, before, confidence, traffic.users)
    return _claim("repeated_share", EVERYWHERE, found, 0.0, settings.max_repeated, "no event comes twice", above=True)


def promises(traffic: Traffic, settings: WatchSettings, gate: GateSettings) -> Iterator[Held]:
    """AUC, log-loss and clicks against what the model's probabilities promised, on labels that are closed."""
    known = traffic.of(np.flatnonzero(np.isfinite(traffic.clicked) & np.isfinite(traffic.p_click)))
    for surface, part in surfaces(known):
        short = shortfall(part.clicked, part.p_click, gate.confidence, part.users)
        yield _claim(
            "auc_shortfall", surface, short["auc"], 0.0, settings.max_auc_shortfall, "its own promise", below=True
        )
        yield Held("log_loss_excess", surface, short["log_loss"], "its own promise", 0.0)
        ratio = calibration_ratio(part.clicked, part.p_click, settings=gate, clusters=part.users)
        yield _ratio("calibration", surface, ratio, settings.max_calibration)
    promised = expected(traffic.p_click, gate.confidence, traffic.users)
    for name in ("auc", "log_loss", "click_rate"):
        note = "from the predictions alone: right if they are, whatever drifted"
        yield Held(f"expected_{name}", EVERYWHERE, getattr(promised, name), note=note)


def _claim(
    metric: str, surface: str, found: Finding, should: float, bound: float, reference: str,
    above: bool = False, below: bool = False,
) -> Held:  # fmt: skip
    """A figure that should be something; `above`, `below`: only that side is wrong."""
    if isinstance(found, Refusal):
        return Held(metric, surface, found, reference, should)
    distance = found.value - should
    one_sided = (above and distance < 0) or (below and distance > 0)
    p = 1.0 if one_sided else p_beyond(distance, found.stderr, bound)
    bounds = (None if above else should - bound, None if below else should + bound)
    return Held(metric, surface, found, reference, should, bounds, p)


def _ratio(metric: str, surface: str, found: Finding, most: float) -> Held:
    if isinstance(found, Refusal) or not found.value:
        return Held(metric, surface, found, "as many clicks as predicted", 1.0)
    p = p_beyond(float(np.log(found.value)), found.stderr / found.value, float(np.log(most)))
    return Held(metric, surface, found, "as many clicks as predicted", 1.0, (1 / most, most), p)
