"""The delay curves beside the evidence: those of its own training, against the ones published before."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.config import Config
from jobs.evidence import delays
from jobs.evidence.document import Document
from jobs.train.delay_curves import rows
from models.delays.curve import DelayCurve
from tests.jobs.evidence.evidence_documents import Page, shown, written
from tests.jobs.small_lake import DAY, a_run, publish, settings
from tests.models.delays.late_world import LateWorld


def curves(slow: float = 1.0, stretch: float = 1.0) -> pa.Table:
    """What a training publishes of two surfaces, one of which waits `slow` times as long."""
    observed = LateWorld(1, slow=slow, stretch=stretch).observed
    observed = type(observed).of(
        observed.age, observed.delay, observed.horizon, np.array(["home", "search"], object)[observed.group]
    )
    return rows(DelayCurve.fit(observed), observed, 7.0, "own")


@pytest.fixture
def config(tmp_path: Path, tmp_path_factory: Any) -> Config:
    return settings(tmp_path, tmp_path_factory.getbasetemp())


def published(config: Config, table: pa.Table, day: date = DAY, mode: str = "full") -> None:
    publish(config, "delay_curves", table, day=str(day), mode=mode)


def test_curves_stand_beside_those_before_them(config: Config) -> None:
    """Those of the newest day before count, or of the day's full training before its warm start; empty days do not."""
    run = a_run("backtest", config)
    assert delays.section(run, str(DAY)) is None, "a lake of before"
    published(config, curves())
    alone = delays.section(a_run("backtest", config), str(DAY))
    assert alone is not None
    assert (alone.before, [of.before for of in alone.groups]) == (None, [None] * 3)
    published(config, curves(slow=3.0), DAY - timedelta(days=7))
    published(config, curves().slice(0, 0), DAY - timedelta(days=1), "warm")
    found = delays.section(a_run("backtest", config), str(DAY))
    assert found is not None
    assert found.before == str(DAY - timedelta(days=7))
    assert found.groups[0].group == "all"
    search = next(of for of in found.groups if of.group == "surface: search")
    at = search.age_days.index(1.0)
    assert search.before is not None
    assert search.before[at] < search.share[at] - 0.1, "it waited three times as long then"
    published(config, curves(), mode="warm")
    warm = delays.section(a_run("backtest", config, mode="warm"), str(DAY))
    assert warm is not None
    assert (warm.mode, warm.before) == ("warm", str(DAY))


def test_the_page_draws_each_surface_and_says_where_delays_drift(tmp_path: Path, tmp_path_factory: Any) -> None:
    document = written(tmp_path, tmp_path_factory.getbasetemp())
    assert "How late conversions are heard of" not in Page(shown(document)).text, "nothing was published"
    config = settings(tmp_path, tmp_path_factory.getbasetemp())
    published(config, curves(slow=3.0), DAY - timedelta(days=7))
    published(config, curves(stretch=2.5))
    told = delays.section(a_run("backtest", config), str(DAY))
    assert told is not None
    drifting = document | {"delays": told.model_dump(mode="json")}
    page = Page(shown(drifting))
    assert "How late conversions are heard of" in page.text
    assert f"Dashed, the curve published on {DAY - timedelta(days=7)}" in page.text
    assert "Drifts. " in page.text
    assert "The last days' take longer" in page.text
    drawn = [of for _, of in page.tags if (of.get("class") or "").startswith("curve")]
    assert len([of for of in drawn if of["class"] == "curve before"]) == 3
    calm = document | {"delays": told.model_dump(mode="json") | {"groups": calm_groups(told)}}
    assert "Drifts. " not in Page(shown(calm)).text
    assert Document.model_validate(drifting).delays == told


def calm_groups(told: Any) -> list[dict[str, Any]]:
    return [of.model_dump(mode="json") | {"drift": [0.01, -0.1, 0.12], "drift_p_value": 0.8} for of in told.groups]
