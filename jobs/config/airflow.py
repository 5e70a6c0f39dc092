"""Settings of how a team's Airflow runs stages: pools, queues, pods, and where the logs of tasks lie."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator

from jobs.flow import STAGES
from jobs.places import Placed, S3Path
from models.settings import Settings

POOLS: Mapping[str, tuple[str, ...]] = {
    "training": ("train", "backtest"),
    "spark": ("ingest", "validate", "attribute", "featurize", "assemble", "monitor", "experiment", "reevaluate"),
}
"""Which stages share the slots of a pool: those that hold a model and its rows, and those that may open Spark."""
Slots = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern="^[A-Za-z0-9_.-]+$")]


class PodSettings(Settings):
    """What a stage's pod requests on Kubernetes, and its limits."""

    cpu: float = Field(1.0, gt=0, description="cores")
    memory_mb: int = Field(2048, ge=256, description="MiB; a stage that needs more is killed")


class AirflowSettings(Settings):
    """How Airflow runs the stages; what is not set stays Airflow's default, so that any Airflow takes the DAGs."""

    database: SecretStr | None = Field(
        None,
        description="PostgreSQL server of `make up ON=team`, which creates its own databases there; not set: the "
        "local one, postgresql://127.0.0.1:5432",
    )
    pools: dict[Literal["training", "spark"], Slots] = Field(
        {},
        description="slots of each pool that Airflow has: `training` is of train and backtest, `spark` of ingest,"
        " validate, attribute, featurize, assemble, monitor, experiment and reevaluate; stages of a pool that is not"
        " named run in `default_pool`",
    )
    queues: dict[str, Name] = Field({}, description="Celery queue of each stage, by name; not named: Airflow's default")
    pods: dict[str, PodSettings] = Field(
        {},
        description='`{"train": {"cpu": 8, "memory_mb": 32768}}`: resources of the pod of a stage on Kubernetes; '
        "everything that reads DAGs then needs the package kubernetes",
    )
    logs: Placed | None = Field(
        None, description="where the logs of finished tasks are uploaded, `s3://bucket/prefix`; not set: they stay"
    )

    @field_validator("queues", "pods")
    @classmethod
    def _are_of_stages(cls, named: Any) -> Any:
        if wrong := sorted(set(named) - set(STAGES)):
            raise ValueError(f"stages are {', '.join(STAGES)}; found {', '.join(wrong)}")
        return named

    @field_validator("logs")
    @classmethod
    def _lie_on_s3(cls, logs: Any) -> Any:
        if logs is not None and not isinstance(logs, S3Path):
            raise ValueError(f"must be s3://bucket/prefix: on a disk Airflow itself keeps them; found {str(logs)!r}")
        return logs

    def pool(self, stage: str) -> str | None:
        """The pool in which a stage runs; None: Airflow's default."""
        return next((name for name in self.pools if stage in POOLS[name]), None)
