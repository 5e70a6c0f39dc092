"""Where events come from Kafka the collector is a service of the stack, and elsewhere it is none."""

from pathlib import Path

import pytest

from infra.stack.components import Layout, components
from jobs import config


@pytest.mark.parametrize(("source", "collects"), [("kafka", True), ("parquet", False)])
def test_the_collector_is_a_service_where_the_source_is_kafka(tmp_path: Path, source: str, collects: bool) -> None:
    """Started again by the supervisor, as all others are; with the settings of the stack."""
    urls = [f"http://127.0.0.1:{port}" for port in (1, 2, 3)]
    environ = config.environment({"source.name": source, "lake.raw": str(tmp_path / "raw")})
    found = [one for one in components(Layout(tmp_path, *urls), environ) if one.name == "collector"]
    assert len(found) == collects
    for one in found:
        assert list(one.argv[1:]) == ["-m", "jobs", "collect"]
        assert one.environ == environ
