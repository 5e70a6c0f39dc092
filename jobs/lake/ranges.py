"""A range of days as far as it goes: a day that is refused or has not come stops none of the others.

The whole range is tried first, since a stage reads what days share only once. Where it fails, its halves are, the older
one first, down to the days that fail by themselves: a stage whose day needs the day before says of each such day that
it is not ready. Any other failure, of a setting or a crash, is no day's own and ends the range.
"""

from collections.abc import Callable
from datetime import date
from typing import Any

from jobs.errors import NotReady, Refused, TidegateError, told
from jobs.lake.run import Run

SENTENCES = 3
"""So many days' own words in the last line; the JSON has all."""
Failed = dict[date, TidegateError]
NONE: Failed = {}


def published(run: Run, do: Callable[[Run], dict[str, Any]]) -> tuple[dict[str, Any], Failed]:
    """What `do` counts of the range, and the days that failed by themselves; `run.rows` are those of all its parts.

    Where a day failed there are no counts: parts of a range do not add up to one.
    """
    failed: Failed = {}
    try:
        return do(run), failed
    except (Refused, NotReady) as error:
        if len(run.days) == 1:
            return {}, {run.day: error}
    run.rows = 0
    middle = len(run.days) // 2
    for days in (run.days[:middle], run.days[middle:]):
        part = Run(run.stage, run.config, days[-1], days[0], run.mode, run.approval, run.step)
        failed |= published(part, do)[1]
        run.rows += part.rows
    return {}, failed


def summary(run: Run, failed: Failed) -> dict[str, str]:
    """Of each day of the range: published, or why not."""
    return {day.isoformat(): told(failed[day]) if day in failed else "published" for day in run.days}


def worst(run: Run, failed: Failed) -> TidegateError:
    """One error for the range: refused where a day was, else not ready; its sentence names the days and says why."""
    kind = Refused if any(isinstance(error, Refused) for error in failed.values()) else NotReady
    order = sorted(failed, key=lambda day: (not isinstance(failed[day], kind), day))
    words = [f"{day} {told(failed[day])}" for day in order[:SENTENCES]]
    if more := [day.isoformat() for day in order[SENTENCES:]]:
        words.append(f"and not {', '.join(more)}")
    done = len(run.days) - len(failed)
    needs = f"{run.stage.name} needs every day of {run.days[0]}..{run.day}"
    return kind(f"{needs}; found {done} published; {'; '.join(words)}")
