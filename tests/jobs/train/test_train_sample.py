"""More rows than memory holds: whole requests are drawn, all by one chance, and whoever reads the model is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs import bundle, memory
from jobs.evidence.data_warnings import of_sample
from jobs.lake.store import Lake
from jobs.train import job
from jobs.train.sample import ALL, BYTES_A_ROW, Sample, sample
from tests.jobs.small_lake import DAY, World, a_run, publish_all, settings

REQUESTS, PLACES = 20_000, 4


def examples() -> pa.Table:
    """Requests of four places, a tenth of which are clicked, the first place most."""
    rng = np.random.default_rng(3)
    place = np.tile(np.arange(PLACES), REQUESTS)
    clicked = rng.random(len(place)) < np.array([0.2, 0.1, 0.06, 0.04])[place]
    return pa.table({"request_id": np.repeat([f"r{n}" for n in range(REQUESTS)], PLACES), "clicked": clicked})


def test_requests_are_drawn_whole_and_rates_stay() -> None:
    """The smaller sample is a part of the larger; the click rate differs by no more than requests do by chance."""
    rows = examples()
    few, many = (Sample(len(rows), share).of(rows, seed=7) for share in (0.2, 0.6))
    requests = [set(part["request_id"].to_pylist()) for part in (few, many)]
    assert requests[0] < requests[1]
    for part, mine, share in zip((few, many), requests, (0.2, 0.6), strict=True):
        assert len(part) == PLACES * len(mine), "no request is there by half"
        assert len(mine) / REQUESTS == pytest.approx(share, abs=4 * (share * (1 - share) / REQUESTS) ** 0.5)
        rate, noise = np.mean(rows["clicked"]), np.std(rows["clicked"]) / len(part) ** 0.5
        assert np.mean(part["clicked"]) == pytest.approx(rate, abs=4 * noise)
    assert Sample(len(rows), 1.0).of(rows, seed=7) is rows
    assert Sample(len(rows), 0.6).of(rows, seed=8)["request_id"] != many["request_id"]


def test_memory_says_how_many_by_default(
    tmp_path: Path, tmp_path_factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power of two, so that a little less memory on a rerun draws the very same rows."""
    config = settings(tmp_path, tmp_path_factory.getbasetemp())
    publish_all(config, World(), n=60)
    found = []
    for rows in (300, 290, 1 << 20):
        monkeypatch.setattr(memory, "at_hand", lambda rows=rows: 2 * BYTES_A_ROW * rows)
        found.append(sample(a_run("train", config), None))
    assert found[0] == found[1] == Sample(found[0].rows, 256 / found[0].rows)
    assert found[2] == ALL == sample(a_run("train", config), 1 << 20)


def test_what_is_learned_from_a_sample_says_so(tmp_path: Path, tmp_path_factory: Any) -> None:
    """In the report, the bundle and the warnings on its evidence; below the limit nothing does: the same bytes."""
    shas, session = [], tmp_path_factory.getbasetemp()
    for name, most in (
        ("default", {}),
        ("roomy", {"training__most_rows": "100000"}),
        ("tight", {"training__most_rows": "400"}),
    ):
        config = settings(tmp_path / name, session, ranker__kinds='["logistic"]', ranker__logistic__steps="5", **most)
        publish_all(config, World(), n=100)
        report = job.run(a_run("train", config))
        [row] = [r for r in Lake(config.lake.root).read("candidates").to_pylist() if r["ranker"] == "logistic"]
        shas.append(row["bundle_sha256"])
    assert shas[0] == shas[1] != shas[2]
    lineage = bundle.load(Path(row["bundle"]), row["bundle_sha256"]).manifest["lineage"]
    drawn = report["sample"]
    assert lineage["sample"] == drawn == {"rows": drawn["rows"], "share": 400 / drawn["rows"]}
    assert report["train_rows"] == lineage["train_rows"] == pytest.approx(400, rel=0.25)
    [warned] = of_sample(lineage)
    assert (warned.days[0].rows, warned.days[0].found) == (report["train_rows"], drawn["share"])
    assert of_sample({"day": str(DAY)}) == []
