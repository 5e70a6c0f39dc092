"""Which day a run is about: the form's `day`, else the run's partition key. Never the clock."""

import re
from datetime import date

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

FORM = r"20\d\d-\d\d-\d\d"
"""Of a day, beside that there is such a date; Airflow's trigger form refuses anything else."""
WEEK = re.compile(r"(\d{4})-W(\d{2})")


def day_params(since: bool = False) -> dict[str, Param]:
    """The form of "Trigger": a day and, where a range makes sense, the first day of one."""
    day = Param(
        None,
        type=["null", "string"],
        format="date",
        pattern=FORM,
        title="Day (20YY-MM-DD)",
        description="The UTC day to process. Empty: the run's partition key.",
    )
    first = Param(
        None,
        type=["null", "string"],
        format="date",
        pattern=FORM,
        title="Since (20YY-MM-DD)",
        description="Also process every day from here to Day, in one process per stage.",
    )
    return {"day": day, "since": first} if since else {"day": day}


def resolve(chosen: str | None, partition_key: str | None) -> date:
    """The day that was chosen, else the one the partition key means: itself, or the Sunday that ends its ISO week.

    Raises `AirflowFailException` when there is neither, or it is not a day: a retry would find the same.
    """
    text = (chosen or partition_key or "").strip()
    if not text or text == "None":
        raise AirflowFailException(
            "a run needs a day: the form's Day (conf {'day': 'YYYY-MM-DD'}) or a partition key; found neither"
        )
    try:
        if week := WEEK.fullmatch(text):
            return date.fromisocalendar(int(week[1]), int(week[2]), 7)
        return date.fromisoformat(text)
    except ValueError as error:
        raise AirflowFailException(f"a run's day must be YYYY-MM-DD or an ISO week YYYY-Www; found {text!r}") from error
