"""The one configuration tree, read once in `jobs.__main__` and handed down; frozen, unknown keys refused.

Values come from `infra/env/<env>.toml` (TIDEGATE_ENV names it, `local` by default), overridden by `TIDEGATE__A__B`
environment variables; what neither says keeps the default written beside the field. An override of a group
(`TIDEGATE__GATE='{"risk_days": 7}'`) changes the keys it names and keeps the others; a more specific variable wins over
it. A list or a mapping is one value: it is given whole, as JSON.
"""

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator, model_validator

from jobs.errors import Misconfigured
from jobs.flow import EXPORTED, STAGES, VALIDATED
from jobs.mapping import TableMapping
from jobs.places import NO_SCHEME, Folder, Placed
from models.experiments.assignment import conflicts
from models.experiments.settings import ExperimentSettings
from models.settings import (
    OUTCOME_METRICS,
    SPAN,
    DelaySettings,
    GateSettings,
    OutcomeSettings,
    PolicySettings,
    RankerSettings,
    RetrievalSettings,
    Settings,
    TaskSettings,
    WatchSettings,
    WorldSettings,
    refuse_two,
    span_of,
    whole_days,
)

ROOT = Path(__file__).resolve().parents[1]
PREFIX = "TIDEGATE__"
IN_ONE_PROCESS = 0.5
"""Of the memory at hand; the rest is for what differs from the rows that bytes a row were measured on."""
OUTCOME_NAME = re.compile("[a-z][a-z0-9_]*")
TAKEN = ("click", "clicked", "conversion", "converted")
"""Names of what every impression has."""


@dataclass(frozen=True)
class Changes:
    """Which rows a setting can change: those of `first`, a stage, and of every stage to its right; None: no row.

    Said of a group for all in it, or of one field. `only`: the stages to the right do not read what it changes.
    """

    first: str | None
    only: bool = False

    def reaches(self, stage: str) -> bool:
        """Whether a row that `stage` writes can depend on the setting."""
        if self.first is None or self.only:
            return self.first == stage
        order = list(STAGES)
        return order.index(self.first) <= order.index(stage)


NO_ROW = Changes(None)
"""Of an address, a path, a limit on time or memory, a name of something outside the lake."""


class SourceSettings(Settings):
    """Where raw events come from; `parquet` means a team's loggers already write the raw lake."""

    name: str = Field("simulated", description="a file of jobs/sources: open-bandit is open_bandit.py")
    data: Annotated[Path | None, NO_SCHEME, NO_ROW] = Field(
        None, description="folder of a real log's files; the simulated world needs none"
    )
    live: Annotated[bool | None, NO_ROW] = Field(
        None, description="whether its logs still come, so that DAGs have a schedule; not set: those of parquet do"
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
        {}, description="mapped: by raw table, where its rows are and which of their columns is which"
    )

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
    prefix: str = Field("tidegate_", pattern="[A-Za-z_][A-Za-z0-9_.]*", description="of its tables' names")

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


class SurfaceLabelSettings(Settings):
    """What a click and a conversion are on one surface: what `clicked` and `converted` say of its impressions, to
    training, evidence and monitoring.
    """

    click: str | None = Field(
        None, description="a binary outcome of `outcomes` whose events count there in place of clicks; none: clicks do"
    )
    click_window_days: int | None = Field(
        None, ge=1, description="impression to that event, at most the general one; not set: the general one"
    )
    window_days: int | None = Field(
        None, ge=1, description="click to purchase, at most the general one; not set: the general one"
    )

    @property
    def span(self) -> timedelta | None:
        """Impression to that event; None: as everywhere."""
        return None if self.click_window_days is None else timedelta(days=self.click_window_days)

    @property
    def to_purchase(self) -> timedelta | None:
        """Click to purchase; None: as everywhere."""
        return None if self.window_days is None else timedelta(days=self.window_days)


class AttributionSettings(Settings):
    """Which clicks a purchase pays, and until when a missing one is unknown."""

    model: Literal["last_click", "first_click", "linear", "time_decay"] = "last_click"
    half_life_days: int = Field(7, ge=1, description="time decay: a click this much older earns half as much")
    window_days: int = Field(7, ge=1, description="click to purchase")
    window: str | None = Field(None, pattern=SPAN, description="the same, in place of it, in hours or minutes: 6h, 90m")
    click_window_days: Annotated[int, Changes("validate")] = Field(1, ge=1, description="impression to click")
    click_window: Annotated[str | None, Changes("validate")] = Field(
        None, pattern=SPAN, description="the same, in place of it; a dataset still waits for whole days of clicks"
    )
    late_days: Annotated[int, Changes("validate")] = Field(
        2, ge=0, description="how many days late an event may come, and how many apart two copies of one may lie"
    )
    surfaces: dict[str, SurfaceLabelSettings] = Field(
        {}, description="label rules of surfaces by name: click, click_window_days, window_days; a mapping, given whole"
    )

    @model_validator(mode="after")
    def _no_surface_waits_longer(self) -> Self:
        """Or a dataset's embargo would not close its clicks, nor anything ask again for its conversions."""
        for name, own in self.surfaces.items():
            for setting, mine, most in (
                ("click_window_days", own.span, self.to_click),
                ("window_days", own.to_purchase, self.to_purchase),
            ):
                if mine is not None and mine > most:
                    raise ValueError(
                        f"surfaces: {name}.{setting} must be at most the window of all, {most}; found {mine.days}"
                    )
        return self

    @model_validator(mode="after")
    def _each_window_is_given_once(self) -> Self:
        refuse_two(self, "window", "click_window")
        return self

    @property
    def to_purchase(self) -> timedelta:
        """Click to purchase."""
        return span_of(self.window, self.window_days)

    @property
    def to_click(self) -> timedelta:
        """Impression to click."""
        return span_of(self.click_window, self.click_window_days)

    @property
    def purchase_days(self) -> int:
        """Whole days that hold `to_purchase`: days of the lake are looked at whole."""
        return whole_days(self.to_purchase)

    @property
    def click_days(self) -> int:
        """Whole days that hold `to_click`."""
        return whole_days(self.to_click)


class FeatureSettings(Settings):
    """Windows and smoothing of the feature tables."""

    long_term_days: int = Field(30, ge=1, description="what a user's and an item's counts look back on")
    available_after_hours: int = Field(
        6,
        ge=0,
        le=23,
        description="so long after a day's end its features count as known, in training, replay and serving alike; the "
        "daily run must have published them by then",
    )
    prior_impressions: float = Field(20.0, gt=0, description="pseudo-impressions of a click rate")
    session_gap_minutes: int = Field(30, ge=1, description="a longer pause between a user's events ends the session")
    encoding_prior_impressions: float = Field(100.0, gt=0, description="pseudo-impressions of a target encoding")
    encoding_min_impressions: int = Field(10, ge=1, description="rarer values have no encoding; a default stands in")
    online: Annotated[bool | None, NO_ROW] = Field(
        None, description="publish the newest values to the online store; not set: where `endpoint.url` is"
    )
    online_store: Annotated[Literal["sqlite", "redis"], NO_ROW] = "sqlite"
    online_path: Annotated[Folder, NO_ROW] = Field(
        ROOT / "var" / "online", description="registry, and the SQLite online store"
    )
    redis_url: Annotated[str, NO_ROW] = Field("127.0.0.1:6379", description="host:port of the Redis online store")


class SelectionSettings(Settings):
    """Which train examples are kept, each off by default; validate and test days always are all traffic."""

    seed: int = Field(0, ge=0, lt=10**10, description="of every coin below")
    active_clicks: int = Field(
        0,
        ge=0,
        description="train on users who had clicked so many different items in the `active_days` days before the "
        "impression's; off by default, since the endpoint serves everybody",
    )
    active_days: int = Field(28, ge=1, description="see active_clicks")
    keep_anonymous: bool = Field(True, description="with `active_clicks`: whether impressions without a user are kept")
    same_items: Literal["item_id", "canonical", "content"] = Field(
        "canonical",
        description="when two ids are one item: never; where the raw column `feature_canonical_item_id` says so; "
        "also where title, category and price are equal",
    )
    duplicates: Literal["all", "last", "per_outcome", "clicked_else_last"] = Field(
        "all", description="what is kept of a user's impressions of one item; the first and third keep p calibrated"
    )
    duplicate_days: int = Field(1, ge=1, description="within so many days, counted back from the last train day")
    negative_rate: float = Field(1.0, gt=0, le=1, description="unclicked impressions kept, each then weighing 1 / rate")
    max_train_rows: int | None = Field(None, ge=1, description="about so many are kept, shared out among the surfaces")
    surface_shares: Literal["traffic", "revenue"] | dict[str, float] = Field(
        "traffic", description="in proportion to what; or each surface's share by name, the others left out"
    )

    @model_validator(mode="after")
    def _shares_have_rows_to_share(self) -> Self:
        if self.surface_shares != "traffic" and self.max_train_rows is None:
            raise ValueError("surface_shares share out max_train_rows; it is not set")
        if isinstance(self.surface_shares, dict) and not all(share > 0 for share in self.surface_shares.values()):
            raise ValueError("surface_shares must be above 0; leave out the surfaces that are not wanted")
        return self

    @property
    def any(self) -> bool:
        """Whether any row can be left out or weigh other than 1."""
        counts = self.active_clicks > 0 or self.max_train_rows is not None
        return counts or self.duplicates != "all" or self.negative_rate < 1


class RetrievalNegativeSettings(Settings):
    """Random negatives for a retrieval model, drawn from the whole catalogue into a table of their own."""

    per_click: int = Field(0, ge=0, description="drawn against each train click; 0: none")
    popularity_exponent: float = Field(
        0.75, ge=0, le=1, description="an item is drawn in proportion to (impressions + 1) to this power; 0: uniformly"
    )
    seed: int = Field(0, ge=0, lt=10**10, description="of the draws")


class DatasetSettings(Settings):
    """The rolling window: train, then validate, then test, by event time; the newest days are embargoed.

    The embargo is attribution's click window: a click that may still come is unknown, not zero.
    """

    train_days: int = Field(28, ge=1, description="days learned from")
    validate_days: int = Field(1, ge=1, description="days after them: rankers stop, are calibrated and chosen by these")
    test_days: int = Field(1, ge=1, description="days after those: candidates are judged on these")
    warm_train_days: int = Field(3, ge=1, description="how much of the train window a daily warm start sees")
    without_surfaces: tuple[str, ...] = Field(
        (), description="surfaces that no model of this pipeline is for: those that rank other entities"
    )
    selection: SelectionSettings = SelectionSettings()
    retrieval: Annotated[RetrievalNegativeSettings, Changes("assemble", only=True)] = RetrievalNegativeSettings()


class WarmStartSettings(Settings):
    """When a chain of warm starts has gone on for too long, or one of them too far."""

    max_depth: int = Field(
        7, ge=1, description="warm starts in a row of a kind; one more is refused until a full training"
    )
    max_drift: float = Field(
        0.5,
        gt=0,
        description="mean change of p_click's logit against what is continued, on the chain's frozen probe rows; above "
        "it an alarm, and a warning on the evidence",
    )
    max_losses: int = Field(
        2, ge=1, description="warm starts in a row that lose to what they continue; then a full training is started"
    )


class TrackingSettings(Settings):
    """MLflow: where runs are logged and under which name models are registered."""

    uri: str = Field(
        f"sqlite:///{ROOT / 'var' / 'mlflow' / 'mlflow.db'}",
        min_length=1,
        description="of MLflow: a server, or a database",
    )
    artifacts: Folder = Field(ROOT / "var" / "mlflow" / "artifacts", description="used when `uri` is a database")
    experiment: str = Field("tidegate", description="the experiment that runs are logged in")
    model: str = Field("tidegate-ranker", description="the name that candidates are registered under")


class ServedSurfaceSettings(Settings):
    """What a surface is given of each request's time and of the bundle's stages.

    How many candidates a light ranker leaves the ranker, and how slates are drawn, is no setting of serving: evidence
    judged that, and it travels in the bundle. One ranker has one thread, so that there are no threads to share out.
    """

    k: int = Field(10, ge=1, le=200, description="items of an answer where the request does not say")
    most_k: int = Field(200, ge=1, le=200, description="no request may want more")
    retrieve: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="candidates found where a request brings none; not set: the bundle's own number",
    )
    timeout_ms: int | None = Field(None, ge=1, description="from a request's arrival; not set: `endpoint.timeout_ms`")
    cached: int = Field(
        0,
        ge=0,
        description="requests whose scores are held for the same user, words and candidates until the next publication;"
        " every request has a draw of its own",
    )

    @model_validator(mode="after")
    def _shows_no_more_than_it_may(self) -> Self:
        if self.k > self.most_k:
            raise ValueError(f"k must be at most most_k; found {self.k} and {self.most_k}")
        return self

    def seconds(self, usual: float) -> float:
        """A request's budget from its arrival, where the endpoint's `usual` one is so many seconds."""
        return usual if self.timeout_ms is None else self.timeout_ms / 1000


FILL_IN = "FILL IN"
"""How a value begins that a file of settings cannot know."""


class AwsSettings(Settings):
    """What an endpoint needs of an AWS account; without a bucket its models are folders, which only ours can read."""

    bucket: str | None = Field(None, min_length=3, description="bundles lie there as model.tar.gz")
    prefix: str = Field("tidegate", min_length=1, description="of every key in the bucket")
    role: str = Field("arn:aws:iam::000000000000:role/tidegate", description="what SageMaker may do, on our behalf")
    image: str = Field("tidegate-serving", min_length=1, description="of infra/containers, in the account's registry")
    instance_type: str = Field("ml.m5.large", pattern=r"ml\.[a-z0-9.-]+", description="what a variant runs on")
    instances: int = Field(1, ge=1, description="of a variant; the fewest, where they are scaled")
    most_instances: int | None = Field(None, ge=1, description="application autoscaling goes up to so many; none: off")
    invocations_per_instance: float = Field(3000.0, gt=0, description="a minute; what autoscaling aims at")
    bake_seconds: int = Field(
        0, ge=0, le=3600, description="a model that goes live is watched so long by alarms of its own; 0: by none"
    )
    kept_seconds: int = Field(0, ge=0, le=3600, description="with `bake_seconds`: the old one stays loaded so long")
    alarm_seconds: int = Field(60, ge=10, multiple_of=10, description="period of an alarm")
    alarming_errors: float = Field(0.01, gt=0, lt=1, description="share of answers of status 5xx")
    alarming_p99_ms: float = Field(100.0, gt=0, description="99th percentile of the model's own time")
    s3_url: str | None = Field(None, description="where AWS itself is not meant; so are the next two")
    cloudwatch_url: str | None = Field(None, description="of alarms")
    autoscaling_url: str | None = Field(None, description="of scaling targets")

    @model_validator(mode="after")
    def _most_is_not_below_the_fewest(self) -> Self:
        if self.most_instances is not None and self.most_instances < self.instances:
            raise ValueError(
                f"most_instances must be at least instances, {self.instances}; found {self.most_instances}"
            )
        return self


class EndpointSettings(Settings):
    """The SageMaker contract; one URL changes it from the local endpoint to AWS."""

    url: str = Field(
        "http://127.0.0.1:8700",
        description="of the control plane and of invocations, the local endpoint's; `aws`: SageMaker, which has two",
    )
    name: str = Field("tidegate", description="of the endpoint, and of its row in the ledger")
    region: str = Field("eu-central-1", description="as AWS names them")
    timeout_ms: int = Field(60, ge=1, description="from a request's arrival; then popularity answers")
    state: Folder = Field(ROOT / "var" / "endpoint", description="the local endpoint's registry and data capture")
    processes: int = Field(1, ge=1, le=64, description="of an instance of a variant; one for each core that is its own")
    most_processes: int = Field(
        4, ge=1, le=64, description="of a variant, however many instances are asked for; never fewer than `processes`"
    )
    hung_seconds: float = Field(10.0, gt=0, description="without an answer to a ping; then a process is begun anew")
    keep_loaded_seconds: float = Field(600.0, ge=0, description="after its last request, for a way back without a load")
    alarms_url: str | None = Field(
        None, description="the CloudWatch whose alarms roll updates of the local endpoint back; none by default"
    )
    precomputed_mib: int = Field(
        1024,
        ge=0,
        description="what a process may hold of each day's items for its network; above, and with 0, every request"
        " makes its own: a million items are about 600 at the default sizes",
    )
    aws: AwsSettings = AwsSettings()
    surfaces: dict[str, ServedSurfaceSettings] = Field(
        {},
        description="by name; those not named have the defaults. A surface that neither this nor the bundle's training"
        " knows is refused",
    )

    @property
    def on_aws(self) -> bool:
        """Whether AWS itself is meant, no server at an address of ours."""
        return self.url == "aws"

    def filled_in(self) -> Self:
        """Itself; raises `Misconfigured` naming what of AWS's is asked for and a team must still say."""
        if self.on_aws or self.aws.bucket is not None:
            open_ones = [name for name, value in self.aws if isinstance(value, str) and value.startswith(FILL_IN)]
            if self.on_aws and self.aws.bucket is None:
                open_ones.append("bucket")
            if open_ones:
                names = ", ".join(f"endpoint.aws.{name}" for name in open_ones)
                raise Misconfigured(f"the endpoint needs {names}; found nothing that a team has filled in")
        return self

    @field_validator("surfaces")
    @classmethod
    def _are_named(cls, surfaces: dict[str, ServedSurfaceSettings]) -> dict[str, ServedSurfaceSettings]:
        if wrong := [name for name in surfaces if not name.strip() or len(name) > 256]:
            raise ValueError(f"surfaces need names of 1 to 256 characters; found {wrong}")
        return surfaces

    @model_validator(mode="after")
    def _surfaces_have_no_more_time(self) -> Self:
        """A ranker's lane is made for `timeout_ms`: it would not take work that is done later."""
        for name, own in sorted(self.surfaces.items()):
            if own.timeout_ms is not None and own.timeout_ms > self.timeout_ms:
                raise ValueError(
                    f"surfaces.{name}.timeout_ms must be at most timeout_ms, {self.timeout_ms}; found {own.timeout_ms}"
                )
        return self


class ReleaseSettings(Settings):
    """The way of an approved model from no traffic to all of it, and what ends it on the way.

    A share of bad answers is tested as they come (`models.evaluation.sequential`): an alarming one rolls back, a
    tolerated one passes, what tells neither waits. All tests of a release share its risk. By default a release has one
    step, all at once: where nobody asks, nothing can be watched.
    """

    approvers: tuple[str, ...] = Field(
        (),
        description="who may answer in Airflow and whose yes counts, by name; `name:id` where Airflow's auth manager "
        "knows its users by another id (FAB: a number); none: whoever may answer there",
    )
    shadow_percent: float = Field(0.0, ge=0, le=100, description="requests that a shadow answers unseen; 0: no shadow")
    canary_percent: tuple[float, ...] = Field((), description="shares of the traffic, each above the one before")
    holdout_percent: float = Field(
        0.0, ge=0, lt=50, description="users who stay with the model before once the new one is live; 0: nobody"
    )
    watch_seconds: int = Field(300, ge=0, description="the least time at a step")
    patience_seconds: int = Field(3600, ge=0, description="at a step; one that has not passed by then is rolled back")
    poll_seconds: int = Field(60, ge=1, description="between two looks of a watch in Airflow")
    answer_hours: int = Field(0, ge=0, description="until a question in Airflow is a no if nobody answers; 0: no limit")
    risk: float = Field(
        0.01, gt=0, lt=1, description="that a tolerable release is rolled back; or a bad one passes a rule"
    )
    tolerated_failed: float = Field(1e-3, gt=0, lt=1, description="answers whose ranker raised")
    alarming_failed: float = Field(1e-2, gt=0, lt=1, description="such a share rolls back")
    tolerated_fallback: float = Field(0.02, gt=0, lt=1, description="answers that popularity made, for whatever reason")
    alarming_fallback: float = Field(0.1, gt=0, lt=1, description="such a share rolls back")
    tolerated_slow: float = Field(0.01, gt=0, lt=1, description="answers that took longer than `slow_ms`: 0.01 is p99")
    alarming_slow: float = Field(0.05, gt=0, lt=1, description="such a share rolls back")
    slow_ms: int = Field(100, ge=1, description="from a request's arrival")
    max_times: float = Field(
        3.0, ge=1, description="a canary's share of each such answers over the champion's in the same time"
    )
    min_same_top: float = Field(
        0.0, ge=0, le=1, description="shadow: requests whose first item is the champion's; 0: no limit"
    )
    min_overlap: float = Field(0.0, ge=0, le=1, description="shadow: of its items with the champion's; 0: no limit")
    min_rank_correlation: float = Field(
        -1.0, ge=-1, le=1, description="shadow: Kendall's tau of the items of both; -1: no limit"
    )
    max_level_ratio: float = Field(
        10.0, ge=0, description="shadow: mean p_click over the champion's, and the other way round; 0: no limit"
    )
    max_latency_ratio: float = Field(
        0.0, ge=0, description="shadow: its time over the champion's, oftener than not; 0: no limit"
    )
    click_minutes: int = Field(
        15, ge=1, description="canary: a click so long after its request counts; the request counts once that is over"
    )
    click_log: str | None = Field(
        None,
        min_length=1,
        description="canary: where impressions and clicks lie by the hour, a folder or s3://bucket/prefix; not set:"
        " `lake.raw`",
    )
    tolerated_clicks_drop: float = Field(
        0.05, ge=0, lt=1, description="canary: clicked requests below the champion's, relative; more rolls back"
    )

    replay_answers: int = Field(
        500, ge=0, description="of a step, the newest, that a watch has answered again offline; 0: none"
    )
    max_replay_difference: float = Field(
        1e-4, gt=0, description="between the captured and the replayed score, probability or propensity of an item"
    )
    max_replay_share: float = Field(
        0.01, ge=0, le=1, description="replayed answers that differ; above it a release goes back, and monitor alarms"
    )

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of the steps between the approval and live."""
        return (*(("shadow",) if self.shadow_percent else ()), *(f"canary-{share:g}" for share in self.canary_percent))

    @property
    def approver_ids(self) -> dict[str, str]:
        """Of each approver's name the id under which Airflow's auth manager knows them."""
        return {name: own or name for name, _, own in (approver.partition(":") for approver in self.approvers)}

    @field_validator("canary_percent")
    @classmethod
    def _rise(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if list(shares) != sorted(set(shares)) or not all(0 < share < 100 for share in shares):
            raise ValueError("must be above 0, rise, and stay below 100, which is live")
        return shares

    @model_validator(mode="after")
    def _alarms_are_above_what_is_tolerated(self) -> Self:
        for what in ("failed", "fallback", "slow"):
            tolerated, alarming = getattr(self, f"tolerated_{what}"), getattr(self, f"alarming_{what}")
            if tolerated >= alarming:
                raise ValueError(f"alarming_{what} must be above tolerated_{what}; found {alarming} and {tolerated}")
        return self

    @model_validator(mode="after")
    def _patience_outlasts_the_watch(self) -> Self:
        if self.patience_seconds < self.watch_seconds:
            raise ValueError(
                f"patience_seconds must be at least watch_seconds, {self.watch_seconds}; found {self.patience_seconds}"
            )
        return self


class MonitoringSettings(WatchSettings):
    """When the daily serving report raises an alarm; an alarm is a figure, it never fails the stage."""

    max_skew: float = Field(1e-3, gt=0, description="|served - recomputed p_click| of any impression")
    max_fallback_share: float = Field(0.05, ge=0, le=1, description="impressions that popularity answered")
    max_value_drop: float = Field(0.5, gt=0, description="clicks per request below the evidence's estimate, relative")


class TimeoutSettings(Settings):
    """How long one try of a stage may take in Airflow; then it is ended, with all it started, and tried again.

    Against a stage that hangs, so each is several times what a large day takes: raise one before the day outgrows it.
    """

    ingest_minutes: int = Field(120, ge=1, description="of one try of `ingest`")
    validate_minutes: int = Field(120, ge=1, description="of one try of `validate`")
    attribute_minutes: int = Field(120, ge=1, description="of one try of `attribute`")
    featurize_minutes: int = Field(120, ge=1, description="of one try of `featurize`")
    assemble_minutes: int = Field(180, ge=1, description="of one try of `assemble`")
    train_minutes: int = Field(480, ge=1, description="of one try of `train`")
    backtest_minutes: int = Field(240, ge=1, description="of one try of `backtest`")
    promote_minutes: int = Field(30, ge=1, description="of one try of `promote`")
    deploy_minutes: int = Field(60, ge=1, description="of one try of `deploy`")
    monitor_minutes: int = Field(60, ge=1, description="of one try of `monitor`")
    experiment_minutes: int = Field(60, ge=1, description="of one try of `experiment`")
    reevaluate_minutes: int = Field(240, ge=1, description="of one try of `reevaluate`")
    export_minutes: int = Field(120, ge=1, description="of one try of `export`")

    def of(self, stage: str) -> int:
        """Minutes of one try of a stage."""
        return int(getattr(self, f"{stage}_minutes"))


class Config(Settings):
    """Every setting of Tidegate; each says, itself or by its group, which rows it can change."""

    env: Annotated[Literal["local", "test", "prod"], NO_ROW] = "local"
    bundles: Annotated[Placed, NO_ROW] = Field(
        ROOT / "var" / "bundles", description="one directory per trained model; a folder here or `s3://bucket/prefix`"
    )
    source: Annotated[SourceSettings, Changes("ingest")] = SourceSettings()
    lake: Annotated[LakeSettings, NO_ROW] = LakeSettings()
    export: Annotated[ExportSettings, NO_ROW] = ExportSettings()
    world: Annotated[WorldSettings, Changes("ingest")] = WorldSettings()
    spark: Annotated[SparkSettings, NO_ROW] = SparkSettings()
    # How much may be bad decides whether a day is published, not what it then says.
    validation: Annotated[ValidationSettings, NO_ROW] = ValidationSettings()
    attribution: Annotated[AttributionSettings, Changes("attribute")] = AttributionSettings()
    outcomes: Annotated[dict[str, OutcomeSettings], Changes("attribute")] = Field(
        {}, description="further outcomes by name, beside click and conversion; a mapping, given whole"
    )
    features: Annotated[FeatureSettings, Changes("featurize")] = FeatureSettings()
    dataset: Annotated[DatasetSettings, Changes("assemble")] = DatasetSettings()
    tasks: Annotated[TaskSettings, Changes("assemble")] = TaskSettings()
    delays: Annotated[DelaySettings, Changes("train")] = DelaySettings()
    ranker: Annotated[RankerSettings, Changes("train")] = RankerSettings()
    warm: Annotated[WarmStartSettings, Changes("train")] = WarmStartSettings()
    retrieval: Annotated[RetrievalSettings, Changes("train")] = RetrievalSettings()
    policy: Annotated[PolicySettings, Changes("train")] = PolicySettings()
    gate: Annotated[GateSettings, Changes("train")] = GateSettings()
    tracking: Annotated[TrackingSettings, NO_ROW] = TrackingSettings()
    endpoint: Annotated[EndpointSettings, NO_ROW] = EndpointSettings()
    release: Annotated[ReleaseSettings, NO_ROW] = ReleaseSettings()
    monitoring: Annotated[MonitoringSettings, Changes("monitor")] = MonitoringSettings()
    experiments: Annotated[tuple[ExperimentSettings, ...], Changes("experiment", only=True)] = Field(
        (), description="A/B tests, running or over, as `models/experiments/settings.py` tells; a list, given whole"
    )
    timeouts: Annotated[TimeoutSettings, NO_ROW] = TimeoutSettings()

    @field_validator("outcomes")
    @classmethod
    def _are_named_like_columns(cls, outcomes: dict[str, OutcomeSettings]) -> dict[str, OutcomeSettings]:
        wrong = [name for name in outcomes if not OUTCOME_NAME.fullmatch(name) or name in TAKEN]
        if wrong:
            taken = ", ".join(TAKEN)
            raise ValueError(f"outcomes need names of a-z, 0-9 and _ other than {taken}; found {', '.join(wrong)}")
        return dict(sorted(outcomes.items()))

    @field_validator("experiments")
    @classmethod
    def _share_no_users(cls, experiments: tuple[ExperimentSettings, ...]) -> tuple[ExperimentSettings, ...]:
        if wrong := conflicts([one.design for one in experiments]):
            raise ValueError(f"experiments of a layer must not meet; found that {'; '.join(wrong)}")
        return experiments

    @model_validator(mode="after")
    def _scores_weigh_probabilities(self) -> Self:
        further = (name for name, of in self.outcomes.items() if of.kind == "binary" or of.quantiles_by)
        known = ["click", "conversion", *further]
        wrong = sorted(set(self.policy.score_weights) - set(known))
        if wrong:
            raise ValueError(
                f"policy.score_weights: outcomes between 0 and 1 are {', '.join(known)}; found {', '.join(wrong)}"
            )
        return self

    @model_validator(mode="after")
    def _labels_are_declared_outcomes(self) -> Self:
        longest = self.attribution.click_days
        fit = [name for name, of in self.outcomes.items() if of.kind == "binary" and of.through is None]
        fit = [name for name in fit if whole_days(self.outcomes[name].span) <= longest]
        wrong = {name: own.click for name, own in self.attribution.surfaces.items() if own.click not in (None, *fit)}
        if wrong:
            raise ValueError(
                f"attribution.surfaces: a click can be a binary outcome that is not through another, within {longest}"
                f" days: {', '.join(fit) or 'none is declared'}; found {wrong}"
            )
        return self

    @model_validator(mode="after")
    def _gate_names_declared_outcomes(self) -> Self:
        named = [name for name in (*self.gate.must_rise, *self.gate.outcomes_must_not_fall) if "." in name]
        known = {f"{name}.{metric}" for name, of in self.outcomes.items() for metric in OUTCOME_METRICS[of.kind]}
        if wrong := sorted(set(named) - known):
            there = ", ".join(sorted(known)) or "none: no further outcome is declared"
            raise ValueError(f"gate: metrics of further outcomes are {there}; found {', '.join(wrong)}")
        return self

    @property
    def online(self) -> bool:
        """Whether the newest features go online: where it is said, else where an endpoint is configured."""
        said = self.features.online
        return "url" in self.endpoint.model_fields_set if said is None else said

    def digest(self, stage: str) -> str:
        """Sixteen hex digits that change with every setting that can change a row `stage` writes, and with no other.

        Evidence carries that of `backtest`: neither an address nor an alarm's threshold changes its sha256. A bundle
        carries the settings of its rankers alone: what else made it, its data's sha256 tells.
        """
        meaning = {path: value for path, value, changes in _leaves(self) if changes.reaches(stage)}
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:16]


def _leaves(group: BaseModel, above: Changes | None = None, path: str = "") -> Iterator[tuple[str, Any, Changes]]:
    """Path, value as JSON has it, and what it can change, of every setting of a group.

    Raises `TypeError` for one that says it neither itself nor by its group: a bug, whoever adds it must decide.
    """
    values = group.model_dump(mode="json")
    for name, field in type(group).model_fields.items():
        changes = next((said for said in field.metadata if isinstance(said, Changes)), above)
        below = getattr(group, name)
        if isinstance(below, Settings):
            yield from _leaves(below, changes, f"{path}{name}.")
        elif changes is None:
            raise TypeError(f"{path}{name} must say which rows it Changes")
        else:
            yield path + name, values[name], changes


def load(environ: Mapping[str, str] | None = None) -> Config:
    """The resolved tree; raises `Misconfigured` naming every key that is unknown or of the wrong kind."""
    variables = dict(os.environ if environ is None else environ)
    env = variables.get("TIDEGATE_ENV", "local")
    path = ROOT / "infra" / "env" / f"{env}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.toml")))
        raise Misconfigured(f"TIDEGATE_ENV must name one of {known}; found {env!r}")
    tree: dict[str, Any] = {"env": env, **tomllib.loads(path.read_text())}
    for keys, text in _overrides(variables):
        _merge(tree, Config, _nested(keys, text))
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        # A default that is made of a wrong setting is no second mistake.
        errors = [e for e in error.errors() if e["type"] != "default_factory_not_called"]
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}, found {e['input']!r}" for e in errors)
        raise Misconfigured(f"settings of {path.name} and {PREFIX}* must fit jobs.config.Config; {found}") from error


def _overrides(variables: Mapping[str, str]) -> list[tuple[tuple[str, ...], str]]:
    """Path and text of every override, the wider first, so that the more specific of two wins."""
    found: dict[tuple[str, ...], str] = {}
    for name, text in variables.items():
        if name.startswith(PREFIX):
            keys = tuple(name.removeprefix(PREFIX).lower().split("__"))
            if keys in found:
                raise Misconfigured(f"{'.'.join(keys)} needs one variable {PREFIX}*; found {name} beside another")
            found[keys] = text
    return sorted(found.items(), key=lambda override: (len(override[0]), override[0]))


def _nested(keys: tuple[str, ...], text: str) -> dict[str, Any]:
    """One override as the piece of the tree it stands for; pydantic turns its text into the field's type.

    JSON is read where it says what a text cannot: an object or a list; and, where the field may be None, `null` and a
    quoted string (`"null"` is then the text). Raises `Misconfigured` for a path through a value, which is given whole.
    """
    group: type[BaseModel] | None = Config
    for key in keys[:-1]:
        if group is not None and key in group.model_fields and _group(group, key) is None:
            name = PREFIX + "__".join(keys).upper()
            raise Misconfigured(f"{name} needs {key!r} to be a group; found a value, which is given whole")
        group = _group(group, key)
    optional = group is not None and type(None) in _kinds(group, keys[-1])
    value: Any = text
    with suppress(ValueError):
        parsed = json.loads(text)
        if isinstance(parsed, list | dict) or (optional and isinstance(parsed, str | None)):
            value = parsed
    for key in reversed(keys):
        value = {key: value}
    return dict(value)


def _merge(tree: dict[str, Any], group: type[BaseModel], given: Mapping[str, Any]) -> None:
    """Put an override into the tree: a group key by key, so that its other keys stay; anything else whole."""
    for key, value in given.items():
        below = _group(group, key)
        if below is None or not isinstance(value, dict):
            tree[key] = value
            continue
        child = tree.setdefault(key, {})
        if not isinstance(child, dict):
            raise Misconfigured(f"{key!r} needs to be a group of settings; found {child!r}")
        _merge(child, below, value)


def _kinds(group: type[BaseModel], key: str) -> tuple[Any, ...]:
    """The types a field may have; none where there is no such field. A mapping or list is one, whatever it holds."""
    field = group.model_fields.get(key)
    if field is None:
        return ()
    return (
        (field.annotation,)
        if get_origin(field.annotation) in (dict, tuple)
        else get_args(field.annotation) or (field.annotation,)
    )


def _group(group: type[BaseModel] | None, key: str) -> type[BaseModel] | None:
    """The class of a field that is a group of settings itself; None for any other."""
    kinds = () if group is None else _kinds(group, key)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Settings)), None)


def environment(config_overrides: dict[str, str]) -> dict[str, str]:
    """This process's environment with overrides (`{"lake.root": "..."}`), for a child process to load."""
    overrides = {PREFIX + key.replace(".", "__").upper(): value for key, value in config_overrides.items()}
    return {**os.environ, **overrides}
