"""A team's own names, types, epochs and zones as settings, `source.mapping`: which column is which of the contract's.

`jobs.sources.mapped` reads files and databases by it, `jobs.collect` topics of Kafka. Nothing is guessed: a number
becomes a time only where its unit is said, a text a list only where its separator is.
"""

from typing import Annotated, Literal, Self
from zoneinfo import available_timezones

from pydantic import BeforeValidator, Field, field_validator, model_validator

from models.settings import Settings

Unit = Literal["s", "ms", "us", "ns"]


class ColumnMapping(Settings):
    """Where a column of the contract comes from: one of theirs, or one value for all rows."""

    column: str = Field("", description="their name of it")
    value: str | float | None = Field(None, description="instead of a column: the same for every row")
    unit: Unit | None = Field(None, description="of a time that is a number since 1970")
    format: str = Field("", description="of a time that is a text, as strptime has it; ISO 8601 needs none")
    separator: str = Field("", description="between the values of a list that is a text")
    plus: int = Field(0, description="added to a whole number: 1 to positions that count from 0")

    @model_validator(mode="after")
    def _has_one_origin(self) -> Self:
        if bool(self.column) == (self.value is not None):
            raise ValueError("needs `column`, their name of it, or `value`, and not both")
        return self


Mapped = Annotated[ColumnMapping, BeforeValidator(lambda given: {"column": given} if isinstance(given, str) else given)]
"""A text alone is the name of their column."""


class TableMapping(Settings):
    """Where a raw table's rows are, and which column is which."""

    files: str = Field("", description="below source.data, a pattern with an ending: views/*.parquet, .csv, .json")
    query: str = Field("", description="instead of files: SQL of `source.url`; {data}, {start}, {end} are put in")
    topic: str = Field("", description="instead of files: of Kafka, whose values are JSON objects, a row each")
    zone: str = Field("UTC", description="of times that say none, by its IANA name")
    columns: dict[str, Mapped] = Field(
        {}, description="by the contract's name: theirs, or how it becomes one; of a topic none: the contract's names"
    )

    @field_validator("zone")
    @classmethod
    def _is_known(cls, zone: str) -> str:
        if zone not in available_timezones():
            raise ValueError("needs an IANA name such as Europe/Berlin")
        return zone

    @model_validator(mode="after")
    def _has_one_origin(self) -> Self:
        if sum(map(bool, (self.files, self.query, self.topic))) != 1:
            raise ValueError("needs one of `files`, `query` and `topic`")
        if not self.columns and not self.topic:
            raise ValueError("needs `columns`")
        return self
