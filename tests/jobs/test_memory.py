"""What a stage may take before Spark takes over: the smaller of what the machine and the container have left."""

from pathlib import Path

import pytest

from jobs import memory
from jobs.config import SparkSettings

GB = 10**9


@pytest.mark.parametrize(
    ("limit", "used", "cached", "left"),
    [(4 * GB // 1000, GB // 1000, 0, 3 * GB // 1000), (4000, 3900, 300, 400), (4000, 5000, 0, 0)],
)
def test_a_container_has_what_its_limit_leaves(tmp_path: Path, limit: int, used: int, cached: int, left: int) -> None:
    """File pages count as free: they are the first to go."""
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{used}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")
    assert memory.at_hand(tmp_path) == left


def test_without_a_limit_it_is_the_machine_s(tmp_path: Path) -> None:
    """A folder without limits, and one whose limit is none."""
    free = memory.at_hand(tmp_path)
    assert free > 1_000_000
    for name, text in (("max", "max"), ("current", "1"), ("stat", "anon 1")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory.at_hand(tmp_path) == pytest.approx(free, rel=0.5)


@pytest.mark.parametrize(
    ("from_rows", "rows", "spark"),
    [(None, 999, False), (None, 1_001, True), (1_500, 1_001, False), (500, 999, True), (0, 0, True)],
)
def test_a_stage_moves_to_spark_where_one_process_would_not_fit(from_rows: int | None, rows: int, spark: bool) -> None:
    """Half of what is free for it; a number in the settings is the number."""
    settings = SparkSettings(from_rows=from_rows)
    assert settings.distributes(rows, bytes_a_row=500, free=2 * 500 * 1_000) is spark
