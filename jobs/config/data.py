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
    """Collecting events from Kafka topics (`source.name=kafka`), and when a day of them is complete."""

    servers: str = Field("", description="the brokers, host:port, separated by commas")
    group: str = Field(
        "tidegate", min_length=1, description="consumer group under which brokers are told how far has been read"
    )
    batch_rows: int = Field(50_000, ge=1, description="maximum number of records of a table that are written at once")
    batch_seconds: int = Field(300, ge=1, description="time after which records are written, however few there are")
    lateness_minutes: int = Field(
        30, ge=0, description="how long after it happened an event may reach its topic; a day is not complete before"
    )
    idle_minutes: int = Field(
        30,
        ge=0,
        description="a partition that is read to its end without an event after the day delays the day by so much more",
    )
    properties: dict[str, SecretStr] = Field(
        {},
        description="librdkafka's own properties by name, such as security.protocol and sasl.password; a mapping, "
        "given whole; its values are never shown",
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
        None, description="folder with the files of a real log; the simulated world needs none"
    )
    live: Annotated[bool | None, NO_ROW] = Field(
        None,
        description="whether new logs still arrive, so that DAGs have a schedule; not set: true for parquet and kafka",
    )
    daily: Annotated[tuple[str, ...], NO_ROW] = Field(
        (),
        description="raw tables that have a file every day, besides impressions, which always do: a day without one "
        "is not ready. For any other table, no file means that nothing happened",
    )

    url: Annotated[SecretStr | None, NO_ROW] = Field(
        None, description="mapped: the database that is queried, see jobs.warehouse; none: DuckDB, over files"
    )
    mapping: dict[str, TableMapping] = Field(
        {}, description="mapped, kafka: for each raw table, where its rows are and which of their columns is which"
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
    """A team's own database for the results; if it has an address, `daily_monitoring` ends with the export."""

    url: SecretStr | None = Field(
        None, description="address of the database, see jobs.warehouse; none: nothing is exported"
    )
    tables: tuple[str, ...] = Field(EXPORTED, description="tables of the lake to export")
    prefix: str = Field(
        "tidegate_", pattern="^[A-Za-z_][A-Za-z0-9_.]*$", description="prefix of the exported tables' names"
    )

    @field_validator("tables")
    @classmethod
    def _can_be_read(cls, tables: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := sorted(set(tables) - set(EXPORTED)):
            raise ValueError(f"tables are {', '.join(EXPORTED)}; found {', '.join(wrong)}")
        return tables


class LakeSettings(Settings):
    """Where tables are stored, and how late they may be. A location is a local folder or `s3://bucket/prefix`."""

    root: Placed = Field(ROOT / "var" / "lake", description="Delta tables; a local folder or `s3://bucket/prefix`")
    raw: Placed = Field(
        ROOT / "var" / "raw",
        description="raw events, date=YYYY-MM-DD/hour=HH, as loggers write them; a local folder or "
        "`s3://bucket/prefix`",
    )
    results: Placed = Field(
        default_factory=lambda data: data["root"].parent / "validations",
        description="results of the suites, one JSON file per table and day; by default beside the Delta tables",
    )
    runs: Folder = Field(
        default_factory=lambda data: (data["root"].parent if isinstance(data["root"], Path) else ROOT / "var") / "runs",
        description="result of each stage's last run, for node exporter's textfile collector; a local folder, by "
        "default beside local Delta tables",
    )
    retain_days: int | None = Field(
        30,
        ge=1,
        description="how long every version of a table stays readable, with the files it replaced; after that only "
        "versions used by a model that serves, may serve or is being judged; none: all of them, for ever",
    )
    stale_hours: int | None = Field(
        None,
        ge=25,
        description="time after its end by which a day must be published, otherwise an alarm; none: for logs that "
        "have ended",
    )


class SparkSettings(Settings):
    """The Spark session every distributed stage opens."""

    master: str = Field(
        "local[2]",
        description="where Spark runs; empty: a session somebody else starts or owns, such as spark-submit or a "
        "notebook",
    )
    python: str | None = Field(
        None,
        description="interpreter of the executors, with the same minor version as this one; not set: this one on "
        "`local`, elsewhere PYSPARK_PYTHON or `python3`",
    )
    driver_memory_mb: int = Field(
        1536, ge=512, description="memory of a driver started here; on `local`, of the whole JVM"
    )
    partitions: int = Field(
        4, ge=1, description="shuffle partitions on `local`; everywhere, the minimum number of buckets of a stage"
    )
    from_rows: int | None = Field(
        None,
        ge=0,
        description="input rows from which Spark distributes a stage; below, one process runs the same core at a "
        "fraction of the cost; 0: always Spark; not set: if one process would need more than half of the free memory",
    )
    conf: dict[str, str] = Field(
        {},
        description="Spark's own settings by their full names; they override what is set here; a mapping, given whole",
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
    """How much bad data a day may contain and still be published without it."""

    max_quarantine_share: float = Field(
        0.05, ge=0, le=1, description="maximum share of a table's rows of a day; above it the day is refused"
    )
