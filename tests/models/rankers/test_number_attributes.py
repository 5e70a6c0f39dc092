"""Attributes that a logger wrote as numbers stay numbers: a ranker sees their order, not 64 of their values."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from jobs.lake.tables import RAW
from jobs.validate.columns import shaped
from models.rankers import EVERY_KIND
from models.rankers.encoding import Encoding
from models.rankers.features import CATEGORICAL, NUMERIC, attribute, attributes_of
from models.rankers.protocol import TrainingData
from models.settings import RankerSettings
from tests.models.rankers.test_ranker_contract import checkerboard

DEPTH = "attributes.depth:number"


def test_the_raw_columns_type_says_what_an_attribute_is() -> None:
    """Numbers of any width are numbers; words, flags, times and ids are words, whatever they look like."""
    rows = pa.table(
        {
            "user_id": ["u"],
            "feature_age": pa.array([31], pa.int16()),
            "feature_score": pa.array([0.25]).dictionary_encode(),
            "feature_zip": ["01234"],
            "feature_vip": [True],
            "feature_shop_id": [17],
        }
    )
    found = dict(shaped(rows, RAW["users"]).rows.column("attributes")[0].as_py())
    assert found == {"age:number": "31", "score:number": "0.25", "zip": "01234", "vip": "true", "shop_id": "17"}


def test_texts_become_numbers_where_their_key_says_so() -> None:
    """What is no number is unknown, and a column of words stays as it is."""
    words = np.array(["1.5", None, "-3e2", "many"], dtype=object)
    assert attribute("attributes.depth", words) is words
    assert np.array_equal(attribute(DEPTH, words), [1.5, np.nan, -300.0, np.nan], equal_nan=True)
    once = np.broadcast_to(np.array(["7"], dtype=object), (3,))
    assert attribute(DEPTH, once).tolist() == [7.0, 7.0, 7.0]


def columns(n: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Nothing else tells anything; a click is likelier the deeper."""
    found = {name: np.asarray(column)[:1].repeat(n, axis=0) for name, column in checkerboard(4).features.items()}
    return {**found, DEPTH: rng.uniform(-1, 1, n)}


@pytest.mark.parametrize("kind", ["logistic", "xgboost", "mmoe"])
def test_a_ranker_learns_the_order_of_values_it_has_never_seen(kind: str) -> None:
    """Every value is its own: as categories none of them would be known again."""
    rng = np.random.default_rng(1)
    features = columns(6_000, rng)
    clicked = (rng.random(6_000) < 0.5 + 0.4 * features[DEPTH]).astype(float)
    data = TrainingData(features, clicked, np.full(6_000, np.nan), np.ones(6_000))
    settings = getattr(RankerSettings(), kind)
    ranker = EVERY_KIND[kind].fit(data, settings, 0)
    new = columns(400, rng)
    new[DEPTH] = np.linspace(-0.95, 0.95, 400)
    p = ranker.predict(new).p_click
    assert p[-50:].mean() - p[:50].mean() > 0.15
    again = EVERY_KIND[kind].from_files(ranker.to_files())
    assert np.allclose(again.predict(new).p_click, p, atol=1e-6)
    del new[DEPTH]  # of a request that does not say it
    assert np.isfinite(ranker.predict(new).p_click).all()


def test_an_encoding_has_numbers_beside_the_declared_ones() -> None:
    """In the vocabularies stay words alone."""
    features = columns(30, np.random.default_rng(2)) | {"attributes.place": np.array(["a"] * 30, dtype=object)}
    found = Encoding.fit(features, np.arange(30), 64)
    assert found.numeric == (*NUMERIC, DEPTH)
    assert set(found.vocabularies) == {*CATEGORICAL, "attributes.hour", "attributes.place"}
    assert attributes_of(features) == (("attributes.hour", "attributes.place"), (DEPTH,))
