"""`reevaluate` of a challenger that stood for two days: the evidence of each is computed again on its own rows."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from jobs.config import Config
from jobs.evidence.held_out import datasets, held_out
from jobs.lake.store import Lake
from jobs.lake.tables import LAKE
from jobs.promote import job as promote
from jobs.reevaluate import job
from tests.jobs.backtest.standing_lake import CANDIDATE, after, dataset, judged, row_of, trained
from tests.jobs.kept_lake import Kept
from tests.jobs.reevaluate.closing_lake import CLOSING, labels, publish_labels
from tests.jobs.small_candidates import live, publish_ledger
from tests.jobs.small_lake import DAY, TEST_DAY, a_run, publish

NEXT, LATER = TEST_DAY + timedelta(days=1), CLOSING + timedelta(days=1)


GATE = {
    "gate__days": "2",
    "gate__bootstrap_replicates": "50",
    "gate__min_lift": "10",
    "gate__min_effective_n": "1",
    "gate__max_weight_share": "1",
}


def judged_twice(config: Config) -> None:
    trained(config)
    dataset(config, after(1))
    for n in range(2):
        judged(config, after(n))
        promote.run(a_run("promote", config, after(n)))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return Kept.of(tmp_path_factory.mktemp("pooled"), tmp_path_factory.getbasetemp(), judged_twice, **GATE)


@pytest.fixture
def config(kept: Kept, tmp_path: Path) -> Config:
    """Evidence of two days on one challenger, each with its verdict: hold, for no gain is enough."""
    return kept.again(tmp_path)


def pooled(config: Config) -> pa.Table:
    run = a_run("backtest", config, after(1))
    return held_out(run, datasets(run, DAY))


def closed(config: Config, late: set[int]) -> None:
    """Labels of both days, of which some of the pooled rows turn out to be clicked."""
    rows = pooled(config)
    found = labels(rows, late)
    first = pc.equal(pc.cast(rows["event_time"], pa.date32()), pa.scalar(TEST_DAY)).combine_chunks()
    publish_labels(config, found.filter(first))
    publish(config, "labels", found.filter(pc.invert(first)), day=str(NEXT))
    publish(config, "labels", LAKE["labels"].schema.empty_table(), day=str(LATER))


def reevaluated(config: Config, day: Any) -> dict[str, Any]:
    job.run(a_run("reevaluate", config, day))
    [row] = Lake(config.lake.root).read("reevaluations", [day]).to_pylist()
    return dict(row)


def test_each_evidence_is_computed_again_on_the_rows_it_was_judged_on(config: Config) -> None:
    """The later one on both days, though its own dataset has one; nothing changed, so nothing moves."""
    closed(config, set())
    for n, day in enumerate((CLOSING, LATER)):
        row = reevaluated(config, day)
        assert row["evidence_sha256"] == row_of(config, after(n))["document_sha256"]
        assert (row["evidence_day"], row["candidate_id"], row["refused"]) == (str(after(n)), CANDIDATE, None)
        known = [figure for figure in row["figures"] if figure["first"] is not None]
        assert {"value.difference", "auc.difference"} <= {figure["figure"] for figure in known}
        assert all(figure["difference"] == 0.0 for figure in known)
        assert (row["first_verdict"], row["matured_verdict"]) == ("hold", "hold")
        first, again = (json.loads(text) for text in (row_of(config, after(n))["document"], row["document"]))
        assert again["judged_on"] == first["judged_on"]
        assert again["challenger"] == first["challenger"]


def test_late_clicks_of_either_day_count_and_every_pack_keeps_its_own(config: Config) -> None:
    rows = pooled(config)
    unclicked = np.flatnonzero(~np.array(rows["clicked"].to_pylist(), dtype=bool))
    second = np.array(rows["day"].to_pylist()) == str(after(1))
    late = unclicked[::5].tolist()
    closed(config, set(late))
    counts = []
    for n, day in enumerate((CLOSING, LATER)):
        row = reevaluated(config, day)
        [clicked] = [c["rows"] for c in row["label_changes"] if (c["outcome"], c["after"]) == ("clicked", True)]
        counts.append(clicked)
        name = f"{CANDIDATE}.evidence" if n == 0 else f"{CANDIDATE}.{after(1)}.evidence"
        for file in ("matured.json", "verdict.json"):
            told = json.loads((config.bundles / name / file).read_text())
            assert told["evidence_sha256"] == row_of(config, after(n))["document_sha256"]
    assert counts == [int((~second[late]).sum()), len(late)]
    assert 0 < counts[0] < counts[1]


def test_the_evidence_it_went_live_on_is_the_one_that_may_alarm(config: Config) -> None:
    """What was held the day before says nothing of a release that nobody based on it."""
    own = row_of(config, after(1)) | {"day": str(after(1)), "bundle": str(config.bundles / CANDIDATE)}
    publish_ledger(config, live(own))
    closed(config, set())
    told = [(row["deployed"], row["alarm"]) for row in (reevaluated(config, day) for day in (CLOSING, LATER))]
    assert told == [(False, False), (True, True)]
