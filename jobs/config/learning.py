"""Settings of what rankers learn from: features, datasets, warm starts, and where their runs are logged."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jobs.config.base import ADDRESS, NO_ROW, ROOT, Changes
from jobs.places import Folder
from models.settings import Settings


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
    redis_url: Annotated[str, ADDRESS, NO_ROW] = Field(
        "127.0.0.1:6379", description="host:port of the Redis online store"
    )


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


class TrainingSettings(Settings):
    """Where `train` runs: in the process that is asked for it, or as a training job of SageMaker that it waits for.

    Such a job reads and writes the lake itself, so lake and bundles lie on S3 and MLflow has an address. What it has
    finished lies beside the bundles, so that a spot instance may be taken away.
    """

    instance_type: str | None = Field(
        None, pattern=r"^ml\.[a-z0-9.-]+$", description="of the training job; none: `train` runs where it is asked for"
    )
    image: str = Field("tidegate-jobs", min_length=1, description="of infra/containers, in the account's registry")
    role: str = Field("arn:aws:iam::000000000000:role/tidegate", description="what the training job may do")
    volume_gb: int = Field(50, ge=1, description="of its disk")
    spot: bool = Field(False, description="on instances that AWS may take away, at a fraction of the price")
    most_wait_minutes: int = Field(720, ge=1, description="with `spot`: for an instance and for all tries together")
    url: str | None = Field(None, description="of SageMaker, where AWS itself is not meant")
    job: str | None = Field(None, description="the training job that this process is; it is told so, nobody sets it")


class TrackingSettings(Settings):
    """MLflow: where runs are logged and under which name models are registered."""

    uri: Annotated[str, ADDRESS] = Field(
        f"sqlite:///{ROOT / 'var' / 'mlflow' / 'mlflow.db'}",
        min_length=1,
        description="of MLflow: a server, or a database",
    )
    artifacts: Folder = Field(ROOT / "var" / "mlflow" / "artifacts", description="used when `uri` is a database")
    experiment: str = Field("tidegate", description="the experiment that runs are logged in")
    model: str = Field("tidegate-ranker", description="the name that candidates are registered under")
