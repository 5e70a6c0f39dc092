"""Whatever is wrong with a raw day is named, set aside or refused: never silence, never only a stack trace."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.config import ROOT, Config, LakeSettings
from jobs.errors import NotReady, Refused
from jobs.flow import STAGES
from jobs.lake import raw
from jobs.lake.run import Run
from jobs.lake.store import Lake
from jobs.lake.tables import RAW
from jobs.validate import job
from tests.jobs.validate.broken_files import FILES
from tests.jobs.validate.broken_types import TYPES
from tests.jobs.validate.broken_values import VALUES
from tests.jobs.validate.raw_days import FIRST, tables_of, write

BEFORE = FIRST - timedelta(days=1)
CORRUPTIONS = {**TYPES, **VALUES, **FILES}
FAILURES = {"refused": Refused, "not ready": NotReady}


@pytest.fixture(scope="module")
def flawless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with the day before published, and the day itself flawless in the raw lake."""
    folder = tmp_path_factory.mktemp("flawless")
    for day in (BEFORE, FIRST):
        write(folder / "raw", day, tables_of(day))
    job.run(Run(STAGES["validate"], settings(folder), BEFORE))
    return folder


@pytest.fixture
def world(flawless: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(flawless, tmp_path / "world"))


@pytest.fixture(scope="module")
def expected(flawless: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    """What the flawless day is published as."""
    folder = Path(shutil.copytree(flawless, tmp_path_factory.mktemp("expected") / "world"))
    job.run(Run(STAGES["validate"], settings(folder), FIRST))
    return {table: Lake(folder / "lake").read(table, [FIRST]) for table in RAW}


def settings(folder: Path) -> Config:
    """The lake and the raw lake in one folder."""
    return Config(lake=LakeSettings(root=folder / "lake", raw=folder / "raw"))


def validated(folder: Path) -> tuple[Lake, dict[str, Any]]:
    """The stage on the day; the lake and its counts."""
    counts = job.run(Run(STAGES["validate"], settings(folder), FIRST))
    return Lake(folder / "lake"), counts


def set_aside(lake: Lake, table: str) -> tuple[int, set[str]]:
    """How many rows lie in quarantine, each counted once however many rules it broke; and those rules."""
    rows = [row for row in lake.read("quarantine").to_pylist() if row["table"] == table]
    times = Counter((row["payload"], row["expectation"]) for row in rows)
    once: dict[str, int] = {}
    for (payload, _), count in times.items():
        once[payload] = max(once.get(payload, 0), count)
    return sum(once.values()), {row["expectation"] for row in rows}


def no_row_is_lost_or_doubled(lake: Lake, folder: Path) -> None:
    """Of every table: published and set aside are what the files hold."""
    for table in RAW:
        held = sum(len(part.rows) for part in raw.read(folder / "raw", table, FIRST).parts)
        published = lake.read(table, [FIRST])
        assert len(published) + set_aside(lake, table)[0] == held, table
        ids = published.column(RAW[table].key[0]).to_pylist()
        assert len(ids) == len(set(ids)), table


def of_kind(*kinds: str) -> list[str]:
    """The names of the corruptions with these outcomes."""
    return [name for name, corruption in CORRUPTIONS.items() if corruption.outcome.kind in kinds]


def together(kind: str) -> list[tuple[str, ...]]:
    """Corruptions with this outcome, the n-th of every table in one world: each is that table's own matter."""
    tables: dict[str, list[str]] = {}
    for name in of_kind(kind):
        tables.setdefault(CORRUPTIONS[name].table, []).append(name)
    return [tuple(filter(None, names)) for names in zip_longest(*tables.values())]


def test_there_are_at_least_sixty_kinds() -> None:
    """And most of them are about something else than one value."""
    assert len(CORRUPTIONS) == len(TYPES) + len(VALUES) + len(FILES) >= 60


@pytest.mark.parametrize("names", together("set aside"), ids=" and ".join)
def test_bad_rows_are_set_aside_by_name(world: Path, names: tuple[str, ...]) -> None:
    """With the rule they broke; the other rows of the day are published, and those of other tables untouched."""
    broken = [CORRUPTIONS[name] for name in names]
    for corruption in broken:
        corruption.apply(world / "raw")
    lake, counts = validated(world)
    for corruption in broken:
        rows, rules = set_aside(lake, corruption.table)
        assert corruption.outcome.says in rules
        assert rows == corruption.outcome.rows, corruption.table
        assert f"{corruption.table}.{corruption.outcome.says}" in counts["failed"]
    whole = set(RAW) - {corruption.table for corruption in broken}
    assert all(set_aside(lake, table)[0] == 0 for table in whole)
    no_row_is_lost_or_doubled(lake, world)


@pytest.mark.parametrize("names", together("warned"), ids=" and ".join)
def test_a_warning_is_on_record_and_nothing_is_held_back(world: Path, names: tuple[str, ...]) -> None:
    """In the counts of the run and in the commit of a table, which the evidence of every model trained on it quotes."""
    for name in names:
        CORRUPTIONS[name].apply(world / "raw")
    lake, counts = validated(world)
    failed = {entry.split(".", 1)[1] for entry in counts["failed"]}
    notes = [lake.lineage(table, {"day": FIRST.isoformat()}) for table in RAW]
    on_record = [json.loads(json.loads(n["notes"])["failed"]) for n in notes if n]
    for says in (CORRUPTIONS[name].outcome.says for name in names):
        assert says in failed
        assert any(says in told for told in on_record), says
    assert counts["set_aside"] == 0
    no_row_is_lost_or_doubled(lake, world)


@pytest.mark.parametrize("name", of_kind("refused", "not ready"))
def test_a_day_that_cannot_be_used_is_refused_in_one_sentence(world: Path, name: str) -> None:
    """It says what was needed and what was found; nothing of the day is published, the day before stays."""
    corruption = CORRUPTIONS[name]
    corruption.apply(world / "raw")
    with pytest.raises(FAILURES[corruption.outcome.kind]) as caught:
        validated(world)
    sentence = str(caught.value)
    assert re.search(corruption.outcome.says, sentence), sentence
    assert " needs " in sentence
    assert re.search("found:? ", sentence)
    assert "\n" not in sentence
    assert len(sentence) < 1_000
    lake = Lake(world / "lake")
    assert {table: lake.days(table) for table in RAW} == {table: [BEFORE] for table in RAW}


@pytest.mark.parametrize("names", together("harmless"), ids=" and ".join)
def test_what_says_the_same_is_published_the_same(
    world: Path, expected: dict[str, pa.Table], names: tuple[str, ...]
) -> None:
    """Another encoding, unit, zone, codec or order is another way to say it, not another thing said."""
    for name in names:
        CORRUPTIONS[name].apply(world / "raw")
    lake, counts = validated(world)
    assert counts["failed"] == {}
    for table, rows in expected.items():
        assert lake.read(table, [FIRST]).equals(rows), table


COMMANDS = {
    "clicks: truncated in the middle": 65,
    "impressions: no folder of the day": 75,
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_exits_by_kind_and_prints_no_traceback(world: Path, name: str) -> None:
    """What Airflow sees; the last line is the sentence."""
    CORRUPTIONS[name].apply(world / "raw")
    paths = {"TIDEGATE__LAKE__ROOT": str(world / "lake"), "TIDEGATE__LAKE__RAW": str(world / "raw")}
    command = [sys.executable, "-m", "jobs", "validate", "--day", FIRST.isoformat()]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **paths}, capture_output=True, text=True, check=False)
    assert done.returncode == COMMANDS[name], done.stderr
    assert "Traceback" not in done.stderr
    assert re.match(r"(Refused|NotReady): raw .* needs .*found ", done.stderr.splitlines()[-1])
