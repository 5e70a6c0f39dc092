"""The backtest of a day of 200,000 test rows behind 1,000,000 to learn from: what it holds, and what a batch saves.

50,000 requests of 4 places among 20 candidates each. The peer without batches has the columns of every candidate at
once, as the other does those of 65,536; both give the same document.
"""

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jobs import bundle
from jobs.config import Config
from jobs.evidence import computed
from jobs.evidence.held_out import held_out
from jobs.evidence.scored import AT_ONCE
from tests.jobs import small_candidates, small_lake
from tests.jobs.evidence.evidence_documents import ALONE
from tests.jobs.small_lake import DAY, TEST_DAY, World, a_run, publish, publish_features, settings

CASES = {"200k test rows, 20 candidates": (50_000, 5)}
"""Requests of the test day, and train days of as many."""
SMALL = {"2k test rows, 20 candidates": (500, 1)}
TIMES = {"in batches": 1, "all at once": 1}
MIB = 800.0
"""What a day may take."""
ALL = 1 << 62
SIZES = {"USERS": 20_000, "ITEMS": 2_000, "CANDIDATES": 20, "SLATE": 4}


def prepare(folder: Path) -> None:
    """Examples of the days, and what their replay reads."""
    _resized()
    for case, (requests, train_days) in CASES.items():
        config, world, before = _config(folder, case), World(), TEST_DAY - timedelta(days=1)
        test = small_lake.examples(world, TEST_DAY, "test", requests)
        days = [_learned(test, day) for day in range(train_days, 0, -1)]
        publish(config, "examples", pa.concat_tables([*days, test]), day=str(DAY), mode="full")
        publish(config, "requests", small_lake.requests_table(world, TEST_DAY, requests), day=str(TEST_DAY))
        publish_features(config, world, before)
        publish(config, "items", small_lake.items(world), day=str(before))
        rankers = {"popularity": small_candidates.popularity(), "logistic": small_candidates.linear(1.0)}
        small_candidates.publish_candidates(config, rankers, "logistic")


def backtest(folder: Path, case: str, at_once: int) -> int:
    """The stage up to its document; returns the decisions it replayed."""
    _resized()
    run = a_run("backtest", _config(folder, case))
    rows = sorted(run.read("candidates").to_pylist(), key=lambda row: bool(row["chosen"]))
    champion, challenger = (bundle.load(Path(row["bundle"]), row["bundle_sha256"]) for row in rows)
    origin = computed.Origin(run_id="run", trained=str(DAY), deployed=False, warnings=[], dataset=None, risk=ALONE)
    return computed.document(run, held_out(run), (champion, challenger), origin, at_once).data.decisions


PEERS = {"in batches": partial(backtest, at_once=AT_ONCE), "all at once": partial(backtest, at_once=ALL)}


def goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A day within its memory."""
    [found] = [row["peak_mib"] for row in rows if row["peer"] == "in batches"]
    return [{"goal": f"200k test rows within {MIB:g} MiB", "found": f"{found} MiB", "met": found <= MIB}]


def _config(folder: Path, case: str) -> Config:
    root = folder / case.replace(" ", "-").replace(",", "")
    root.mkdir(exist_ok=True)
    return settings(root, root, gate__bootstrap_replicates="50")


def _resized() -> None:
    """The small lake, large."""
    for name, size in SIZES.items():
        setattr(small_lake, name, size)
    small_candidates.ITEMS = SIZES["ITEMS"]


def _learned(test: pa.Table, days: int) -> pa.Table:
    """The test rows as if they had been shown so many days before, to learn from."""
    at = test["event_time"].cast(pa.int64()).to_numpy() - days * 86_400_000_000
    changed = {"split": pa.array(["train"] * len(test)), "event_time": pa.array(at)}
    for name, values in changed.items():
        field = test.schema.field(name)
        test = test.set_column(test.schema.get_field_index(name), field, values.cast(field.type))
    return test.take(pa.array(np.arange(len(test))))
