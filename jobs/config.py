"""The one configuration tree, read once in `jobs.__main__` and handed down; frozen, unknown keys refused.

Values come from `infra/env/<env>.toml` (TIDEGATE_ENV names it, `local` by default), overridden by
`TIDEGATE__A__B` environment variables; what neither says keeps the default written beside the field.
"""

import hashlib
import json
import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from jobs.errors import Misconfigured
from models.settings import GateSettings, PolicySettings, RankerSettings, Settings, WorldSettings

ROOT = Path(__file__).resolve().parents[1]
PREFIX = "TIDEGATE__"

Source = Literal["simulated", "open-bandit", "kuairand", "parquet"]


class SourceSettings(Settings):
    """Where raw events come from; `parquet` means a team's loggers already write the raw lake."""

    name: Source = "simulated"
    data: Path | None = Field(None, description="folder of a real log's files; the simulated world needs none")


class LakeSettings(Settings):
    """Where tables live. Only local folders are supported so far."""

    root: Path = Field(ROOT / "var" / "lake", description="Delta tables")
    raw: Path = Field(ROOT / "var" / "raw", description="raw events, date=YYYY-MM-DD/hour=HH, as loggers write them")


class SparkSettings(Settings):
    """The Spark session every distributed stage opens."""

    master: str = "local[2]"
    driver_memory_mb: int = Field(1536, ge=512)
    partitions: int = Field(4, ge=1, description="shuffle partitions and as-of buckets")
    from_rows: int = Field(
        3_000_000,
        ge=0,
        description="rows a stage reads from which Spark distributes it; below, one process runs the same core, "
        "since a session costs more than it saves; 0 always takes Spark",
    )


class ValidationSettings(Settings):
    """How much bad data a day may hold and still be published without it."""

    max_quarantine_share: float = Field(0.05, ge=0, le=1, description="of a table's rows of a day; above it: refused")


class AttributionSettings(Settings):
    """Which click a purchase belongs to, and until when a missing one is unknown."""

    window_days: int = Field(7, ge=1, description="click to purchase")
    click_window_days: int = Field(1, ge=1, description="impression to click")
    late_days: int = Field(2, ge=0, description="how many days back a late event may re-open")


class FeatureSettings(Settings):
    """Windows and smoothing of the feature tables."""

    long_term_days: int = Field(30, ge=1)
    prior_impressions: float = Field(20.0, gt=0)
    online: bool = Field(True, description="publish the newest values to the online store")
    online_store: Literal["sqlite", "redis"] = "sqlite"
    online_path: Path = Field(ROOT / "var" / "online", description="registry, and the SQLite online store")
    redis_url: str = "127.0.0.1:6379"


class DatasetSettings(Settings):
    """The rolling window: train, then validate, then test, by event time; the newest days are embargoed.

    The embargo is attribution's click window: a click that may still come is unknown, not zero.
    """

    train_days: int = Field(28, ge=1)
    validate_days: int = Field(1, ge=1)
    test_days: int = Field(1, ge=1)
    warm_train_days: int = Field(3, ge=1, description="how much of the train window a daily warm start sees")


class TrackingSettings(Settings):
    """MLflow: where runs are logged and under which name models are registered."""

    uri: str = f"sqlite:///{ROOT / 'var' / 'mlflow' / 'mlflow.db'}"
    artifacts: Path = Field(ROOT / "var" / "mlflow" / "artifacts", description="used when `uri` is a database")
    experiment: str = "tidegate"
    model: str = "tidegate-ranker"


class EndpointSettings(Settings):
    """The SageMaker contract; one URL changes it from the local endpoint to AWS."""

    url: str = "http://127.0.0.1:8700"
    name: str = "tidegate"
    region: str = "eu-central-1"
    timeout_ms: int = Field(60, ge=1, description="the ranker's time; then popularity answers")
    state: Path = Field(ROOT / "var" / "endpoint", description="the local endpoint's registry and data capture")


class MonitoringSettings(Settings):
    """When the daily serving report raises an alarm; an alarm is a figure, it never fails the stage."""

    max_skew: float = Field(1e-3, gt=0, description="|served - recomputed p_click| of any impression")
    max_fallback_share: float = Field(0.05, ge=0, le=1, description="impressions that popularity answered")
    max_value_drop: float = Field(0.5, gt=0, description="clicks per request below the evidence's estimate, relative")


class Config(Settings):
    """Every setting of Tidegate."""

    env: Literal["local", "test", "prod"] = "local"
    bundles: Path = Field(ROOT / "var" / "bundles", description="one directory per trained model")
    source: SourceSettings = SourceSettings()
    lake: LakeSettings = LakeSettings()
    world: WorldSettings = WorldSettings()
    spark: SparkSettings = SparkSettings()
    validation: ValidationSettings = ValidationSettings()
    attribution: AttributionSettings = AttributionSettings()
    features: FeatureSettings = FeatureSettings()
    dataset: DatasetSettings = DatasetSettings()
    ranker: RankerSettings = RankerSettings()
    policy: PolicySettings = PolicySettings()
    gate: GateSettings = GateSettings()
    tracking: TrackingSettings = TrackingSettings()
    endpoint: EndpointSettings = EndpointSettings()
    monitoring: MonitoringSettings = MonitoringSettings()

    def digest(self) -> str:
        """Sixteen hex digits that change when any setting that can change a row changes (not addresses or paths)."""
        meaning = self.model_dump(mode="json", exclude={"lake", "bundles", "tracking", "endpoint", "spark"})
        meaning["features"].pop("online_path")
        meaning["features"].pop("redis_url")
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:16]


def load(environ: "os._Environ[str] | dict[str, str] | None" = None) -> Config:
    """The resolved tree; raises `Misconfigured` naming every key that is unknown or of the wrong kind."""
    variables = dict(os.environ if environ is None else environ)
    env = variables.get("TIDEGATE_ENV", "local")
    path = ROOT / "infra" / "env" / f"{env}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.toml")))
        raise Misconfigured(f"TIDEGATE_ENV must name one of {known}; found {env!r}")
    tree: dict[str, Any] = {"env": env, **tomllib.loads(path.read_text())}
    for name, value in sorted(variables.items()):
        if name.startswith(PREFIX):
            _put(tree, name.removeprefix(PREFIX).lower().split("__"), value)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}, found {e['input']!r}" for e in error.errors())
        raise Misconfigured(f"settings of {path.name} and {PREFIX}* must fit jobs.config.Config; {found}") from error


def _put(tree: dict[str, Any], keys: list[str], value: str) -> None:
    """Set one environment override at its place in the tree; pydantic turns the text into the field's type."""
    *parents, leaf = keys
    for key in parents:
        child = tree.setdefault(key, {})
        if not isinstance(child, dict):
            raise Misconfigured(f"{PREFIX}{'__'.join(keys).upper()} needs {key!r} to be a group; found {child!r}")
        tree = child
    tree[leaf] = value


def environment(config_overrides: dict[str, str]) -> dict[str, str]:
    """This process's environment with overrides (`{"lake.root": "..."}`), for a child process to load."""
    overrides = {PREFIX + key.replace(".", "__").upper(): value for key, value in config_overrides.items()}
    return {**os.environ, **overrides}
