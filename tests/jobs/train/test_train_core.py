"""Which rankers a run fits, and what they learn from."""

from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from jobs.config import AttributionSettings
from jobs.errors import Refused
from jobs.lake.store import midnight
from jobs.train import core
from models.rankers.features import EVERYTHING, IDS, LISTS, TABLE
from models.rankers.protocol import Inputs
from models.settings import DelaySettings, RankerSettings
from tests.jobs.small_lake import DAY, World, examples


def folds(rows: pa.Table) -> core.Folds:
    return core.folds(rows, midnight(DAY + timedelta(days=1)), AttributionSettings(), DelaySettings())


def test_the_validate_split_is_chosen_on_as_it_is() -> None:
    """All of its traffic, rows without a label included, and none of another day."""
    parts = [examples(World(), DAY, split, 20) for split in ("train", "validate", "test")]
    found = folds(pa.concat_tables(parts))
    assert found.validate.equals(parts[1])
    assert len(found.train.clicked) == len(parts[0])


def test_a_train_fold_without_clicks_is_refused() -> None:
    rows = examples(World(), DAY, "train", 20)
    silent = rows.set_column(rows.column_names.index("clicked"), "clicked", pa.array([False] * len(rows)))
    with pytest.raises(Refused, match=r"60 with a known label, 0 clicked"):
        folds(silent)


@pytest.mark.parametrize(
    ("mode", "champion", "expected"),
    [
        ("full", None, {"popularity", "logistic", "xgboost", "mmoe"}),
        ("warm", "logistic", {"popularity", "logistic"}),
        ("warm", "xgboost", {"popularity", "xgboost"}),
        ("warm", None, {"popularity", "xgboost"}),
        ("warm", "popularity", {"popularity", "xgboost"}),
    ],
)
def test_a_warm_start_fits_the_champions_kind(mode: Any, champion: str | None, expected: set[str]) -> None:
    assert set(core.kinds(mode, champion, RankerSettings().kinds)) == expected
    with_light = core.kinds(mode, champion, RankerSettings().kinds, "logistic")
    assert set(with_light) == {*expected, "logistic"}, "for the light stage"


@pytest.mark.parametrize(
    ("mode", "champion", "of", "expected"),
    [
        ("full", None, ["mmoe"], ["popularity", "mmoe"]),
        ("full", None, ["popularity"], ["popularity"]),
        ("warm", "mmoe", ["logistic"], ["popularity", "mmoe"]),
        ("warm", None, ["logistic", "mmoe"], ["popularity", "mmoe"]),
    ],
)
def test_settings_say_which_rankers_are_fitted(
    mode: Any, champion: str | None, of: list[str], expected: list[str]
) -> None:
    """The baseline always; what serves goes on whatever is fitted anew."""
    assert core.kinds(mode, champion, of) == expected


def test_a_ranker_nobody_knows_is_misconfigured() -> None:
    with pytest.raises(ValueError, match="must be of popularity, logistic"):
        RankerSettings(kinds=("logistic", "forest"))


def test_the_fingerprint_follows_content_only() -> None:
    """The bundle's sha rests on it: chunks, file boundaries and unused bytes must not move it, any value must."""
    rows = examples(World(), DAY, "train", 30)
    chunked = pa.concat_tables([rows.slice(0, 7), rows.slice(7)])
    keys = ["daypart", "item.tier", "user.segment"]

    def told(table: pa.Table, inputs: Inputs = EVERYTHING) -> str:
        data = core.training_data(table, keys)
        return core.fingerprint(core.fingerprints(data), core.learned_from(data, inputs))

    first, same = (told(table) for table in (rows, chunked))
    assert first == same
    other = {"surface": "search", "item_price": 1.5, "clicked": None, "user_id": "u", "last_items": ["a"]}
    for name, value in other.items():
        values = rows[name].to_pylist()
        values[5] = value
        field = rows.schema.field(name).with_nullable(True)
        changed = rows.set_column(rows.column_names.index(name), field, pa.array(values, field.type))
        assert told(changed) != first, name
        assert (told(changed, TABLE) == told(rows, TABLE)) == (name in (*IDS, *LISTS)), "nobody asked for it"
