"""Settings of the last mile: the endpoint here or on AWS, releases, and the daily report's alarms."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from jobs.config.base import ROOT
from jobs.errors import Misconfigured
from jobs.places import Folder
from models.settings import Settings, WatchSettings


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
    instance_type: str = Field("ml.m5.large", pattern=r"^ml\.[a-z0-9.-]+$", description="what a variant runs on")
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
