"""Arrow batches give what arrays give, however they are cut, in the memory of a batch; bad values are named."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import Refused, UsageError
from jobs.off_policy import wire
from jobs.off_policy.columns import RULES, identities
from jobs.off_policy.question import NAMES, Question
from jobs.off_policy.sums import Answer, Part, added_up, answered, read
from models.evaluation.diagnostics import diagnostics
from models.evaluation.estimate import Estimate, Refusal
from models.evaluation.intervals import PoissonBootstrap
from models.evaluation.weighting import Log
from models.settings import GateSettings
from tests.jobs.off_policy.logged_files import (
    ANYTHING_GOES,
    QUESTIONS,
    arrays,
    cut,
    on_arrays,
    question,
    same,
    table,
)  # fmt: skip

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=8, deadline=None)


def answer(asked: Question, rows: pa.Table, seed: int = 0) -> Answer:
    return answered(read(cut(rows, seed), asked, "a file"), asked, ANYTHING_GOES)


@pytest.mark.parametrize(("name", "clustered"), QUESTIONS)
@quick
@given(seed=seeds, text=st.booleans())
def test_a_stream_gives_the_figure_of_arrays(name: str, clustered: bool, seed: int, text: bool) -> None:
    """Every estimator, users and pages named by text or numbers, batches cut anywhere, in pages too, some empty."""
    asked = question(name, clustered)
    rows = table(asked, seed, text)
    found = answer(asked, rows, seed)
    assert found.rows == len(rows)
    same(found.finding, on_arrays(asked, rows))
    if not asked.of_pages:
        given_ = {k: a for k, a in arrays(rows).items() if k in ("logged", "target", "clusters")}
        same(found.diagnostics, diagnostics(**given_))


@quick
@given(seed=seeds)
def test_diagnostics_of_pages_are_of_what_the_estimator_multiplies(seed: int) -> None:
    """Down the page a page has one weight, the product; elsewhere each placement has one, dependent on the others."""
    rows = table(question("rips", False), seed)
    columns = arrays(rows)
    starts = np.flatnonzero(np.append(True, columns["slate"][1:] != columns["slate"][:-1]))
    product = {name: np.multiply.reduceat(columns[name], starts) for name in ("logged", "target")}
    same(answer(question("rips", False), rows, seed).diagnostics, diagnostics(**product))
    alone = {name: columns[name] for name in ("logged", "target")}
    by_page = diagnostics(**alone, clusters=columns["slate"])
    same(answer(question("iips", False), rows, seed).diagnostics, by_page)


@quick
@given(seed=seeds)
def test_files_add_up_and_a_user_may_be_in_all_of_them(seed: int) -> None:
    """Each file is read by itself; the bootstrap's draws are a function of the user, so they add up too."""
    asked = question("sndr", True, replicates=20)
    rows = table(asked, seed)
    rng = np.random.default_rng(seed)
    file = rng.integers(0, 4, len(rows))
    parts = [read(cut(rows.filter(pa.array(file == f)), seed), asked, f"file {f}") for f in range(5)]
    found = answered(added_up(parts), asked, ANYTHING_GOES)
    same(found.finding, on_arrays(asked, rows))
    columns = arrays(rows)
    users = columns.pop("clusters")
    try:
        expected: Any = PoissonBootstrap.of(
            asked.terms(Log.checked(**columns)), users=users, replicates=20, seed=0
        ).estimate()
    except ValueError as unable:
        expected = Refusal(str(unable), found.finding.n, found.finding.effective_n)
    same(found.bootstrap, expected)


def test_parts_are_added_in_their_order_and_likes_with_likes() -> None:
    """One by one, a thousand batches would sort all users a thousand times; the first fault stays the first."""
    asked = Question("ips", clustered=True)
    rows = table(asked, 0, n=4_000)
    alone = [read(rows.slice(start, 10).to_batches(), asked, "") for start in range(0, 4_000, 10)]
    sorted_rows = 0
    original = Part.__add__

    class Counted(Part):
        def __add__(self, other: Part) -> "Counted":  # type: ignore[override]
            nonlocal sorted_rows
            sorted_rows += self.size + other.size
            return Counted(**vars(original(self, other)))

    total = added_up(Counted(**vars(part)) for part in alone)
    same(answered(total, asked, ANYTHING_GOES).finding, on_arrays(asked, rows))
    assert sorted_rows < 20 * 4_000, "one by one it is 400,000"


def bits(value: Any) -> Any:
    """A dataclass as nested tuples that are equal only bit by bit."""
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    if is_dataclass(value):
        return type(value).__name__, tuple(bits(getattr(value, f.name)) for f in fields(value))
    if isinstance(value, tuple):
        return tuple(map(bits, value))
    return {key: bits(v) for key, v in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize(("name", "clustered"), QUESTIONS)
def test_what_is_sent_arrives_bit_by_bit(name: str, clustered: bool) -> None:
    """Settled sums through an Arrow stream and back: not one bit of one number changes."""
    asked = question(name, clustered, replicates=7)
    part = read(cut(table(asked, 5), 5), asked, "")
    edges = {"smallest": 5e-324, "never": 2**62 + 1, "certain": 3}
    part = replace(part, sums=part.sums and replace(part.sums, weights=replace(part.sums.weights, **edges)))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, wire.SCHEMA) as writer:
        writer.write_batch(wire.sent(part))
    (back,) = wire.arrived(pa.ipc.open_stream(sink.getvalue()).read_all())
    assert back.sums is not None
    assert bits(back) == bits(part.settled())


def test_nothing_and_faults_travel_too() -> None:
    """An empty partition adds nothing; a bad one says what it found."""
    asked = Question("ips")
    bad = pa.table({"reward": [1.0, np.inf], "logged": [0.5, 2.0], "target": [0.5, 0.5]})
    for part in (Part(), read(bad.to_batches(), asked, "x")):
        assert wire.arrived(pa.Table.from_batches([wire.sent(part)])) == [part]
    rows = table(asked, 1)
    parts = [Part(), read(rows.to_batches(), asked, ""), Part()]
    same(answered(added_up(parts), asked, ANYTHING_GOES).finding, on_arrays(asked, rows))
    none = answered(added_up([]), asked, ANYTHING_GOES)
    assert none.finding == Refusal("the estimate needs logged decisions; found none")


@pytest.mark.parametrize("clustered", [False, True])
def test_a_stream_is_held_a_batch_at_a_time(clustered: bool) -> None:
    """Ten times the batches take no more memory: only sums are kept, and a few numbers per user."""
    asked = Question("snips", clustered=clustered)
    held: list[int] = []

    def stream(batches: int) -> Iterator[pa.RecordBatch]:
        for i in range(batches):
            held.append(pa.total_allocated_bytes())
            rng = np.random.default_rng(i)
            columns = {"reward": rng.random(5_000), "logged": rng.uniform(0.1, 1, 5_000), "target": rng.random(5_000)}
            users = {"cluster": rng.integers(0, 1_000, 5_000)} if clustered else {}
            yield pa.RecordBatch.from_pydict({name: pa.array(a) for name, a in (columns | users).items()})

    def peak(batches: int) -> int:
        tracemalloc.start()
        part = read(stream(batches), asked, "")
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert part.rows == 5_000 * batches
        return found

    peak(3)  # what is imported and cached the first time
    few, many = peak(10), peak(100)
    assert many < 1.3 * few
    assert max(held) - min(held) < 3 * 5_000 * 8 * 4, "and Arrow keeps none of the batches"


GOOD = {"reward": [0.0, 1.0, 0.0], "logged": [0.5, 0.5, 0.5], "target": [0.5, 0.5, 0.5], "predicted_logged": [0.1] * 3,
        "predicted_target": [0.1] * 3, "cluster": ["a", "b", "a"]}  # fmt: skip


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        (
            "reward",
            None,
            "reward needs finite numbers up to 1e+30 in size; found none in row 1 of a file, 3 such in all",
        ),
        (
            "reward",
            np.inf,
            "reward needs finite numbers up to 1e+30 in size; found inf in row 1 of a file, 3 such in all",
        ),
        ("logged", 0.0, "logged needs probabilities in (0, 1]; found 0 in row 1 of a file, 3 such in all"),
        ("logged", 1.5, "logged needs probabilities in (0, 1]; found 1.5 in row 1 of a file, 3 such in all"),
        ("target", -0.5, "target needs probabilities in [0, 1]; found -0.5 in row 1 of a file, 3 such in all"),
        ("target", None, "target needs probabilities in [0, 1]; found none in row 1 of a file, 3 such in all"),
        (
            "predicted_logged",
            np.nan,
            "predicted_logged needs finite numbers up to 1e+30 in size; found nan in row 1 of a file, 3 such in all",
        ),
        (
            "predicted_target",
            -np.inf,
            "predicted_target needs finite numbers up to 1e+30 in size; found -inf in row 1 of a file, 3 such",
        ),
        ("cluster", None, "cluster needs a value in every row; found none in row 1 of a file, 3 such in all"),
    ],
)
def test_a_value_that_cannot_be_is_named(column: str, value: Any, sentence: str) -> None:
    """Which column, what it needs, the first row of the file, and how many in all batches: enough to go and look."""
    good = pa.table(GOOD)
    bad = good.set_column(0, "x", good.column(0)).drop_columns(["x"]) if False else good
    bad = bad.set_column(
        good.column_names.index(column),
        column,
        pa.array([GOOD[column][0], value, value], good.schema.field(column).type),
    )
    batches = [*bad.to_batches(), *good.to_batches(), *bad.slice(0, 2).to_batches()]
    asked = Question("dr", clustered=True)
    part = read(batches, asked, "a file")
    with pytest.raises(Refused) as raised:
        answered(part, asked, ANYTHING_GOES)
    assert str(raised.value).startswith(sentence)


@given(
    column=st.sampled_from(["reward", "logged", "target", "predicted_logged", "predicted_target"]), value=st.floats()
)
def test_the_rules_are_the_estimators_own(column: str, value: float) -> None:
    """Whatever passes here is taken there and the other way round; but no propensity is not an impossible one."""
    columns = {name: np.array([value if name == column else 0.5]) for name in RULES if name != "position"}
    try:
        Log.checked(**columns)
        taken = True
    except ValueError:
        taken = False
    assert bool(RULES[column].good(columns[column])[0]) == (taken or (column == "logged" and bool(np.isnan(value))))


def test_a_missing_propensity_is_refused_not_invented() -> None:
    """To leave those decisions out would be a choice, so whoever wants it makes it before."""
    asked = Question("ips")
    rows = pa.table({"reward": [1, 0, 0], "logged": [0.5, None, float("nan")], "target": [0.5, 0.5, 0.5]})
    found = answered(read(rows.to_batches(), asked, ""), asked, ANYTHING_GOES)
    assert found.finding == Refusal("2 of 3 rows have no propensity", 3)
    assert found.diagnostics is None


def test_the_guard_speaks_here_too() -> None:
    """The gate's own settings decide whether a figure is told."""
    asked = Question("snips")
    rows = table(asked, 0, n=100)
    found = answered(read(rows.to_batches(), asked, ""), asked, GateSettings(min_effective_n=1_000)).finding
    assert isinstance(found, Refusal)
    assert "needs an effective n of at least 1000" in found.reason


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"slate": ["a", "b", "b", "a"]},
            "slate needs pages in ascending order, as sorted by slate (on Spark any order",
        ),
        ({"position": [1, 1, 1, 1]}, "position needs each position once on a page; found 1 in row 2 of a file, 1 such"),
        (
            {"cluster": ["u", "v", "w", "v"]},
            "cluster needs the same in all rows of a page; found 'w' in row 2 of a file",
        ),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_broken_pages_are_refused(change: dict[str, Any], sentence: str, size: int) -> None:
    """A page that comes back would be counted twice, wherever batches are cut."""
    pages = {
        "reward": [0, 1, 0, 1], "logged": [0.5] * 4, "target": [0.5] * 4, "slate": ["a", "b", "b", "c"],
        "position": [1, 1, 2, 1], "cluster": ["u", "v", "v", "w"],
    }  # fmt: skip
    asked = Question("iips", clustered=True)

    def found(**columns: Any) -> Part:
        return read(pa.table(pages | columns).to_batches(max_chunksize=size), asked, "a file")

    assert isinstance(answered(found(), asked, ANYTHING_GOES).finding, Estimate)
    with pytest.raises(Refused, match=r"^" + sentence.replace("(", r"\(")):
        answered(found(**change), asked, ANYTHING_GOES)


def test_identities_are_the_same_everywhere() -> None:
    """Partitions and days that never meet must agree on who is who: numbers stay, text has one hash for ever."""
    assert identities(pa.chunked_array([[7, None, -3]])).tolist() == [7, -1, -3]
    text = pa.chunked_array([["ann", "bob"], ["ann", None]])
    found = identities(text).tolist()
    assert found == [-3242823647693640502, -2072086640050659886, -3242823647693640502, -1]
    for kind in (pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        assert identities(text.cast(kind)).tolist() == found
    assert len(set(identities(pa.chunked_array([np.arange(50_000).astype(str)])).tolist())) == 50_000


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"estimator": "magic"}, f"an estimator must be one of {', '.join(NAMES)}; found 'magic'"),
        ({"estimator": "dros"}, "dros needs shrinkage; found none"),
        ({"estimator": "ips", "option": 3.0}, "ips needs no option; found 3"),
        ({"estimator": "clipped_ips", "option": 0.0}, "clip needs to be above 0; found 0"),
        (
            {"estimator": "ips", "replicates": 20},
            "a bootstrap draws clusters, so it needs the column cluster; found none",
        ),
        ({"estimator": "ips", "clustered": True, "replicates": 1}, "a bootstrap needs at least 2 replicates; found 1"),
    ],
)
def test_impossible_questions_are_errors(asked: dict[str, Any], sentence: str) -> None:
    """One sentence, before any file is opened."""
    with pytest.raises(UsageError) as raised:
        Question(**asked)
    assert str(raised.value) == sentence
