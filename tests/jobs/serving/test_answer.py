"""The answer: what was returned is what is captured and read back."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.serving.answer import Answer, Placement, answer_of

P = st.floats(0, 1)
PLACEMENTS = st.builds(Placement, st.text(), st.integers(1, 99), P, P, P, st.none() | P)
ANSWERS = st.builds(
    *(Answer, st.text(), st.lists(PLACEMENTS, max_size=3), st.text(), st.text(), st.text(), st.booleans()),
    st.none() | st.just("2026-01-08"),
)


@given(ANSWERS)
def test_json_and_back_is_the_same_answer(answer: Answer) -> None:
    """To the last bit of a propensity, since a replay divides by it."""
    assert answer_of(orjson.loads(orjson.dumps(answer))) == answer


@pytest.mark.parametrize("missing", ["items", "bundle_sha256", "fallback"])
def test_a_body_that_is_no_answer_says_what_is_missing(missing: str) -> None:
    body = orjson.loads(orjson.dumps(Answer("r", [], "m", "s", "live", False, None)))
    del body[missing]
    with pytest.raises(ValueError, match=missing):
        answer_of(body)


def test_the_policy_of_its_impressions_says_whether_popularity_answered() -> None:
    whole = Answer("r", [], "m-2026-01-08", "s", "live", False, None)
    assert whole.policy == "m-2026-01-08"
    assert Answer("r", [], "m-2026-01-08", "s", "live", True, None).policy == "m-2026-01-08+fallback"
