"""The simulated source's raw lake: the same bytes in any order, late and duplicate events where they belong."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jobs import config
from jobs.errors import UsageError
from jobs.flow import STAGES
from jobs.ingest.job import run
from jobs.lake import raw_writer
from jobs.lake.run import Run
from jobs.lake.tables import EVENTS, RAW
from jobs.sources import open_source
from jobs.sources.simulated import Simulated
from jobs.sources.world.truth import true_probabilities
from models.settings import WorldSettings

FIRST = date(2026, 1, 1)


def settings(root: Path, **more: str) -> config.Config:
    """A tiny world with its lake below `root`; nothing listens at the endpoint's address."""
    return config.load(
        {
            "TIDEGATE_ENV": "test",
            "TIDEGATE__LAKE__ROOT": str(root / "lake"),
            "TIDEGATE__LAKE__RAW": str(root / "raw"),
            "TIDEGATE__ENDPOINT__URL": "http://127.0.0.1:9",
            **more,
        }
    )


def ingest(conf: config.Config, day: date, since: date | None = None) -> dict:
    """One run of the stage."""
    return run(Run(STAGES["ingest"], conf, day, since))


def content(root: Path) -> dict[str, bytes]:
    """Every file of a raw lake by relative path."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted((root / "raw").rglob("*")) if p.is_file()}


def table(root: Path, name: str, day: date | None = None) -> pa.Table:
    """The rows of a raw table, of one day or of all."""
    days = "date=*" if day is None else f"date={day}"
    return pa.concat_tables([pq.ParquetFile(p).read() for p in sorted((root / "raw" / name).glob(f"{days}/*/*"))])


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Path:
    """All twelve days, ingested as one range, with more lateness than usual so that every kind occurs."""
    root = tmp_path_factory.mktemp("simulated")
    late = {"TIDEGATE__WORLD__LATE_SHARE": "0.05", "TIDEGATE__WORLD__DUPLICATE_SHARE": "0.02"}
    ingest(settings(root, **late), FIRST + timedelta(days=11), FIRST)
    return root


def test_any_order_and_any_number_of_runs_leave_the_same_bytes(tmp_path):
    """A backfill, a retry and a night-by-night schedule must agree to the byte, late files included."""
    days = [FIRST + timedelta(days=n) for n in range(4)]
    ingest(settings(tmp_path / "range"), days[-1], days[0])
    for day in (days[2], days[0], days[3], days[1], days[2]):
        ingest(settings(tmp_path / "mixed"), day)
    whole = content(tmp_path / "range")
    assert any("late-" in name for name in whole)
    assert content(tmp_path / "mixed") == whole


def test_raw_tables_keep_their_contract(lake):
    """Every column of the contract in its type, nothing else but the announced prefixes, times in their partition."""
    for name, spec in RAW.items():
        for path in sorted((lake / "raw" / name).glob("date=*/hour=*/*.parquet")):
            rows = pq.ParquetFile(path).read()
            for column in rows.column_names:
                assert column in spec.columns or column.startswith(spec.extra_prefix or "\0"), column
            for column, kind in spec.columns.items():
                if column in rows.column_names:
                    assert rows.schema.field(column).type == kind.type, column
                    assert kind.nullable or rows.column(column).null_count == 0, column
                else:
                    assert kind.optional, column
            if name in EVENTS and len(rows):
                hours = pc.strftime(rows.column("event_time"), format="date=%Y-%m-%d/hour=%H").unique().to_pylist()
                assert hours == [f"{path.parent.parent.name}/{path.parent.name}"]


def test_all_days_have_all_tables_and_every_hour_its_file(lake):
    """Readers find a day by its folders."""
    for name in RAW:
        assert len(list((lake / "raw" / name).glob("date=*"))) == 12
    assert len(list((lake / "raw" / "impressions" / "date=2026-01-05").glob("hour=*"))) > 18


def test_late_events_lie_in_their_own_day_under_the_day_they_arrived(lake):
    """What was not yet known must be tellable: by file for the one who watches folders, by ingested_at for the rest."""
    seen = {name: set() for name in ("impressions", "clicks", "purchases")}
    for name, ages in seen.items():
        for path in sorted((lake / "raw" / name).glob("date=*/hour=*/*.parquet")):
            rows = pq.ParquetFile(path).read(columns=["event_time", "ingested_at"])
            own = date.fromisoformat(path.parent.parent.name.removeprefix("date="))
            known = pc.cast(rows.column("ingested_at"), pa.date32()).unique().to_pylist()
            late = path.name.startswith("late-")
            arrived = date.fromisoformat(path.stem.removeprefix("late-")) if late else own
            assert known == [arrived]
            assert pc.all(pc.greater_equal(rows.column("ingested_at"), rows.column("event_time"))).as_py()
            ages.add((arrived - own).days)
    assert seen == {name: {0, 1, 2} for name in seen}


def test_duplicates_repeat_an_event_under_its_id(lake):
    """The same id, the same event: a reader that counts ids once loses nothing."""
    for name in ("impressions", "clicks", "purchases"):
        rows = table(lake, name)
        key = RAW[name].key[0]
        facts = [c for c in rows.column_names if c != "ingested_at"]
        assert len(rows) > len(rows.column(key).unique())
        once = rows.select(facts).group_by(facts).aggregate([])
        assert len(once) == len(rows.column(key).unique())


def test_every_click_has_its_impression_and_every_purchase_its_click(lake):
    """The world never invents: what attribution has to find is there, up to seven days back."""
    impressions, clicks, purchases = (table(lake, name) for name in ("impressions", "clicks", "purchases"))
    shown = set(impressions.column("impression_id").to_pylist())
    assert set(clicks.column("impression_id").to_pylist()) <= shown
    clicked = set(clicks.column("impression_id").to_pylist())
    earned = {i.removeprefix("p-") for i in purchases.column("purchase_id").to_pylist()}
    still_coming = {i for i in earned - clicked if i >= "r20260111"}  # a late click may lie beyond the last day
    assert earned - still_coming <= clicked
    assert len(purchases) > 20


def test_impressions_are_placed_from_the_candidates_of_their_request(lake):
    """Propensities in (0, 1], positions 1..k, items among the candidates, users and items in the day's snapshots."""
    day = FIRST + timedelta(days=3)
    shown, asked = table(lake, "impressions", day), table(lake, "requests", day)
    offered = dict(zip(asked.column("request_id").to_pylist(), asked.column("candidates").to_pylist(), strict=True))
    for request, item in zip(*(shown.column(c).to_pylist() for c in ("request_id", "item_id")), strict=True):
        assert item in offered[request]
    propensity = shown.column("propensity").to_numpy()
    assert propensity.min() > 0
    assert propensity.max() <= 1
    assert sorted(shown.column("position").unique().to_pylist()) == [1, 2, 3, 4]
    for name, key in (("items", "item_id"), ("users", "user_id")):
        assert set(shown.column(key).to_pylist()) <= set(table(lake, name, day).column(key).to_pylist())


def test_new_items_and_users_appear_day_by_day(lake):
    """A catalogue that stands still would hide cold start."""
    sizes = [len(table(lake, "items", FIRST + timedelta(days=n))) for n in range(3)]
    assert sizes == [120, 123, 126]
    people = [len(table(lake, "users", FIRST + timedelta(days=n))) for n in (0, 11)]
    assert people[0] < people[1] <= 300


def test_a_day_outside_the_world_is_a_usage_error_that_names_its_span(tmp_path):
    """Nothing is written for it."""
    with pytest.raises(UsageError, match=r"2026-01-01\.\.2026-01-12; found --day 2026-02-01"):
        ingest(settings(tmp_path), date(2026, 2, 1))
    assert not (tmp_path / "raw").exists()
    assert open_source(settings(tmp_path)).span() == (FIRST, date(2026, 1, 12))


def test_the_truth_by_id_is_the_worlds_truth(tmp_path):
    """Backtests ask by id; the answer must be the world's own for those very users, items and places."""
    conf = settings(tmp_path)
    source = Simulated(conf.world)
    day = source.drawn(4)
    log = source.logger.impressions(day, 0).sort_by([("request_id", "ascending"), ("position", "ascending")])
    log = log.group_by(["request_id", "position"], use_threads=False).aggregate(
        [(name, "first") for name in ("user_id", "item_id", "surface")]
    )
    position = log.column("position").to_numpy().astype(np.int64)
    ids = [np.array(log.column(f"{c}_first").to_pylist(), dtype=object) for c in ("user_id", "item_id", "surface")]
    found = true_probabilities(conf, FIRST + timedelta(days=4), *ids, position)
    row = np.array([int(name.rpartition("-")[2]) for name in log.column("request_id").to_pylist()])
    asked, item = day.requests, day.shown.item[row, position - 1]
    world = source.world
    click = world.click_probability(4, asked.user[row], item, asked.surface[row], position)
    np.testing.assert_allclose(found.click, click)
    np.testing.assert_allclose(found.conversion, click * world.purchase_probability(4, asked.user[row], item))
    first = true_probabilities(conf, FIRST + timedelta(days=4), *ids)
    assert ((first.click >= found.click) & (first.conversion >= found.conversion)).all()


def test_a_conversion_within_a_shorter_window_is_less_likely(tmp_path):
    """The truth is of what attribution counts: half of the purchases are made within a day."""
    ids = [np.array([name], dtype=object) for name in ("u000001", "i000001", "home")]
    week, day = (
        true_probabilities(settings(tmp_path, TIDEGATE__ATTRIBUTION__WINDOW_DAYS=days), FIRST, *ids) for days in "71"
    )
    assert week.click == day.click
    assert day.conversion / week.conversion == pytest.approx(0.52)


@pytest.mark.parametrize(
    ("day", "user", "item", "surface"),
    [
        (FIRST, "u999999", "i000001", "home"),
        (FIRST, "u000001", "i999999", "home"),
        (FIRST, "ann", "i000001", "home"),
        (FIRST, None, "i000001", "home"),
        (FIRST, "u000001", "i000001", "kiosk"),
        (FIRST - timedelta(days=1), "u000001", "i000001", "home"),
        (FIRST + timedelta(days=12), "u000001", "i000001", "home"),
    ],
)
def test_what_the_world_does_not_have_has_no_truth(tmp_path, day, user, item, surface):
    """The truth is for the eyes: logs of another world are judged without it, and no command is wrong for that."""
    ids = [
        np.array([name, known], dtype=object)
        for name, known in zip((user, item, surface), ("u000001", "i000001", "home"), strict=True)
    ]
    assert true_probabilities(settings(tmp_path), day, *ids) is None
    known = [column[1:] for column in ids]
    real = settings(tmp_path, TIDEGATE__SOURCE__NAME="open-bandit")
    assert true_probabilities(real, FIRST, *known) is None
    assert true_probabilities(settings(tmp_path), FIRST, *known) is not None


class Torn(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("step", range(1, 16))
def test_killed_anywhere_a_table_day_is_old_or_new(tmp_path, monkeypatch, step):
    """No mixture: a re-run with other rows that dies at any step leaves each table's day whole; the next run heals."""
    root = tmp_path / "raw"
    none = {"feedback": RAW["feedback"].schema.empty_table()}
    before = none | Simulated(WorldSettings(**_TINY)).day(FIRST)
    after = none | Simulated(WorldSettings(**_TINY | {"seed": 5})).day(FIRST)
    raw_writer.write_day(root, FIRST, before)
    raw_writer.write_late(root, FIRST, FIRST + timedelta(days=1), {"clicks": before["clicks"].slice(0, 2)})
    calls = 0
    swap, write = raw_writer.swap, raw_writer._write

    def dying(what):
        def step_or_die(*args):
            nonlocal calls
            calls += 1
            if calls == step:
                raise Torn
            return what(*args)

        return step_or_die

    monkeypatch.setattr(raw_writer, "swap", dying(swap))
    monkeypatch.setattr(raw_writer, "_write", dying(write))
    if step <= 2 * len(RAW):  # each is written, then put in place
        with pytest.raises(Torn):
            raw_writer.write_day(root, FIRST, after)
    else:
        raw_writer.write_day(root, FIRST, after)
    monkeypatch.undo()
    for name in RAW:
        files = sorted((root / name / f"date={FIRST}").glob("hour=*/part-0.parquet"))
        found = pa.concat_tables([pq.ParquetFile(p).read() for p in files])
        assert found.equals(before[name]) or found.equals(after[name])
    raw_writer.write_day(root, FIRST, after)
    assert len(list(root.glob("clicks/date=*/hour=*/late-*.parquet"))) >= 1
    assert not list(root.rglob(".*"))


def test_late_events_that_a_dead_run_laid_by_half_are_completed(tmp_path):
    """Impressions are laid first: a run killed after them must not leave the day without its late clicks for good."""
    conf = settings(tmp_path, TIDEGATE__WORLD__LATE_SHARE="0.2")
    ingest(conf, FIRST + timedelta(days=1), FIRST)
    whole = content(tmp_path)
    late = sorted((tmp_path / "raw" / "clicks" / f"date={FIRST}").glob("hour=*/late-*.parquet"))
    assert late
    for path in late:
        path.unlink()
    ingest(conf, FIRST)
    assert content(tmp_path) == whole


_TINY = {"days": 3, "users": 60, "items": 50, "requests_per_day": 40, "candidates": 6}
