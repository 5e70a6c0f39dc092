"""Examples gathered batch by batch are the examples read whole; their room is behind files, and a full disk says so."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.lake.parts import batches
from jobs.lake.tables import LAKE
from jobs.moment.columns import attribute_keys, training_data
from jobs.train import core, gathered, room
from jobs.train.gathered import Gathered
from models.rankers.features import EVERYTHING
from models.rankers.protocol import Inputs, TrainingData
from models.rankers.words import Words, unpacked
from models.settings import OutcomeSettings
from tests.jobs.small_lake import DAY, World, a_run, examples, publish, settings

ASKED = EVERYTHING | Inputs(outcomes=True)
OUTCOMES = {"like": OutcomeSettings()}


def told(rows: pa.Table, name: str, values: list[Any]) -> pa.Table:
    field = rows.schema.field(name)
    return rows.set_column(rows.schema.get_field_index(name), field, pa.array(values, field.type))


@pytest.fixture
def rows() -> pa.Table:
    """A vector that grows longer, one that goes; an attribute that comes late; rows without either; an outcome."""
    found, n = examples(World(), DAY, "train", 30), 90
    vectors = [None] * 20 + [[1.0, 2.0]] * 20 + [[1.0, 2.0, 3.0]] * 20 + [None] * (n - 60)
    late = [[("late", "yes")] if k > 70 else [("early", str(k % 3))] if k < 30 else [] for k in range(n)]
    lists = [None if k % 7 == 0 else [f"i{k}", f"i{k % 5}"] for k in range(n)]
    likes = [None if k < 10 else [("like", float(k % 2))] for k in range(n)]
    for name, values in {"item_vector": vectors, "attributes": late, "last_items": lists, "outcomes": likes}.items():
        found = told(found, name, values)
    return found


def gather(rows: pa.Table, size: int, into: Any) -> TrainingData:
    found = Gathered(ASKED, OUTCOMES, into)
    for first in range(0, max(1, len(rows)), size):
        found.add(rows.slice(first, size))
    return found.data([*attribute_keys(rows["attributes"]), "of other rows"])


@pytest.mark.parametrize("size", [1, 7, 25, 90])
def test_batches_make_the_columns_of_all_rows(
    rows: pa.Table, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the batches: the same columns, labels and fingerprints, also where room had to be made again."""
    monkeypatch.setattr(gathered, "FIRST_ROWS", 4)
    monkeypatch.setattr(room, "SMALL", 0)
    whole = training_data(rows, [*attribute_keys(rows["attributes"]), "of other rows"], ASKED, OUTCOMES)
    found = gather(rows, size, room.Files(tmp_path / "room"))
    assert list(found.features) == list(whole.features)
    for name, column in whole.features.items():
        np.testing.assert_array_equal(unpacked(found.features[name]), unpacked(column), err_msg=name)
    assert core.fingerprints(found) == core.fingerprints(whole)
    assert {field.name for field in fields(found)} >= {"room"}
    assert isinstance(found.features["user_id"], Words)
    assert not list((tmp_path / "room").iterdir()), "the files have no names"


def test_no_rows_are_gathered_to_none(rows: pa.Table) -> None:
    """A train split without rows is refused for that, not crashed on."""
    assert len(gather(rows.slice(0, 0), 1, np.empty).clicked) == 0


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path) -> None:
    """Not by a signal that ends the process in the middle of learning."""
    with pytest.raises(OSError, match="a training needs 2251799813685248 bytes for an array"):
        room.Files(tmp_path)((1 << 48,), np.float64)
    assert not list(tmp_path.iterdir())


def test_a_training_never_reads_all_examples_at_once(
    rows: pa.Table, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come by batches in order, whatever the row groups."""
    monkeypatch.setattr("jobs.lake.parts.BATCH_ROWS", 8)
    config = settings(tmp_path, tmp_path_factory.getbasetemp())
    publish(config, "examples", rows, day=str(DAY), mode="full")
    run, names = a_run("train", config), ["split", "item_id"]
    found = list(run.batches("examples", [DAY], {"mode": "full"}, names))
    assert [len(batch) for batch in found] == [8] * 11 + [2]
    assert pa.concat_tables(found).equals(rows.select(names))
    with pytest.raises(PermissionError, match=r"read examples\.policy"):
        run.batches("examples", [DAY], {"mode": "full"}, ["policy"])
    [(path, _)] = run.files("examples", [DAY], {"mode": "full"})
    assert next(batches(path, "examples", ["item_id"])).schema.field("item_id") == LAKE["examples"].schema.field(
        "item_id"
    )
