"""The daily chain by `python -m jobs` with the lake on S3, moto's over HTTP: the same rows as on a disk."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from werkzeug.serving import WSGIRequestHandler

from jobs.__main__ import main
from jobs.lake.store import Lake
from jobs.lake.tables import RAW
from jobs.places import Place, place
from tests import moto_server
from tests.exactly_once.small_world import FIRST, TINY

DAY = FIRST
SMALL = {"world.requests_per_day": "20", "world.users": "50", "world.items": "50", "world.live_share": "0"}
STAGES = ("ingest", "validate", "attribute", "featurize")
TABLES = ("impressions", "clicks", "labels", "user_features", "item_features", "quarantine")
MOST_REQUESTS = 120
"""Of a validation of a day of a few rows, whatever its tables hold: fourteen commits of two puts each, eight tables
opened with up to ten entries since a checkpoint, and seven raw tables read and judged. Of two it is 76.
"""


@dataclass
class Chain:
    """A day of a tiny world, once in a folder and once on S3; and every request to S3 that a stage made."""

    here: Place
    there: Place
    patch: pytest.MonkeyPatch
    asked: list[str]

    def at(self, root: Place, folder: Path) -> None:
        """All that follows has its lake there."""
        settings = {
            **TINY,
            **SMALL,
            "lake.root": str(root / "lake"),
            "lake.raw": str(root / "raw"),
            "lake.runs": str(folder / "runs"),
            "features.online": "false",
        }
        for name, value in settings.items():
            self.patch.setenv(f"TIDEGATE__{name.replace('.', '__').upper()}", value)

    def run(self, stage: str) -> list[str]:
        """The requests of a stage that must end well."""
        self.asked.clear()
        assert main([stage, "--day", DAY.isoformat()]) == 0
        return list(self.asked)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    folder = tmp_path_factory.mktemp("chain")
    with moto_server.serving() as moto, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIDEGATE_ENV", "test")
        for name, value in moto.bucket("chain-bucket").items():
            patch.setenv(name, value)
        asked: list[str] = []
        patch.setattr(WSGIRequestHandler, "log_request", lambda self, *_: asked.append(f"{self.command} {self.path}"))
        found = Chain(folder, place("s3://chain-bucket/team"), patch, asked)
        for root in (found.here, found.there):
            found.at(root, folder)
            for stage in STAGES:
                found.run(stage)
        yield found


@pytest.mark.parametrize("table", TABLES)
def test_every_stage_publishes_the_rows_it_publishes_on_a_disk(chain: Chain, table: str) -> None:
    here, there = (Lake(root / "lake").read(table) for root in (chain.here, chain.there))
    assert len(here) or table == "quarantine"
    assert there.equals(here)


def test_results_lie_beside_the_lake(chain: Chain) -> None:
    """What the suites found of a day, as on a disk but for the run's id."""
    here, there = (root / "validations" / "clicks" / f"{DAY}.json" for root in (chain.here, chain.there))
    assert json.loads(here.read_text())["results"] == json.loads(there.read_text())["results"]


def test_each_table_is_opened_once_a_run(chain: Chain) -> None:
    """By a validation that publishes fourteen partitions again; commits move an open table on."""
    asked = chain.run("validate")
    firsts = Counter(line for line in asked if line.endswith("_last_checkpoint"))
    log = f"GET {str(chain.there).removeprefix('s3:/')}/lake/{{}}/_delta_log/"
    assert [firsts[log.format(name) + "_last_checkpoint"] for name in (*RAW, "profiles")] == [1] * (len(RAW) + 1), (
        firsts
    )
    entries = [line for line in asked if line.startswith("GET") and line.endswith(".json") and "_delta_log" in line]
    assert len(entries) == len(set(entries)), "no entry is asked for twice, and none that this run has put"
    assert len(asked) <= MOST_REQUESTS, (len(asked), asked)
