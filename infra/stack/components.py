"""What a stack consists of: addresses, settings for its children, and the commands of its components.

What a team's environment says of Airflow (`AIRFLOW__*`: auth manager, database, executor) is never overwritten.
"""

import json
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.stack import airflow_api, people, s3, watching
from infra.stack.processes import Component, are_free, free_ports
from infra.stack.team import Team
from infra.stack.workers import workers
from jobs import config
from jobs.config import POOLS, ROOT, Config

LAPTOP, TEAM = "laptop", "team"
"""What a stack stands on: files of its own folder, or PostgreSQL and Redis."""
PORT = "AIRFLOW__API__PORT"
LAKES = DISK, S3 = "disk", "s3"
"""Where a lake may be."""
EXECUTOR, CELERY = "AIRFLOW__CORE__EXECUTOR", "Celery"
PORTS = 6
"""Of Airflow, MLflow, the endpoint, the two that watch, and S3."""
REGION = "eu-central-1"
MIGRATE_TIMEOUT_S = 600.0
START_TIMEOUT_S = 600.0
"""Of what lives: that something has died is told at once. On a machine that others load, imports alone take minutes."""
PARSE_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Layout:
    """Folders and addresses of one stack."""

    folder: Path
    airflow: str
    mlflow: str
    endpoint: str
    exporter: str = ""
    prometheus: str = ""
    s3: str = ""
    """Without one the lake is in folders."""
    on: str = LAPTOP

    @classmethod
    def at(cls, folder: Path, lake: str = DISK, on: str = LAPTOP) -> "Layout":
        """A layout on free ports; where still free, ports of an earlier stack here are kept, and Airflow's if set."""
        remembered = folder / "ports.json"
        earlier = json.loads(remembered.read_text()) if remembered.is_file() else []
        ports = earlier if len(earlier) == PORTS and are_free(earlier) else free_ports(PORTS)
        remembered.write_text(json.dumps(ports) + "\n")
        urls = [f"http://127.0.0.1:{port}" for port in (os.environ.get(PORT, ports[0]), *ports[1:])]
        airflow, mlflow, endpoint, exporter, prometheus, store = urls
        return cls(folder, airflow, mlflow, endpoint, exporter, prometheus, store if lake == S3 else "", on)

    def settings(self) -> dict[str, str]:
        """The settings of `jobs.config` that place everything a stage writes in this stack's folder."""
        root = f"s3://{s3.BUCKET}" if self.s3 else str(self.folder)
        return {
            "lake.root": f"{root}/lake",
            "lake.raw": f"{root}/raw",
            "lake.results": f"{root}/validations",
            "lake.runs": str(self.folder / "runs"),
            "bundles": f"{root}/bundles",
            "features.online_path": str(self.folder / "online"),
            "tracking.uri": self.mlflow,
            "tracking.artifacts": str(self.folder / "mlflow" / "artifacts"),
            "endpoint.url": self.endpoint,
            "endpoint.state": str(self.folder / "endpoint"),
            **({"endpoint.aws.bucket": s3.BUCKET, "endpoint.aws.s3_url": self.s3} if self.s3 else {}),
        }

    def variables(self) -> dict[str, str]:
        """By which every client of S3 finds this stack's."""
        return {"AWS_ENDPOINT_URL_S3": self.s3, "AWS_REGION": REGION} if self.s3 else {}

    def urls(self) -> dict[str, str]:
        """What a person can open, and S3 where the lake is on it."""
        urls = {"airflow": self.airflow, "mlflow": self.mlflow, "endpoint": self.endpoint}
        return {**urls, s3.NAME: self.s3} if self.s3 else urls

    def watched(self) -> dict[str, str]:
        """What a person can open of a stack that stays: the exporter too, and Prometheus where one can be started."""
        return {
            **self.urls(),
            "exporter": self.exporter,
            **({} if watching.missing() else {watching.BINARY: self.prometheus}),
        }


def environment(layout: Layout, overrides: dict[str, str]) -> dict[str, str]:
    """What every component and every stage below it finds in its environment: ours where the team's own is silent."""
    home = layout.folder / "airflow"
    settings = config.environment({**layout.settings(), **overrides})
    tree = config.load(settings)
    team = Team.of(layout.folder, tree) if layout.on == TEAM else None
    airflow = _airflow(layout, tree) | (team.environment if team else {})
    return {
        **settings,
        **layout.variables(),
        **unsaid({f"AIRFLOW__{key}": value for key, value in airflow.items()}, settings),
        "AIRFLOW_HOME": str(home),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": str(ROOT),
        "MLFLOW_BACKEND_STORE_URI": team.mlflow if team else f"sqlite:///{layout.folder / 'mlflow' / 'mlflow.db'}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_URI": layout.mlflow,
    }


def _airflow(layout: Layout, tree: Config) -> dict[str, str]:
    """What Airflow is told on a laptop."""
    home = layout.folder / "airflow"
    logs = {"LOGGING__LOGGING_CONFIG_CLASS": "jobs.orchestration.logs.LOGGING"} if tree.airflow.logs else {}
    return {
        "CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "CORE__PLUGINS_FOLDER": str(ROOT / "jobs" / "orchestration" / "plugins"),
        "CORE__EXECUTOR": "jobs.orchestration.executor.LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__EXECUTION_API_SERVER_URL": f"{layout.airflow}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": people.users(list(tree.release.approver_ids)),
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "API__WORKERS": "1",
        "API__HOST": "127.0.0.1",
        "API__DEFAULT_WRAP": "True",
        "API__PORT": layout.airflow.rsplit(":", 1)[1],
        "API__BASE_URL": layout.airflow,
        "API__SECRET_KEY": secrets.token_hex(32),
        "API_AUTH__JWT_SECRET": secrets.token_hex(64),
        "DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "USAGE_DATA_COLLECTION__ENABLED": "False",
        **logs,
    }


def unsaid(ours: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Of our settings of Airflow those that the environment does not make, in any of the ways in which it can."""
    ways = ("", "_CMD", "_SECRET")
    return {name: value for name, value in ours.items() if not any(name + way in environ for way in ways)}


def migration(environ: dict[str, str]) -> Component:
    """Airflow's database, created or brought up to date; ends by itself."""
    return Component("airflow-db", [sys.executable, "-m", "airflow", "db", "migrate"], environ, lambda: True)


def storage(layout: Layout, environ: dict[str, str]) -> list[Component]:
    """What must be there before any other service: S3 where the lake is on it."""
    if not layout.s3:
        return []
    words = [str(layout.folder / s3.NAME), layout.s3.rsplit(":", 1)[1], s3.BUCKET]
    serve = [sys.executable, "-m", "infra.stack.s3", *words]
    return [Component(s3.NAME, serve, environ, lambda: airflow_api.answers(layout.s3))]


def pools(layout: Layout, environ: dict[str, str]) -> Component | None:
    """The pools of the settings, made in Airflow or given these slots; ends by itself. None where none is named."""
    named = config.load(environ).airflow.pools
    if not named:
        return None
    told = {name: {"slots": slots, "description": ", ".join(POOLS[name]), "include_deferred": False}
            for name, slots in named.items()}  # fmt: skip
    path = layout.folder / "pools.json"
    path.write_text(json.dumps(told, indent=1) + "\n")
    command = [sys.executable, "-m", "airflow", "pools", "import", str(path)]
    return Component("airflow-pools", command, environ, lambda: True)


def components(layout: Layout, environ: dict[str, str]) -> list[Component]:
    """The services, in the order they start: six, on team a second scheduler and workers, and what collects Kafka."""

    def airflow(*words: str) -> list[str]:
        return [sys.executable, "-m", "airflow", *words]

    def healthy() -> bool:
        return airflow_api.is_healthy(layout.airflow) and airflow_api.warm(layout.airflow)

    store = layout.folder / "mlflow"
    store.mkdir(parents=True, exist_ok=True)
    host, port = layout.mlflow.removeprefix("http://").split(":")
    mlflow = [
        *(sys.executable, "-m", "mlflow", "server", "--host", host, "--port", port, "--workers", "1"),
        # Its database comes by MLFLOW_BACKEND_STORE_URI: on a command line everybody would see the password.
        *("--artifacts-destination", str(store / "artifacts")),
    ]
    endpoint = [sys.executable, "-m", "infra.endpoint", "--port", layout.endpoint.rsplit(":", 1)[1]]
    schedulers = ["airflow-scheduler", *(["airflow-scheduler-2"] if layout.on == TEAM else [])]
    celery = layout.on == TEAM and CELERY in environ.get(EXECUTOR, "")
    collects = config.load(environ).source.name == "kafka"
    collector = Component("collector", [sys.executable, "-m", "jobs", "collect"], environ, lambda: True)
    return [
        Component("airflow-api", airflow("api-server"), environ, healthy),
        *(Component(name, airflow("scheduler", "--skip-serve-logs"), environ, healthy) for name in schedulers),
        Component("airflow-dag-processor", airflow("dag-processor"), environ, healthy),
        Component("airflow-triggerer", airflow("triggerer", "--skip-serve-logs"), environ, healthy),
        *(workers(environ, layout.folder.name) if celery else []),
        Component("mlflow", mlflow, environ, lambda: airflow_api.answers(f"{layout.mlflow}/health")),
        Component("endpoint", endpoint, environ, lambda: airflow_api.answers(f"{layout.endpoint}/metrics")),
        *([collector] if collects else []),
    ]
