"""One class of all groups, and spans of time."""

from datetime import timedelta

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A frozen group of settings; an unknown key is an error, not a typo that silently does nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


SPAN = r"^[1-9]\d*[mhd]$"
"""Of time, in minutes, hours or days: `90m`, `6h`, `7d`."""


def span_of(text: str | None, days: int) -> timedelta:
    """What a `SPAN` says; so many days where there is none."""
    if text is None:
        return timedelta(days=days)
    return int(text[:-1]) * {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}[text[-1]]


def whole_days(span: timedelta) -> int:
    """The fewest days that hold it."""
    return -(-span // timedelta(days=1))


def refuse_two(group: BaseModel, *names: str) -> None:
    """Raises `ValueError` for a span that is given twice, as `<name>` and as `<name>_days`."""
    for name in names:
        if {name, f"{name}_days"} <= group.model_fields_set and getattr(group, name) is not None:
            raise ValueError(f"{name} and {name}_days say the same: give one of them")
