"""The learning curve: its windows, a world that changes on a known day, and the command."""

import json
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from jobs.config import AttributionSettings
from jobs.errors import Refused, UsageError
from jobs.lake.store import midnight
from jobs.learning_curve import __main__ as command
from jobs.learning_curve import core, page
from jobs.learning_curve.core import Window
from jobs.train.core import folds
from models.settings import DelaySettings, GateSettings, RankerSettings
from tests.jobs.small_lake import DAY, World, examples, publish_all, settings

SETTINGS = RankerSettings.model_validate({"xgboost": {"rounds": 8}})


def test_windows_double_and_end_with_all() -> None:
    history, staleness = core.windows(28)
    assert history == [Window(n) for n in (1, 2, 4, 8, 16, 28)]
    assert staleness == [Window(14, gap) for gap in (0, 1, 2, 4, 8)]
    assert core.windows(4) == ([Window(1), Window(2), Window(4)], [Window(2, gap) for gap in (0, 1, 2)])
    with pytest.raises(Refused, match="at least 4 train days in the dataset; found 3"):
        core.windows(3)


def test_a_world_that_turned_round_shows_in_both_curves() -> None:
    """What was clicked until two days before the newest train day is the opposite since: old days mislead."""
    train = pa.concat_tables(examples(World(), DAY - timedelta(days=n), "train", 300) for n in (6, 5, 4, 3))
    test = examples(World(), DAY - timedelta(days=1), "test", 300)
    days = pc.cast(train["event_time"], pa.date32())
    turned = pc.less(days, pa.scalar(pc.max(days).as_py() - timedelta(days=1)))
    clicked = pc.if_else(turned, pc.invert(train["clicked"]), train["clicked"])
    train = train.set_column(train.column_names.index("clicked"), train.schema.field("clicked"), clicked)
    rows = pa.concat_tables([train, examples(World(), DAY - timedelta(days=2), "validate", 30)])
    cut = midnight(DAY + timedelta(days=1))
    data = folds([rows], cut, AttributionSettings(), DelaySettings()).train
    said: list[str] = []
    found = core.curves("xgboost", data, test, SETTINGS, GateSettings(), said.append)
    losses = {point.window.days: point.difference["log_loss"].value for point in found.history}  # type: ignore[union-attr]
    assert losses[4] == 0.0
    assert losses[2] < -0.02, "without the days that mislead"
    assert [point.worse for point in found.staleness] == [False, True, True]
    assert found.fresh_days == 1
    assert len(said) == len(found.history) + len(found.staleness) - 1, "the newest half is fitted once"
    drawn = page.html("xgboost", str(DAY), found)
    assert drawn.count("<svg") == 6
    assert "worse for sure after 1 days" in drawn


def test_the_command_writes_a_page_and_says_what_it_lacks(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = settings(tmp_path, tmp_path_factory.getbasetemp())
    publish_all(made, World(), n=60)
    monkeypatch.setattr(command.config, "load", lambda: made)
    words = ["--day", str(DAY), "--ranker", "popularity", "--out", str(tmp_path / "out")]
    assert command.main(words) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    figures = json.loads(Path(told["page"]).with_suffix(".json").read_text())
    assert [point["days"] for point in figures["history"]] == [1, 2, 4]
    assert all({"value", "low", "high", "n"} <= set(point["metrics"]["auc"]) for point in figures["history"])
    assert told["enough_days"] in (1, 2, 4)
    with pytest.raises(UsageError, match="a day must be YYYY-MM-DD"):
        command.main(["--day", "soon"])
    with pytest.raises(UsageError, match="invalid choice: 'magic'"):
        command.main(["--day", str(DAY), "--ranker", "magic"])
