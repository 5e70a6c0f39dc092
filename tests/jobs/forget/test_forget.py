"""Somebody who asks to be forgotten: nowhere is their id any more, nobody else has lost a row, and no day is redone."""

import importlib
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jobs import config
from jobs.__main__ import main
from jobs.config import Config
from jobs.errors import NotReady, UsageError
from jobs.flow import STAGES
from jobs.forget import raw_days, rewritten, tables
from jobs.forget.job import FOLDER, forget
from jobs.lake import raw, raw_quarantine, raw_writer
from jobs.lake.collected import Collected, by_hour
from jobs.lake.run import Run
from jobs.lake.store import Lake, Lineage
from jobs.lake.tables import LAKE, RAW
from jobs.serving import captured
from jobs.serving.answer import Answer, Placement
from jobs.serving.capture import CAPTURE, Capture
from tests import moto_server
from tests.exactly_once.small_world import FIRST, OTHER_CLICKS, SmallWorld
from tests.jobs.dying import dies, forgets

LAST = FIRST + timedelta(days=2)
SMALLER = {"world.users": "50", "world.requests_per_day": "60", "dataset.train_days": "1", "spark.from_rows": "1000000"}
KEPT = ("lake", "raw", "endpoint")


def run(settings: Config, stage: str, day: date, since: date | None = None) -> dict[str, Any]:
    found: dict[str, Any] = importlib.import_module(STAGES[stage].module).run(Run(STAGES[stage], settings, day, since))
    return found


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    """Three days of a small world, the second of them published twice: its first rows are an older version's."""
    world = SmallWorld(tmp_path_factory.mktemp("laid"), more=SMALLER)
    settings = config.load(world.env())
    for stage in ("ingest", "validate", "attribute", "featurize"):
        run(settings, stage, LAST, FIRST)
    world.more = SMALLER | OTHER_CLICKS
    again = config.load(world.env())
    for stage in ("ingest", "validate", "attribute"):
        run(again, stage, FIRST + timedelta(days=1))
    return world


@pytest.fixture
def world(laid: SmallWorld, tmp_path: Path) -> SmallWorld:
    """A copy, and answers that were captured: two of theirs, one of somebody else's, one that names them as an item."""
    for name in ("lake", "raw"):
        shutil.copytree(laid.home / name, tmp_path / name)
    capture = Capture(tmp_path / "endpoint" / CAPTURE)
    user = somebody(laid)
    for number, asked in enumerate((user, "u-else", user)):
        capture.write(LAST, "tidegate", {"request_id": f"r{number}", "user_id": asked}, answer(f"r{number}"), 3.0)
    capture.close()
    return SmallWorld(tmp_path, more=laid.more)


def answer(request: str) -> Answer:
    return Answer(request, [Placement("i1", 1, 0.1, 0.1, 0.1, 0.5)], "b", "0" * 64, "v", False, None)


def somebody(world: SmallWorld) -> str:
    """Who clicked most."""
    clicked = world.lake.read("clicks")["user_id"].value_counts().to_pylist()
    return str(max(clicked, key=lambda found: (found["counts"], found["values"]))["values"])


def holding(home: Path, user: str) -> list[str]:
    """Every file below that has the id: `grep -r`, and what grep does not see, the values of Parquet files."""
    found = []
    for path in sorted(path for path in home.rglob("*") if path.is_file()):
        rows = pq.ParquetFile(path).read().to_pylist() if path.suffix == ".parquet" else []
        if user.encode() in path.read_bytes() or user in json.dumps(rows, default=str):
            found.append(path.relative_to(home).as_posix())
    return found


def others(lake: Lake, user: str, version: dict[str, int]) -> dict[str, list[str]]:
    """By table, every row that is not the user's, as text."""
    found = {}
    for table in LAKE:
        rows = lake.read(table, version=version.get(table)) if lake.version(table) is not None else None
        kept = [] if rows is None else rewritten.kept(rows, user).to_pylist()
        found[table] = sorted(json.dumps(row, default=str, sort_keys=True) for row in kept)
    return found


def versions(lake: Lake) -> dict[str, int]:
    return {table: version for table in LAKE if (version := lake.version(table)) is not None}


def made_from(settings: Config) -> list[tuple[str, date]]:
    """The published days of raw tables whose files are not those they were published from."""
    lake, wrong = Lake(settings.lake.root), []
    for table in RAW:
        for day, said in lake.lineages(table, lake.days(table)).items():
            if json.loads(said["notes"])["raw_files"] != raw.fingerprint(settings.lake.raw, table, day):
                wrong.append((table, day))
    return wrong


def test_nothing_of_them_is_left_and_nobody_else_has_lost_a_row(world: SmallWorld) -> None:
    """In no table, version, raw day or captured line; what was counted is as it was; the report has every row."""
    settings, user, lake = config.load(world.env()), somebody(world), world.lake
    before, rows = versions(lake), others(lake, user, {})
    mine = {name: len(lake.read(name)) - len(rows[name]) for name in LAKE}
    older = {"labels": before["labels"] - 2, "impressions": before["impressions"] - 1}
    as_of = others(lake, user, older)
    assert {path.split("/")[0] for path in holding(world.home, user)} == set(KEPT)
    told = forget(settings, user)
    assert holding(world.home, user) == []
    lake = world.lake
    assert others(lake, user, {}) == rows
    assert {name: told["tables"].get(name, {"rows": 0})["rows"] for name in LAKE} == mine
    assert all(mine[name] for name in ("impressions", "clicks", "requests", "labels", "user_features", "users"))
    assert told["tables"]["labels"]["older_files"] > 0
    # Versions of before can be read as of then, by others too.
    assert others(lake, user, older) == as_of
    seen = polars.scan_delta(str(world.home / "lake" / "labels"), version=older["labels"]).collect()
    assert seen.height == len(as_of["labels"])
    # What was counted is not touched.
    assert {name: lake.version(name) for name in ("item_features", "encodings", "profiles")} == {
        name: before[name] for name in ("item_features", "encodings", "profiles")
    }
    assert told["captured_answers"] == 2
    assert json.loads(Path(told["report"]).read_text())["tables"] == told["tables"]
    assert Path(told["report"]).parent == world.home / FOLDER
    assert any("bundles" in sentence for sentence in told["not_removed"])


def test_no_later_stage_takes_a_day_for_one_that_changed(world: SmallWorld) -> None:
    """Its raw files are others now, and its tables say that they were made from these."""
    settings, user = config.load(world.env()), somebody(world)
    assert made_from(settings) == []
    forget(settings, user)
    assert made_from(settings) == []
    was = versions(world.lake)
    assert run(settings, "validate", LAST)["revisited"] == []
    assert run(settings, "attribute", LAST)["republished"] == []
    assert versions(world.lake)["labels"] == was["labels"] + 1
    assert world.lake.lineage("labels", {"day": str(FIRST)})["stage"] == "attribute"  # type: ignore[index]
    assert holding(world.home, user) == []


def test_late_events_that_nobody_looked_at_yet_are_still_looked_at(world: SmallWorld) -> None:
    """The day has to be published again, and says so after as before."""
    settings, user, day = config.load(world.env()), somebody(world), LAST - timedelta(days=1)
    late = world.lake.read("clicks", [day]).drop_columns(["day"]).slice(0, 2)
    ids = pa.array(["late-1", "late-2"])
    late = late.set_column(0, late.schema.field(0), ids).set_column(4, "user_id", pa.array([user, "u000001"]))
    raw_writer.write_late(settings.lake.raw, day, LAST, {"clicks": late.select(list(RAW["clicks"].columns))})
    assert made_from(settings) == [("clicks", day)]
    forget(settings, user)
    assert made_from(settings) == [("clicks", day)]
    assert run(settings, "validate", LAST)["revisited"] == [str(day)]
    assert holding(world.home, user) == []
    assert "late-2" in world.lake.read("clicks", [day])["click_id"].to_pylist()


def test_twice_or_of_nobody_it_changes_nothing(world: SmallWorld) -> None:
    """Versions, files and lines are as they were."""
    settings = config.load(world.env())
    forget(settings, somebody(world))
    before = written(world.home)
    for user in (somebody(SmallWorld(world.home)) + "0", "nobody"):
        told = forget(settings, user)
        assert (told["raw"], told["tables"], told["captured_answers"], told["online_keys"]) == ({}, {}, 0, 0)
    assert written(world.home) == before


def written(home: Path) -> dict[Path, int]:
    """When each file was."""
    return {path: path.stat().st_mtime_ns for name in KEPT for path in (home / name).rglob("[!.]*.*")}


@pytest.mark.parametrize("user", ["", " ", "\t"])
def test_nobody_cannot_be_forgotten(user: str) -> None:
    """An id that is empty is a mistake, and half of the rows of some logs have it."""
    with pytest.raises(UsageError, match="forget needs --user ID"):
        main(["forget", "--user", user])


@pytest.mark.parametrize("moment", [2, 40, 190])
def test_killed_anywhere_readers_see_whole_rows_and_running_it_again_ends_it(world: SmallWorld, moment: int) -> None:
    """`kill -9` amid raw files, before and after commits, amid older versions."""
    env, user = world.env(), somebody(world)
    settings, rows = config.load(env), others(world.lake, user, {})
    assert dies(world.home, moment, forgets, env, user)
    assert others(world.lake, user, {}) == rows
    forget(settings, user)
    left = [path for path in holding(world.home, user) if not path.startswith("lake/") or "/parts/" not in path]
    assert left == []
    assert others(world.lake, user, {}) == rows
    assert made_from(settings) == []


def test_of_a_stage_and_a_forgetting_the_stage_is_told(world: SmallWorld) -> None:
    """It read before and would publish after: the rows would be there again. It runs again, without them."""
    user, stage = somebody(world), world.lake
    base, stale = stage.version("labels"), stage.read("labels", [LAST]).drop_columns(["day"])
    forget(config.load(world.env()), user)
    by = Lineage("attribute", "began-before", "code", "cfg")
    with pytest.raises(NotReady, match="another writer committed first"):
        stage.publish("labels", {"day": str(LAST)}, stale, by, base_version=base)


def test_set_aside_rows_go_by_what_they_say(tmp_path: Path) -> None:
    """A quarantined row is a JSON text: of the user, of another whose item is named alike, and of nobody."""
    lake = Lake(tmp_path)
    texts = [json.dumps({"user_id": "u1", "item_id": "i"}), json.dumps({"user_id": "u2", "item_id": "u1"}), "{}", "u"]
    n = len(texts)
    rows = pa.table({"row_key": list("abcd"), "expectation": ["e"] * n, "reason": [""] * n, "payload": texts})
    lake.publish("quarantine", {"day": str(FIRST), "table": "clicks"}, rows, Lineage("validate", "r", "c", "s"))
    tables.forget(lake, "quarantine", "u1", done := tables.Forgotten())
    assert lake.read("quarantine")["row_key"].to_pylist() == ["b", "c", "d"]
    assert (done.partitions, done.rows) == (1, 1)


def test_collected_days_and_records_set_aside_keep_their_logs_word(tmp_path: Path) -> None:
    """Files that a log names, with their bytes counted there, are as large as before; records go by what they say."""
    table = Collected(tmp_path, "clicks", pa.schema([("user_id", pa.string()), ("click_id", pa.string())]))
    rows = pa.table({"user_id": ["u1"] * 50 + ["u2"] * 50, "click_id": [f"c{n}" for n in range(100)]})
    times = pa.array([datetime(2026, 1, 1, 5, tzinfo=UTC)] * 100, pa.timestamp("us", "UTC"))
    assert table.committed(seen := table.made(), table.written(rows, by_hour(times)), {}, {}), seen
    words = [b'{"user_id": "u1"}', b'{"item_id": "u11"}', b"torn u1", b"torn"]
    aside = {"table": "clicks", "topic": "t", "partition": 0, "came_at": times[0].as_py(), "reason": "r", "found": ""}
    given = [{**aside, "offset": n, "value": value} for n, value in enumerate(words)]
    raw_quarantine.Quarantine(tmp_path).put(pa.Table.from_pylist(given, raw_quarantine.SCHEMA))
    lake = Lake(tmp_path / "lake")
    for name, n in (("clicks", 50), ("quarantine", 2)):
        assert raw_days.forget(lake, tmp_path, name, "u1", tables.Forgotten()).rows == n
    assert polars.scan_delta(str(tmp_path / "clicks")).select("user_id").unique().collect().rows() == [("u2",)]
    assert polars.scan_delta(str(tmp_path / "quarantine")).collect()["value"].to_list() == [words[1], words[3]]


def test_every_column_that_names_people_is_looked_at() -> None:
    """A table that is added with another name for them would keep them."""
    named = {(name, column) for name, table in LAKE.items() for column in table.columns if column.endswith("user_id")}
    assert {column for _, column in named} == {rewritten.USER}
    assert {name for name, _ in named} <= set(tables.HOLDERS)


def test_a_server_that_writes_goes_on_and_its_readers_see_no_torn_line(tmp_path: Path) -> None:
    """Blanks are no answer and no loss."""
    from jobs.serving import forgotten

    capture = Capture(tmp_path / CAPTURE)
    for number, user in enumerate(("u1", "u2")):
        capture.write(LAST, "e", {"request_id": f"r{number}", "user_id": user}, answer(f"r{number}"), 1.0)
    assert forgotten.forget(tmp_path, "u1") == 1
    capture.write(LAST, "e", {"request_id": "r2", "user_id": "u3"}, answer("r2"), 1.0)
    found = captured.placements(captured.lines(tmp_path / CAPTURE / f"date={LAST}"))
    assert (found.rows["request_id"].to_pylist(), found.torn) == (["r1", "r2"], 0)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with moto_server.serving() as moto:
        for name, value in moto.bucket("forgetful").items():
            monkeypatch.setenv(name, value)
        yield


@pytest.mark.usefixtures("bucket")
def test_on_s3_no_object_has_them(world: SmallWorld) -> None:
    """Days that a manifest names and tables; what the manifest no longer names is gone."""
    from jobs.places import S3Path

    user, root = somebody(world), S3Path("forgetful", "")
    local, day = world.lake, LAST
    rows = {name: local.read(name, [day]).drop_columns(["day"]) for name in ("impressions", "clicks")}
    raws = {name: table.select(list(RAW[name].columns)) for name, table in rows.items()}
    raw_writer.write_day(root / "raw", day, raws)
    lake = Lake(root / "lake")
    for name, table in rows.items():
        notes = {"raw_files": raw.fingerprint(root / "raw", name, day)}
        lake.publish(name, {"day": str(day)}, table, Lineage("validate", "r", "c", "s", notes=notes))
    env = world.env() | config.environment({"lake.root": str(root / "lake"), "lake.raw": str(root / "raw")})
    told = forget(config.load(env), user)
    assert {name: done["rows"] for name, done in told["tables"].items()} == {
        name: pc.sum(pc.equal(table["user_id"], user)).as_py() for name, table in rows.items()
    }
    held = [path for path in root.rglob("*.parquet") if rewritten.found(path, user)]
    assert held == []
    assert Lake(root / "lake").read("clicks", version=0).num_rows == len(rewritten.kept(rows["clicks"], user))
    assert (
        raw.fingerprint(root / "raw", "clicks", day)
        == json.loads(
            Lake(root / "lake").lineage("clicks", {"day": str(day)})["notes"]  # type: ignore[index]
        )["raw_files"]
    )
    assert len(list((root / "raw").rglob("*.parquet"))) == sum(len(raw.files(root / "raw", n, day)) for n in RAW)
