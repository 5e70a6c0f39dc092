"""What a graph says is what its ranker says: whatever comes in, however many rows, and wherever it is opened."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.rankers import RANKERS, exported, fit, load
from models.rankers.calibrated import calibrated, maps_of, uncalibrated
from models.rankers.features import CATEGORICAL, NUMERIC, is_of_item
from models.rankers.graph import BLOCK, Graph
from models.rankers.logistic import LogisticRanker
from models.rankers.protocol import Columns, FurtherOutcome, Predictions, Scorer, TrainingData
from models.rankers.recalibration import Beta, Isotonic, Recalibration
from models.rankers.served import CLOSE, GRAPH_FILE, HALVES_FILE, Served, Unlike, furthest
from models.settings import OutcomeSettings
from tests.models.rankers.test_ranker_contract import SETTINGS, checkerboard

GRAPHED = ["logistic", "crosses", "factorization", "single_task", "mmoe"]
HALVED = ["single_task", "mmoe"]
CLICK = Recalibration(Beta(0.8, 1.3, -0.4), {"a": Isotonic((0.1, 0.4), (0.3, 0.6))})
CONVERSION = Recalibration(Isotonic((0.05, 0.4), (0.1, 0.6)), {"b": Beta(2.0, 2.0, 3.0)})


def with_outcomes(data: TrainingData) -> TrainingData:
    rng = np.random.default_rng(4)
    like = (rng.random(len(data.clicked)) < 0.3).astype(float)
    watched = np.where(rng.random(len(like)) < 0.5, rng.exponential(30.0, len(like)), 0.0)
    declared = {
        "like": (OutcomeSettings(), like),
        "watch": (OutcomeSettings(kind="value", through="clicked"), watched),
    }
    return replace(data, outcomes={name: FurtherOutcome(*of) for name, of in declared.items()})


def strange() -> Columns:
    """Fresh rows, among them values that no training had: numbers unknown, endless, huge and below 0; ids, categories
    and surfaces never seen; lists without an entry.
    """
    features = dict(checkerboard(300, seed=9).features)
    rng = np.random.default_rng(1)
    for name in NUMERIC:
        features[name] = np.where(rng.random(300) < 0.3, np.nan, features[name])
        features[name][:4] = [np.inf, -np.inf, 1e12, -3.0]
    for name in (*CATEGORICAL, "item_id", "user_id"):
        features[name] = features[name].copy()
        features[name][rng.random(300) < 0.2] = "never seen"
        features[name][rng.random(300) < 0.1] = None
    features["last_items"] = features["last_items"].copy()
    features["last_items"][::3] = None
    features["last_items"][1::7, 0] = "never seen"
    return features


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return with_outcomes(checkerboard())


@pytest.fixture(scope="module", params=GRAPHED)
def plain(request: pytest.FixtureRequest, data: TrainingData) -> Scorer:
    """A ranker whose words are mapped, by surface too."""
    return calibrated(fit(request.param, data, SETTINGS), CLICK, CONVERSION)


@pytest.fixture(scope="module")
def served(plain: Scorer) -> Scorer:
    return exported(plain, strange())


def test_it_says_what_its_ranker_says(plain: Scorer, served: Scorer) -> None:
    of = strange()
    assert isinstance(served, Served)
    assert furthest(plain.predict(of), served.predict(of)) < CLOSE / 10
    within = uncalibrated(plain)
    assert furthest(within.predict(of), exported(within, of).predict(of)) < CLOSE / 10
    if plain.kind == "mmoe":
        assert set(served.predict(of).outcomes) == {"like", "watch"}


def test_a_row_scores_the_same_alone_as_in_a_batch(served: Scorer) -> None:
    """Down to the last bit: a tie that only a batch breaks would rank otherwise than was judged."""
    of = strange()
    batch = served.predict(of)
    for at in range(0, 300, 41):
        alone = served.predict({name: column[at : at + 1] for name, column in of.items()})
        assert alone.p_click[0] == batch.p_click[at]
        assert alone.p_conversion[0] == batch.p_conversion[at]
    nothing = served.predict({name: column[:0] for name, column in of.items()})
    assert nothing.p_click.shape == nothing.p_conversion.shape == (0,)


@cache
def fitted(kind: str) -> Served:
    ranker = exported(calibrated(fit(kind, with_outcomes(checkerboard()), SETTINGS), CLICK, CONVERSION), strange())
    assert isinstance(ranker, Served)
    return ranker


@pytest.mark.parametrize("kind", HALVED)
@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_an_item_is_looked_at_once_and_says_the_same(kind: str, seed: int) -> None:
    """Any items with any kinds of the rest, items that are known and items that are not; alone and together."""
    ranker, of = fitted(kind), strange()
    rng = np.random.default_rng(seed)
    item, other = rng.integers(0, 300, 90), rng.integers(0, 300, 90)
    whole = {name: column[item if is_of_item(name) else other] for name, column in of.items()}
    kinds, inverse = np.unique(other[20:], return_inverse=True)
    columns = {name: np.concatenate([whole[name][:20], column[kinds]]) for name, column in of.items()}
    rows, of_row = np.concatenate([np.full(20, -1), item[20:]]), np.concatenate([np.arange(20), inverse + 20])
    assert ranker.halves is not None
    items = ranker.halves.items.of({name: column for name, column in of.items() if is_of_item(name)})
    found = ranker.predict_halves(items, rows, columns, of_row)
    assert furthest(ranker.predict(whole), found) < CLOSE / 2
    for at in (3, 50):
        alone = ranker.predict_halves(items, rows[[at]], columns, of_row[[at]])
        assert alone.p_click[0] == found.p_click[at]


def test_saving_and_loading_changes_nothing(plain: Scorer, served: Scorer) -> None:
    files = served.to_files()
    graphs = {GRAPH_FILE, HALVES_FILE} if plain.kind in HALVED else {GRAPH_FILE}
    assert files == {**plain.to_files(), **{name: files[name] for name in graphs}}
    assert exported(plain, strange()).to_files() == files  # the same bytes each time
    loaded = load(plain.kind, files)
    assert isinstance(loaded, Served)
    assert loaded.to_files() == files
    np.testing.assert_array_equal(loaded.predict(strange()).p_click, served.predict(strange()).p_click)
    assert exported(loaded, strange()) is loaded


def test_tables_are_stored_once_and_any_runtime_opens_the_folder(served: Scorer, tmp_path: Path) -> None:
    """What is large lies in the ranker's safetensors; the graph knows where."""
    import onnx
    import onnxruntime

    for name, content in served.to_files().items():
        (tmp_path / name).write_bytes(content)
    path = str(tmp_path / GRAPH_FILE)
    onnx.checker.check_model(path, full_check=True)
    assert Path(path).stat().st_size < 30_000
    assert isinstance(served, Served)
    encoded = served.ranker.encoded({name: column[: 2 * BLOCK] for name, column in strange().items()})
    found = onnxruntime.InferenceSession(path).run(["p_click"], encoded._asdict())[0]
    np.testing.assert_allclose(found, served.predict(strange()).p_click[: 2 * BLOCK], atol=1e-7)


def test_a_warm_start_continues_the_ranker_behind_the_graph(plain: Scorer, served: Scorer) -> None:
    fresh = checkerboard(500, seed=2)
    assert fit(plain.kind, fresh, SETTINGS, served).to_files() == fit(plain.kind, fresh, SETTINGS, plain).to_files()
    assert maps_of(served) == (CLICK, CONVERSION)


@pytest.mark.parametrize("kind", ["logistic", "factorization", "mmoe"])
def test_a_constant_rate_per_click_is_one(kind: str) -> None:
    data = checkerboard(400)
    ranker = exported(fit(kind, replace(data, converted=np.zeros(400)), SETTINGS), data.features)
    assert not ranker.predict(strange()).p_conversion.any()


def test_stages_of_the_wait_are_multiplied(data: TrainingData) -> None:
    of = fit("logistic", data, SETTINGS)
    assert isinstance(of, LogisticRanker)
    ranker = LogisticRanker(of._encoding, of._scaling, of._click, (of._click, of._click / 2, -of._click))
    assert furthest(ranker.predict(strange()), exported(ranker, strange()).predict(strange())) < CLOSE / 10


def test_popularity_and_trees_serve_themselves(data: TrainingData) -> None:
    assert set(RANKERS) - set(GRAPHED) == {"popularity", "xgboost", "lambdamart"}
    for kind in ("popularity", "xgboost"):
        ranker = calibrated(fit(kind, data, SETTINGS), CLICK, CONVERSION)
        assert exported(ranker, data.features) is ranker


@pytest.mark.parametrize(("off", "refused"), [(2 * CLOSE, True), (CLOSE / 2, False), (np.nan, True)])
def test_a_graph_that_says_something_else_is_refused(data: TrainingData, off: float, refused: bool) -> None:
    class Off(LogisticRanker):
        def predict(self, features: Columns) -> Predictions:
            said = super().predict(features)
            said.p_click[-1] -= off
            return said

    of = fit("logistic", data, SETTINGS)
    ranker = Off.from_files(of.to_files())
    if refused:
        with pytest.raises(Unlike, match="to 1e-05; found"):
            exported(ranker, data.features)
    else:
        exported(ranker, data.features)


probability = st.floats(1e-6, 1 - 1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(probability, probability), min_size=1, max_size=6), st.lists(probability, min_size=1))
def test_any_isotonic_map_is_the_same_line(knots: list[tuple[float, float]], said: list[float]) -> None:
    own = Isotonic(tuple(sorted(dict(knots))), tuple(sorted(dict(knots).values())))
    np.testing.assert_allclose(run(own, said), own(np.array(said)), atol=1e-12)


def run(own: Isotonic, said: list[float]) -> Any:
    """By the graph of the map alone."""
    import onnxruntime

    to = Graph()
    to.give("q", own.traced(to.given("p", np.float64)))
    return onnxruntime.InferenceSession(to.to_bytes()).run(None, {"p": np.array(said)})[0]
