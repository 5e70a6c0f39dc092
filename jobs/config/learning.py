"""Settings of what rankers learn from: features, datasets, warm starts, and where their runs are logged."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jobs.config.base import ADDRESS, NO_ROW, ROOT, Changes
from jobs.places import Folder
from models.settings import Settings


class FeatureSettings(Settings):
    """Windows and smoothing of the feature tables."""

    long_term_days: int = Field(30, ge=1, description="window of the long-term counts of users and items")
    available_after_hours: int = Field(
        6,
        ge=0,
        le=23,
        description="how long after a day's end its features count as known, in training, replay and serving alike; "
        "the daily run must have published them by then",
    )
    prior_impressions: float = Field(20.0, gt=0, description="pseudo-impressions that smooth a click rate")
    session_gap_minutes: int = Field(30, ge=1, description="a longer pause between a user's events ends the session")
    encoding_prior_impressions: float = Field(
        100.0, gt=0, description="pseudo-impressions that smooth a target encoding"
    )
    encoding_min_impressions: int = Field(
        10, ge=1, description="values with fewer impressions get a default instead of an encoding"
    )
    online: Annotated[bool | None, NO_ROW] = Field(
        None, description="whether the newest values go to the online store; not set: if `endpoint.url` is set"
    )
    online_store: Annotated[Literal["sqlite", "redis"], NO_ROW] = "sqlite"
    online_path: Annotated[Folder, NO_ROW] = Field(
        ROOT / "var" / "online", description="folder of the registry and the SQLite online store"
    )
    redis_url: Annotated[str, ADDRESS, NO_ROW] = Field(
        "127.0.0.1:6379", description="host:port of the Redis online store"
    )


class SelectionSettings(Settings):
    """Which train examples are kept, each off by default; validate and test days always contain all traffic."""

    seed: int = Field(0, ge=0, lt=10**10, description="seed of every random choice below")
    active_clicks: int = Field(
        0,
        ge=0,
        description="train only on users who clicked at least so many different items in the `active_days` days "
        "before the impression's day; off by default, since the endpoint serves everybody",
    )
    active_days: int = Field(28, ge=1, description="see active_clicks")
    keep_anonymous: bool = Field(True, description="with `active_clicks`: whether to keep impressions without a user")
    same_items: Literal["item_id", "canonical", "content"] = Field(
        "canonical",
        description="when two ids are one item: never; if the raw column `feature_canonical_item_id` says so; also "
        "if title, category and price are equal",
    )
    duplicates: Literal["all", "last", "per_outcome", "clicked_else_last"] = Field(
        "all", description="which of a user's impressions of one item are kept; the first and third keep p calibrated"
    )
    duplicate_days: int = Field(
        1,
        ge=1,
        description="length of the periods, counted back from the last train day, in which duplicates are looked for",
    )
    negative_rate: float = Field(
        1.0, gt=0, le=1, description="share of unclicked impressions kept, each then weighing 1 / rate"
    )
    max_train_rows: int | None = Field(
        None, ge=1, description="approximate number of rows kept, divided among the surfaces"
    )
    surface_shares: Literal["traffic", "revenue"] | dict[str, float] = Field(
        "traffic",
        description="what they are divided by; or each surface's share by name, without the surfaces not named",
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
    """Random negatives for a retrieval model, drawn from the whole catalogue into a separate table."""

    per_click: int = Field(0, ge=0, description="negatives per train click; 0: none")
    popularity_exponent: float = Field(
        0.75, ge=0, le=1, description="an item is drawn in proportion to (impressions + 1) to this power; 0: uniformly"
    )
    seed: int = Field(0, ge=0, lt=10**10, description="seed of the draws")


class DatasetSettings(Settings):
    """The rolling window by event time: train days, then validate days, then test days; the newest days are embargoed.

    The embargo is attribution's click window: a click that may still come is unknown, not zero.
    """

    train_days: int = Field(28, ge=1, description="days to learn from")
    validate_days: int = Field(
        1, ge=1, description="days after them, for early stopping, calibration and choosing a ranker"
    )
    test_days: int = Field(1, ge=1, description="days after those, on which candidates are judged")
    warm_train_days: int = Field(3, ge=1, description="train days of a daily warm start")
    without_surfaces: tuple[str, ...] = Field(
        (), description="surfaces excluded from every model of this pipeline, because they rank other entities"
    )
    selection: SelectionSettings = SelectionSettings()
    retrieval: Annotated[RetrievalNegativeSettings, Changes("assemble", only=True)] = RetrievalNegativeSettings()


class WarmStartSettings(Settings):
    """When a chain of warm starts has become too long, or one of them has drifted too far."""

    max_depth: int = Field(
        7,
        ge=1,
        description="maximum number of warm starts of a kind in a row; the next is refused until a full training",
    )
    max_drift: float = Field(
        0.5,
        gt=0,
        description="mean change of p_click's logit from the parent, on the chain's frozen probe rows; above it an "
        "alarm, and a warning on the evidence",
    )
    max_losses: int = Field(
        2, ge=1, description="warm starts in a row that lose to their parents; then a full training is started"
    )


class TrainingSettings(Settings):
    """From how many rows `train` learns, and where: in its own process, or in a SageMaker training job that it awaits.

    Such a job reads and writes the lake itself, so lake and bundles must be on S3 and MLflow must have an address. What
    it has finished is stored beside the bundles, so that a spot instance may be taken away.
    """

    most_rows: Annotated[int | None, Changes("train")] = Field(
        None,
        ge=1,
        description="approximate maximum number of train rows to learn from; from more, whole requests are sampled "
        "by a hash of their ids; not set: what fits into half of the free memory, a power of two",
    )
    instance_type: str | None = Field(
        None, pattern=r"^ml\.[a-z0-9.-]+$", description="instance type of the training job; none: `train` runs locally"
    )
    image: str = Field(
        "tidegate-jobs", min_length=1, description="image of infra/containers, in the account's registry"
    )
    role: str = Field("arn:aws:iam::000000000000:role/tidegate", description="role of the training job")
    volume_gb: int = Field(50, ge=1, description="size of its disk")
    spot: bool = Field(False, description="use instances that AWS may take away, at a fraction of the price")
    most_wait_minutes: int = Field(
        720, ge=1, description="with `spot`: limit for waiting for an instance and for all tries together"
    )
    url: str | None = Field(None, description="address of SageMaker, if not AWS itself")
    job: str | None = Field(
        None, description="the training job in which this process runs; set by the job, not by people"
    )


class TrackingSettings(Settings):
    """MLflow: where runs are logged, and the name under which models are registered."""

    uri: Annotated[str, ADDRESS] = Field(
        f"sqlite:///{ROOT / 'var' / 'mlflow' / 'mlflow.db'}",
        min_length=1,
        description="address of MLflow: a server, or a database",
    )
    artifacts: Folder = Field(
        ROOT / "var" / "mlflow" / "artifacts", description="folder of artifacts if `uri` is a database"
    )
    experiment: str = Field("tidegate", description="experiment in which runs are logged")
    model: str = Field("tidegate-ranker", description="name under which candidates are registered")
