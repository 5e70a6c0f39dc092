"""The whole tree, the rules that hold between its groups, and its digests."""

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from jobs.config.airflow import AirflowSettings
from jobs.config.base import NO_ROW, ROOT, Changes
from jobs.config.data import ExportSettings, LakeSettings, SourceSettings, SparkSettings, ValidationSettings
from jobs.config.labels import AttributionSettings
from jobs.config.learning import DatasetSettings, FeatureSettings, TrackingSettings, TrainingSettings, WarmStartSettings
from jobs.config.serving import EndpointSettings, MonitoringSettings, ReleaseSettings
from jobs.places import Placed
from models.experiments.assignment import conflicts
from models.experiments.settings import ExperimentSettings
from models.settings import (
    OUTCOME_METRICS,
    DelaySettings,
    GateSettings,
    OutcomeSettings,
    PolicySettings,
    RankerSettings,
    RetrievalSettings,
    Settings,
    TaskSettings,
    WorldSettings,
    whole_days,
)

OUTCOME_NAME = re.compile("[a-z][a-z0-9_]*")
TAKEN = ("click", "clicked", "conversion", "converted")
"""Names of what every impression has."""


class TimeoutSettings(Settings):
    """How long one try of a stage may take in Airflow; then it is ended with everything it started, and retried.

    It protects against a stage that hangs, so each is several times what a large day takes: raise it before the day
    outgrows it.
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
    maintain_minutes: int = Field(120, ge=1, description="of one try of `maintain`")

    def of(self, stage: str) -> int:
        """Minutes of one try of a stage."""
        return int(getattr(self, f"{stage}_minutes"))


class Config(Settings):
    """Every setting of Tidegate; each setting, or its group, declares which rows it can change."""

    env: Annotated[Literal["local", "test", "prod"], NO_ROW] = "local"
    bundles: Annotated[Placed, NO_ROW] = Field(
        ROOT / "var" / "bundles", description="one directory per trained model; a local folder or `s3://bucket/prefix`"
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
        {}, description="further outcomes by name, besides click and conversion; a mapping, given whole"
    )
    features: Annotated[FeatureSettings, Changes("featurize")] = FeatureSettings()
    dataset: Annotated[DatasetSettings, Changes("assemble")] = DatasetSettings()
    tasks: Annotated[TaskSettings, Changes("assemble")] = TaskSettings()
    delays: Annotated[DelaySettings, Changes("train")] = DelaySettings()
    ranker: Annotated[RankerSettings, Changes("train")] = RankerSettings()
    warm: Annotated[WarmStartSettings, Changes("train")] = WarmStartSettings()
    training: Annotated[TrainingSettings, NO_ROW] = TrainingSettings()
    retrieval: Annotated[RetrievalSettings, Changes("train")] = RetrievalSettings()
    policy: Annotated[PolicySettings, Changes("train")] = PolicySettings()
    gate: Annotated[GateSettings, Changes("train")] = GateSettings()
    tracking: Annotated[TrackingSettings, NO_ROW] = TrackingSettings()
    endpoint: Annotated[EndpointSettings, NO_ROW] = EndpointSettings()
    release: Annotated[ReleaseSettings, NO_ROW] = ReleaseSettings()
    monitoring: Annotated[MonitoringSettings, Changes("monitor")] = MonitoringSettings()
    experiments: Annotated[tuple[ExperimentSettings, ...], Changes("experiment", only=True)] = Field(
        (),
        description="A/B tests, running or over, as described in `models/experiments/settings.py`; a list, given whole",
    )
    timeouts: Annotated[TimeoutSettings, NO_ROW] = TimeoutSettings()
    airflow: Annotated[AirflowSettings, NO_ROW] = AirflowSettings()

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
