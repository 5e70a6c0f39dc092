"""How often a watch rolls back what is tolerable, how soon it finds what is not, and how long a good step waits.

No server: answers are drawn, the rules are `release`'s defaults, the tests are those that `watch` asks, looked at after
each answer. A release is a shadow and two canaries: each step has a third of its risk, of which its own three limits
have `rules.OWN` and what compares the rest. Tolerable is what lies on every border at once: shares as bad as tolerated,
and as many times the champion's; clicks as far below the champion's. The champion answers 19 or 3 requests for each of
a canary's.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from jobs.config import ReleaseSettings
from jobs.deploy.rules import OWN
from jobs.deploy.rules import SHARES as RULES
from models.evaluation.sequential import rises, share_verdict

RELEASE = ReleaseSettings(shadow_percent=100, canary_percent=(5, 25))
STEP_RISK = RELEASE.risk / len(RELEASE.steps)
RULE_RISK = OWN * STEP_RISK / len(RULES)
COMPARED_RISK = (1 - OWN) * STEP_RISK / (len(RULES) + 1)
"""A canary's: its three against the champion's, and clicks."""
CLICKED = 0.3
LONGEST = 50_000


def prove(small: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """False rollbacks of whole releases, and the answers until a verdict, by rule and by the share that is bad."""
    runs = 200 if small else 1000
    rng = np.random.default_rng(1)
    for answers in (500, 5000) if small else (500, 5000, 20_000):
        wrong = sum(_rolled_back(rng, answers) for _ in range(runs))
        yield "false_rollbacks", {"answers_a_step": answers, "releases": runs, "rolled_back": wrong / runs}
    for rule in RULES:
        tolerated, alarming = _limits(rule)
        for share in (alarming, 2 * alarming, 0.5, 1.0):
            found = [_until("failed", rng, share, rule) for _ in range(runs // 4)]
            yield "detection", {"rule": rule, "bad": share, **_middle(found)}
        for share in (tolerated, tolerated / 10):
            found = [_until("passed", rng, share, rule) for _ in range(runs // 4)]
            yield "pass", {"rule": rule, "bad": share, **_middle(found)}
    for percent in RELEASE.canary_percent:
        for clicked in (0.1, CLICKED):
            for drop in (0.2, 0.5, 1.0):
                found = [_until_clicks_fell(rng, percent, clicked, drop) for _ in range(runs // 10)]
                yield "clicks", {"canary": percent, "clicked": clicked, "drop": drop, **_middle(found)}


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The risk is kept, ten times the tolerated errors are found within 500 answers at the median, a fifth fewer clicks
    within 10,000 users.
    """
    wrong = max(row["rolled_back"] for row in rows if row["table"] == "false_rollbacks")
    [late] = [
        row["median"] for row in rows if row["table"] == "detection" and row["rule"] == "failed" and row["bad"] == 0.01
    ]
    [clicks] = [
        row["median"]
        for row in rows
        if row["table"] == "clicks" and (row["canary"], row["clicked"], row["drop"]) == (5, CLICKED, 0.2)
    ]
    return [
        {"goal": "false rollbacks at most 0.01", "found": wrong, "met": wrong <= RELEASE.risk},
        {"goal": "0.1 % -> 1 % failed found within 500 answers", "found": late, "met": late <= 500},
        {"goal": "a fifth fewer clicks found within 10,000 canary users", "found": clicks, "met": clicks <= 10_000},
    ]


def _limits(rule: str) -> tuple[float, float]:
    return getattr(RELEASE, f"tolerated_{rule}"), getattr(RELEASE, f"alarming_{rule}")


def _rolled_back(rng: np.random.Generator, answers: int) -> bool:
    """Whether any test of any step fires on a release that is as bad as tolerated in every way."""
    if any(_failed(rng.random(answers) < _limits(rule)[0], rule) for rule in RULES):
        return True
    for percent in RELEASE.canary_percent:
        for rule in RULES:
            bad = rng.random(answers) < _limits(rule)[0]
            theirs = _champion(rng, answers, percent, _limits(rule)[0] / RELEASE.max_times)
            worse = rises(bad - RELEASE.max_times * theirs, RELEASE.max_times, COMPARED_RISK)
            if _failed(bad, rule) or worse:
                return True
        if rises(_clicks(rng, answers, percent, CLICKED, RELEASE.tolerated_clicks_drop), 1.0, COMPARED_RISK):
            return True
    return False


def _champion(rng: np.random.Generator, answers: int, percent: float, share: float) -> np.ndarray:
    """The champion's mean in the block of each of a canary's answers."""
    others = round((100 - percent) / percent)
    return rng.binomial(others, share, answers) / others


def _clicks(rng: np.random.Generator, answers: int, percent: float, clicked: float, drop: float) -> np.ndarray:
    """What the test of clicks is asked about, for a canary that many fewer click than the champion."""
    ours = rng.random(answers) < clicked * (1 - drop)
    return (1 - RELEASE.tolerated_clicks_drop) * _champion(rng, answers, percent, clicked) - ours


def _failed(bad: np.ndarray, rule: str) -> bool:
    return share_verdict(bad, *_limits(rule), RULE_RISK) == "failed"


def _until(verdict: str, rng: np.random.Generator, share: float, rule: str) -> int:
    """A canary's answers until the verdict, by bisection where it stays; a pass is looked for after every 25."""
    bad = rng.random(200_000) < share
    if verdict == "failed":
        return _first(len(bad), lambda n: _failed(bad[:n], rule))
    return next(
        n for _, n in pairwise(range(0, len(bad), 25)) if share_verdict(bad[:n], *_limits(rule), RULE_RISK) == verdict
    )


def _until_clicks_fell(rng: np.random.Generator, percent: float, clicked: float, drop: float) -> int:
    """A canary's users; `LONGEST` where so many do not suffice."""
    values = _clicks(rng, LONGEST, percent, clicked, drop)
    return _first(LONGEST, lambda n: rises(values[:n], 1.0, COMPARED_RISK))


def _first(most: int, found: Any) -> int:
    """The fewest answers with a verdict that stays."""
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


def _middle(found: list[int]) -> dict[str, float]:
    return {"median": float(np.median(found)), "p95": float(np.quantile(found, 0.95))}
