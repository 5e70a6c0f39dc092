"""How often a watch rolls back what is tolerable, how soon it finds what is not, and how long a good step waits.

No server: answers are drawn, the rules are `release`'s defaults, the test is the one that `watch` asks, looked at after
each answer. A release is a shadow and two canaries, so each of its nine tests has a ninth of its risk.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from jobs.config import ReleaseSettings
from models.evaluation.sequential import share_verdict

RULES, STEPS = ("failed", "fallback", "slow"), 3
RELEASE = ReleaseSettings(shadow_percent=100, canary_percent=(5, 25))


def prove(small: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """False rollbacks of whole releases, and the answers until a verdict, by rule and by the share that is bad."""
    runs = 200 if small else 2000
    rng = np.random.default_rng(1)
    risk = RELEASE.risk / (len(RULES) * STEPS)
    for answers in (500, 5000) if small else (500, 5000, 20_000):
        wrong = sum(any(_failed(rng, rule, answers, risk) for rule in RULES * STEPS) for _ in range(runs))
        yield "false_rollbacks", {"answers_a_step": answers, "releases": runs, "rolled_back": wrong / runs}
    for rule in RULES:
        tolerated, alarming = _limits(rule)
        for share in (alarming, 2 * alarming, 0.5, 1.0):
            found = [_until("failed", rng, share, rule, risk) for _ in range(runs // 4)]
            yield "detection", {"rule": rule, "bad": share, **_middle(found)}
        for share in (tolerated, tolerated / 10):
            found = [_until("passed", rng, share, rule, risk) for _ in range(runs // 4)]
            yield "pass", {"rule": rule, "bad": share, **_middle(found)}


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The risk is kept, and ten times the tolerated errors are found within 500 answers at the median."""
    wrong = max(row["rolled_back"] for row in rows if row["table"] == "false_rollbacks")
    [late] = [
        row["median"] for row in rows if row["table"] == "detection" and row["rule"] == "failed" and row["bad"] == 0.01
    ]
    return [
        {"goal": "false rollbacks at most 0.01", "found": wrong, "met": wrong <= RELEASE.risk},
        {"goal": "0.1 % -> 1 % failed found within 500 answers", "found": late, "met": late <= 500},
    ]


def _limits(rule: str) -> tuple[float, float]:
    return getattr(RELEASE, f"tolerated_{rule}"), getattr(RELEASE, f"alarming_{rule}")


def _failed(rng: np.random.Generator, rule: str, answers: int, risk: float) -> bool:
    tolerated, alarming = _limits(rule)
    return share_verdict(rng.random(answers) < tolerated, tolerated, alarming, risk) == "failed"


def _until(verdict: str, rng: np.random.Generator, share: float, rule: str, risk: float) -> int:
    """Answers until the verdict, by bisection where it stays; a pass is looked for after every 25."""
    bad = rng.random(200_000) < share
    low, high = 0, len(bad)
    if verdict == "failed":
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (
                (low, middle) if share_verdict(bad[:middle], *_limits(rule), risk) == verdict else (middle, high)
            )
        return high
    return next(
        n for _, n in pairwise(range(0, len(bad), 25)) if share_verdict(bad[:n], *_limits(rule), risk) == verdict
    )


def _middle(found: list[int]) -> dict[str, float]:
    return {"median": float(np.median(found)), "p95": float(np.quantile(found, 0.95))}
