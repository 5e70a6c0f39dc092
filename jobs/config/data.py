"""Settings of what comes in and goes out, and of where it lies: sources, lake, Spark, validation, export."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator

from jobs.config.base import NO_ROW, ROOT
from jobs.flow import EXPORTED, VALIDATED
from jobs.mapping import TableMapping
from jobs.places import NO_SCHEME, Folder, Placed
from models.settings import Settings

IN_ONE_PROCESS = 0.5
"""Of the memory at hand; the rest is for what differs from the rows that bytes a row were measured on."""


class KafkaSettings(Settings):
    """Where events are collected from that come by topics (`source.name=kafka`), and when a day of them is whole."""

    servers: str = Field("", description="its brokers, host:port, separated by commas")
    group: str = Field("tidegate", min_length=1, description="under which brokers are told how far it has been read")
    batch_rows: int = Field(50_000, ge=1, description="records of a table that are written at once, at most")
    batch_seconds: int = Field(300, ge=1, description="after which they are written, however few there are")
    lateness_minutes: int = Field(
        30, ge=0, description="an event is in its topic so long after it happened; a day is not whole before"
    )
    idle_minutes: int = Field(
        30,
        ge=0,
        description="a partition read to its end, without an event after the day, holds it back so much longer",
    )
    properties: dict[str, SecretStr] = Field(
        {},
        description="librdkafka's own by their names, such as security.protocol and sasl.password; a mapping, given"
        " whole, of which nothing is shown",
    )

    @field_validator("properties", mode="before")
    @classmethod
    def _as_librdkafka_writes_them(cls, properties: Any) -> Any:
        """TOML and JSON have numbers and booleans, librdkafka has their text."""
        if not isinstance(properties, dict):
            return properties
        kept = (str, SecretStr)
        return {key: value if isinstance(value, kept) else json.dumps(value) for key, value in properties.items()}


class SourceSettings(Settings):
    """Where raw events come from; `parquet` means a team's loggers already write the raw lake."""

    name: str = Field("simulated", description="a file of jobs/sources: open-bandit is open_bandit.py")
    data: Annotated[Path | None, NO_SCHEME, NO_ROW] = Field(
        None, description="folder of a real log's files; the simulated world needs none"
    )
    live: Annotated[bool | None, NO_ROW] = Field(
        None,
        description="whether its logs still come, so that DAGs have a schedule; not set: those of parquet and kafka do",
    )
    daily: Annotated[tuple[str, ...], NO_ROW] = Field(
        (),
        description="raw tables that come every day, beside impressions, which always do: a day without a file of one "
        "is not ready. Of all others it is a day on which nothing happened",
    )

    url: Annotated[SecretStr | None, NO_ROW] = Field(
        None, description="mapped: the database that its queries ask, see jobs.warehouse; none: DuckDB, over files"
    )
    mapping: dict[str, TableMapping] = Field(
        {}, description="mapped, kafka: by raw table, where its rows are and which of their columns is which"
    )
    kafka: Annotated[KafkaSettings, NO_ROW] = KafkaSettings()

    @field_validator("daily", "mapping")
    @classmethod
    def _are_raw_tables(cls, named: Any) -> Any:
        if wrong := sorted(set(named) - set(VALIDATED)):
            raise ValueError(f"raw tables are {', '.join(VALIDATED)}; found {', '.join(wrong)}")
        return named

    @field_validator("name")
    @classmethod
    def _has_a_file(cls, name: str) -> str:
        known = sorted(path.stem.replace("_", "-") for path in (ROOT / "jobs" / "sources").glob("[!_]*.py"))
        if name not in known:
            raise ValueError(f"must be one of {', '.join(known)}")
        return name


class ExportSettings(Settings):
    """A team's own database that is told what was found; with an address `daily_monitoring` ends with it."""

    url: SecretStr | None = Field(None, description="of the database, see jobs.warehouse; none: nothing is exported")
    tables: tuple[str, ...] = Field(EXPORTED, description="which tables of the lake")
    prefix: str = Field("tidegate_", pattern="^[A-Za-z_][A-Za-z0-9_.]*$", description="of its tables' names")

    @field_validator("tables")
    @classmethod
    def _can_be_read(cls, tables: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := sorted(set(tables) - set(EXPORTED)):
            raise ValueError(f"tables are {', '.join(EXPORTED)}; found {', '.join(wrong)}")
        return tables


class LakeSettings(Settings):
    """Where tables live, and how late they may be. A place is a folder of this machine, or `s3://bucket/prefix`."""

    root: Placed = Field(ROOT / "var" / "lake", description="Delta tables, a folder here or `s3://bucket/prefix`")
    raw: Placed = Field(
        ROOT / "var" / "raw",
        description="raw events, date=YYYY-MM-DD/hour=HH, as loggers write them; a folder here or `s3://bucket/prefix`",
    )
    results: Placed = Field(
        default_factory=lambda data: data["root"].parent / "validations",
        description="what the suites found, a JSON file a table and day; beside the Delta tables by default",
    )
    runs: Folder = Field(
        default_factory=lambda data: (data["root"].parent if isinstance(data["root"], Path) else ROOT / "var") / "runs",
        description="what became of each stage's last run, as node exporter's textfile collector reads it: a folder"
        " here, beside the Delta tables where those are",
    )
    retain_days: int | None = Field(
        30,
        ge=1,
        description="so long every version of a table can be read, and what was replaced stays on the disk; after that "
        "only versions that a model which serves, may serve or is judged rests on; none: all of them, for ever",
    )
    stale_hours: int | None = Field(
        None, ge=25, description="after its end a day must be published, else an alarm; none: of logs that have ended"
    )


class SparkSettings(Settings):
    """The Spark session every distributed stage opens."""

    master: str = Field(
        "local[2]",
        description="where Spark runs; empty: a session somebody else starts or owns, spark-submit or a notebook",
    )
    python: str | None = Field(
        None,
        description="the interpreter of executors, of this one's minor version; not set: this one on `local`, "
        "elsewhere what PYSPARK_PYTHON says or `python3`",
    )
    driver_memory_mb: int = Field(
        1536, ge=512, description="of a driver started here, and of all where it runs in one process"
    )
    partitions: int = Field(
        4, ge=1, description="shuffle partitions on `local`, and everywhere the fewest buckets of a stage"
    )
    from_rows: int | None = Field(
        None,
        ge=0,
        description="rows a stage reads from which Spark distributes it; below, one process runs the same core at a "
        "fraction of the cost; 0 always takes Spark; not set: where one process would take more than half of the "
        "memory that is free",
    )
    conf: dict[str, str] = Field(
        {}, description="any setting of Spark's own by its whole name, over what is set here; a mapping, given whole"
    )

    def distributes(self, rows: int, bytes_a_row: int, free: int) -> bool:
        """Whether Spark takes a stage that reads so many rows, of which one process needs `bytes_a_row` each."""
        if self.from_rows is not None:
            return rows >= self.from_rows
        return rows * bytes_a_row > free * IN_ONE_PROCESS

    def buckets(self, rows: int, most: int) -> int:
        """How many buckets `rows` go into, so that about `most` meet in one; `partitions` at least."""
        return max(self.partitions, -(-rows // most))

    @property
    def local(self) -> bool:
        """Whether driver and executors are one JVM on this machine."""
        return re.fullmatch(r"local(\[.+\])?", self.master) is not None

    @field_validator("conf", mode="before")
    @classmethod
    def _as_spark_writes_them(cls, conf: Any) -> Any:
        """TOML and JSON have numbers and booleans, Spark has their text."""
        if not isinstance(conf, dict):
            return conf
        return {key: value if isinstance(value, str) else json.dumps(value) for key, value in conf.items()}

    @field_validator("conf")
    @classmethod
    def _are_spark_s(cls, conf: dict[str, str]) -> dict[str, str]:
        if wrong := sorted(key for key in conf if not key.startswith("spark.") or key == "spark.master"):
            raise ValueError(
                f"names of Spark start with spark., and its master is spark.master; found {', '.join(wrong)}"
            )
        return conf


class ValidationSettings(Settings):
    """How much bad data a day may hold and still be published without it."""

    max_quarantine_share: float = Field(0.05, ge=0, le=1, description="of a table's rows of a day; above it: refused")
