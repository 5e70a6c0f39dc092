"""Each rule of a watch fires where it should, and says so; by default the ones that are matters of taste are off."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from jobs.config import ReleaseSettings
from jobs.deploy.rules import of_canary, of_shadow
from jobs.deployments.steps import Found
from jobs.serving.answer import Answer, Placement
from jobs.serving.captured import Said
from jobs.serving.clicks import Clicks, none

NOON = datetime(2026, 1, 8, 12, tzinfo=UTC)
RISK = 0.003
N = 1500
UNREAD = none("no log")


def answers(n: int = N, items: str = "abcd", level: float = 0.2, ms: float = 5.0, **changes: Any) -> list[Said]:
    """One a second, the first of which is request 0."""
    slate = [Placement(item, place, 0.5, level, 0.0, 1.0) for place, item in enumerate(items, 1)]
    return [
        Said(
            NOON + timedelta(seconds=i), ms, replace(Answer(f"r{i}", slate, "m", "s", "v", False, None), **changes), {}
        )
        for i in range(n)
    ]


def shadow(said: list[Said], champion: list[Said] | None = None, **limits: Any) -> Any:
    return of_shadow(said, answers() if champion is None else champion, ReleaseSettings(**limits), RISK)


def canary(said: list[Said], champion: list[Said], clicks: Clicks = UNREAD, **limits: Any) -> Any:
    return of_canary(said, champion, clicks, ReleaseSettings(**limits), RISK)


def test_a_shadow_that_agrees_passes_and_says_how_much() -> None:
    found = shadow(answers(items="abdc", ms=10.0))
    assert found.found is Found.PASSED
    assert (
        f"against the champion on {N} requests: same top 100%, overlap 1.00, rank correlation 0.67, 1.00 times its "
        "p_click (shift 0.00), 2.0 times its time" in found.why
    )


@pytest.mark.parametrize(
    ("said", "limits", "why"),
    [
        (answers(items="bacd"), {"min_same_top": 0.3}, "same top item with the champion below 0.3"),
        (answers(items="wxyz"), {"min_overlap": 0.2}, "overlap with the champion below 0.2"),
        (answers(items="dcba"), {"min_rank_correlation": 0.0}, "rank correlation with the champion below 0"),
        (answers(level=0.9), {"max_level_ratio": 2.0}, "p_click more than 2 times the champion's"),
        (answers(level=1e-4), {}, "p_click less than 1/10 of the champion's"),
        (answers(ms=60.0), {"max_latency_ratio": 8.0}, "takes more than 8 times as long as the champion"),
    ],
)
def test_a_shadow_that_says_something_else_altogether_fails(said: list[Said], limits: dict[str, Any], why: str) -> None:
    """Each limit fires where it is set; all but the level's, which is wide, are off by default."""
    found = shadow(said, **limits)
    assert found.found is Found.FAILED
    assert found.why.startswith(why)
    if limits:
        assert shadow(said).found is Found.PASSED


def test_few_requests_break_no_limit_and_no_pair_is_said() -> None:
    """Two strange answers are no broken model; a shadow may have been asked what the champion's capture lost."""
    assert shadow(answers(2, items="wxyz"), min_overlap=0.2).found is Found.INCONCLUSIVE
    found = shadow(answers(), [])
    assert found.found is Found.PASSED
    assert "no request that champion and shadow both ranked" in found.why
    popular = answers(fallback=True, fallback_reason="late")
    assert "no request that champion and shadow both ranked" in shadow(answers(), popular).why


def mixed(n: int, share: float, rng: np.random.Generator) -> list[Said]:
    """Of n answers so many are slow."""
    return [
        one._replace(ms=500.0 if slow else 5.0) for one, slow in zip(answers(n), rng.random(n) < share, strict=True)
    ]


def test_a_canary_far_worse_than_the_champion_fails_below_its_absolute_limit() -> None:
    """3 % of slow answers is tolerated by itself; where the champion has hardly any, it is the canary's own."""
    rng = np.random.default_rng(1)
    limits = {"tolerated_slow": 0.1, "alarming_slow": 0.3}
    found = canary(mixed(4000, 0.05, rng), mixed(4000, 0.001, rng), **limits)
    assert found.found is Found.FAILED
    assert found.why.startswith("slow more than 3 times as often as the champion's in the same time")
    alike = canary(mixed(4000, 0.05, rng), mixed(4000, 0.04, rng), **limits)
    assert alike.found is Found.PASSED
    assert "% slow; clicks: none read (no log)" in alike.why


def clicked(n: int, share: float, ours: float, theirs: float) -> Clicks:
    rng = np.random.default_rng(2)
    treated = rng.random(n) < share
    return Clicks(treated, rng.random(n) < np.where(treated, ours, theirs))


def test_clicks_that_fall_fail_and_silence_about_them_neither_passes_nor_fails() -> None:
    good = answers()
    found = canary(good, good, clicked(60_000, 0.25, 0.2, 0.3))
    assert found.found is Found.FAILED
    assert found.why.startswith("clicks fell by more than 5%")
    same = canary(good, good, clicked(60_000, 0.25, 0.3, 0.3))
    assert same.found is Found.PASSED
    assert "users' first requests, the champion's" in same.why
    assert canary(good, good).found is Found.PASSED
    few = canary(answers(3), answers(3))
    assert few.found is Found.INCONCLUSIVE
    assert "clicks: none read (no log)" in few.why
    assert canary(answers(3), answers(3), clicked(60_000, 0.25, 0.3, 0.3)).found is Found.INCONCLUSIVE
