"""A log unseen here, its own names, epochs and lists, through the source that `docs/own-logs.md` asks for."""

from datetime import timedelta
from pathlib import Path

import pytest

from jobs.attribute import job as attribute
from jobs.config import Config, LakeSettings, SourceSettings
from jobs.flow import STAGES
from jobs.lake import raw_writer
from jobs.lake.run import Run
from jobs.lake.store import Lake
from jobs.validate import check
from jobs.validate import job as validate
from tests.jobs.sources import hotel_sessions, hotels


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """The log's files as the source's data."""
    hotel_sessions.write(tmp_path / "data", days=2, sessions=60)
    source = SourceSettings(data=tmp_path / "data")
    return Config(source=source, lake=LakeSettings(root=tmp_path / "lake", raw=tmp_path / "raw"))


def test_a_foreign_log_becomes_labels(config: Config) -> None:
    """Every click-out is one click, of the hotel that was clicked; prices stay numbers; nothing is set aside."""
    source = hotels.source(config)
    first, last = source.span()
    assert (first, last - first) == (hotel_sessions.FIRST.date(), timedelta(days=1))
    for day in (first, last):
        raw_writer.write_day(config.lake.raw, day, source.day(day))
    seen = check.check(config, config.lake.raw, None)
    assert not seen.stops
    assert "impressions: attributes that are numbers: price" in seen.fine
    assert any(sentence.startswith("impressions.propensity: ") for sentence in seen.missing)
    assert validate.run(Run(STAGES["validate"], config, last, first))["set_aside"] == 0
    counts = attribute.run(Run(STAGES["attribute"], config, last, first))
    assert counts["clicked"] == 2 * 60
    labels = Lake(config.lake.root).read("labels").to_pylist()
    clicked = {row["request_id"]: row["item_id"] for row in labels if row["clicked"]}
    rows = [row for shown in source._shown.values() for _, row in shown]
    assert clicked == {f"{row['session_id']}-{row['step']}": row["reference"] for row in rows}
    prices = dict(Lake(config.lake.root).read("impressions").column("attributes")[0].as_py())
    assert float(prices["price:number"]) > 0
