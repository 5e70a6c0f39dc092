"""Which days are one job on Spark: as many as make few enough part files, and none that one process can take."""

from collections import Counter
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from jobs.config import SparkSettings
from jobs.validate.job import PARTS_AT_ONCE, ROWS_PER_BUCKET, one_job

FIRST = date(2026, 1, 5)
LARGE, FEWEST = 1_000, 4
SETTINGS = SparkSettings(from_rows=LARGE, partitions=FEWEST)
ROWS = st.sampled_from([0, 1, 999, 1_000, 20_000, 400_000, 3_000_000, 40_000_000, 200_000_000])
DAYS = st.lists(st.fixed_dictionaries({"impressions": ROWS, "clicks": ROWS}), max_size=70)


def taken(days: list[dict[str, int]], settings: SparkSettings = SETTINGS) -> tuple[int, int]:
    """How many of consecutive days one job takes, and its buckets; a day is asked for its rows once."""
    by_day = {FIRST + timedelta(days=n): rows for n, rows in enumerate(days)}
    asked: list[date] = []

    def rows_of(day: date) -> dict[str, int]:
        asked.append(day)
        return by_day[day]

    found, buckets = one_job(list(by_day), rows_of, settings, 10**9)
    assert found == list(by_day)[: len(found)]
    assert len(asked) == len(set(asked)) <= len(found) + 1
    return len(found), buckets


def buckets_of(days: list[dict[str, int]]) -> int:
    """So many that about `ROWS_PER_BUCKET` rows of any table meet in one."""
    rows = sum(map(Counter, days), Counter[str]())
    return max([FEWEST, *(-(-n // ROWS_PER_BUCKET) for n in rows.values())])


@given(DAYS)
def test_a_job_takes_the_longest_range_that_it_may(days: list[dict[str, int]]) -> None:
    """However large, a first day is taken; the next one stays out only where it is small or the parts are too many."""
    n, buckets = taken(days)
    large = [sum(rows.values()) >= LARGE for rows in days]
    assert all(large[:n])
    assert buckets == (buckets_of(days[:n]) if n else 0)
    assert n <= 1 or n * buckets <= PARTS_AT_ONCE
    if n < len(days) and large[n]:
        assert n > 0
        assert (n + 1) * buckets_of(days[: n + 1]) > PARTS_AT_ONCE


def test_a_backfill_of_days_of_usual_size_is_one_job_and_one_of_huge_days_several() -> None:
    """Pinned: 36 days of the demo's size; days of three million impressions; one that no other fits beside."""
    assert taken([{"impressions": 6_000}] * 36) == (36, 4)
    assert taken([{"impressions": 6_000}] * 60) == (50, 4)
    assert taken([{"impressions": 3_000_000}] * 9) == (5, 30)
    assert taken([{"impressions": 200_000_000}] * 2) == (1, 400)
    assert taken([{"impressions": 6_000}, {"impressions": 2}, {"impressions": 6_000}]) == (1, 4)
    assert taken([{"impressions": 2}, {"impressions": 6_000}]) == (0, 0)


def test_without_a_number_of_rows_memory_says_what_is_large() -> None:
    """A gigabyte that is free holds no day of a million rows."""
    assert taken([{"impressions": 1_000_000}, {"impressions": 1_000}], SparkSettings(partitions=2)) == (1, 2)
