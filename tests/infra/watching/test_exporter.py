"""What the exporter says is what the lake, the runs and the machine say."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from infra.endpoint.metrics import BUCKETS
from infra.metrics.__main__ import page
from infra.metrics.host import mount_of
from infra.metrics.lake import COMPARED, DAILY, newest, settings_of, waiting
from jobs import config
from jobs.config import ROOT
from jobs.lake.store import Lake, midnight
from jobs.monitor.incidents import CAUSES
from tests.infra.watching.small_watched import (
    CHALLENGER,
    CHAMPION,
    DAY,
    DECIDED_AT,
    FIGURES,
    LIVE_AT,
    decided,
    environ,
    fill,
    publish,
    report,
    step,
)


def scraped(settings: config.Config) -> dict[str, list[tuple[Mapping[str, str], float]]]:
    """Samples by name, as Prometheus would read them."""
    found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for family in text_string_to_metric_families(generate_latest(page(settings)).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def of(samples: list[tuple[Mapping[str, str], float]], **labels: str) -> float:
    """The one sample with these labels."""
    [value] = [value for found, value in samples if labels.items() <= found.items()]
    return value


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> config.Config:
    return fill(tmp_path_factory.mktemp("watched"))


def test_freshness_and_rows_are_those_of_the_newest_day(settings: config.Config) -> None:
    found = scraped(settings)
    end = midnight(DAY + timedelta(days=1)).timestamp()
    assert of(found["tidegate_table_day_end_timestamp_seconds"], table="items") == end
    assert of(found["tidegate_table_rows"], table="items", stage="test") == 40
    assert of(found["tidegate_table_rows"], table="clicks", stage="validate") == 0, "an empty day was published"
    assert abs(of(found["tidegate_table_published_timestamp_seconds"], table="items") - time.time()) < 600
    assert {labels["table"] for labels, _ in found["tidegate_table_daily"]} == set(DAILY)
    tables = {labels["table"] for labels, _ in found["tidegate_table_day_end_timestamp_seconds"]}
    assert "readouts" not in tables, "never published: TableMissing's business"
    assert "deployments" not in tables, "a ledger has no days"


def test_a_new_day_is_seen_by_the_next_scrape(tmp_path: Path) -> None:
    """What is remembered of a table is remembered by its version."""
    settings = config.load(environ(tmp_path))
    registry = page(settings)

    def rows() -> float | None:
        return registry.get_sample_value("tidegate_table_rows", {"table": "serving_reports", "stage": "monitor"})

    assert rows() is None
    publish(settings, "serving_reports", report({"auc": (0.5, True)}), "monitor", day="2026-01-08")
    assert rows() == 1
    of_auc = {"metric": "auc", "surface": "", "cause": "model"}
    assert registry.get_sample_value("tidegate_report_alarm", of_auc) == 1
    publish(settings, "serving_reports", report(FIGURES), "monitor", day="2026-01-09")
    assert rows() == len(FIGURES)
    publish(settings, "serving_reports", report({}), "monitor", day="2026-01-07")
    assert rows() == len(FIGURES), "an older day, published late, is not the newest"


def test_the_newest_day_has_the_rows_of_all_its_partitions_each_as_last_published() -> None:
    def commit(at: int, partition: str, rows: int) -> dict[str, Any]:
        return {"timestamp": at, "tidegate.partition": partition, "tidegate.rows": str(rows), "tidegate.stage": "s"}

    history = [
        {"timestamp": 9, "operation": "OPTIMIZE"},
        commit(8, '{"day": "2026-01-08", "mode": "warm"}', 3),
        commit(7, '{"day": "2026-01-09", "mode": "full"}', 20),
        commit(6, '{"day": "2026-01-09", "mode": "full"}', 1000),
        commit(5, '{"day": "2026-01-09", "mode": "warm"}', 4),
    ]
    found = newest(history)
    assert found is not None
    assert (found.day.isoformat(), found.rows, found.published) == ("2026-01-09", 24, 0.007)
    assert newest(history[:1]) is None


def test_a_broken_log_is_one_figure_and_hides_no_other(tmp_path: Path) -> None:
    settings = fill(tmp_path)
    log = settings.lake.root / "promotions" / "_delta_log" / f"{1:020}.json"
    log.write_text("")
    found = scraped(settings)
    assert of(found["tidegate_table_readable"], table="promotions") == 0
    assert of(found["tidegate_table_readable"], table="items") == 1
    assert of(found["tidegate_report_alarm"], metric="fallback_share") == 1
    assert of(found["tidegate_run_exit_code"], stage="validate") == 65


def test_what_serves_what_waits_and_what_alarms(settings: config.Config) -> None:
    found = scraped(settings)
    [(labels, _)] = found["tidegate_champion_info"]
    assert labels == {"bundle": CHAMPION, "sha256": CHAMPION}
    assert of(found["tidegate_champion_live_timestamp_seconds"]) == LIVE_AT.timestamp()
    assert of(found["tidegate_promotions_waiting"]) == 1
    assert of(found["tidegate_promotion_waits_since_timestamp_seconds"]) == DECIDED_AT.timestamp()
    assert of(found["tidegate_release_under_way"]) == 0
    values = {labels["metric"]: value for labels, value in found["tidegate_report_value"]}
    assert values == {name: value for name, (value, _) in FIGURES.items() if value is not None}, "refused: no number"
    alarms = {labels["metric"]: value for labels, value in found["tidegate_report_alarm"]}
    assert alarms == {name: float(alarm) for name, (_, alarm) in FIGURES.items()}, "also 0, so that one can close"
    opened = {labels["cause"]: value for labels, value in found["tidegate_incident_open"]}
    assert opened == {**{cause.name: 0.0 for cause in CAUSES}, "serving": 1.0}, "by cause, as the report tells it"


LATER = DECIDED_AT + timedelta(hours=1)


@pytest.mark.parametrize(
    ("steps", "verdicts", "number"),
    [
        ([], [decided(CHALLENGER, DECIDED_AT)], 1),
        ([], [decided(CHALLENGER, DECIDED_AT, "hold")], 0),
        ([step(1, CHALLENGER, "approved", LATER)], [decided(CHALLENGER, DECIDED_AT)], 0),
        ([step(1, CHALLENGER, "rejected", LATER)], [decided(CHALLENGER, DECIDED_AT)], 0),
        ([step(1, CHALLENGER, "rejected", LATER, "older")], [decided(CHALLENGER, DECIDED_AT)], 1),
        ([step(1, CHAMPION, "live", LATER)], [decided(CHALLENGER, DECIDED_AT)], 0),
        ([step(1, CHAMPION, "live", LIVE_AT)], [decided(CHALLENGER, DECIDED_AT), decided("b", LATER, "hold")], 0),
        ([], [decided(CHALLENGER, DECIDED_AT), decided("b", LATER)], 1),
    ],
    ids=["asked", "held", "approved", "rejected", "other evidence", "overtaken", "newer holds", "two of a mode"],
)
def test_who_waits_for_a_person(steps: list[dict[str, Any]], verdicts: list[dict[str, Any]], number: int) -> None:
    assert len(waiting([{**row, "mode": "full"} for row in verdicts], steps)) == number


def test_bounds_are_the_settings() -> None:
    """What rules compare with; a lake that promises nothing has no bound of freshness."""

    def bounds(**more: str) -> dict[str, float]:
        families = {family.name: family for family in settings_of(config.load({"TIDEGATE_ENV": "test", **more}))}
        [in_time] = families["tidegate_in_time_bucket"].samples
        return {
            **{s.labels["setting"]: s.value for s in families["tidegate_setting"].samples},
            **{s.labels["stage"]: s.value for s in families["tidegate_run_timeout_seconds"].samples},
            "bucket": float(in_time.labels["le"]),
        }

    found = bounds()
    assert set(COMPARED) - set(found) == {"lake.stale_hours"}
    assert (found["release.slow_ms"], found["bucket"], found["train"]) == (100, 0.1, 8 * 3600)
    other = bounds(
        TIDEGATE__LAKE__STALE_HOURS="30", TIDEGATE__RELEASE__SLOW_MS="41", TIDEGATE__TIMEOUTS__TRAIN_MINUTES="5"
    )
    assert (other["lake.stale_hours"], other["bucket"], other["train"]) == (30, 0.06, 300)
    assert other["bucket"] in BUCKETS
    rules = (ROOT / "infra" / "prometheus" / "rules.yml").read_text()
    assert all(f'tidegate_setting{{setting="{name}"}}' in rules for name in COMPARED), "each is what some rule fires by"


def test_the_host_is_told_as_node_exporter_tells_it(settings: config.Config, tmp_path: Path) -> None:
    found = scraped(settings)
    assert of(found["node_memory_MemTotal_bytes"]) == psutil.virtual_memory().total
    disk = psutil.disk_usage(str(settings.lake.root))
    mount = str(mount_of(settings.lake.root))
    assert of(found["node_filesystem_size_bytes"], mountpoint=mount) == disk.total
    assert 0 < of(found["node_filesystem_avail_bytes"], mountpoint=mount) <= disk.total
    assert {labels["mode"] for labels, _ in found["node_cpu_seconds_total"]} >= {"user", "system", "idle"}
    assert mount_of(tmp_path / "not" / "there" / "yet") == mount_of(tmp_path)


def test_a_lake_that_is_not_there_yet_is_a_page(tmp_path: Path) -> None:
    """The exporter starts with the stack, before any stage has run."""
    found = scraped(config.load(environ(tmp_path)))
    assert of(found["tidegate_promotions_waiting"]) == 0
    assert "tidegate_table_day_end_timestamp_seconds" not in found
    assert datetime.fromtimestamp(of(found["tidegate_setting"], setting="lake.stale_hours"), UTC)


def test_a_scrape_is_cheap(settings: config.Config) -> None:
    """Every half minute, beside the stages; the machine of a test may be busy."""
    registry = page(settings)
    generate_latest(registry)
    began = time.process_time()
    generate_latest(registry)
    assert time.process_time() - began < 1
    assert Lake(settings.lake.root).version("items") == 0
