"""Which rankers a run fits, and what they learn from."""

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from jobs.config import AttributionSettings
from jobs.errors import Refused
from jobs.lake.store import midnight
from jobs.train import core, job
from models.rankers.features import EVERYTHING, IDS, LISTS, TABLE
from models.rankers.protocol import Inputs
from models.settings import DelaySettings, RankerSettings
from tests.jobs.small_lake import DAY, World, examples


def folds(rows: pa.Table) -> core.Folds:
    return core.folds([rows], midnight(DAY + timedelta(days=1)), AttributionSettings(), DelaySettings())


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


def test_a_list_is_a_request_and_where_that_shows_one_item_the_users_day() -> None:
    """KuaiRand logs no pages: without its users' days nothing could be ordered. Who has no name stands alone."""
    start = midnight(DAY)

    def rows(requests: list[str]) -> pa.Table:
        times = [start, start + timedelta(hours=5), start + timedelta(days=1), start, start, start]
        users = ["ann", "ann", "ann", "bob", None, None]
        return pa.table(
            {"request_id": requests, "user_id": pa.array(users, pa.string()), "event_time": pa.array(times)}
        )

    def together(requests: list[str]) -> list[list[int]]:
        found = core.lists(rows(requests))
        return [np.flatnonzero(found == one).tolist() for one in np.unique(found)]

    assert together(["r1", "r2", "r1", "r3", "r4", "r5"]) == [[0, 2], [1], [3], [4], [5]]
    assert sorted(together(["r1", "r2", "r3", "r4", "r5", "r6"])) == [[0, 1], [2], [3], [4], [5]]
    assert not len(core.lists(rows(["r"] * 6).slice(0, 0)))


def test_rankers_are_told_what_was_shown_together() -> None:
    """Of either split; and other lists are other data."""
    rows = pa.concat_tables([examples(World(), DAY, split, 20) for split in ("train", "validate")])
    found = folds(rows)
    groups = found.train.groups
    assert groups is not None
    requests = rows.filter(pc.equal(rows["split"], "train"))["request_id"].to_pylist()
    assert len(set(zip(requests, groups.tolist(), strict=True))) == len(set(requests))
    assert found.train.held_out is not None
    assert found.train.held_out.groups is not None
    other = replace(found.train, groups=groups + 1)
    one, two = (core.fingerprint(core.fingerprints(of), ["position"]) for of in (found.train, other))
    assert one != two


def test_a_bundle_knows_the_surfaces_of_both_folds_and_of_its_parent() -> None:
    """A warm start's few days may miss one; where the parent does not say, nor can it."""
    parts = []
    for split, surface in (("train", "search"), ("validate", "home")):
        rows = examples(World(), DAY, split, 20)
        at = rows.column_names.index("surface")
        parts.append(rows.set_column(at, "surface", pa.array([surface] * (len(rows) - 1) + [None])))
    found = folds(pa.concat_tables(parts))
    assert found.surfaces == ("home", "search")
    assert job._surfaces(found, None) == {"surfaces": ["home", "search"]}
    says, silent = (
        SimpleNamespace(parent=SimpleNamespace(manifest={"lineage": lineage}))
        for lineage in ({"surfaces": ["letter"]}, {})
    )
    assert job._surfaces(found, says) == {"surfaces": ["home", "letter", "search"]}
    assert job._surfaces(found, silent) == {}
