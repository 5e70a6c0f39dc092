"""Which day a run is about."""

from datetime import date, timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException, ParamValidationError
from hypothesis import given
from hypothesis import strategies as st

from jobs.orchestration.day import day_params, resolve

pytestmark = pytest.mark.airflow


@given(st.dates(date(2000, 1, 1), date(2099, 12, 31)))
def test_a_week_means_the_sunday_that_ends_it(day: date) -> None:
    """Monday's run trains up to yesterday; the days around New Year belong to the ISO year's week."""
    year, week, weekday = day.isocalendar()
    assert resolve(None, f"{year}-W{week:02d}") == day + timedelta(days=7 - weekday)
    assert resolve(day.isoformat(), "1999-01-01") == resolve(None, day.isoformat()) == day


@pytest.mark.parametrize("text", ["2026-13-01", "yesterday", "2026-W60", "2026-01-01T00:00"])
def test_nonsense_is_refused_for_good(text: str) -> None:
    """A retry would find the same text."""
    with pytest.raises(AirflowFailException, match=r"YYYY-MM-DD"):
        resolve(text, None)


@pytest.mark.parametrize("nothing", [None, "", "None", "  "])
def test_no_day_is_refused_for_good(nothing: str | None) -> None:
    """Templates turn a missing value into text."""
    with pytest.raises(AirflowFailException, match="found neither"):
        resolve(nothing, nothing)


@pytest.mark.parametrize("text", ["2026-02-31", "0001-01-01", "2126-01-01", "yesterday", "2026-1-1"])
def test_the_form_refuses_what_is_no_day(text: str) -> None:
    """Before a run is there, in Airflow's own words and with the form's; a day and none are taken."""
    for name, param in day_params(since=True).items():
        with pytest.raises(ParamValidationError, match=rf"(?s)'{text}' (is not a 'date'|does not match).*20YY-MM-DD"):
            param.resolve(text)
        assert [param.resolve(good) for good in ("2026-02-28", None)] == ["2026-02-28", None], name
