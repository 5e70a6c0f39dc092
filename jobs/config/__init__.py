"""The one configuration tree, read once in `jobs.__main__` and handed down; frozen, unknown keys refused.

Values come from `infra/env/<env>.toml` (TIDEGATE_ENV names it, `local` by default), overridden by `TIDEGATE__A__B`
environment variables; what neither says keeps the default written beside the field. An override of a group
(`TIDEGATE__GATE='{"risk_days": 7}'`) changes the keys it names and keeps the others; a more specific variable wins over
it. A list or a mapping is one value: it is given whole, as JSON.
"""

from jobs.config.airflow import POOLS, AirflowSettings, PodSettings
from jobs.config.base import NO_ROW, PREFIX, ROOT, Changes
from jobs.config.data import (
    ExportSettings,
    KafkaSettings,
    LakeSettings,
    SourceSettings,
    SparkSettings,
    ValidationSettings,
)
from jobs.config.labels import AttributionSettings, SurfaceLabelSettings
from jobs.config.learning import (
    DatasetSettings,
    FeatureSettings,
    RetrievalNegativeSettings,
    SelectionSettings,
    TrackingSettings,
    TrainingSettings,
    WarmStartSettings,
)
from jobs.config.reading import environment, load, said
from jobs.config.serving import (
    AwsSettings,
    EndpointSettings,
    MonitoringSettings,
    ReleaseSettings,
    ServedSurfaceSettings,
)
from jobs.config.tree import Config, TimeoutSettings

__all__ = [
    "NO_ROW",
    "POOLS",
    "PREFIX",
    "ROOT",
    "AirflowSettings",
    "AttributionSettings",
    "AwsSettings",
    "Changes",
    "Config",
    "DatasetSettings",
    "EndpointSettings",
    "ExportSettings",
    "FeatureSettings",
    "KafkaSettings",
    "LakeSettings",
    "MonitoringSettings",
    "PodSettings",
    "ReleaseSettings",
    "RetrievalNegativeSettings",
    "SelectionSettings",
    "ServedSurfaceSettings",
    "SourceSettings",
    "SparkSettings",
    "SurfaceLabelSettings",
    "TimeoutSettings",
    "TrackingSettings",
    "TrainingSettings",
    "ValidationSettings",
    "WarmStartSettings",
    "environment",
    "load",
    "said",
]
