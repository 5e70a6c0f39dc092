"""Whatever a file or a command line holds: JSON that every reader takes, or one sentence and its exit code."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.errors import TidegateError
from jobs.off_policy.__main__ import main
from jobs.off_policy.question import NAMES, WITH_OPTION

DOCUMENTED = {64, 65, 75, 78}
HOSTILE = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 3.0, 1.0 + 2.0**-52, 1.0 + 2.0**-23, 1.001, None, float("nan")),
    *(float("inf"), -float("inf"), 1e-17, 1e-50, 1e-155, 1e-300, 5e-324, 1e29, 1e30, 1e31, 1e80, 1e155, 1e308, -1e308),
    *(2.0**53, 2.0**63, 1e-9, 7.5),
)
NUMBERS = (
    *(pa.float64(), pa.float32(), pa.float16(), pa.bool_(), pa.decimal128(20, 6), pa.decimal256(60, 6)),
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
)
NO_NUMBERS = (
    *(pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()), pa.binary(), pa.null()),
    *(pa.date32(), pa.timestamp("ns", "UTC"), pa.duration("us"), pa.list_(pa.float64()), pa.struct([("x", pa.int8())])),
)
COLUMNS = ("reward", "logged", "target", "predicted_logged", "predicted_target", "slate", "position", "cluster")
OTHERS = ("re.ward", "Reward", "logged ", "x`y", "reward.x", "e")


def good(name: str, n: int) -> pa.Array:
    """Values that any estimator takes: pages of two, users of ten rows."""
    rng = np.random.default_rng(3)
    rows = np.arange(n)
    keys = {"slate": rows // 2, "cluster": rows // 10}
    if name in keys:
        return pa.array(keys[name])
    if name == "position":
        return pa.array(rows % 2 + 1)
    return pa.array((rng.random(n) < 0.3).astype(float) if name == "reward" else rng.uniform(0.3, 0.6, n))


def cast(column: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """The column as another type, as far as it goes: what does not fit is null; None where nothing does."""
    try:
        return column.cast(kind, safe=False)
    except (pa.ArrowException, OverflowError):
        pass
    if kind in (pa.list_(pa.float64()), pa.struct([("x", pa.int8())]), pa.null()):
        return pa.nulls(len(column), kind)
    try:
        return column.cast(pa.int64(), safe=False).cast(kind, safe=False)
    except pa.ArrowException:
        try:
            return column.cast(pa.string()).cast(kind, safe=False)
        except pa.ArrowException:
            return None


@st.composite
def column(draw: st.DrawFn, name: str, n: int) -> pa.Array:
    """Mostly good, sometimes with a few values that nobody expects, sometimes of another type."""
    found = good(name, n)
    if n and draw(st.integers(0, 2)) == 0:
        values: list[Any] = found.cast(pa.float64()).to_pylist()
        for at in draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=3)):
            values[at] = draw(st.sampled_from(HOSTILE))
        found = pa.array(values, pa.float64())
        if draw(st.booleans()) and name in ("slate", "cluster"):
            found = pa.array([None if v is None else f"k{v}".encode() + b"\xff" for v in values]).view(pa.string())
    if draw(st.integers(0, 5)) == 0:
        other = cast(found, draw(st.sampled_from((*NUMBERS, *NO_NUMBERS))))
        found = found if other is None else other
    return found


@st.composite
def files_and_words(draw: st.DrawFn) -> tuple[list[pa.Table], list[str]]:
    """One or two files of odd columns, and a command line that may ask for others."""
    tables = []
    for _ in range(draw(st.integers(1, 2))):
        n = draw(st.sampled_from([0, 1, 2, 40, 600, 600, 600]))
        names = [name for name in COLUMNS if draw(st.integers(0, 9))]
        names += draw(st.lists(st.sampled_from((*OTHERS, *COLUMNS)), max_size=1))
        kinds = [draw(column(name if name in COLUMNS else "reward", n)) for name in names]
        tables.append(pa.table(kinds, names=names))
    estimator = draw(st.sampled_from(NAMES))
    words = ["--estimator", estimator]
    if estimator in WITH_OPTION:
        option = draw(st.sampled_from(["0", "1", "2.5", "-1", "inf", "nan", "1e-320", "1e300", "many"]))
        words.append(f"--{WITH_OPTION[estimator][0]}={option}")
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        pair = draw(st.sampled_from(COLUMNS)), draw(st.sampled_from((*COLUMNS, *OTHERS, "nosuch", "")))
        words += ["--column", "=".join(pair)]
    if draw(st.integers(0, 3)) == 0:
        words.append("--bootstrap")
    return tables, words


SIZES = (*(0.0, 5e-324, 1e-310, 1e-300, 1e-155, 1e-80, 1e-50, 1e-31, 1e-30, 1e-17, 0.3), 1.0, 1.0 + 2.0**-52)
POSSIBLE = {
    **dict.fromkeys(
        ("reward", "predicted_logged", "predicted_target"), (*SIZES, 7.5, 1e15, 1e29, 1e30, -1e30, -1e-300)
    ),
    "logged": SIZES[1:],
    "target": SIZES,
}
LENIENT = {"MIN_EFFECTIVE_N": "1", "MAX_WEIGHT_SHARE": "1", "MAX_TAIL_SHAPE": "1e9", "MAX_MEAN_WEIGHT_Z": "1e9",
           "MIN_DECISIONS_THAT_MATTER": "1", "BOOTSTRAP_REPLICATES": "50"}  # fmt: skip


@st.composite
def extremes_and_words(draw: st.DrawFn) -> tuple[list[pa.Table], list[str]]:
    """One file that has all that is asked for, every value possible, and some of sizes that nobody has seen."""
    n = draw(st.sampled_from([2, 40, 600]))
    columns = {name: good(name, n) for name in COLUMNS}
    for name, values in POSSIBLE.items():
        some: list[Any] = columns[name].to_pylist()
        rows = draw(st.sampled_from([range(0), range(1), range(min(n, 5)), range(0, n, 2), range(n)]))
        drawn = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
        for at in rows:
            some[at] = drawn[at % len(drawn)]
        columns[name] = pa.array(some)
    if not draw(st.integers(0, 3)):
        columns["position"], columns["slate"] = pa.array(np.arange(n) % 40 + 1), pa.array(np.arange(n) // 40)
        columns["cluster"] = columns["slate"]
    if draw(st.booleans()):
        del columns["cluster"]
    estimator = draw(st.sampled_from(NAMES))
    words = ["--estimator", estimator]
    if estimator in WITH_OPTION:
        words.append(f"--{WITH_OPTION[estimator][0]}={draw(st.sampled_from(['1', '2.5', 'inf', '1e-320', '1e300']))}")
    return [pa.table(columns)], [*words, *(["--bootstrap"] if "cluster" in columns else [])]


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any] | TidegateError:
    """The JSON that was printed or the error; anything else that is raised, a warning too, fails the test."""
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            code = main(words)
        except TidegateError as error:
            return error
    assert code == 0

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    found: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=refuse)
    return found


@given(asked=st.one_of(files_and_words(), extremes_and_words(), extremes_and_words()), lenient=st.booleans())
@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_odd_files_and_words_are_answered_or_refused_in_a_sentence(
    asked: tuple[list[pa.Table], list[str]],
    lenient: bool,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bug would end with 70 and a traceback, as `test_a_bug_is_told_from_the_data` says; there is none here."""
    tables, words = asked
    for name, value in LENIENT.items():
        if lenient:
            monkeypatch.setenv(f"TIDEGATE__GATE__{name}", value)
        else:
            monkeypatch.delenv(f"TIDEGATE__GATE__{name}", raising=False)
    folder: Path = tmp_path_factory.mktemp("fuzz")
    for n, rows in enumerate(tables):
        pq.write_table(rows, folder / f"{n}.parquet")
    found = said([str(folder), *words], capsys)
    if isinstance(found, TidegateError):
        assert found.exit_code in DOCUMENTED
        assert len(str(found).splitlines()) == 1
        return
    assert {"finding", "bootstrap", "diagnostics"} <= found.keys()
    if "value" in found["finding"]:
        assert all(isinstance(found["finding"][part], float) for part in ("value", "stderr", "low", "high"))


@pytest.mark.parametrize("exponent", [17, 30, 50, 80, 155, 300, 308, 310, 323])
@pytest.mark.parametrize("estimator", ["ips", "snips", "dr", "dm"])
def test_a_tiny_propensity_is_refused_for_what_it_does(
    exponent: int, estimator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of 600 decisions holds all the weight, whatever the size of the number that says so."""
    rows = {name: good(name, 600) for name in COLUMNS}
    logged = rows["logged"].to_numpy().copy()
    logged[0] = 10.0**-exponent
    pq.write_table(pa.table(rows | {"logged": logged}), tmp_path / "x.parquet")
    found = said([str(tmp_path), "--estimator", estimator], capsys)
    assert isinstance(found, dict)
    assert (
        found["finding"]["refused"] == "the estimate needs an effective n of at least 200; found 1.0 from 600 decisions"
    )
    assert found["finding"]["effective_n"] == pytest.approx(1.0, abs=1e-9)
    assert found["diagnostics"]["largest_weight_share"] == pytest.approx(1.0)
    assert found["diagnostics"]["smallest_logged"] == 10.0**-exponent


@pytest.mark.parametrize("places", [20, 50, 120])
@pytest.mark.parametrize("p", [1e-3, 1e-4, 1e-17])
@pytest.mark.parametrize("estimator", ["rips", "cascade_dr"])
def test_deep_pages_have_the_weights_of_shallow_ones(
    places: int, p: float, estimator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A product of 120 propensities is no number that a float can hold; the product of their ratios is about 1."""
    pages, rng = 300, np.random.default_rng(1)
    n = pages * places
    logged = p * rng.uniform(0.9, 1.1, n)
    columns = {
        "slate": np.repeat(np.arange(pages), places), "position": np.tile(np.arange(1, places + 1), pages),
        "reward": (rng.random(n) < 0.1).astype(float), "logged": logged, "target": logged * rng.uniform(0.98, 1.02, n),
        "predicted_logged": np.full(n, 0.1), "predicted_target": np.full(n, 0.1),
    }  # fmt: skip

    def asked(**changed: np.ndarray) -> dict[str, Any]:
        pq.write_table(pa.table(columns | changed), tmp_path / "pages.parquet")
        found = said([str(tmp_path), "--estimator", estimator], capsys)
        assert isinstance(found, dict)
        return found

    found = asked()
    shallow = asked(logged=logged / p * 0.5, target=columns["target"] / p * 0.5)
    assert found["finding"] == pytest.approx(shallow["finding"], rel=1e-9)
    assert 0 < found["diagnostics"]["smallest_logged"] < 1
    told = {name: found["diagnostics"][name] for name in ("mean_weight", "mean_weight_stderr", "effective_n")}
    assert told == pytest.approx({name: shallow["diagnostics"][name] for name in told}, rel=1e-9)
    assert found["diagnostics"]["effective_n"] > 0.9 * pages
