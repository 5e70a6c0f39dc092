"""A small version of `tests/bench/bench_serving.py`: the real container is asked, and what that costs."""

import pytest

from tests.bench.bench_serving import (
    GOAL_MS,
    LOADS,
    NEVER_PAUSING,
    RANDOM_LOADS,
    SIZED,
    drawn,
    goals,
    kept,
    prove,
    sized,
)


def test_every_load_is_answered_and_every_row_says_how() -> None:
    """Not how fast, on a machine that others use: that all of it runs, and nothing fails however much is asked."""
    rows = [{"table": table, **row} for table, row in prove(small=True)]
    assert [row["table"] for row in rows] == [
        "closed",
        *["open"] * len(LOADS),
        *["open, at random"] * len(RANDOM_LOADS),
        *["never pausing"] * len(NEVER_PAUSING),
        "own candidates",
        *["own candidates, open"] * len(LOADS),
        *["mlflow"] * 2,
        *["sizing"] * len(SIZED),
    ]
    even, random = ([row for row in rows if row["table"] == table] for table in ("open", "open, at random"))
    assert drawn(even, random).startswith(b"<?xml")
    asked = [row for row in rows if row["table"] != "sizing"]
    assert all(row["requests"] > 0 and row["errors"] == 0 for row in asked)
    assert all(0 < row["p50_ms"] <= row["p99_ms"] <= row["p999_ms"] <= row["max_ms"] for row in asked)
    assert all(row["cpu_ms_a_request"] > 0 and row["memory_mib"] > 100 for row in asked)
    assert [goal["met"] for goal in goals(rows) if goal["goal"] == "no errors at any load"] == [True]


def test_a_cost_is_of_the_highest_load_that_is_kept() -> None:
    """By hand: 200 requests/s of one core are 800 of a machine of four, 2.88 million an hour, for USD 0.269."""
    good = {"ranked_per_second": 150.0, "p99_ms": GOAL_MS, "errors": 0, "fallback_share": 0.01}
    rows = [
        good,
        good | {"ranked_per_second": 200.0},
        good | {"ranked_per_second": 250.0, "p99_ms": GOAL_MS + 1},
        good | {"ranked_per_second": 260.0, "errors": 1},
        good | {"ranked_per_second": 270.0, "fallback_share": 0.02},
    ]
    assert kept(rows) == 200.0
    thousand, many = sized(200.0)
    assert (thousand["cores"], thousand["m5_xlarge"]) == (5, 2)
    assert (many["cores"], many["m5_xlarge"]) == (500, 125)
    assert thousand["usd_a_million"] == pytest.approx(0.269 / 2.88)
    assert kept([rows[2]]) == 0.0
    assert sized(0.0)[0] == {"per_core": 0.0, "cores": None, "m5_xlarge": None, "usd_a_million": None}
