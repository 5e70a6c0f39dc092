"""Settings of the last mile: the endpoint here or on AWS, releases, and the daily report's alarms."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from jobs.config.base import ROOT
from jobs.errors import Misconfigured
from jobs.places import Folder
from models.settings import Settings, WatchSettings


class ServedSurfaceSettings(Settings):
    """A surface's time limit and sizes.

    How many candidates a light ranker leaves the ranker, and how slates are drawn, are not settings of serving: the
    evidence judged them, and they are part of the bundle. A ranker has one thread, so there are no threads to divide.
    """

    k: int = Field(10, ge=1, le=200, description="items of an answer if the request does not say")
    most_k: int = Field(200, ge=1, le=200, description="maximum number of items that a request may ask for")
    retrieve: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="candidates retrieved if a request brings none; not set: the bundle's own number",
    )
    timeout_ms: int | None = Field(None, ge=1, description="from a request's arrival; not set: `endpoint.timeout_ms`")
    cached: int = Field(
        0,
        ge=0,
        description="requests whose scores are cached for the same user, words and candidates until the next "
        "publication; each request still has its own draw",
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
    """What an endpoint needs from an AWS account; without a bucket, models are folders for the local endpoint only."""

    bucket: str | None = Field(None, min_length=3, description="bucket for bundles as model.tar.gz")
    prefix: str = Field("tidegate", min_length=1, description="prefix of every key in the bucket")
    role: str = Field("arn:aws:iam::000000000000:role/tidegate", description="role in which SageMaker runs the models")
    image: str = Field(
        "tidegate-serving", min_length=1, description="image of infra/containers, in the account's registry"
    )
    instance_type: str = Field("ml.m5.large", pattern=r"^ml\.[a-z0-9.-]+$", description="instance type of a variant")
    instances: int = Field(1, ge=1, description="instances of a variant; the minimum, if they are scaled")
    most_instances: int | None = Field(None, ge=1, description="maximum for application autoscaling; none: off")
    invocations_per_instance: float = Field(3000.0, gt=0, description="target of autoscaling, per minute")
    bake_seconds: int = Field(
        0, ge=0, le=3600, description="how long alarms of its own watch a model that goes live; 0: no such alarms"
    )
    kept_seconds: int = Field(0, ge=0, le=3600, description="with `bake_seconds`: how long the old model stays loaded")
    alarm_seconds: int = Field(60, ge=10, multiple_of=10, description="period of an alarm")
    alarming_errors: float = Field(0.01, gt=0, lt=1, description="share of answers of status 5xx")
    alarming_p99_ms: float = Field(100.0, gt=0, description="99th percentile of the model's own time")
    s3_url: str | None = Field(None, description="address of S3, if not AWS itself; the next two likewise")
    cloudwatch_url: str | None = Field(None, description="address of CloudWatch, for alarms")
    autoscaling_url: str | None = Field(None, description="address of autoscaling, for scaling targets")

    @model_validator(mode="after")
    def _most_is_not_below_the_fewest(self) -> Self:
        if self.most_instances is not None and self.most_instances < self.instances:
            raise ValueError(
                f"most_instances must be at least instances, {self.instances}; found {self.most_instances}"
            )
        return self


class EndpointSettings(Settings):
    """The SageMaker contract; one URL switches from the local endpoint to AWS."""

    url: str = Field(
        "http://127.0.0.1:8700",
        description="address of the local endpoint, for control plane and invocations; `aws`: SageMaker, which has two",
    )
    name: str = Field("tidegate", description="name of the endpoint, and of its row in the ledger")
    region: str = Field("eu-central-1", description="AWS's name of the region")
    timeout_ms: int = Field(60, ge=1, description="from a request's arrival; then popularity answers")
    state: Folder = Field(ROOT / "var" / "endpoint", description="the local endpoint's registry and data capture")
    processes: int = Field(
        1, ge=1, le=64, description="processes per instance of a variant; one per core that it does not share"
    )
    most_processes: int = Field(
        4,
        ge=1,
        le=64,
        description="maximum processes of a variant, however many instances are requested; never fewer than "
        "`processes`",
    )
    hung_seconds: float = Field(
        10.0, gt=0, description="a process that does not answer a ping for so long is restarted"
    )
    keep_loaded_seconds: float = Field(
        600.0,
        ge=0,
        description="how long a model stays loaded after its last request, so that going back needs no load",
    )
    alarms_url: str | None = Field(
        None,
        description="address of the CloudWatch whose alarms roll back updates of the local endpoint; none by default",
    )
    precomputed_mib: int = Field(
        1024,
        ge=0,
        description="memory in which a process may precompute the items' part of its network each day; above it, and "
        "with 0, every request computes its own; a million items take about 600 at the default sizes",
    )
    aws: AwsSettings = AwsSettings()
    surfaces: dict[str, ServedSurfaceSettings] = Field(
        {},
        description="by name; surfaces not named have the defaults. A surface that is neither here nor in the "
        "bundle's training data is refused",
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
                raise Misconfigured(f"the endpoint needs {names}; found none set")
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
    """How an approved model gets from no traffic to all of it, and what stops it on the way.

    A share of bad answers is tested as answers arrive (`models.evaluation.sequential`): an alarming share rolls back, a
    tolerated one passes, an undecided one waits. All tests of a release share its risk. By default a release has one
    step, all at once: without requests there is nothing to watch.
    """

    approvers: tuple[str, ...] = Field(
        (),
        description="people who may answer in Airflow and whose yes counts, by name; `name:id` if Airflow's auth "
        "manager knows its users by another id (FAB: a number); none: everybody who may answer there",
    )
    shadow_percent: float = Field(
        0.0, ge=0, le=100, description="share of requests that a shadow also answers, unseen; 0: no shadow"
    )
    canary_percent: tuple[float, ...] = Field((), description="shares of the traffic, each above the one before")
    holdout_percent: float = Field(
        0.0,
        ge=0,
        lt=50,
        description="share of users who stay with the previous model once the new one is live; 0: nobody",
    )
    watch_seconds: int = Field(300, ge=0, description="minimum time at a step")
    patience_seconds: int = Field(
        3600, ge=0, description="maximum time at a step; a release that has not passed by then is rolled back"
    )
    poll_seconds: int = Field(60, ge=1, description="time between two looks of a watch in Airflow")
    answer_hours: int = Field(
        0, ge=0, description="time after which an unanswered question in Airflow counts as a no; 0: no limit"
    )
    risk: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="probability that a tolerable release is rolled back, or that a bad one passes a rule",
    )
    tolerated_failed: float = Field(1e-3, gt=0, lt=1, description="share of answers whose ranker raised")
    alarming_failed: float = Field(1e-2, gt=0, lt=1, description="share that rolls back")
    tolerated_fallback: float = Field(
        0.02, gt=0, lt=1, description="share of answers made by popularity, for whatever reason"
    )
    alarming_fallback: float = Field(0.1, gt=0, lt=1, description="share that rolls back")
    tolerated_slow: float = Field(0.01, gt=0, lt=1, description="share of answers slower than `slow_ms`: 0.01 is p99")
    alarming_slow: float = Field(0.05, gt=0, lt=1, description="share that rolls back")
    slow_ms: int = Field(100, ge=1, description="from a request's arrival")
    max_times: float = Field(
        3.0,
        ge=1,
        description="a canary's share of each kind of bad answer, as a multiple of the champion's in the same period",
    )
    min_same_top: float = Field(
        0.0, ge=0, le=1, description="shadow: share of requests with the same first item as the champion; 0: no limit"
    )
    min_overlap: float = Field(
        0.0, ge=0, le=1, description="shadow: share of its items that the champion shows too; 0: no limit"
    )
    min_rank_correlation: float = Field(
        -1.0, ge=-1, le=1, description="shadow: Kendall's tau between its items and the champion's; -1: no limit"
    )
    max_level_ratio: float = Field(
        10.0, ge=0, description="shadow: mean p_click over the champion's, or the inverse; 0: no limit"
    )
    max_latency_ratio: float = Field(
        0.0, ge=0, description="shadow: its time over the champion's, in more than half of the requests; 0: no limit"
    )
    click_minutes: int = Field(
        15, ge=1, description="canary: time after a request in which a click counts; the request counts once it is over"
    )
    click_log: str | None = Field(
        None,
        min_length=1,
        description="canary: hourly logs of impressions and clicks, a folder or s3://bucket/prefix; not set: "
        "`lake.raw`",
    )
    tolerated_clicks_drop: float = Field(
        0.05, ge=0, lt=1, description="canary: relative drop of clicked requests against the champion; more rolls back"
    )

    replay_answers: int = Field(
        500, ge=0, description="number of a step's newest answers that a watch recomputes offline; 0: none"
    )
    max_replay_difference: float = Field(
        1e-4,
        gt=0,
        description="maximum difference between captured and replayed score, probability or propensity of an item",
    )
    max_replay_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="share of replayed answers that differ; above it a release is rolled back, and monitor alarms",
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
    """When the daily serving report raises an alarm; an alarm never fails the stage."""

    max_skew: float = Field(1e-3, gt=0, description="|served - recomputed p_click| of any impression")
    max_fallback_share: float = Field(0.05, ge=0, le=1, description="share of impressions that popularity answered")
    max_value_drop: float = Field(0.5, gt=0, description="clicks per request below the evidence's estimate, relative")
